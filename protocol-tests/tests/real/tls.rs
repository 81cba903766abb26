//! TLS on both sides, direct and negotiated, with certificates checked and with stuffed bytes refused.

use std::process::{Command, Stdio};
use std::sync::Arc;

use protocol_tests::certs::Authority;
use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::wire::{V3_0, startup};
use protocol_tests::{Cluster, Database, Pooler, Wire, on_both};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

type Pem = (std::path::PathBuf, std::path::PathBuf);

fn client_config(
    ca: &std::path::Path,
    identity: Option<&Pem>,
    alpn: bool,
) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        Some((cert, key)) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_file(cert).unwrap()],
                PrivateKeyDer::from_pem_file(key).unwrap(),
            )
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    if alpn {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Arc::new(config)
}

/// Opens TLS, negotiated or direct.
async fn open(
    port: u16,
    config: &Arc<rustls::ClientConfig>,
    direct: bool,
    host: &str,
) -> std::io::Result<Wire> {
    let mut tcp = TcpStream::connect(("127.0.0.1", port)).await?;
    if !direct {
        tcp.write_all(b"\x00\x00\x00\x08\x04\xd2\x16\x2f").await?;
        assert_eq!(tcp.read_u8().await?, b'S');
    }
    let name = ServerName::try_from(host.to_owned()).unwrap();
    Ok(Wire::over(tokio_rustls::TlsConnector::from(Arc::clone(config)).connect(name, tcp).await?))
}

async fn login(wire: &mut Wire, user: &str) -> Result<(), String> {
    wire.send_if_open(&startup(V3_0, &[("user", user)])).await;
    match wire.next().await {
        Some(message) if message.tag == 'R' => {
            wire.logged_in_after(message).await;
            Ok(())
        }
        Some(message) => Err(message.field('C')),
        None => Err("closed".to_owned()),
    }
}

async fn pooler(db: &Database, tls: &str) -> Pooler {
    db.schemas(&["acme"]).await;
    Pooler::start(&format!(
        "{}[auth]\ntype = \"trust\"\n[tls.client]\n{tls}\n{BY_SCHEMA}",
        db.toml(1)
    ))
    .await
}

