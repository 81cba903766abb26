//! SCRAM pass-through: the pooler knows a verifier, its clients the password, and that is enough.

use protocol_tests::database::connect;
use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::{Cluster, Database, Pooler, on_both};

/// A database whose login role, `{name}`, is asked for SCRAM, and the role's stored secret.
async fn asking_for_scram(db: &Database) -> (Cluster, Database, String) {
    let cluster = Cluster::start(db.major, "");
    let db = Database::create_on(db.major, cluster.port).await;
    db.schemas(&["acme", "umbra"]).await;
    let verifier = verifier(&db).await;
    (cluster, db, verifier)
}

async fn verifier(db: &Database) -> String {
    let sql = format!("select rolpassword from pg_authid where rolname = '{}'", db.name);
    db.admin.query_one(&sql, &[]).await.unwrap().get(0)
}

/// No password for servers anywhere.
fn toml(db: &Database, users: &str) -> String {
    let cluster = db.toml(1).replace("password = \"pw\"\n", "");
    format!("{cluster}{users}{BY_SCHEMA}")
}

async fn name(pooler: &Pooler, user: &str, password: &str) -> Result<String, String> {
    let url = format!("postgres://{user}:{password}@127.0.0.1:{}/", pooler.port);
    match connect(&url).await {
        Ok(client) => Ok(client
            .query_one("select name || ' ' || session_user from who", &[])
            .await
            .unwrap()
            .get(0)),
        Err(error) => {
            let error = error.as_db_error().unwrap();
            let detail = error.detail().unwrap_or_default();
            Err(format!("{} {} {detail}", error.code().code(), error.message()))
        }
    }
}

on_both! {
    async fn the_keys_of_a_client_log_the_pooler_in(shared: &Database) {
        let (_cluster, db, verifier) = asking_for_scram(shared).await;
        let role = &db.name;
        let users = format!("[users.{role}]\npassword = \"{verifier}\"\ntenants = [\"*\"]\n");
        let pooler = Pooler::start(&toml(&db, &users)).await;
        // Nobody has shown a key yet.
        let early = name(&pooler, "app.acme", "secret").await.unwrap_err();
        assert!(early.starts_with("08006 could not connect to server the server asks for a password; none"), "{early}");
        let wrong = name(&pooler, &format!("{role}.acme"), "wrong").await.unwrap_err();
        assert!(wrong.starts_with("28P01"), "{wrong}");
        assert!(name(&pooler, "app.acme", "secret").await.is_err(), "a wrong password shows none");
        assert_eq!(name(&pooler, &format!("{role}.acme"), "pw").await, Ok(format!("acme {role}")));
        // They stay when the client has gone, and serve everybody who may be the tenant.
        assert_eq!(name(&pooler, "app.umbra", "secret").await, Ok(format!("umbra {role}")));
        // A login may be under way, for a client that was served by another server meanwhile: until there is none.
        let end = format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{role}'");
        let ended = async { while !db.admin.query(&end, &[]).await.unwrap().is_empty() { tokio::task::yield_now().await } };
        protocol_tests::soon("no server", ended).await;
        assert_eq!(name(&pooler, "app.acme", "secret").await, Ok(format!("acme {role}")));
        let log = pooler.log_text();
        for secret in verifier.split(['$', ':']).filter(|part| part.len() > 20) {
            assert!(!log.contains(secret), "a secret in the log");
        }
    }

    async fn a_secret_that_has_changed_on_the_server_is_named(shared: &Database) {
        let (_cluster, db, verifier) = asking_for_scram(shared).await;
        let role = &db.name;
        let users = format!("[users.{role}]\npassword = \"{verifier}\"\ntenants = [\"*\"]\n");
        let pooler = Pooler::start(&toml(&db, &users)).await;
        // The same password, but with another salt.
        db.admin.batch_execute(&format!("alter role {role} password 'pw'")).await.unwrap();
        let refused = name(&pooler, &format!("{role}.acme"), "pw").await.unwrap_err();
        assert!(refused.contains("the server keeps another SCRAM secret for the user"), "{refused}");
    }

    async fn a_verifier_that_auth_query_finds_will_do(shared: &Database) {
        let (_cluster, db, _) = asking_for_scram(shared).await;
        let role = &db.name;
        db.admin.batch_execute("create role asker login superuser password 'ask'").await.unwrap();
        let users = "[users.\"*\"]\ntenants = [\"*\"]\n[auth]\nuser = \"asker\"\npassword = \"ask\"\n\
                     query = \"select rolname, rolpassword from pg_authid where rolname = $1 and rolcanlogin\"\n";
        let pooler = Pooler::start(&toml(&db, users)).await;
        assert!(name(&pooler, &format!("{role}.acme"), "wrong").await.is_err());
        assert_eq!(name(&pooler, &format!("{role}.acme"), "pw").await, Ok(format!("acme {role}")));
        assert_eq!(name(&pooler, &format!("{role}.umbra"), "pw").await, Ok(format!("umbra {role}")));
    }

    async fn a_plain_password_of_a_client_logs_nobody_in(shared: &Database) {
        let (_cluster, db, _) = asking_for_scram(shared).await;
        let users = format!("[users.{}]\npassword = \"pw\"\ntenants = [\"*\"]\n", db.name);
        let pooler = Pooler::start(&toml(&db, &users)).await;
        let refused = name(&pooler, &format!("{}.acme", db.name), "pw").await.unwrap_err();
        assert!(refused.contains("none is configured"), "{refused}");
    }
}
