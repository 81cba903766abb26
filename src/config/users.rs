//! `[auth]` and `[users.<name>]`: who may connect, and as which tenants.

use std::collections::HashMap;

use super::PoolMode;
use super::read::Section;
use super::secret::Secret;
use super::userlist;
use crate::tenant::{TenantId, WildcardPattern};

/// `auth.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// SCRAM-SHA-256.
    Scram,
    /// md5, and SCRAM for users whose secret is a verifier.
    Md5,
    /// By the client's certificate.
    Cert,
    /// Nobody is asked; loopback and unix sockets only.
    Trust,
}

/// `auth.max_failures`, if it is not set.
const MAX_FAILURES: usize = 20;

/// Everybody who may connect.
#[derive(Debug, Clone)]
pub struct Users {
    /// How they prove who they are.
    pub method: AuthMethod,
    /// `auth.max_failures`; 0: any number.
    pub max_failures: u32,
    /// `[users.<pattern>]`, the most specific first.
    rules: Vec<UserRules>,
    /// Secrets, from `[users.<name>]` or `auth.file`.
    secrets: HashMap<String, Secret>,
    /// Users whose secret in `auth.file` is an md5 hash, which SCRAM cannot use: they cannot log in.
    pub kept_out: Vec<String>,
    /// `auth.cert_map`: as whom the owner of a certificate may connect, besides the user of its name.
    pub cert_map: HashMap<String, Vec<WildcardPattern>>,
    /// Where the secrets of other users are.
    pub query: Option<TableQuery>,
}

/// A statement that reads a table of PostgreSQL's, and where it runs: `auth.query`, `registry.query`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableQuery {
    /// The statement. `auth.query`: `$1` is the user's name; its one row is that name and his secret.
    pub sql: String,
    /// The cluster's name, if there is more than one.
    pub cluster: Option<String>,
    /// Database, if it is not the cluster's own.
    pub database: Option<String>,
    /// Login role, if it is not the cluster's own.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
}

#[derive(Debug, Clone)]
struct UserRules {
    pattern: WildcardPattern,
    tenants: Vec<WildcardPattern>,
    pool_mode: Option<PoolMode>,
}

/// What one user may do.
#[derive(Debug, Clone, Copy)]
pub struct User<'a> {
    rules: &'a UserRules,
}

impl User<'_> {
    /// Whether the user may connect as this tenant.
    #[must_use]
    pub fn may_claim(&self, tenant: &TenantId) -> bool {
        self.rules.tenants.iter().any(|pattern| pattern.fit(tenant.as_str()).is_some())
    }

    /// The user's own `pool_mode`.
    #[must_use]
    pub fn pool_mode(&self) -> Option<PoolMode> {
        self.rules.pool_mode
    }
}

impl Users {
    /// Whether the owner of a certificate with this common name is that user.
    #[must_use]
    pub fn owns(&self, common_name: &str, user: &str) -> bool {
        let fits = |patterns: &Vec<WildcardPattern>| patterns.iter().any(|p| p.fit(user).is_some());
        common_name == user || self.cert_map.get(common_name).is_some_and(fits)
    }

    /// The secret of a user, if he has one.
    #[must_use]
    pub fn secret(&self, name: &str) -> Option<&Secret> {
        self.secrets.get(name)
    }

    /// Whether who logs in has to know a secret.
    pub(super) const fn asks_for_secrets(&self) -> bool {
        matches!(self.method, AuthMethod::Scram | AuthMethod::Md5)
    }

    /// All names and secrets.
    pub fn secrets(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.secrets.iter().map(|(name, secret)| (name.as_str(), secret))
    }

    /// Who is kept out by its secret, in words.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let names = self.kept_out.join(", ");
        (!names.is_empty()).then(|| {
            format!("auth.file: md5 secrets cannot be used with auth.type \"scram-sha-256\", so these users cannot log in: {names}")
        })
    }

    /// Says that in the log.
    pub fn warn(&self) {
        if let Some(warning) = self.warning() {
            tracing::warn!("{warning}");
        }
    }

    /// The rules for a user; `None` if no `[users]` entry fits.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<User<'_>> {
        self.rules
            .iter()
            .find(|rules| rules.pattern.fit(name).is_some())
            .map(|rules| User { rules })
    }
}

