//! `[databases]`: clusters by host and port, and a tenant for each entry.

use std::collections::BTreeMap;

use super::access::is_plain;
use super::convert::{NEVER, Notes, Secrets, max_clients, or_never};
use super::ini::{Ini, Pairs};
use super::settings::{seconds, whole};
use super::write::{Section, text, texts};

/// PgBouncer's default.
const POOL_SIZE: u64 = 20;

/// One PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    hosts: Vec<String>,
    port: u64,
    lifetime: Option<String>,
    attrs: Option<String>,
}

/// What is known of a place.
#[derive(Default)]
struct Cluster {
    name: String,
    servers: u64,
    roles: BTreeMap<String, usize>,
    /// Some entries have no role: nobody's is theirs.
    lacks_roles: bool,
    /// The databases of its entries, the first one first.
    databases: Vec<String>,
}

/// All of them.
pub(super) struct Clusters {
    places: Vec<(Place, Cluster)>,
    max_clients: u64,
    /// One that every PostgreSQL has and no entry is called by.
    own_database: &'static str,
}

pub(super) fn get<'a>(pairs: &'a Pairs, key: &str) -> Option<&'a str> {
    pairs.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
}

impl Clusters {
    pub(super) const fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether all entries lead to one database.
    pub(super) fn is_one_database(&self) -> bool {
        let [(_, cluster)] = self.places.as_slice() else { return false };
        cluster.databases.iter().all(|name| *name == cluster.databases[0])
            && cluster.databases.iter().all(|name| name != "{tenant}")
    }

    /// The cluster and the name of a database; without one, of the first.
    pub(super) fn where_is(&self, database: Option<&str>) -> (String, String) {
        let has = |cluster: &&Cluster| {
            database.is_none_or(|name| cluster.databases.iter().any(|it| it == name))
        };
        let found = self.places.iter().map(|(_, cluster)| cluster).find(has);
        let found = found.or_else(|| self.places.first().map(|(_, cluster)| cluster));
        let name = found.map_or("main", |cluster| cluster.name.as_str()).to_owned();
        let first = found.and_then(|cluster| cluster.databases.first().cloned());
        (name, database.map(str::to_owned).or(first).unwrap_or_else(|| "postgres".to_owned()))
    }

    pub(super) fn sections(&self, ini: &Ini) -> Vec<Section> {
        self.places.iter().map(|(place, cluster)| self.section(place, cluster, ini)).collect()
    }

    fn section(&self, place: &Place, cluster: &Cluster, ini: &Ini) -> Section {
        let mut section = Section::named("clusters", &cluster.name);
        match place.hosts.as_slice() {
            [host] => section.set("host", text(host)),
            hosts => section.set("host", texts(hosts)),
        }
        section.set("port", place.port);
        if let Some(attrs) = &place.attrs {
            section.set("target_session_attrs", text(attrs));
        }
        match cluster.roles.iter().max_by_key(|(_, count)| **count) {
            Some((role, _)) if !cluster.lacks_roles => {
                section.set_why("user", text(role), "each tenant has its own below");
            }
            _ => section.comment("user = \"...\"  # as whom do tenants log in that have no user below? `tenantry check` asks for it"),
        }
        section.set_why("database", text(self.own_database), "the same; this name is no tenant's");
        let servers = cluster.servers.clamp(1, self.max_clients);
        section.set_why(
            "max_server_connections",
            servers,
            "of all tenants together: less than PostgreSQL's max_connections",
        );
        let lifetime = place.lifetime.clone().or_else(|| seconds(ini.text("server_lifetime")?));
        if let Some(lifetime) = lifetime {
            section.set("server_lifetime", lifetime);
        }
        if let Some(idle) = ini.text("server_idle_timeout").and_then(or_never) {
            section.set("server_idle_timeout", idle);
        }
        if let Some(limit) = ini.text("server_connect_timeout").and_then(seconds) {
            section.set(
                "server_connect_timeout",
                if limit == "0" { "\"1h\"".to_owned() } else { limit },
            );
        }
        let never_asked = ini.settings.get("server_check_query").is_some_and(String::is_empty);
        let delay = ini.text("server_check_delay").and_then(seconds);
        match delay {
            _ if never_asked => {
                section.set_why("server_check_delay", NEVER, "server_check_query is empty");
            }
            Some(delay) if delay == "0" => {
                section.set_why(
                    "server_check_delay",
                    1,
                    "PgBouncer's 0 asks before each use; here it is once a second of rest",
                );
            }
            Some(delay) => section.set("server_check_delay", delay),
            None => {}
        }
        section
    }

