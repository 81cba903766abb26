//! SCRAM-SHA-256-PLUS, on both sides: who sits between, with a certificate both trust, gets nowhere.

use std::process::Command;

use protocol_tests::certs::{Authority, self_signed};
use protocol_tests::cluster::bindir;
use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::tls_relay::Relay;
use protocol_tests::{Cluster, Database, Pooler, on_both};

/// Certificates by how they are signed, as words of `openssl req`.
const KINDS: [&str; 6] = [
    "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -sha256",
    "-newkey ec -pkeyopt ec_paramgen_curve:secp384r1 -sha384",
    "-newkey rsa:2048 -sha256",
    "-newkey rsa:2048 -sha512",
    "-newkey rsa:2048 -sha384 -sigopt rsa_padding_mode:pss",
    "-newkey ed25519",
];

/// psql's own words, or the answer.
fn psql(port: u16, ca: &std::path::Path, options: &str) -> Result<String, String> {
    let url = format!(
        "host=localhost hostaddr=127.0.0.1 port={port} user=app.acme password=secret sslrootcert={} {options}",
        ca.display()
    );
    let mut psql = Command::new(bindir(15).join("psql"));
    let output = psql.args(["-XAt", &url, "-c", "select name from who"]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

on_both! {
    async fn a_client_may_bind_its_proof_to_our_certificate(db: &Database) {
        let files = tempfile::tempdir().unwrap();
        let authority = Authority::new(files.path(), "ca");
        let (cert, key) = authority.sign("localhost");
        db.schemas(&["acme"]).await;
        let pooler = Pooler::start(&format!(
            "{}[tls.client]\ncert = \"{}\"\nkey = \"{}\"\n{BY_SCHEMA}", db.toml(1), cert.display(), key.display())).await;
        let works = Ok("acme".to_owned());
        let ask = |port, options: &'static str| {
            let ca = authority.ca.clone();
            tokio::task::spawn_blocking(move || psql(port, &ca, options))
        };
        for options in ["sslmode=verify-full channel_binding=require", "sslmode=verify-full channel_binding=disable", "sslmode=disable"] {
            assert_eq!(ask(pooler.port, options).await.unwrap(), works, "{options}");
        }
        // Without TLS there is nothing to bind to, and it is not offered.
        let bound = ask(pooler.port, "sslmode=disable channel_binding=require").await.unwrap();
        assert!(bound.unwrap_err().contains("channel binding"));
        let other = authority.sign("elsewhere");
        let relay = |relay: Relay| relay.start(pooler.port, authority.ca.clone(), other.clone());
        let relays = [relay(Relay::Faithful).await, relay(Relay::HidesPlus).await];
        for (port, why) in relays.into_iter().zip(["Channel binding mismatch", "downgrade"]) {
            let refused = ask(port, "sslmode=require").await.unwrap().unwrap_err();
            assert!(refused.contains(why), "{refused}");
            // Who does not bind is let through: that is why it is worth something.
            assert_eq!(ask(port, "sslmode=require channel_binding=disable").await.unwrap(), works);
        }
    }
}

#[tokio::test]
async fn certificates_of_every_kind_will_do_on_15() {
    certificates_of_every_kind_will_do(15).await;
}

#[tokio::test]
async fn certificates_of_every_kind_will_do_on_18() {
    certificates_of_every_kind_will_do(18).await;
}

/// Each certificate on the server and on the pooler: they agree with libpq and PostgreSQL on its hash.
async fn certificates_of_every_kind_will_do(major: u32) {
    let cluster = Cluster::start_with_tls(major);
    let db = Database::create_on(major, cluster.port).await;
    db.schemas(&["acme"]).await;
    for kind in KINDS {
        let files = tempfile::tempdir().unwrap();
        let own = self_signed(files.path(), kind);
        db.enable_tls(&cluster, &own).await;
        let (cert, key) = (own.0.display(), own.1.display());
        let tls = format!(
            "[tls.server]\nmode = \"require\"\n[tls.client]\ncert = \"{cert}\"\nkey = \"{key}\"\n"
        );
        let pooler = Pooler::start(&format!("{}{tls}{BY_SCHEMA}", db.toml(1))).await;
        let (port, ca) = (pooler.port, own.0.clone());
        let asked = tokio::task::spawn_blocking(move || psql(port, &ca, "sslmode=require"));
        assert_eq!(asked.await.unwrap(), Ok("acme".to_owned()), "{kind}");
    }
}

#[tokio::test]
async fn the_pooler_binds_its_proof_to_the_servers_certificate_on_15() {
    the_pooler_binds_its_proof_to_the_servers_certificate(15).await;
}

#[tokio::test]
async fn the_pooler_binds_its_proof_to_the_servers_certificate_on_18() {
    the_pooler_binds_its_proof_to_the_servers_certificate(18).await;
}

async fn the_pooler_binds_its_proof_to_the_servers_certificate(major: u32) {
    let cluster = Cluster::start_with_tls(major);
    let files = tempfile::tempdir().unwrap();
    let authority = Authority::new(files.path(), "ca");
    let db = Database::create_on(major, cluster.port).await;
    db.schemas(&["acme"]).await;
    db.enable_tls(&cluster, &authority.sign("localhost")).await;
    let own = authority.sign("elsewhere");
    let through = |port| {
        let to = format!("port = {}\n", cluster.port);
        let toml = db.toml(1).replace(&to, &format!("port = {port}\n"));
        async move {
            let toml = format!("{toml}[tls.server]\nmode = \"require\"\n{BY_SCHEMA}");
            let pooler = Pooler::start(&toml).await;
            let got = protocol_tests::database::connect(&pooler.url("app.acme", "")).await;
            match got {
                Ok(client) => {
                    Ok(client.query_one("select name from who", &[]).await.unwrap().get(0))
                }
                Err(error) => Err(error.as_db_error().unwrap().message().to_owned()),
            }
        }
    };
    assert_eq!(through(cluster.port).await, Ok("acme".to_owned()));
    let faithful = Relay::Faithful.start(cluster.port, authority.ca.clone(), own.clone()).await;
    assert_eq!(
        through(faithful).await,
        Err("server login failed: SCRAM channel binding check failed".to_owned())
    );
    let hides = Relay::HidesPlus.start(cluster.port, authority.ca.clone(), own).await;
    assert_eq!(
        through(hides).await,
        Err("server login failed: SCRAM channel binding negotiation error".to_owned())
    );
}
