//! A transaction allocates nothing: counted in a pooler that runs in this process, in front of a real
//! PostgreSQL.
#![allow(clippy::unwrap_used, reason = "tests: what is wrong fails")]

use std::io::{Read, Write};
use std::net::TcpStream;

use protocol_tests::wire::{self, V3_0};
use protocol_tests::{Database, PATIENCE};
use tenantry::config::{Config, ListenAddress};
use tenantry::pooler::Pooler;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// A clock ticks once a second and gathers statistics: that may allocate, and no transaction more.
const FEW: u64 = 200;
const TRANSACTIONS: u64 = 5000;

/// A client that itself allocates nothing.
struct Client {
    tcp: TcpStream,
    room: [u8; 4096],
}

impl Client {
    fn login(port: u16, user: &str) -> Self {
        let tcp = TcpStream::connect(("127.0.0.1", port)).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Self { tcp, room: [0; 4096] };
        client.run(&wire::startup(V3_0, &[("user", user)]));
        client
    }

    /// Sends messages and reads until PostgreSQL is idle again.
    fn run(&mut self, messages: &[u8]) {
        self.tcp.write_all(messages).unwrap();
        let mut len = 0;
        while !self.room[..len].ends_with(b"Z\0\0\0\x05I") {
            let count = self.tcp.read(&mut self.room[len..]).unwrap();
            assert!(count > 0, "the pooler closed the connection");
            len += count;
        }
    }
}

/// Blocks that so many transactions allocate, whoever in this process does, once all is warm.
fn blocks(client: &mut Client, transactions: u64, messages: &[u8]) -> u64 {
    for _ in 0..100 {
        client.run(messages);
    }
    let before = dhat::HeapStats::get().total_blocks;
    for _ in 0..transactions {
        client.run(messages);
    }
    dhat::HeapStats::get().total_blocks - before
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_transaction_allocates_nothing() {
    let db = Database::create(15).await;
    db.schemas(&["acme"]).await;
    let toml = format!(
        "[general]\nlisten = [\"127.0.0.1:0\"]\n{}[auth]\ntype = \"trust\"\n[tenancy]\ntenant_from = [\"user:.\"]\n\
         search_path = [\"{{tenant}}\"]\n[tenants.acme]\n",
        db.toml(1)
    );
    let _profiler = dhat::Profiler::builder().testing().build();
    let pooler = Pooler::start(Config::parse(&toml, ".".into()).unwrap()).unwrap();
    let port = pooler.addresses().iter().find_map(|address| match address {
        ListenAddress::Tcp(address) => Some(address.port()),
        ListenAddress::Unix(_) => None,
    });
    let mut client = Client::login(port.unwrap(), "app.acme");
    let prepare = [wire::parse("named", "select 1"), wire::sync()].concat();
    client.run(&prepare);
    let named =
        [wire::bind("", "named"), wire::describe('P', ""), wire::execute("", 0), wire::sync()];
    for (protocol, messages) in [
        ("simple", wire::query("select name from who")),
        ("extended", [wire::batch("select name from who"), wire::sync()].concat()),
        ("prepared", named.concat()),
    ] {
        let blocks = blocks(&mut client, TRANSACTIONS, &messages);
        assert!(blocks < FEW, "{protocol}: {blocks} blocks in {TRANSACTIONS} transactions");
    }
    // That allocations are counted at all: whoever changes his session is asked what he left.
    let set = blocks(&mut client, FEW, &wire::query("set work_mem = '1MB'"));
    assert!(set > FEW, "{set} blocks");
    pooler.stop();
    pooler.stopped().await;
}
