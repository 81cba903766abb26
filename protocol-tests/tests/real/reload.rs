//! SIGHUP: users and secrets are read again, whole or not at all, and clients stay.

use protocol_tests::database::connect;
use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::{Cluster, Database, Pooler, on_both};

async fn may(pooler: &Pooler, user: &str, password: &str) -> Result<(), String> {
    let url = format!("postgres://{user}.acme:{password}@127.0.0.1:{}/", pooler.port);
    match connect(&url).await {
        Ok(client) => client.batch_execute("select name from who").await.map_err(|e| e.to_string()),
        Err(error) => Err(error
            .as_db_error()
            .map_or_else(|| error.to_string(), |e| e.code().code().to_owned())),
    }
}

on_both! {
    async fn secrets_and_users_are_read_again_and_clients_stay(db: &Database) {
        db.schemas(&["acme"]).await;
        let files = tempfile::tempdir().unwrap();
        let (list, secret) = (files.path().join("userlist.txt"), files.path().join("secret"));
        std::fs::write(&list, "\"listed\" \"one\"\n").unwrap();
        std::fs::write(&secret, "filed one\n").unwrap();
        let pooler = Pooler::start(&format!(
            "{}[users.filed]\npassword_file = \"{}\"\ntenants = [\"*\"]\n[users.\"*\"]\ntenants = [\"*\"]\n[auth]\nfile = \"{}\"\n{BY_SCHEMA}",
            db.toml(2), secret.display(), list.display())).await;
        let stays = connect(&pooler.url("app.acme", "")).await.unwrap();
        stays.batch_execute("set app.mark = 'mine'").await.unwrap();
        assert_eq!(may(&pooler, "listed", "one").await, Ok(()));
        std::fs::write(&list, "\"listed\" \"two\"\n\"new\" \"newcomer\"\n").unwrap();
        std::fs::write(&secret, "filed two\n").unwrap();
        pooler.rewrite(|text| text.replace("password = \"secret\"", "password = \"changed\""));
        pooler.reload(1, str::to_owned).await;
        for (user, password, want) in [
            ("listed", "one", Err("28P01")), ("listed", "two", Ok(())), ("new", "newcomer", Ok(())), ("filed", "filed one", Err("28P01")),
            ("filed", "filed two", Ok(())), ("app", "secret", Err("28P01")), ("app", "changed", Ok(())),
        ] {
            assert_eq!(may(&pooler, user, password).await, want.map_err(str::to_owned), "{user} {password}");
        }
        let mark: String = stays.query_one("select current_setting('app.mark')", &[]).await.unwrap().get(0);
        assert_eq!(mark, "mine");
        // Who may be whom is read again too.
        pooler.rewrite(|text| text.replace("password = \"changed\"\ntenants = [\"*\"]", "password = \"changed\"\ntenants = [\"other\"]"));
        pooler.reload(2, str::to_owned).await;
        assert_eq!(may(&pooler, "app", "changed").await, Err("28000".to_owned()));
    }

    async fn a_configuration_with_a_fault_changes_nothing(db: &Database) {
        db.schemas(&["acme"]).await;
        let pooler = Pooler::start(&format!("{}{BY_SCHEMA}", db.toml(1))).await;
        pooler.rewrite(|text| text.replace("password = \"secret\"", "password = \"changed\"\npasword = \"x\""));
        pooler.signal("HUP");
        let told = pooler.until_message(1, "configuration not reloaded: the old one stays").await;
        assert!(told["error"].as_str().unwrap().contains("pasword"), "{told}");
        assert_eq!(may(&pooler, "app", "secret").await, Ok(()));
        assert_eq!(may(&pooler, "app", "changed").await, Err("28P01".to_owned()));
        // What differs is named, and so is what cannot be changed while it runs.
        pooler.rewrite(|text| text.replace("\npasword = \"x\"", "").replace("max_server_connections = 1\n", "max_server_connections = 2\n"));
        pooler.reload(1, |text| text.replace("[general]", "[general]\nmax_client_conn = 7")).await;
        let told = pooler.until_message(1, "configuration reloaded").await;
        assert_eq!(told["changed"], "general, users.app, clusters.main");
        pooler.until_message(1, "changes of [general] need a restart").await;
        assert_eq!(may(&pooler, "app", "changed").await, Ok(()));
    }

    async fn servers_are_logged_in_to_with_the_new_password(shared: &Database) {
        let cluster = Cluster::start(shared.major, "");
        let db = Database::create_on(shared.major, cluster.port).await;
        db.schemas(&["acme"]).await;
        let pooler = Pooler::start(&format!("{}{BY_SCHEMA}", db.toml(1))).await;
        let client = connect(&pooler.url("app.acme", "")).await.unwrap();
        client.batch_execute("select 1").await.unwrap();
        db.admin.batch_execute(&format!("alter role {} password 'rotated'", db.name)).await.unwrap();
        pooler.rewrite(|text| text.replace("password = \"pw\"", "password = \"rotated\""));
        pooler.reload(1, str::to_owned).await;
        // The client that is there gets a new server, without logging in again.
        db.admin.batch_execute(&format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{}'", db.name)).await.unwrap();
        db.until("true", 0).await;
        client.batch_execute("select name from who").await.unwrap();
        assert_eq!(may(&pooler, "app", "secret").await, Ok(()));
    }

    async fn unchanged_and_unknown_users_look_the_same_after_it(db: &Database) {
        db.schemas(&["acme"]).await;
        let pooler = Pooler::start(&format!("{}{BY_SCHEMA}", db.toml(1))).await;
        let mut salts = Vec::new();
        for round in 0..2 {
            for user in ["app", "nobody"] {
                salts.push(salt(&pooler, user).await);
            }
            if round == 0 {
                pooler.reload(1, str::to_owned).await;
            }
        }
        assert_eq!(salts[..2], salts[2..]);
        assert_ne!(salts[0], salts[1]);
    }
}

/// What a user's proof would be salted with.
async fn salt(pooler: &Pooler, user: &str) -> String {
    use protocol_tests::wire::{V3_0, Wire, message, startup};
    let mut wire = Wire::open(pooler.port).await;
    wire.send(&startup(V3_0, &[("user", &format!("{user}.acme"))])).await;
    assert_eq!(wire.receive().await.tag, 'R');
    let first = b"n,,n=,r=nonce";
    let len = u32::try_from(first.len()).unwrap().to_be_bytes();
    wire.send(&message('p', &[&b"SCRAM-SHA-256\0"[..], &len, first].concat())).await;
    let answer = String::from_utf8(wire.receive().await.body[4..].to_vec()).unwrap();
    answer.split(",s=").nth(1).unwrap().to_owned()
}
