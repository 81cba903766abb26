//! Servers that rest too long or are too old are closed; servers that do not answer are given up.

use protocol_tests::{Cluster, Database, Pooler, on_both};

use crate::raw;

async fn with(db: &Database, setting: &str) -> Pooler {
    db.schemas(&["acme", "umbra"]).await;
    let toml = db.toml(2).replace("[users.app]", &format!("{setting}\n[users.app]"));
    Pooler::start(&format!("{toml}[auth]\ntype = \"trust\"\n{}", protocol_tests::pooler::BY_SCHEMA))
        .await
}

on_both! {
    async fn an_idle_server_is_closed_after_server_idle_timeout(db: &Database) {
        let pooler = with(db, "server_idle_timeout = \"500ms\"").await;
        let mut wire = raw(&pooler, "acme").await;
        wire.run("select 1").await.unwrap();
        db.until("true", 0).await;
        assert_eq!(wire.run("select name from who").await.unwrap(), ["acme"], "and a new one is opened");
    }

    async fn a_resting_server_that_does_not_answer_is_found_out_before_it_is_lent(db: &Database) {
        let pooler = with(db, "server_check_delay = \"300ms\"").await;
        let mut wire = raw(&pooler, "acme").await;
        let pid = wire.run("select pg_backend_pid()").await.unwrap().remove(0);
        let signal = |name: &str| {
            let kill = std::process::Command::new("kill").args([name, &pid]).status();
            assert!(kill.unwrap().success());
        };
        signal("-STOP");
        let found = pooler.until_message(1, "server closed: it rested and is not there any more").await;
        assert_eq!(found["pid"].to_string(), pid);
        let another = wire.run("select pg_backend_pid()").await.unwrap().remove(0);
        assert_ne!(another, pid);
        signal("-CONT");
        // One that answers stays, however often it is asked.
        let number: u64 = another.parse().unwrap();
        pooler.until_log(3, |line| line["message"] == "resting server has answered" && line["pid"] == number).await;
        assert_eq!(wire.run("select pg_backend_pid()").await.unwrap(), [another]);
    }

    async fn an_old_server_is_closed_after_server_lifetime(db: &Database) {
        let pooler = with(db, "server_lifetime = \"1s\"").await;
        let mut wire = raw(&pooler, "acme").await;
        let first = wire.run("select pg_backend_pid()").await.unwrap();
        let changed = async { while wire.run("select pg_backend_pid()").await.unwrap() == first {} };
        protocol_tests::soon("another server", changed).await;
    }

    async fn a_postgresql_that_comes_back_is_used_again_and_waiting_clients_are_served(db: &Database) {
        let cluster = Cluster::start(db.major, "");
        let db = Database::create_on(db.major, cluster.port).await;
        let pooler = with(&db, "").await;
        let mut wire = raw(&pooler, "acme").await;
        wire.run("select 1").await.unwrap();
        let (port, name) = (cluster.port, db.name.clone());
        let cluster = cluster.restart_after(|| async {
            wire.send(&protocol_tests::wire::query("select name from who")).await;
            pooler.until_message(1, "login to the server failed").await;
        }).await;
        assert_eq!(wire.until_ready().await.0[1].text(), "acme", "it waited for {name}");
        assert_eq!(cluster.port, port);
    }

    async fn a_server_that_is_killed_ends_its_client_with_postgresqls_words_and_nobody_else(db: &Database) {
        let pooler = with(db, "").await;
        let (mut a, mut b) = (raw(&pooler, "acme").await, raw(&pooler, "umbra").await);
        a.run("begin").await.unwrap();
        let sql = "select pg_terminate_backend(pid) from pg_stat_activity where state = 'idle in transaction' and datname = current_database()";
        db.admin.batch_execute(sql).await.unwrap();
        let last = a.receive().await;
        assert_eq!((last.field('S').as_str(), last.field('C').as_str()), ("FATAL", "57P01"));
        assert_eq!(a.next().await, None);
        assert_eq!(b.run("select name from who").await.unwrap(), ["umbra"]);
    }
}
