//! What a tenant is: rules in layers, the most specific first, resolved into a [`Tenant`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::read::Section;
use super::secret::Secret;
use super::{Cluster, Config, Unknown};
use crate::tenant::{GucName, SessionState, TenantId, Value, WildcardPattern};

/// One layer as written; what it does not set, the next layer does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rules {
    /// Where it stands in the file, such as `tenants.acme`.
    pub(super) path: String,
    pub(super) pattern: Option<WildcardPattern>,
    pub(super) class: Option<String>,
    pub(super) cluster: Option<String>,
    database: Option<String>,
    user: Option<String>,
    password: Option<Secret>,
    schema: Option<String>,
    search_path: Option<Vec<String>>,
    role: Option<String>,
    settings: Option<BTreeMap<GucName, String>>,
    state: Option<State>,
    message: Option<String>,
    guard: Option<Guard>,
    on_session_state: Option<OnSessionState>,
    max_pin_time: Option<Duration>,
    max_client_connections: Option<usize>,
    max_server_connections: Option<usize>,
    guaranteed_server_connections: Option<usize>,
    weight: Option<u32>,
    max_waiting_clients: Option<usize>,
    query_wait_timeout: Option<Duration>,
    transaction_timeout: Option<Duration>,
    idle_transaction_timeout: Option<Duration>,
    query_timeout: Option<Duration>,
    max_connection_rate: Option<u32>,
    quota_mode: Option<QuotaMode>,
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

/// A tenant as the configuration has it: where it lives, its state, its quotas.
#[derive(Debug)]
pub struct Tenant {
    /// Its name.
    pub id: TenantId,
    /// The PostgreSQL it lives in.
    pub cluster: Arc<Cluster>,
    /// Its database.
    pub database: String,
    /// The role the pooler logs in as.
    pub user: String,
    /// That role's password.
    pub password: Option<Secret>,
    /// The schema that must exist, if it lives in one.
    pub schema: Option<String>,
    /// Role and settings below every client's own.
    pub baseline: SessionState,
    /// Settings of the baseline that the operator named: a client may not start with another value.
    pub fixed_settings: Vec<GucName>,
    /// Its limits.
    pub quotas: Quotas,
    /// What its clients may do to their sessions.
    pub policy: Policy,
    /// Whether it may connect.
    pub availability: Availability,
}

impl Availability {
    /// Whether its clients may come, and stay.
    #[must_use]
    pub const fn lets_in(&self) -> bool {
        match self {
            Self::Active | Self::ReadOnly | Self::Paused => true,
            Self::Draining | Self::Suspended { .. } => false,
        }
    }
}

impl Tenant {
    /// Whether another version of it uses the same servers.
    #[must_use]
    pub fn lives_with(&self, other: &Self) -> bool {
        let place = |it: &Self| (it.cluster.name.clone(), it.database.clone(), it.user.clone());
        place(self) == place(other) && self.schema == other.schema
    }
}

/// `state` as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Active,
    ReadOnly,
    Paused,
    Draining,
    Suspended,
}

/// What may be written for them, in that order.
const STATES: [&str; 5] = ["active", "read_only", "paused", "draining", "suspended"];

impl State {
    fn parse(text: &str) -> Option<Self> {
        let all = [Self::Active, Self::ReadOnly, Self::Paused, Self::Draining, Self::Suspended];
        STATES.iter().position(|state| *state == text).map(|at| all[at])
    }

    fn name(self) -> &'static str {
        STATES[self as usize]
    }
}

/// `state` of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Availability {
    /// It may.
    Active,
    /// It may, and its transactions are read-only unless they say otherwise.
    ReadOnly,
    /// It may, and its transactions wait.
    Paused,
    /// It may not; its sessions end with their transactions.
    Draining,
    /// It may not; clients are told why.
    Suspended {
        /// `message`, the operator's words.
        message: Option<String>,
    },
}

/// What a tenant's clients may do to their sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// `guard`.
    pub guard: Guard,
    /// `on_session_state`.
    pub on_session_state: OnSessionState,
    /// Longest a session may keep its server between transactions.
    pub max_pin_time: Option<Duration>,
    /// How long its transactions may take.
    pub timeouts: Timeouts,
    /// Settings that are the tenant's: the search_path, the role, and those the operator named.
    pub guarded: Vec<GucName>,
}

