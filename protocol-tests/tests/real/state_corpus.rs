//! Random conversations that change sessions, against PostgreSQL itself: the client sees what it would
//! see on a connection of its own, and the next client sees nothing of it. Repeat one with
//! `TENANTRY_CORPUS_SEED`.

use protocol_tests::wire::{bind, execute, parse, query, sync};
use protocol_tests::{Database, Pooler, Wire, on_both};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::raw;

const CONVERSATIONS: usize = 200;

/// Statements that change the session, or do not, or fail. `#` is a small number.
const STATEMENTS: [&str; 87] = [
    "listen c#",
    "unlisten c#",
    "unlisten *",
    "create temp table t# (a int)",
    "CREATE LOCAL TEMPORARY TABLE u# AS SELECT 1",
    "create table pg_temp.p# (a int)",
    "select 1 as a into temp s#",
    "create temporary view v# as select 1",
    "create temp sequence q#",
    "drop table if exists t#, u#",
    "discard temp",
    "declare k# cursor with hold for select 1",
    "declare l# no scroll cursor for select 1",
    "close all",
    "select pg_advisory_lock(pg_backend_pid())",
    "select pg_try_advisory_lock_shared(pg_backend_pid(), #)",
    "select pg_advisory_xact_lock(pg_backend_pid(), #)",
    "select pg_advisory_unlock_all()",
    "with x as (select set_config('app.a', 'w#', false)) select * from x",
    "values (set_config('app.b', 'v#', false))",
    "explain analyze select set_config('app.a', 'e#', false)",
    "copy (select set_config('app.b', 'y#', false)) to stdout",
    "delete from who where set_config('app.a', 'q#', false) is null",
    "select pg_catalog . set_config ( 'app.a' , 'p#' , false )",
    "select \"set_config\"('app.b', 'q#', false)",
    "select set_config(E'app.\\x61', 'x#', false)",
    "select U&\"set\\005fconfig\"('app.a', 'u#', false)",
    "select set_config($a$app.a$a$, 'y#', false)",
    "select set_config('app.' || 'b', 'z#', false)",
    "update pg_settings set setting = '#MB' where name = 'work_mem'",
    "do language plpgsql $$ begin execute 'select set_config(''app.a'', ''n#'', false)'; end $$",
    "do $$ declare x text := 'set app.b = ''o#'''; begin execute x; end $$",
    "set constraints all deferred",
    "set xml option document",
    "set session authorization default",
    "set role none",
    "set names 'UTF8'",
    "set schema 'umbra'",
    "set local search_path to umbra",
    "alter role current_user set work_mem to default",
    "notify c#",
    "lock table who in access share mode",
    "prepare a# as select 1; select 1",
    "set work_mem to '#MB'",
    "SET SESSION work_mem = #000",
    "set app.a to 'v#'",
    "set app.\"B\" = 'v''#'",
    "set local app.a to 'l#'",
    "set local work_mem to '#MB'",
    "reset work_mem",
    "reset app.a",
    "RESET ALL",
    "set app.a to default",
    "set timezone to 'Etc/GMT-#'",
    "set time zone default",
    "set session characteristics as transaction isolation level serializable",
    "set statement_timeout = '1#s'",
    "select set_config('app.a', 'c#', false)",
    "select set_config('app.b', 'c#', true)",
    "select set_config('work_mem', '#MB', false)",
    "do $$ begin perform set_config('app.a', 'd#', false); end $$",
    "do $$ begin set work_mem = '#MB'; end $$",
    "do $d$ begin execute 'set app.b = ''x#'''; end $d$",
    "do $$ begin set work_mem = '#MB'; raise exception 'no'; end $$",
    "begin",
    "commit",
    "rollback",
    "savepoint s",
    "rollback to s",
    "release s",
    "begin; set app.a to 't#'; commit",
    "begin; set app.a to 't#'; rollback",
    "set app.a to 'm#'; select 1",
    "select 1; set app.a to 'm#'",
    "set app.a to 'f#'; select 1/0",
    "select 1/0",
    "select 'set app.a to 1'",
    "select $$set app.a to 1$$, \"x\" from (select 1 as \"x\") set",
    "set no_such.thing to '#'",
    "set work_mem to 'none'",
    "set nothing to 1",
    "set datestyle to 'German'",
    "set search_path to umbra, public",
    "set search_path to default",
    "set standard_conforming_strings to on",
    "set application_name to 'n#'",
    "discard all",
];

