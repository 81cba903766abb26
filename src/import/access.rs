//! Who may come: secrets, users, operators. Nobody whom PgBouncer keeps out.

use std::path::Path;

use super::convert::{Notes, Secrets};
use super::databases::{Clusters, get};
use super::ini::{Ini, Pairs, absolute};
use super::keys::{OF_USERS, OF_USERS_ELSE};
use super::write::{Section, text, texts};

pub(super) fn auth(
    ini: &Ini,
    cwd: &Path,
    clusters: &Clusters,
    secrets: &Secrets,
    notes: &mut Notes,
) -> Section {
    let mut auth = Section::new("auth");
    auth.set("type", text(method(ini, cwd, secrets, notes)));
    if let Some(file) = ini.text("auth_file") {
        auth.set("file", text(&absolute(file, cwd).display().to_string()));
    }
    auth_query(ini, clusters, secrets, &mut auth, notes);
    auth
}

/// Who asks for secrets, what, and in which database.
type Question<'a> = (&'a str, Option<&'a str>, Option<&'a str>);

/// Of each database, what PgBouncer asks for those who want it; of no database, what the settings say.
fn questions(ini: &Ini) -> Vec<Option<Question<'_>>> {
    fn of<'a>(ini: &'a Ini, pairs: Option<&'a Pairs>) -> Option<Question<'a>> {
        let own = |key| pairs.and_then(|pairs| get(pairs, key)).or_else(|| ini.text(key));
        own("auth_user").map(|user| (user, own("auth_query"), own("auth_dbname")))
    }
    match ini.databases.as_slice() {
        [] => vec![of(ini, None)],
        databases => databases.iter().map(|(_, pairs)| of(ini, Some(pairs))).collect(),
    }
}

/// One question for all, where it is one: who is known in one database must not get into another.
fn auth_query(
    ini: &Ini,
    clusters: &Clusters,
    secrets: &Secrets,
    auth: &mut Section,
    notes: &mut Notes,
) {
    let mut asked = questions(ini);
    asked.dedup();
    let (user, query, database) = match asked.as_slice() {
        [None] => return,
        [Some(one @ (_, _, database))] if database.is_some() || clusters.is_one_database() => *one,
        _ => {
            auth.comment("query = ...  # see DECIDE, above");
            return notes.decide("auth_query: PgBouncer asks in the database that the client wants, as that database's auth_user, so that a user is known in one and not in another; Tenantry asks in one for all. It is left out, and users that only it knows cannot log in: set auth.query, auth.cluster, auth.database and auth.user where one database knows all of them, and users.<name>.tenants");
        }
    };
    let query = query.unwrap_or(
        "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END FROM pg_authid WHERE rolname=$1 AND rolcanlogin",
    );
    let (cluster, place) = clusters.where_is(database);
    auth.set("query", text(query));
    auth.set("cluster", text(&cluster));
    auth.set("database", text(&place));
    auth.set("user", text(user));
    match secrets.iter().find(|(name, _)| name == user) {
        Some((_, secret)) if is_plain(secret) => auth.set("password", text(secret)),
        _ => notes.decide(format!(
            "auth_user {user} has no plain password in auth_file: set auth.password"
        )),
    }
    notes.decide("auth.query runs with search_path = pg_catalog: qualify the names of your own functions and tables in it. Its one row is the name that was asked for, and the secret; any other is refused");
}

/// Neither a hash nor a verifier.
pub(super) fn is_plain(secret: &str) -> bool {
    let is_md5 = secret.strip_prefix("md5").is_some_and(|rest| rest.len() == 32);
    !secret.is_empty() && !is_md5 && !secret.starts_with("SCRAM-SHA-256$")
}

/// `auth.type`: the same, or the strictest.
fn method(ini: &Ini, cwd: &Path, secrets: &Secrets, notes: &mut Notes) -> &'static str {
    let strict = "scram-sha-256";
    let written = ini.text("auth_type").unwrap_or("md5").to_ascii_lowercase();
    let chosen = match written.as_str() {
        "scram-sha-256" => strict,
        "md5" => "md5",
        "cert" => "cert",
        "trust" => {
            notes.decide("auth_type = trust: it holds for loopback and unix sockets only; everybody else is refused");
            "trust"
        }
        "plain" => {
            notes.without(
                "auth_type = plain: passwords in clear text are not asked for; scram-sha-256 is",
            );
            strict
        }
        "hba" => hba(ini, cwd, notes),
        other => {
            notes.decide(format!("auth_type = {other}: there is none such; scram-sha-256 is written: give users secrets in auth.file, or by auth.query"));
            strict
        }
    };
    let hashed = secrets.iter().any(|(_, secret)| secret.starts_with("md5") && secret.len() == 35);
    if chosen == strict && hashed {
        notes.decide("auth_file has md5 hashes, which SCRAM cannot use: these users cannot log in, as in PgBouncer; take plain passwords or verifiers, or auth.type = \"md5\"");
    }
    chosen
}