/// `guard`: what happens to statements that set what belongs to the tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// They run.
    Off,
    /// They run, and are counted and logged.
    Audit,
    /// They are refused.
    Reject,
}

/// `on_session_state`: what happens to statements that tie a session to its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnSessionState {
    /// The session keeps its server.
    Pin,
    /// They are refused.
    Reject,
}

/// What a tenant may use; the names are those of the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quotas {
    /// Clients connected at once; one more is refused.
    pub max_client_connections: usize,
    /// Servers lent at once; one more client waits.
    pub max_server_connections: usize,
    /// Servers that nobody else gets while the tenant has clients.
    pub guaranteed_server_connections: usize,
    /// Its share of servers that are short, beside others' weights.
    pub weight: u32,
    /// Clients waiting at once; one more is refused.
    pub max_waiting_clients: usize,
    /// Longest wait for a server.
    pub query_wait_timeout: Duration,
    /// Clients that may come in a second; one more is refused.
    pub max_connection_rate: Option<u32>,
    /// Whether what exceeds them is refused.
    pub mode: QuotaMode,
}

/// `quota_mode`: what happens to what exceeds a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaMode {
    /// It is refused.
    Enforce,
    /// It is counted and logged, and goes on. Limits on servers hold all the same.
    Audit,
}

/// How long a tenant's transactions may take, by the pooler's own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timeouts {
    /// `transaction_timeout`: as a whole; then the session ends.
    pub transaction: Option<Duration>,
    /// `idle_transaction_timeout`: between two statements; then the session ends.
    pub idle_transaction: Option<Duration>,
    /// `query_timeout`: a statement; then it is cancelled.
    pub query: Option<Duration>,
}

impl Timeouts {
    /// Whether there is a limit.
    #[must_use]
    pub const fn any(&self) -> bool {
        self.transaction.is_some() || self.idle_transaction.is_some() || self.query.is_some()
    }

    /// The shortest of them.
    #[must_use]
    pub fn shortest(&self) -> Option<Duration> {
        [self.transaction, self.idle_transaction, self.query].into_iter().flatten().min()
    }
}

/// An effective setting and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// The setting's name.
    pub key: &'static str,
    /// Its value, templates filled in.
    pub value: String,
    /// The path of the layer that set it, or `default`.
    pub from: String,
}

/// The layers that apply to one tenant, and a record of who decided what.
struct Layers<'a> {
    layers: Vec<&'a Rules>,
    id: &'a TenantId,
    explained: Vec<Explained>,
}

impl<'a> Layers<'a> {
    fn pick<T: 'a>(
        &mut self,
        key: &'static str,
        get: impl Fn(&'a Rules) -> Option<&'a T>,
        show: impl Fn(&T) -> String,
    ) -> Option<&'a T> {
        let (value, from) = self.layers.iter().find_map(|l| Some((get(l)?, l.path.clone())))?;
        self.explained.push(Explained { key, value: show(value), from });
        Some(value)
    }

    fn text(
        &mut self,
        key: &'static str,
        get: impl Fn(&'a Rules) -> Option<&'a String>,
        default: Option<&str>,
    ) -> Option<String> {
        let id = self.id.clone();
        let fill = |text: &String| text.replace("{tenant}", id.as_str());
        match self.pick(key, get, fill) {
            Some(text) => Some(text.replace("{tenant}", self.id.as_str())),
            None => default.map(|value| self.default(key, value.to_owned(), Clone::clone)),
        }
    }

    fn quota<T: Clone + 'a>(
        &mut self,
        key: &'static str,
        get: impl Fn(&'a Rules) -> Option<&'a T>,
        default: T,
        show: impl Fn(&T) -> String,
    ) -> T {
        match self.pick(key, get, &show) {
            Some(value) => value.clone(),
            None => self.default(key, default, show),
        }
    }

    fn default<T>(&mut self, key: &'static str, value: T, show: impl Fn(&T) -> String) -> T {
        self.explained.push(Explained { key, value: show(&value), from: "default".to_owned() });
        value
    }
}

impl Config {
    /// The tenant of that name, if there is one.
    #[must_use]
    pub fn tenant(&self, id: &TenantId) -> Option<Tenant> {
        self.explain(id).map(|(tenant, _)| tenant)
    }