    fn at(&mut self, place: &Place) -> &mut Cluster {
        let at = self.places.iter().position(|(known, _)| known == place);
        let at = at.unwrap_or_else(|| {
            self.places.push((place.clone(), Cluster::default()));
            self.places.len() - 1
        });
        &mut self.places[at].1
    }
}

/// Clusters, and the sections `[tenancy]` and `[tenants.<name>]`.
pub(super) fn databases(
    ini: &Ini,
    secrets: &Secrets,
    notes: &mut Notes,
) -> (Clusters, Vec<Section>) {
    let is_free = |own: &&&str| !ini.databases.iter().any(|(name, _)| name == **own);
    let own_database = ["template1", "postgres", "template0"].iter().find(is_free);
    let mut clusters = Clusters {
        places: Vec::new(),
        max_clients: max_clients(ini),
        own_database: own_database.copied().unwrap_or("template1"),
    };
    let entries = ini.databases.iter().filter(|entry| can_be_written(entry, notes));
    let entries: Vec<&(String, Pairs)> = entries.collect();
    let entries = entries.into_iter().map(|entry| Entry::new(entry, ini, secrets, notes));
    let entries: Vec<Entry<'_>> = entries.collect();
    for entry in &entries {
        let cluster = clusters.at(&entry.place);
        cluster.servers += entry.servers;
        cluster.databases.push(entry.database.clone());
        match &entry.role {
            Some(role) => *cluster.roles.entry(role.clone()).or_default() += 1,
            None => cluster.lacks_roles = true,
        }
    }
    if entries.is_empty() {
        notes.decide("[databases] is empty: there is no PostgreSQL to connect to");
    }
    let one = clusters.len() == 1;
    for (number, (_, cluster)) in clusters.places.iter_mut().enumerate() {
        cluster.name = if one { "main".to_owned() } else { format!("pg{}", number + 1) };
    }
    let any = entries.iter().find(|entry| entry.name == "*");
    let mut sections = vec![tenancy(ini, &entries, &mut clusters)];
    for entry in &entries {
        let cluster = clusters.at(&entry.place).name.clone();
        sections.push(entry.section(&cluster, any, notes));
    }
    (clusters, sections)
}

/// Whether an entry means the same here. What does not is left out: it would lead clients elsewhere.
fn can_be_written((name, pairs): &(String, Pairs), notes: &mut Notes) -> bool {
    let is_filled_in = |key: &str| get(pairs, key).is_some_and(|value| value.contains("{tenant}"));
    if name.contains('*') && name != "*" {
        notes
            .decide(format!("[databases] {name}: a name with * is a pattern here; it is left out"));
        return false;
    }
    if is_filled_in("dbname") || is_filled_in("user") {
        notes.decide(format!(
            "[databases] {name}: \"{{tenant}}\" stands for the tenant's name here; it is left out"
        ));
        return false;
    }
    if name == "tenantry" {
        notes
            .decide("[databases] tenantry: no client gets there by this name: it is the console's");
    }
    if name == "*" {
        notes.decide("[databases] *: postgres, template0, template1, public and names that begin with pg_ are no tenants by a pattern: list those that are used");
    }
    true
}