pub(super) fn read(auth: Section<'_>, users: &Section<'_>) -> Users {
    let expected = "scram-sha-256, md5, cert or trust";
    let method = auth.get("type", expected, |value| match value.as_str()? {
        "scram-sha-256" => Some(AuthMethod::Scram),
        "md5" => Some(AuthMethod::Md5),
        "cert" => Some(AuthMethod::Cert),
        "trust" => Some(AuthMethod::Trust),
        _ => None,
    });
    let method = method.unwrap_or(AuthMethod::Scram);
    let (mut secrets, mut kept_out) = (HashMap::new(), Vec::new());
    if let Some(file) = auth.path("file") {
        let text = auth.read_file("file", &file);
        match text.as_deref().map(userlist::parse) {
            // Who has an empty one does not log in by it, as in PgBouncer.
            Some(Ok(list)) => {
                let given = list.into_iter().filter(|(_, secret)| !secret.expose().is_empty());
                let (out, usable): (Vec<_>, Vec<_>) =
                    given.partition(|(_, secret)| method == AuthMethod::Scram && is_md5(secret));
                // A hash that was taken for a password would let in whoever knows the hash.
                kept_out = out.into_iter().map(|(name, _)| name).collect();
                secrets.extend(usable);
            }
            Some(Err(line)) => {
                auth.fault("file", format!("line {line}: expected \"user\" \"secret\""));
            }
            None => {}
        }
    }
    let query = table_query(&auth);
    let cert_map = cert_map(&auth);
    let max_failures = auth.count("max_failures", 0).unwrap_or(MAX_FAILURES);
    let max_failures = u32::try_from(max_failures).unwrap_or(u32::MAX);
    auth.finish();
    let mut rules = Vec::new();
    for (name, section) in users.children() {
        if let Some(password) = section.password() {
            if password.expose().is_empty() {
                section.fault("password", "must not be empty");
            }
            secrets.insert(name.to_owned(), password);
        }
        rules.extend(user(name, section));
    }
    if rules.is_empty() {
        users.fault("\"*\"", "no user is configured: nobody may connect");
    }
    rules.sort_by_key(|rules| std::cmp::Reverse(rules.pattern.fit_rank()));
    check_method(method, &secrets, users);
    kept_out.retain(|name: &String| !secrets.contains_key(name));
    kept_out.sort();
    Users { method, max_failures, rules, secrets, kept_out, cert_map, query }
}

/// `query`, and where it runs.
pub(super) fn table_query(section: &Section<'_>) -> Option<TableQuery> {
    let (cluster, database, user, password) = (
        section.string("cluster"),
        section.string("database"),
        section.string("user"),
        section.password(),
    );
    let sql = section.string("query")?;
    Some(TableQuery { sql, cluster, database, user, password })
}

fn cert_map(auth: &Section<'_>) -> HashMap<String, Vec<WildcardPattern>> {
    let expected = "a table of lists of users, by the certificate's common name";
    let map = auth.get("cert_map", expected, |value| {
        let mut map = HashMap::new();
        for (name, users) in value.as_table()? {
            let patterns =
                users.as_array()?.iter().map(|user| WildcardPattern::new(user.as_str()?));
            map.insert(name.clone(), patterns.collect::<Option<Vec<_>>>()?);
        }
        Some(map)
    });
    map.unwrap_or_default()
}

fn user(name: &str, section: Section<'_>) -> Option<UserRules> {
    let pattern = WildcardPattern::new(name);
    if pattern.is_none() {
        section.fault("", "a pattern has at most one \"*\"");
    }
    let mut tenants = Vec::new();
    for text in section.strings("tenants").unwrap_or_default() {
        match WildcardPattern::new(&text) {
            Some(pattern) => tenants.push(pattern),
            None => section.fault("tenants", format!("{text:?}: a pattern has at most one \"*\"")),
        }
    }
    let pool_mode = pool_mode(&section);
    section.finish();
    Some(UserRules { pattern: pattern?, tenants, pool_mode })
}

pub(super) fn pool_mode(section: &Section<'_>) -> Option<PoolMode> {
    section.get("pool_mode", "session or transaction", |v| PoolMode::parse(v.as_str()?))
}

fn check_method(method: AuthMethod, secrets: &HashMap<String, Secret>, users: &Section<'_>) {
    for (name, _) in secrets.iter().filter(|(_, secret)| is_broken_verifier(secret)) {
        users.fault(name, "a SCRAM verifier is SCRAM-SHA-256$<iterations>:<salt>$<key>:<key>");
    }
    if method != AuthMethod::Scram {
        return;
    }
    for (name, secret) in secrets {
        if is_md5(secret) {
            let problem = "an md5 secret cannot be used with auth.type \"scram-sha-256\"";
            users.fault(name, problem);
        }
    }
}

/// Something that can only be meant as a verifier, and would be taken for a password.
fn is_broken_verifier(secret: &Secret) -> bool {
    let Some(rest) = secret.expose().strip_prefix("SCRAM-SHA-256$") else { return false };
    let key = |text: &str| text.len() == 44 && text.ends_with('=');
    let is_whole = rest.split_once('$').is_some_and(|(parameters, keys)| {
        let has_salt = parameters
            .split_once(':')
            .is_some_and(|(n, salt)| n.parse::<u32>().is_ok_and(|n| n > 0) && !salt.is_empty());
        has_salt && keys.split_once(':').is_some_and(|(a, b)| key(a) && key(b))
    });
    !is_whole
}

fn is_md5(secret: &Secret) -> bool {
    let digits = secret.expose().strip_prefix("md5");
    digits.is_some_and(|d| d.len() == 32 && d.bytes().all(|b| b.is_ascii_hexdigit()))
}
