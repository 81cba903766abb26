//! The unnamed statement of a client: where it may bind it again, it is there again.

use std::sync::Arc;

use super::session::Session;
use crate::flow::{Reply, UnnamedLost};
use crate::prepared::{Op, Statement, UNNAMED_LEN_MAX, UnnamedOf};
use crate::sql::Flags;
use crate::wire::build;
use crate::wire::frame::HEADER_LEN;
use crate::wire::frontend::tag;
use crate::wire::split_cstr;

impl Session {
    /// The unnamed statement passes by: it may be bound in a later transaction.
    pub(super) fn keep_unnamed(&mut self, count: usize, flags: Flags) {
        let end = self.units.scanned + count;
        let is_bound_next = self.inbound.bytes().get(end) == Some(&tag::BIND);
        let body = &self.inbound.bytes()[self.units.scanned + HEADER_LEN..end];
        let Some((_, tail)) = split_cstr(body) else { return self.forget_unnamed() };
        if self.refusal_of(flags, split_cstr(tail).map(|(text, _)| text)).is_some() {
            return self.forget_unnamed();
        }
        if is_bound_next && flags.is_empty() && tail.len() <= UNNAMED_LEN_MAX {
            return self.names.get_or_insert_default().use_unnamed(tail);
        }
        match self.shared.statements.of(self.tenant()).get_unnamed(tail, flags) {
            None => self.forget_unnamed(),
            kept => self.names.get_or_insert_default().keep_unnamed(kept),
        }
    }

    pub(super) fn unnamed(&mut self) -> Option<Arc<Statement>> {
        let kept = self.shared.statements.of(self.target.tenant.as_str());
        self.names.as_mut()?.unnamed(kept)
    }

    /// The unnamed statement is gone, as far as the client may rely on it.
    pub(super) fn forget_unnamed(&mut self) {
        if let Some(names) = &mut self.names {
            names.keep_unnamed(None);
        }
    }

    /// An error has met its changes: what is on the server need not be what the client has.
    pub(super) fn lose_unnamed(&mut self, lost: UnnamedLost) {
        if let Some(names) = &mut self.names {
            names.lose_unnamed(lost, self.shared.statements.of(self.target.tenant.as_str()));
        }
        if lost != UnnamedLost::Earlier {
            self.exchange.forget_unnamed();
            if let Some(linked) = &mut self.link.linked {
                linked.server().unnamed_left = Some(UnnamedOf::NOBODY);
            }
        }
    }

    /// Which of all unnamed statements the client has.
    pub(super) fn unnamed_of(&self) -> UnnamedOf {
        let count = self.names.as_ref().map_or(0, |names| names.unnamed_count());
        UnnamedOf { client: self.registration.pid, count }
    }

    /// Whether the unnamed statement can be had on another server.
    pub(super) fn keeps_unnamed(&self) -> bool {
        self.names.as_ref().is_some_and(|names| names.has_unnamed())
    }

    /// The unnamed statement once more, if the client is about to use it on another server.
    pub(super) fn provide_unnamed(&mut self) {
        if let Some(statement) = self.unnamed() {
            build::parse(b"", &statement.tail, &mut self.link.rewritten);
            self.owe(Reply::ParsedUnasked, Op::ParsesUnnamed);
            self.exchange.parsed_again();
        }
    }
}
