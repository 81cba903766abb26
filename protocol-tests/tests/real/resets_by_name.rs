//! A RESET that runs by a name: a statement, a portal, an EXECUTE in SQL. What leads back goes out behind it all the same, or it is refused.
//!
//! `Parse` makes a statement of any text. So what a name stands for has to be known wherever PostgreSQL runs it, also after what
//! PostgreSQL has skipped or refused.

use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::wire::{batch, bind, close, execute, flush, message, parse, query, sync};
use protocol_tests::{Database, Pooler, Wire, on_both};

use crate::raw;

/// Who the session is, wherever it stands.
const WHO: &str = "select concat_ws(' ', 'who', current_setting('search_path'), current_setting('app.tenant'), current_user)";

async fn start(db: &Database, rules: &str) -> Pooler {
    let name = &db.name;
    Pooler::start(&format!(
        "{}[users.kept]\npassword = \"secret\"\ntenants = [\"*\"]\npool_mode = \"session\"\n[auth]\ntype = \"trust\"\n{BY_SCHEMA}\
         settings = {{ \"app.tenant\" = \"{{tenant}}\" }}\nrole = \"{name}_{{tenant}}\"\n{rules}",
        db.toml(2)
    ))
    .await
}

async fn roles(db: &Database) {
    db.schemas(&["acme"]).await;
    let name = &db.name;
    let sql = format!(
        "create role {name}_acme; grant {name}_acme to {name}; grant usage on schema acme to {name}_acme"
    );
    db.admin.batch_execute(&sql).await.unwrap();
}

/// Writes, one after the other: the answers to each are read before the next goes out.
fn conversations(reset: &str) -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let who = || batch(WHO);
    let made = || [parse("y", reset), sync()].concat();
    let (failing, two) =
        (|| batch("select 1/0"), || [parse("y", reset), parse("z", "select 1"), sync()].concat());
    let all = |parts: &[Vec<u8>]| parts.concat();
    vec![
        ("EXECUTE in front of others", vec![made(), query(&format!("execute y; {WHO}"))]),
        ("EXECUTE alone", vec![made(), query("execute y"), query(WHO)]),
        (
            "EXECUTE alone with semicolons",
            vec![made(), query("begin"), query(";execute y;;"), query(WHO), query("commit")],
        ),
        (
            "EXECUTE behind BEGIN",
            vec![made(), query("begin; execute y"), query(WHO), query("commit")],
        ),
        ("EXECUTE in a pipeline", vec![made(), all(&[batch("execute y"), who(), sync()])]),
        (
            "EXECUTE in a DO",
            vec![
                made(),
                query(&format!("do $$ begin execute 'execute y'; end $$; {WHO}")),
                query(WHO),
            ],
        ),
        (
            "a statement under its name",
            vec![made(), all(&[bind("", "y"), execute("", 0), who(), sync()])],
        ),
        (
            "a portal of an earlier unit",
            vec![
                query("begin"),
                all(&[parse("y", reset), bind("p", "y"), sync()]),
                all(&[execute("p", 0), who(), sync()]),
                query("commit"),
            ],
        ),
        (
            "the unnamed portal of an earlier unit",
            vec![
                query("begin"),
                all(&[parse("", reset), bind("", ""), sync()]),
                all(&[execute("", 0), who(), sync()]),
                query("commit"),
            ],
        ),
        (
            "a portal whose statement was closed",
            vec![all(&[
                parse("y", reset),
                bind("p", "y"),
                close('S', "y"),
                parse("y", "select 1"),
                execute("p", 0),
                who(),
                sync(),
            ])],
        ),
        (
            "a portal bound anew",
            vec![all(&[
                two(),
                bind("p", "z"),
                close('P', "p"),
                bind("p", "y"),
                execute("p", 0),
                who(),
                sync(),
            ])],
        ),
        (
            "a name that is taken",
            vec![
                made(),
                all(&[parse("y", "select 1"), sync()]),
                all(&[bind("", "y"), execute("", 0), who(), sync()]),
            ],
        ),
        (
            "a name made again where it is skipped",
            vec![
                made(),
                all(&[failing(), close('S', "y"), parse("y", "select 1"), sync()]),
                all(&[bind("", "y"), execute("", 0), who(), sync()]),
            ],
        ),
        (
            "the unnamed statement made again where it is skipped",
            vec![
                all(&[parse("", reset), sync()]),
                all(&[bind("", "none"), parse("", "select 1"), sync()]),
                all(&[bind("", ""), execute("", 0), who(), sync()]),
            ],
        ),
        (
            "a portal bound again where it is skipped",
            vec![
                query("begin"),
                two(),
                all(&[bind("p", "y"), sync()]),
                query("savepoint s"),
                all(&[failing(), close('P', "p"), bind("p", "z"), sync()]),
                query("rollback to s"),
                all(&[execute("p", 0), who(), sync()]),
                query("commit"),
            ],
        ),
    ]
}

