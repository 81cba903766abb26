//! Clients that are sent from worker to worker while they work: in a pooler that runs in this process, in front of
//! a real PostgreSQL. Nobody waits in vain, nobody reads another tenant's rows, nothing is counted twice.
#![allow(clippy::unwrap_used, reason = "tests: what is wrong fails")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use protocol_tests::wire::{self, V3_0};
use protocol_tests::{Cluster, Database, PATIENCE, certs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;
use tenantry::config::{Config, ListenAddress};
use tenantry::pooler::Pooler;

const TENANTS: [&str; 4] = ["acme", "umbra", "zeta", "omega"];
const CLIENTS: usize = 12;
/// More than servers: some wait in the queue while they are sent away.
const SERVERS: usize = 4;
const TRANSACTIONS: usize = 400;

trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// A client of a tenant's; every other one speaks TLS.
struct Client {
    stream: Box<dyn Stream>,
    tenant: &'static str,
}

impl Client {
    fn login(port: u16, number: usize, ca: &Path) -> Self {
        let tenant = TENANTS[number % TENANTS.len()];
        let tcp = TcpStream::connect(("127.0.0.1", port)).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp.set_nodelay(true).unwrap();
        let stream: Box<dyn Stream> =
            if number.is_multiple_of(2) { Box::new(tcp) } else { Box::new(encrypted(tcp, ca)) };
        let mut client = Self { stream, tenant };
        client.run(&wire::startup(V3_0, &[("user", &format!("app.{tenant}"))]), b'I');
        client
    }

    /// Sends messages and reads until PostgreSQL is ready for more, in that state.
    fn run(&mut self, messages: &[u8], state: u8) -> Vec<u8> {
        self.stream.write_all(messages).unwrap();
        let (mut answer, mut room) = (Vec::new(), [0; 4096]);
        while !answer.ends_with(&[b'Z', 0, 0, 0, 5, state]) {
            let count = self.stream.read(&mut room).expect("an answer");
            assert!(count > 0, "the pooler closed the connection");
            answer.extend_from_slice(&room[..count]);
        }
        answer
    }

    /// Its own row, and nobody else's.
    fn asks(&mut self, messages: &[u8], state: u8) {
        let answer = self.run(messages, state);
        let has = |name: &str| answer.windows(name.len()).any(|window| window == name.as_bytes());
        for tenant in TENANTS {
            assert_eq!(has(tenant), tenant == self.tenant, "{} reads {tenant}", self.tenant);
        }
    }

    fn works(&mut self) {
        let (sql, sync) = ("select name from who", wire::sync());
        self.run(&[wire::parse("named", sql), sync.clone()].concat(), b'I');
        let named = [wire::bind("", "named"), wire::execute("", 0), sync.clone()].concat();
        for number in 0..TRANSACTIONS {
            match number % 4 {
                0 => self.asks(&wire::query(sql), b'I'),
                1 => self.asks(&[wire::batch(sql), sync.clone()].concat(), b'I'),
                2 => self.asks(&named, b'I'),
                _ => {
                    self.run(&wire::query("begin"), b'T');
                    self.asks(&wire::query(sql), b'T');
                    self.run(&wire::query("commit"), b'I');
                }
            }
        }
    }
}

fn encrypted(mut tcp: TcpStream, ca: &Path) -> impl Stream + use<> {
    tcp.write_all(b"\0\0\0\x08\x04\xd2\x16\x2f").unwrap();
    let mut answer = [0];
    tcp.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"S");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), tcp)
}

/// A pooler with three workers, its port, and who signed its certificate.
struct Rig {
    pooler: Pooler,
    port: u16,
    ca: PathBuf,
    _directory: TempDir,
    _db: Database,
    _cluster: Option<Cluster>,
}

/// How servers are reached.
#[derive(PartialEq, Eq)]
enum Servers {
    InTheClear,
    OverTls,
}