/// The one method of all rules that let somebody in, or the strictest.
fn hba(ini: &Ini, cwd: &Path, notes: &mut Notes) -> &'static str {
    let text = ini.text("auth_hba_file").map(|file| std::fs::read_to_string(absolute(file, cwd)));
    let text = match text {
        Some(Ok(text)) => text,
        Some(Err(error)) => {
            notes.decide(format!("auth_hba_file: {error}. Who may connect is written there"));
            String::new()
        }
        None => String::new(),
    };
    let rules =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let rules: Vec<&str> = rules.collect();
    for rule in &rules {
        notes.decide(format!("a rule of auth_hba_file has no counterpart: {}; see users.<name>.tenants, tls.client.mode and a firewall", rule.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    let method = |rule: &&str| rule.split_whitespace().find_map(known_method);
    let mut methods: Vec<&str> =
        rules.iter().filter_map(method).filter(|m| *m != "reject").collect();
    methods.dedup();
    match methods.as_slice() {
        ["md5"] => "md5",
        ["cert"] => "cert",
        ["trust"] => "trust",
        _ => "scram-sha-256",
    }
}

fn known_method(word: &str) -> Option<&'static str> {
    ["scram-sha-256", "md5", "cert", "trust", "reject", "peer", "password"]
        .into_iter()
        .find(|m| *m == word)
}

/// Everybody whose secret is known may be every tenant, as in PgBouncer.
pub(super) fn users(ini: &Ini, secrets: &Secrets, notes: &mut Notes) -> Vec<Section> {
    let elsewhere = decided_elsewhere(ini);
    if let Some(method) = elsewhere {
        notes.decide(format!("auth_type = {method}: it is said elsewhere who may come into which database; here nobody may be any tenant until users.<name>.tenants says so"));
    }
    let trusts = is_of_type(ini, "trust");
    let silent = without_secret(ini, secrets);
    let mut names: Vec<&str> = if trusts {
        // Nobody is asked: only those that are listed exist.
        secrets.iter().map(|(name, _)| name.as_str()).collect()
    } else {
        vec!["*"]
    };
    names.extend(&silent);
    names.extend(ini.users.iter().map(|(name, _)| name.as_str()).filter(|name| *name != "*"));
    names.sort_unstable();
    names.dedup();
    let mut sections = Vec::new();
    for name in names {
        if name.contains('*') && (trusts || name != "*") {
            notes.decide(format!(
                "the user {name}: a name with * is a pattern here; it is left out"
            ));
            continue;
        }
        let mut section = Section::named("users", name);
        if silent.contains(&name) {
            section.set_why(
                "tenants",
                "[]",
                "known without a secret: auth_query is not asked for it",
            );
        } else if elsewhere.is_some() {
            section.set_why("tenants", "[]", "as which tenants? see DECIDE, above");
        } else {
            section.set("tenants", texts(["*"]));
        }
        let pairs = ini.users.iter().find(|(user, _)| user == name).map(|(_, pairs)| pairs);
        for (key, value) in pairs.into_iter().flatten() {
            match OF_USERS.iter().find(|(known, _)| known == key) {
                Some(_) if value.eq_ignore_ascii_case("session") => {
                    section.set("pool_mode", text("session"));
                }
                Some(_) => section.set("pool_mode", text("transaction")),
                None => notes.without(format!("[users] {name}: {key} = {value}: {OF_USERS_ELSE}")),
            }
        }
        sections.push(section);
    }
    sections
}

/// The method by which something else than the secrets here says who may come: rules, or another service.
fn decided_elsewhere(ini: &Ini) -> Option<&'static str> {
    ["hba", "pam", "ldap"].into_iter().find(|method| is_of_type(ini, method))
}

fn is_of_type(ini: &Ini, wanted: &str) -> bool {
    ini.text("auth_type").is_some_and(|method| method.eq_ignore_ascii_case(wanted))
}

/// Whom PgBouncer knows, so that it does not ask for a secret, and has none of: no password lets them in.
fn without_secret<'a>(ini: &'a Ini, secrets: &'a Secrets) -> Vec<&'a str> {
    let asks_nobody = is_of_type(ini, "trust") || is_of_type(ini, "cert");
    if asks_nobody || questions(ini).iter().all(Option::is_none) {
        return Vec::new();
    }
    let has_secret =
        |name: &str| secrets.iter().any(|(it, secret)| it == name && !secret.is_empty());
    let known = secrets.iter().map(|(name, _)| name).chain(ini.users.iter().map(|(name, _)| name));
    known.map(String::as_str).filter(|name| *name != "*" && !has_secret(name)).collect()
}

/// Only those whose secrets are in the file: as in PgBouncer, nobody becomes an operator by a table.
pub(super) fn admin(ini: &Ini, secrets: &Secrets, notes: &mut Notes) -> Section {
    let mut admin = Section::new("admin");
    if let Some(method) = decided_elsewhere(ini) {
        admin.comment("users = ...  # see DECIDE, above");
        notes.decide(format!("auth_type = {method}: it is said elsewhere who may come to the console; here nobody may until admin.users and admin.stats_users say so, with secrets of theirs in auth.file"));
        return admin;
    }
    for (ours, theirs) in [("users", "admin_users"), ("stats_users", "stats_users")] {
        let has_secret =
            |name: &&str| secrets.iter().any(|(known, it)| known == name && !it.is_empty());
        let (known, others): (Vec<&str>, Vec<&str>) =
            ini.list(theirs).into_iter().partition(has_secret);
        for name in others {
            notes.decide(format!("{theirs}: {name} has no secret in auth_file, and is left out: give him one, in [users.{name}]"));
        }
        if !known.is_empty() {
            admin.set(ours, texts(known));
        }
    }
    admin
}
