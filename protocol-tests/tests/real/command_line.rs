//! The binary's other commands, and what it tells systemd.

use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;

use protocol_tests::database::connect;
use protocol_tests::pooler::binary;
use protocol_tests::{Database, Pooler, on_both};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

const ADMIN: &str = "[tenancy]\ntenant_from = [\"user:.\"]\nschema = \"{tenant}\"\n[users.ops]\npassword = \"opspw\"\n\
    [admin]\nstats_users = [\"ops\"]\n[tenants.acme]\n[tenants.umbra]\n";

/// What it says, and what it says of that.
async fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (bool, String, String) {
    let mut command = Command::new(binary());
    command
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = protocol_tests::soon("the command's end", command.output()).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

on_both! {
    async fn top_shows_who_is_busy_and_who_waits(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        let pooler = Pooler::start(&format!("{}{ADMIN}", db.toml(1))).await;
        let (busy, waits) = (pooler.connect_as("app.acme", "secret").await, pooler.connect_as("app.umbra", "secret").await);
        busy.batch_execute("begin").await.unwrap();
        let port = pooler.port.to_string();
        let top = async {
            pooler.until_message(1, "client waits for a server").await;
            let said = run(&["top", "-h", "127.0.0.1", "-p", &port, "-U", "ops", "-n", "1", "--count", "1"], &[("PGPASSWORD", "opspw")]).await;
            busy.batch_execute("commit").await.unwrap();
            said
        };
        let ((), (ok, out, err)) = tokio::join!(async { waits.batch_execute("select 1").await.unwrap() }, top);
        assert!(ok, "{err}");
        let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(out.starts_with("Tenantry 0.1.0: 2 clients, 1 wait, "), "{out}");
        let of = |tenant: &str| lines.iter().find(|line| line.first() == Some(&tenant)).unwrap_or_else(|| panic!("{out}"));
        assert_eq!((of("acme")[1], of("acme")[4], of("acme")[5], of("acme")[6]), ("active", "1", "1/1", "0"));
        assert_eq!((of("umbra")[5], of("umbra")[6]), ("0/1", "1"));
        assert!(!out.contains('\u{1b}'), "into a file it draws nothing");
        let (ok, _, err) = run(&["top", "-h", "127.0.0.1", "-p", &port, "-U", "ops"], &[("PGPASSWORD", "wrong")]).await;
        assert!(!ok && err.contains("password authentication failed"), "{err}");
    }

    async fn systemd_hears_when_it_serves_reloads_and_stops(db: &Database) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let socket = tokio::net::UnixDatagram::from_std(socket).unwrap();
        let hears = async || {
            let mut bytes = [0; 512];
            let len = protocol_tests::soon("a word for systemd", socket.recv(&mut bytes)).await.unwrap();
            String::from_utf8_lossy(&bytes[..len]).into_owned()
        };
        let mut pooler = Pooler::start_in(&[("NOTIFY_SOCKET", path.to_str().unwrap())], "", &format!("{}{ADMIN}", db.toml(1))).await;
        assert_eq!(hears().await, "READY=1\n");
        pooler.signal("HUP");
        let reloading = hears().await;
        assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
        assert_eq!(hears().await, "READY=1\n");
        pooler.signal("TERM");
        assert_eq!(hears().await, "STOPPING=1\n");
        pooler.ended().await;
    }

    /// The same ini in front of the same PostgreSQL: PgBouncer's clients find what they found.
    async fn what_is_imported_does_what_pgbouncer_did(db: &Database) {
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path();
        let toml = db.toml(1);
        let value = |key: &str| toml.lines().find_map(|line| line.strip_prefix(&format!("{key} = "))).unwrap().trim_matches('"').to_owned();
        let (host, port, role, password) = ("127.0.0.1", value("port"), value("user"), value("password"));
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (theirs, ours) = (free(), free());
        std::fs::write(here.join("userlist.txt"), "\"shop\" \"shop-pw\"\n\"nobody\" \"\"\n\"ops\" \"ops-pw\"\n").unwrap();
        let ini = |port_of_it: u16| format!(
            "[databases]\nshop = host={host} port={port} dbname={0} user={role} password='{password}' pool_size=2\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port_of_it}\nunix_socket_dir =\nauth_type = md5\n\
             auth_file = userlist.txt\nadmin_users = ops\npool_mode = transaction\nignore_startup_parameters = extra_float_digits\n", db.name);
        std::fs::write(here.join("theirs.ini"), ini(theirs)).unwrap();
        std::fs::write(here.join("ours.ini"), ini(ours)).unwrap();
        let (ok, out, err) = run(&["import-pgbouncer", here.join("ours.ini").to_str().unwrap(), "--directory", here.to_str().unwrap(), "-o", here.join("ours.toml").to_str().unwrap()], &[]).await;
        assert!(ok && out.is_empty() && !err.contains("would say"), "{err}");
        let secret = std::fs::metadata(here.join("ours.toml")).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&secret.permissions()) & 0o777, 0o600, "it holds passwords");
        let again = run(&["import-pgbouncer", here.join("ours.ini").to_str().unwrap(), "-o", here.join("ours.toml").to_str().unwrap()], &[]).await;
        assert!(!again.0, "nothing is written over");
        // PgBouncer does not run as root.
        let mut bouncer = Command::new("/usr/sbin/pgbouncer");
        let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(here).unwrap());
        if owner == 0 {
            std::fs::set_permissions(here, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            bouncer = Command::new("setpriv");
            bouncer.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "/usr/sbin/pgbouncer"]);
        }
        let mut bouncer = bouncer.arg("theirs.ini").current_dir(here).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        let mut tenantry = Command::new(binary()).args(["serve", "ours.toml"]).current_dir(here).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        for port in [theirs, ours] {
            let listens = async { while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() { tokio::task::yield_now().await } };
            protocol_tests::soon("a pooler that listens", listens).await;
            let url = |user: &str, password: &str, database: &str| format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}");
            // The user and the database may have one name.
            let shop = connect(&url("shop", "shop-pw", "shop")).await.unwrap_or_else(|error| panic!("{port} of {theirs}, {ours}: {error:?}"));
            let row = shop.query_one("select current_database()::text, current_user::text, current_setting('search_path')", &[]).await.unwrap();
            assert_eq!([0, 1, 2].map(|at| row.get::<_, String>(at)), [db.name.clone(), role.clone(), "\"$user\", public".to_owned()]);
            assert!(connect(&url("shop", "wrong", "shop")).await.is_err());
            assert!(connect(&url("nobody", "", "shop")).await.is_err(), "an empty secret lets nobody in");
            assert!(connect(&url("shop", "shop-pw", "other")).await.is_err());
            let ops = connect(&url("ops", "ops-pw", "pgbouncer")).await.unwrap();
            ops.simple_query("SHOW POOLS").await.unwrap();
        }
        bouncer.kill().await.unwrap();
        tenantry.kill().await.unwrap();
    }
}

