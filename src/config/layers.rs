//! Rules in layers, the most specific first, resolved into a [`Tenant`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::rules::{Rules, State};
use super::tenant::{
    Availability, Explained, Guard, OnSessionState, Policy, QuotaMode, Quotas, ServerSharing,
    Tenant, Timeouts,
};
use super::{Cluster, Config, Unknown};
use crate::tenant::{GucName, SessionState, TenantId, Value};

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
        let state = self.overrides.state_of(&database);
        let state = state.filter(|_| !self.overrides.has_state(id.as_str()));
        let availability = availability(&mut layers, state.map(|state| (state, &*database)));
        let (baseline, fixed_settings) = baseline(&mut layers, schema.as_deref(), &availability);
        let server_sharing = sharing(&mut layers);
        let servers = self.servers_of_one(&cluster);
        let quotas = quotas(&mut layers, servers);
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
            server_sharing,
            quotas,
            policy,
            availability,
        };
        Some((tenant, layers.explained))
    }

    /// `max_server_connections` of a tenant, if it is not set: all but one, which is left to the others, if there may be
    /// others.
    fn servers_of_one(&self, cluster: &Cluster) -> usize {
        let is_alone =
            self.tenants.len() == 1 && self.templates.is_empty() && self.registry.is_none();
        let left = usize::from(!is_alone);
        (cluster.max_server_connections - left).max(1)
    }

    /// Tenants that have a section of their own.
    pub(super) fn listed(&self) -> impl Iterator<Item = TenantId> {
        let names = self.tenants.keys().chain(self.registered.keys());
        names.filter_map(|name| self.tenancy.name_pattern.parse(name).ok())
    }

    /// What was set on the console, the tenant's own entry, patterns it fits, each followed by its class, then `[tenancy]`.
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
        let overridden = self.overridden.get(id.as_str());
        for rules in overridden.into_iter().chain(own).chain([&self.tenancy.rules]) {
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

fn sharing(layers: &mut Layers<'_>) -> ServerSharing {
    let name = |sharing: &ServerSharing| match sharing {
        ServerSharing::All => "all".to_owned(),
        ServerSharing::Tenant => "tenant".to_owned(),
    };
    layers.quota("server_sharing", |l| l.server_sharing.as_ref(), ServerSharing::All, name)
}

/// `query_wait_timeout`, if it is not set: who waits longer has mostly lost its own client.
const QUERY_WAIT_TIMEOUT: Duration = Duration::from_secs(30);
/// `idle_transaction_timeout`, if it is not set: a transaction that somebody forgot keeps a server no longer.
const IDLE_TRANSACTION_TIMEOUT: Duration = Duration::from_mins(1);

fn quotas(layers: &mut Layers<'_>, servers: usize) -> Quotas {
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
            servers,
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
            QUERY_WAIT_TIMEOUT,
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
    let idle = layers.quota(
        "idle_transaction_timeout",
        |l| l.idle_transaction_timeout.as_ref(),
        IDLE_TRANSACTION_TIMEOUT,
        show,
    );
    let mut pick = |key, get: fn(&Rules) -> Option<&Duration>| layers.pick(key, get, show).copied();
    // 0 is no limit, as in PostgreSQL and PgBouncer.
    let limit = |limit: Option<Duration>| limit.filter(|limit| !limit.is_zero());
    Timeouts {
        transaction: limit(pick("transaction_timeout", |l| l.transaction_timeout.as_ref())),
        idle_transaction: limit(Some(idle)),
        query: limit(pick("query_timeout", |l| l.query_timeout.as_ref())),
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

/// As an operator has said of the database, or as is written.
fn availability(layers: &mut Layers<'_>, said: Option<(State, &str)>) -> Availability {
    let show = |state: &State| state.name().to_owned();
    let state = match said {
        Some((state, database)) => {
            let from = format!("console, database {database}");
            layers.explained.push(Explained { key: "state", value: show(&state), from });
            state
        }
        None => layers.quota("state", |l| l.state.as_ref(), State::Active, show),
    };
    let message = layers.pick("message", |l| l.message.as_ref(), String::clone);
    match state {
        State::Active => Availability::Active,
        State::ReadOnly => Availability::ReadOnly,
        State::Paused => Availability::Paused,
        State::Draining => Availability::Draining,
        State::Suspended => Availability::Suspended { message: message.cloned() },
    }
}
