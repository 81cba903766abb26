//! A fault in what one tenant or client is, has or asks for costs the others no error and no server.

use std::time::{Duration, Instant};

use protocol_tests::database::connect;
use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::wire::{V3_0, bind, execute, parse, query, scram, startup, sync};
use protocol_tests::{Database, Pooler, Wire, on_both};
use tokio_postgres::Client;

use crate::sqlstate;

const ROUNDS: usize = 15;
const SERVERS: usize = 3;
/// Logins that are refused at once.
const FAILURES: u32 = 3;

/// Process ids of the login role's servers.
async fn servers(db: &Database) -> Vec<i32> {
    let sql = "select pid from pg_stat_activity where usename = $1 order by pid";
    db.admin.query(sql, &[&db.name]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn started(db: &Database, tenants: &str) -> Pooler {
    db.schemas(&["acme", "umbra"]).await;
    let name = &db.name;
    let roles = format!(
        "create role {name}_bad; grant {name}_bad to {name}; grant usage on schema acme, umbra to {name}_bad"
    );
    db.admin.batch_execute(&roles).await.unwrap();
    Pooler::start(&format!("{}{BY_SCHEMA}{tenants}", db.toml(SERVERS))).await
}

/// The others, at work before and behind each fault.
async fn unharmed(db: &Database, pooler: &Pooler, fault: impl AsyncFn(usize)) {
    let others = [pooler.connect("acme").await, pooler.connect("umbra").await];
    let work = async |round: usize| {
        for (client, name) in others.iter().zip(["acme", "umbra"]) {
            let row = client.query_one("select name, current_user::text from who", &[]).await;
            let row = row.unwrap_or_else(|error| panic!("{name} in round {round}: {error:?}"));
            assert_eq!((row.get(0), row.get(1)), (name, &*db.name), "round {round}");
        }
    };
    // One each, at the same time.
    for client in &others {
        client.batch_execute("begin").await.unwrap();
    }
    for client in &others {
        client.batch_execute("commit").await.unwrap();
    }
    work(0).await;
    let before = servers(db).await;
    assert!(before.len() >= others.len(), "{before:?}");
    for round in 1..=ROUNDS {
        fault(round).await;
        work(round).await;
    }
    let after = servers(db).await;
    assert!(before.iter().all(|pid| after.contains(pid)), "{before:?}, {after:?}");
}

/// A login that is refused with that SQLSTATE.
async fn refused(pooler: &Pooler, user: &str, options: &str, want: &str) {
    let error = connect(&format!("{}{options}", pooler.url(user, ""))).await.unwrap_err();
    assert_eq!(
        error.as_db_error().map(|error| error.code().code()),
        Some(want),
        "{user}{options}: {error:?}"
    );
}

async fn fails(client: &Client, sql: &str, want: &str) {
    assert_eq!(
        client.batch_execute(sql).await.map_err(|error| sqlstate(&error)[..5].to_owned()),
        Err(want.to_owned()),
        "{sql}"
    );
}

on_both! {
    async fn logins_as_a_role_that_is_not_there(db: &Database) {
        let pooler = started(db, "[tenants.bad]\nschema = \"acme\"\nrole = \"nobody_has_it\"\n").await;
        unharmed(db, &pooler, async |_| refused(&pooler, "app.bad", "", "58000").await).await;
    }

    async fn logins_with_settings_that_postgresql_refuses(db: &Database) {
        let pooler = started(db, "[tenants.bad]\nschema = \"acme\"\nsettings = { work_mem = \"1zz\" }\n").await;
        unharmed(db, &pooler, async |round| {
            refused(&pooler, "app.bad", "", "58000").await;
            refused(&pooler, "app.acme", "?options=-c%20nosuch=1", "42704").await;
            refused(&pooler, "app.umbra", &format!("?options=-c%20work_mem={round}zz"), "22023").await;
        }).await;
    }

    async fn logins_to_a_schema_or_database_that_is_not_there(db: &Database) {
        let pooler = started(db, "[tenants.bad]\nschema = \"no_such\"\n[tenants.worse]\ndatabase = \"no_such\"\n").await;
        unharmed(db, &pooler, async |_| {
            refused(&pooler, "app.bad", "", "3F000").await;
            refused(&pooler, "app.worse", "", "3D000").await;
        }).await;
    }

    /// The login role is everybody's; the password is the tenant's own.
    async fn logins_by_a_wrong_password_of_one_tenants(db: &Database) {
        let pooler = started(db, "[tenants.bad]\nschema = \"acme\"\npassword = \"wrong\"\n").await;
        // The first time, nobody knows that it will fail: room may be made for it.
        refused(&pooler, "app.bad", "", "28P01").await;
        unharmed(db, &pooler, async |_| {
            refused(&pooler, "app.bad", "", "28P01").await;
            // A server more is needed, by the right password.
            let mut clients = Vec::new();
            for _ in 0..2 {
                let client = pooler.connect("acme").await;
                client.batch_execute("begin").await.unwrap();
                clients.push(client);
            }
        }).await;
    }

    /// A switch that was refused in a session, in front of each shape of what the client sends.
    async fn a_role_that_was_revoked_while_sessions_use_it(db: &Database) {
        let name = &db.name;
        let pooler = started(db, &format!("[tenants.bad]\nschema = \"acme\"\nrole = \"{name}_bad\"\n")).await;
        let bad = pooler.connect("bad").await;
        let mut wire = Wire::open(pooler.port).await;
        wire.send(&startup(V3_0, &[("user", "app.bad")])).await;
        scram(&mut wire, "secret").await;
        wire.logged_in().await;
        bad.batch_execute("select 1").await.unwrap();
        db.admin.batch_execute(&format!("revoke {name}_bad from {name}")).await.unwrap();
        let long = format!("select '{}'", "x".repeat(100_000));
        unharmed(db, &pooler, async |_| {
            fails(&bad, "select 1", "58000").await;
            fails(&bad, &long, "58000").await;
            let error = bad.query("select 1", &[]).await.unwrap_err();
            assert_eq!(sqlstate(&error)[..5], *"58000");
        }).await;
        let hacks = "update who set name = 'hacked'";
        for units in [
            vec![query(hacks)],
            vec![[parse("", hacks), bind("", ""), execute("", 0), sync()].concat()],
            vec![query("select 1"), query("commit"), query(hacks)],
            vec![query(hacks); 40],
            vec![[parse("", "select 1"), sync()].concat(), [parse("", &long), sync()].concat(), query(&format!("rollback; {hacks}"))],
        ] {
            wire.send(&units.concat()).await;
            for unit in units {
                let (answer, _) = wire.until_ready().await;
                assert!(answer.iter().any(|m| m.tag == 'E' && m.field('C') == "58000"), "{unit:?}: {answer:?}");
            }
        }
        db.admin.batch_execute(&format!("grant {name}_bad to {name}")).await.unwrap();
        bad.batch_execute("select 1").await.unwrap();
        let names = db.admin.query("select name from acme.who union select name from umbra.who", &[]).await.unwrap();
        assert_eq!(names.len(), 2);
    }

    async fn timeouts_that_a_client_sets_and_leaves(db: &Database) {
        let pooler = started(db, "").await;
        unharmed(db, &pooler, async |_| {
            for tenant in ["acme", "umbra"] {
                let client = pooler.connect(tenant).await;
                let sets = "set lock_timeout = 1; set idle_in_transaction_session_timeout = 1; set idle_session_timeout = 200";
                for set in sets.split("; ") {
                    client.batch_execute(set).await.unwrap();
                }
                client.batch_execute(&sets.replace("set ", "set session ")).await.unwrap();
                client.batch_execute("select set_config('idle_session_timeout', '250', false)").await.unwrap();
            }
            // Longer than any of them: PostgreSQL looks when it has passed, and says so.
            db.admin.batch_execute("select pg_sleep(0.4)").await.unwrap();
        }).await;
    }

    async fn logins_by_wrong_passwords(db: &Database) {
        let pooler = started(db, "").await;
        unharmed(db, &pooler, async |_| {
            for user in ["app.acme", "nobody.acme"] {
                let url = format!("postgres://{user}:wrong@127.0.0.1:{}/", pooler.port);
                connect(&url).await.unwrap_err();
            }
        }).await;
    }

    /// Each asks a server for a state that nobody has had, and is gone before the answer.
    async fn logins_that_are_given_up_half_way(db: &Database) {
        let pooler = started(db, "[auth]\ntype = \"trust\"\n").await;
        unharmed(db, &pooler, async |round| {
            for number in 0..8 {
                let mut wire = Wire::open(pooler.port).await;
                let options = format!("-c app.state={round}.{number}");
                wire.send(&startup(V3_0, &[("user", "app.acme"), ("options", &options)])).await;
                drop(wire);
            }
        }).await;
    }
    /// To refuse a login costs about as much as to admit one.
    async fn logins_that_are_refused_again_and_again_are_answered_late(db: &Database) {
        let auth = format!("[auth]\ntype = \"trust\"\nmax_failures = {FAILURES}\n");
        let tenants = "[tenants.gone]\nschema = \"acme\"\nstate = \"suspended\"\n\
                       [tenants.full]\nschema = \"acme\"\nmax_client_connections = 1\n";
        let pooler = started(db, &format!("{auth}{tenants}")).await;
        let _full = pooler.connect("full").await;
        let port = pooler.port;
        let mut asked = tokio::task::JoinSet::new();
        for parameters in [
            vec![("user", "app.no/such")],
            vec![("user", "app.gone")],
            vec![("user", "app.full")],
            vec![("user", "app.acme"), ("database", "nowhere")],
            vec![("user", "app.umbra"), ("nosuch", "1")],
            vec![("user", "app.other"), ("work_mem", "zz")],
            vec![("database", "acme")],
        ] {
            asked.spawn(async move {
                let began = Instant::now();
                for _ in 0..FAILURES + 2 {
                    let mut wire = Wire::open(port).await;
                    wire.send(&startup(V3_0, &parameters)).await;
                    let mut told = wire.receive().await;
                    while told.tag != 'E' {
                        assert_ne!(told.tag, 'Z', "{parameters:?}");
                        told = wire.receive().await;
                    }
                }
                let took = began.elapsed();
                assert!(took >= Duration::from_secs(1), "{parameters:?}: {took:?}");
            });
        }
        asked.join_all().await;
    }
}
