//! Section by section, and what is said of the rest.

use std::path::Path;

use super::access::{admin, auth, users};
use super::databases::databases;
use super::ini::{Ini, absolute};
use super::keys::{Fate, NUMBERS, OF_DATABASES, SECONDS, SETTINGS};
use super::settings::{seconds, whole};
use super::write::{Section, text, texts};

/// PgBouncer's default.
const MAX_CLIENT_CONN: u64 = 100;
/// As good as never: the longest that our file takes.
pub(super) const NEVER: &str = "\"3650d\"";

/// What the operator is told.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) decide: Vec<String>,
    pub(super) without: Vec<String>,
}

impl Notes {
    pub(super) fn decide(&mut self, note: impl Into<String>) {
        self.decide.push(note.into());
    }

    pub(super) fn without(&mut self, note: impl Into<String>) {
        self.without.push(note.into());
    }
}

/// What is written.
pub(super) struct Converted {
    pub(super) sections: Vec<Section>,
    pub(super) notes: Notes,
}

/// Users and secrets of `auth_file`.
pub(super) type Secrets = Vec<(String, String)>;

pub(super) fn convert(ini: &Ini, cwd: &Path) -> Converted {
    let mut notes = Notes::default();
    let secrets = secrets(ini, cwd, &mut notes);
    let mut sections = vec![general(ini, cwd, &mut notes)];
    sections.push(client_tls(ini, cwd));
    sections.push(server_tls(ini, cwd));
    let (clusters, tenants) = databases(ini, &secrets, &mut notes);
    sections.extend(clusters.sections(ini));
    sections.push(auth(ini, cwd, &clusters, &secrets, &mut notes));
    sections.extend(users(ini, &secrets, &mut notes));
    sections.push(admin(ini, &secrets, &mut notes));
    sections.extend(tenants);
    rest(ini, &mut notes);
    Converted { sections, notes }
}

/// `max_client_conn`, which is also what one tenant may have.
pub(super) fn max_clients(ini: &Ini) -> u64 {
    ini.count("max_client_conn").unwrap_or(MAX_CLIENT_CONN).max(1)
}

fn secrets(ini: &Ini, cwd: &Path, notes: &mut Notes) -> Secrets {
    let Some(file) = ini.text("auth_file") else { return Secrets::new() };
    let path = absolute(file, cwd);
    match std::fs::read_to_string(&path).map(|text| crate::config::read_userlist(&text)) {
        Ok(Ok(list)) => {
            for (name, _) in list.iter().filter(|(_, secret)| secret.is_empty()) {
                notes.without(format!(
                    "the empty secret of {name} in {file}: neither pooler lets him in by a password"
                ));
            }
            list
        }
        Ok(Err(line)) => {
            notes.decide(format!("{file}, line {line}: expected \"user\" \"secret\". PgBouncer ignores what is behind a line that it cannot read; Tenantry refuses the file"));
            Secrets::new()
        }
        Err(error) => {
            notes.decide(format!("{}: {error}. Who may connect is written there", path.display()));
            Secrets::new()
        }
    }
}

fn general(ini: &Ini, cwd: &Path, notes: &mut Notes) -> Section {
    let mut general = Section::new("general");
    general.set("listen", texts(listen(ini, cwd)));
    let mode = ini.text("pool_mode").unwrap_or("session").to_ascii_lowercase();
    if mode == "statement" {
        notes.without("pool_mode = statement: transaction is the nearest; transactions of several statements work again");
    }
    general.set("pool_mode", text(if mode == "session" { "session" } else { "transaction" }));
    general.set("max_client_conn", max_clients(ini));
    match ini.count("max_prepared_statements") {
        Some(0) => notes.without("max_prepared_statements = 0: it is left at 200; named statements work in transaction mode"),
        Some(count) => general.set("max_prepared_statements", count),
        None => {}
    }
    if ini.count("so_reuseport").is_some_and(|on| on != 0) {
        general.set_why("workers", "\"auto\"", "so_reuseport: one process in place of several");
    }
    if let Some(mode) = ini.text("unix_socket_mode") {
        general.set("unix_socket_mode", text(mode));
    }
    let reset = ini.settings.get("server_reset_query").map_or("DISCARD ALL", String::as_str);
    let always = ini.count("server_reset_query_always").is_some_and(|on| on != 0);
    if !reset.is_empty() && (always || mode == "session") {
        general.set_why("scrub", "\"client\"", "server_reset_query: for each new client");
    }
    if !matches!(reset.to_ascii_uppercase().trim_end_matches(';'), "" | "DISCARD ALL") {
        notes.without(format!("server_reset_query = {reset}: no statement of yours is run; what a client left is undone by what is known of it, with general.scrub"));
    }
    general
}

