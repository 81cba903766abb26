//! What the client believes of the settings that PostgreSQL reports, and what its session has: the same at each
//! `ReadyForQuery`.
//!
//! PostgreSQL 14 and newer report what has changed since the last report, just before `ReadyForQuery`: on a server that
//! several clients share, that is not what is news to this one. So reports are only recorded as they come, and in
//! front of each `ReadyForQuery` the client is told where its belief differs. A server whose defaults are others than
//! the last one's says so before its first answer.
//!
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-ASYNC>

use std::sync::Arc;

use bytes::BytesMut;

use super::session::Session;
use crate::server::{Known, Parameters};
use crate::tenant::SessionState;
use crate::wire::build;

impl Session {
    /// Whether the client has been told all that its server has reported.
    #[inline]
    pub(super) fn has_told_all(&self) -> bool {
        self.link.linked.as_ref().is_none_or(|linked| Arc::ptr_eq(linked.reported(), &self.told))
    }

    /// What its session has, as far as that was reported.
    pub(super) fn reported(&self) -> Arc<Parameters> {
        Arc::clone(self.link.linked.as_ref().map_or(&self.told, |linked| linked.reported()))
    }

    /// Reports that the client has not heard: what it was told is then what its server has.
    #[cold]
    pub(super) fn untold(&mut self) -> Option<BytesMut> {
        let linked = self.link.linked.as_mut()?;
        let now = self.shared.targets.report(&linked.server().parameters);
        linked.server().parameters = Arc::clone(&now);
        let mut out = BytesMut::new();
        for (name, value) in
            now.iter().filter(|(name, value)| !self.told.knows(name.as_bytes(), value))
        {
            build::parameter_status(name, value, &mut out);
        }
        self.told = now;
        (!out.is_empty()).then_some(out)
    }

    /// A message of which all `count` bytes are there, and in front of which the client hears what has changed.
    #[cold]
    pub(super) fn pass_behind_reports(&mut self, count: usize) {
        let Some(mut reports) = self.untold() else { return self.pass(count) };
        let len = reports.len();
        if self.link.outbound.replace(self.link.passed, 0, &reports) {
            return self.pass(len + count);
        }
        // There is no room: nothing more is passed on before both have gone out.
        let at = self.link.passed;
        reports.extend_from_slice(&self.link.outbound.bytes()[at..at + count]);
        self.link.outbound.cut(at, count);
        self.link.aside = reports;
    }

    /// It gets a server in that state: what this one has of settings that nobody sets may be other than what the
    /// client knows from the last. That has to be said before any answer, which may depend on it.
    pub(super) fn tell_defaults(&mut self, before: &Known) {
        if self.has_told_all() {
            return;
        }
        let Some(linked) = &mut self.link.linked else { return };
        let state = match before {
            Known::Neutral => Some(SessionState::default()),
            Known::Exactly(target) => Some(target.session.clone()),
            Known::Unsure => None,
        };
        let server = linked.server();
        let (mut told, mut out) = (Arc::clone(&self.told), BytesMut::new());
        for (name, value) in server.parameters.iter() {
            let lower = name.to_ascii_lowercase();
            let sets = |state: &SessionState| state.get(&lower).is_some();
            // What the role is decides this one.
            if sets(&self.target.session) || name == "is_superuser" {
                continue;
            }
            let is_default = state.as_ref().is_some_and(|state| !sets(state));
            let default = if is_default { Some(value) } else { server.defaults.get(name) };
            if let Some(value) = default
                && Parameters::note(&mut told, name.as_bytes(), value)
            {
                build::parameter_status(name, value, &mut out);
            }
        }
        if !out.is_empty() && self.link.outbound.append(&out) {
            self.link.passed += out.len();
            self.told = told;
        }
    }
}
