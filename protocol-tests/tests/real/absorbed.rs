//! SETs that need no server, and `tenant_from = ["search_path"]`.

use protocol_tests::database::connect;
use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::wire::{Message, batch, bind, describe, execute, parse, query, sync};
use protocol_tests::{Database, Pooler, Wire, on_both};

use crate::{raw, trusting};

const PATH: &str = "show search_path";

/// A pooler that finds the tenant in the search_path.
async fn by_path(db: &Database, servers: usize, tenants: &str) -> Pooler {
    db.schemas(&["acme", "umbra"]).await;
    let tenancy = "[tenancy]\ntenant_from = [\"search_path\"]\ndefault_tenant = \"public\"\nunknown = \"template\"\n\
        schema = \"{tenant}\"\nsettings = { \"app.tenant\" = \"{tenant}\" }\n[tenants.\"*\"]\n[tenants.public]\n";
    Pooler::start(&format!("{}[auth]\ntype = \"trust\"\n{tenancy}{tenants}", db.toml(servers)))
        .await
}

async fn login(pooler: &Pooler, path: Option<&str>) -> Wire {
    let mut parameters = vec![("user", "app")];
    parameters.extend(path.map(|path| ("search_path", path)));
    Wire::login(pooler.port, &parameters).await
}

on_both! {
    async fn an_operator_finds_a_session_at_the_tenant_that_it_has_become(db: &Database) {
        let pooler = by_path(db, 2, "[users.ops]\npassword = \"opspw\"\n[admin]\nusers = [\"ops\"]\n").await;
        let ops = connect(&format!("postgres://ops:opspw@127.0.0.1:{}/tenantry", pooler.port)).await.unwrap();
        let mut moved = login(&pooler, None).await;
        let mut stays = login(&pooler, None).await;
        moved.run("set search_path to umbra").await.unwrap();
        assert_eq!(moved.run("select name from who").await.unwrap(), ["umbra"]);
        let seen = ops.query("show clients", &[]).await.unwrap();
        let tenants: Vec<&str> = seen.iter().map(|row| row.get("tenant")).collect();
        assert_eq!(tenants, ["umbra", "public", ""], "the last one is the operator's own");
        // Nobody comes to a database that is disabled, on that way either; who is there stays.
        ops.batch_execute(&format!("disable \"{}\"", db.name)).await.unwrap();
        assert_eq!(moved.run("select name from who").await.unwrap(), ["umbra"]);
        stays.run("set search_path to acme").await.unwrap();
        assert!(stays.run("select name from who").await.is_err());
        ops.batch_execute(&format!("enable \"{}\"", db.name)).await.unwrap();
        assert_eq!(stays.run("select name from who").await.unwrap(), ["acme"]);
        let nobody = ops.batch_execute("kill tenant public").await.unwrap_err();
        assert_eq!(nobody.code().unwrap().code(), "02000");
        ops.batch_execute("kill tenant umbra").await.unwrap();
        assert_eq!(moved.receive().await.field('C'), "57P01");
        assert_eq!(stays.run("select name from who").await.unwrap(), ["acme"]);
    }

    async fn a_lone_set_needs_no_server(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut a = raw(&pooler, "acme").await;
        let mut b = raw(&pooler, "acme").await;
        b.run("begin").await.unwrap(); // the only server
        // PostgreSQL reports the path from 18 on.
        let reports = db.major >= 18;
        for (sql, tags) in [
            (query("SET search_path = \"umbra\", 'public'"), if reports { "CSZI" } else { "CZI" }),
            ([batch("set application_name to 'me'"), sync()].concat(), "12CSZI"),
            ([parse("", "SET search_path TO umbra"), bind("", ""), describe('P', ""), execute("", 0), sync()].concat(), if reports { "12nCSZI" } else { "12nCZI" }),
        ] {
            a.send(&sql).await;
            assert_eq!(a.tags().await, tags);
        }
        b.run("rollback").await.unwrap();
        assert_eq!(a.run(PATH).await.unwrap(), ["umbra"]);
        assert_eq!(a.run("show application_name").await.unwrap(), ["me"]);
        assert_eq!(a.run("select name from who").await.unwrap(), ["umbra"]);
        assert_eq!(b.run(PATH).await.unwrap(), ["acme"]);
        a.run("set search_path to default").await.unwrap();
        assert_eq!(a.run(PATH).await.unwrap(), ["acme"]);
    }

    async fn a_path_set_by_a_function_is_answered_as_postgresql_does(db: &Database) {
        let pooler = trusting(db, 1).await;
        let (mut direct, mut wire) = (db.wire("-c search_path=acme").await, raw(&pooler, "acme").await);
        let mut other = raw(&pooler, "acme").await;
        for sql in ["SELECT set_config('search_path', 'umbra,public', false)", "select pg_catalog.set_config('search_path','umbra',false);"] {
            other.run("begin").await.unwrap(); // the only server
            direct.send(&query(sql)).await;
            wire.send(&query(sql)).await;
            let (want, got) = (direct.until_ready().await, wire.until_ready().await);
            let said = |(messages, status): (Vec<Message>, char)| (messages.into_iter().filter(|m| m.tag != 'S').collect::<Vec<_>>(), status);
            assert_eq!(said(got), said(want), "{sql}");
            other.run("rollback").await.unwrap();
            assert_eq!(wire.run(PATH).await.unwrap(), direct.run(PATH).await.unwrap());
            assert_eq!(wire.run("select name from who").await.unwrap(), ["umbra"]);
        }
    }

    async fn what_postgresql_would_refuse_is_refused(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        for (sql, code) in [
            ("set search_path to table", "42601"), ("set search_path to", "42601"), ("set no_such_setting to 1", "42704"),
            ("set work_mem to 'x'", "22023"), ("set search_path to umbra umbra", "42601"),
        ] {
            assert_eq!(wire.run(sql).await.unwrap_err(), code, "{sql}");
            assert_eq!(wire.run(PATH).await.unwrap(), ["acme"]);
        }
    }

    async fn a_set_goes_to_the_server_if_it_is_not_to_be_absorbed(db: &Database) {
        db.schemas(&["acme"]).await;
        let toml = format!("{}[auth]\ntype = \"trust\"\n{BY_SCHEMA}query_wait_timeout = \"1s\"\n", db.toml(1));
        let pooler = Pooler::start_with("absorb = false", &toml).await;
        let (mut a, mut b) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await);
        b.run("begin").await.unwrap();
        assert_eq!(a.run("set search_path to public").await.unwrap_err(), "53300");
        b.run("rollback").await.unwrap();
        a.run("set search_path to public").await.unwrap();
        assert_eq!(a.run(PATH).await.unwrap(), ["public"]);
    }

    async fn the_search_path_says_whose_statement_it_is(db: &Database) {
        let pooler = by_path(db, 2, "").await;
        let mut wire = login(&pooler, None).await;
        let tenant = "select current_setting('app.tenant')";
        assert_eq!(wire.run(tenant).await.unwrap(), ["public"]);
        for _ in 0..3 {
            for name in ["acme", "umbra"] {
                wire.run(&format!("set search_path = '{name}', public")).await.unwrap();
                assert_eq!(wire.run("select name from who").await.unwrap(), [name]);
                assert_eq!(wire.run(tenant).await.unwrap(), [name]);
                assert_eq!(wire.run(PATH).await.unwrap(), [format!("{name}, public")]);
            }
        }
        // By a row, in a transaction that is rolled back, and back to nobody.
        wire.run("select set_config('search_path', 'acme,public', false)").await.unwrap();
        assert_eq!(wire.run(tenant).await.unwrap(), ["acme"]);
        wire.run("begin; set search_path to umbra; rollback").await.unwrap();
        assert_eq!(wire.run(tenant).await.unwrap(), ["acme"]);
        wire.run("reset search_path").await.unwrap();
        assert_eq!(wire.run(tenant).await.unwrap(), ["public"]);
        assert_eq!(login(&pooler, Some("umbra, public")).await.run(tenant).await.unwrap(), ["umbra"]);
    }

    async fn the_quota_is_that_of_the_tenant_in_the_path(db: &Database) {
        let pooler = by_path(db, 3, "[tenants.acme]\nmax_server_connections = 1\nquery_wait_timeout = \"300ms\"\n").await;
        let (mut a, mut b) = (login(&pooler, None).await, login(&pooler, None).await);
        for wire in [&mut a, &mut b] {
            wire.run("set search_path to acme").await.unwrap();
        }
        a.run("begin; select 1").await.unwrap();
        assert_eq!(b.run("select 1").await.unwrap_err(), "53300");
        b.run("set search_path to umbra").await.unwrap();
        assert_eq!(b.run("select name from who").await.unwrap(), ["umbra"]);
    }

    async fn a_path_to_a_tenant_one_may_not_be_is_refused_and_the_session_goes_on(db: &Database) {
        let pooler = by_path(db, 2, "[tenants.umbra]\nstate = \"suspended\"\n").await;
        let mut wire = login(&pooler, None).await;
        for (path, code) in [("umbra", "57P03"), ("gone", "3F000")] {
            wire.run(&format!("set search_path to {path}")).await.unwrap();
            assert_eq!(wire.run("select 1").await.unwrap_err(), code, "{path}");
        }
        wire.run("set search_path to acme").await.unwrap();
        assert_eq!(wire.run("select name from who").await.unwrap(), ["acme"]);
    }
}
