//! Every key of the file: where it stands, what it takes, what holds without it. `docs/configuration.md` and
//! `SHOW CONFIG` are made of this; a test fails when it and the code that reads the file disagree.

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its section; `<name>` stands for any name. Empty: above all sections.
    pub section: &'static str,
    /// The key.
    pub name: &'static str,
    /// What it takes.
    pub takes: &'static str,
    /// What holds without it; empty: nothing.
    pub default: &'static str,
    /// What it is for.
    pub what: &'static str,
}

impl Key {
    /// Whether a reload takes it over. What listens, and how many threads there are, stays.
    #[must_use]
    pub fn is_reloaded(&self) -> bool {
        !matches!(self.section, "general" | "http")
    }

    /// Whether its value is not to be shown.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.name.starts_with("password")
    }
}

const fn key(
    section: &'static str,
    name: &'static str,
    takes: &'static str,
    default: &'static str,
    what: &'static str,
) -> Key {
    Key { section, name, takes, default, what }
}

/// In the order of `deploy/tenantry.toml`.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("", "include", "list of patterns", "[]", "more files, such as `tenants.d/*.toml`; no key may be given twice"),
    key("general", "listen", "address, or list of them", "127.0.0.1:6432", "where clients connect: `host:port`, `unix:/directory`, or `{ address = ..., tenant = ... }`"),
    key("general", "unix_socket_mode", "octal digits", "0777", "rights of the unix socket's file; its directory's count too"),
    key("general", "pool_mode", "session, transaction", "transaction", "when a client gives its server back, unless its user says otherwise"),
    key("general", "max_client_conn", "number", "10000", "clients of all tenants together; one more is refused (53300)"),
    key("general", "absorb", "true, false", "true", "a lone SET of search_path, application_name or a tenant's setting is answered without a server"),
    key("general", "max_prepared_statements", "number", "200", "statements that a server keeps prepared for clients; 0: clients that prepare keep their server instead"),
    key("general", "application_name_add_tenant", "true, false", "false", "sessions begin with `<tenant>: <application>` as application_name, so that pg_stat_activity can be read by tenant"),
    key("general", "workers", "1 to 64, auto", "1", "threads that may serve clients; as many do as have to; auto: one a core"),
    key("general", "scrub", "tenant, client", "tenant", "at which handover a server is scrubbed although nothing is known to be left on it"),
    key("general", "watch", "true, false", "false", "read the configuration again when one of its files changes; follows a ConfigMap's links"),
    key("general", "shutdown_timeout", "duration", "30s", "how long SIGTERM lets transactions finish"),
    key("tls.client", "mode", "disable, prefer, require, verify-ca, verify-full", "prefer with a cert, else disable", "TLS towards clients"),
    key("tls.client", "cert", "path", "", "the pooler's certificate (PEM)"),
    key("tls.client", "key", "path", "", "its private key (PEM)"),
    key("tls.client", "ca", "path", "", "who signs client certificates (PEM), for verify-ca and verify-full"),
    key("tls.server", "mode", "disable, prefer, require, verify-ca, verify-full", "prefer", "TLS towards PostgreSQL; with prefer, without it where there is none or the handshake fails, as libpq"),
    key("tls.server", "ca", "path", "", "who signs PostgreSQL's certificate (PEM), for verify-ca and verify-full"),
    key("tls.server", "cert", "path", "", "the pooler's own certificate (PEM), if PostgreSQL asks for one"),
    key("tls.server", "key", "path", "", "its private key (PEM)"),
    key("clusters.<name>", "host", "host, or list of them", "required", "name, address or directory of a unix socket; of several (`name:port`) the first that is there is taken"),
    key("clusters.<name>", "port", "1 to 65535", "5432", "port of hosts that name none"),
    key("clusters.<name>", "target_session_attrs", "any, primary", "any", "primary: hosts in hot standby mode are passed over"),
    key("clusters.<name>", "user", "role", "required", "login role of tenants that have none of their own"),
    key("clusters.<name>", "password", "text", "", "its password; without one, what `[users.<role>]` has is used once a client of that name has logged in"),
    key("clusters.<name>", "password_file", "path", "", "the same, from a file"),
    key("clusters.<name>", "database", "name", "the user's name", "database of tenants that have none of their own"),
    key("clusters.<name>", "max_server_connections", "number", "20", "servers of all tenants, databases and roles together"),
    key("clusters.<name>", "max_tenants_per_server", "number", "200", "a server that has served more tenants is closed when it is idle: a backend keeps memory for every schema it has read"),
    key("clusters.<name>", "server_idle_timeout", "duration", "10m", "a server that nobody used for so long is closed"),
    key("clusters.<name>", "server_lifetime", "duration", "1h", "a server that is this old is closed when it is idle"),
    key("clusters.<name>", "server_check_delay", "duration", "30s", "a server that has rested so long is asked whether it is still there"),
    key("clusters.<name>", "server_connect_timeout", "duration", "15s", "longest a login to PostgreSQL may take"),
    key("auth", "type", "scram-sha-256, md5, cert, trust", "scram-sha-256", "how clients prove who they are; trust: loopback and unix sockets only"),
    key("auth", "cert_map", "table of lists", "{}", "for cert: who the owner of a common name may be, besides its namesake"),
    key("auth", "max_failures", "number", "20", "wrong passwords in a row that a user may send from one address as one tenant; then one a second. Who has logged in from there within an hour is still let in by the right one. Beyond as many, a login that is refused for another reason is answered late. 0: any number"),
    key("auth", "file", "path", "", "users and secrets in PgBouncer's `userlist.txt` format"),
    key("auth", "query", "SQL", "", "for users that are not listed: `$1` is the name; its one row is that name and the secret"),
    key("auth", "cluster", "cluster", "the only one", "where auth.query runs"),
    key("auth", "database", "name", "the cluster's", "in which database"),
    key("auth", "user", "role", "the cluster's", "as whom"),
    key("auth", "password", "text", "the cluster's", "that role's password"),
    key("auth", "password_file", "path", "", "the same, from a file"),
    key("users.<name>", "password", "text, or a SCRAM verifier", "", "the user's secret; the section's name may hold one `*`"),
    key("users.<name>", "password_file", "path", "", "the same, from a file"),
    key("users.<name>", "tenants", "list of patterns", "[]", "as which tenants the user may connect"),
    key("users.<name>", "pool_mode", "session, transaction", "general.pool_mode", "the user's own"),
    key("tenancy", "tenant_from", "list of sources", "[\"options:app.tenant\"]", "where a client names its tenant: `options:<setting>`, `user:<separator>`, `database`, `sni`, `fixed`, `search_path`; all that speak must agree"),
    key("tenancy", "name_pattern", "regular expression", "[a-z0-9_-]{1,63}", "what names may look like, as a whole"),
    key("tenancy", "sni_pattern", "regular expression", "", "for the source sni: its group `tenant` is the name"),
    key("tenancy", "unknown", "reject, template", "reject", "template: a name that fits a pattern under `[tenants]` is a tenant, too"),
    key("tenancy", "default_tenant", "tenant", "", "who a client is that names nobody; without one it is refused"),
    key("classes.<name>", "max_client_connections", "number", "1000", "clients; one more is refused (53300)"),
    key("classes.<name>", "max_server_connections", "number", "all of the cluster's but one", "servers at once; one more waits. By default one is left to the others, unless one tenant is all there is"),
    key("classes.<name>", "guaranteed_server_connections", "number", "0", "servers that nobody else gets while the tenant has clients; in sum less than the cluster's"),
    key("classes.<name>", "weight", "1 to 1000", "1", "share of servers that are short, in time they are busy"),
    key("classes.<name>", "max_waiting_clients", "number", "1000", "clients that wait for a server; one more is refused (53300), its session stays"),
    key("classes.<name>", "query_wait_timeout", "duration", "30s", "longest wait for a server; then an error (53300), the session stays"),
    key("classes.<name>", "transaction_timeout", "duration", "", "longest a transaction may take, by the pooler's clock; then the session ends (25P04). 0: no limit"),
    key("classes.<name>", "idle_transaction_timeout", "duration", "1m", "longest a transaction may rest between two statements; then the session ends (25P03). 0: no limit"),
    key("classes.<name>", "query_timeout", "duration", "", "longest a statement, or all that are sent in one query, may take; then it is cancelled (57014). 0: no limit"),
    key("classes.<name>", "max_connection_rate", "connections a second", "", "clients that come faster are refused (53300)"),
    key("classes.<name>", "server_sharing", "all, tenant", "all", "who uses its servers one after another: all tenants of the same database and login role, or it alone ([what only that keeps apart](isolation.md#what-a-backend-remembers))"),
    key("classes.<name>", "quota_mode", "enforce, audit", "enforce", "audit: what would be refused is counted and logged, and goes on"),
    key("classes.<name>", "max_pin_time", "duration", "", "longest a session may keep its server between transactions; then it ends when it is idle (57P05)"),
    key("tenants.<name>", "class", "class", "", "whose quotas it has; also in `[tenancy]`, for all tenants. A section's name may hold one `*`: the most specific pattern that sets something decides"),
    key("tenants.<name>", "cluster", "cluster", "the only one", "the PostgreSQL it lives in; also in `[tenancy]`"),
    key("tenants.<name>", "database", "name", "the cluster's", "its database; `{tenant}` is its name, here and below; also in `[tenancy]`"),
    key("tenants.<name>", "user", "role", "the cluster's", "the login role of its servers; also in `[tenancy]`"),
    key("tenants.<name>", "password", "text", "the cluster's, for its user", "that role's password; also in `[tenancy]`"),
    key("tenants.<name>", "password_file", "path", "", "the same, from a file"),
    key("tenants.<name>", "schema", "name", "", "must exist; the search_path, unless that is set below; also in `[tenancy]`"),
    key("tenants.<name>", "search_path", "list of schemas", "the schema, else PostgreSQL's own", "also in `[tenancy]`"),
    key("tenants.<name>", "role", "role", "", "SET ROLE; also in `[tenancy]`"),
    key("tenants.<name>", "settings", "table", "{}", "settings its sessions begin with, for row-level security; they add up with those of `[tenancy]`"),
    key("tenants.<name>", "guard", "off, audit, reject", "off", "what becomes of statements that set search_path, role or one of `settings` to what is not the tenant's; with `reject` each transaction is followed by a question to its server ([price](isolation.md)); also in `[tenancy]`"),
    key("tenants.<name>", "on_session_state", "pin, reject", "pin", "what becomes of statements that tie a session to its server: temporary tables, LISTEN and the like; also in `[tenancy]`"),
    key("tenants.<name>", "state", "active, read_only, paused, draining, suspended", "active", "whether its transactions run, wait, or end"),
    key("tenants.<name>", "message", "text", "", "what clients of a suspended tenant are told"),
    key("registry", "query", "SQL", "", "tenants in a table: every row is one, its columns are keys of `[tenants.<name>]`, `tenant` is the name"),
    key("registry", "refresh", "duration", "30s", "how often it is asked; also at every reload"),
    key("registry", "cluster", "cluster", "the only one", "where it is asked"),
    key("registry", "database", "name", "the cluster's", "in which database"),
    key("registry", "user", "role", "the cluster's", "as whom"),
    key("registry", "password", "text", "the cluster's", "that role's password"),
    key("registry", "password_file", "path", "", "the same, from a file"),
    key("admin", "users", "list of users", "[]", "who may use the console (`psql -d tenantry`); without any, and any below, there is none"),
    key("admin", "stats_users", "list of users", "[]", "who may only look"),
    key("http", "listen", "address, or list of them", "[]", "where `/metrics`, `/livez`, `/readyz` and the dashboard are, such as `127.0.0.1:9127`; without one, nowhere"),
    key("http", "dashboard", "off, loopback, any", "loopback", "who gets the dashboard: it shows names of tenants and users, and asks for no password"),
    key("http", "tenant_labels", "0 to 1000", "20", "tenants that have metrics of their own, the busiest; the rest are `other`"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::config::Config;

    /// A file with every section, so that every key is asked for.
    const ALL: &str = "include = []\n[clusters.main]\nhost = \"127.0.0.1\"\nuser = \"saas\"\npassword = \"x\"\n\
        [users.app]\n[classes.free]\n[tenants.acme]\n";
    /// Quotas are read in a tenant's section and in `[tenancy]`, too.
    const COMMON: [&str; 2] = ["classes.<name>", "tenants.<name>"];

    fn normal(path: &str) -> String {
        match path.split_once('.') {
            Some((first @ ("clusters" | "users" | "classes" | "tenants"), _)) => {
                format!("{first}.<name>")
            }
            _ => path.to_owned(),
        }
    }

    #[test]
    fn the_table_has_what_is_read_and_nothing_else() {
        let asked = Config::asked(ALL);
        let asked: BTreeSet<(String, &str)> = asked
            .iter()
            .map(|(path, key)| (normal(path), *key))
            .filter(|(path, _)| !path.is_empty() && path != "tls")
            .chain([(String::new(), "include")])
            .collect();
        let known: BTreeSet<(String, &str)> =
            KEYS.iter().map(|key| (key.section.to_owned(), key.name)).collect();
        assert_eq!(known.len(), KEYS.len(), "a key is listed twice");
        let common = |key: &str| {
            KEYS.iter().any(|known| known.name == key && COMMON.contains(&known.section))
        };
        let is_listed = |(path, key): &(String, &str)| {
            known.contains(&(path.clone(), *key))
                || (matches!(path.as_str(), "tenancy" | "tenants.<name>") && common(key))
        };
        let missing: Vec<_> = asked.iter().filter(|entry| !is_listed(entry)).collect();
        assert!(missing.is_empty(), "missing from KEYS: {missing:?}");
        let unread: Vec<_> = known.iter().filter(|entry| !asked.contains(*entry)).collect();
        assert!(unread.is_empty(), "nobody reads {unread:?}");
    }

    fn page() -> String {
        let mut page = "# Configuration\n\n\
            One TOML file, checked as a whole: `tenantry check tenantry.toml`. An unknown key is a fault. With its defaults and\n\
            examples: [`deploy/tenantry.toml`](../deploy/tenantry.toml). Durations are `\"500ms\"`, `\"30s\"`, `\"10m\"`, `\"1h\"`, `\"1d\"` or a number of\n\
            seconds; `${VAR}` in a string is the environment variable, `$${` is `${` itself; relative paths start at the file's directory. Quotas of\n\
            `[classes.<name>]` may also stand in `[tenants.<name>]` and in `[tenancy]`. SIGHUP and `RELOAD` read it again; `[general]` and\n\
            `[http]` need a restart.\n\n\
            This page is made from `src/config/keys.rs`.\n"
            .to_owned();
        let mut section = None;
        for key in KEYS {
            if section != Some(key.section) {
                section = Some(key.section);
                let title = if key.section.is_empty() { "Above all sections" } else { key.section };
                let title =
                    if key.section.is_empty() { title.to_owned() } else { format!("`[{title}]`") };
                write!(page, "\n## {title}\n\n| key | takes | default | |\n|---|---|---|---|\n")
                    .unwrap();
            }
            let default = if key.default.is_empty() {
                "none".to_owned()
            } else {
                format!("`{}`", key.default)
            };
            let default = if key.default.contains(' ') { key.default.to_owned() } else { default };
            writeln!(page, "| `{}` | {} | {default} | {} |", key.name, key.takes, key.what)
                .unwrap();
        }
        page
    }

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
    }

    /// `TENANTRY_WRITE_DOCS=1 cargo test --lib keys` writes it anew.
    #[test]
    fn the_reference_page_is_made_of_the_table() {
        let path = root().join("docs/configuration.md");
        if std::env::var_os("TENANTRY_WRITE_DOCS").is_some() {
            std::fs::write(&path, page()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), page());
    }

    #[test]
    fn the_example_file_has_every_key() {
        let text = std::fs::read_to_string(root().join("deploy/tenantry.toml")).unwrap();
        for key in KEYS {
            assert!(text.contains(key.name), "{} is missing from deploy/tenantry.toml", key.name);
        }
    }
}
