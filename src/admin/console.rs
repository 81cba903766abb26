//! An operator's session: messages in, answers out.

use std::pin::Pin;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::sync::futures::OwnedNotified;
use tokio::sync::mpsc;

use super::command::{Command, KNOWN};
use super::courtesy::Courtesy;
use super::portal::{Bound, Portals, Said};
use super::tokens::commands;
use super::{Operator, Order};
use crate::client::{ConsoleSeat, Shared};
use crate::net::Conversation;
use crate::wire::backend::TransactionStatus;
use crate::wire::build::{self, Format};
use crate::wire::frontend::tag;

pub(super) struct Console<'a> {
    pub(super) talk: Conversation,
    pub(super) who: Operator,
    pub(super) seat: ConsoleSeat,
    /// A cancel request has come since the command began.
    pub(super) cancelled: Pin<Box<OwnedNotified>>,
    portals: Portals,
    status: TransactionStatus,
    pub(super) shared: &'a Arc<Shared>,
    pub(super) orders: &'a mpsc::Sender<Order>,
}

/// Why a command did not work.
pub(super) struct Problem {
    pub(super) sqlstate: &'static str,
    pub(super) message: String,
    pub(super) detail: Option<String>,
}

impl Problem {
    pub(super) fn new(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self { sqlstate, message: message.into(), detail: None }
    }

    pub(super) fn write(self, out: &mut BytesMut) {
        let mut fields = [(b'S', "ERROR"), (b'V', "ERROR"), (b'C', self.sqlstate)]
            .map(|(code, text)| (code, text.to_owned()))
            .to_vec();
        fields.push((b'M', self.message));
        fields.extend(self.detail.map(|text| (b'D', text)));
        build::error_response(fields, out);
    }
}

impl<'a> Console<'a> {
    pub(super) fn new(
        talk: Conversation,
        who: Operator,
        seat: ConsoleSeat,
        shared: &'a Arc<Shared>,
        orders: &'a mpsc::Sender<Order>,
    ) -> Self {
        let (portals, status) = (Portals::default(), TransactionStatus::Idle);
        let cancelled = Box::pin(Arc::clone(&seat.cancelled).notified_owned());
        Self { talk, who, seat, cancelled, portals, status, shared, orders }
    }

    pub(super) async fn run(&mut self) -> std::io::Result<()> {
        loop {
            let (tag, body) = self.talk.receive().await?;
            let mut out = BytesMut::new();
            match tag {
                tag::TERMINATE => return Ok(()),
                tag::QUERY => {
                    self.query(&body, &mut out).await;
                    build::ready_for_query(self.status, &mut out);
                }
                _ => match self.portals.take(tag, &body, self.status, &mut out) {
                    Ok(Said::Nothing) => {}
                    Ok(Said::Several) => {
                        let problem = "cannot insert multiple commands into a prepared statement";
                        Problem::new("42601", problem).write(&mut out);
                        self.portals.fail();
                    }
                    Ok(Said::Describe(bound)) => {
                        match Command::only(&bound.text).and_then(|command| command.columns()) {
                            Some(columns) => {
                                build::row_description(&columns, |at| bound.format(at), &mut out);
                            }
                            None => out.extend_from_slice(build::NO_DATA),
                        }
                    }
                    Ok(Said::Run(bound)) => {
                        if !self.run_all(&bound, false, &mut out).await {
                            self.portals.fail();
                        }
                    }
                    Err(problem) => Problem::new("08P01", problem.to_string()).write(&mut out),
                },
            }
            self.talk.send(&out).await?;
        }
    }

    async fn query(&mut self, body: &[u8], out: &mut BytesMut) {
        match std::str::from_utf8(body).ok().and_then(|text| text.strip_suffix('\0')) {
            Some(text) => drop(self.run_all(&Bound::in_text(text), true, out).await),
            None => Problem::new("08P01", "a query that is not a text").write(out),
        }
    }

    /// Runs commands until one fails; `false`: one did. In the simple protocol, what has rows is described.
    async fn run_all(&mut self, bound: &Bound, describes: bool, out: &mut BytesMut) -> bool {
        let Some(commands) = commands(&bound.text) else {
            Problem::new("42601", "a quote is not closed").write(out);
            return false;
        };
        if commands.is_empty() {
            out.extend_from_slice(build::EMPTY_QUERY);
        }
        for words in commands {
            let Some(command) = Command::parse(&words) else {
                let detail = Some(format!("Known are {}.", KNOWN.join(", ")));
                let unknown = Problem::new("42601", "unknown command, or not in this form");
                Problem { detail, ..unknown }.write(out);
                return false;
            };
            // A reload may have changed that.
            if self.shared.access().config.admin.right_of(&self.who.user) < Some(command.right()) {
                let problem = format!("user \"{}\" may not do that", self.who.user);
                Problem::new("42501", problem).write(out);
                return false;
            }
            if let Err(problem) = self.run_one(command, bound, describes, out).await {
                problem.write(out);
                return false;
            }
        }
        true
    }

    async fn run_one(
        &mut self,
        command: Command,
        bound: &Bound,
        describes: bool,
        out: &mut BytesMut,
    ) -> Result<(), Problem> {
        let columns = command.columns().filter(|_| describes);
        match &command {
            Command::Show(show) => {
                let mut rows = BytesMut::new();
                show.write(self.shared, |at| bound.format(at), &mut rows)
                    .ok_or_else(|| Problem::new("3D000", "no such tenant"))?;
                if let Some(columns) = columns {
                    build::row_description(&columns, |_| Format::Text, out);
                }
                out.extend_from_slice(&rows);
            }
            Command::Courtesy(courtesy) => {
                if let Some(columns) = columns {
                    build::row_description(&columns, |_| Format::Text, out);
                }
                match courtesy {
                    Courtesy::Begin => self.status = TransactionStatus::InBlock,
                    Courtesy::End(_) => self.status = TransactionStatus::Idle,
                    _ => {}
                }
                courtesy.write(bound.format(0), out);
            }
            _ => build::command_complete(self.obey(command).await?, out),
        }
        Ok(())
    }
}
