//! Behind a RESET: what leads back to the session's home goes out with it, before anything else of the client's.
//!
//! `RESET`, `DISCARD ALL` and `SET ... TO DEFAULT` lead to the server's own default, which is below the tenant's state: no
//! role, no path. So in the same write, behind the message that runs one, go statements that set again what it resets
//! and the session's home has. In a pipeline they stand before the client's next message. Behind a simple query they
//! have a `Sync` of their own, and the client hears of the `ReadyForQuery` behind that. If they fail, PostgreSQL
//! discards what follows up to the `Sync`; before the next unit the session looks where it stands, in any case
//! ([`Session::is_below_home`]).
//!
//! What the text of several statements does in between ([`resets_inside`]) is not put right: where the guard is on,
//! such a text is refused.

use std::sync::Arc;

use super::prepared::SAYS_NAMES;
use super::session::Session;
use super::sql_prepared::MAKER;
use crate::sql::{Flag, Flags, Settings, resets_inside};
use crate::wire::backend::tag as reply;
use crate::wire::build;
use crate::wire::frontend::{Names as Said, tag};
use crate::wire::split_cstr;

/// Flags of statements that may reset something.
const RESETS: Flags = Flags::one(Flag::Reset)
    .union(Flags::one(Flag::Discard))
    .union(Flags::one(Flag::Set))
    .union(Flags::one(Flag::SetConfig));

/// Replies to one statement of the way home.
const REPLIES: [u8; 6] = [
    reply::CLOSE_COMPLETE,
    reply::PARSE_COMPLETE,
    reply::BIND_COMPLETE,
    reply::COMMAND_COMPLETE,
    reply::CLOSE_COMPLETE,
    reply::CLOSE_COMPLETE,
];

/// Statements that lead home.
type WayHome = Arc<[String]>;

/// Statements and portals of the unit that reset something when they run, and what is to follow each.
#[derive(Debug, Default)]
pub(super) struct Resets {
    unnamed: Option<WayHome>,
    /// Statements under the client's own names, on a server of its own.
    named: Vec<(Box<[u8]>, WayHome)>,
    portals: Vec<(Box<[u8]>, WayHome)>,
}

impl Session {
    /// Whether a message has to be written anew because of what it may reset.
    #[inline]
    pub(super) fn may_reset(&self, message: u8, flags: Flags) -> bool {
        match message {
            tag::QUERY => flags.intersects(RESETS),
            // It takes the place of another one.
            tag::PARSE => flags.intersects(RESETS) || self.resets.is_some(),
            tag::BIND | tag::EXECUTE => self.resets.is_some(),
            _ => false,
        }
    }

    /// What is to follow a text that runs; `None`: nothing that is known.
    fn way_home(&self, flags: Flags, text: &[u8]) -> Option<WayHome> {
        if !flags.intersects(RESETS) || self.is_other_user {
            return None;
        }
        let settings = Settings::of(text, flags);
        if !settings.resets || settings.unknown.is_some() || settings.copies {
            return None;
        }
        let home = &self.home.session;
        let back = |name: &str| {
            if settings.may_reset.iter().any(|n| **n == *name) {
                return home.query_if_reset(name);
            }
            home.statement_of(name)
        };
        let set_again = |name: &str| {
            settings.names.iter().any(|n| **n == *name)
                && !settings.reset.iter().any(|r| **r == *name)
        };
        let mut way = Vec::new();
        if settings.resets_all {
            let names = home.settings().map(|(name, _)| name.as_str());
            way.extend(names.filter(|name| !set_again(name)).filter_map(|n| home.statement_of(n)));
        } else {
            let names = settings.reset.iter().filter(|name| ***name != *"role");
            way.extend(names.filter_map(|name| back(name)));
        }
        // RESET ALL leaves the role, DISCARD ALL does not.
        let leaves_role =
            settings.resets_role || (settings.resets_all && flags.contains(Flag::Discard));
        if leaves_role {
            way.extend(back("role"));
        }
        // It is committed by itself, and a ROLLBACK behind it must not take the way home back.
        if flags.contains(Flag::Discard) && !way.is_empty() && !self.exchange.in_block() {
            way.insert(0, "BEGIN ISOLATION LEVEL READ COMMITTED NOT DEFERRABLE".to_owned());
            way.push("COMMIT".to_owned());
        }
        (!way.is_empty()).then(|| way.into())
    }