on_both! {
    async fn tls_is_negotiated_or_direct_and_the_work_goes_on_inside(db: &Database) {
        let files = tempfile::tempdir().unwrap();
        let authority = Authority::new(files.path(), "ca");
        let (cert, key) = authority.sign("pooler.test");
        let pooler = pooler(db, &format!("mode = \"require\"\ncert = \"{}\"\nkey = \"{}\"", cert.display(), key.display())).await;
        for (direct, alpn) in [(false, false), (false, true), (true, true)] {
            let config = client_config(&authority.ca, None, alpn);
            let mut wire = open(pooler.port, &config, direct, "pooler.test").await.unwrap();
            login(&mut wire, "app.acme").await.unwrap();
            assert_eq!(wire.run("select name from who").await.unwrap(), ["acme"]);
            assert_eq!(wire.run("select repeat('x', 300000)").await.unwrap()[0].len(), 300_000);
        }
        let config = client_config(&authority.ca, None, false);
        if let Ok(mut wire) = open(pooler.port, &config, true, "pooler.test").await {
            assert!(login(&mut wire, "app.acme").await.is_err(), "direct TLS without ALPN");
        }
        let mut plain = Wire::open(pooler.port).await;
        assert_eq!(login(&mut plain, "app.acme").await, Err("28000".to_owned()));
    }

    async fn a_renewed_certificate_is_shown_after_a_reload_and_a_broken_one_is_not_taken(db: &Database) {
        let files = tempfile::tempdir().unwrap();
        let (old, new) = (Authority::new(files.path(), "old"), Authority::new(files.path(), "new"));
        let (cert, key) = old.sign("pooler.test");
        let pooler = pooler(db, &format!("mode = \"require\"\ncert = \"{}\"\nkey = \"{}\"", cert.display(), key.display())).await;
        let (by_old, by_new) = (client_config(&old.ca, None, true), client_config(&new.ca, None, true));
        let mut stays = open(pooler.port, &by_old, false, "pooler.test").await.unwrap();
        login(&mut stays, "app.acme").await.unwrap();
        assert!(open(pooler.port, &by_new, false, "pooler.test").await.is_err());
        // Signed over the same files.
        let _ = new.sign("pooler.test");
        pooler.reload(1, str::to_owned).await;
        let mut comes = open(pooler.port, &by_new, false, "pooler.test").await.unwrap();
        login(&mut comes, "app.acme").await.unwrap();
        assert!(open(pooler.port, &by_old, false, "pooler.test").await.is_err());
        std::fs::write(&key, "no key").unwrap();
        pooler.signal("HUP");
        pooler.until_message(1, "configuration not reloaded: the old one stays").await;
        for wire in [&mut stays, &mut comes, &mut open(pooler.port, &by_new, false, "pooler.test").await.unwrap()] {
            if wire.pid == 0 {
                login(wire, "app.acme").await.unwrap();
            }
            assert_eq!(wire.run("select name from who").await.unwrap(), ["acme"]);
        }
    }

    async fn bytes_stuffed_behind_the_request_are_refused(db: &Database) {
        let files = tempfile::tempdir().unwrap();
        let authority = Authority::new(files.path(), "ca");
        let (cert, key) = authority.sign("pooler.test");
        let pooler = pooler(db, &format!("cert = \"{}\"\nkey = \"{}\"", cert.display(), key.display())).await;
        let mut wire = Wire::open(pooler.port).await;
        let stuffed = [&b"\x00\x00\x00\x08\x04\xd2\x16\x2f"[..], &startup(V3_0, &[("user", "app.acme")])].concat();
        wire.send(&stuffed).await;
        let answer = wire.receive().await;
        assert_eq!((answer.tag, answer.field('C').as_str()), ('E', "08P01"));
        assert_eq!(wire.next().await, None);
    }

    async fn client_certificates_are_checked(db: &Database) {
        let files = tempfile::tempdir().unwrap();
        let (authority, stranger) = (Authority::new(files.path(), "ca"), Authority::new(files.path(), "stranger"));
        let (cert, key) = authority.sign("pooler.test");
        let (own, other, forged) = (authority.sign("app"), authority.sign("somebody"), stranger.sign("app2"));
        let tls = |mode: &str| format!("mode = \"{mode}\"\ncert = \"{}\"\nkey = \"{}\"\nca = \"{}\"", cert.display(), key.display(), authority.ca.display());
        for (mode, identity, want) in [
            ("verify-ca", Some(&own), true), ("verify-ca", Some(&other), true), ("verify-ca", Some(&forged), false), ("verify-ca", None, false),
            ("verify-full", Some(&own), true), ("verify-full", Some(&other), false),
        ] {
            let pooler = Pooler::start(&format!("{}[auth]\ntype = \"trust\"\n[tls.client]\n{}\n[tenancy]\ntenant_from = [\"user:.\"]\n[tenants.acme]\n", db.toml(1), tls(mode))).await;
            let config = client_config(&authority.ca, identity, false);
            let got = match open(pooler.port, &config, false, "pooler.test").await {
                Ok(mut wire) => login(&mut wire, "app.acme").await.is_ok(),
                Err(_) => false,
            };
            assert_eq!(got, want, "{mode} {identity:?}");
        }
    }

    async fn a_certificate_is_the_proof_and_the_map_says_whose(db: &Database) {
        db.schemas(&["acme"]).await;
        let files = tempfile::tempdir().unwrap();
        let (authority, stranger) = (Authority::new(files.path(), "ca"), Authority::new(files.path(), "stranger"));
        let (cert, key) = authority.sign("pooler.test");
        let tls = format!("cert = \"{}\"\nkey = \"{}\"\nca = \"{}\"", cert.display(), key.display(), authority.ca.display());
        let users = "[users.web_1]\ntenants = [\"*\"]\n[auth]\ntype = \"cert\"\ncert_map = { \"billing\" = [\"app\"], \"fleet\" = [\"web_*\"] }\n";
        let pooler = Pooler::start(&format!("{}{users}[tls.client]\nmode = \"verify-ca\"\n{tls}\n{BY_SCHEMA}", db.toml(1))).await;
        for (name, user, want) in [
            ("app", "app", Ok(())), ("billing", "app", Ok(())), ("fleet", "web_1", Ok(())), ("fleet", "app", Err("28000".to_owned())),
            ("billing", "web_1", Err("28000".to_owned())), ("app", "web_1", Err("28000".to_owned())),
        ] {
            let config = client_config(&authority.ca, Some(&authority.sign(name)), false);
            let mut wire = open(pooler.port, &config, false, "pooler.test").await.unwrap();
            assert_eq!(login(&mut wire, &format!("{user}.acme")).await, want, "{name} as {user}");
        }
        let forged = client_config(&authority.ca, Some(&stranger.sign("app")), false);
        if let Ok(mut wire) = open(pooler.port, &forged, false, "pooler.test").await {
            assert!(login(&mut wire, "app.acme").await.is_err(), "signed by somebody else");
        }
        // A unix socket has no certificate.
        let socket = tokio::net::UnixStream::connect(format!("{}/.s.PGSQL.1", pooler.socket_directory())).await.unwrap();
        assert_eq!(login(&mut Wire::over(socket), "app.acme").await, Err("28000".to_owned()));
    }

    async fn the_host_name_can_name_the_tenant(db: &Database) {
        let files = tempfile::tempdir().unwrap();
        let authority = Authority::new(files.path(), "ca");
        let (cert, key) = authority.sign("acme.db.test");
        db.schemas(&["acme"]).await;
        let pooler = Pooler::start(&format!(
            "{}[auth]\ntype = \"trust\"\n[tls.client]\ncert = \"{}\"\nkey = \"{}\"\n[tenancy]\ntenant_from = [\"sni\"]\nsni_pattern = '^(?<tenant>[^.]+)\\.db\\.'\nschema = \"{{tenant}}\"\n[tenants.acme]\n",
            db.toml(1), cert.display(), key.display())).await;
        let config = client_config(&authority.ca, None, false);
        let mut wire = open(pooler.port, &config, false, "acme.db.test").await.unwrap();
        login(&mut wire, "app").await.unwrap();
        assert_eq!(wire.run("select name from who").await.unwrap(), ["acme"]);
    }
}

