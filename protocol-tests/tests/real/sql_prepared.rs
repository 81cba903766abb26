//! `PREPARE` and `EXECUTE` in SQL: the names of the protocol, on any server, and nobody else's.

use protocol_tests::wire::{batch, bind, close, describe, execute, message, parse, query, sync};
use protocol_tests::{Database, on_both};

use crate::prepared::{holding, ok, run, send};
use crate::{raw, trusting};

on_both! {
    async fn sql_prepare_needs_no_server_of_its_own(db: &Database) {
        let pooler = trusting(db, 2).await;
        let mut wire = raw(&pooler, "acme").await;
        let mut twin = raw(&pooler, "acme").await;
        assert_eq!(send(&mut wire, &[query("prepare s (text) as select name || $1 from who")]).await, ok("CZI"));
        assert_eq!(send(&mut twin, &[query("prepare s (text) as select $1")]).await, ok("CZI"));
        for round in 0..4 {
            let held = if round % 2 == 0 { Some(holding(&pooler).await) } else { None };
            assert_eq!(wire.run("execute s('!')").await.unwrap(), ["acme!"]);
            assert_eq!(twin.run("EXECUTE \"s\" (1 + 1);").await.unwrap(), ["2"]);
            drop(held);
            raw(&pooler, "umbra").await.run("select 1").await.unwrap();
        }
        // In a block, and behind an error in one.
        wire.run("begin").await.unwrap();
        assert_eq!(wire.run("execute s('?')").await.unwrap(), ["acme?"]);
        assert_eq!(wire.run("execute s(1/0)").await.unwrap_err(), "22012");
        assert_eq!(wire.run("execute s('?')").await.unwrap_err(), "25P02");
        wire.run("rollback").await.unwrap();
        // By the protocol it is the same statement.
        let bound = message('B', b"\0s\0\0\0\0\x01\0\0\0\x01.\0\0");
        raw(&pooler, "umbra").await.run("select 1").await.unwrap();
        assert_eq!(send(&mut wire, &[bound, execute("", 0), sync()]).await, ok("2DCZI"));
        assert_eq!(send(&mut wire, &[parse("p", "select 5"), sync()]).await, ok("1ZI"));
        raw(&pooler, "umbra").await.run("select 1").await.unwrap();
        assert_eq!(wire.run("execute p").await.unwrap(), ["5"]);
        // A simple query leaves no unnamed statement.
        assert!(send(&mut wire, &[bind("", ""), sync()]).await.1.starts_with("26000"));
        assert_eq!(wire.run("prepare s as select 1").await.unwrap_err(), "42P05");
        assert_eq!(wire.run("execute tenantry_0").await.unwrap_err(), "26000");
        wire.run("deallocate s").await.unwrap();
        assert_eq!(wire.run("execute s('!')").await.unwrap_err(), "26000");
        assert_eq!(pooler.messages("session pinned to its server"), 0);
    }

    /// As pgTAP does: what runs a text is given the name.
    async fn a_prepared_name_is_found_by_what_runs_it_as_text(db: &Database) {
        let pooler = trusting(db, 2).await;
        db.admin.batch_execute("create function public.runs(text) returns text language plpgsql as $$ declare r text; begin execute 'EXECUTE ' || $1 into r; return r; end $$").await.unwrap();
        let elsewhere = async || raw(&pooler, "umbra").await.run("select 1").await.unwrap();
        for (number, sql) in ["select public.runs('q')", "select public.runs($x$Q$x$)", "do $$ begin execute 'execute q'; end $$",
            "do 'begin perform public.runs(''q''); end'", "select public.runs(E'\\x71')"].iter().enumerate() {
            for in_block in [false, true] {
                let mut wire = raw(&pooler, "acme").await;
                if in_block {
                    wire.run("begin").await.unwrap();
                }
                wire.run("prepare q as select name from who").await.unwrap();
                let held = if in_block { None } else { Some(holding(&pooler).await) };
                let want = if sql.starts_with("do") { vec![] } else { vec!["acme".to_owned()] };
                let got = wire.run(sql).await;
                drop(held);
                // Spelled in escapes nobody sees it: a documented limit.
                if number == 4 {
                    assert_eq!(got.unwrap_err(), "26000");
                    continue;
                }
                assert_eq!(got, Ok(want), "{sql}, in a block: {in_block}");
                if in_block {
                    wire.run("rollback").await.unwrap();
                }
                elsewhere().await;
                assert_eq!(wire.run("execute q").await.unwrap(), ["acme"]);
                wire.run("deallocate q").await.unwrap();
                assert_eq!(wire.run("execute q").await.unwrap_err(), "26000");
            }
        }
    }

    /// Of a client's statements one cannot be prepared any more: the others can, and what the client runs is its own.
    async fn a_statement_whose_table_is_gone_fails_nothing_else(db: &Database) {
        let pooler = trusting(db, 2).await;
        let function = format!("alter schema acme owner to {}; create function public.plus(int) returns int language sql as 'select $1 + 1'", db.name);
        db.admin.batch_execute(&function).await.unwrap();
        let prepare = ["create table gone (n int)", "prepare gone as select n from gone", "prepare ok (int) as select $1 + 1", "drop table gone"];
        for sql in ["begin; prepare transaction 'GID'", "explain execute ok(1)", "prepare p as select 1; execute p", "explain (costs off) execute ok(2); select 3"] {
            for in_block in [false, true] {
                let (mut wire, mut direct) = (raw(&pooler, "acme").await, db.wire("-c search_path=acme").await);
                for client in [&mut direct, &mut wire] {
                    for statement in prepare {
                        client.run(statement).await.unwrap();
                    }
                    // By the protocol, too.
                    assert_eq!(send(client, &[parse("proto", "select 5"), sync()]).await, ok("1ZI"));
                    if in_block {
                        client.run("begin").await.unwrap();
                    }
                }
                let gids = [format!("{}_direct_{in_block}", db.name), format!("{}_pooler_{in_block}", db.name)];
                let [for_direct, for_pooler] = gids.each_ref().map(|gid| sql.replace("GID", gid));
                let (want, got) = (direct.run(&for_direct).await, wire.run(&for_pooler).await);
                assert_eq!(got, want, "{sql}, in a block: {in_block}");
                for after in ["execute ok(4)", "select 7", "commit", "rollback", "execute ok(4)"] {
                    let (want, got) = (direct.run(after).await, wire.run(after).await);
                    assert_eq!(got, want, "{after} behind {sql}, in a block: {in_block}");
                }
                if sql.contains("GID") {
                    db.admin.batch_execute(&format!("rollback prepared '{}'", gids[0])).await.unwrap();
                    db.admin.batch_execute(&format!("rollback prepared '{}'", gids[1])).await.unwrap();
                }
                assert!(wire.run("execute gone").await.is_err());
                assert_eq!(send(&mut wire, &[bind("", "proto"), execute("", 0), sync()]).await, ok("2DCZI"));
            }
        }
    }

    async fn names_need_no_blanks_beside_them(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        for sql in ["prepare\"p\"as select 1", "PREPARE \"y\"as select 2", "prepare\"z\"(int)as select $1"] {
            wire.run(sql).await.unwrap_or_else(|code| panic!("{sql}: {code}"));
        }
        for _ in 0..2 {
            assert_eq!(wire.run("execute\"p\"").await.unwrap(), ["1"]);
            assert_eq!(wire.run("execute\"y\";").await.unwrap(), ["2"]);
            assert_eq!(wire.run("execute\"z\"(3)").await.unwrap(), ["3"]);
            // Its server is another tenant's meanwhile: they are prepared there once more.
            raw(&pooler, "umbra").await.run("select 1").await.unwrap();
        }
        assert_eq!(pooler.messages("session pinned to its server"), 0);
    }

    async fn preparing_the_same_again_and_again_leaves_nothing_behind(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        wire.run("prepare s as select 1").await.unwrap();
        for _ in 0..20 {
            assert_eq!(wire.run("prepare s as select 1").await.unwrap_err(), "42P05");
            wire.run("deallocate s").await.unwrap();
            wire.run("prepare s as select 1").await.unwrap();
            assert_eq!(wire.run("execute s").await.unwrap(), ["1"]);
        }
        assert_eq!(wire.run("select count(*) from pg_prepared_statements").await.unwrap(), ["1"]);
    }

    async fn a_statement_that_can_be_prepared_no_more_says_why_once(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        wire.run("create table thing (a int)").await.unwrap();
        wire.run("prepare s as select a from thing").await.unwrap();
        assert_eq!(wire.run("execute s").await.unwrap(), [""; 0]);
        raw(&pooler, "umbra").await.run("select 1").await.unwrap();
        wire.run("drop table thing").await.unwrap();
        wire.send(&query("execute s")).await;
        let (messages, status) = wire.until_ready().await;
        let codes: Vec<_> = messages.iter().filter(|m| m.tag == 'E').map(|m| m.field('C')).collect();
        assert_eq!((codes, status), (vec!["42P01".to_owned()], 'I'));
        wire.run("create table thing (a int)").await.unwrap();
        assert_eq!(wire.run("execute s").await.unwrap(), [""; 0]);
    }

    async fn names_of_the_poolers_own_are_nobodys(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut victim = raw(&pooler, "acme").await;
        assert_eq!(send(&mut victim, &[parse("s", "select 'secret'"), sync()]).await, ok("1ZI"));
        assert_eq!(run(&mut victim, "s").await.unwrap(), ["secret"]);
        let mut wire = raw(&pooler, "acme").await;
        let names = wire.run("select name from pg_prepared_statements where name like 'tenantry%'").await.unwrap();
        let own = names.last().expect("the victim's statement is there");
        for sql in ["execute #", "select 1; execute #", "explain execute #", "deallocate #", "deallocate prepare #; select 1", "create temp table t as execute #"] {
            let sql = sql.replace('#', own);
            assert_eq!(wire.run(&sql).await.unwrap_err(), "26000", "{sql}");
            if !sql.contains(';') {
                assert!(send(&mut wire, &[batch(&sql), sync()]).await.1.starts_with("26000"), "{sql}");
            }
        }
        assert_eq!(run(&mut victim, "s").await.unwrap(), ["secret"]);
        // A client may have that name itself.
        wire.run(&format!("prepare {own} as select 'mine'")).await.unwrap();
        assert_eq!(wire.run(&format!("select 1; execute {own}")).await.unwrap().last().unwrap(), "mine");
    }

    async fn a_name_that_is_not_plainly_used_gets_its_server(db: &Database) {
        let pooler = trusting(db, 2).await;
        for (number, sql) in ["explain (costs off) execute \"S\"(1)", "select 1; execute \"S\"(1)", "create temp table t as execute \"S\"(1)"].iter().enumerate() {
            let mut wire = raw(&pooler, "acme").await;
            wire.run("prepare \"S\" (int) as select $1").await.unwrap();
            raw(&pooler, "umbra").await.run("select 1").await.unwrap();
            wire.run(sql).await.unwrap();
            assert_eq!(wire.run("execute \"S\"(2)").await.unwrap(), ["2"]);
            let told = pooler.until_message(number + 1, "session pinned to its server").await;
            assert_eq!((told["reason"].as_str(), told["times"].as_u64()), (Some("EXECUTE that is not plain"), Some(number as u64 + 1)));
            drop(wire);
            db.until("state <> 'idle'", 0).await;
        }
        for (first, tags) in [(vec![], "12DCZI"), (batch("select 1"), "12DC12DCZI"), (close('S', "no"), "312DCZI"), ([parse("p", "select 1"), bind("", "p")].concat(), "1212DCZI")] {
            let mut wire = raw(&pooler, "acme").await;
            wire.run("prepare s (int) as select $1").await.unwrap();
            assert_eq!(send(&mut wire, &[first, batch("execute s(3)"), sync()]).await, ok(tags));
        }
        let mut wire = raw(&pooler, "acme").await;
        assert_eq!(send(&mut wire, &[parse("x", "select 1"), batch("prepare p2 as select 1"), sync()]).await, ok("112CZI"));
        assert!(send(&mut wire, &[parse("p2", "select 2"), sync()]).await.1.starts_with("42P05"));
        assert_eq!(run(&mut wire, "x").await.unwrap(), ["1"]);
        let mut other = raw(&pooler, "acme").await;
        assert_eq!(other.run("execute s(3)").await.unwrap_err(), "26000");
    }

    async fn what_cannot_be_prepared_again_ends_only_who_needs_all_its_names(db: &Database) {
        let pooler = trusting(db, 2).await;
        let mut wire = raw(&pooler, "acme").await;
        wire.run("create table gone (a int)").await.unwrap();
        let prepared = [parse("gone", "select a from gone"), parse("t", "select 7"), sync()];
        assert_eq!(send(&mut wire, &prepared).await, ok("11ZI"));
        wire.run("drop table gone").await.unwrap();
        raw(&pooler, "umbra").await.run("discard all").await.unwrap();
        // Long ago, before its names became its server's own.
        let held = holding(&pooler).await;
        assert!(send(&mut wire, &[bind("", "gone"), execute("", 0), sync()]).await.1.starts_with("42P01"));
        assert_eq!(wire.run("select 1; execute t").await.unwrap().last().unwrap(), "7");
        assert_eq!(send(&mut wire, &[batch("select 1"), batch("deallocate t"), batch("select 2"), sync()]).await, ok("12DC12C12DCZI"));
        drop((wire, held));
        // In a pipeline, in front of what needs all of them: which are there, nobody could tell.
        let mut wire = raw(&pooler, "acme").await;
        wire.run("create table gone (a int)").await.unwrap();
        assert_eq!(send(&mut wire, &prepared).await, ok("11ZI"));
        wire.run("drop table gone").await.unwrap();
        wire.send(&[batch("select 1"), batch("select 2; "), batch("execute t"), sync()].concat()).await;
        let mut said = Vec::new();
        while let Some(message) = wire.next().await {
            said.push(if message.tag == 'E' { message.field('S') + &message.field('C') } else { message.tag.into() });
        }
        assert_eq!(said.concat(), "12DC12DCFATAL08006");
    }

    async fn a_deallocate_takes_a_name_away_when_it_is_executed(db: &Database) {
        let pooler = trusting(db, 2).await;
        let mut wire = raw(&pooler, "acme").await;
        let moves = async || {
            let held = holding(&pooler).await;
            raw(&pooler, "umbra").await.run("select 1").await.unwrap();
            drop(held);
        };
        // As asyncpg does it: a statement with a name, described, and run in a later unit.
        for _ in 0..2 {
            assert_eq!(send(&mut wire, &[parse("s", "select 1"), parse("d", "deallocate s"), describe('S', "d"), sync()]).await, ok("11tnZI"));
            moves().await;
            assert_eq!(send(&mut wire, &[bind("", "d"), execute("", 0), sync()]).await, ok("2CZI"));
            assert!(send(&mut wire, &[bind("", "s"), execute("", 0), sync()]).await.1.starts_with("26000"));
            moves().await;
            assert!(send(&mut wire, &[bind("", "d"), execute("", 0), sync()]).await.1.starts_with("26000"));
            assert_eq!(send(&mut wire, &[close('S', "d"), sync()]).await, ok("3ZI"));
        }
        // It keeps no server: others get both.
        drop((holding(&pooler).await, holding(&pooler).await));
        // Parsed and never executed, it takes nothing away.
        assert_eq!(send(&mut wire, &[parse("s", "select 1"), parse("", "deallocate s"), sync()]).await, ok("11ZI"));
        moves().await;
        assert_eq!(run(&mut wire, "s").await.unwrap(), ["1"]);
        // Nor bound and executed behind something else; then the server has the names.
        assert_eq!(send(&mut wire, &[parse("d", "deallocate s"), bind("p", "d"), bind("", "s"), execute("", 0), execute("p", 0), sync()]).await, ok("122DCCZI"));
        assert!(send(&mut wire, &[bind("", "s"), execute("", 0), sync()]).await.1.starts_with("26000"));
    }

    async fn a_statement_too_long_to_be_read_takes_no_name_that_is_in_use(db: &Database) {
        let pooler = trusting(db, 1).await;
        for len in [1000, 100_000, 1_040_000, 1_060_000, 3_000_000] {
            let mut wire = raw(&pooler, "acme").await;
            assert_eq!(send(&mut wire, &[parse("s", "select 1"), sync()]).await, ok("1ZI"));
            let long = format!("select length('{}')", "x".repeat(len));
            wire.send_if_open(&[parse("s", &long), sync()].concat()).await;
            let told = wire.receive().await;
            let code = if len > 1_048_576 { "08P01" } else { "42P05" };
            assert_eq!((told.tag, told.field('C').as_str()), ('E', code), "{len}");
        }
    }

    async fn an_execute_runs_what_has_the_name_when_it_runs(db: &Database) {
        let pooler = trusting(db, 2).await;
        for statement in ["", "e"] {
            let mut wire = raw(&pooler, "acme").await;
            assert_eq!(send(&mut wire, &[parse(statement, "execute later"), sync()]).await, ok("1ZI"));
            assert_eq!(send(&mut wire, &[parse("later", "select 7"), sync()]).await, ok("1ZI"));
            let held = holding(&pooler).await;
            wire.send(&[bind("p", statement), execute("p", 0), sync()].concat()).await;
            let (answer, _) = wire.until_ready().await;
            assert_eq!(answer.iter().map(|m| m.tag).collect::<String>(), "2DC", "{statement:?}");
            assert_eq!(answer[1].text(), "7");
            drop(held);
        }
    }

    async fn what_was_skipped_has_not_replaced_the_unnamed_statement(db: &Database) {
        let pooler = trusting(db, 2).await;
        let mut wire = raw(&pooler, "acme").await;
        for behind in [false, true] {
            assert_eq!(send(&mut wire, &[parse("", "select 'first'"), sync()]).await, ok("1ZI"));
            let mut unit = vec![bind("", "nobodys"), parse("", "select 'third'"), sync()];
            if behind {
                unit.insert(0, parse("", "select 'second'"));
            }
            assert!(send(&mut wire, &unit).await.1.starts_with("26000"));
            raw(&pooler, "umbra").await.run("select 1").await.unwrap();
            let held = holding(&pooler).await;
            wire.send(&[bind("", ""), execute("", 0), sync()].concat()).await;
            let (answer, _) = wire.until_ready().await;
            assert_eq!(answer[1].text(), if behind { "second" } else { "first" });
            drop(held);
        }
        // Nor is it lost where it was to be made again behind an error.
        assert_eq!(send(&mut wire, &[parse("", "select 'kept'"), sync()]).await, ok("1ZI"));
        let held = holding(&pooler).await;
        raw(&pooler, "umbra").await.run("select 1").await.unwrap();
        assert!(send(&mut wire, &[bind("", "nobodys"), bind("", ""), sync()]).await.1.starts_with("26000"));
        assert_eq!(send(&mut wire, &[bind("", ""), execute("", 0), sync()]).await, ok("2DCZI"));
        drop(held);
        // One that fails itself has.
        assert!(send(&mut wire, &[parse("", "selec"), sync()]).await.1.starts_with("42601"));
        assert!(send(&mut wire, &[bind("", ""), sync()]).await.1.starts_with("26000"));
    }
    async fn an_error_names_a_statement_as_its_client_does_though_it_is_dropped_behind(db: &Database) {
        let pooler = trusting(db, 1).await;
        // One parameter is missing.
        let wrong = bind("", "mine");
        for behind in [
            vec![query("discard all")],
            vec![query("deallocate all")],
            vec![query("deallocate mine")],
            vec![close('S', "mine"), sync()],
            vec![close('S', "mine"), parse("mine", "select 1"), sync()],
        ] {
            let mut wire = raw(&pooler, "acme").await;
            for first in [vec![query("execute mine(1, 2)")], vec![wrong.clone(), sync()]] {
                let made = [parse("mine", "select $1::int"), sync()];
                assert_eq!(send(&mut wire, &made).await, ok("1ZI"));
                wire.send(&[first.concat(), behind.concat(), query("deallocate all")].concat()).await;
                let error = wire.until_ready().await.0.remove(0);
                assert!(error.field('M').contains("prepared statement \"mine\""), "{}", error.field('M'));
                for _ in 0..2 {
                    wire.until_ready().await;
                }
            }
        }
    }
    async fn a_login_takes_no_unnamed_statement_away(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        for tenant in ["acme", "umbra", "acme"] {
            assert_eq!(send(&mut wire, &[parse("", "select 'mine'"), sync()]).await, ok("1ZI"));
            let other = raw(&pooler, tenant).await;
            assert_eq!(send(&mut wire, &[bind("", ""), execute("", 0), sync()]).await, ok("2DCZI"), "{tenant}");
            drop(other);
        }
    }
    async fn a_simple_query_that_is_skipped_leaves_the_unnamed_statement(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut direct = db.wire("").await;
        let mut through = raw(&pooler, "acme").await;
        for (wire, name) in [(&mut direct, "direct"), (&mut through, "through the pooler")] {
            for fails in [bind("", "nobodys"), parse("x", "selec"), close('X', "")] {
                assert_eq!(send(wire, &[parse("", "select 'mine'"), sync()]).await, ok("1ZI"));
                let unit = [fails.clone(), query("select 2"), sync()];
                assert_eq!(send(wire, &unit).await.0, "EZI");
                let bound = send(wire, &[bind("", ""), execute("", 0), sync()]).await;
                assert_eq!(bound, ok("2DCZI"), "{name}: {fails:?}");
            }
        }
    }
    async fn names_count_as_far_as_postgresql_tells_them_apart(db: &Database) {
        let pooler = trusting(db, 1).await;
        let (long, same, cut) = ("n".repeat(70), "n".repeat(90), "n".repeat(63));
        let mut direct = db.wire("").await;
        let mut through = raw(&pooler, "acme").await;
        // In SQL, PostgreSQL notices that it cuts them.
        let quiet = |(tags, error): (String, String)| (tags.replace('N', ""), error);
        for (wire, which) in [(&mut direct, "direct"), (&mut through, "through the pooler")] {
            assert_eq!(send(wire, &[parse(&long, "select 'mine'"), sync()]).await, ok("1ZI"), "{which}");
            assert!(send(wire, &[parse(&same, "select 1"), sync()]).await.1.starts_with("42P05"), "{which}");
            assert_eq!(send(wire, &[bind("", &cut), execute("", 0), sync()]).await, ok("2DCZI"), "{which}");
            assert_eq!(quiet(send(wire, &[query(&format!("execute {same}"))]).await), ok("TDCZI"), "{which}");
            assert_eq!(send(wire, &[close('S', &same), sync()]).await, ok("3ZI"), "{which}");
            assert!(send(wire, &[bind("", &long), sync()]).await.1.starts_with("26000"), "{which}");
            assert_eq!(quiet(send(wire, &[query(&format!("prepare {long} as select 2"))]).await), ok("CZI"), "{which}");
            assert_eq!(quiet(send(wire, &[query(&format!("deallocate {cut}"))]).await), ok("CZI"), "{which}");
            assert!(send(wire, &[bind("", &same), sync()]).await.1.starts_with("26000"), "{which}");
        }
    }
}