on_both! {
    async fn nothing_of_a_guarded_client_runs_below_its_tenants_state(db: &Database) {
        roles(db).await;
        let pooler = start(db, "guard = \"reject\"\n").await;
        let home = format!("who acme acme {}_acme", db.name);
        for reset in ["reset role", "reset all", "discard all", "set session authorization default", "set search_path to default", "reset app.tenant"] {
            for (how, writes) in conversations(reset) {
                // In session mode, pinned, and on any server: names are the client's own, or the pooler's.
                for kept in ["", "session mode", "pinned"] {
                    let mut wire = Wire::login(pooler.port, &[("user", if kept == "session mode" { "kept.acme" } else { "app.acme" })]).await;
                    if kept == "pinned" {
                        wire.run("prepare q as select 1; execute q").await.unwrap();
                    }
                    let mut seen = 0;
                    for write in &writes {
                        wire.send(write).await;
                        let syncs = count_of_syncs(write);
                        for _ in 0..syncs {
                            let (messages, _) = wire.until_ready().await;
                            for row in messages.iter().filter(|m| m.tag == 'D' && m.text().starts_with("who")) {
                                assert_eq!(row.text(), home, "{reset}, {how}, {kept}");
                                seen += 1;
                            }
                        }
                    }
                    let after = wire.run("rollback").await.and(wire.run(WHO).await);
                    assert_eq!(after.unwrap().concat(), home, "{reset}, {how}, {kept}: afterwards, {seen} before");
                }
            }
        }
    }

    /// A cursor WITH HOLD is filled, and a deferred trigger runs, when the transaction ends.
    async fn nothing_is_left_for_the_end_of_a_transaction_that_resets(db: &Database) {
        roles(db).await;
        let name = &db.name;
        db.admin.batch_execute(&format!(
            "create table acme.seen (who text); create table acme.cause (a int); grant all on acme.seen, acme.cause to {name}_acme, {name}; grant usage on schema acme to {name}; \
             create function acme.see() returns trigger language plpgsql as $$ begin insert into acme.seen values (current_user); return null; end $$; \
             create constraint trigger t after insert on acme.cause deferrable initially deferred for each row execute function acme.see()")).await.unwrap();
        let pooler = start(db, "guard = \"reject\"\n").await;
        let home = format!("who acme acme {name}_acme");
        for reset in ["reset role", "reset all", "set role to default", "set session authorization default", "reset search_path", "reset app.tenant"] {
            for work in [format!("declare h cursor with hold for {WHO}"), "insert into acme.cause values (1)".into(), "select 1".into()] {
                for write in [
                    query(&format!("{work}; {reset}")),
                    query(&format!("{work}; begin; {reset}")),
                    query(&format!("begin; {work}; commit; {work}; {reset}")),
                    [batch(&work), query(reset)].concat(),
                    [batch(&work), flush(), query(reset)].concat(),
                    [batch(&work), batch(reset), sync(), query(reset)].concat(),
                    [query("begin"), query(&work), query(reset), query("commit")].concat(),
                ] {
                    let mut wire = raw(&pooler, "acme").await;
                    wire.send(&[write, sync(), query("rollback"), query("fetch all from h"), query(WHO), query("select 'end'")].concat()).await;
                    let mut rows = Vec::new();
                    while rows.last().is_none_or(|row| row != "end") {
                        let message = wire.receive().await;
                        if message.tag == 'D' {
                            rows.push(message.text());
                        }
                    }
                    let mut who = rows.iter().filter(|row| row.starts_with("who"));
                    assert!(who.all(|row| *row == home), "{work}; {reset}: {rows:?}");
                    assert!(rows.contains(&home), "{rows:?}");
                }
            }
        }
        let seen = db.admin.query("select distinct who from acme.seen", &[]).await.unwrap();
        let seen: Vec<String> = seen.iter().map(|row| row.get(0)).collect();
        assert_eq!(seen, [format!("{name}_acme")]);
        let mut wire = raw(&pooler, "acme").await;
        wire.run("select pg_advisory_unlock_all(); close all; unlisten *; reset all;").await.unwrap();
    }

    /// What PostgreSQL skips behind an error is skipped, and so is all behind it.
    async fn a_reset_that_is_skipped_ends_no_skipping(db: &Database) {
        roles(db).await;
        for rules in ["", "guard = \"reject\"\n"] {
            let pooler = start(db, rules).await;
            for reset in ["reset role", "reset all", "discard all", "set search_path to default"] {
                for (mut wire, direct) in [(db.wire("").await, true), (raw(&pooler, "acme").await, false)] {
                    wire.send(&[batch("select 1/0"), query(reset), batch("select 'must not run'"), sync()].concat()).await;
                    let (messages, _) = wire.until_ready().await;
                    let told: String = messages.iter().map(|m| m.tag).collect();
                    assert!(told == "12TE" || told == "12E" || told == "1E", "{reset} {direct}: {told}");
                    assert_eq!(wire.run("select 'and then'").await.unwrap(), ["and then"], "{reset} {direct}");
                }
            }
        }
    }

    /// In one write: whether a unit fails is not known when the next one is read.
    async fn what_an_earlier_unit_was_to_make_hides_no_reset(db: &Database) {
        roles(db).await;
        let home = format!("who acme acme {}_acme", db.name);
        for rules in ["", "guard = \"reject\"\n"] {
            let pooler = start(db, rules).await;
            for reset in ["reset role", "reset all", "discard all", "set role to default", "reset search_path"] {
                for kept in ["", "session mode", "pinned"] {
                    for units in [
                        [parse("y", reset), sync(), parse("y", "select 1"), sync()],
                        [parse("", reset), sync(), [bind("", "none"), parse("", "select 1")].concat(), sync()],
                        [parse("y", reset), sync(), [bind("", "none"), close('S', "y"), parse("y", "select 1")].concat(), sync()],
                    ] {
                        let name = if units[0] == parse("", reset) { "" } else { "y" };
                        let mut wire = Wire::login(pooler.port, &[("user", if kept == "session mode" { "kept.acme" } else { "app.acme" })]).await;
                        if kept == "pinned" {
                            wire.run("prepare q as select 1; execute q").await.unwrap();
                        }
                        wire.send(&[units.concat(), bind("", name), execute("", 0), batch(WHO), sync(), query(WHO)].concat()).await;
                        for _ in 0..4 {
                            let (messages, _) = wire.until_ready().await;
                            for row in messages.iter().filter(|m| m.tag == 'D') {
                                assert_eq!(row.text(), home, "{rules} {reset} {kept}");
                            }
                        }
                    }
                }
            }
        }
    }

    async fn a_copy_behind_a_reset_reads_what_it_is_sent(db: &Database) {
        roles(db).await;
        let name = &db.name;
        db.admin.batch_execute(&format!("create table acme.numbers (a int); grant all on acme.numbers to {name}_acme")).await.unwrap();
        for rules in ["", "guard = \"reject\"\n"] {
            let pooler = start(db, rules).await;
            for user in ["app.acme", "kept.acme"] {
                for reset in ["reset all", "reset role", "set work_mem to default"] {
                    for before in [vec![], vec![flush()], vec![batch("select 1")]] {
                        let mut wire = Wire::login(pooler.port, &[("user", user)]).await;
                        let copy = [message('d', b"1\n2\n"), message('c', b"")].concat();
                        wire.send(&[batch(reset), before.concat(), query("copy numbers from stdin"), copy, sync(), query(WHO)].concat()).await;
                        let mut row = String::new();
                        while !row.starts_with("who") {
                            let message = wire.receive().await;
                            if message.tag == 'E' {
                                // PostgreSQL 18 itself fails (XX000) what comes behind a simple query in a pipeline without Sync, be it the
                                // guard's question.
                                assert!(["XX000", "42501"].contains(&&*message.field('C')), "{}", message.field('M'));
                                break;
                            }
                            row = if message.tag == 'D' { message.text() } else { row };
                        }
                        assert!(row.is_empty() || row == format!("who acme acme {name}_acme") || row == "1", "{rules} {user} {reset}: {row}");
                    }
                }
            }
        }
    }

    async fn a_discard_by_the_extended_protocol_discards_names(db: &Database) {
        roles(db).await;
        for rules in ["", "guard = \"reject\"\n"] {
            let pooler = start(db, rules).await;
            for (from, direct) in [(raw(&pooler, "acme").await, false), (db.wire("").await, true)] {
                let mut wire = from;
                for statement in ["", "named"] {
                    for sql in ["discard all", "deallocate all"] {
                        wire.send(&[parse("s3", "select 3"), sync()].concat()).await;
                        assert_eq!(wire.tags().await, "1ZI", "{sql} {direct}");
                        wire.send(&[parse(statement, sql), bind("", statement), execute("", 0), sync()].concat()).await;
                        assert_eq!(wire.tags().await, "12CZI", "{sql} {direct}");
                        wire.send(&[bind("", "s3"), execute("", 0), sync()].concat()).await;
                        let (messages, _) = wire.until_ready().await;
                        assert_eq!(messages[0].field('C'), "26000", "{sql} {rules} {direct}");
                    }
                }
            }
        }
    }

    async fn what_an_execute_leaves_behind_closes_its_server(db: &Database) {
        roles(db).await;
        let pooler = start(db, "guard = \"reject\"\n").await;
        for writes in [
            vec![[parse("y", "select setseed(0.5)"), sync()].concat(), query("select 1; execute y")],
            vec![query("prepare q as select 1; execute q"), [parse("y", "select setseed(0.5)"), sync()].concat(), query("execute y")],
        ] {
            let mut wire = raw(&pooler, "acme").await;
            for write in &writes {
                wire.send(write).await;
                wire.until_ready().await;
            }
            let server = wire.run("select pg_backend_pid()").await.unwrap();
            drop(wire);
            db.until(&format!("pid = {}", server[0]), 0).await;
        }
    }

    async fn who_leaves_behind_a_copy_that_fails_is_found_before_the_next_message(db: &Database) {
        roles(db).await;
        let name = &db.name;
        let sql = format!(
            "create role {name}_umbra; grant {name}_umbra to {name}; create table acme.numbers (a int); grant all on acme.numbers to {name}_acme; \
             create function acme.leave() returns void language plpgsql as $$ begin execute 'set role {name}_umbra'; end $$"
        );
        db.admin.batch_execute(&sql).await.unwrap();
        let pooler = start(db, "guard = \"reject\"\n").await;
        let data = |text: &str| message('d', text.as_bytes());
        let copy = || [batch("copy numbers from stdin"), sync(), data("bad\n")].concat();
        let leave = || query("select leave()");
        for parts in [
            vec![copy(), sync(), leave(), query("rollback"), query(WHO)],
            vec![copy(), sync(), batch("select 1"), sync(), leave(), query(WHO)],
            vec![copy(), data("2\n"), sync(), leave(), query(";"), query("select 2"), query(WHO)],
            vec![copy(), sync(), leave(), sync(), query(";"), sync(), query(WHO)],
            vec![copy(), sync(), batch("select leave()"), sync(), batch(WHO), sync()],
            vec![copy(), message('c', &[]), sync(), leave(), query(WHO)],
        ] {
            let mut wire = raw(&pooler, "acme").await;
            wire.send(&[parts.concat(), query("select 'end'")].concat()).await;
            while let Some(message) = wire.next().await {
                if message.tag == 'D' && message.text().starts_with("who") {
                    assert_eq!(message.text(), format!("who acme acme {name}_acme"));
                }
                if message.tag == 'D' && message.text() == "end" {
                    break;
                }
            }
        }
    }

    async fn a_function_that_changes_how_texts_are_read_ends_the_session(db: &Database) {
        roles(db).await;
        let sql = "create function acme.sets(a text, b text, c bool) returns text language sql as $$ select set_config(a, b, c) $$";
        db.admin.batch_execute(sql).await.unwrap();
        let pooler = start(db, "guard = \"reject\"\n").await;
        let encodings = ["SJIS", "BIG5", "GBK", "UHC", "GB18030", "JOHAB", "SHIFT_JIS_2004"];
        let mut sets: Vec<_> = encodings.iter().map(|encoding| format!("select sets('client_encoding', '{encoding}', false)")).collect();
        sets.push("select sets('standard_conforming_strings', 'off', false)".into());
        let escape = query("select '\\'' , set_config('role', 'none', false) --'");
        for set in sets {
            // Outside a block and in one, for good and for the transaction.
            for set in [set.clone(), set.replace("false", "true")] {
                for before in ["", "begin"] {
                    let mut wire = raw(&pooler, "acme").await;
                    wire.run(before).await.unwrap();
                    if before.is_empty() && set.contains("true") {
                        continue;
                    }
                    wire.send_if_open(&[query(&set), escape.clone()].concat()).await;
                    let mut last = wire.receive().await;
                    while let Some(next) = wire.next().await {
                        last = next;
                    }
                    assert_eq!((last.field('S').as_str(), last.field('C').as_str()), ("FATAL", "42501"), "{before}; {set}");
                }
            }
        }
    }

    async fn a_way_back_that_fails_leaves_nobody_below_home(db: &Database) {
        roles(db).await;
        let name = &db.name;
        for rules in ["", "guard = \"reject\"\n"] {
            let pooler = start(db, rules).await;
            db.admin.batch_execute(&format!("create text search configuration acme.own (copy = simple); grant create on schema acme to {name}_acme")).await.unwrap();
            let mut wire = Wire::login(pooler.port, &[("user", "app.acme"), ("options", "-c default_text_search_config=acme.own")]).await;
            wire.run("select 1").await.unwrap();
            db.admin.batch_execute("drop text search configuration acme.own").await.unwrap();
            wire.send(&[query("discard all"), query(WHO), query("rollback"), query(WHO), query(WHO)].concat()).await;
            let mut rows = Vec::new();
            while let Some(message) = wire.next().await {
                if message.tag == 'D' {
                    rows.push(message.text());
                }
            }
            let home = format!("who acme acme {name}_acme");
            assert!(rows.iter().all(|row| *row == home), "{rows:?}");
        }
    }
}

/// Messages that are answered by `ReadyForQuery`.
fn count_of_syncs(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let [tag, a, b, c, d, ..] = bytes {
        count += usize::from(matches!(tag, b'S' | b'Q'));
        bytes = &bytes[1 + u32::from_be_bytes([*a, *b, *c, *d]) as usize..];
    }
    count
}
