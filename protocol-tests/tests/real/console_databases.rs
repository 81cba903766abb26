//! An operator's commands for databases, and for the pooler as a whole.

use std::sync::atomic::{AtomicBool, Ordering};

use protocol_tests::database::connect;
use protocol_tests::{Database, Pooler, on_both};

use crate::console::{ADMIN, TENANTS, console, pooler, refused};

on_both! {
    async fn a_database_is_paused_until_no_server_is_left_and_resumed(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        let pooler = pooler(db, &format!("{ADMIN}{TENANTS}")).await;
        let ops = console(&pooler, "ops", "opspw", "pgbouncer").await.unwrap();
        let (busy, waits) = (pooler.connect_as("app.acme", "secret").await, pooler.connect_as("app.umbra", "secret").await);
        assert_eq!(refused(&ops, "pause nowhere").await.0, "3D000");
        busy.batch_execute("begin").await.unwrap();
        let answered = AtomicBool::new(false);
        let pause = async {
            ops.batch_execute(&format!("PAUSE {}", db.name)).await.unwrap();
            answered.store(true, Ordering::Relaxed);
        };
        let end = async {
            pooler.until_message(1, "database changed on the console").await;
            busy.batch_execute("select 1").await.unwrap();
            assert!(!answered.load(Ordering::Relaxed), "a transaction is under way");
            busy.batch_execute("commit").await.unwrap();
        };
        tokio::join!(pause, end);
        db.until("true", 0).await;
        assert_eq!(ops.query("show databases", &[]).await.unwrap()[0].get::<_, i64>("paused"), 1);
        let wait = async { waits.query_one("select name from who", &[]).await.unwrap().get::<_, String>(0) };
        let resume = async {
            pooler.until_message(1, "client waits for a server").await;
            ops.batch_execute(&format!("RESUME {}", db.name)).await.unwrap();
        };
        assert_eq!(tokio::join!(wait, resume).0, "umbra");
        // All of them; and one tenant has a state of its own.
        ops.batch_execute("PAUSE; RESUME TENANT acme").await.unwrap();
        assert_eq!(busy.query_one("select name from who", &[]).await.unwrap().get::<_, String>(0), "acme");
        let wait = async { waits.batch_execute("select 1").await.unwrap() };
        let resume = async {
            pooler.until_message(2, "client waits for a server").await;
            let rows = ops.query("show overrides", &[]).await.unwrap();
            let row = |at: usize| rows[at].get::<_, Option<String>>("tenant").or_else(|| rows[at].get("database"));
            assert_eq!((row(0), row(1), rows.len()), (Some("acme".into()), Some("*".into()), 2));
            ops.batch_execute("RESUME").await.unwrap();
        };
        tokio::join!(wait, resume);
    }

    async fn a_database_is_closed_to_those_who_come(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        let pooler = pooler(db, &format!("{ADMIN}{TENANTS}")).await;
        let ops = console(&pooler, "ops", "opspw", "pgbouncer").await.unwrap();
        let url = format!("postgres://app.acme:secret@127.0.0.1:{}/", pooler.port);
        let acme = connect(&url).await.unwrap();
        ops.batch_execute(&format!("DISABLE {}", db.name)).await.unwrap();
        let error = connect(&url).await.unwrap_err();
        assert_eq!(error.as_db_error().unwrap().message(), format!("database \"{}\" is disabled", db.name));
        assert_eq!(crate::sqlstate(&error), "57P03");
        acme.batch_execute("select 1").await.unwrap();
        ops.batch_execute(&format!("ENABLE {}", db.name)).await.unwrap();
        connect(&url).await.unwrap();
        // KILL: nobody is left, and nothing runs until it is resumed.
        ops.batch_execute(&format!("KILL {}", db.name)).await.unwrap();
        assert!(acme.batch_execute("select 1").await.is_err());
        db.until("true", 0).await;
        ops.batch_execute(&format!("RESUME {}", db.name)).await.unwrap();
        connect(&url).await.unwrap().batch_execute("select 1").await.unwrap();
        ops.batch_execute(&format!("SUSPEND {}", db.name)).await.unwrap();
        assert_eq!(crate::sqlstate(&connect(&url).await.unwrap_err()), "57P03");
        ops.batch_execute(&format!("RESUME {}", db.name)).await.unwrap();
        connect(&url).await.unwrap();
    }

    async fn shutdown_waits_for_whom_it_is_told_to(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        for (command, ends_with) in [("SHUTDOWN", ""), ("SHUTDOWN WAIT_FOR_SERVERS", "commit"), ("SHUTDOWN WAIT_FOR_CLIENTS", "leave")] {
            let mut pooler = pooler(db, &format!("{ADMIN}{TENANTS}")).await;
            let ops = console(&pooler, "ops", "opspw", "pgbouncer").await.unwrap();
            let acme = pooler.connect_as("app.acme", "secret").await;
            acme.batch_execute("begin; insert into who values ('late')").await.unwrap();
            ops.batch_execute(command).await.unwrap();
            if !ends_with.is_empty() {
                let url = format!("postgres://app.acme:secret@127.0.0.1:{}/", pooler.port);
                let refused = async { while connect(&url).await.is_ok() { tokio::task::yield_now().await } };
                protocol_tests::soon("nobody is let in", refused).await;
                acme.batch_execute("commit").await.unwrap();
            }
            if ends_with == "leave" {
                acme.batch_execute("select 1").await.unwrap();
                assert!(pooler.is_running());
            }
            drop(acme);
            assert!(pooler.ended().await.success(), "{command}");
        }
        let late: i64 = db.admin.query_one("select count(*) from acme.who where name = 'late'", &[]).await.unwrap().get(0);
        assert_eq!(late, 2, "what was cut off is rolled back");
    }

    /// As entries of PgBouncer's with a dbname have it.
    async fn commands_take_the_names_that_clients_ask_for(db: &Database) {
        db.schemas(&["acme"]).await;
        let rules = format!("[auth]\ntype = \"trust\"\n{ADMIN}[users.ops]\npassword = \"opspw\"\n[tenancy]\ntenant_from = [\"database\"]\n\
            [tenants.orders]\ndatabase = \"{0}\"\nschema = \"acme\"\n", db.name);
        // No client names the cluster's own.
        let toml = db.toml(2).replace("[users.app]", "database = \"template1\"\n[users.app]");
        let pooler = Pooler::start(&format!("{toml}{rules}")).await;
        let ops = console(&pooler, "ops", "opspw", "pgbouncer").await.unwrap();
        let url = format!("postgres://app:secret@127.0.0.1:{}/orders", pooler.port);
        let client = connect(&url).await.unwrap();
        client.batch_execute("select 1").await.unwrap();
        ops.batch_execute("PAUSE orders").await.unwrap();
        db.until("true", 0).await;
        let wait = async { client.query_one("select name from who", &[]).await.unwrap().get::<_, String>(0) };
        let resume = async {
            pooler.until_message(1, "client waits for a server").await;
            ops.batch_execute("RESUME orders").await.unwrap();
        };
        assert_eq!(tokio::join!(wait, resume).0, "acme");
        for command in ["RECONNECT orders", "WAIT_CLOSE orders", "DISABLE orders"] {
            ops.batch_execute(command).await.unwrap_or_else(|error| panic!("{command}: {error}"));
        }
        assert_eq!(crate::sqlstate(&connect(&url).await.unwrap_err()), "57P03");
        ops.batch_execute("ENABLE orders").await.unwrap();
        connect(&url).await.unwrap();
        assert_eq!(refused(&ops, "PAUSE nowhere").await.0, "3D000");
        // Dashboards keep their names; PostgreSQL's stands where PgBouncer shows it.
        let rows = ops.query("SHOW DATABASES", &[]).await.unwrap();
        assert_eq!((rows[0].get::<_, &str>("name"), rows[0].get::<_, &str>("database")), ("orders", &*db.name));
        for command in ["SHOW POOLS", "SHOW STATS", "SHOW STATS_TOTALS", "SHOW CLIENTS", "SHOW SERVERS"] {
            let rows = ops.query(command, &[]).await.unwrap();
            assert!(rows.iter().any(|row| row.get::<_, &str>("database") == "orders"), "{command}: {rows:?}");
            assert!(rows.iter().all(|row| row.get::<_, &str>("database") != db.name), "{command}: {rows:?}");
        }
    }

    /// The clients that are waited for may themselves wait for an operator.
    async fn orders_are_taken_while_the_shutdown_waits_for_clients(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        let mut pooler = pooler(db, &format!("{ADMIN}{TENANTS}")).await;
        let ops = console(&pooler, "ops", "opspw", "pgbouncer").await.unwrap();
        let acme = pooler.connect_as("app.acme", "secret").await;
        ops.batch_execute("PAUSE TENANT acme").await.unwrap();
        let wait = async { acme.batch_execute("select 1").await.unwrap() };
        let operate = async {
            pooler.until_message(1, "client waits for a server").await;
            ops.batch_execute("SHUTDOWN WAIT_FOR_CLIENTS").await.unwrap();
            pooler.until_message(1, "waiting until all clients have left; nobody is let in").await;
            ops.batch_execute("SHUTDOWN WAIT_FOR_CLIENTS").await.unwrap();
            ops.batch_execute("RELOAD").await.unwrap();
            ops.batch_execute("RESUME TENANT acme").await.unwrap();
        };
        tokio::join!(wait, operate);
        drop(acme);
        assert!(pooler.ended().await.success());
    }

    async fn an_operator_sees_the_shutdown_and_can_end_it(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        let mut pooler = pooler(db, &format!("{ADMIN}{TENANTS}")).await;
        let ops = console(&pooler, "ops", "opspw", "pgbouncer").await.unwrap();
        let acme = pooler.connect_as("app.acme", "secret").await;
        acme.batch_execute("begin").await.unwrap();
        ops.batch_execute("SHUTDOWN WAIT_FOR_SERVERS").await.unwrap();
        pooler.until_message(1, "draining").await;
        // Who is there, and one that comes now.
        let late = console(&pooler, "ops", "opspw", "pgbouncer").await.unwrap();
        for console in [&ops, &late] {
            assert_eq!(console.query("SHOW SERVERS", &[]).await.unwrap().len(), 1);
        }
        ops.batch_execute("SHUTDOWN WAIT_FOR_SERVERS").await.unwrap();
        ops.batch_execute("RELOAD").await.unwrap();
        late.batch_execute("SHUTDOWN").await.unwrap();
        assert!(pooler.ended().await.success());
    }

    async fn who_waits_for_a_pause_is_answered_when_it_is_resumed_or_cancelled(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        let pooler = pooler(db, &format!("{ADMIN}{TENANTS}")).await;
        let (ops, other) = (console(&pooler, "ops", "opspw", "pgbouncer").await.unwrap(), console(&pooler, "ops", "opspw", "tenantry").await.unwrap());
        // A session that keeps its server.
        let acme = pooler.connect_as("app.acme", "secret").await;
        acme.batch_execute("create temporary table mine (n int)").await.unwrap();
        pooler.until_message(1, "session pinned to its server").await;
        let pause = format!("PAUSE {}", db.name);
        let cancel = async {
            pooler.until_message(1, "database changed on the console").await;
            ops.cancel_token().cancel_query(tokio_postgres::NoTls).await.unwrap();
        };
        let (answer, ()) = tokio::join!(refused(&ops, &pause), cancel);
        assert_eq!(answer.0, "57014");
        assert_eq!(ops.query("show databases", &[]).await.unwrap()[0].get::<_, i64>("paused"), 1, "what was changed holds");
        let resume = async {
            pooler.until_message(2, "database changed on the console").await;
            other.batch_execute("RESUME").await.unwrap();
        };
        let (answer, ()) = tokio::join!(refused(&ops, &pause), resume);
        assert_eq!(answer.0, "57014");
        acme.batch_execute("insert into mine values (1)").await.unwrap();
        let line = pooler.until_message(3, "database changed on the console").await;
        assert!(line["user"] == "ops" && line["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
        assert_eq!(pooler.messages("configuration reloaded"), 0, "nothing was read again");
    }
}