#[tokio::test]
async fn the_servers_certificate_is_checked_as_far_as_asked_on_15() {
    the_servers_certificate_is_checked_as_far_as_asked(15).await;
}

#[tokio::test]
async fn the_servers_certificate_is_checked_as_far_as_asked_on_18() {
    the_servers_certificate_is_checked_as_far_as_asked(18).await;
}

/// On clusters of its own: the wheel's 18 is built without TLS.
async fn the_servers_certificate_is_checked_as_far_as_asked(major: u32) {
    let cluster = Cluster::start_with_tls(major);
    let files = tempfile::tempdir().unwrap();
    let (authority, stranger) =
        (Authority::new(files.path(), "ca"), Authority::new(files.path(), "stranger"));
    let db = Database::create_on(major, cluster.port).await;
    db.enable_tls(&cluster, &authority.sign("localhost")).await;
    let encrypted = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    for (mode, ca, host, works) in [
        ("disable", &authority.ca, "127.0.0.1", Some("f")),
        ("prefer", &authority.ca, "127.0.0.1", Some("t")),
        ("require", &stranger.ca, "127.0.0.1", Some("t")),
        ("verify-ca", &authority.ca, "127.0.0.1", Some("t")),
        ("verify-ca", &stranger.ca, "127.0.0.1", None),
        ("verify-full", &authority.ca, "localhost", Some("t")),
        ("verify-full", &authority.ca, "127.0.0.1", None),
    ] {
        let toml = db.toml(1).replace(
            "[clusters.main]",
            &format!(
                "[tls.server]\nmode = \"{mode}\"\nca = \"{}\"\n[clusters.main]\nhost = \"{host}\"",
                ca.display()
            ),
        );
        let pooler = Pooler::start(&format!("{toml}[auth]\ntype = \"trust\"\n[tenancy]\ntenant_from = [\"user:.\"]\n[tenants.acme]\n")).await;
        let mut wire = Wire::open(pooler.port).await;
        match works {
            Some(tls) => {
                login(&mut wire, "app.acme").await.unwrap_or_else(|e| panic!("{mode} {host}: {e}"));
                assert_eq!(wire.run(encrypted).await.unwrap(), [tls], "{mode}");
            }
            None => {
                assert_eq!(login(&mut wire, "app.acme").await, Err("08006".to_owned()), "{mode}")
            }
        }
    }
}