    /// The tenant, and for every setting which layer decided it.
    #[must_use]
    pub fn explain(&self, id: &TenantId) -> Option<(Tenant, Vec<Explained>)> {
        let mut layers = Layers { layers: self.layers(id)?, id, explained: Vec::new() };
        layers.pick("class", |l| l.class.as_ref(), String::clone);
        let only = self.clusters.keys().next().map(String::as_str);
        let cluster = layers.text("cluster", |l| l.cluster.as_ref(), only)?;
        let cluster = Arc::clone(self.clusters.get(&cluster)?);
        let database = layers.text("database", |l| l.database.as_ref(), Some(&cluster.database))?;
        let user = layers.text("user", |l| l.user.as_ref(), Some(&cluster.user))?;
        let own_login = user != cluster.user;
        let password = layers.pick("password", |l| l.password.as_ref(), |_| "***".to_owned());
        let password = match password {
            None if !own_login => cluster.password.clone(),
            password => password.cloned(),
        };
        let schema = layers.text("schema", |l| l.schema.as_ref(), None);
        let availability = availability(&mut layers);
        let (baseline, fixed_settings) = baseline(&mut layers, schema.as_deref(), &availability);
        let quotas = quotas(&mut layers, &cluster);
        let policy = policy(&mut layers, &fixed_settings);
        let id = id.clone();
        let tenant = Tenant {
            id,
            cluster,
            database,
            user,
            password,
            schema,
            baseline,
            fixed_settings,
            quotas,
            policy,
            availability,
        };
        Some((tenant, layers.explained))
    }

    /// Tenants that have a section of their own.
    pub(super) fn listed(&self) -> impl Iterator<Item = TenantId> {
        self.tenants.keys().filter_map(|name| self.tenancy.name_pattern.parse(name).ok())
    }

    /// The tenant's own entry, patterns it fits, each followed by its class, then `[tenancy]`.
    fn layers(&self, id: &TenantId) -> Option<Vec<&Rules>> {
        let fits = |rules: &&Rules| {
            rules.pattern.as_ref().is_some_and(|pattern| pattern.fit(id.as_str()).is_some())
        };
        let named = self.tenants.get(id.as_str());
        let registered = self.registered.get(id.as_str());
        let own: Vec<&Rules> =
            named.into_iter().chain(registered).chain(self.templates.iter().filter(fits)).collect();
        let listed = named.is_some() || registered.is_some();
        let exists = match self.tenancy.unknown {
            Unknown::Reject => listed,
            // A template makes no tenants of the schemas that every database has.
            Unknown::Template => listed || (!own.is_empty() && !is_everybodys(id)),
        };
        if !exists {
            return None;
        }
        let mut layers = Vec::new();
        for rules in own.into_iter().chain([&self.tenancy.rules]) {
            layers.push(rules);
            layers.extend(rules.class.as_ref().and_then(|class| self.classes.get(class)));
        }
        Some(layers)
    }
}

/// Names that are schemas, roles or databases of PostgreSQL's own.
fn is_everybodys(id: &TenantId) -> bool {
    let name = id.as_str();
    name.starts_with("pg_")
        || matches!(
            name,
            "public" | "information_schema" | "postgres" | "template0" | "template1" | "none"
        )
}

fn baseline(
    layers: &mut Layers<'_>,
    schema: Option<&str>,
    availability: &Availability,
) -> (SessionState, Vec<GucName>) {
    let id = layers.id.clone();
    let fill = |text: &String| text.replace("{tenant}", id.as_str());
    let fill_all = |list: &Vec<String>| list.iter().map(fill).collect::<Vec<_>>();
    let written =
        layers.pick("search_path", |l| l.search_path.as_ref(), |l| fill_all(l).join(", "));
    let search_path = match (written, schema) {
        (Some(list), _) => fill_all(list),
        (None, Some(schema)) => vec![schema.to_owned()],
        // PostgreSQL's own default: servers start with an empty path, see `Cluster::neutral`.
        (None, None) => vec!["$user".to_owned(), "public".to_owned()],
    };
    let role = layers.text("role", |l| l.role.as_ref(), None);
    let guc = GucName::new("search_path").expect("a name PostgreSQL has");
    let mut state =
        SessionState::default().with_role(role).with(guc, Value::Names(search_path.into()));
    let mut fixed = Vec::new();
    // Maps add up: a tenant's own settings lie over those of `[tenancy]`, name by name.
    for layer in layers.layers.iter().rev() {
        for (name, value) in layer.settings.iter().flatten() {
            state = state.with(name.clone(), Value::Text(fill(value).into_bytes().into()));
            fixed.push(name.clone());
        }
    }
    if *availability == Availability::ReadOnly {
        let guc = GucName::new("default_transaction_read_only").expect("a name PostgreSQL has");
        state = state.with(guc.clone(), Value::Text((*b"on").into()));
        fixed.push(guc);
    }
    let show = |map: &BTreeMap<GucName, String>| {
        map.iter().map(|(n, v)| format!("{n} = {}", fill(v))).collect::<Vec<_>>().join(", ")
    };
    layers.pick("settings", |l| l.settings.as_ref(), show);
    (state, fixed)
}

