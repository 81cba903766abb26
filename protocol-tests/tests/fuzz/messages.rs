//! Messages of the protocol, legal and not.

use protocol_tests::wire::{close, describe, execute, flush, message, parse, query, sync};
use rand::Rng;
use rand::rngs::StdRng;

const NAMES: [&str; 6] = ["", "", "s1", "s2", "tenantry_1", "A b\"c"];
const PORTALS: [&str; 4] = ["", "", "p", "q"];

/// Texts: of each kind of statement that a session knows, and of each that the pooler looks at. `#` is a number.
pub(crate) const TEXTS: [&str; 74] = [
    "select #",
    "select name from who",
    "select generate_series(1, 40)",
    "select repeat('x', 30000)",
    "select $1::int",
    "select $1::text, $2::int",
    "insert into who select 'x' where false",
    "select 1/0",
    "selec",
    "",
    ";;",
    "select 1; select 2",
    "select 1; select 1/0; select 3",
    "begin",
    "begin isolation level serializable read only",
    "start transaction",
    "commit",
    "commit and chain",
    "rollback",
    "savepoint a",
    "rollback to savepoint a",
    "release savepoint a",
    "set work_mem to '#MB'",
    "set local work_mem to '#MB'",
    "set app.x to '#'",
    "set application_name to 'a#'",
    "set timezone to 'Etc/GMT-#'",
    "set datestyle to german",
    "set client_encoding to latin1",
    "set search_path to public",
    "set schema 'public'",
    "set role none",
    "set local role none",
    "reset role",
    "reset all",
    "discard all",
    "discard temp",
    "select set_config('work_mem', '#MB', false)",
    "select set_config($1, $2, false)",
    "select set_config('search_path', 'public', true)",
    "set session authorization default",
    "listen c#",
    "notify c1, 'x'",
    "unlisten *",
    "create temp table t# (a int)",
    "drop table if exists t1",
    "declare k cursor with hold for select 1",
    "close all",
    "select pg_advisory_lock(#)",
    "select pg_advisory_unlock_all()",
    "select setseed(0.#)",
    "prepare s1 as select #",
    "prepare s2 (int) as select $1",
    "execute s1",
    "execute s2(#)",
    "execute tenantry_1",
    "explain execute s1",
    "deallocate s1",
    "deallocate all",
    "prepare transaction 'x'",
    "do $$ begin perform 1; end $$",
    "do $$ begin perform set_config('work_mem', '#MB', false); end $$",
    "do $$ begin execute 'select ' || 1; end $$",
    "copy who from stdin",
    "copy (select generate_series(1, 9)) to stdout",
    "copy who from stdin; select 1",
    "select pg_sleep(0.01)",
    "lock table who in access share mode",
    "vacuum (analyze) who",
    "show search_path",
    "select U&\"set\\005fconfig\"('work_mem', '#MB', false)",
    "select query_to_xml('select 1', true, true, '')",
    "select 'unterminated",
    "/* open",
];

pub(crate) fn text(rng: &mut StdRng) -> String {
    let text = TEXTS[rng.random_range(0..TEXTS.len())];
    let text = text.replace('#', &rng.random_range(1..10).to_string());
    match rng.random_range(0..40) {
        0 => format!("{text} /* {} */", "y".repeat(rng.random_range(0..40_000))),
        1 => format!("/* {} */ {text}", "y".repeat(rng.random_range(0..20_000))),
        _ => text,
    }
}

fn name(rng: &mut StdRng) -> &'static str {
    NAMES[rng.random_range(0..NAMES.len())]
}

fn bind(rng: &mut StdRng) -> Vec<u8> {
    let mut body =
        [PORTALS[rng.random_range(0..PORTALS.len())], "\0", name(rng), "\0"].concat().into_bytes();
    body.extend([0, 0]);
    let values = [0, 0, 0, 1, 2][rng.random_range(0..5)];
    body.extend(u16::to_be_bytes(values));
    for _ in 0..values {
        let value = ["1", "work_mem", "search_path", "role", "x"][rng.random_range(0..5)];
        if rng.random_bool(0.1) {
            body.extend((-1_i32).to_be_bytes());
        } else {
            body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
            body.extend(value.as_bytes());
        }
    }
    body.extend([0, 0]);
    message('B', &body)
}

/// One message that PostgreSQL may take.
pub(crate) fn legal(rng: &mut StdRng) -> Vec<u8> {
    let portal = PORTALS[rng.random_range(0..PORTALS.len())];
    match rng.random_range(0..100) {
        0..22 => query(&text(rng)),
        22..40 => parse(name(rng), &text(rng)),
        40..54 => bind(rng),
        54..68 => execute(portal, [0, 0, 0, 1, 3][rng.random_range(0..5)]),
        68..74 => describe(if rng.random_bool(0.5) { 'S' } else { 'P' }, name(rng)),
        74..78 => close(if rng.random_bool(0.7) { 'S' } else { 'P' }, name(rng)),
        78..92 => sync(),
        92..95 => flush(),
        95..97 => message('d', b"acme\n"),
        97 => message('c', b""),
        98 => message('f', b"no\0"),
        _ => {
            let oid: u32 = [2078, 764, 1, 0][rng.random_range(0..4)];
            message('F', &[&oid.to_be_bytes()[..], &[0; 6]].concat())
        }
    }
}

/// One that it may not.
pub(crate) fn malformed(rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = legal(rng);
    match rng.random_range(0..7) {
        0 => {
            // Of another type.
            bytes[0] = rng.random();
        }
        1 => {
            // Too short or too long a length.
            let len: u32 = [0, 3, 4, 5, 70, 1 << 20, 0x3fff_ffff, 0x4000_0000, u32::MAX]
                [rng.random_range(0..9)];
            bytes[1..5].copy_from_slice(&len.to_be_bytes());
        }
        2 if bytes.len() > 5 => {
            // Bytes of the body are others.
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(5..bytes.len());
                bytes[at] = rng.random();
            }
        }
        3 => {
            // More than it should hold.
            let tag = char::from(bytes[0]);
            let more: Vec<u8> = (0..rng.random_range(1..9)).map(|_| rng.random()).collect();
            bytes = message(tag, &[&bytes[5..], &more].concat());
        }
        4 if bytes.len() > 6 => {
            // Less.
            let tag = char::from(bytes[0]);
            let keep = rng.random_range(5..bytes.len());
            bytes = message(tag, &bytes[5..keep]);
        }
        5 => bytes = message('p', b"password\0"),
        _ => bytes = (0..rng.random_range(1..30)).map(|_| rng.random()).collect(),
    }
    bytes
}

/// What ends a conversation that has gone astray, as far as that is possible.
pub(crate) fn way_out() -> Vec<u8> {
    [message('f', b"out\0"), sync(), query("rollback"), sync()].concat()
}