/// PostgreSQL's manual makes such certificates, and OpenSSL takes them.
#[tokio::test]
async fn certificates_of_version_1_work_where_nothing_is_verified() {
    let toml = |db: &Database, mode: &str, ca: &std::path::Path| {
        let server =
            format!("[tls.server]\nmode = \"{mode}\"\nca = \"{}\"\n[clusters.main]", ca.display());
        db.toml(1).replace("[clusters.main]", &server)
    };
    let rest = "[tenancy]\ntenant_from = [\"user:.\"]\n[tenants.acme]\n";
    let encrypted = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    for algorithm in ["-newkey rsa:2048", "-newkey ec -pkeyopt ec_paramgen_curve:P-256"] {
        let cluster = Cluster::start_with_tls(15);
        let files = tempfile::tempdir().unwrap();
        let own = protocol_tests::certs::version_1(files.path(), algorithm);
        let db = Database::create_on(15, cluster.port).await;
        db.enable_tls(&cluster, &own).await;
        for mode in ["prefer", "require"] {
            let client = format!(
                "[tls.client]\nmode = \"require\"\ncert = \"{}\"\nkey = \"{}\"\n",
                own.0.display(),
                own.1.display()
            );
            let pooler = Pooler::start(&format!("{}{client}{rest}", toml(&db, mode, &own.0))).await;
            // Towards clients too: by libpq, which knows OpenSSL.
            let url =
                format!("postgres://app.acme:secret@127.0.0.1:{}/?sslmode=require", pooler.port);
            let psql = Command::new("psql")
                .args([&url, "-XAtc", encrypted])
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let told = String::from_utf8_lossy(&psql.stderr);
            assert_eq!(
                String::from_utf8_lossy(&psql.stdout).trim(),
                "t",
                "{algorithm}, {mode}: {told}"
            );
        }
        for mode in ["verify-ca", "verify-full"] {
            let pooler = Pooler::start(&format!("{}{rest}", toml(&db, mode, &own.0))).await;
            let error =
                protocol_tests::database::connect(&pooler.url("app.acme", "")).await.unwrap_err();
            let error = error.as_db_error().unwrap();
            assert_eq!(error.code().code(), "08006");
            assert!(error.detail().unwrap().contains("X.509 version 1"), "{mode}: {error:?}");
            let told = pooler.until_message(1, "login to the server failed").await;
            assert!(told["error"].as_str().unwrap().contains("issue one of version 3"), "{told}");
        }
        // In TLS 1.2 not even its key is taken: `prefer` goes on without, as libpq does, and says why.
        db.admin
            .batch_execute("alter system set ssl_max_protocol_version = 'TLSv1.2'")
            .await
            .unwrap();
        db.reload().await;
        let pooler = Pooler::start(&format!("{}{rest}", toml(&db, "prefer", &own.0))).await;
        let client = protocol_tests::database::connect(&pooler.url("app.acme", "")).await.unwrap();
        assert!(!client.query_one(encrypted, &[]).await.unwrap().get::<_, bool>(0));
        let told = pooler
            .until_message(
                1,
                "TLS to the server failed; tls.server.mode is \"prefer\": going on in the clear",
            )
            .await;
        assert!(!told["error"].as_str().unwrap().is_empty(), "{told}");
        let pooler = Pooler::start(&format!("{}{rest}", toml(&db, "require", &own.0))).await;
        let error =
            protocol_tests::database::connect(&pooler.url("app.acme", "")).await.unwrap_err();
        assert!(
            error
                .as_db_error()
                .unwrap()
                .detail()
                .unwrap()
                .starts_with("TLS to the server failed: "),
            "{error:?}"
        );
    }
}

/// A key that is another certificate's is refused when the file is read.
#[tokio::test]
async fn a_certificate_of_version_1_needs_its_own_key() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let [(cert, _), (_, key)] = [&one, &other]
        .map(|files| protocol_tests::certs::version_1(files.path(), "-newkey rsa:2048"));
    let toml = format!(
        "[general]\nlisten = \"127.0.0.1:0\"\n[clusters.main]\nuser = \"u\"\n[users.app]\npassword = \"x\"\n[tls.client]\nmode = \"require\"\ncert = \"{}\"\nkey = \"{}\"\n",
        cert.display(),
        key.display()
    );
    std::fs::write(one.path().join("t.toml"), toml).unwrap();
    let served = Command::new(protocol_tests::pooler::binary())
        .arg("serve")
        .arg(one.path().join("t.toml"))
        .output()
        .unwrap();
    assert!(!served.status.success());
    assert!(String::from_utf8_lossy(&served.stderr).contains("KeyMismatch"), "{served:?}");
}