impl Rig {
    /// `of_user`: more of the user's section.
    async fn new(of_user: &str, servers: Servers) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = certs::Authority::new(directory.path(), "authority");
        let (cert, key) = authority.sign("localhost");
        let cluster = (servers == Servers::OverTls).then(|| Cluster::start_with_tls(15));
        let (db, mode) = match &cluster {
            None => (Database::create(15).await, "disable"),
            Some(cluster) => {
                let db = Database::create_on(15, cluster.port).await;
                db.enable_tls(cluster, &(cert.clone(), key.clone())).await;
                (db, "require")
            }
        };
        db.schemas(&TENANTS).await;
        let tenants = TENANTS.map(|tenant| format!("[tenants.{tenant}]\n")).concat();
        let toml = format!(
            "[general]\nlisten = [\"127.0.0.1:0\"]\nworkers = 3\n[tls.client]\nmode = \"prefer\"\ncert = \"{}\"\nkey = \"{}\"\n\
             [tls.server]\nmode = \"{mode}\"\n{}{of_user}[auth]\ntype = \"trust\"\n[tenancy]\ntenant_from = [\"user:.\"]\nsearch_path = [\"{{tenant}}\"]\n{tenants}",
            cert.display(),
            key.display(),
            db.toml(SERVERS)
        );
        let pooler = Pooler::start(Config::parse(&toml, ".".into()).unwrap()).unwrap();
        let port = pooler.addresses().iter().find_map(|address| match address {
            ListenAddress::Tcp(address) => Some(address.port()),
            ListenAddress::Unix(_) => None,
        });
        Self {
            pooler,
            port: port.unwrap(),
            ca: authority.ca,
            _directory: directory,
            _db: db,
            _cluster: cluster,
        }
    }

    /// Which worker serves each client that could be sent to another one.
    fn placed(&self) -> Vec<usize> {
        let mut placed = Vec::new();
        self.pooler.place_clients(|at| {
            placed.push(at);
            at
        });
        placed.sort_unstable();
        placed
    }

    async fn stop(self) {
        self.pooler.stop();
        self.pooler.stopped().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_keep_their_server_are_with_all_workers_from_the_start() {
    let rig = Rig::new("pool_mode = \"session\"\n", Servers::InTheClear).await;
    let login = |number| Client::login(rig.port, number, &rig.ca);
    let mut clients: Vec<Client> = (0..SERVERS).map(login).collect();
    assert_eq!(rig.placed(), [0, 0, 1, 2]);
    for client in &mut clients {
        client.asks(&wire::query("select name from who"), b'I');
    }
    assert!(rig.placed().is_empty(), "they stay");
    drop(clients);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_are_sent_from_worker_to_worker_notice_nothing() {
    sent_to_and_fro(Rig::new("", Servers::InTheClear).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_do_they_where_servers_over_tls_go_along() {
    sent_to_and_fro(Rig::new("", Servers::OverTls).await).await;
}

async fn sent_to_and_fro(rig: Rig) {
    let (pooler, over) = (&rig.pooler, AtomicBool::new(false));
    let mut turns = 0;
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (port, ca) = (rig.port, rig.ca.clone());
                scope.spawn(move || Client::login(port, number, &ca).works())
            })
            .collect();
        let sender = scope.spawn(|| {
            let mut turns = 0;
            while !over.load(Ordering::Relaxed) {
                turns += 1;
                let mut number = turns;
                pooler.place_clients(|_| {
                    number += 1;
                    number % 3
                });
                std::thread::yield_now();
            }
            turns
        });
        let ends: Vec<_> = clients.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Relaxed);
        turns = sender.join().unwrap();
        assert!(ends.iter().all(Result::is_ok), "a client failed");
    });
    assert!(turns > CLIENTS, "they were sent {turns} times");
    let counted = pooler.stats().tallies.sums().by_database();
    let counted: u64 = counted.values().map(|totals| totals.transactions.count()).sum();
    assert_eq!(counted, (CLIENTS * (TRANSACTIONS + 1)) as u64);
    rig.stop().await;
}
