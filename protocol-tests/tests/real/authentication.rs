//! Clients prove who they are, and the pooler proves itself to PostgreSQL.

use protocol_tests::cluster::PASSWORD;
use protocol_tests::database::connect;
use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::wire::{V3_0, message, startup};
use protocol_tests::{Cluster, Database, Pooler, Wire, on_both};

use crate::sqlstate;

async fn may(pooler: &Pooler, user: &str, password: &str) -> Result<(), String> {
    let url = format!("postgres://{user}:{password}@127.0.0.1:{}/", pooler.port);
    match connect(&url).await {
        Ok(client) => client.batch_execute("select 1").await.map_err(|e| sqlstate(&e)),
        Err(error) => Err(error
            .as_db_error()
            .map_or_else(|| error.to_string(), |e| format!("{} {}", e.code().code(), e.message()))),
    }
}

on_both! {
    async fn secrets_come_from_the_toml_files_and_pgbouncers_userlist(db: &Database) {
        db.schemas(&["acme"]).await;
        db.admin.batch_execute(&format!("create role {}_v password 'stored'", db.name)).await.unwrap();
        let sql = format!("select rolpassword from pg_authid where rolname = '{}_v'", db.name);
        let verifier: String = db.admin.query_one(&sql, &[]).await.unwrap().get(0);
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("userlist.txt"), format!("; comment\n\"listed\" \"from list\"\n\"verified\" \"{verifier}\"\n")).unwrap();
        std::fs::write(files.path().join("secret"), "from file\n").unwrap();
        let pooler = Pooler::start(&format!(
            "{}[users.filed]\npassword_file = \"{1}/secret\"\ntenants = [\"*\"]\n[users.\"*\"]\ntenants = [\"*\"]\n\
             [auth]\nfile = \"{1}/userlist.txt\"\n{BY_SCHEMA}", db.toml(1), files.path().display())).await;
        for (user, password) in [("app", "secret"), ("filed", "from file"), ("listed", "from list"), ("verified", "stored")] {
            assert_eq!(may(&pooler, &format!("{user}.acme"), password).await, Ok(()), "{user}");
        }
        // Unknown users and wrong passwords are told the same, word by word.
        for user in ["app", "verified", "nobody"] {
            let want = format!("28P01 password authentication failed for user \"{user}\"");
            assert_eq!(may(&pooler, &format!("{user}.acme"), "wrong").await, Err(want));
        }
    }

    async fn md5_works_too(db: &Database) {
        db.schemas(&["acme"]).await;
        let pooler = Pooler::start(&format!("{}[auth]\ntype = \"md5\"\n{BY_SCHEMA}", db.toml(1))).await;
        assert_eq!(may(&pooler, "app.acme", "secret").await, Ok(()));
        assert!(may(&pooler, "app.acme", "wrong").await.unwrap_err().starts_with("28P01"));
        assert!(may(&pooler, "nobody.acme", "secret").await.unwrap_err().starts_with("28P01"));
    }

    /// All come from one address, as in a sidecar and behind NAT.
    async fn who_guesses_passwords_keeps_nobody_else_out(db: &Database) {
        db.schemas(&["acme", "umbra", "late"]).await;
        let pooler = Pooler::start(&format!(
            "{}[users.web]\npassword = \"secret\"\ntenants = [\"*\"]\n[admin]\nusers = [\"app\"]\n{BY_SCHEMA}", db.toml(2))).await;
        let may = async |user: &str, password: &str| may(&pooler, user, password).await;
        assert_eq!(may("app.acme", "secret").await, Ok(()));
        let guess = async |user: &str| {
            let mut answers = Vec::new();
            for _ in 0..25 {
                answers.push(may(user, "wrong").await.unwrap_err()[..5].to_owned());
            }
            answers.dedup();
            answers
        };
        assert_eq!(guess("app.umbra").await, ["28P01", "28000"]);
        let refused = may("app.umbra", "secret").await.unwrap_err();
        assert_eq!(refused, "28000 too many failed authentication attempts", "a newcomer, who may be the one who guessed");
        for user in ["app.acme", "app.late", "web.umbra"] {
            assert_eq!(may(user, "secret").await, Ok(()), "{user}");
        }
        // Users that nobody knows, and known ones of tenants that nobody knows.
        for number in 0..300 {
            may(&format!("nobody{number}.acme"), "wrong").await.unwrap_err();
            may(&format!("app.unknown{number}"), "wrong").await.unwrap_err();
        }
        for user in ["app.acme", "app.late", "web.umbra", "web.acme"] {
            assert_eq!(may(user, "secret").await, Ok(()), "{user}");
        }
        let console = format!("postgres://app:secret@127.0.0.1:{}/tenantry", pooler.port);
        connect(&console).await.unwrap().simple_query("show version").await.unwrap();
        // Who has proved itself and is then guessed at, or sends an old password, is let in by the right one.
        for _ in 0..3 {
            may("app.late", "wrong").await.unwrap_err();
        }
        pooler.reload(1, |toml| toml.replace("[users.web]", "[auth]\nmax_failures = 1\n[users.web]")).await;
        assert_eq!(may("app.late", "wrong").await.unwrap_err(), "28P01 password authentication failed for user \"app\"");
        assert_eq!(may("app.late", "secret").await, Ok(()));
        assert_eq!(guess("web.late").await, ["28P01", "28000"]);
        pooler.reload(2, |toml| toml.replace("max_failures = 1", "max_failures = 0")).await;
        assert_eq!(guess("web.late").await, ["28P01"]);
    }

    async fn nothing_is_served_before_the_password(db: &Database) {
        db.schemas(&["acme"]).await;
        let pooler = Pooler::start(&format!("{}{BY_SCHEMA}", db.toml(1))).await;
        let query = protocol_tests::wire::query("select 1");
        for early in [query.clone(), message('p', b""), message('p', b"SCRAM-SHA-256\0\0\0\0\x02x"), message('p', b"OTHER\0\xff\xff\xff\xff"), message('p', b"SCRAM-SHA-256\0\0\0\0\x04n,,x")] {
            let mut wire = Wire::open(pooler.port).await;
            wire.send(&startup(V3_0, &[("user", "app.acme")])).await;
            assert_eq!(wire.receive().await.tag, 'R');
            wire.send(&early).await;
            let answer = wire.receive().await;
            assert_eq!((answer.field('S').as_str(), answer.field('C').as_str()), ("FATAL", "08P01"), "{early:?}");
            assert_eq!(wire.next().await, None);
        }
        assert_eq!(may(&pooler, "app.acme", "secret").await, Ok(()));
    }

    async fn the_pooler_logs_in_by_scram_md5_trust_and_never_in_the_clear(db: &Database) {
        let cluster = Cluster::start(db.major, "");
        let db = Database::create_on(db.major, cluster.port).await;
        db.schemas(&["acme"]).await;
        db.admin.batch_execute(&format!("set password_encryption = 'md5'; create role {0}_md5 login password '{PASSWORD}'; grant {0} to {0}_md5; create role {0}_open login; grant {0} to {0}_open", db.name)).await.unwrap();
        let name = &db.name;
        cluster.hba(&format!("host all {name} all scram-sha-256\nhost all {name}_md5 all md5\nhost all {name}_open all trust\nhost all {name}_clear all password\nhost all all all scram-sha-256\n"));
        db.admin.batch_execute(&format!("create role {name}_clear login password '{PASSWORD}'; select pg_reload_conf()")).await.unwrap();
        let pooler = Pooler::start(&format!(
            "{}[tenancy]\ntenant_from = [\"user:.\"]\n[tenants.scram]\n\
             [tenants.md5]\nuser = \"{name}_md5\"\npassword = \"{PASSWORD}\"\n[tenants.open]\nuser = \"{name}_open\"\n\
             [tenants.clear]\nuser = \"{name}_clear\"\npassword = \"{PASSWORD}\"\n[tenants.wrong]\npassword = \"wrong\"\nuser = \"{name}_md5x\"\n", db.toml(9))).await;
        for tenant in ["scram", "md5", "open"] {
            assert_eq!(may(&pooler, &format!("app.{tenant}"), "secret").await, Ok(()), "{tenant}");
        }
        assert_eq!(may(&pooler, "app.clear", "secret").await, Err("08006 could not connect to server".to_owned()));
        let wrong = may(&pooler, "app.wrong", "secret").await.unwrap_err();
        assert!(wrong.starts_with("28P01 server login failed: password authentication failed for user"), "not the client's: {wrong}");
    }
}
