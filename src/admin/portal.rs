//! The extended protocol, as far as a console needs it: drivers prepare what they send.
//!
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY>

use std::collections::HashMap;
use std::sync::Arc;

use bytes::BytesMut;

use super::tokens::commands;
use crate::wire::backend::TransactionStatus;
use crate::wire::build::Format;
use crate::wire::frontend::tag;
use crate::wire::{Malformed, build, split_cstr};

/// Statements, and portals, that one console may have.
const NAMES_MAX: usize = 100;

/// What was bound: commands, and how each column of what they give is to be written.
#[derive(Clone)]
pub(super) struct Bound {
    pub(super) text: Arc<str>,
    formats: Arc<[Format]>,
}

impl Bound {
    /// Everything as texts.
    pub(super) fn in_text(text: &str) -> Self {
        Self { text: text.into(), formats: [].into() }
    }

    /// How a column is written: none is named, one for all, or each.
    pub(super) fn format(&self, column: usize) -> Format {
        match &*self.formats {
            [one] => *one,
            each => each.get(column).copied().unwrap_or(Format::Text),
        }
    }
}

type Named<T> = HashMap<Box<[u8]>, T>;

/// What the client has prepared.
#[derive(Default)]
pub(super) struct Portals {
    statements: Named<Arc<str>>,
    portals: Named<Bound>,
    /// Something has failed: all is skipped until `Sync`.
    failed: bool,
}

/// What a message asks for.
pub(super) enum Said {
    /// Nothing more: it was answered.
    Nothing,
    /// Several commands are in one statement: which of them it is, nobody can tell.
    Several,
    /// What these commands give.
    Describe(Bound),
    /// These commands.
    Run(Bound),
}

impl Portals {
    /// What has begun has failed.
    pub(super) fn fail(&mut self) {
        self.failed = true;
    }

    /// Takes a message of the extended protocol.
    pub(super) fn take(
        &mut self,
        tag: u8,
        body: &[u8],
        status: TransactionStatus,
        out: &mut BytesMut,
    ) -> Result<Said, Malformed> {
        if tag == tag::SYNC {
            self.failed = false;
            build::ready_for_query(status, out);
            return Ok(Said::Nothing);
        }
        if self.failed {
            return Ok(Said::Nothing);
        }
        let said = self.read(tag, body, out);
        self.failed |= said.is_err();
        said
    }

    fn read(&mut self, tag: u8, body: &[u8], out: &mut BytesMut) -> Result<Said, Malformed> {
        let malformed = || Malformed::new("message of the extended protocol", body);
        match tag {
            tag::PARSE => {
                let (name, rest) = split_cstr(body).ok_or_else(malformed)?;
                let (text, _) = split_cstr(rest).ok_or_else(malformed)?;
                let text = std::str::from_utf8(text).map_err(|_| malformed())?;
                if commands(text).is_some_and(|commands| commands.len() > 1) {
                    return Ok(Said::Several);
                }
                keep(&mut self.statements, name, text.into()).ok_or_else(malformed)?;
                out.extend_from_slice(build::PARSE_COMPLETE);
            }
            tag::BIND => {
                let (portal, rest) = split_cstr(body).ok_or_else(malformed)?;
                let (name, rest) = split_cstr(rest).ok_or_else(malformed)?;
                let text = self.statements.get(name).cloned().ok_or_else(malformed)?;
                let formats = result_formats(rest).ok_or_else(malformed)?;
                keep(&mut self.portals, portal, Bound { text, formats }).ok_or_else(malformed)?;
                out.extend_from_slice(build::BIND_COMPLETE);
            }
            tag::DESCRIBE => {
                let (kind, name) = body.split_first().ok_or_else(malformed)?;
                let (name, _) = split_cstr(name).ok_or_else(malformed)?;
                if *kind != b'S' {
                    let bound = self.portals.get(name).cloned().ok_or_else(malformed)?;
                    return Ok(Said::Describe(bound));
                }
                let text = self.statements.get(name).ok_or_else(malformed)?;
                out.extend_from_slice(build::NO_PARAMETERS);
                return Ok(Said::Describe(Bound::in_text(text)));
            }
            tag::EXECUTE => {
                let (portal, _) = split_cstr(body).ok_or_else(malformed)?;
                let bound = self.portals.get(portal).cloned().ok_or_else(malformed)?;
                return Ok(Said::Run(bound));
            }
            tag::CLOSE => {
                let (kind, name) = body.split_first().ok_or_else(malformed)?;
                let (name, _) = split_cstr(name).ok_or_else(malformed)?;
                match kind {
                    b'S' => drop(self.statements.remove(name)),
                    _ => drop(self.portals.remove(name)),
                }
                out.extend_from_slice(build::CLOSE_COMPLETE);
            }
            tag::FLUSH => {}
            _ => return Err(malformed()),
        }
        Ok(Said::Nothing)
    }
}

fn keep<T>(named: &mut Named<T>, name: &[u8], value: T) -> Option<()> {
    let room = named.len() < NAMES_MAX || named.contains_key(name);
    room.then(|| drop(named.insert(name.into(), value)))
}

/// The formats of results, behind the names in the body of a `Bind`. There are no parameters to bind.
fn result_formats(rest: &[u8]) -> Option<Arc<[Format]>> {
    let (count, rest) = rest.split_first_chunk::<2>()?;
    let rest = rest.get(2 * usize::from(u16::from_be_bytes(*count))..)?;
    let (parameters, rest) = rest.split_first_chunk::<2>()?;
    let (count, codes) = rest.split_first_chunk::<2>()?;
    if *parameters != [0, 0] || codes.len() != 2 * usize::from(u16::from_be_bytes(*count)) {
        return None;
    }
    let format = |code: &[u8]| if code == [0, 1] { Format::Binary } else { Format::Text };
    Some(codes.chunks(2).map(format).collect())
}
