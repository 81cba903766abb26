//! Limits on transactions by the pooler's own clock, on logins, and `quota_mode = "audit"`.

use protocol_tests::database::connect;
use protocol_tests::wire::query;
use protocol_tests::{Database, Pooler, Wire, on_both};
use serde_json::Value;

use crate::raw;

async fn limited(db: &Database, acme: &str) -> Pooler {
    db.schemas(&["acme", "umbra"]).await;
    Pooler::start(&format!(
        "{}[auth]\ntype = \"trust\"\n[tenancy]\ntenant_from = [\"user:.\"]\nschema = \"{{tenant}}\"\n[tenants.acme]\n{acme}\n[tenants.umbra]\n",
        db.toml(3)
    ))
    .await
}

/// The FATAL error that comes next.
async fn last_word(wire: &mut Wire) -> (String, String) {
    loop {
        let message = wire.receive().await;
        if message.tag == 'E' {
            assert_eq!(message.field('S'), "FATAL");
            return (message.field('C'), message.field('H'));
        }
    }
}

fn told(sqlstate: &str, setting: &str) -> (String, String) {
    (sqlstate.to_owned(), format!("The limit is the tenant's setting {setting}."))
}

on_both! {
    async fn a_transaction_that_idles_ends_with_its_session(db: &Database) {
        let pooler = limited(db, "idle_transaction_timeout = \"1s\"").await;
        let (mut acme, mut umbra) = (raw(&pooler, "acme").await, raw(&pooler, "umbra").await);
        umbra.run("begin").await.unwrap();
        acme.run("set statement_timeout = 0; set idle_in_transaction_session_timeout = 0").await.unwrap();
        // A statement that takes longer than that is not idle, nor is a session without a transaction.
        acme.run("begin; insert into who values ('lost')").await.unwrap();
        acme.run("select pg_sleep(1.5)").await.unwrap();
        assert_eq!(last_word(&mut acme).await, told("25P03", "idle_transaction_timeout"));
        umbra.run("select pg_sleep(0.1)").await.unwrap();
        umbra.run("commit").await.unwrap();
        db.until("state like 'idle in%'", 0).await;
        assert_eq!(raw(&pooler, "acme").await.run("select name from who").await.unwrap(), ["acme"], "rolled back");
    }

    async fn a_transaction_that_takes_too_long_ends_with_its_session(db: &Database) {
        let pooler = limited(db, "transaction_timeout = \"1500ms\"").await;
        let (mut busy, mut talks, mut quiet) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await, raw(&pooler, "acme").await);
        quiet.run("select 1").await.unwrap();
        busy.send(&query("select pg_sleep(30)")).await;
        assert_eq!(last_word(&mut busy).await, told("25P04", "transaction_timeout"));
        talks.run("begin").await.unwrap();
        talks.run("select pg_sleep(0.1)").await.unwrap();
        assert_eq!(last_word(&mut talks).await, told("25P04", "transaction_timeout"));
        // PostgreSQL was told to stop, too.
        db.until("query like '%pg_sleep(30)%'", 0).await;
        // Many short transactions may take as long as they like.
        for _ in 0..6 {
            quiet.run("select pg_sleep(0.3)").await.unwrap();
        }
    }

    async fn a_statement_that_takes_too_long_is_cancelled_and_the_session_stays(db: &Database) {
        let pooler = limited(db, "query_timeout = \"1s\"").await;
        let mut acme = raw(&pooler, "acme").await;
        acme.run("set statement_timeout = 0").await.unwrap();
        acme.send(&query("select pg_sleep(30)")).await;
        let (messages, _) = acme.until_ready().await;
        let error = messages.iter().find(|message| message.tag == 'E').unwrap();
        let fields = ['S', 'C', 'M', 'H'].map(|code| error.field(code));
        assert_eq!(fields, ["ERROR", "57014", "canceling statement due to statement timeout", "The limit is the tenant's setting query_timeout."]);
        acme.run("begin").await.unwrap();
        acme.run("select pg_sleep(0.1)").await.unwrap();
        assert_eq!(acme.run("select pg_sleep(30)").await.unwrap_err(), "57014");
        acme.run("rollback").await.unwrap();
        assert_eq!(acme.run("select name from who").await.unwrap(), ["acme"]);
    }

    async fn one_that_goes_on_after_its_cancel_ends_with_its_session(db: &Database) {
        let pooler = limited(db, "query_timeout = \"1s\"").await;
        let mut acme = raw(&pooler, "acme").await;
        // PostgreSQL may signal twice for one cancel (the process, and its group), and the second one may meet what is
        // done about the first: a second net is around that.
        let stubborn = "do $$ begin for n in 1..5 loop begin begin perform pg_sleep(3); exception when query_canceled then perform pg_sleep(3); end; \
            exception when query_canceled then perform pg_sleep(3); end; end loop; end $$";
        acme.send(&query(stubborn)).await;
        assert_eq!(last_word(&mut acme).await, told("57014", "query_timeout"));
        db.until("query like '%query_canceled%'", 0).await;
    }

    async fn clients_that_come_too_fast_are_refused(db: &Database) {
        let pooler = limited(db, "max_connection_rate = 2").await;
        let url = pooler.url("app.acme", "");
        let all = tokio::join!(connect(&url), connect(&url), connect(&url), connect(&url));
        let mut refused = 0;
        for error in [all.0, all.1, all.2, all.3].into_iter().filter_map(Result::err) {
            assert_eq!(error.as_db_error().unwrap().code().code(), "53300");
            refused += 1;
        }
        assert!(refused > 0);
        raw(&pooler, "umbra").await;
    }

    async fn audited_quotas_are_logged_and_refuse_nobody(db: &Database) {
        let pooler = limited(
            db,
            "quota_mode = \"audit\"\nmax_client_connections = 1\nmax_waiting_clients = 1\nmax_server_connections = 1\n\
             max_connection_rate = 1\nquery_wait_timeout = \"100ms\"\nidle_transaction_timeout = \"100ms\"\n\
             query_timeout = \"1s\"\ntransaction_timeout = \"300ms\"",
        )
        .await;
        let (mut one, mut two, mut three) = tokio::join!(raw(&pooler, "acme"), raw(&pooler, "acme"), raw(&pooler, "acme"));
        one.run("begin").await.unwrap();
        two.send(&query("select name from who")).await;
        pooler.until_message(1, "client waits for a server").await;
        // It would be refused at once, and so not wait: it counts for that only.
        three.send(&query("select name from who")).await;
        let audited = |quota: &'static str| move |line: &Value| line["message"] == "quota exceeded; this would have been refused" && line["quota"] == quota;
        for quota in ["max_client_connections", "max_connection_rate", "max_waiting_clients", "query_wait_timeout", "idle_transaction_timeout", "transaction_timeout"] {
            let logged = pooler.until_log(1, audited(quota)).await;
            assert_eq!(logged["tenant"], "acme");
        }
        // Another one of the same transaction is not missed, and none is counted twice.
        one.run("select pg_sleep(1.2)").await.unwrap();
        pooler.until_log(1, audited("query_timeout")).await;
        for quota in ["query_wait_timeout", "transaction_timeout"] {
            assert_eq!(pooler.count_log(audited(quota)), 1, "{quota}");
        }
        one.run("commit").await.unwrap();
        for wire in [&mut two, &mut three] {
            let (messages, _) = wire.until_ready().await;
            assert!(messages.iter().any(|message| message.tag == 'D'), "it waited, and was served");
        }
    }
}
