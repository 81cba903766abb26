//! What a tenant's clients may not do to their sessions: `guard`, `on_session_state`, `max_pin_time`.

use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::wire::{batch, bind, execute, parse, query, sync};
use protocol_tests::{Database, Pooler, Wire, on_both};

use crate::raw;

async fn with(db: &Database, servers: usize, rules: &str) -> Pooler {
    db.schemas(&["acme", "umbra"]).await;
    start(db, servers, rules).await
}

async fn start(db: &Database, servers: usize, rules: &str) -> Pooler {
    let tenant = "settings = { \"app.tenant\" = \"{tenant}\" }\n";
    Pooler::start(&format!(
        "{}[auth]\ntype = \"trust\"\n{BY_SCHEMA}{tenant}{rules}",
        db.toml(servers)
    ))
    .await
}

/// A role for each tenant, which may see what is its own. The schemas are there.
async fn roles(db: &Database) {
    let name = &db.name;
    for tenant in ["acme", "umbra"] {
        let sql = format!(
            "create role {name}_{tenant}; grant {name}_{tenant} to {name}; \
             grant usage, create on schema {tenant} to {name}_{tenant}; grant all on {tenant}.who to {name}_{tenant}"
        );
        db.admin.batch_execute(&sql).await.unwrap();
    }
}

/// SQLSTATE and HINT of the error, and where the session stands.
async fn refused(wire: &mut Wire, messages: &[u8]) -> (String, String, char) {
    wire.send(messages).await;
    let (messages, status) = wire.until_ready().await;
    let error = messages.iter().find(|m| m.tag == 'E').expect("it is refused");
    (error.field('C'), error.field('H'), status)
}

const SEEN: &str = "select concat_ws(' ', current_setting('search_path'), current_setting('app.tenant'), current_user)";