fn tenancy(ini: &Ini, entries: &[Entry<'_>], clusters: &mut Clusters) -> Section {
    let mut tenancy = Section::new("tenancy");
    tenancy.set("tenant_from", texts(["database"]));
    let is_lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    let any = entries.iter().find(|entry| entry.name == "*");
    if any.is_some() || entries.iter().any(|entry| !entry.name.chars().all(is_lower)) {
        tenancy.set("name_pattern", "'[A-Za-z0-9_.-]{1,63}'");
    }
    if any.is_some() {
        tenancy.set_why("unknown", text("template"), "\"*\" in [databases]");
    }
    if let Some(first) = any.or(entries.first()) {
        tenancy.set("cluster", text(&clusters.at(&first.place).name.clone()));
    }
    let clients = max_clients(ini);
    tenancy.set_why(
        "max_client_connections",
        clients,
        "PgBouncer limits all clients together only",
    );
    tenancy.set("max_waiting_clients", clients);
    match ini.text("query_wait_timeout").and_then(or_never) {
        Some(limit) => tenancy.set_why(
            "query_wait_timeout",
            limit,
            "then an error; the client stays, where PgBouncer disconnects it",
        ),
        None => tenancy.set("query_wait_timeout", 120),
    }
    let limit = |key| ini.text(key).and_then(seconds).filter(|limit| limit != "0");
    for key in ["query_timeout", "transaction_timeout"] {
        if let Some(limit) = limit(key) {
            tenancy.set(key, limit);
        }
    }
    match limit("idle_transaction_timeout") {
        Some(limit) => tenancy.set("idle_transaction_timeout", limit),
        None => tenancy.set_why("idle_transaction_timeout", 0, "PgBouncer's default: no limit"),
    }
    tenancy
}

/// One entry of `[databases]`.
struct Entry<'a> {
    name: &'a str,
    pairs: &'a Pairs,
    place: Place,
    database: String,
    /// The login role; `None`: PgBouncer logs in as the client.
    role: Option<String>,
    password: Password,
    servers: u64,
}

/// How its role logs in.
#[derive(PartialEq, Eq)]
enum Password {
    Plain(String),
    /// By the keys of the first client of that name, or not at all.
    None,
}

impl<'a> Entry<'a> {
    fn new(
        (name, pairs): &'a (String, Pairs),
        ini: &Ini,
        secrets: &Secrets,
        notes: &mut Notes,
    ) -> Self {
        let directory = ini.text("unix_socket_dir").unwrap_or("/tmp");
        let hosts =
            get(pairs, "host").unwrap_or(directory).split(',').map(|host| host.trim().to_owned());
        let hosts: Vec<String> = hosts.collect();
        if hosts.len() > 1 && get(pairs, "load_balance_hosts").is_none_or(|how| how != "disable") {
            notes.decide(format!("[databases] {name}: PgBouncer spreads its servers over {}; here the first that is there is taken: make a cluster of each, or put a balancer in front", hosts.join(", ")));
        }
        let attrs = match get(pairs, "target_session_attrs") {
            Some("primary" | "read-write") => Some("primary".to_owned()),
            Some("any") | None => None,
            Some(other) => {
                notes.decide(format!("[databases] {name}: target_session_attrs = {other}: name the hosts that are such"));
                None
            }
        };
        let (role, password) = login(name, pairs, ini, secrets, notes);
        let place = Place {
            hosts,
            port: get(pairs, "port").and_then(whole).unwrap_or(5432),
            lifetime: get(pairs, "server_lifetime").and_then(seconds),
            attrs,
        };
        let database = if name == "*" { "{tenant}" } else { name };
        let database = get(pairs, "dbname").unwrap_or(database).to_owned();
        Self { name, pairs, place, database, role, password, servers: servers(pairs, ini) }
    }

