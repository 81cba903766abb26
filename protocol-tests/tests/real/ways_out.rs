//! Ways out of a tenant that an attack has found: by the pooler's own names, in a DO, from one transaction to the next.

use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::wire::{Message, batch, bind, execute, parse, query, sync};
use protocol_tests::{Database, Pooler, Wire, on_both};

/// A client of acme in one of the pool modes.
async fn acme(pooler: &Pooler, mode: &str) -> Wire {
    let options = format!("-c tenantry.pool_mode={mode}");
    Wire::login(pooler.port, &[("user", "app.acme"), ("options", &options)]).await
}

/// Who the session is, wherever it stands.
const WHO: &str = "select concat_ws(' ', 'who', current_setting('search_path'), current_setting('app.tenant', true), current_user)";

/// One server; acme and umbra by schema and role.
async fn start(db: &Database, guard: &str) -> Pooler {
    let name = &db.name;
    Pooler::start(&format!(
        "{}[auth]\ntype = \"trust\"\n{BY_SCHEMA}settings = {{ \"app.tenant\" = \"{{tenant}}\" }}\n\
         role = \"{name}_{{tenant}}\"\nguard = \"{guard}\"\n",
        db.toml(1)
    ))
    .await
}

/// A role for each tenant, which is the owner of its own table.
async fn roles(db: &Database) {
    db.schemas(&["acme", "umbra"]).await;
    let name = &db.name;
    for tenant in ["acme", "umbra"] {
        let role = format!("{name}_{tenant}");
        let sql = format!(
            "create role {role}; grant {role} to {name}; grant usage, create on schema {tenant} to {role}; \
             create table {tenant}.notes (t text); alter table {tenant}.notes owner to {role}; \
             insert into {tenant}.notes values ('{tenant}')"
        );
        db.admin.batch_execute(&sql).await.unwrap();
    }
}

/// The answer to one query: its rows, or the SQLSTATE of its error, also where the session ends.
async fn said(wire: &mut Wire, sql: &str) -> Result<Vec<String>, String> {
    wire.send(&query(sql)).await;
    let mut rows = Vec::new();
    while let Some(message) = wire.next().await {
        match message.tag {
            'E' => {
                let code = message.field('C');
                if message.field('S') != "FATAL" {
                    wire.until_ready().await;
                }
                return Err(code);
            }
            'D' => rows.push(message.text()),
            'Z' => break,
            _ => {}
        }
    }
    Ok(rows)
}

fn who_said(messages: &[Message]) -> Vec<String> {
    let rows = messages.iter().filter(|m| m.tag == 'D').map(Message::text);
    rows.filter(|row| row.starts_with("who ")).collect()
}

