//! A run of messages that a server owes and that are only passed on: most of what it says.

use super::exchange::{Exchange, Owed};
use super::replies::ServerVerdict;
use crate::wire::backend::tag;
use crate::wire::frame::HEADER_LEN;

const OF_QUERY: Tags =
    Tags::of(&[tag::DATA_ROW, tag::COPY_DATA, tag::ROW_DESCRIPTION, tag::COMMAND_COMPLETE]);
const OF_EXECUTE: Tags = Tags::of(&[tag::DATA_ROW, tag::COPY_DATA]);

/// Types of messages that are letters, a bit each.
#[derive(Clone, Copy)]
struct Tags(u64);

impl Tags {
    const fn of(tags: &[u8]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < tags.len() {
            bits |= 1 << (tags[at] - b'A');
            at += 1;
        }
        Self(bits)
    }

    #[inline]
    fn has(self, tag: u8) -> bool {
        let bit = tag.wrapping_sub(b'A');
        bit < 64 && self.0 >> bit & 1 == 1
    }
}

impl Exchange {
    /// Takes whole messages from the front of `bytes`, for as long as each goes to the client as it
    /// is and is not of the type `but`; their length in bytes.
    ///
    /// What stops it is left for [`super::ServerScan`] and [`Exchange::on_server`], to which it does
    /// the same as if they had seen every message.
    pub fn pass_run(&mut self, bytes: &[u8], but: Option<u8>) -> usize {
        if self.switching() || self.unsure {
            return 0;
        }
        let mut passed = 0;
        let mut changes_nothing = self.changes_nothing();
        while let Some(([tag, len @ ..], _)) = bytes[passed..].split_first_chunk::<HEADER_LEN>() {
            // It counts itself. An impossible one ends the run, too.
            let len = u32::from_be_bytes(*len) as usize;
            let end = passed + 1 + len;
            if len < 4 || end > bytes.len() || but == Some(*tag) {
                break;
            }
            if !changes_nothing.has(*tag) {
                if *tag == tag::READY_FOR_QUERY || !self.is_passed_on(*tag) {
                    break;
                }
                changes_nothing = self.changes_nothing();
                if self.unsure {
                    return end;
                }
            }
            passed = end;
        }
        passed
    }

    /// Which replies to what is owed first leave everything as it is: all but the last one.
    #[inline]
    fn changes_nothing(&self) -> Tags {
        match self.owed.first() {
            Some(Owed::Query) if !self.copy_in => OF_QUERY,
            Some(Owed::Execute) => OF_EXECUTE,
            _ => Tags(0),
        }
    }

    /// A message comes that may be owed; `false`: it is not, or more is to be done about it. Then
    /// nothing has changed.
    fn is_passed_on(&mut self, tag: u8) -> bool {
        let is_ours = matches!(self.owed.first(), Some(Owed::Unasked(_) | Owed::Named(_)));
        !is_ours && self.on_reply(tag) == Ok(ServerVerdict::Forward)
    }
}
