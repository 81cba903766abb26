//! Named statements of clients in transaction mode: on any server, with PostgreSQL's own errors.

use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::wire::{
    batch, bind, close, describe, execute, flush, message, parse, query, sync,
};
use protocol_tests::{Database, Pooler, Wire, on_both};

use crate::{raw, trusting};

const PID: &str = "select pg_backend_pid()";

/// What came up to `ReadyForQuery`: tags, reports aside, and an error's SQLSTATE and text.
async fn answer(wire: &mut Wire) -> (String, String) {
    let (messages, status) = wire.until_ready().await;
    let error = messages.iter().find(|message| message.tag == 'E');
    let told = error.map(|e| format!("{} {}", e.field('C'), e.field('M'))).unwrap_or_default();
    let tags = messages.iter().map(|m| m.tag).filter(|tag| *tag != 'S');
    (tags.chain(['Z', status]).collect(), told)
}

pub(crate) async fn send(wire: &mut Wire, messages: &[Vec<u8>]) -> (String, String) {
    wire.send(&messages.concat()).await;
    answer(wire).await
}

pub(crate) fn ok(tags: &str) -> (String, String) {
    (tags.to_owned(), String::new())
}

/// Runs a statement by its name; the first column of its rows.
pub(crate) async fn run(wire: &mut Wire, name: &str) -> Result<Vec<String>, String> {
    wire.send(&[bind("", name), execute("", 0), sync()].concat()).await;
    let (messages, _) = wire.until_ready().await;
    match messages.iter().find(|message| message.tag == 'E') {
        Some(error) => Err(format!("{} {}", error.field('C'), error.field('M'))),
        None => Ok(messages
            .iter()
            .filter(|m| m.tag == 'D')
            .map(protocol_tests::wire::Message::text)
            .collect()),
    }
}

/// Holds one of the servers until it is dropped or ends its transaction.
pub(crate) async fn holding(pooler: &Pooler) -> Wire {
    let mut wire = raw(pooler, "acme").await;
    wire.run("begin").await.unwrap();
    wire
}

