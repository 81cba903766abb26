//! A `SET` that needs no server: it is answered here, and goes out with the next switch.
//!
//! Only of settings that take any value of the kind that is absorbed: `search_path`,
//! `application_name`, and the custom settings of the tenant. Frameworks send one before every query.

use bytes::BytesMut;

use super::session::Session;
use super::units::Rewriting;
use crate::config::PoolMode;
use crate::pool::Taint;
use crate::server::Parameters;
use crate::sql::{LoneSet, lone_set, lone_set_path};
use crate::tenant::{GucName, SessionState, Value};
use crate::wire::backend::TransactionStatus;
use crate::wire::build;
use crate::wire::frame::{HEADER_LEN, Header};
use crate::wire::frontend::tag;
use crate::wire::split_cstr;

const APPLICATION_NAME: &str = "application_name";
/// Reported from PostgreSQL 18 on.
const SEARCH_PATH: &str = "search_path";

/// Longest `application_name` that servers report as it is: `NAMEDATALEN - 1`.
const APPLICATION_NAME_LEN_MAX: usize = 63;

impl Session {
    /// The unit that waits is a `SET` and nothing else: answers it. `false`: it needs a server.
    pub(super) fn absorb(&mut self) -> bool {
        let may = self.shared.general.absorb
            && self.mode == PoolMode::Transaction
            && self.pin.is_none()
            && self.changes.is_some();
        let unit = &self.inbound.bytes()[..self.units.scanned];
        let Some((session, mut out)) = may.then(|| self.state_after(unit)).flatten() else {
            return false;
        };
        let Some(reports) = self.reports_of(&session) else { return false };
        for (name, value) in reports {
            if Parameters::note(&mut self.told, name.as_bytes(), value.as_bytes()) {
                build::parameter_status(name, value.as_bytes(), &mut out);
            }
        }
        build::ready_for_query(TransactionStatus::Idle, &mut out);
        self.target = self.target_of(session);
        (self.changes, self.taint) = (None, Taint::None);
        self.exchange.reset();
        self.inbound.consume(self.units.scanned);
        self.units.scanned = 0;
        self.units.rewriting = Rewriting::No;
        self.units.answer(&out);
        self.shared.stats.absorbed.add_one();
        true
    }

    /// What PostgreSQL would report of that state; `None`: that is not known here.
    fn reports_of(&self, session: &SessionState) -> Option<Vec<(&'static str, String)>> {
        let mut reports = Vec::new();
        for name in [APPLICATION_NAME, SEARCH_PATH] {
            let value = session.get(name);
            if value == self.target.session.get(name) || self.told.get(name).is_none() {
                continue;
            }
            reports.push((name, value?.shown()?));
        }
        Some(reports)
    }

    /// The state behind a unit, and the answer to it.
    fn state_after(&self, unit: &[u8]) -> Option<(SessionState, BytesMut)> {
        if let Some((set, out)) = read(unit) {
            return Some((self.state_with(&set)?, out));
        }
        let path = lone_path(unit)?;
        let guc = GucName::new("search_path").ok()?;
        let value = Value::Text(path.as_bytes().into());
        let state = self.target.session.clone().with(guc, value);
        let mut out = BytesMut::new();
        build::text_row("set_config", &path, &mut out);
        (!state.names_temporary_schema()).then_some((state, out))
    }

    /// The session's state with that setting; `None` if PostgreSQL has a say in it.
    fn state_with(&self, set: &LoneSet) -> Option<SessionState> {
        let guc = GucName::new(&set.name).ok()?;
        let state = self.target.session.clone();
        let (home, plain) = (&self.home.session, |item: &String| item.bytes().all(is_plain));
        let Some(items) = &set.items else {
            let value = home.get("search_path").filter(|_| set.name == "search_path")?;
            return Some(state.with(guc, value.clone()));
        };
        let value = match (set.name.as_str(), items.as_slice()) {
            ("search_path", names) if names.iter().all(plain) => {
                let value = Value::Names(names.into());
                let known = home.get("search_path").filter(|known| **known == value);
                known.cloned().unwrap_or(value)
            }
            (APPLICATION_NAME, [name]) if name.len() <= APPLICATION_NAME_LEN_MAX && plain(name) => {
                Value::Text(name.as_bytes().into())
            }
            (_, [text]) if guc.is_custom() && home.get(&set.name).is_some() && plain(text) => {
                Value::Text(text.as_bytes().into())
            }
            _ => return None,
        };
        let state = state.with(guc, value);
        (!state.names_temporary_schema()).then_some(state)
    }
}

const fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

/// The path, if the unit is a query that sets it by a function.
fn lone_path(unit: &[u8]) -> Option<String> {
    let header = Header::read(unit).ok()??;
    let whole = header.tag == tag::QUERY && header.frame_len() == unit.len();
    let (text, rest) = split_cstr(unit.get(HEADER_LEN..).filter(|_| whole)?)?;
    lone_set_path(text).filter(|_| rest.is_empty())
}

/// The one `SET` of a unit, and the answers to its messages up to `CommandComplete`.
fn read(unit: &[u8]) -> Option<(LoneSet, BytesMut)> {
    let (mut rest, mut out, mut set) = (unit, BytesMut::new(), None);
    let mut expected: &[u8] = &[tag::QUERY, tag::PARSE];
    while !rest.is_empty() {
        let header = Header::read(rest).ok()??;
        let body = rest.get(HEADER_LEN..header.frame_len())?;
        rest = &rest[header.frame_len()..];
        if !expected.contains(&header.tag) {
            return None;
        }
        expected = match header.tag {
            tag::QUERY => {
                set = Some(lone_set(split_cstr(body).filter(|(_, rest)| rest.is_empty())?.0)?);
                build::command_complete("SET", &mut out);
                &[]
            }
            tag::PARSE => {
                let (text, types) = split_cstr(body.strip_prefix(b"\0")?)?;
                set = Some(lone_set(text).filter(|_| types == [0, 0])?);
                out.extend_from_slice(build::PARSE_COMPLETE);
                &[tag::BIND]
            }
            tag::BIND => {
                // Of the unnamed statement to the unnamed portal, without parameters.
                let rest = body.strip_prefix(b"\0\0")?;
                let (formats, rest) = rest.split_first_chunk::<2>()?;
                let rest = rest.get(2 * usize::from(u16::from_be_bytes(*formats))..)?;
                rest.strip_prefix(&[0, 0])?;
                out.extend_from_slice(build::BIND_COMPLETE);
                &[tag::DESCRIBE, tag::EXECUTE]
            }
            tag::DESCRIBE if body == b"P\0" => {
                out.extend_from_slice(build::NO_DATA);
                &[tag::EXECUTE]
            }
            tag::EXECUTE if body.first() == Some(&0) && body.len() == 5 => {
                build::command_complete("SET", &mut out);
                &[tag::SYNC]
            }
            tag::SYNC if body.is_empty() => &[],
            _ => return None,
        };
    }
    expected.is_empty().then_some(())?;
    Some((set?, out))
}