on_both! {
    /// Where the pooler makes PostgreSQL fail, it must not depend on a name that a client may have given.
    async fn a_portal_of_a_clients_is_never_run_instead_of_an_error(db: &Database) {
        roles(db).await;
        let home = format!("who acme acme {}_acme", db.name);
        for (mode, guard) in [("transaction", "reject"), ("session", "reject"), ("transaction", "off"), ("session", "off")] {
            let pooler = start(db, guard).await;
            let mut wire = acme(&pooler, mode).await;
            wire.send(&[parse("s", "select 1"), sync()].concat()).await;
            wire.until_ready().await;
            for portal in ["tenantry_none", "tenantry_maker"] {
                for refused in [parse("s", "select 2"), parse("", "set role postgres"), parse("tenantry_none", "set role none")] {
                    let insert = batch("insert into umbra.notes values ('written by acme')");
                    wire.send(&[parse("", "reset role"), bind(portal, ""), refused, insert, batch(WHO), sync()].concat()).await;
                    let (messages, _) = wire.until_ready().await;
                    assert!(messages.iter().any(|m| m.tag == 'E'), "{mode} {guard} {portal}");
                    assert_eq!(who_said(&messages), [""; 0], "{mode} {guard} {portal}");
                    assert_eq!(said(&mut wire, WHO).await, Ok(vec![home.clone()]), "{mode} {guard} {portal}");
                }
            }
        }
        let rows = db.admin.query("select t from umbra.notes", &[]).await.unwrap();
        assert_eq!(rows.len(), 1);
    }

    async fn what_leads_back_needs_no_name_of_a_clients(db: &Database) {
        roles(db).await;
        let home = format!("who acme acme {}_acme", db.name);
        for mode in ["transaction", "session"] {
            let pooler = start(db, "off").await;
            for hold in [true, false] {
                let mut wire = acme(&pooler, mode).await;
                let cursor = if hold { "declare tenantry_maker cursor with hold for select 1" } else { "begin; declare tenantry_maker cursor for select 1" };
                assert_eq!(said(&mut wire, cursor).await, Ok(vec![]));
                wire.send(&[query("reset role"), query(WHO)].concat()).await;
                wire.until_ready().await;
                assert_eq!(who_said(&wire.until_ready().await.0), [&*home], "{mode} {hold}");
            }
        }
    }

    /// A statement is read wherever it stands, and what nobody can read is refused. What it could do is done by none of them.
    async fn a_do_does_no_more_than_its_text_shows(db: &Database) {
        roles(db).await;
        let (name, home) = (&db.name, format!("who acme acme {}_acme", db.name));
        let out = format!("set role {name}_umbra; insert into umbra.notes values (''by acme''); set role {name}_acme");
        for mode in ["transaction", "session"] {
            let pooler = start(db, "reject").await;
            let mut wire = acme(&pooler, mode).await;
            for body in [
                &*format!("execute 'do ' || quote_literal('begin {out}; end')"),
                &*format!("execute format('do %L', 'begin {out}; end')"),
                &*format!("execute 'do language plpgsql ' || quote_nullable('begin {out}; end')"),
                &*format!("execute 'select ' || quote_ident('set_config') || '(''role'', ''{name}_umbra'', false)'"),
                &*format!("execute format('select \"set_%I\"(''role'', ''{name}_umbra'', false)', 'config')"),
                "update pg_settings set setting = 'umbra' where name = 'search_path'",
                "execute 'update pg_settings set setting = ''umbra'' where name = ''search_path'''",
                "execute 'update ' || quote_ident('pg_settings') || ' set setting = ''umbra'' where name = ''search_path'''",
                "with u as (update pg_settings set setting = 'umbra' where name = 'search_path' returning 1) select 1 into x from u",
                "execute format('with u as (%I pg_settings set setting = ''umbra'' where name = ''search_path'' returning 1) select 1 from u', 'update')",
                &*format!("perform U&\"set\\005fconfig\"('role', '{name}_umbra', false)"),
                &*format!("x := U&\"set\\005fconfig\"('role', '{name}_umbra', false)"),
                &*format!("execute 'select U&\"set\\005fconfig\"(''role'', ''{name}_umbra'', false)'"),
                &*format!("perform query_to_xml('select set_'||'config(''role'', ''{name}_umbra'', false)', true, true, '')"),
                &*format!("execute 'select query_to_xml(' || quote_literal('select set_config(''role'', ''{name}_umbra'', false)') || ', true, true, '''')'"),
                &*format!("perform * from ts_stat('select to_tsvector(set_'||'config(''role'', ''{name}_umbra'', false))')"),
                &*format!("perform ts_rewrite('a'::tsquery, 'select ''a''::tsquery, to_tsquery(set_'||'config(''role'', ''{name}_umbra'', false))')"),
                "execute format('%I role to default', 'set')",
                &*format!("execute format('select 1' || '; {out}')"),
                "execute 'create view pg_temp.v as select * from pg_settings'",
                // A column that is none is a function; a literal goes on behind a line's end; SET is no name's keyword.
                &*format!("execute format('select x.%I from concat(%L) x', 'ts_stat', 'select set_config(''role'', ''{name}_umbra'', false)::tsvector')"),
                &*format!("execute format('select (concat(%L)).%I', 'select set_config(''role'', ''{name}_umbra'', false)::tsvector', 'ts_stat')"),
                &*format!("execute format('select %L\n''\\''''; {out}; --''', 'a\\b')"),
                &*format!("execute 'select ' || quote_literal(E'a\\\\b') || '\n''\\''''; {out}; --'''"),
                "execute format('update %I %I setting = %L where name = %L', 'pg_settings', 'set', 'umbra', 'search_path')",
            ] {
                let sql = format!("do $do$ declare x text; begin {body}; end $do$");
                assert_eq!(said(&mut wire, &sql).await, Err("42501".into()), "{mode} {body}");
                assert_eq!(said(&mut wire, WHO).await, Ok(vec![home.clone()]), "{mode} {body}");
            }
            let hidden = out.replace("''", "'").replace('\'', "''").replace("set", "se!0074");
            for sql in [
                format!("do U&'begin {hidden}; end' uescape '!'"),
                format!("do language plpgsql U&'begin {hidden}; end' uescape '!'"),
                format!("do $a$ begin execute 'do U&''begin {}; end'' uescape ''!'''; end $a$", hidden.replace('\'', "''")),
                format!("do $a$ begin execute 'do E''begin {}; end'''; end $a$", hidden.replace('\'', "''").replace("!0074", "\\x74")),
                // These words are no keywords of PL/pgSQL's.
                format!("do $a$ declare function text := 'set ro' || 'le {name}_umbra'; begin execute function; end $a$"),
                format!("do $a$ declare procedure text := 'set ro'; begin execute procedure || 'le {name}_umbra'; end $a$"),
                format!("do $a$ declare function text := 'set ro' || 'le {name}_umbra'; row bool := true; begin if row then execute function using row; end if; end $a$"),
            ] {
                assert_eq!(said(&mut wire, &sql).await, Err("42501".into()), "{mode} {sql}");
                assert_eq!(said(&mut wire, WHO).await, Ok(vec![home.clone()]), "{mode} {sql}");
            }
            // What is done every day runs.
            for body in [
                "execute format('create table %I (id int, role text)', 'made by hand')",
                "for x in execute format('select %L', 'y') loop null; end loop",
                "execute 'insert into ' || quote_ident('made by hand') || ' values (1, ' || quote_literal('x') || ')'",
                "update \"made by hand\" set role = 'admin'",
                "execute format('update %I set role = %L', 'made by hand', 'admin')",
                "execute format('create index on %I (id)', 'made by hand')",
                "execute format('select %I from %I where %I = %L order by %I', 'id', 'made by hand', 'role', 'admin', 'id')",
                "execute format('alter table %I add column %I text default %L', 'made by hand', 'other', 'x')",
                "if (select count(*) from pg_settings) > 0 then perform 1; end if",
                "execute format('alter table %I add column if not exists %I text', 'made by hand', 'third')",
                "for x in execute format('select t.role from %I t join %I as u on t.id = u.id', 'made by hand', 'made by hand') loop null; end loop",
                "execute format('alter table %I set schema %I', 'made by hand', 'acme')",
                "execute pg_catalog.format('drop table %I', 'made by hand')",
            ] {
                let sql = format!("do $do$ declare x text; begin {body}; end $do$");
                assert_eq!(said(&mut wire, &sql).await, Ok(vec![]), "{mode} {body}");
            }
            for makes in ["create view v as select * from pg_settings", "alter view v rename to pg_settings",
                "select set_config('x.y', 'role', false), set_config(name, 'none', false) from pg_settings where name = 'work_mem'",
                "select set_config(name, (select set_config('x.y', 'role', false)), false) from pg_settings where name = 'work_mem'", "create aggregate a (text, bool) (sfunc = set_config, stype = text, initcond = 'role')"] {
                assert_eq!(said(&mut wire, makes).await, Err("42501".into()), "{mode} {makes}");
            }
        }
        let rows = db.admin.query("select t from umbra.notes", &[]).await.unwrap();
        assert_eq!(rows.len(), 1);
    }

    /// The documented hole, a function of a client's, is over with the transaction it was called in.
    async fn who_has_left_does_not_get_into_the_next_transaction(db: &Database) {
        roles(db).await;
        let name = &db.name;
        let sql = format!(
            "create function acme.out() returns void language plpgsql as $$ begin perform set_config('role', '{name}_umbra', false); end $$; \
             create procedure acme.call() language plpgsql as $$ begin perform set_config('role', '{name}_umbra', false); commit; end $$; \
             grant execute on all functions in schema acme to {name}_acme"
        );
        db.admin.batch_execute(&sql).await.unwrap();
        let insert = "insert into umbra.notes values ('by acme')";
        for mode in ["transaction", "session"] {
            let pooler = start(db, "reject").await;
            let chain = [query("begin; select acme.out()"), query("commit and chain")].concat();
            let pipeline = |sql: &str| [batch("begin"), batch("select acme.out()"), batch("commit"), batch("begin"), batch(sql), sync()].concat();
            for (how, escape) in [
                ("chain", chain.clone()),
                ("one text", query("begin; select acme.out(); commit; begin")),
                ("failed", query("begin; select acme.out(); commit; begin; select 1/0")),
                ("pipeline", pipeline("select 1")),
                ("failed pipeline", pipeline("select 1/0")),
                ("call", [batch("call acme.call()"), batch("begin"), sync()].concat()),
            ] {
                let mut wire = acme(&pooler, mode).await;
                wire.send(&[escape, query(&format!("rollback; {insert}")), query(insert)].concat()).await;
                let mut fatal = None;
                while let Some(message) = wire.next().await {
                    if message.tag == 'E' && message.field('S') == "FATAL" {
                        fatal = Some(message.field('C'));
                    }
                }
                assert_eq!(fatal.as_deref(), Some("42501"), "{mode} {how}");
            }
            // Who has not left goes on, in the transaction that has begun, and what it was is what it is.
            let mut wire = acme(&pooler, mode).await;
            let home = Ok(vec![format!("who acme acme {name}_acme")]);
            assert_eq!(said(&mut wire, "begin isolation level serializable read only").await, Ok(vec![]));
            assert_eq!(said(&mut wire, "commit and chain").await, Ok(vec![]));
            assert_eq!(said(&mut wire, "show transaction_isolation").await, Ok(vec!["serializable".into()]));
            assert_eq!(said(&mut wire, WHO).await, home);
            assert_eq!(said(&mut wire, "commit; begin; select 1/0").await, Err("22012".into()));
            assert_eq!(said(&mut wire, "select 1").await, Err("25P02".into()));
            assert_eq!(said(&mut wire, "rollback").await, Ok(vec![]));
            assert_eq!(said(&mut wire, WHO).await, home);
            wire.send(&[parse("", "select 'kept'"), bind("", ""), execute("", 0), sync()].concat()).await;
            assert_eq!(wire.until_ready().await.0.iter().filter(|m| m.tag == 'D').count(), 1);
        }
        let rows = db.admin.query("select t from umbra.notes", &[]).await.unwrap();
        assert_eq!(rows.len(), 1);
    }

    /// For the transaction, too, a default is the tenant's.
    async fn a_local_default_leads_to_the_tenants_state(db: &Database) {
        roles(db).await;
        let home = format!("who acme acme {}_acme", db.name);
        for mode in ["transaction", "session"] {
            let pooler = start(db, "off").await;
            let mut wire = acme(&pooler, mode).await;
            for reset in ["set local role to default", "set local search_path to default", "set local app.tenant to default",
                "set local app.tenant = 'x'; set local app.tenant to default", "select set_config('search_path', null, true)"] {
                for begin in [query("begin"), batch("begin"), vec![]] {
                    let unit = if begin.is_empty() {
                        [batch(reset.split(';').next_back().unwrap()), batch(WHO), sync()].concat()
                    } else if reset.contains(';') {
                        [begin.clone(), if begin[0] == b'Q' { vec![] } else { sync() }, query(reset), batch(WHO), sync()].concat()
                    } else {
                        [begin, batch(reset), batch(WHO), sync()].concat()
                    };
                    wire.send(&[unit, query("rollback"), query("select 'end'")].concat()).await;
                    let mut who = Vec::new();
                    loop {
                        let messages = wire.until_ready().await.0;
                        who.extend(who_said(&messages));
                        if messages.iter().any(|m| m.tag == 'D' && m.text() == "end") {
                            break;
                        }
                    }
                    assert_eq!(who, [&*home], "{mode} {reset}");
                    assert_eq!(said(&mut wire, WHO).await, Ok(vec![home.clone()]), "{mode} {reset}");
                }
            }
            // The client's own value comes last, and the session's is there again behind the transaction.
            assert_eq!(said(&mut wire, "set app.tenant = 'mine'").await, Ok(vec![]));
            assert_eq!(said(&mut wire, "begin; set local app.tenant to default; set local app.tenant = 'last'").await, Ok(vec![]));
            assert_eq!(said(&mut wire, "show app.tenant").await, Ok(vec!["last".into()]), "{mode}");
            assert_eq!(said(&mut wire, "commit").await, Ok(vec![]));
            assert_eq!(said(&mut wire, "show app.tenant").await, Ok(vec!["mine".into()]), "{mode}");
        }
    }
}
