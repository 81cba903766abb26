//! Settings from the start-up packet are right on every server; what a client SETs is not lost.

use protocol_tests::{Database, Pooler, Wire, on_both};

use crate::{raw, trusting};

on_both! {
    async fn startup_settings_hold_on_every_server(db: &Database) {
        let pooler = trusting(db, 2).await;
        let login = |settings: &'static str| {
            let port = pooler.port;
            async move { Wire::login(port, &[("user", "app.acme"), ("options", settings)]).await }
        };
        let mut clients = [
            (login("-c work_mem=5MB -c app.x=one").await, "5MB", "one"),
            (login("-c work_mem=6MB -c app.x=it\\'s\\ \\\\two").await, "6MB", "it's \\two"),
            (login("-c statement_timeout=9s").await, "4MB", ""),
        ];
        for round in 0..12 {
            let (wire, work_mem, custom) = &mut clients[round % 3];
            assert_eq!(wire.run("show work_mem").await.unwrap(), [*work_mem]);
            assert_eq!(wire.run("select coalesce(current_setting('app.x', true), '')").await.unwrap(), [*custom]);
        }
    }

    async fn a_list_from_the_url_stays_a_list(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = Wire::login(pooler.port, &[("user", "app.acme"), ("search_path", "umbra, public")]).await;
        assert_eq!(wire.run("select array_to_string(current_schemas(false), '|')").await.unwrap(), ["umbra|public"]);
    }

    async fn what_a_client_sets_stays_its_own(db: &Database) {
        let pooler = trusting(db, 2).await;
        let (mut a, mut b) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await);
        a.run("set work_mem = '8MB'").await.unwrap();
        for _ in 0..3 {
            assert_eq!(b.run("show work_mem").await.unwrap(), ["4MB"]);
            assert_eq!(a.run("show work_mem").await.unwrap(), ["8MB"]);
        }
        assert_eq!(pooler.messages("session pinned to its server"), 0);
        drop(a);
        for _ in 0..3 {
            assert_eq!(raw(&pooler, "acme").await.run("show work_mem").await.unwrap(), ["4MB"]);
        }
    }

    async fn reset_returns_to_the_tenants_baseline_and_never_below(db: &Database) {
        let name = &db.name;
        db.admin.batch_execute(&format!("create role {name}_a; grant {name}_a to {name}; grant usage on schema public to {name}_a")).await.unwrap();
        let toml = format!("{}[auth]\ntype = \"trust\"\n[tenancy]\ntenant_from = [\"user:.\"]\nsettings = {{ \"app.tenant\" = \"{{tenant}}\" }}\n\
            [tenants.acme]\nrole = \"{name}_a\"\nsearch_path = [\"acme\", \"public\"]\n", db.toml(1));
        let pooler = Pooler::start(&toml).await;
        let mut wire = Wire::login(pooler.port, &[("user", "app.acme"), ("TimeZone", "Asia/Tokyo")]).await;
        let state = "select concat_ws(' ', current_user, current_setting('search_path'), current_setting('app.tenant'), current_setting('TimeZone'))";
        let before = wire.run(state).await.unwrap();
        assert_eq!(before, [format!("{name}_a acme, public acme Asia/Tokyo")]);
        for reset in ["reset all", "discard all", "reset role", "reset search_path", "reset app.tenant", "set timezone = 'UTC'; reset timezone",
            "select pg_advisory_unlock_all(); close all; unlisten *; reset all;"] {
            wire.run(reset).await.unwrap();
            assert_eq!(wire.run(state).await.unwrap(), before, "{reset}");
        }
    }

    async fn a_setting_of_one_transaction_pins_nobody(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut a = raw(&pooler, "acme").await;
        a.run("begin; set local work_mem = '8MB'; set transaction isolation level serializable; commit").await.unwrap();
        assert_eq!(raw(&pooler, "umbra").await.run("show work_mem").await.unwrap(), ["4MB"]);
        assert_eq!(pooler.messages("session pinned to its server"), 0);
    }

    /// Two-phase commit is no SQL PREPARE: it keeps no server, and may run where nothing may be kept.
    async fn two_phase_commit_pins_nobody(db: &Database) {
        db.schemas(&["acme"]).await;
        let rules = format!("{}on_session_state = \"reject\"\n", protocol_tests::pooler::BY_SCHEMA);
        let pooler = Pooler::start(&format!("{}[auth]\ntype = \"trust\"\n{rules}", db.toml(1))).await;
        let mut a = raw(&pooler, "acme").await;
        let row = db.admin.query_one("show max_prepared_transactions", &[]).await.unwrap();
        let is_on = row.get::<_, String>(0) != "0";
        for sql in ["prepare transaction 'two'", "PREPARE TRANSACTION E'two'"] {
            a.run("begin; create table two()").await.unwrap();
            // 55000: PostgreSQL's own, where it is not switched on.
            assert_eq!(a.run(sql).await.err(), (!is_on).then(|| "55000".to_owned()));
            let end = if is_on { "rollback prepared 'two'" } else { "rollback" };
            a.run(end).await.unwrap();
            raw(&pooler, "acme").await.run("select 1").await.unwrap();
        }
        assert_eq!(pooler.messages("session pinned to its server"), 0);
    }

    async fn what_a_departed_session_held_is_free_at_once(db: &Database) {
        let pooler = trusting(db, 2).await;
        for options in ["", "-c tenantry.pool_mode=session"] {
            let mut wire = Wire::login(pooler.port, &[("user", "app.acme"), ("options", options)]).await;
            wire.run("select pg_advisory_lock(42)").await.unwrap();
            wire.run("create temp table mine as select 1").await.unwrap();
            wire.run("declare c cursor with hold for select 1").await.unwrap();
            drop(wire);
            // Nobody else asks for a server: the one that holds all this is idle.
            let held = "select (select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database()))
                + (select count(*) from pg_class where relpersistence = 't' and relkind = 'r')";
            protocol_tests::soon("the lock and the table to be gone", async {
                while db.admin.query_one(held, &[]).await.unwrap().get::<_, i64>(0) > 0 {
                    tokio::task::yield_now().await;
                }
            }).await;
        }
        assert_eq!(db.backends().await, 1, "and the server is kept");
    }
}