    /// A message that may reset something, `frame` with its header. `Some`: so many bytes were used.
    pub(super) fn rewrite_reset(
        &mut self,
        message: u8,
        frame: &[u8],
        flags: Flags,
    ) -> Option<usize> {
        let body = frame.get(crate::wire::frame::HEADER_LEN..)?;
        match message {
            tag::QUERY => self.query_that_resets(frame, body, flags),
            tag::PARSE => {
                let (name, tail) = split_cstr(body)?;
                let way = self.way_home(flags, split_cstr(tail)?.0);
                self.note_statement(name, way);
                None
            }
            tag::BIND => {
                let (portal, behind) = split_cstr(body)?;
                let way = self.way_of_statement(split_cstr(behind)?.0);
                let resets = self.resets.get_or_insert_default();
                resets.portals.retain(|(known, _)| **known != *portal);
                resets.portals.extend(way.map(|way| (portal.into(), way)));
                None
            }
            tag::EXECUTE => {
                let (portal, _) = split_cstr(body)?;
                let portals = &self.resets.as_ref()?.portals;
                let way = portals.iter().find(|(known, _)| **known == *portal)?.1.clone();
                self.link.rewritten.extend_from_slice(frame);
                self.exchange.on_client(tag::EXECUTE, Said::Other);
                self.go_home(&way);
                Some(frame.len())
            }
            _ => None,
        }
    }

    fn query_that_resets(&mut self, frame: &[u8], body: &[u8], flags: Flags) -> Option<usize> {
        let says = SAYS_NAMES.union(Flags::one(Flag::Deallocate));
        let (text, rest) = split_cstr(body)?;
        if !rest.is_empty() || flags.intersects(says) {
            return None;
        }
        let way = self.way_home(flags, text)?;
        self.note(flags, Some(text));
        self.link.rewritten.extend_from_slice(frame);
        self.exchange.on_client(tag::QUERY, Said::Unnamed);
        self.forget_unnamed();
        self.go_home(&way);
        self.link.rewritten.extend_from_slice(build::SYNC);
        self.exchange.on_client(tag::SYNC, Said::Other);
        Some(frame.len())
    }

    /// A statement was parsed: what runs of it later.
    fn note_statement(&mut self, name: &[u8], way: Option<WayHome>) {
        if way.is_none() && self.resets.is_none() {
            return;
        }
        let resets = self.resets.get_or_insert_default();
        if name.is_empty() {
            resets.unnamed = way;
        } else {
            resets.named.retain(|(known, _)| **known != *name);
            resets.named.extend(way.map(|way| (name.into(), way)));
        }
    }

    fn way_of_statement(&self, name: &[u8]) -> Option<WayHome> {
        let kept = self.names.as_ref().and_then(|names| names.get(name));
        if let Some(statement) = kept.filter(|_| !name.is_empty()) {
            return self.way_home(statement.flags, statement.text());
        }
        let resets = self.resets.as_ref()?;
        match name {
            [] => resets.unnamed.clone(),
            _ => {
                resets.named.iter().find(|(known, _)| **known == *name).map(|(_, way)| way.clone())
            }
        }
    }

    /// Runs statements beside the client's own unnamed statement and portal.
    fn go_home(&mut self, way: &WayHome) {
        for sql in way.iter() {
            self.write_beside(sql.as_bytes());
            self.exchange.owe_restoring(&REPLIES);
        }
    }

    /// A text of the pooler's own, under names of its own.
    pub(super) fn write_beside(&mut self, text: &[u8]) {
        let out = &mut self.link.rewritten;
        // One that failed may have left its maker.
        build::close_statement(MAKER, out);
        build::parse(MAKER, &[text, b"\0\0\0"].concat(), out);
        build::bind(MAKER, MAKER, out);
        build::execute(MAKER, out);
        build::close_portal(MAKER, out);
        build::close_statement(MAKER, out);
    }

    /// A `Parse` that is too long to be read takes the place of the unnamed statement, or of one that was closed before.
    pub(super) fn forget_resets(&mut self) {
        if let Some(resets) = &mut self.resets {
            resets.unnamed = None;
            resets.named.clear();
        }
    }

    /// A unit ends: its portals are gone with it, or are looked at anew.
    #[inline]
    pub(super) fn end_resets(&mut self) {
        if let Some(resets) = &mut self.resets {
            resets.portals.clear();
            if resets.unnamed.is_none() && resets.named.is_empty() {
                self.resets = None;
            }
        }
    }
}

/// Whether a text of several statements resets something and goes on: nothing can be put in between.
pub(super) fn resets_in_the_middle(flags: Flags, text: &[u8]) -> bool {
    flags.intersects(RESETS) && resets_inside(text)
}
