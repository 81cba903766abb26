//! Connecting: every protocol version, every listener, settings in the start-up packet.

use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::wire::{V3_0, startup};
use protocol_tests::{Database, Pooler, Wire, on_both};

use crate::{raw, trusting, two_tenants};

on_both! {
    async fn a_plain_url_names_the_tenant_in_every_way(db: &Database) {
        let pooler = two_tenants(db, 2).await;
        let host = format!("127.0.0.1:{}", pooler.port);
        for url in [
            format!("postgres://app:secret@{host}/{}?options=-c%20app.tenant%3Dacme", db.name),
            format!("postgres://app:secret@{host}/{}?options=--app.tenant%3Dacme", db.name),
            format!("postgres://app.acme:secret@{host}/{}", db.name),
            format!("postgres://app:secret@{host}/acme"),
            format!("postgres://app:secret@{host}/{}%40acme", db.name),
        ] {
            let client = protocol_tests::database::connect(&url).await.unwrap_or_else(|e| panic!("{url}: {e}"));
            let name: String = client.query_one("select name from who", &[]).await.unwrap().get(0);
            assert_eq!(name, "acme", "{url}");
        }
    }

    async fn both_wildcards_may_be_listened_on_with_one_port(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        let port = std::net::TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
        let listen = format!("listen = [\"127.0.0.1:0\", \"0.0.0.0:{port}\", \"[::]:{port}\"]\n");
        let _pooler = Pooler::start_with(&listen, &format!("{}{BY_SCHEMA}", db.toml(1))).await;
        for host in ["127.0.0.1", "[::1]"] {
            let url = format!("postgres://app.acme:secret@{host}:{port}/");
            protocol_tests::database::connect(&url).await.unwrap_or_else(|e| panic!("{url}: {e}"));
        }
    }

    async fn a_unix_socket_serves_as_well(db: &Database) {
        let pooler = two_tenants(db, 1).await;
        let url = format!("host={} port=1 user=app.acme password=secret", pooler.socket_directory());
        let client = protocol_tests::database::connect(&url).await.unwrap();
        let name: String = client.query_one("select name from who", &[]).await.unwrap().get(0);
        assert_eq!(name, "acme");
    }

    async fn the_client_is_told_what_the_server_reports(db: &Database) {
        let pooler = trusting(db, 1).await;
        let settings = [("user", "app.acme"), ("application_name", "tool"), ("TimeZone", "utc"), ("options", "-c DateStyle=German")];
        let wire = Wire::login(pooler.port, &settings).await;
        let told = |name: &str| wire.parameters.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        assert_eq!(told("application_name"), Some("tool"));
        assert_eq!(told("TimeZone"), Some("UTC"), "the server's spelling, not the client's");
        assert_eq!(told("DateStyle"), Some("German, DMY"));
        assert!(told("server_version").unwrap().starts_with(&db.major.to_string()));
        if db.major >= 18 {
            assert_eq!(told("search_path"), Some("acme"));
        }
    }

    async fn settings_that_postgresql_refuses_are_refused_with_its_words(db: &Database) {
        let pooler = trusting(db, 1).await;
        for (name, value, sqlstate) in [("work_mem", "much", "22023"), ("no_such_setting", "1", "42704"), ("port", "1", "55P02"), ("role", "nobody", "42501")] {
            let mut wire = Wire::open(pooler.port).await;
            wire.send(&startup(V3_0, &[("user", "app.acme"), (name, value)])).await;
            let mut last = wire.receive().await;
            while let Some(next) = wire.next().await { last = next; }
            assert_eq!((last.tag, last.field('S').as_str(), last.field('C').as_str()), ('E', "FATAL", sqlstate), "{name}");
        }
        let mut wire = raw(&pooler, "acme").await;
        assert_eq!(wire.run("select name from who").await.unwrap(), ["acme"], "nobody else noticed");
    }

    async fn newer_protocols_are_negotiated_down(db: &Database) {
        let pooler = trusting(db, 1).await;
        let parameters = [("user", "app.acme"), ("_pq_.unheard_of", "on")];
        let mut wire = Wire::open(pooler.port).await;
        wire.send(&startup(3 << 16 | 9, &parameters)).await;
        let negotiate = wire.receive().await;
        assert_eq!(negotiate.tag, 'v');
        assert_eq!(&negotiate.body[..8], [0, 3, 0, 2, 0, 0, 0, 1]);
        assert_eq!(&negotiate.body[8..], b"_pq_.unheard_of\0");
        wire.logged_in().await;
        assert_eq!(wire.key.len(), 32, "protocol 3.2 has long cancel keys");
        let old = raw(&pooler, "acme").await;
        assert_eq!(old.key.len(), 4);
    }

    async fn encryption_that_is_not_there_is_declined(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = Wire::open(pooler.port).await;
        for code in [80_877_104_i32, 80_877_103] {
            wire.send(&[&8_i32.to_be_bytes()[..], &code.to_be_bytes()].concat()).await;
            let mut answer = [0; 1];
            tokio::io::AsyncReadExt::read_exact(&mut wire.socket, &mut answer).await.unwrap();
            assert_eq!(answer, *b"N");
        }
        wire.send(&startup(V3_0, &[("user", "app.acme")])).await;
        wire.logged_in().await;
        assert_eq!(wire.run("select name from who").await.unwrap(), ["acme"]);
    }

    async fn replication_is_refused_clearly(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = Wire::open(pooler.port).await;
        wire.send(&startup(V3_0, &[("user", "app.acme"), ("replication", "database")])).await;
        assert_eq!(wire.receive().await.field('C'), "0A000");
    }

    /// The umask is the process's, and mostly shuts others out.
    async fn a_unix_socket_has_the_rights_that_are_set(db: &Database) {
        for (set, want) in [("", 0o777), ("unix_socket_mode = \"0700\"\n", 0o700)] {
            let pooler = Pooler::start_with(set, &format!("{}{BY_SCHEMA}", db.toml(1))).await;
            let socket = std::path::Path::new(&pooler.socket_directory()).join(".s.PGSQL.1");
            let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(socket).unwrap().permissions());
            assert_eq!(mode & 0o777, want, "{set}");
        }
    }
}