#[tokio::test]
async fn pgbouncers_own_sample_is_imported() {
    let sample = "/usr/share/doc/pgbouncer/examples/pgbouncer.ini";
    let directory = tempfile::tempdir().unwrap();
    let (ok, out, err) = run(&["import-pgbouncer", sample], &[]).await;
    assert!(ok && err.contains("[databases] is empty"), "{err}");
    // With all that it has as comments, too.
    let text = std::fs::read_to_string(sample).unwrap();
    let whole: Vec<&str> = text
        .lines()
        .map(|line| match line.strip_prefix(';') {
            Some(setting) if setting.contains(" =") && !setting.starts_with([';', ' ']) => setting,
            _ => line,
        })
        .collect();
    let path = directory.path().join("whole.ini");
    std::fs::write(&path, whole.join("\n")).unwrap();
    let (ok, every, err) = run(&["import-pgbouncer", path.to_str().unwrap()], &[]).await;
    assert!(ok && !err.contains("no such setting") && !err.contains("no such key"), "{err}");
    assert!(
        every.contains("[tenants.bardb]")
            && every.contains("database = \"bazdb\"")
            && every.contains("[tenants.\"*\"]"),
        "{every}"
    );
    let toml = directory.path().join("tenantry.toml");
    // Its secrets are elsewhere, if at all.
    std::fs::write(
        &toml,
        every.lines().filter(|line| !line.starts_with("file = ")).collect::<Vec<_>>().join("\n"),
    )
    .unwrap();
    // Some of its databases have no user, and no role is guessed.
    let (ok, _, err) = run(&["check", toml.to_str().unwrap()], &[]).await;
    assert!(!ok && err.contains("clusters.pg1.user: required"), "{err}");
    let decided = std::fs::read_to_string(&toml)
        .unwrap()
        .replace("# user = \"...\"  # as whom", "user = \"app\"  # as whom");
    std::fs::write(&toml, decided).unwrap();
    let (ok, _, err) = run(&["check", toml.to_str().unwrap()], &[]).await;
    assert!(ok, "{err}\n{every}");
    assert!(
        out.contains("listen = [\"localhost:6432\", \"unix:/var/run/postgresql/.s.PGSQL.6432\"]"),
        "{out}"
    );
}