fn listen(ini: &Ini, cwd: &Path) -> Vec<String> {
    let port = ini.count("listen_port").unwrap_or(6432);
    let addresses = ini.list("listen_addr");
    let tcp = |address: &&str| match *address {
        // Both families.
        "*" => format!("[::]:{port}"),
        v6 if v6.contains(':') => format!("[{v6}]:{port}"),
        other => format!("{other}:{port}"),
    };
    let mut listen: Vec<String> = addresses.iter().map(tcp).collect();
    let directory = ini.settings.get("unix_socket_dir").map_or("/tmp", String::as_str);
    if !directory.is_empty() && !directory.starts_with('@') {
        let directory = absolute(directory, cwd);
        listen.push(format!("unix:{}/.s.PGSQL.{port}", directory.display()));
    }
    listen
}

fn mode(ini: &Ini, key: &str) -> Option<String> {
    let mode = ini.text(key)?.to_ascii_lowercase();
    Some(if mode == "allow" { "prefer".to_owned() } else { mode })
}

fn files(ini: &Ini, cwd: &Path, prefix: &str, section: &mut Section, commented: bool) {
    for (key, suffix) in [("cert", "cert_file"), ("key", "key_file"), ("ca", "ca_file")] {
        if let Some(file) = ini.text(&format!("{prefix}_tls_{suffix}")) {
            let path = text(&absolute(file, cwd).display().to_string());
            if commented {
                section.comment(&format!("{key} = {path}"));
            } else {
                section.set(key, path);
            }
        }
    }
}

fn client_tls(ini: &Ini, cwd: &Path) -> Section {
    let mut tls = Section::new("tls.client");
    let mode = mode(ini, "client_tls_sslmode").unwrap_or_else(|| "disable".to_owned());
    if mode == "verify-full" {
        // The certificate's name is not looked at in PgBouncer.
        tls.set_why("mode", text("verify-ca"), "PgBouncer's verify-full; verify-full here wants the certificate's name to be the user's");
    } else {
        tls.set("mode", text(&mode));
    }
    files(ini, cwd, "client", &mut tls, mode == "disable");
    tls
}

fn server_tls(ini: &Ini, cwd: &Path) -> Section {
    let mut tls = Section::new("tls.server");
    match mode(ini, "server_tls_sslmode") {
        Some(mode) => tls.set("mode", text(&mode)),
        None => {
            tls.set_why("mode", text("prefer"), "PgBouncer's default since 1.19; before, disable");
        }
    }
    files(ini, cwd, "server", &mut tls, false);
    tls
}

/// What is not taken over.
fn rest(ini: &Ini, notes: &mut Notes) {
    for (key, value) in &ini.settings {
        match SETTINGS.iter().find(|(known, _)| known == key).map(|(_, fate)| fate) {
            Some(Fate::Taken) => say_if_unread(key, key, value, notes),
            Some(fate) => say(fate, key, value, notes),
            None => {
                notes.without(format!("{key} = {value}: PgBouncer up to 1.25 has no such setting"));
            }
        }
    }
    for (name, pairs) in &ini.databases {
        for (key, value) in pairs {
            match OF_DATABASES.iter().find(|(known, _)| known == key).map(|(_, fate)| fate) {
                Some(Fate::Taken) => {
                    say_if_unread(key, &format!("[databases] {name}: {key}"), value, notes);
                }
                Some(fate) => say(fate, &format!("[databases] {name}: {key}"), value, notes),
                None => notes.without(format!(
                    "[databases] {name}: {key} = {value}: PgBouncer up to 1.25 has no such key"
                )),
            }
        }
    }
    if ini.has_peers {
        notes.without("[peers]: one process uses all cores (general.workers); for several hosts, have the balancer keep a client's address on one");
    }
    notes.decide("sessions begin with search_path = \"$user\", public, whatever ALTER DATABASE or ALTER ROLE ... SET search_path say: where they do, set search_path in the tenant's section");
}

/// What cannot be read is not left out without a word.
fn say_if_unread(key: &str, place: &str, value: &str, notes: &mut Notes) {
    let kind = match key {
        _ if value.is_empty() => return,
        _ if SECONDS.contains(&key) && seconds(value).is_none() => "number of seconds",
        _ if NUMBERS.contains(&key) && whole(value).is_none() => "whole number",
        _ => return,
    };
    notes.decide(format!("{place} = {value}: it is no {kind}, and PgBouncer would not start with it. It is left out, and the default holds"));
}

fn say(fate: &Fate, key: &str, value: &str, notes: &mut Notes) {
    match fate {
        Fate::Taken => {}
        Fate::Unless(silent, _) if silent.contains(&value) => {}
        Fate::Unless(_, why) | Fate::Dropped(why) => {
            notes.without(format!("{key} = {value}: {why}"));
        }
    }
}

/// A duration that is 0 for "never" there.
pub(super) fn or_never(value: &str) -> Option<String> {
    let value = seconds(value)?;
    Some(if value == "0" { NEVER.to_owned() } else { value })
}