on_both! {
    async fn a_statement_is_there_on_every_server(db: &Database) {
        let pooler = trusting(db, 2).await;
        let mut wire = raw(&pooler, "acme").await;
        assert_eq!(send(&mut wire, &[parse("s", PID), sync()]).await, ok("1ZI"));
        let first = run(&mut wire, "s").await.unwrap();
        let mut other = holding(&pooler).await;
        let second = run(&mut wire, "s").await.unwrap();
        assert_ne!(first, second, "the other client holds the first server");
        assert_eq!(send(&mut wire, &[describe('S', "s"), sync()]).await, ok("tTZI"));
        other.run("rollback").await.unwrap();
        assert_eq!(pooler.messages("session pinned to its server"), 0);
    }

    async fn two_clients_give_the_same_name_to_different_statements(db: &Database) {
        let pooler = trusting(db, 1).await;
        let (mut a, mut b) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await);
        assert_eq!(send(&mut a, &[parse("s", "select 'a'"), sync()]).await, ok("1ZI"));
        assert_eq!(send(&mut b, &[parse("s", "select 'b'"), sync()]).await, ok("1ZI"));
        for _ in 0..3 {
            assert_eq!((run(&mut a, "s").await.unwrap(), run(&mut b, "s").await.unwrap()), (vec!["a".to_owned()], vec!["b".to_owned()]));
        }
        // The same text under another name: the server has it already, and the client hears the same.
        assert_eq!(send(&mut b, &[parse("t", "select 'a'"), describe('S', "t"), bind("", "t"), execute("", 0), sync()]).await, ok("1tT2DCZI"));
    }

    async fn the_same_text_means_each_tenants_own_table(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut clients = [(raw(&pooler, "acme").await, "acme"), (raw(&pooler, "umbra").await, "umbra")];
        for (wire, _) in &mut clients {
            assert_eq!(send(wire, &[parse("s", "select name from who"), sync()]).await, ok("1ZI"));
        }
        for _ in 0..4 {
            for (wire, name) in &mut clients {
                assert_eq!(run(wire, "s").await.unwrap(), [*name]);
            }
        }
        // And in another state of the same client.
        let (acme, _) = &mut clients[0];
        acme.run("set search_path to umbra").await.unwrap();
        assert_eq!(run(acme, "s").await.unwrap(), ["umbra"]);
        acme.run("reset search_path").await.unwrap();
        assert_eq!(run(acme, "s").await.unwrap(), ["acme"]);
    }

    async fn errors_are_postgresqls_own_and_the_session_goes_on(db: &Database) {
        let pooler = trusting(db, 2).await;
        let mut direct = db.wire("-c search_path=acme").await;
        let mut wire = raw(&pooler, "acme").await;
        let s = |text: &str| parse("s", text);
        let conversations: Vec<Vec<Vec<u8>>> = vec![
            vec![bind("", "none"), execute("", 0), sync()],
            vec![describe('S', "none"), sync()],
            vec![close('S', "none"), sync()],
            vec![bind("", "tenantry_0"), sync()],
            vec![s("select 1"), sync()],
            vec![s("select 2"), bind("", "s"), execute("", 0), sync()],
            vec![bind("", "s"), execute("", 0), sync()],
            vec![parse("bad", "selec"), bind("", "bad"), execute("", 0), sync()],
            vec![bind("", "bad"), sync()],
            // Skipped: it was never prepared, and never closed.
            vec![batch("select 1/0"), parse("later", "select 3"), close('S', "s"), sync()],
            vec![bind("", "later"), sync()],
            vec![bind("", "s"), execute("", 0), sync()],
            vec![close('S', "s"), bind("", "s"), execute("", 0), sync()],
            vec![s("select 4"), bind("", "s"), execute("", 0), close('S', "s"), s("select 5"), bind("", "s"), execute("", 0), sync()],
            // In a transaction, an error aborts it.
            vec![query("begin")],
            vec![s("select 6"), sync()],
            vec![bind("", "s"), execute("", 0), sync()],
            vec![query("rollback")],
            vec![bind("", "s"), execute("", 0), sync()],
            vec![query("begin")],
            vec![parse("t", "select 7"), sync()],
            vec![query("rollback")],
            vec![bind("", "t"), execute("", 0), sync()],
            vec![query("deallocate t")],
            vec![bind("", "t"), sync()],
            vec![parse("t", "select 8"), sync()],
            vec![batch("deallocate prepare \"t\""), sync()],
            vec![bind("", "t"), sync()],
            vec![query("deallocate t")],
            vec![parse("t", "select 9"), sync()],
            vec![query("deallocate all")],
            vec![bind("", "t"), sync()],
            vec![bind("", "s"), sync()],
            vec![parse("t", "select 10"), sync()],
            vec![query("discard all")],
            vec![parse("t", "select 11"), bind("", "t"), execute("", 0), sync()],
        ];
        for (number, messages) in conversations.iter().enumerate() {
            let mut want = send(&mut direct, messages).await;
            // A connection that asks for this name has never had it.
            want.1 = want.1.replace("tenantry_0", "Tenantry_0");
            let got = send(&mut wire, messages).await;
            assert_eq!((got.0, got.1.replace("tenantry_0", "Tenantry_0")), want, "conversation {number}");
        }
    }

    async fn pipelines_of_several_units_are_answered_in_order(db: &Database) {
        let pooler = trusting(db, 2).await;
        let mut direct = db.wire("-c search_path=acme").await;
        let mut wire = raw(&pooler, "acme").await;
        let run_it = |name: &str| [bind("", name), execute("", 0), sync()].concat();
        let pipeline = [
            parse("a", "select 1"), parse("b", "select 1/0"), sync(),
            run_it("a"), run_it("b"), run_it("a"),
            // The first fails, so the second is no duplicate.
            parse("c", "selec"), sync(), parse("c", "select 2"), sync(), run_it("c"),
            close('S', "a"), sync(), run_it("a"), parse("a", "select 3"), sync(), run_it("a"),
            query("deallocate all"), run_it("a"), parse("a", "select 4"), sync(), run_it("a"),
        ].concat();
        direct.send(&pipeline).await;
        wire.send(&pipeline).await;
        for number in 0..14 {
            assert_eq!(answer(&mut wire).await, answer(&mut direct).await, "answer {number}");
        }
    }

    async fn portals_live_across_a_flush(db: &Database) {
        let pooler = trusting(db, 2).await;
        let mut wire = raw(&pooler, "acme").await;
        assert_eq!(send(&mut wire, &[parse("s", "select generate_series(1, 5)"), sync()]).await, ok("1ZI"));
        wire.send(&[bind("p", "s"), execute("p", 2), flush()].concat()).await;
        for tag in ['2', 'D', 'D', 's'] {
            assert_eq!(wire.receive().await.tag, tag);
        }
        assert_eq!(send(&mut wire, &[execute("p", 0), close('P', "p"), sync()]).await, ok("DDDC3ZI"));
    }

    async fn the_unnamed_statement_may_be_bound_in_a_later_transaction(db: &Database) {
        let pooler = trusting(db, 2).await;
        let mut wire = raw(&pooler, "acme").await;
        let mut others = Vec::new();
        for _ in 0..3 {
            assert_eq!(send(&mut wire, &[parse("", PID), describe('S', ""), sync()]).await, ok("1tTZI"));
            // Another client takes the server meanwhile, and has an unnamed statement of its own.
            let mut other = raw(&pooler, "acme").await;
            assert_eq!(send(&mut other, &[batch("select 1"), sync()]).await, ok("12DCZI"));
            others.push(other);
            let held = holding(&pooler).await;
            assert_eq!(send(&mut wire, &[bind("", ""), execute("", 0), sync()]).await, ok("2DCZI"));
            drop(held);
        }
        assert_eq!(pooler.messages("session pinned to its server"), 0);
        assert_eq!(wire.run("select 1").await.unwrap(), ["1"]);
        assert_eq!(send(&mut wire, &[bind("", ""), sync()]).await.0, "EZI", "a query drops it");
    }

    /// What was to make room is skipped behind an error, and so are those that were to come.
    async fn what_was_to_be_closed_and_was_skipped_is_closed_later(db: &Database) {
        let toml = format!("{}[auth]\ntype = \"trust\"\n{}", db.toml(1), BY_SCHEMA);
        db.schemas(&["acme"]).await;
        let pooler = Pooler::start_with("max_prepared_statements = 50\n", &toml).await;
        let mut wire = raw(&pooler, "acme").await;
        for round in 0..8 {
            let many = |offset: usize| (0..50).map(move |n| parse(&format!("s{round}_{}", offset + n), &format!("select {}", round * 1000 + offset + n)));
            wire.send(&[many(0).flatten().collect(), sync()].concat()).await;
            wire.until_ready().await;
            wire.send(&[batch("select 1/0"), many(100).flatten().collect(), sync()].concat()).await;
            wire.until_ready().await;
            let there: usize = wire.run("select count(*) from pg_prepared_statements").await.unwrap()[0].parse().unwrap();
            // As many again wait to be closed.
            assert!(there <= 110, "round {round}: {there}");
        }
    }

    async fn an_unnamed_statement_that_was_used_is_there_once_more(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        for padding in [10, 5000] {
            let text = format!("select $1::text || '{}'", "x".repeat(padding));
            let bound = message('B', b"\0\0\0\0\0\x01\0\0\0\x01a\0\0");
            assert_eq!(send(&mut wire, &[parse("", &text), bound.clone(), execute("", 0), sync()]).await, ok("12DCZI"));
            for _ in 0..3 {
                let mut other = raw(&pooler, "umbra").await;
                assert_eq!(send(&mut other, &[batch("select 1"), sync()]).await, ok("12DCZI"));
                assert_eq!(send(&mut wire, &[bound.clone(), execute("", 0), sync()]).await, ok("2DCZI"));
                assert_eq!(send(&mut wire, &[describe('S', ""), sync()]).await, ok("tTZI"));
            }
        }
        // One that PostgreSQL did not parse is not there, nor is any other in its place; of one that it did not get to, the
        // one before is.
        for (unit, then) in [
            (vec![parse("", "select from nowhere"), sync()], "26000"),
            (vec![execute("nop", 0), flush(), parse("", "select 2"), sync()], "1"),
            (vec![describe('S', "nope"), parse("", "select 2"), bind("", ""), sync()], "1"),
        ] {
            assert_eq!(send(&mut wire, &[batch("select 1"), sync()]).await, ok("12DCZI"));
            assert_eq!(send(&mut wire, &unit).await.0, "EZI");
            raw(&pooler, "umbra").await.run("select 1").await.unwrap();
            wire.send(&[bind("", ""), execute("", 0), sync()].concat()).await;
            let (answer, _) = wire.until_ready().await;
            let said: Vec<_> = answer.iter().filter(|m| matches!(m.tag, 'D' | 'E')).collect();
            let said = if said[0].tag == 'E' { said[0].field('C') } else { said[0].text() };
            assert_eq!(said, then);
        }
        assert_eq!(pooler.messages("session pinned to its server"), 0);
    }

    async fn an_unnamed_statement_means_what_it_meant_when_it_was_bound(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        let bound = || [bind("", ""), execute("", 0)].concat();
        let rows = |messages: &[protocol_tests::wire::Message]| -> Vec<String> {
            messages.iter().filter(|m| m.tag == 'D').map(protocol_tests::wire::Message::text).collect()
        };
        for between in [vec![], bound(), describe('S', "")] {
            wire.send(&[parse("", "select 'one'"), sync()].concat()).await;
            wire.until_ready().await;
            wire.send(&[between, bound(), parse("", "select 'two'"), bound(), sync()].concat()).await;
            let rows = rows(&wire.until_ready().await.0);
            assert_eq!(rows[rows.len() - 2..], ["one", "two"]);
        }
        // One that is parsed later is not there yet.
        wire.run("select 1").await.unwrap();
        assert_eq!(send(&mut wire, &[bound(), parse("n", "select 1"), parse("", "insert into who values ('evil')"), sync()]).await.1, "26000 unnamed prepared statement does not exist");
        assert_eq!(wire.run("select count(*) from who").await.unwrap(), ["1"]);
        // One that is closed later is still there.
        for _ in 0..2 {
            wire.send(&[parse("", "select 'one'"), sync()].concat()).await;
            wire.until_ready().await;
            assert_eq!(send(&mut wire, &[bound(), close('S', ""), sync()]).await, ok("2DC3ZI"));
        }
    }

    async fn a_deallocate_that_fails_holds_nobody_up(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        for (statement, code) in [("discard all", "25001"), ("deallocate nothing", "26000")] {
            for next in [bind("", "n9"), describe('S', "n9"), parse("n9", "select 1")] {
                wire.run("begin").await.unwrap();
                let (tags, told) = send(&mut wire, &[batch(statement), next, sync()]).await;
                assert!(tags.ends_with("EZE") && told.starts_with(code), "{statement}: {tags} {told}");
                wire.run("rollback").await.unwrap();
            }
        }
        let fails = [batch("deallocate p1"), parse("n", "set local work_mem = '6MB'"), sync()];
        assert!(send(&mut wire, &fails).await.1.starts_with("26000"));
        let follows = [batch("do $$ begin set local work_mem = '6MB'; end $$"), parse("n", "select 7"), bind("", "n"), execute("", 0), sync()];
        assert_eq!(send(&mut wire, &follows).await, ok("12C12DCZI"));
        assert_eq!(pooler.messages("session pinned to its server"), 0);
    }

    async fn what_a_statement_sets_is_followed_each_time_it_runs(db: &Database) {
        let pooler = trusting(db, 2).await;
        let mut wire = raw(&pooler, "acme").await;
        let set = "select set_config('app.x', $1, false)";
        assert_eq!(send(&mut wire, &[parse("set", set), parse("any", "select set_config($1, $2, false)"), sync()]).await, ok("11ZI"));
        let bound = |name: &str, values: &[&str]| {
            let mut body = [b"\0", name.as_bytes(), b"\0\0\0"].concat();
            body.extend(u16::try_from(values.len()).unwrap().to_be_bytes());
            for value in values {
                body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
                body.extend(value.as_bytes());
            }
            body.extend([0, 0]);
            message('B', &body)
        };
        let see = "select concat(current_setting('app.x', true), current_setting('app.y', true))";
        for round in ["1", "2"] {
            assert_eq!(send(&mut wire, &[bound("set", &[round]), execute("", 0), sync()]).await, ok("2DCZI"));
            assert_eq!(send(&mut wire, &[bound("any", &["app.y", round]), execute("", 0), sync()]).await, ok("2DCZI"));
            let mut held = holding(&pooler).await;
            assert_eq!(wire.run(see).await.unwrap(), [format!("{round}{round}")]);
            assert_eq!(held.run(see).await.unwrap(), [""]);
        }
        assert_eq!(pooler.messages("session pinned to its server"), 0);
    }

    async fn a_bound_name_is_followed_although_another_statement_came_between(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        let body = b"\0\0\0\0\0\x01\0\0\0\x05app.z\0\0";
        let named = [parse("n", "select set_config('app.y', '1', false)"), sync()].concat();
        wire.send(&named).await;
        assert_eq!(wire.tags().await, "1ZI");
        let unit = [parse("", "select set_config($1, 'v', false)"), bind("", "n"), execute("", 0), message('B', body), execute("", 0), sync()];
        assert_eq!(send(&mut wire, &unit).await, ok("12DC2DCZI"));
        let see = "select coalesce(current_setting('app.z', true), '')";
        assert_eq!(raw(&pooler, "acme").await.run(see).await.unwrap(), [""]);
        assert_eq!(wire.run(see).await.unwrap(), ["v"]);
    }

    async fn a_long_pipeline_of_names_goes_through(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        let padding = "x".repeat(2000);
        for number in 0..60 {
            let text = format!("select {number} -- {padding}");
            assert_eq!(send(&mut wire, &[parse(&format!("s{number}"), &text), sync()]).await, ok("1ZI"));
        }
        // The server has forgotten them all.
        raw(&pooler, "umbra").await.run("select 1").await.unwrap();
        let run_all: Vec<_> = (0..60).flat_map(|n| [bind("", &format!("s{n}")), execute("", 0)]).chain([sync()]).collect();
        assert_eq!(send(&mut wire, &run_all).await, ok(&("2DC".repeat(60) + "ZI")));
    }

    async fn what_a_prepared_set_config_sets_is_nobody_elses(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        wire.run("prepare s(text, text) as select set_config($1, $2, false)").await.unwrap();
        wire.run("execute s('search_path', 'umbra')").await.unwrap();
        wire.run("execute s('app.x', '1')").await.unwrap();
        wire.run("deallocate s").await.unwrap();
        assert_eq!(wire.run("select name from who").await.unwrap(), ["umbra"]);
        drop(wire);
        let see = "select current_setting('search_path') || coalesce(current_setting('app.x', true), '')";
        assert_eq!(raw(&pooler, "acme").await.run(see).await.unwrap(), ["acme"]);
    }

    async fn an_error_in_a_pipeline_with_a_flush_keeps_the_session(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        assert_eq!(send(&mut wire, &[parse("", "select 1"), describe('S', ""), sync()]).await, ok("1tTZI"));
        wire.send(&[describe('S', "nope"), flush()].concat()).await;
        assert_eq!(wire.receive().await.tag, 'E');
        assert_eq!(send(&mut wire, &[bind("", ""), execute("", 0), sync()]).await, ok("ZI"));
        assert_eq!(send(&mut wire, &[batch("select 2"), sync()]).await, ok("12DCZI"));
    }

    async fn what_is_pipelined_behind_a_copy_goes_through(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        wire.run("create table sink (line text)").await.unwrap();
        assert_eq!(send(&mut wire, &[parse("s", "select count(*) from sink"), sync()]).await, ok("1ZI"));
        wire.send(&[batch("copy sink from stdin"), flush()].concat()).await;
        for tag in ['1', '2', 'G'] {
            assert_eq!(wire.receive().await.tag, tag);
        }
        let unit = [message('d', b"one\n"), message('c', b""), bind("", "s"), execute("", 0), sync()];
        assert_eq!(send(&mut wire, &unit).await, ok("C2DCZI"));
        assert_eq!(run(&mut wire, "s").await.unwrap(), ["1"]);
        assert_eq!(pooler.messages("session pinned to its server"), 0);
        // Two COPYs in one query, and all of their data at once.
        let both = query("copy sink from stdin; copy sink from stdin");
        let data = [message('d', b"two\n"), message('c', b"")];
        assert_eq!(send(&mut wire, &[vec![both], data.to_vec(), data.to_vec()].concat()).await, ok("GCGCZI"));
        assert_eq!(raw(&pooler, "acme").await.run("select count(*) from sink").await.unwrap(), ["3"]);
    }

    async fn a_text_that_others_have_prepared_is_parsed_for_each_client(db: &Database) {
        let pooler = trusting(db, 1).await;
        let (mut a, mut b) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await);
        a.run("create table thing (n int)").await.unwrap();
        assert_eq!(send(&mut a, &[parse("s", "select n from thing"), sync()]).await, ok("1ZI"));
        a.run("drop table thing").await.unwrap();
        // PostgreSQL's own word for it, as on a connection of its own.
        assert!(send(&mut b, &[parse("s", "select n from thing"), sync()]).await.1.starts_with("42P01"));
        assert!(run(&mut b, "s").await.unwrap_err().starts_with("26000"));
        a.run("create table thing (n text)").await.unwrap();
        for _ in 0..3 {
            assert_eq!(send(&mut b, &[parse("s", "select n from thing"), describe('S', "s"), close('S', "s"), sync()]).await, ok("1tT3ZI"));
        }
        assert_eq!(b.run("select count(*) from pg_prepared_statements where name = 'tenantry_none'").await.unwrap(), ["0"]);
    }

    async fn a_table_that_changes_is_prepared_for_again(db: &Database) {
        let pooler = trusting(db, 1).await;
        let (mut a, mut b) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await);
        a.run("create table thing as select 1 as one").await.unwrap();
        for wire in [&mut a, &mut b] {
            assert_eq!(send(wire, &[parse("s", "select * from thing"), sync()]).await, ok("1ZI"));
            assert_eq!(run(wire, "s").await.unwrap(), ["1"]);
        }
        a.run("alter table thing add column two int").await.unwrap();
        for wire in [&mut a, &mut b] {
            for _ in 0..2 {
                assert_eq!(run(wire, "s").await.unwrap(), ["1"], "it is not the client's fault");
            }
        }
        // Inside a transaction the error is PostgreSQL's own.
        a.run("alter table thing add column three int").await.unwrap();
        b.run("begin").await.unwrap();
        assert!(run(&mut b, "s").await.unwrap_err().starts_with("0A000"));
        b.run("rollback").await.unwrap();
        assert_eq!(run(&mut b, "s").await.unwrap(), ["1"]);
    }

    async fn a_server_keeps_no_more_statements_than_it_may(db: &Database) {
        db.schemas(&["acme"]).await;
        let toml = format!("{}[auth]\ntype = \"trust\"\n{BY_SCHEMA}", db.toml(1));
        let pooler = Pooler::start_with("max_prepared_statements = 5", &toml).await;
        let mut wire = raw(&pooler, "acme").await;
        for number in 0..20 {
            let text = format!("select {number}");
            assert_eq!(send(&mut wire, &[parse(&format!("s{number}"), &text), sync()]).await, ok("1ZI"));
        }
        for number in (0..20).rev() {
            assert_eq!(run(&mut wire, &format!("s{number}")).await.unwrap(), [number.to_string()]);
        }
        assert_eq!(wire.run("select count(*) from pg_prepared_statements").await.unwrap(), ["5"]);
    }

    async fn without_room_for_statements_a_session_keeps_its_server(db: &Database) {
        db.schemas(&["acme"]).await;
        let toml = format!("{}[auth]\ntype = \"trust\"\n{BY_SCHEMA}", db.toml(2));
        let pooler = Pooler::start_with("max_prepared_statements = 0", &toml).await;
        let mut wire = raw(&pooler, "acme").await;
        assert_eq!(send(&mut wire, &[parse("s", PID), sync()]).await, ok("1ZI"));
        pooler.until_message(1, "session pinned to its server").await;
        let pid = run(&mut wire, "s").await.unwrap();
        assert_eq!(run(&mut wire, "s").await.unwrap(), pid);
    }

    async fn a_reset_under_a_name_of_its_own_returns_to_the_tenants_path(db: &Database) {
        let pooler = trusting(db, 2).await;
        let bare = format!("{}[auth]\ntype = \"trust\"\n{BY_SCHEMA}", db.toml(2));
        let unprepared = Pooler::start_with("max_prepared_statements = 0", &bare).await;
        for pooler in [&pooler, &unprepared] {
            for own_first in [false, true] {
                let mut wire = raw(pooler, "acme").await;
                let units = [vec![query("prepare p as select 1; select 1")], vec![parse("r", "set search_path to default"), sync()]];
                for unit in if own_first { [&units[0], &units[1]] } else { [&units[1], &units[0]] } {
                    assert!(!send(&mut wire, unit).await.0.contains('E'));
                }
                for _ in 0..2 {
                    wire.run("set search_path to umbra").await.unwrap();
                    assert_eq!(send(&mut wire, &[bind("", "r"), execute("", 0), sync()]).await, ok("2CZI"));
                    assert_eq!(wire.run("select name from who").await.unwrap(), ["acme"]);
                }
            }
        }
    }

    async fn long_texts_and_long_values_pass(db: &Database) {
        let pooler = trusting(db, 2).await;
        let mut wire = raw(&pooler, "acme").await;
        let value = "x".repeat(3_000_000);
        assert_eq!(send(&mut wire, &[parse("len", "select length($1::text)"), sync()]).await, ok("1ZI"));
        let mut body = b"\0len\0\0\0\0\x01".to_vec();
        body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend(value.as_bytes());
        body.extend([0, 0]);
        for _ in 0..3 {
            let mut held = holding(&pooler).await;
            wire.send(&[message('B', &body), execute("", 0), sync()].concat()).await;
            let (messages, _) = wire.until_ready().await;
            assert_eq!(messages[1].text(), "3000000");
            held.run("rollback").await.unwrap();
        }
        assert_eq!(pooler.messages("session pinned to its server"), 0);
        // A text that fits into no buffer stays on its server.
        let text = format!("select length('{value}')");
        assert_eq!(send(&mut wire, &[parse("long", &text), sync()]).await, ok("1ZI"));
        assert_eq!(run(&mut wire, "long").await.unwrap(), ["3000000"]);
        assert_eq!(run(&mut wire, "long").await.unwrap(), ["3000000"]);
        pooler.until_message(1, "session pinned to its server").await;
    }

    /// As drivers prepare inserts of many rows: whole, cut anywhere, and with more behind it.
    async fn a_named_statement_of_many_rows_is_there_on_every_server(db: &Database) {
        let pooler = trusting(db, 2).await;
        for len in [16_370_usize, 16_384, 16_400, 40_000, 200_000, 900_000] {
            let (mut wire, mut twin) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await);
            let text = format!("select name || length($1::text), '{}' from who", "x".repeat(len));
            let message = parse("rows", &text);
            for part in message.chunks(30_011) {
                wire.send(part).await;
                tokio::task::yield_now().await;
            }
            wire.send(&sync()).await;
            assert_eq!(wire.tags().await, "1ZI", "{len}");
            // In one write, and used at once.
            let bound = message_of(b"\0rows\0\0\0\0\x01\0\0\0\x02ab\0\0");
            let used = [&bound[..], &execute("", 0), &sync()].concat();
            twin.send(&[&message[..], &used, &query("select 7")].concat()).await;
            assert_eq!((twin.tags().await, twin.tags().await), ("12DCZI".to_owned(), "TDCZI".to_owned()), "{len}");
            for client in [&mut wire, &mut twin] {
                for elsewhere in [true, false, true] {
                    let held = if elsewhere { Some(holding(&pooler).await) } else { None };
                    client.send(&used).await;
                    let (messages, _) = client.until_ready().await;
                    let row = messages.iter().find(|message| message.tag == 'D').unwrap_or_else(|| panic!("{len}: {messages:?}"));
                    assert!(row.body[6..].starts_with(b"acme2") && row.body.ends_with(b"xx"), "{len}");
                    drop(held);
                    raw(&pooler, "umbra").await.run("select 1").await.unwrap();
                }
                // Closed, it is another one's name.
                client.send(&[close('S', "rows"), sync()].concat()).await;
                assert_eq!(client.tags().await, "3ZI");
                assert_eq!(send(client, &[parse("rows", "select 5"), sync()]).await, ok("1ZI"));
                assert_eq!(run(client, "rows").await.unwrap(), ["5"]);
            }
        }
        assert_eq!(pooler.messages("session pinned to its server"), 0);
    }
}

fn message_of(bind: &[u8]) -> Vec<u8> {
    message('B', bind)
}
