//! A run of messages that a server owes and that are only passed on, or only swallowed: most of what it says.

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

/// The type of the first message and what comes behind it, if all of it is there. One of an impossible length is not.
#[inline]
fn whole_message(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let ([tag, len @ ..], body) = bytes.split_first_chunk::<HEADER_LEN>()?;
    // It counts itself.
    let body_len = (u32::from_be_bytes(*len) as usize).wrapping_sub(4);
    let (_, behind) = body.split_at_checked(body_len)?;
    Some((*tag, behind))
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
        let mut rest = bytes;
        let mut changes_nothing = self.changes_nothing();
        while let Some((tag, behind)) = whole_message(rest) {
            if but == Some(tag) {
                break;
            }
            if !changes_nothing.has(tag) {
                if tag == tag::READY_FOR_QUERY || !self.is_passed_on(tag) {
                    break;
                }
                changes_nothing = self.changes_nothing();
                if self.unsure {
                    return bytes.len() - behind.len();
                }
            }
            rest = behind;
        }
        bytes.len() - rest.len()
    }

    /// Takes whole messages from the front of `bytes`, for as long as each answers the switch and is not the last
    /// that does; their length in bytes. What stops it is left, as above.
    pub fn swallow_run(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while self.switch > 1
            && let Some((tag, behind)) = whole_message(rest)
        {
            match tag {
                tag::PARSE_COMPLETE
                | tag::BIND_COMPLETE
                | tag::CLOSE_COMPLETE
                | tag::COMMAND_COMPLETE => self.switch -= 1,
                tag::DATA_ROW => {}
                _ => break,
            }
            rest = behind;
        }
        bytes.len() - rest.len()
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
        let is_ours = matches!(
            self.owed.first(),
            Some(Owed::Unasked(_) | Owed::Restoring(_) | Owed::Named(_))
        );
        !is_ours && self.on_reply(tag) == Ok(ServerVerdict::Forward)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(tag: u8, body_len: u8) -> Vec<u8> {
        let mut frame = vec![tag, 0, 0, 0, 4 + body_len];
        frame.resize(frame.len() + usize::from(body_len), 0);
        frame
    }

    proptest! {
        /// Replies to a switch, and what may come between: a run takes what `on_server` would swallow one by one.
        #[test]
        fn a_run_swallows_what_would_be_swallowed_one_by_one(
            replies in 1..20u32,
            messages in prop::collection::vec((prop::sample::select(&b"123CDNAESZX"[..]), 0..9u8), 0..30),
            cut in 0..40usize,
        ) {
            let frames: Vec<Vec<u8>> = messages.iter().map(|(tag, len)| frame(*tag, *len)).collect();
            let mut bytes = frames.concat();
            bytes.truncate(bytes.len().saturating_sub(cut));
            let mut in_a_run = Exchange::default();
            in_a_run.begin_switch(replies);
            let mut one_by_one = in_a_run.clone();
            let mut swallowed = in_a_run.swallow_run(&bytes);
            for frame in frames {
                if swallowed < frame.len() {
                    break;
                }
                swallowed -= frame.len();
                prop_assert_eq!(one_by_one.on_server(frame[0], None), Ok(ServerVerdict::Swallow));
            }
            prop_assert_eq!(swallowed, 0, "whole messages");
            prop_assert_eq!(in_a_run, one_by_one);
        }
    }

    #[test]
    fn the_last_reply_to_a_switch_is_left_and_an_error_too() {
        let mut exchange = Exchange::default();
        exchange.begin_switch(3);
        let bytes = [frame(b'1', 0), frame(b'D', 7), frame(b'2', 0), frame(b'C', 4)].concat();
        assert_eq!(exchange.swallow_run(&bytes), 5 + 12 + 5);
        assert_eq!(exchange.on_server(b'C', None), Ok(ServerVerdict::SwitchDone));
        assert_eq!(exchange.swallow_run(&bytes), 0, "the client's");
        exchange.begin_switch(3);
        let bytes = [frame(b'1', 0), frame(b'E', 7), frame(b'2', 0)].concat();
        assert_eq!(exchange.swallow_run(&bytes), 5);
        assert_eq!(exchange.on_server(b'E', None), Ok(ServerVerdict::SwitchFailed));
    }
}