    /// Everything is written: `[tenants."*"]` reaches all tenants.
    fn section(&self, cluster: &str, any: Option<&Entry<'_>>, notes: &mut Notes) -> Section {
        let mut section = Section::named("tenants", self.name);
        section.set("cluster", text(cluster));
        section.set("database", text(&self.database));
        let query = get(self.pairs, "connect_query");
        if let Some(query) = query.filter(|_| self.role.is_some()) {
            // It may be what kept clients from something.
            notes.decide(format!("[databases] {}: connect_query = {query}: no statement is run on a new connection; it is suspended until you have put that into tenants.<name>.settings, or ALTER ROLE ... IN DATABASE ... SET, and taken state away", self.name));
            section.set("user", text(self.role.as_deref().unwrap_or_default()));
            suspend(&mut section, "the pooler's operator has to put connect_query elsewhere");
        }
        match &self.role {
            Some(_) if query.is_some() => {}
            Some(role) => {
                section.set("user", text(role));
                if any.is_some_and(|any| any.role.is_none()) {
                    section.set_why("state", text("active"), "whatever [tenants.\"*\"] says");
                }
            }
            None => {
                section.comment("user = \"...\"  # who is it? Until then:");
                suspend(
                    &mut section,
                    "the pooler's operator has to name the role of this database",
                );
            }
        }
        match &self.password {
            Password::Plain(password) => section.set("password", text(password)),
            Password::None => {
                let inherits =
                    any.is_some_and(|any| any.password != Password::None && any.name != self.name);
                if inherits {
                    notes.decide(format!("[tenants.{}] has no password and would log in by that of [tenants.\"*\"]: set its own", self.name));
                }
            }
        }
        section.set("max_server_connections", self.servers);
        if let Some(limit) =
            get(self.pairs, "max_db_client_connections").and_then(whole).filter(|n| *n > 0)
        {
            section.set("max_client_connections", limit);
        }
        if let Some(limit) = get(self.pairs, "query_wait_timeout").and_then(or_never) {
            section.set("query_wait_timeout", limit);
        }
        if let Some(mode) = get(self.pairs, "pool_mode") {
            section.comment(&format!("pool_mode = {mode}: see [users], it is a user's here"));
            notes.decide(format!("[databases] {}: pool_mode = {mode}: it is a user's here, users.<name>.pool_mode, or options=-c tenantry.pool_mode={mode} in the client's URL", self.name));
        }
        section
    }
}

/// Nobody comes until the operator has decided.
fn suspend(section: &mut Section, why: &str) {
    section.set("state", text("suspended"));
    section.set("message", text(why));
}

/// Of one entry: what PgBouncer would open for it under load.
fn servers(pairs: &Pairs, ini: &Ini) -> u64 {
    let own = |key: &str| get(pairs, key).and_then(whole);
    let size = own("pool_size").or_else(|| ini.count("default_pool_size")).unwrap_or(POOL_SIZE);
    let reserve = own("reserve_pool_size").or_else(|| own("reserve_pool"));
    let reserve = reserve.or_else(|| ini.count("reserve_pool_size")).unwrap_or(0);
    let limit = own("max_db_connections").or_else(|| ini.count("max_db_connections")).unwrap_or(0);
    let all = (size + reserve).max(1);
    if limit > 0 { all.min(limit) } else { all }
}

/// The role that logs in, and its password.
fn login(
    name: &str,
    pairs: &Pairs,
    ini: &Ini,
    secrets: &Secrets,
    notes: &mut Notes,
) -> (Option<String>, Password) {
    let operators = [ini.list("admin_users"), ini.list("stats_users")].concat();
    let clients: Vec<&str> = secrets
        .iter()
        .map(|(user, _)| user.as_str())
        .filter(|user| !operators.contains(user) && ini.text("auth_user") != Some(user))
        .collect();
    let role = match (get(pairs, "user"), clients.as_slice()) {
        (Some(user), _) => user,
        // Nobody else can have been it.
        (None, [only]) if ini.text("auth_query").is_none() && ini.text("auth_user").is_none() => {
            only
        }
        (None, clients) => {
            let hint =
                if clients.contains(&name) { format!("; perhaps {name}") } else { String::new() };
            notes.decide(format!("[databases] {name} has no user: PgBouncer logs in as the client, Tenantry as one role for all of a tenant's clients. It is suspended until you name that role in [tenants.{name}]{hint}, and its cluster has no user, which check asks for: no role is guessed"));
            return (None, Password::None);
        }
    };
    let own = get(pairs, "password");
    let listed = secrets.iter().find(|(user, _)| user == role).map(|(_, secret)| secret.as_str());
    let password = match (own, listed) {
        (Some(password), _) => Password::Plain(password.to_owned()),
        (None, Some(secret)) if is_plain(secret) => Password::Plain(secret.to_owned()),
        (None, Some(secret)) if secret.starts_with("SCRAM-SHA-256$") => {
            // The first client that logs in by that name lends its keys, as in PgBouncer.
            Password::None
        }
        (None, Some(_)) => {
            notes.decide(format!("[databases] {name}: the secret of {role} in auth_file is an md5 hash, or cannot be written here; it logs nobody in to PostgreSQL: set password in [tenants.{name}]"));
            Password::None
        }
        (None, None) => Password::None,
    };
    (Some(role.to_owned()), password)
}
