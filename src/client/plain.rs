//! Messages about which there is nothing to be done, which is most of what most clients send: they are taken in
//! a run, and a look shows that they are of that kind.

use super::session::Session;
use super::units::Step;
use crate::sql::Flags;
use crate::wire::frame::HEADER_LEN;
use crate::wire::frontend::{Names, tag};

impl Session {
    /// Takes a message that is there from its header to its end, `count` bytes long, if it is one of them.
    #[inline]
    pub(super) fn pass_plain(
        &mut self,
        (tag, names, flags): (u8, Names, Flags),
        count: usize,
        linked: bool,
    ) -> Option<Step> {
        if !flags.is_empty() || names == Names::Statement || !self.lets_plain_pass() {
            return None;
        }
        match tag {
            tag::QUERY if !self.exchange.is_unsynced() => {}
            tag::PARSE if names == Names::Unnamed => {}
            tag::BIND | tag::DESCRIBE if !self.is_rewritten(tag, names, flags) => {}
            tag::EXECUTE => {}
            // A lone one needs no server.
            tag::SYNC if linked || count > HEADER_LEN || self.exchange.is_unsynced() => {}
            _ => return None,
        }
        // What it may ask for is sent on in any case.
        self.exchange.on_client(tag, names);
        match tag {
            tag::PARSE => self.keep_unnamed(count, flags),
            tag::QUERY => self.forget_unnamed(),
            _ => {}
        }
        self.units.scanned += count;
        self.link.asked = false;
        if matches!(tag, tag::QUERY | tag::SYNC) {
            self.seal_unit();
            return Some(Step::UnitEnds);
        }
        Some(Step::Progress)
    }

    /// Nothing is followed from message to message: no settings that have changed, no unit that is skipped.
    fn lets_plain_pass(&self) -> bool {
        self.changes.is_none()
            && self.resets.is_none()
            && !self.units.is_discarding()
            && !self.exchange.skips_to_sync()
    }
}