#[tokio::test]
async fn check_prints_what_is_not_default_and_the_rule_behind_each_setting() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tenantry.toml");
    std::fs::write(&path, "[clusters.main]\nhost = \"127.0.0.1\"\nuser = \"saas\"\npassword = \"hushhush\"\n[users.app]\ntenants = [\"*\"]\npassword = \"x\"\n[general]\nmax_client_conn = 77\n[tenancy]\nunknown = \"template\"\n[classes.gold]\nweight = 8\n[tenants.\"ac*\"]\nclass = \"gold\"\nschema = \"{tenant}\"\n").unwrap();
    let (ok, out, _) = run(&["check", path.to_str().unwrap()], &[]).await;
    assert!(
        ok && out.contains("max_client_conn")
            && out.contains("77  # default: 10000")
            && out.contains("classes.gold.weight"),
        "{out}"
    );
    assert!(!out.contains("hushhush"));
    let (ok, out, _) = run(&["check", path.to_str().unwrap(), "--tenant", "acme"], &[]).await;
    let has = |key: &str, value: &str, rule: &str| {
        out.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.first() == Some(&key)
                && words.get(1) == Some(&value)
                && line.ends_with(&format!("# {rule}"))
        })
    };
    assert!(
        ok && has("weight", "8", "classes.gold")
            && has("schema", "acme", "tenants.\"ac*\"")
            && has("max_waiting_clients", "1000", "default"),
        "{out}"
    );
}

#[tokio::test]
async fn the_man_page_and_completions_know_every_command() {
    let (_, help, _) = run(&["--help"], &[]).await;
    let commands = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty());
    let commands: BTreeSet<&str> = commands
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.len() >= 8, "{commands:?}");
    let (ok, page, _) = run(&["man"], &[]).await;
    assert!(ok);
    for command in &commands {
        assert!(
            page.contains(&format!("tenantry\\-{}(1)", command.replace('-', "\\-"))),
            "{command}"
        );
    }
    for shell in ["bash", "zsh", "fish"] {
        let (ok, script, _) = run(&["completions", shell], &[]).await;
        assert!(ok && commands.iter().all(|command| script.contains(command)), "{shell}");
    }
    let (_, script, _) = run(&["completions", "bash"], &[]).await;
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
    bash.stdin.take().unwrap().write_all(script.as_bytes()).await.unwrap();
    assert!(bash.wait().await.unwrap().success());
}