/// What can be seen of a session, a line each. A custom setting that nobody has set reads as NULL on a
/// new server and as empty on one where somebody ever has: the one difference that is known.
const SEEN: &str = "select x from unnest(array['a=' || coalesce(current_setting('app.a', true), ''), 'b=' || coalesce(current_setting('app.b', true), ''), \
    'user=' || current_user, 'listens=' || (select count(*) from pg_listening_channels()), \
    'temporary=' || (select count(*) from pg_class where relnamespace = pg_my_temp_schema()), \
    'cursors=' || (select count(*) from pg_cursors where is_holdable), \
    'locks=' || (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid())]) x union all \
    select name || '=' || setting from pg_settings where name not like 'transaction_%' and name not like 'plpgsql.%' and context <> 'internal'";

/// What the one has and the other has not.
fn differences(got: Result<Vec<String>, String>, want: Result<Vec<String>, String>) -> Vec<String> {
    match (got, want) {
        (Ok(got), Ok(want)) => {
            let only = |a: &[String], b: &[String], sign: &str| -> Vec<String> {
                a.iter()
                    .filter(|line| !b.contains(line))
                    .map(|line| format!("{sign}{line}"))
                    .collect()
            };
            [only(&got, &want, "+"), only(&want, &got, "-")].concat()
        }
        (got, want) if got == want => Vec::new(),
        (got, want) => vec![format!("{:?} instead of {:?}", got.err(), want.err())],
    }
}

/// A statement in some disguise, and one of the ways to send it.
fn messages(rng: &mut StdRng, names: &mut usize) -> Vec<u8> {
    let statement = STATEMENTS[rng.random_range(0..STATEMENTS.len())]
        .replace('#', &rng.random_range(1..9).to_string());
    let before =
        ["", " ", "\n\t", "/* set x */ ", "-- reset\n", "/* /* */ */", ";"][rng.random_range(0..7)];
    let after = ["", " ", ";", " -- end", " /* ' */"][rng.random_range(0..5)];
    let text = format!("{before}{statement}{after}");
    let is_one = !statement.contains("; ") || statement.starts_with("do ");
    match rng.random_range(0..4) {
        1 if is_one && before != ";" => {
            [parse("", &text), bind("", ""), execute("", 0), sync()].concat()
        }
        2 if is_one && before != ";" => {
            *names += 1;
            let name = format!("n{names}");
            [parse(&name, &text), sync(), bind("", &name), execute("", 0), sync()].concat()
        }
        _ => query(&text),
    }
}

/// The SQLSTATEs and statuses of the answers.
async fn answers(wire: &mut Wire, sent: &[u8]) -> Vec<String> {
    let readies = {
        // As many as there are queries and syncs.
        let (mut rest, mut count) = (sent, 0);
        while let [tag, a, b, c, d, ..] = rest {
            count += usize::from(matches!(tag, b'Q' | b'S'));
            rest = &rest[1 + u32::from_be_bytes([*a, *b, *c, *d]) as usize..];
        }
        count
    };
    wire.send(sent).await;
    let mut told = Vec::new();
    for _ in 0..readies {
        let (messages, status) = wire.until_ready().await;
        let errors = messages.iter().filter(|m| m.tag == 'E').map(|m| m.field('C'));
        told.extend(errors.chain([status.to_string()]));
    }
    told
}

async fn converse(db: &Database, pooler: &Pooler, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut direct, mut wire) = (db.wire("-c search_path=acme").await, raw(pooler, "acme").await);
    let fresh = direct.run(SEEN).await;
    let (mut names, mut log) = (0, Vec::new());
    for _ in 0..rng.random_range(2..9) {
        let sent = messages(&mut rng, &mut names);
        log.push(String::from_utf8_lossy(&sent).into_owned());
        let want = answers(&mut direct, &sent).await;
        assert_eq!(answers(&mut wire, &sent).await, want, "seed {seed}: {log:#?}");
    }
    for ends in ["select 1", "rollback"] {
        // In a transaction first, as far as it goes, then behind it.
        let (want, got) = (direct.run(SEEN).await, wire.run(SEEN).await);
        assert_eq!(differences(got, want), [""; 0], "seed {seed}, before {ends}: {log:#?}");
        direct.send(&query(ends)).await;
        wire.send(&query(ends)).await;
        assert_eq!(wire.until_ready().await.1, direct.until_ready().await.1);
    }
    drop(wire);
    let next = raw(pooler, "acme").await.run(SEEN).await;
    assert_eq!(differences(next, fresh), [""; 0], "seed {seed}: the next client sees it: {log:#?}");
}

on_both! {
    async fn a_session_in_transaction_mode_cannot_be_told_from_one_of_ones_own(db: &Database) {
        let pooler = crate::trusting(db, 1).await;
        for seed in protocol_tests::seeds(CONVERSATIONS as u64) {
            converse(db, &pooler, seed).await;
        }
    }
}
