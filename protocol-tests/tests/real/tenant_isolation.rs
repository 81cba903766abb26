//! Nothing of one tenant's session is found by the next, whatever it did there.

use protocol_tests::{Database, on_both};

use crate::{raw, trusting};

on_both! {
    async fn a_tenant_never_inherits_the_last_tenants_search_path(db: &Database) {
        let pooler = trusting(db, 1).await;
        let (mut acme, mut umbra) = (raw(&pooler, "acme").await, raw(&pooler, "umbra").await);
        acme.run("create table notes (body text)").await.unwrap(); // the one server is now acme's
        assert_eq!(umbra.run("select * from notes").await, Err("42P01".to_owned()));
        assert_eq!(acme.run("select * from notes").await.unwrap(), [""; 0]);
    }

    async fn whatever_a_session_leaves_behind_is_gone(db: &Database) {
        let pooler = trusting(db, 1).await;
        db.admin.batch_execute(&format!("create role {0}_r; grant {0}_r to {0}", db.name)).await.unwrap();
        let role = format!("set role {}_r", db.name);
        let left = [
            "set search_path to acme", "select set_config('search_path', 'acme', false)", "do $$ begin perform set_config('search_path', 'acme', false); end $$",
            "begin; set search_path to acme; commit", "set session characteristics as transaction read only", "set statement_timeout = '7s'",
            "set default_transaction_deferrable = on", "set default_transaction_isolation = serializable",
            "create temp table who (name text)", "prepare p as select 1", "listen c", "select pg_advisory_lock(1)",
            "declare c cursor with hold for select 1", "set client_encoding = 'LATIN1'", "set standard_conforming_strings = off",
            "set app.secret = 'acme'", role.as_str(), "set bytea_output = 'escape'",
        ];
        let probe = "select array_to_string(array[current_setting('search_path'), current_user::text, current_setting('statement_timeout'), \
            current_setting('default_transaction_read_only'), current_setting('default_transaction_deferrable'), \
            current_setting('default_transaction_isolation'), current_setting('client_encoding'), current_setting('standard_conforming_strings'), \
            coalesce(current_setting('app.secret', true), ''), current_setting('bytea_output'), \
            (select count(*) from pg_prepared_statements)::text, (select count(*) from pg_cursors where is_holdable)::text, \
            (select count(*) from pg_listening_channels())::text, (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid())::text, \
            (select name from who limit 1)], ' ')";
        let clean = raw(&pooler, "umbra").await.run(probe).await.unwrap();
        for sql in left {
            let mut acme = raw(&pooler, "acme").await;
            acme.run(sql).await.unwrap_or_else(|code| panic!("{sql}: {code}"));
            drop(acme);
            let mut umbra = raw(&pooler, "umbra").await;
            assert_eq!(umbra.run(probe).await.unwrap(), clean, "after {sql}");
        }
    }

    async fn a_function_that_hides_a_set_config_stays_inside_its_tenant(db: &Database) {
        let pooler = trusting(db, 1).await;
        db.admin.batch_execute("create function public.sneaky() returns text language sql as $$ select set_config('search_path', 'acme', false) $$").await.unwrap();
        let mut acme = raw(&pooler, "acme").await;
        acme.run("select public.sneaky()").await.unwrap();
        let mut umbra = raw(&pooler, "umbra").await;
        assert_eq!(umbra.run("select name from who").await.unwrap(), ["umbra"]);
    }

    async fn a_role_tenant_does_not_keep_anothers_role(db: &Database) {
        let name = &db.name;
        db.admin.batch_execute(&format!("create role {name}_a; create role {name}_b; grant {name}_a, {name}_b to {name}")).await.unwrap();
        let toml = format!("{}[auth]\ntype = \"trust\"\n[tenancy]\ntenant_from = [\"user:.\"]\n[tenants.a]\nrole = \"{name}_a\"\n[tenants.b]\nrole = \"{name}_b\"\n[tenants.none]\n", db.toml(1));
        let pooler = protocol_tests::Pooler::start(&toml).await;
        let mut clients = Vec::new();
        for (tenant, role) in [("a", format!("{name}_a")), ("b", format!("{name}_b")), ("none", name.clone())] {
            clients.push((raw(&pooler, tenant).await, role));
        }
        for round in 0..6 {
            let (wire, role) = &mut clients[(round * 2) % 3];
            assert_eq!(wire.run("select current_user").await.unwrap(), [role.as_str()]);
        }
    }
}
