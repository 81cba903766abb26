//! What a tenant's clients may not do to their sessions: `guard`, `on_session_state`, `max_pin_time`.

use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::wire::{batch, bind, execute, message, parse, query, sync};
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
            "set search_path to umbra", "SET SESSION search_path = 'umbra'", "set local search_path to umbra", "set local search_path to default",
            "select set_config('search_path', 'umbra', false)", "select set_config('app.tenant', 'umbra', true)",
            "set role postgres", "set app.tenant to 'umbra'", "select 1; set search_path to umbra", "set schema 'umbra'",
            "do $$ begin perform set_config('search_path', 'umbra', false); end $$", "do $$ begin execute 'set ' || 'role postgres'; end $$",
            "select set_config('search' || '_path', 'umbra', false)",
            // Its default, and the rest of the statement, or of the portal, before anything leads back.
            "select set_config('search_path', null, false)", "copy (select set_config('app.tenant', null, false)) to stdout",
            "declare c cursor with hold for select set_config('role', null, false)", "do $$ begin reset role; end $$",
            "do $$ begin reset all; perform 1; end $$", "do $$ begin execute 'reset ' || 'role'; commit; end $$",
            "do $$ begin set role to default; end $$", "do $$ begin perform set_config('role', null, false); end $$",
            "do $$ begin execute 'set session authorization default'; end $$",
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

    async fn what_leads_where_the_session_is_already_runs(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        roles(db).await;
        let role = format!("role = \"{}_{{tenant}}\"\nsearch_path = [\"{{tenant}}\", \"public\"]\n", db.name);
        let own = format!("{}_acme", db.name);
        for rules in ["guard = \"reject\"\n", "guard = \"reject\"\non_session_state = \"reject\"\n"] {
            let pooler = start(db, 1, &format!("{role}{rules}")).await;
            let mut wire = raw(&pooler, "acme").await;
            let mut other = raw(&pooler, "acme").await;
            let home = other.run(SEEN).await.unwrap();
            for sql in [
                "show standard_conforming_strings", "show client_encoding", "select current_setting('client_encoding')",
                "set search_path to acme, public", "set search_path = 'acme'", "set search_path to public", "set local search_path to acme",
                "SET SCHEMA 'acme'", "reset search_path", "set search_path to default", &format!("set role {own}"), &format!("set role to '{own}'"),
                &format!("set local role {own}"), "reset role", "set app.tenant to 'acme'", "set app.tenant to default", "reset all", "discard all",
                "select set_config('search_path', 'acme', false)", "select set_config('search_path', '', false)",
                "select set_config('app.tenant', 'acme', true)", "select pg_catalog.set_config('search_path', '', false);", "reset session authorization",
                "set names 'utf8'", "set client_encoding to default", "select name, setting from pg_settings limit 1", "set time zone default",
                "update pg_settings set setting = '5MB' where name = 'work_mem'",
            ] {
                for bytes in [query(sql), [batch(sql), sync()].concat()] {
                    wire.send(&bytes).await;
                    let (messages, _) = wire.until_ready().await;
                    let error = messages.iter().find(|m| m.tag == 'E').map(|m| (m.field('C'), m.field('M')));
                    assert_eq!(error, None, "{sql}");
                    assert_eq!(other.run(SEEN).await.unwrap(), home, "{sql}");
                }
            }
            wire.run("reset all").await.unwrap();
            assert_eq!(wire.run(SEEN).await.unwrap(), home);
            for (name, value) in [("search_path", "acme"), ("search_path", "public"), ("options", "-c search_path=acme,public")] {
                let mut wire = Wire::login(pooler.port, &[("user", "app.acme"), (name, value)]).await;
                assert_eq!(wire.run("select 1").await.unwrap(), ["1"]);
            }
        }
    }

    async fn nothing_hides_how_texts_are_read(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        roles(db).await;
        let role = format!("role = \"{}_{{tenant}}\"\n", db.name);
        let pooler = start(db, 1, &format!("{role}guard = \"reject\"\n")).await;
        let home = format!("acme acme {}_acme", db.name);
        for blind in ["set local names 'SJIS'", "set local client_encoding to 'BIG5'", "update pg_settings set setting = 'off' where name = 'standard_conforming_strings'",
            "update pg_settings set setting = 'off'", "with x as (update pg_settings set setting = 'SJIS' where name like 'client%' returning 1) select 1",
            "select set_config('standard_conforming_' || 'strings', 'off', true)", "set local standard_conforming_strings to off",
            "do $$ begin set local client_encoding = 'SJIS'; end $$", "alter system set work_mem = '1MB'; set local names 'GBK'"] {
            let mut wire = raw(&pooler, "acme").await;
            wire.run("begin").await.unwrap();
            wire.send(&[query(blind), query("select 'a\\''; set role none; --'"), query("commit"), query(SEEN)].concat()).await;
            let mut told = Vec::new();
            for _ in 0..4 {
                let (messages, _) = wire.until_ready().await;
                told.push(messages.iter().find(|m| matches!(m.tag, 'E' | 'D')).map(|m| if m.tag == 'D' { m.text() } else { m.field('C') }));
            }
            assert_eq!((told[0].as_deref(), told[3].as_deref()), (Some("42501"), Some(&*home)), "{blind}: {told:?}");
        }
    }

    async fn what_is_left_in_a_server_goes_with_it(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        for how in ["set local seed = 0.5", "set seed to 0.5", "select set_config('seed', '0.5', true)", "select set_config('seed', '0.5', false)",
            "select setseed(0.5)", "do $$ begin perform setseed(0.5); end $$", "set session seed to '0.5'", "begin; set local seed to 0.5; commit", ""] {
            let pooler = start(db, 1, "").await;
            let mut seen = Vec::new();
            for _ in 0..2 {
                let own: &[(&str, &str)] = if how.is_empty() { &[("user", "app.acme"), ("options", "-c seed=0.5")] } else { &[("user", "app.acme")] };
                let mut wire = Wire::login(pooler.port, own).await;
                wire.run(if how.is_empty() { "select 1" } else { how }).await.unwrap();
                drop(wire);
                seen.push(raw(&pooler, "umbra").await.run("select random()").await.unwrap());
            }
            assert_ne!(seen[0], seen[1], "{how}");
        }
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
            "set search_path = acme, pg_catalog", "select set_config('search_path', 'acme, pg_catalog', false)",
            "set client_encoding = 'SJIS'", "set names 'gbk'", "select set_config('client_encoding', 'BIG5', false)", "set session_authorization = x",
            "set session authorization x", "set local session authorization x", "select set_config('session_authorization', 'x', false)",
            "select query_to_xml($$select set_config('search_path', 'umbra', false)$$, true, true, '')",
            // A type of that name in pg_temp comes before PostgreSQL's, and may cut what it is given; name itself cuts at 63 bytes.
            "select set_config('search_pathx'::text, 'umbra', false)", "select set_config('work_mem', '4MB'::text, false)",
            "select set_config('search_path', '                                                             acme'::name, false)",
            "select set_config('work_mem'::pg_temp.text, '4MB', false)", "select set_config('work_mem'::name::pg_catalog.text, '4MB', true)",
            "select set_config(text 'work_mem', '4MB', false)", "select set_config(cast('work_mem' as text), '4MB', false)",
        ] {
            assert_eq!(refused(&mut wire, &query(sql)).await.0, "42501", "{sql}");
            assert_eq!(refused(&mut wire, &[batch(sql), sync()].concat()).await.0, "42501", "{sql}");
        }
        let call = [&2078_u32.to_be_bytes()[..], &[0; 6]].concat();
        assert_eq!(refused(&mut wire, &message('F', &call)).await.0, "42501");
        for sql in ["set client_encoding to 'UTF8'", "set names 'latin1'", "set standard_conforming_strings = on", "set client_encoding = 'UTF8'",
            "select set_config('work_mem'::pg_catalog.text, '4MB'::pg_catalog.text, false)", "reset work_mem"] {
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

    async fn who_leaves_the_tenant_by_what_no_text_shows_is_ended(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        roles(db).await;
        let (name, role) = (&db.name, format!("role = \"{}_{{tenant}}\"\n", db.name));
        let sql = format!(
            "create function acme.sneak() returns text language sql as $$ select set_config('role', 'none', false) $$; \
             create function acme.wander() returns trigger language plpgsql as $$ begin perform set_config('search_path', 'umbra', false); return new; end $$; \
             create trigger t before insert on acme.who for each row execute function acme.wander(); \
             create view acme.v as select acme.sneak(); create extension tablefunc schema public; \
             grant usage on schema public to {name}_acme; alter view acme.v owner to {name}_acme; grant execute on all functions in schema acme to {name}_acme"
        );
        db.admin.batch_execute(&sql).await.unwrap();
        let pooler = start(db, 1, &format!("{role}guard = \"reject\"\n")).await;
        let seen = format!("acme acme {name}_acme");
        let hidden = "do $$ begin perform U&\"set\\005fconfig\"('role', 'none', false); end $$";
        let mut ended = 0;
        for how in [
            "select acme.sneak()", "insert into who values ('x')", "select * from v", hidden,
            "select * from public.crosstab('select ''a''::text, ''b''::text, set_config(''role'', ''none'', false)') as t(x text, y text)",
            "begin; select acme.sneak(); commit",
        ] {
            for (mode, pin) in [("transaction", ""), ("transaction", "select setseed(0.1)"), ("transaction", "listen x"), ("session", "")] {
                let mut wire = Wire::login(pooler.port, &[("user", "app.acme"), ("options", &format!("-c tenantry.pool_mode={mode}"))]).await;
                if !pin.is_empty() {
                    wire.run(pin).await.unwrap();
                }
                // In one write with what would use it.
                wire.send(&[query(how), query(SEEN)].concat()).await;
                let (first, _) = wire.until_ready().await;
                if first.iter().any(|m| m.tag == 'E') {
                    // The guard has read it.
                    assert_eq!(first.iter().find(|m| m.tag == 'E').unwrap().field('C'), "42501", "{how}");
                    continue;
                }
                let last = wire.next().await.expect("a last word");
                assert_eq!((last.tag, last.field('S').as_str(), last.field('C').as_str()), ('E', "FATAL", "42501"), "{mode} {pin} {how}");
                assert!(wire.next().await.is_none());
                ended += 1;
                let mut other = raw(&pooler, "acme").await;
                assert_eq!(other.run(SEEN).await, Ok(vec![seen.clone()]), "{how}");
            }
        }
        assert!(ended >= 12, "{ended}");
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

    /// It waits until the switch is confirmed, and is read again then: what the first reading found has not run.
    async fn a_reset_in_front_of_a_long_unit_runs(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        for guard in ["off", "reject"] {
            let pooler = start(db, 1, &format!("guard = \"{guard}\"\n")).await;
            for reset in ["reset work_mem", "discard plans", "select set_config('work_mem', null, false)"] {
                raw(&pooler, "umbra").await.run("select 1").await.unwrap();
                let mut wire = raw(&pooler, "acme").await;
                let long = format!("select length('{}')", "x".repeat(40_000));
                for named in [vec![], parse("s", "select 1")] {
                    wire.send(&[batch(reset), named, batch(&long), sync()].concat()).await;
                    let (messages, status) = wire.until_ready().await;
                    assert!(messages.iter().all(|m| m.tag != 'E') && status == 'I', "{guard}: {reset}");
                    assert_eq!(messages.iter().filter(|m| m.tag == 'C').count(), 2, "{guard}: {reset}");
                    // So that its server is another tenant's next.
                    raw(&pooler, "umbra").await.run("select 1").await.unwrap();
                }
            }
        }
    }

    /// Behind a DISCARD ALL of the unnamed statement comes another one: nothing follows that.
    async fn what_follows_a_reset_follows_no_other_statement(db: &Database) {
        let pooler = with(db, 1, "").await;
        let mut wire = raw(&pooler, "acme").await;
        let long = format!("insert into who select 'long' where '{0}' = '{0}'", "x".repeat(20_000));
        for reset in ["discard all", "reset all"] {
            for sql in ["insert into who values ('short')", &long, "select 1"] {
                wire.send(&[batch(reset), sync()].concat()).await;
                wire.until_ready().await;
                wire.send(&[batch(sql), sync()].concat()).await;
                let (messages, _) = wire.until_ready().await;
                assert!(messages.iter().any(|m| m.tag == 'C') && messages.iter().all(|m| m.tag != 'E'), "{reset}, {}: {messages:?}", &sql[..10.min(sql.len())]);
            }
        }
        let sql = "select count(*) from who where name in ('short', 'long')";
        assert_eq!(wire.run(sql).await.unwrap(), ["4"]);
    }

    /// Nobody is told that something has run that was rolled back, and nothing runs as the login role.
    async fn a_state_that_cannot_be_put_back_is_an_error(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        roles(db).await;
        let pooler = start(db, 1, &format!("role = \"{}_{{tenant}}\"\n", db.name)).await;
        let name = &db.name;
        for (unit, kept) in [
            ([batch("insert into who values ('lost')"), batch("reset role"), sync()].concat(), 0),
            ([query("begin; insert into who values ('lost')"), query("reset role"), query("commit")].concat(), 0),
            (query("insert into who values ('kept'); reset role"), 1),
            (query("reset role"), 1),
        ] {
            let mut wire = raw(&pooler, "acme").await;
            wire.run("select 1").await.unwrap();
            db.admin.batch_execute(&format!("revoke {name}_acme from {name}")).await.unwrap();
            wire.send(&unit).await;
            let mut codes = Vec::new();
            while let Some(message) = wire.next().await {
                match message.tag {
                    'E' => codes.push(message.field('C')),
                    'Z' if !codes.is_empty() && message.body == b"I" => break,
                    _ => {}
                }
            }
            assert_eq!(codes[0], "58000");
            // A rollback has taken back the reset, too; or the session ends.
            wire.send_if_open(&query("select current_user")).await;
            while let Some(message) = wire.next().await {
                let role = format!("{name}_acme");
                assert!(message.tag != 'D' || message.body.ends_with(role.as_bytes()), "{message:?}");
                if message.tag == 'Z' {
                    break;
                }
            }
            db.admin.batch_execute(&format!("grant {name}_acme to {name}")).await.unwrap();
            let sql = "select count(*) from acme.who where name in ('lost', 'kept')";
            assert_eq!(db.admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), kept);
        }
        raw(&pooler, "acme").await.run("select 1").await.unwrap();
    }

    async fn a_copy_whose_sync_came_early_is_answered(db: &Database) {
        let pooler = with(db, 1, "guard = \"reject\"\n").await;
        let mut wire = raw(&pooler, "acme").await;
        let copy = [batch("copy who from stdin"), sync()].concat();
        let rest = [message('d', b"copied\n"), message('c', b""), sync()].concat();
        for _ in 0..2 {
            // In one write, and as tokio-postgres does it: once PostgreSQL wants the data.
            wire.send(&[&*copy, &*rest].concat()).await;
            assert_eq!(wire.until_ready().await.1, 'I');
            wire.send(&copy).await;
            while wire.receive().await.tag != 'G' {}
            wire.send(&rest).await;
            assert_eq!(wire.until_ready().await.1, 'I');
        }
        assert_eq!(wire.run("select count(*) from who where name = 'copied'").await.unwrap(), ["4"]);
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