on_both! {
    async fn what_belongs_to_the_tenant_cannot_be_set(db: &Database) {
        let pooler = with(db, 1, "guard = \"reject\"\n").await;
        let mut wire = raw(&pooler, "acme").await;
        let before = wire.run(SEEN).await.unwrap();
        let guarded = "It belongs to the tenant: guard = \"reject\".";
        for sql in [
            "set search_path to umbra", "SET SESSION search_path = 'umbra'", "set local search_path to umbra", "reset search_path",
            "select set_config('search_path', 'umbra', false)", "select set_config('app.tenant', 'umbra', true)",
            "set role none", "set app.tenant to 'umbra'", "select 1; set search_path to umbra", "set schema 'umbra'",
            "do $$ begin perform set_config('search_path', 'umbra', false); end $$", "do $$ begin execute 'set ' || 'role none'; end $$",
            "select set_config('search' || '_path', 'umbra', false)",
        ] {
            assert_eq!(refused(&mut wire, &query(sql)).await, ("42501".into(), guarded.into(), 'I'), "{sql}");
            assert_eq!(refused(&mut wire, &[batch(sql), sync()].concat()).await, ("42501".into(), guarded.into(), 'I'), "{sql}");
            assert_eq!(wire.run(SEEN).await.unwrap(), before, "{sql}");
        }
        for sql in ["set work_mem to '9MB'", "set local work_mem to '8MB'", "reset all", "discard all", "select set_config('app.other', '1', false)"] {
            wire.run(sql).await.unwrap();
        }
        assert_eq!(wire.run(SEEN).await.unwrap(), before);
    }

    async fn a_refused_statement_fails_its_transaction_and_the_order_of_answers_holds(db: &Database) {
        let pooler = with(db, 1, "guard = \"reject\"\n").await;
        let mut wire = raw(&pooler, "acme").await;
        wire.run("begin").await.unwrap();
        assert_eq!(refused(&mut wire, &query("set search_path to umbra")).await.2, 'E');
        assert_eq!(wire.run("select 1").await.unwrap_err(), "25P02");
        wire.run("rollback").await.unwrap();
        let named = [parse("s", "set search_path to umbra"), bind("", "s"), execute("", 0), sync()].concat();
        wire.send(&[batch("select 1"), sync(), named, batch("select 2"), sync(), query("select 3; select 4")].concat()).await;
        for want in ["12DCZI", "EZI", "12DCZI", "TDCTDCZI"] {
            assert_eq!(wire.tags().await, want);
        }
        assert_eq!(refused(&mut wire, &[bind("", "s"), sync()].concat()).await.0, "26000");
        assert_eq!(wire.run("select name from who").await.unwrap(), ["acme"]);
    }

    async fn what_is_too_long_to_be_read_does_not_pin_where_nothing_may(db: &Database) {
        let pooler = with(db, 1, "on_session_state = \"reject\"\n").await;
        let mut other = raw(&pooler, "acme").await;
        let long = format!("set work_mem to /*{}*/ '9MB'", "x".repeat(20_000));
        for unit in [query(&long), [batch(&long), sync()].concat()] {
            let mut wire = raw(&pooler, "acme").await;
            wire.send(&unit).await;
            assert_eq!(wire.receive().await.field('C'), "08P01");
            assert!(wire.next().await.is_none());
            assert_eq!(other.run("show work_mem").await.unwrap(), ["4MB"]);
        }
        // A local one ends with its transaction, and ties nobody.
        assert_eq!(other.run(&long.replace("set", "set local")).await.unwrap(), [""; 0]);
        assert_eq!(pooler.messages("session pinned to its server"), 0);
    }

    async fn no_disguise_gets_past_it(db: &Database) {
        let pooler = with(db, 1, "guard = \"reject\"\n").await;
        let mut wire = raw(&pooler, "acme").await;
        let before = wire.run(SEEN).await.unwrap();
        for sql in [
            "select U&\"s\\0065t_config\"('search_path', 'umbra', false)", "set standard_conforming_strings = off", "set local standard_conforming_strings to off",
            "set client_encoding = 'SJIS'", "set names 'gbk'", "select set_config('client_encoding', 'BIG5', false)", "set session_authorization = x",
            "set session authorization x", "set local session authorization x", "select set_config('session_authorization', 'x', false)",
            "select query_to_xml($$select set_config('search_path', 'umbra', false)$$, true, true, '')",
        ] {
            assert_eq!(refused(&mut wire, &query(sql)).await.0, "42501", "{sql}");
            assert_eq!(refused(&mut wire, &[batch(sql), sync()].concat()).await.0, "42501", "{sql}");
        }
        let call = [&2078_u32.to_be_bytes()[..], &[0; 6]].concat();
        assert_eq!(refused(&mut wire, &protocol_tests::wire::message('F', &call)).await.0, "42501");
        for sql in ["set client_encoding to 'UTF8'", "set names 'latin1'", "set standard_conforming_strings = on", "set client_encoding = 'UTF8'"] {
            wire.run(sql).await.unwrap();
        }
        // A bound statement is the one that was there, not a refused one behind it.
        wire.send(&[parse("", "select 1"), parse("c", "commit"), sync()].concat()).await;
        wire.until_ready().await;
        let run = |name| [bind("", name), execute("", 0)].concat();
        let (code, ..) = refused(&mut wire, &[run(""), run("c"), parse("", "set search_path to umbra"), sync()].concat()).await;
        assert_eq!((code.as_str(), wire.run(SEEN).await.unwrap()), ("42501", before.clone()));
        assert_eq!(raw(&pooler, "acme").await.run(SEEN).await.unwrap(), before);
        for (name, value) in [("search_path", "umbra"), ("options", "-c search_path=umbra"), ("client_encoding", "SJIS"), ("standard_conforming_strings", "off")] {
            let mut wire = Wire::open(pooler.port).await;
            wire.send(&protocol_tests::wire::startup(protocol_tests::wire::V3_0, &[("user", "app.acme"), (name, value)])).await;
            assert_eq!(wire.receive().await.field('C'), "42501", "{name}");
        }
        let mut wire = Wire::login(pooler.port, &[("user", "app.acme"), ("client_encoding", "'utf-8'"), ("search_path", "acme")]).await;
        assert_eq!(wire.run(SEEN).await.unwrap(), before);
    }

    async fn what_was_refused_cannot_be_bound_later(db: &Database) {
        let pooler = with(db, 1, "guard = \"reject\"\n").await;
        let mut wire = raw(&pooler, "acme").await;
        let before = wire.run(SEEN).await.unwrap();
        for begin in [false, true] {
            if begin {
                wire.run("begin").await.unwrap();
            }
            for unit in [vec![batch("set search_path to umbra"), sync()], vec![parse("", "set search_path to umbra"), sync()]] {
                assert_eq!(refused(&mut wire, &unit.concat()).await.0, "42501");
                if begin {
                    wire.run("rollback and chain").await.unwrap();
                }
                raw(&pooler, "umbra").await.send(&query("select 1")).await;
                assert_eq!(refused(&mut wire, &[bind("", ""), execute("", 0), sync()].concat()).await.0, "26000");
                if begin {
                    wire.run("rollback and chain").await.unwrap();
                }
            }
        }
        wire.run("rollback").await.unwrap();
        assert_eq!(wire.run(SEEN).await.unwrap(), before);
    }

    async fn what_a_function_sets_unseen_is_taken_back(db: &Database) {
        let pooler = with(db, 1, "guard = \"reject\"\n").await;
        let sneak = "create function acme.sneak() returns void language sql as $$ select set_config('search_path', 'umbra', false) $$";
        db.admin.batch_execute(sneak).await.unwrap();
        let mut wire = raw(&pooler, "acme").await;
        // PostgreSQL 18 reports it; on 15 a DO makes the pooler look.
        wire.run("do $$ begin perform acme.sneak(); end $$").await.unwrap();
        assert_eq!(wire.run("select name from who").await.unwrap(), ["acme"]);
    }

    async fn nothing_runs_between_a_reset_and_the_tenants_state(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        roles(db).await;
        let role = format!("role = \"{}_{{tenant}}\"\n", db.name);
        for guard in ["reject", "off"] {
            let pooler = start(db, 1, &format!("{role}guard = \"{guard}\"\n")).await;
            let name = format!("{}_acme", db.name);
            let home = format!("acme acme {name}");
            let (mut wire, mut other) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await);
            let run = |sql: &str| batch(sql);
            for reset in ["discard all", "reset all", "reset role", "set role to default", "reset search_path", "set search_path to default",
                "reset session authorization", "set session authorization default", "reset app.tenant", "set time zone default"] {
                let refuses = guard == "reject" && reset.contains("app.tenant");
                for between in ["", "rollback", "commit", "select 1/0"] {
                    if between.is_empty() && refuses {
                        continue;
                    }
                    // A statement behind it in the same pipeline; by name, and by a portal of another one.
                    let rest = if between.is_empty() { run(SEEN) } else { [run(between), run(SEEN)].concat() };
                    for unit in [
                        [run(reset), rest.clone(), sync()].concat(),
                        [parse("r", reset), bind("p", "r"), parse("", SEEN), bind("", ""), execute("p", 0), execute("", 0), rest.clone(), sync()].concat(),
                    ] {
                        wire.send(&unit).await;
                        let (messages, _) = wire.until_ready().await;
                        for row in messages.iter().filter(|m| m.tag == 'D') {
                            assert_eq!(row.text(), home, "{guard} {reset} {between}");
                        }
                        assert_eq!(wire.run(SEEN).await, Ok(vec![home.clone()]), "{guard} {reset} {between}");
                        assert_eq!(other.run(SEEN).await, Ok(vec![home.clone()]), "{guard} {reset} {between}");
                        let _ = wire.run("deallocate all").await;
                    }
                }
                // Behind the query, and in one write with the next.
                wire.send(&[query(reset), query(SEEN)].concat()).await;
                wire.until_ready().await;
                let (messages, _) = wire.until_ready().await;
                let row = messages.iter().find(|m| m.tag == 'D').map(protocol_tests::wire::Message::text);
                assert_eq!(row.as_deref(), Some(&*home), "{guard} {reset}");
                // In a block, to its end and back.
                for end in ["commit", "rollback"] {
                    wire.run("begin").await.unwrap();
                    if wire.run(reset).await.is_ok() {
                        assert_eq!(wire.run(SEEN).await, Ok(vec![home.clone()]), "{guard} {reset} in a block");
                    }
                    wire.run(end).await.unwrap();
                    assert_eq!(wire.run(SEEN).await, Ok(vec![home.clone()]), "{guard} {reset} {end}");
                }
            }
            if guard == "reject" {
                for sql in ["reset role; table umbra.who", "reset all; select 1", "set search_path to default; select 1", "begin; reset role; table umbra.who; commit"] {
                    assert_eq!(refused(&mut wire, &query(sql)).await.0, "42501", "{sql}");
                }
                wire.run("select pg_advisory_unlock_all(); close all; unlisten *; reset all").await.unwrap();
            }
        }
    }

    async fn an_audit_counts_and_lets_pass(db: &Database) {
        let pooler = with(db, 1, "guard = \"audit\"\n").await;
        let mut wire = raw(&pooler, "acme").await;
        wire.run("set search_path to umbra").await.unwrap();
        assert_eq!(wire.run("select name from who").await.unwrap(), ["umbra"]);
        wire.run("begin; set local app.tenant to 'x'; commit").await.unwrap();
        let line = pooler.until_message(2, "guard: a statement sets what belongs to the tenant").await;
        assert_eq!(line["name"], "app.tenant");
    }

    async fn statements_that_tie_a_session_to_its_server_can_be_refused(db: &Database) {
        let pooler = with(db, 1, "on_session_state = \"reject\"\n").await;
        let mut wire = raw(&pooler, "acme").await;
        for sql in [
            "listen news", "create temp table mine (a int)", "declare c cursor with hold for select 1", "select pg_advisory_lock(1)",
            "prepare p as select 1", "do $$ declare x text := 'listen news'; begin execute x; end $$", "load 'auto_explain'",
        ] {
            let (code, hint, status) = refused(&mut wire, &query(sql)).await;
            assert_eq!((code.as_str(), status), ("0A000", 'I'), "{sql}");
            assert!(hint.contains("on_session_state"), "{hint}");
        }
        wire.run("set work_mem to '9MB'").await.unwrap();
        wire.run("set search_path to umbra").await.unwrap();
        assert_eq!(wire.run("show work_mem").await.unwrap(), ["9MB"]);
        wire.run("begin; declare c cursor for select 1; select pg_advisory_xact_lock(1); commit").await.unwrap();
        assert_eq!(pooler.messages("session pinned to its server"), 0);
        // Where the text does not show it, it is found, and the session cannot go on without it.
        wire.send(&query("do $$ begin execute 'listen news'; end $$")).await;
        assert_eq!(wire.tags().await, "CZI");
        let last = wire.receive().await;
        assert_eq!((last.field('S').as_str(), last.field('C').as_str()), ("FATAL", "0A000"));
        // Nobody gets out of it by asking for a server of its own.
        let mut own = Wire::login(pooler.port, &[("user", "app.acme"), ("options", "-c tenantry.pool_mode=session")]).await;
        assert_eq!(refused(&mut own, &query("listen news")).await.0, "0A000");
    }

    async fn a_statement_too_long_to_be_looked_into_ends_the_session_and_frees_its_server(db: &Database) {
        let pooler = with(db, 1, "guard = \"reject\"\non_session_state = \"reject\"\n").await;
        for sql in ["set search_path = umbra", "listen news"] {
            // In one piece, behind another statement, and by somebody who does not wait for the answer.
            for before in ["", "select 1; "] {
                let mut wire = raw(&pooler, "acme").await;
                wire.send(&query(&format!("{before}{sql} /* {} */", "x".repeat(20_000)))).await;
                let last = wire.receive().await;
                assert_eq!((last.field('S').as_str(), last.field('C').as_str()), ("FATAL", "08P01"), "{sql}");
                assert_eq!(wire.next().await, None);
            }
            let mut wire = raw(&pooler, "acme").await;
            let mut pipeline = query("select pg_sleep(0.05)");
            pipeline.extend(query(&format!("{sql} /* {} */", "x".repeat(50_000))));
            wire.send(&pipeline).await;
            drop(wire);
            assert_eq!(raw(&pooler, "acme").await.run("select name from who").await.unwrap(), ["acme"]);
        }
    }

    async fn a_session_keeps_its_server_no_longer_than_it_may(db: &Database) {
        let pooler = with(db, 1, "max_pin_time = \"300ms\"\n").await;
        for sql in ["listen news", "create temp table mine (a int)", "load 'auto_explain'"] {
            let mut wire = raw(&pooler, "acme").await;
            if wire.run(sql).await.is_err() {
                continue; // not for everybody to load
            }
            let last = wire.receive().await;
            assert_eq!((last.field('S').as_str(), last.field('C').as_str()), ("FATAL", "57P05"), "{sql}");
            assert_eq!(wire.next().await, None);
            assert_eq!(raw(&pooler, "acme").await.run("select to_regclass('pg_temp.mine') is null").await.unwrap(), ["t"]);
        }
        // Who lets go in time stays, and a transaction is not cut short.
        let mut wire = raw(&pooler, "acme").await;
        wire.run("listen news").await.unwrap();
        wire.run("begin").await.unwrap();
        wire.run("select pg_sleep(0.5)").await.unwrap();
        wire.run("unlisten *").await.unwrap();
        wire.run("commit").await.unwrap();
        wire.run("select pg_sleep(0.5)").await.unwrap();
        assert_eq!(wire.run("select name from who").await.unwrap(), ["acme"]);
    }
}
