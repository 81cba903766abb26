//! DEALLOCATE by the extended protocol: a name goes when that is executed, which may be long after it was
//! parsed, and not at all.
//!
//! Bound and executed at once, as every driver does it, it runs in other words. Where anything stands between the two,
//! nobody can tell which names there will be by then: the server gets all of them as they are.

use std::sync::Arc;

use super::described::statement_of;
use super::session::Session;
use super::statements::NOTHING;
use crate::prepared::Statement;
use crate::sql::{Flag, Flags, deallocated, used};
use crate::wire::frame::{HEADER_LEN, Header};
use crate::wire::frontend::tag;
use crate::wire::split_cstr;

/// Flags of statements that take names away.
const DROPS: Flags = Flags::one(Flag::Deallocate);

/// When what is bound takes names away, or uses one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Drops {
    /// It does not.
    No,
    /// It is executed next.
    AtOnce,
    /// Who knows.
    Sometime,
}

impl Session {
    /// Whether the client's unnamed statement does, or runs another by its name.
    #[inline]
    pub(super) fn unnamed_drops(&self) -> bool {
        let says = DROPS.union(Flags::one(Flag::Execute));
        self.names.as_ref().is_some_and(|names| names.unnamed_flags().intersects(says))
    }

    /// What the next message binds.
    pub(super) fn drops(&self, message: u8) -> Drops {
        if message != tag::BIND || !self.has_virtual_names() {
            return Drops::No;
        }
        let bytes = &self.inbound.bytes()[self.units.scanned..];
        let names = self.names.as_ref();
        let statement = match statement_of(bytes) {
            None => None,
            Some([]) => names.and_then(|names| names.kept_unnamed()),
            Some(name) => names.and_then(|names| names.get(name)),
        };
        let (Some(statement), Some(names)) = (statement, names) else { return Drops::No };
        if statement.flags.intersects(DROPS) {
            return if is_executed_next(bytes) { Drops::AtOnce } else { Drops::Sometime };
        }
        // When it was parsed, nobody had the name that it runs.
        let is_known = |name: &Vec<u8>| names.get(name).is_some();
        let runs =
            statement.flags.contains(Flag::Execute) && used(statement.text()).iter().any(is_known);
        if runs { Drops::Sometime } else { Drops::No }
    }

    /// From now on the server has the client's names, and what is bound is what the client has parsed.
    pub(super) fn drop_by_itself(&mut self, frame: &[u8]) {
        let Some(name) = statement_of(frame) else { return };
        let (statement, has_to_be_parsed) = match name {
            [] => (self.unnamed(), !self.exchange.parsed_unnamed_statement()),
            name => (self.names.as_ref().and_then(|names| names.get(name).cloned()), false),
        };
        let Some(statement) = statement else { return };
        if self.exchange.in_block() && !self.exchange.in_sound_block() {
            return;
        }
        self.note(statement.flags, Some(statement.text()));
        self.make_all();
        if has_to_be_parsed {
            self.provide_unnamed();
        }
    }

    /// What is bound instead of a statement that takes away a name that only the pooler knows.
    pub(super) fn dropping(&mut self, statement: &Statement) -> Option<Arc<Statement>> {
        if !statement.flags.intersects(DROPS) {
            return None;
        }
        let name = deallocated(statement.text())?;
        self.names.as_ref()?.get(&name)?;
        let tail = [NOTHING, b"\0\0\0"].concat();
        let nothing = self.shared.statements.of(self.tenant()).get_unnamed(&tail, Flags::NONE)?;
        self.names.as_mut()?.deallocate(&name);
        Some(nothing)
    }
}

/// Whether the portal that the first message binds is executed by the next, or by the one behind its description.
fn is_executed_next(bytes: &[u8]) -> bool {
    let next = |bytes: &'_ [u8]| {
        let header = Header::read(bytes).ok().flatten()?;
        let len = header.frame_len();
        (bytes.len() >= len).then_some((header.tag, len))
    };
    let Some((tag::BIND, len)) = next(bytes) else { return false };
    let Some((portal, _)) = split_cstr(&bytes[HEADER_LEN..len]) else { return false };
    let mut rest = &bytes[len..];
    if let Some((tag::DESCRIBE, len)) = next(rest) {
        rest = &rest[len..];
    }
    let Some((tag::EXECUTE, len)) = next(rest) else { return false };
    split_cstr(&rest[HEADER_LEN..len]).is_some_and(|(executed, _)| executed == portal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(body.len() + 4).unwrap();
        [&[tag], &len.to_be_bytes()[..], body].concat()
    }

    #[test]
    fn only_the_very_next_execute_counts() {
        let bind = message(b'B', b"p\0s\0\0\0\0\0\0\0");
        let (execute, other) = (message(b'E', b"p\0\0\0\0\0"), message(b'E', b"q\0\0\0\0\0"));
        let describe = message(b'D', b"Pp\0");
        for (behind, at_once) in [
            (execute.clone(), true),
            ([describe.clone(), execute.clone()].concat(), true),
            ([describe.clone(), describe, execute.clone()].concat(), false),
            (other, false),
            (message(b'S', b""), false),
            (execute[..7].to_vec(), false),
            (vec![], false),
        ] {
            assert_eq!(
                is_executed_next(&[bind.clone(), behind.clone()].concat()),
                at_once,
                "{behind:?}"
            );
        }
    }
}
