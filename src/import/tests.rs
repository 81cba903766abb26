//! Five realistic files; what PgBouncer takes and refuses, by its own rules.

use std::path::{Path, PathBuf};

use super::*;

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("protocol-tests/pgbouncer")
}

fn of_text(text: &str) -> Result<Imported, ImportError> {
    let directory = tempfile_in_target();
    let path = directory.join("pgbouncer.ini");
    std::fs::write(&path, text).unwrap();
    let imported = import(&path, &directory);
    std::fs::remove_dir_all(&directory).unwrap();
    imported
}

/// A directory that nobody else has.
fn tempfile_in_target() -> PathBuf {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path =
        std::env::temp_dir().join(format!("tenantry-import-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn config(imported: &Imported) -> Config {
    assert!(imported.faults.is_empty(), "{:#?}\n{}", imported.faults, imported.toml);
    Config::parse(&imported.toml, PathBuf::new()).unwrap()
}

/// What `check` says of a file in which a role is to be named: that, and nothing else.
fn asks_for_a_role_only(faults: &[String]) -> bool {
    !faults.is_empty()
        && faults.iter().all(|it| it.starts_with("clusters.") && it.ends_with(".user: required"))
}

/// The operator has named a role for who has none.
fn decided(imported: &Imported) -> Config {
    assert!(asks_for_a_role_only(&imported.faults), "{:#?}\n{}", imported.faults, imported.toml);
    let toml = imported.toml.replace("# user = \"...\"  # as whom", "user = \"named\" # as whom");
    Config::parse(&toml, PathBuf::new()).unwrap()
}

#[test]
fn a_database_is_a_tenant_that_lives_in_it() {
    let imported = of_text(
        "[databases]\nshop = host=10.0.0.5 port=5433 dbname=shop_prod user=shop password='it''s; a #1 pw' pool_size=7\n\
         [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = 7000\nunix_socket_dir =\npool_mode = transaction\n\
         reserve_pool_size = 3\nserver_idle_timeout = 0\nquery_timeout = 12.5\nmax_client_conn = 0x10\n",
    );
    let imported = imported.unwrap();
    let config = config(&imported);
    let id = config.tenancy.name_pattern.parse("shop").unwrap();
    let tenant = config.tenant(&id).unwrap();
    assert_eq!((tenant.database.as_str(), tenant.user.as_str()), ("shop_prod", "shop"));
    assert_eq!(tenant.password.unwrap().expose(), "it's; a #1 pw");
    assert_eq!((tenant.quotas.max_server_connections, tenant.cluster.hosts[0].port), (10, 5433));
    assert_eq!(config.general.max_client_conn, 16);
    assert_eq!(tenant.policy.timeouts.query, Some(std::time::Duration::from_millis(12_500)));
    assert!(tenant.cluster.server_idle_timeout.as_secs() > 3_000 * 86_400, "0 is never there");
    assert_eq!(imported.without, Vec::<String>::new());
}

#[test]
fn nobody_gets_rights_that_were_not_his() {
    for databases in [
        "shop = host=10.0.0.5",
        "* = host=10.0.0.5",
        "* = host=10.0.0.5\nother = host=10.0.0.5 user=other",
        "shop = host=10.0.0.5\nother = host=10.0.0.5 user=postgres",
    ] {
        let ini = format!("[databases]\n{databases}\n[pgbouncer]\nunix_socket_dir = /tmp\n");
        let imported = of_text(&ini).unwrap();
        let asked = imported.decide.iter().any(|note| note.contains(" has no user"));
        assert!(asked, "{:#?}", imported.decide);
        // No role that the file does not name, and none that is another's.
        let config = decided(&imported);
        let id = config.tenancy.name_pattern.parse("shop").unwrap();
        let tenant = config.tenant(&id).unwrap();
        assert!(!tenant.availability.lets_in(), "it rests until its role is named");
        assert_eq!(tenant.user, "named", "{databases}: what RESUME would make of it");
    }
}

/// Values that cannot be read, or that mean something else here, are spoken of.
#[test]
fn nothing_is_dropped_without_a_word() {
    let imported = of_text(
        "[databases]\na = host=h user=u server_lifetime=soon pool_size=many\ntemplate1 = host=h user=u\n\
         [pgbouncer]\nserver_lifetime = 1h\nserver_check_delay = 0\nmax_client_conn = lots\n",
    );
    let imported = imported.unwrap();
    for (key, value) in [
        ("[databases] a: server_lifetime", "soon"),
        ("[databases] a: pool_size", "many"),
        ("server_lifetime", "1h"),
        ("max_client_conn", "lots"),
    ] {
        let start = format!("{key} = {value}: it is no ");
        assert!(imported.decide.iter().any(|it| it.starts_with(&start)), "{:#?}", imported.decide);
    }
    assert!(imported.toml.contains("PgBouncer's 0 asks before each use"), "{}", imported.toml);
    // A tenant of that name can be reached.
    let config = config(&imported);
    assert!(!config.tenancy.shared_databases.contains(&"template1".to_owned()));
}

#[test]
fn one_md5_secret_keeps_out_its_own_user_only() {
    let directory = tempfile_in_target();
    let hash = format!("md5{}", "0123456789abcdef".repeat(2));
    let users = format!("\"old\" \"{hash}\"\n\"new\" \"plain\"\n");
    std::fs::write(directory.join("users.txt"), users).unwrap();
    let path = directory.join("pgbouncer.ini");
    let ini = "[databases]\na = host=h user=u\n[pgbouncer]\nauth_type = scram-sha-256\nauth_file = users.txt\n";
    std::fs::write(&path, ini).unwrap();
    let config = config(&import(&path, &directory).unwrap());
    assert!(config.users.secret("new").is_some());
    // The hash is no password either.
    assert!(config.users.secret("old").is_none());
    assert!(config.users.warning().unwrap().ends_with("cannot log in: old"));
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn what_pgbouncer_does_not_take_is_refused_with_its_line() {
    for (text, line) in [
        ("[pgbouncer]\nlisten_port\n", 2),
        ("key = 1\n[pgbouncer]\n", 1),
        ("[pgbouncer]\n[other]\n", 2),
        ("[pgbouncer]\n[databases]\n\"quoted\" = host=x\n", 3),
        ("[pgbouncer]\n[databases]\nx = host='open\n", 3),
        ("[pgbouncer]\n[databases]\nx = host\n", 3),
    ] {
        match of_text(text) {
            Err(ImportError::Syntax { line: at, .. }) => assert_eq!(at, line, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    assert!(matches!(of_text("[databases]\nx = host=y\n"), Err(ImportError::NoSection(_))));
    assert!(matches!(
        of_text("[pgbouncer]\n%include nowhere.ini\n"),
        Err(ImportError::File { .. })
    ));
    assert!(
        matches!(of_text("[pgbouncer]\n%include pgbouncer.ini\n"), Err(ImportError::Syntax { .. })),
        "itself"
    );
}

#[test]
fn a_second_header_forgets_what_the_first_has_set() {
    let imported = of_text(
        "[pgbouncer]\nmax_client_conn = 5\n[databases]\nx = host=h user=u\n[pgbouncer]\nunix_socket_dir = /tmp\n",
    );
    assert_eq!(config(&imported.unwrap()).general.max_client_conn, 100);
}

#[test]
fn what_the_fallback_says_holds_for_no_database_with_an_entry_of_its_own() {
    let imported =
        of_text("[databases]\nshop = host=h user=shop\n* = host=h\n[pgbouncer]\n").unwrap();
    let config = decided(&imported);
    let lets_in = |name: &str| {
        let id = config.tenancy.name_pattern.parse(name).unwrap();
        config.tenant(&id).unwrap().availability.lets_in()
    };
    assert!(lets_in("shop") && !lets_in("another"));
}

#[test]
fn who_is_known_in_one_database_gets_into_no_other() {
    let two = "[databases]\na = host=h dbname=a user=u\nb = host=h dbname=b user=u\n[pgbouncer]\n\
        auth_user = asks\nauth_query = select u, p from public.logins where u = $1\n";
    let imported = of_text(two).unwrap();
    assert!(config(&imported).users.query.is_none(), "{}", imported.toml);
    assert!(imported.decide.iter().any(|note| note.starts_with("auth_query:")));
    let one = of_text(&two.replace("auth_user", "auth_dbname = a\nauth_user")).unwrap();
    assert_eq!(config(&one).users.query.unwrap().database.as_deref(), Some("a"));
}

#[test]
fn nobody_becomes_an_operator_by_a_table_nor_a_user_by_a_pattern() {
    let directory = tempfile_in_target();
    std::fs::write(directory.join("users.txt"), "\"ops\" \"x\"\n\"*\" \"y\"\n\"a*\" \"z\"\n")
        .unwrap();
    let path = directory.join("pgbouncer.ini");
    let ini = "[databases]\na = host=h user=u\n[pgbouncer]\nauth_type = trust\nauth_file = users.txt\nadmin_users = ops, ops2\n";
    std::fs::write(&path, ini).unwrap();
    let imported = import(&path, &directory).unwrap();
    let config = config(&imported);
    assert_eq!(config.admin.users, ["ops"]);
    assert!(
        config.users.get("nobody").is_none()
            && config.users.get("abc").is_none()
            && config.users.get("ops").is_some()
    );
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn what_means_something_else_here_is_left_out_or_taken_as_it_is() {
    let imported = of_text(
        "[databases]\na* = host=h user=u dbname=moved\nbrace = host=h user=u dbname='{tenant}'\n\
         home = host=h user=u dbname='${HOME}' password='${PATH}'\n* = host=h user=u dbname=umbra\n[pgbouncer]\n",
    );
    let imported = imported.unwrap();
    let config = config(&imported);
    let database = |name: &str| {
        let id = config.tenancy.name_pattern.parse(name).unwrap();
        config.tenant(&id).unwrap().database
    };
    assert_eq!(
        [database("abc"), database("brace"), database("home")],
        ["umbra", "umbra", "${HOME}"]
    );
    assert_eq!(imported.decide.iter().filter(|note| note.contains("left out")).count(), 2);
}

#[test]
fn what_kept_clients_from_something_is_decided_before_they_come() {
    let imported = of_text("[databases]\na = host=h user=u connect_query='set default_transaction_read_only = on'\n[pgbouncer]\n").unwrap();
    let tenant =
        |config: &Config| config.tenant(&config.tenancy.name_pattern.parse("a").unwrap()).unwrap();
    assert!(!tenant(&config(&imported)).availability.lets_in());
    let imported = of_text(
        "[databases]\na = host=h user=u\n[pgbouncer]\nauth_type = hba\nauth_hba_file = none\n",
    )
    .unwrap();
    let config = config(&imported);
    let id = config.tenancy.name_pattern.parse("a").unwrap();
    assert!(!config.users.get("anybody").unwrap().may_claim(&id), "{}", imported.toml);
}

#[test]
fn who_is_known_without_a_secret_is_not_looked_up() {
    let directory = tempfile_in_target();
    std::fs::write(directory.join("users.txt"), "\"alice\" \"\"\n\"carl\" \"x\"\n").unwrap();
    let path = directory.join("pgbouncer.ini");
    let ini = "[databases]\na = host=h user=u\n[users]\nbob = pool_mode=session\ncarl = pool_mode=session\n[pgbouncer]\n\
        auth_file = users.txt\nauth_user = asks\n";
    let may = |ini: &str| {
        std::fs::write(&path, ini).unwrap();
        let config = config(&import(&path, &directory).unwrap());
        let id = config.tenancy.name_pattern.parse("a").unwrap();
        ["alice", "bob", "carl", "dave"].map(|name| config.users.get(name).unwrap().may_claim(&id))
    };
    assert_eq!(may(ini), [false, false, true, true]);
    // A certificate is no secret: nobody is looked up.
    std::fs::write(&path, format!("{ini}auth_type = cert\n")).unwrap();
    assert!(!import(&path, &directory).unwrap().toml.contains("[users.alice]"));
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn databases_that_ask_as_different_roles_ask_no_more() {
    let asked = |a: &str, b: &str, all: &str| {
        let ini = format!(
            "[databases]\na = host=h dbname=x user=u {a}\nb = host=h dbname=x user=u {b}\n[pgbouncer]\n{all}\n"
        );
        let imported = of_text(&ini).unwrap();
        let spoken = imported.decide.iter().any(|note| note.starts_with("auth_query:"));
        (config(&imported).users.query.is_some(), spoken)
    };
    let own = "auth_user=one";
    assert_eq!(asked("", "", ""), (false, false));
    assert_eq!(asked("", "", own), (true, false));
    assert_eq!(asked(own, own, ""), (true, false));
    assert_eq!(asked(own, "", ""), (false, true));
    assert_eq!(asked("", own, "auth_user = two"), (false, true));
}

#[test]
fn what_is_decided_elsewhere_lets_nobody_in_here() {
    let directory = tempfile_in_target();
    std::fs::write(directory.join("users.txt"), "\"ops\" \"x\"\n\"eye\" \"y\"\n").unwrap();
    let path = directory.join("pgbouncer.ini");
    let ini = "[databases]\na = host=h user=u\n[pgbouncer]\nauth_file = users.txt\nadmin_users = ops eye\nstats_users = eye\n";
    std::fs::write(&path, ini).unwrap();
    assert_eq!(config(&import(&path, &directory).unwrap()).admin.users, ["ops", "eye"]);
    for more in ["auth_type = pam\n", "auth_type = hba\nauth_hba_file = gone\n"] {
        std::fs::write(&path, format!("{ini}{more}")).unwrap();
        let config = config(&import(&path, &directory).unwrap());
        let id = config.tenancy.name_pattern.parse("a").unwrap();
        assert!(!config.users.get("eye").unwrap().may_claim(&id), "{more}");
        assert!(config.admin.users.is_empty() && config.admin.stats_users.is_empty(), "{more}");
    }
    let imported = import(&path, &directory).unwrap();
    assert!(imported.decide.iter().any(|note| note.starts_with("auth_hba_file:")));
    std::fs::remove_dir_all(&directory).unwrap();
}

/// Each of them runs in the real PgBouncer; what is written of it is right but for what has to be decided.
#[test]
fn samples_come_out_as_they_are_kept() {
    for name in ["saas-schemas", "rails-md5", "central-tls", "many-databases", "auth-query-hba"] {
        let directory = samples();
        let imported = import(&directory.join(format!("{name}.ini")), &directory).unwrap();
        let here = directory.display().to_string();
        let seen = imported.toml.replace(&here, "/etc/pgbouncer");
        let kept = directory.join("imported").join(format!("{name}.toml"));
        if std::env::var_os("TENANTRY_WRITE_DOCS").is_some() {
            std::fs::write(&kept, &seen).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&kept).unwrap_or_default(), seen, "{name}");
        let asks = asks_for_a_role_only(&imported.faults);
        assert!(asks || imported.faults.is_empty(), "{name}: {:#?}", imported.faults);
        assert_eq!(asks, imported.toml.contains("# user = \"...\"  # as whom"), "{name}");
        let ini = std::fs::read_to_string(directory.join(format!("{name}.ini"))).unwrap();
        for line in ini.lines().filter(|line| !line.starts_with([';', '#', '%', '['])) {
            // Every key has come to something or is spoken of.
            let Some((key, _)) = line.split_once('=') else { continue };
            let is_known = keys::SETTINGS.iter().any(|(known, _)| *known == key.trim());
            assert!(is_known || seen.contains(key.trim()), "{name}: {key}");
        }
    }
}
