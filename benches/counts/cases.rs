//! What is counted: each case prepares something and then does one thing again and again.

use std::hint::black_box;
use std::sync::Arc;

use bytes::BytesMut;
use tenantry::config::Scrub;
use tenantry::flow::{ClientScan, Exchange, ServerScan};
use tenantry::pool::CountedPool;
use tenantry::prepared::{Held, Key, Names, Statements};
use tenantry::server::{Class, Known, Target};
use tenantry::sql::{Flags, Lexer, is_plain};
use tenantry::tenant::{NamePattern, SessionState, TenantId};
use tenantry::wire::{build, frontend, options};

/// Only what runs in a function of this name is counted.
pub(crate) const COUNTED: &str = "run_counted";

const POINT_SELECT: &str = "SELECT abalance FROM pgbench_accounts WHERE aid = 54321;";
/// As an ORM writes it.
const WIDE_SELECT: &str = "SELECT \"shop_order\".\"id\", \"shop_order\".\"created_at\", \"shop_order\".\"customer_id\", \
    \"shop_order\".\"status\", \"shop_order\".\"total\", \"shop_customer\".\"id\", \"shop_customer\".\"name\", \
    \"shop_customer\".\"email\" FROM \"shop_order\" INNER JOIN \"shop_customer\" ON (\"shop_order\".\"customer_id\" = \
    \"shop_customer\".\"id\") WHERE (\"shop_order\".\"status\" = 'open' AND \"shop_order\".\"created_at\" >= \
    '2026-01-01T00:00:00+00:00'::timestamptz) ORDER BY \"shop_order\".\"created_at\" DESC LIMIT 21";

type Case = (&'static str, fn() -> Box<dyn FnMut()>);

const CASES: [Case; 21] = [
    ("frames: a query of the client", client_query),
    ("frames: a prepared batch of the client", client_batch),
    ("frames: a row and its end", server_rows),
    ("flow: a simple query", simple_query),
    ("flow: an extended batch", extended_batch),
    ("flow: a hundred rows, in a run", hundred_rows),
    ("lexer: a point select, first look", || look(POINT_SELECT)),
    ("lexer: a wide select, first look", || look(WIDE_SELECT)),
    ("lexer: SET search_path", || read("SET search_path TO acme, public")),
    ("lexer: a wide select, every word", || read(WIDE_SELECT)),
    ("options: two settings", two_settings),
    ("pool: a checkout and checkin, 1 tenant", || transaction(1)),
    ("pool: a checkout and checkin, 10 tenants", || transaction(10)),
    ("pool: a checkout and checkin, 1000 tenants", || transaction(1_000)),
    ("pool: a checkout and checkin, 50000 tenants", || transaction(50_000)),
    ("pool: a turn in the queue, 1 tenant", || turn(1)),
    ("pool: a turn in the queue, 1000 tenants", || turn(1_000)),
    ("pool: a turn in the queue, 50000 tenants", || turn(50_000)),
    ("switch: to another tenant", switch),
    ("switch: its frames are built", switch_is_built),
    ("prepared: a name is found on a server", prepared),
];

pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    CASES.iter().map(|(name, _)| *name)
}

pub(crate) fn run(name: &str, times: u32) {
    let (_, prepare) = CASES.iter().find(|(known, _)| *known == name).expect("a case");
    let mut case = prepare();
    // What is done only once is not what it costs.
    case();
    run_counted(&mut *case, times);
}

#[inline(never)]
fn run_counted(case: &mut dyn FnMut(), times: u32) {
    for _ in 0..times {
        case();
    }
}

pub(crate) fn has_avx2() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

fn query() -> BytesMut {
    let mut bytes = BytesMut::new();
    build::query(POINT_SELECT, &mut bytes);
    bytes
}

/// Bind, Describe, Execute and Sync, as drivers send them for a prepared statement.
fn batch() -> BytesMut {
    let mut bytes = BytesMut::new();
    build::bind(b"", b"P_0", &mut bytes);
    bytes.extend_from_slice(b"D\0\0\0\x06P\0");
    build::execute(b"", &mut bytes);
    bytes.extend_from_slice(build::SYNC);
    bytes
}

fn messages(types: &[u8]) -> Vec<u8> {
    types.iter().flat_map(|tag| [*tag, 0, 0, 0, 9, 0, 0, 0, 0, b'I']).collect()
}

