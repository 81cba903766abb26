//! The extended protocol, as far as a console needs it: drivers prepare what they send.
//!
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY>

use std::collections::HashMap;
use std::sync::Arc;

use bytes::BytesMut;

use crate::wire::backend::TransactionStatus;
use crate::wire::frontend::tag;
use crate::wire::{Malformed, build, split_cstr};

/// Statements, and portals, that one console may have.
const NAMES_MAX: usize = 100;

type Texts = HashMap<Box<[u8]>, Arc<str>>;

/// What the client has prepared.
#[derive(Default)]
pub(super) struct Portals {
    statements: Texts,
    portals: Texts,
    /// Something has failed: all is skipped until `Sync`.
    failed: bool,
}

/// What a message asks for.
pub(super) enum Said {
    /// Nothing more: it was answered.
    Nothing,
    /// What these commands give.
    Describe(Arc<str>),
    /// These commands.
    Run(Arc<str>),
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
        out: &mut BytesMut,
    ) -> Result<Said, Malformed> {
        if tag == tag::SYNC {
            self.failed = false;
            build::ready_for_query(TransactionStatus::Idle, out);
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
                keep(&mut self.statements, name, text.into()).ok_or_else(malformed)?;
                out.extend_from_slice(build::PARSE_COMPLETE);
            }
            tag::BIND => {
                let (portal, rest) = split_cstr(body).ok_or_else(malformed)?;
                let (name, _) = split_cstr(rest).ok_or_else(malformed)?;
                let text = self.statements.get(name).cloned().ok_or_else(malformed)?;
                keep(&mut self.portals, portal, text).ok_or_else(malformed)?;
                out.extend_from_slice(build::BIND_COMPLETE);
            }
            tag::DESCRIBE => {
                let (kind, name) = body.split_first().ok_or_else(malformed)?;
                let (name, _) = split_cstr(name).ok_or_else(malformed)?;
                let texts = if *kind == b'S' { &self.statements } else { &self.portals };
                let text = texts.get(name).cloned().ok_or_else(malformed)?;
                if *kind == b'S' {
                    out.extend_from_slice(build::NO_PARAMETERS);
                }
                return Ok(Said::Describe(text));
            }
            tag::EXECUTE => {
                let (portal, _) = split_cstr(body).ok_or_else(malformed)?;
                let text = self.portals.get(portal).cloned().ok_or_else(malformed)?;
                return Ok(Said::Run(text));
            }
            tag::CLOSE => {
                let (kind, name) = body.split_first().ok_or_else(malformed)?;
                let (name, _) = split_cstr(name).ok_or_else(malformed)?;
                if *kind == b'S' { &mut self.statements } else { &mut self.portals }.remove(name);
                out.extend_from_slice(build::CLOSE_COMPLETE);
            }
            tag::FLUSH => {}
            _ => return Err(malformed()),
        }
        Ok(Said::Nothing)
    }
}

fn keep(texts: &mut Texts, name: &[u8], text: Arc<str>) -> Option<()> {
    let room = texts.len() < NAMES_MAX || texts.contains_key(name);
    room.then(|| drop(texts.insert(name.into(), text)))
}
