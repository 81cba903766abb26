//! From the text of a file to a checked [`Config`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::{Table, Value};

use super::fault::{ConfigError, Fault};
use super::read::{Context, Section};
use super::rules::Rules;
use super::{
    Admin, AuthMethod, Cluster, Config, General, Listen, ListenAddress, PoolMode, Scrub, Sources,
    TlsMode, Users, clusters, http, include, lengths, registry, tenancy, tls, users,
};
use crate::tenant::{GucName, WildcardPattern};

/// PgBouncer's port, which everybody expects a pooler on.
const PORT: u16 = 6432;

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`] with every fault in it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::File { path: path.display().to_string(), source })?;
        let directory = path.parent().map(Path::to_path_buf).unwrap_or_default();
        let mut config = Self::parse(&text, directory)?;
        config.sources.files.insert(path.to_owned());
        Ok(config)
    }

    /// Checks a text; relative paths in it start at `directory`.
    ///
    /// # Errors
    /// [`ConfigError`] with every fault in it.
    pub fn parse(text: &str, directory: PathBuf) -> Result<Self, ConfigError> {
        let table: Table = text.parse()?;
        let context = Context { directory, ..Context::default() };
        let table = include::merge(table, &context);
        let mut config = read(&Section::root(&table, &context), &table);
        let (files, patterns) = (context.files.take(), context.patterns.take());
        config.sources = Sources { files, patterns };
        context.faults.into_result(config)
    }
}

#[cfg(test)]
impl Config {
    /// Keys that are asked for when a text is read, and where.
    pub(super) fn asked(text: &str) -> BTreeSet<(String, &'static str)> {
        let table: Table = text.parse().unwrap();
        let context = Context::default();
        let table = include::merge(table, &context);
        read(&Section::root(&table, &context), &table);
        context.asked.take()
    }
}

fn read(root: &Section<'_>, table: &Table) -> Config {
    let general = general(root.section("general"));
    let tls_section = root.section("tls");
    let client_tls = tls::client(tls_section.section("client"));
    let server_tls = tls::server(tls_section.section("server"));
    tls_section.finish();
    let users = users::read(root.section("auth"), &root.section("users"));
    let class_section = root.section("classes");
    let classes = classes(&class_section);
    let tenants = tenants(&root.section("tenants"));
    let tenancy_section = root.section("tenancy");
    let rules = Rules::read(&tenancy_section).located("tenancy".to_owned(), None);
    let (named, templates) = tenants;
    let all = || named.values().chain(&templates).chain([&rules]).chain(classes.values());
    let neutral: BTreeSet<GucName> = all().flat_map(Rules::setting_names).cloned().collect();
    let clusters = clusters::read(&root.section("clusters"), &server_tls, &neutral);
    for layer in all() {
        check_names(layer, &clusters, &classes, root);
    }
    if users.method == AuthMethod::Cert && client_tls.mode < TlsMode::VerifyCa {
        root.context
            .faults
            .add("auth.type".to_owned(), "cert needs tls.client.mode verify-ca or verify-full");
    }
    if let Some(query) = &users.query {
        let known = match &query.cluster {
            Some(name) => clusters.contains_key(name),
            None => clusters.len() == 1,
        };
        if !known {
            root.context
                .faults
                .add("auth.cluster".to_owned(), "name the cluster that auth.query runs on");
        }
    }
    let tenancy = tenancy::read(tenancy_section, rules, &clusters);
    let admin = admin(root.section("admin"), &users);
    let http = http::read(root.section("http"));
    let registry = registry::read(root.section("registry"), &clusters);
    let known = [
        "include", "general", "tls", "auth", "users", "classes", "tenants", "tenancy", "clusters",
        "registry", "admin", "http",
    ];
    for key in table.keys().filter(|key| !known.contains(&key.as_str())) {
        root.fault(key, format!("unknown section; known are {}", known.join(", ")));
    }
    let sources = Sources::default();
    let config = Config {
        general,
        client_tls,
        clusters,
        users,
        tenancy,
        tenants: named,
        templates,
        classes,
        admin,
        http,
        registry,
        registered: HashMap::new(),
        overrides: Arc::default(),
        overridden: HashMap::new(),
        sources,
        written: Arc::new(written(table)),
    };
    check_guarantees(&config, root);
    lengths::check(&config, root);
    config
}

/// What is written in sections of which there are few.
fn written(table: &Table) -> Table {
    let few = |(name, _): &(&String, &Value)| !matches!(name.as_str(), "tenants" | "users");
    table.iter().filter(few).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn admin(section: Section<'_>, users: &Users) -> Admin {
    let names = |key: &'static str| {
        let names = section.strings(key).unwrap_or_default();
        for name in &names {
            // A user that only auth.query knows has to be listed all the same.
            if users.get(name).is_none() {
                section.fault(key, format!("there is no section [users.{name}]"));
            } else if users.asks_for_secrets() && users.secret(name).is_none() {
                let problem = format!(
                    "{name} has no password here or in auth.file: whoever may write what auth.query reads could become an operator"
                );
                section.fault(key, problem);
            }
        }
        names
    };
    let admin = Admin { users: names("users"), stats_users: names("stats_users") };
    section.finish();
    admin
}

/// What tenants listed by name are guaranteed must leave something to the others.
fn check_guarantees(config: &Config, root: &Section<'_>) {
    let rules = config.tenants.values().chain(&config.templates).chain(config.classes.values());
    if !{ rules }.any(Rules::guarantees) {
        return;
    }
    for fault in config.over_promised().into_iter().map(over_promise) {
        root.context.faults.add(fault.path, fault.problem);
    }
}

/// A cluster whose tenants are guaranteed too much.
pub(super) fn over_promise((name, (sum, max)): (String, (usize, usize))) -> Fault {
    let problem = format!(
        "{max}, but guaranteed_server_connections of its tenants add up to {sum}: at least one must be left to the others"
    );
    Fault { path: format!("clusters.{name}.max_server_connections"), problem }
}

impl Config {
    /// Clusters whose tenants, listed or in the registry, are guaranteed all servers or more: how many, of
    /// how many.
    pub(super) fn over_promised(&self) -> BTreeMap<String, (usize, usize)> {
        let mut sums: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for tenant in self.listed().filter_map(|id| self.tenant(&id)) {
            let max = tenant.cluster.max_server_connections;
            let (sum, _) = sums.entry(tenant.cluster.name.clone()).or_insert((0, max));
            *sum += tenant.quotas.guaranteed_server_connections;
        }
        sums.retain(|_, (sum, max)| *sum > 0 && sum >= max);
        sums
    }
}

fn general(section: Section<'_>) -> General {
    let general = General {
        listen: listen(&section),
        unix_socket_mode: section
            .get("unix_socket_mode", "octal digits as text, such as \"0770\"", |value| {
                let mode = u32::from_str_radix(value.as_str()?, 8).ok()?;
                (mode <= 0o777).then_some(mode)
            })
            .unwrap_or(0o777),
        pool_mode: users::pool_mode(&section).unwrap_or(PoolMode::Transaction),
        absorb: section.get("absorb", "true or false", Value::as_bool).unwrap_or(true),
        max_prepared_statements: section.count("max_prepared_statements", 0).unwrap_or(200),
        max_client_conn: section.count("max_client_conn", 1).unwrap_or(10_000),
        workers: workers(&section),
        scrub: section
            .get("scrub", "tenant or client", |value| match value.as_str()? {
                "tenant" => Some(Scrub::Tenant),
                "client" => Some(Scrub::Client),
                _ => None,
            })
            .unwrap_or(Scrub::Tenant),
        watch: section.get("watch", "true or false", Value::as_bool).unwrap_or(false),
        application_name_add_tenant: section
            .get("application_name_add_tenant", "true or false", Value::as_bool)
            .unwrap_or(false),
        shutdown_timeout: section.duration("shutdown_timeout").unwrap_or(Duration::from_secs(30)),
    };
    section.finish();
    general
}

fn workers(section: &Section<'_>) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers =
        section.get("workers", "a number from 1 to 64, or \"auto\"", |value| match value {
            Value::String(text) => (text == "auto").then_some(cores),
            Value::Integer(n) => usize::try_from(*n).ok().filter(|n| (1..=64).contains(n)),
            _ => None,
        });
    workers.unwrap_or(1)
}

fn listen(section: &Section<'_>) -> Vec<Listen> {
    let Some(value) = section.value("listen") else {
        let address = ListenAddress::Tcp(([127, 0, 0, 1], PORT).into());
        return vec![Listen { address, tenant: None }];
    };
    let entries = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let port =
        entries.iter().find_map(|e| tcp(e.as_str().or_else(|| e.get("address")?.as_str())?));
    let port = port.map_or(PORT, |address| address.port());
    let mut listen = Vec::new();
    for entry in entries {
        let (text, tenant) = match entry {
            Value::String(text) => (Some(text.as_str()), None),
            Value::Table(table) => {
                for key in table.keys().filter(|k| !matches!(k.as_str(), "address" | "tenant")) {
                    section
                        .fault("listen", format!("unknown key {key:?}; known are address, tenant"));
                }
                (
                    table.get("address").and_then(Value::as_str),
                    table.get("tenant").and_then(Value::as_str),
                )
            }
            _ => (None, None),
        };
        match text.and_then(|text| address(text, port)) {
            Some(address) => listen.push(Listen { address, tenant: tenant.map(str::to_owned) }),
            None => section.fault(
                "listen",
                format!("expected \"host:port\", \"unix:/directory\" or {{ address, tenant }}, got {entry}"),
            ),
        }
    }
    if listen.is_empty() {
        section.fault("listen", "no usable address");
    }
    listen
}

pub(super) fn tcp(text: &str) -> Option<std::net::SocketAddr> {
    if text.starts_with("unix:") { None } else { text.to_socket_addrs().ok()?.next() }
}

fn address(text: &str, port: u16) -> Option<ListenAddress> {
    let Some(path) = text.strip_prefix("unix:") else { return tcp(text).map(ListenAddress::Tcp) };
    let path = Path::new(path);
    if !path.is_absolute() {
        return None;
    }
    // A directory, as PgBouncer's unix_socket_dir; or the socket itself, by the name libpq looks for.
    let is_socket = path.file_name()?.to_str()?.starts_with(".s.PGSQL.");
    let socket = if is_socket { path.to_owned() } else { path.join(format!(".s.PGSQL.{port}")) };
    Some(ListenAddress::Unix(socket))
}

fn classes(section: &Section<'_>) -> BTreeMap<String, Rules> {
    let mut classes = BTreeMap::new();
    for (name, class) in section.children() {
        let rules = Rules::quotas(&class).located(section.at(name), None);
        class.finish();
        classes.insert(name.to_owned(), rules);
    }
    classes
}

/// Those with a name, and those with a pattern, the most specific first.
fn tenants(section: &Section<'_>) -> (HashMap<String, Rules>, Vec<Rules>) {
    let (mut named, mut templates) = (HashMap::new(), Vec::new());
    for (name, tenant) in section.children() {
        let pattern = WildcardPattern::new(name);
        if pattern.is_none() {
            section.fault(name, "a pattern has at most one \"*\"");
        }
        let is_name = pattern.as_ref().is_some_and(WildcardPattern::is_exact);
        let rules = Rules::read(&tenant).with_state(&tenant).located(section.at(name), pattern);
        tenant.finish();
        if is_name {
            named.insert(name.to_owned(), rules);
        } else {
            templates.push(rules);
        }
    }
    let rank = |rules: &Rules| rules.pattern.as_ref().map_or(0, WildcardPattern::fit_rank);
    templates.sort_by_key(|rules| std::cmp::Reverse(rank(rules)));
    (named, templates)
}

pub(super) fn check_names(
    layer: &Rules,
    clusters: &BTreeMap<String, Arc<Cluster>>,
    classes: &BTreeMap<String, Rules>,
    root: &Section<'_>,
) {
    let add = |key: &str, problem: String| {
        root.context.faults.add(format!("{}.{key}", layer.path), problem);
    };
    match &layer.class {
        Some(class) if !classes.contains_key(class) => add("class", format!("no class {class:?}")),
        _ => {}
    }
    match &layer.cluster {
        Some(name) if !clusters.contains_key(name) => {
            add("cluster", format!("no cluster {name:?}"));
        }
        _ => {}
    }
}