fn scan_client(bytes: BytesMut) -> Box<dyn FnMut()> {
    let mut scan = ClientScan::new();
    Box::new(move || {
        let mut at = 0;
        while at < bytes.len() {
            let (count, event) = scan.next(black_box(&bytes[at..])).expect("it is well-formed");
            black_box(event);
            at += count;
        }
    })
}

fn client_query() -> Box<dyn FnMut()> {
    scan_client(query())
}

fn client_batch() -> Box<dyn FnMut()> {
    scan_client(batch())
}

fn server_rows() -> Box<dyn FnMut()> {
    let bytes = messages(b"TDC");
    let mut scan = ServerScan::default();
    Box::new(move || {
        let mut at = 0;
        while let Ok(Some(message)) = scan.next(black_box(&bytes[at..])) {
            at += message.consumed;
        }
    })
}

/// What the client sends and what the server answers, until nothing is owed.
fn conversation(sent: &'static [u8], answers: &'static [u8]) -> Box<dyn FnMut()> {
    let mut exchange = Exchange::default();
    let bytes = messages(answers);
    Box::new(move || {
        for tag in sent {
            black_box(exchange.on_client(*tag, frontend::Names::Unnamed));
        }
        assert_eq!(exchange.pass_run(black_box(&bytes), None), bytes.len());
        exchange.on_server(b'Z', Some(b"I")).expect("it is owed");
        assert!(exchange.is_at_rest());
        exchange.reset();
    })
}

fn simple_query() -> Box<dyn FnMut()> {
    conversation(b"Q", b"TDC")
}

fn extended_batch() -> Box<dyn FnMut()> {
    conversation(b"PBDES", b"12TDC")
}

fn hundred_rows() -> Box<dyn FnMut()> {
    const ANSWERS: [u8; 102] = {
        let mut answers = [b'D'; 102];
        (answers[0], answers[101]) = (b'T', b'C');
        answers
    };
    conversation(b"Q", &ANSWERS)
}

fn look(text: &'static str) -> Box<dyn FnMut()> {
    Box::new(move || assert!(is_plain(black_box(text.as_bytes()))))
}

fn read(text: &'static str) -> Box<dyn FnMut()> {
    Box::new(move || {
        let mut lexer = Lexer::new();
        lexer.feed(black_box(text.as_bytes()));
        black_box(lexer.finish());
    })
}

fn two_settings() -> Box<dyn FnMut()> {
    let text = b"-c search_path=acme,public -c statement_timeout=5000";
    Box::new(move || assert_eq!(options::parse(black_box(text)).map(|o| o.len()).ok(), Some(2)))
}

fn transaction(tenants: usize) -> Box<dyn FnMut()> {
    let mut pool = CountedPool::new(tenants);
    Box::new(move || pool.transaction())
}

fn turn(tenants: usize) -> Box<dyn FnMut()> {
    let mut pool = CountedPool::new(tenants);
    pool.exhaust();
    Box::new(move || pool.turn())
}

fn tenant(name: &str) -> TenantId {
    NamePattern::new("[a-z]+").expect("a pattern").parse(name).expect("a name")
}

fn target(tenant: &TenantId) -> Arc<Target> {
    Arc::new(Target::new(tenant.clone(), SessionState::default(), Arc::new(Class::new())))
}

fn switch() -> Box<dyn FnMut()> {
    let (acme, umbra) = (target(&tenant("acme")), target(&tenant("umbra")));
    let known = Known::Exactly(acme);
    Box::new(move || drop(black_box(known.switch_to(black_box(&umbra), Scrub::Tenant))))
}

fn switch_is_built() -> Box<dyn FnMut()> {
    let acme = tenant("acme");
    Box::new(move || drop(black_box(target(&acme))))
}

fn prepared() -> Box<dyn FnMut()> {
    let (all, mut names, mut held) = (Statements::default(), Names::default(), Held::default());
    for number in 0..50 {
        let statement = all
            .of("acme")
            .get(format!("select {number}\0\0\0").as_bytes(), Flags::NONE)
            .expect("there is room");
        names.insert(format!("P_{number}").as_bytes(), statement, None);
        names.answered();
    }
    Box::new(move || {
        let statement = names.get(black_box(b"P_7")).expect("it was inserted");
        black_box(held.take(Key { statement: statement.id, class: 1 }, 200));
    })
}