fn quotas(layers: &mut Layers<'_>, cluster: &Cluster) -> Quotas {
    let count = |n: &usize| n.to_string();
    Quotas {
        max_client_connections: layers.quota(
            "max_client_connections",
            |l| l.max_client_connections.as_ref(),
            1000,
            count,
        ),
        max_server_connections: layers.quota(
            "max_server_connections",
            |l| l.max_server_connections.as_ref(),
            cluster.max_server_connections,
            count,
        ),
        guaranteed_server_connections: layers.quota(
            "guaranteed_server_connections",
            |l| l.guaranteed_server_connections.as_ref(),
            0,
            count,
        ),
        weight: layers.quota("weight", |l| l.weight.as_ref(), 1, u32::to_string),
        max_waiting_clients: layers.quota(
            "max_waiting_clients",
            |l| l.max_waiting_clients.as_ref(),
            1000,
            count,
        ),
        query_wait_timeout: layers.quota(
            "query_wait_timeout",
            |l| l.query_wait_timeout.as_ref(),
            Duration::from_mins(2),
            |d| format!("{d:?}"),
        ),
        max_connection_rate: layers
            .pick("max_connection_rate", |l| l.max_connection_rate.as_ref(), u32::to_string)
            .copied(),
        mode: layers.quota(
            "quota_mode",
            |l| l.quota_mode.as_ref(),
            QuotaMode::Enforce,
            |mode| match mode {
                QuotaMode::Enforce => "enforce".to_owned(),
                QuotaMode::Audit => "audit".to_owned(),
            },
        ),
    }
}

fn timeouts(layers: &mut Layers<'_>) -> Timeouts {
    let show = |limit: &Duration| format!("{limit:?}");
    let mut pick = |key, get: fn(&Rules) -> Option<&Duration>| layers.pick(key, get, show).copied();
    Timeouts {
        transaction: pick("transaction_timeout", |l| l.transaction_timeout.as_ref()),
        idle_transaction: pick("idle_transaction_timeout", |l| l.idle_transaction_timeout.as_ref()),
        query: pick("query_timeout", |l| l.query_timeout.as_ref()),
    }
}

fn policy(layers: &mut Layers<'_>, fixed: &[GucName]) -> Policy {
    let name = |guard: &Guard| match guard {
        Guard::Off => "off".to_owned(),
        Guard::Audit => "audit".to_owned(),
        Guard::Reject => "reject".to_owned(),
    };
    let guard = layers.quota("guard", |l| l.guard.as_ref(), Guard::Off, name);
    let name = |on: &OnSessionState| match on {
        OnSessionState::Pin => "pin".to_owned(),
        OnSessionState::Reject => "reject".to_owned(),
    };
    let on_session_state = layers.quota(
        "on_session_state",
        |l| l.on_session_state.as_ref(),
        OnSessionState::Pin,
        name,
    );
    let max_pin_time =
        layers.pick("max_pin_time", |l| l.max_pin_time.as_ref(), |d| format!("{d:?}")).copied();
    let own = ["search_path", "role"].map(|name| GucName::new(name).expect("PostgreSQL has it"));
    let guarded = own.into_iter().chain(fixed.iter().cloned()).collect();
    Policy { guard, on_session_state, max_pin_time, timeouts: timeouts(layers), guarded }
}

fn availability(layers: &mut Layers<'_>) -> Availability {
    let show = |state: &State| state.name().to_owned();
    let state = layers.quota("state", |l| l.state.as_ref(), State::Active, show);
    let message = layers.pick("message", |l| l.message.as_ref(), String::clone);
    match state {
        State::Active => Availability::Active,
        State::ReadOnly => Availability::ReadOnly,
        State::Paused => Availability::Paused,
        State::Draining => Availability::Draining,
        State::Suspended => Availability::Suspended { message: message.cloned() },
    }
}
