//! One client: what it is, what it knows of itself, and what it may hear.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use protocol_tests::Wire;
use protocol_tests::wire::{Message, V3_0, query, startup};
use rand::Rng;
use rand::rngs::StdRng;

use crate::{DEFAULT_TENANT, Run, TENANTS};

/// What a client may do to its session.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Free,
    /// `guard = "reject"`.
    Guarded,
    /// Its tenant is whom its search_path names.
    Wanderer,
}

/// A client, and what it has set.
pub(super) struct Client {
    pub(super) run: Arc<Run>,
    pub(super) rng: StdRng,
    pub(super) wire: Wire,
    pub(super) kind: Kind,
    number: u64,
    /// Whose rows it may see.
    pub(super) tenant: String,
    /// What it has set `app.mark` to.
    pub(super) mark: u32,
    /// How that was last set.
    pub(super) last: String,
    /// It has a statement `w`.
    pub(super) prepared: bool,
    /// It has said LISTEN, to its own channel.
    pub(super) listens: bool,
}

impl Client {
    pub(super) fn new(run: Arc<Run>, number: u64, kind: Kind, rng: StdRng) -> Self {
        let wire = Wire::over(tokio::io::empty());
        let (tenant, last) = (String::new(), String::new());
        Self {
            run,
            rng,
            wire,
            kind,
            number,
            tenant,
            mark: 0,
            last,
            prepared: false,
            listens: false,
        }
    }

    pub(super) async fn live(mut self) {
        while !self.is_over() {
            Run::count(&self.run.reconnects);
            if !self.connect().await {
                tokio::time::sleep(Duration::from_millis(20)).await; // a pace: its tenant may be suspended
                continue;
            }
            for _ in 0..self.rng.random_range(1..60) {
                if self.is_over() || !self.step().await {
                    break;
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.run.stop.load(Ordering::Relaxed)
    }

    /// `false` when the login failed: a killed server may have been the one it needed.
    async fn connect(&mut self) -> bool {
        (self.mark, self.last, self.prepared, self.listens) = (0, String::new(), false, false);
        self.wire = Wire::open(self.run.port).await;
        let home = format!("t{}", self.number % TENANTS);
        let user = match self.kind {
            Kind::Wanderer => "app".to_owned(),
            Kind::Free | Kind::Guarded => format!("app.{home}"),
        };
        self.wire.send_if_open(&startup(V3_0, &[("user", &user)])).await;
        loop {
            let Some(message) = self.wire.next().await else { return false };
            match message.tag {
                'K' => {
                    self.wire.pid = i32::from_be_bytes(message.body[..4].try_into().unwrap());
                    self.wire.key = message.body[4..].to_vec();
                }
                'Z' => break,
                'E' => return false,
                _ => {}
            }
        }
        self.tenant = if self.kind == Kind::Wanderer { DEFAULT_TENANT.to_owned() } else { home };
        true
    }

    /// A channel that only this client listens to.
    pub(super) fn channel(&self) -> String {
        format!("c{}", self.number)
    }

    /// What comes without being asked for: only what it listens to.
    fn hears(&self, message: &Message) {
        let text = String::from_utf8_lossy(&message.body[4..]).into_owned();
        let mut parts = text.split('\0');
        assert!(self.listens, "{text:?} was meant for somebody else");
        assert_eq!(parts.next(), Some(&*self.channel()), "of somebody else's channel");
        Run::count(&self.run.heard);
    }

    /// Whether what was sent ran, once it is answered; `None` when the connection is over. Every row
    /// must say `row`.
    pub(super) async fn ran(&mut self, row: Option<&str>) -> Option<bool> {
        let mut ran = true;
        loop {
            let message = self.wire.next().await?;
            match message.tag {
                'Z' => return Some(ran),
                'E' => {
                    self.fails(&message);
                    // It was a quota: the rest of what it was to be a part of makes no sense now.
                    if message.field('C') == "53300" {
                        return None;
                    }
                    ran = false;
                }
                'A' => self.hears(&message),
                'D' => {
                    if let Some(row) = row {
                        assert_eq!(message.text(), row, "a row of another tenant");
                        Run::count(&self.run.rows);
                    }
                }
                'G' => return Some(ran),
                _ => {}
            }
        }
    }

    /// What the steps ask for: division by zero, aborted block, cancel, killed server (two in a row end
    /// in 58000), COPY that fails, a guard, what the operator does; a missing table would be a wrong state.
    fn fails(&self, error: &Message) {
        let code = error.field('C');
        let known = [
            "22012", "25P02", "57014", "57P01", "08006", "22P04", "57P02", "40P01", "58000",
            "57P03", "25P03", "25P04", "53300",
        ];
        if code == "42501" && self.kind == Kind::Guarded && error.field('H').contains("guard") {
            return Run::count(&self.run.refused);
        }
        assert!(known.contains(&code.as_str()), "{code} {}", error.field('M'));
        Run::count(&self.run.errors);
    }

    /// Reads `readies` answers; every row must be the tenant's. `false` when the connection is over.
    pub(super) async fn answers(&mut self, readies: usize) -> bool {
        let tenant = self.tenant.clone();
        for _ in 0..readies {
            if self.ran(Some(&tenant)).await.is_none() {
                return false;
            }
        }
        true
    }

    pub(super) async fn simple(&mut self, sql: &str) -> bool {
        self.wire.send_if_open(&query(sql)).await;
        self.answers(1).await
    }

    /// The same; whether it ran.
    pub(super) async fn runs(&mut self, sql: &str) -> Option<bool> {
        self.wire.send_if_open(&query(sql)).await;
        self.ran(None).await
    }

    pub(super) async fn extended(&mut self, bytes: &[u8], readies: usize) -> bool {
        self.wire.send_if_open(bytes).await;
        self.answers(readies).await
    }
}
