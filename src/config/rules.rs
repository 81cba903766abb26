//! What the configuration says of tenants, layer by layer, as written. `layers` makes tenants of it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::read::Section;
use super::secret::Secret;
use super::tenant::{Guard, OnSessionState, QuotaMode, ServerSharing};
use crate::tenant::{GucName, WildcardPattern};

/// One layer as written; what it does not set, the next layer does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rules {
    /// Where it stands in the file, such as `tenants.acme`.
    pub(super) path: String,
    pub(super) pattern: Option<WildcardPattern>,
    pub(super) class: Option<String>,
    pub(super) cluster: Option<String>,
    pub(super) database: Option<String>,
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) schema: Option<String>,
    pub(super) search_path: Option<Vec<String>>,
    pub(super) role: Option<String>,
    pub(super) settings: Option<BTreeMap<GucName, String>>,
    pub(super) state: Option<State>,
    pub(super) message: Option<String>,
    pub(super) guard: Option<Guard>,
    pub(super) on_session_state: Option<OnSessionState>,
    pub(super) max_pin_time: Option<Duration>,
    pub(super) server_sharing: Option<ServerSharing>,
    pub(super) max_client_connections: Option<usize>,
    pub(super) max_server_connections: Option<usize>,
    pub(super) guaranteed_server_connections: Option<usize>,
    pub(super) weight: Option<u32>,
    pub(super) max_waiting_clients: Option<usize>,
    pub(super) query_wait_timeout: Option<Duration>,
    pub(super) transaction_timeout: Option<Duration>,
    pub(super) idle_transaction_timeout: Option<Duration>,
    pub(super) query_timeout: Option<Duration>,
    pub(super) max_connection_rate: Option<u32>,
    pub(super) quota_mode: Option<QuotaMode>,
}

impl Rules {
    /// Gives the layer its place in the file and, for a tenant, its pattern.
    pub(super) fn located(mut self, path: String, pattern: Option<WildcardPattern>) -> Self {
        self.path = path;
        self.pattern = pattern;
        self
    }

    /// Reads the keys that a class, a tenant and `[tenancy]` have in common.
    pub(super) fn quotas(section: &Section<'_>) -> Self {
        Self {
            max_client_connections: section.count("max_client_connections", 1),
            max_server_connections: section.count("max_server_connections", 1),
            guaranteed_server_connections: section.count("guaranteed_server_connections", 0),
            weight: section.get("weight", "a whole number from 1 to 1000", |value| {
                u32::try_from(value.as_integer()?).ok().filter(|n| (1..=1000).contains(n))
            }),
            max_waiting_clients: section.count("max_waiting_clients", 0),
            query_wait_timeout: section.duration("query_wait_timeout"),
            transaction_timeout: section.duration("transaction_timeout"),
            idle_transaction_timeout: section.duration("idle_transaction_timeout"),
            query_timeout: section.duration("query_timeout"),
            max_connection_rate: section.get(
                "max_connection_rate",
                "a whole number of connections a second, from 1 to 1000000",
                |value| {
                    u32::try_from(value.as_integer()?).ok().filter(|n| (1..=1_000_000).contains(n))
                },
            ),
            quota_mode: section.get("quota_mode", "enforce or audit", |v| match v.as_str()? {
                "enforce" => Some(QuotaMode::Enforce),
                "audit" => Some(QuotaMode::Audit),
                _ => None,
            }),
            server_sharing: section.get("server_sharing", "all or tenant", |v| {
                match v.as_str()? {
                    "all" => Some(ServerSharing::All),
                    "tenant" => Some(ServerSharing::Tenant),
                    _ => None,
                }
            }),
            max_pin_time: section.duration("max_pin_time"),
            ..Self::default()
        }
    }

    /// Reads where a tenant lives and what its sessions look like.
    pub(super) fn read(section: &Section<'_>) -> Self {
        Self {
            class: section.string("class"),
            cluster: section.string("cluster"),
            database: template(section, "database"),
            user: template(section, "user"),
            password: section.password(),
            schema: template(section, "schema"),
            search_path: section.strings("search_path"),
            role: template(section, "role"),
            settings: settings(section),
            guard: section.get("guard", "off, audit or reject", |v| match v.as_str()? {
                "off" => Some(Guard::Off),
                "audit" => Some(Guard::Audit),
                "reject" => Some(Guard::Reject),
                _ => None,
            }),
            on_session_state: section.get("on_session_state", "pin or reject", |v| {
                match v.as_str()? {
                    "pin" => Some(OnSessionState::Pin),
                    "reject" => Some(OnSessionState::Reject),
                    _ => None,
                }
            }),
            ..Self::quotas(section)
        }
    }

    /// Reads the keys that only a tenant has.
    pub(super) fn with_state(mut self, section: &Section<'_>) -> Self {
        self.state = section.get("state", &STATES.join(", "), |v| State::parse(v.as_str()?));
        self.message = section.string("message");
        self
    }

    /// Whether this layer guarantees servers.
    pub(super) fn guarantees(&self) -> bool {
        self.guaranteed_server_connections.is_some()
    }

    /// Names that may be made of a tenant's.
    pub(super) fn composed(&self) -> impl Iterator<Item = &str> {
        let one = [&self.schema, &self.role, &self.database, &self.user];
        one.into_iter().flatten().chain(self.search_path.iter().flatten()).map(String::as_str)
    }

    /// Names of the settings this layer gives to sessions.
    pub(super) fn setting_names(&self) -> impl Iterator<Item = &GucName> {
        self.settings.iter().flat_map(BTreeMap::keys)
    }
}

fn template(section: &Section<'_>, key: &'static str) -> Option<String> {
    let text = section.string(key)?;
    if text.is_empty() || text.contains('\0') {
        section.fault(key, "must not be empty or hold a NUL byte");
        return None;
    }
    Some(text)
}

fn settings(section: &Section<'_>) -> Option<BTreeMap<GucName, String>> {
    let table = section.get("settings", "a table of strings", |value| value.as_table().cloned())?;
    let mut settings = BTreeMap::new();
    for (name, value) in table {
        let text = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(_) | toml::Value::Boolean(_) | toml::Value::Float(_) => {
                value.to_string()
            }
            _ => {
                section.fault("settings", format!("{name}: expected a string, number or boolean"));
                continue;
            }
        };
        match GucName::new(&name) {
            Ok(guc) if matches!(guc.as_str(), "role" | "session_authorization" | "search_path") => {
                section.fault(
                    "settings",
                    format!("{name}: use the key of that name, if there is one"),
                );
            }
            Ok(guc) => drop(settings.insert(guc, text)),
            Err(error) => section.fault("settings", error.to_string()),
        }
    }
    Some(settings)
}

/// `state` as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its transactions run.
    Active,
    /// They are read-only unless they say otherwise.
    ReadOnly,
    /// They wait.
    Paused,
    /// Nobody comes, and sessions end with their transactions.
    Draining,
    /// The same, and clients are told so.
    Suspended,
}

/// What may be written for them, in that order.
const STATES: [&str; 5] = ["active", "read_only", "paused", "draining", "suspended"];

impl State {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let all = [Self::Active, Self::ReadOnly, Self::Paused, Self::Draining, Self::Suspended];
        STATES.iter().position(|state| *state == text).map(|at| all[at])
    }

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        STATES[self as usize]
    }
}
