//! Tenants that live in a table come and go with their rows.

use protocol_tests::database::connect;
use protocol_tests::{Pooler, on_both};

use crate::living_tenants::{last_word, pooler};
use crate::raw;

on_both! {
    async fn a_row_in_the_registry_is_a_tenant_and_goes_with_it(db: &protocol_tests::Database) {
        let sql = format!("create table public.customers (name text primary key, plan text, servers int, state text); grant select on public.customers to {}; insert into public.customers values ('acme', 'small', null, null), ('Bad Name', 'small', null, null), ('odd', 'no such plan', null, null)", db.name);
        db.admin.batch_execute(&sql).await.unwrap();
        let registry = "[classes.small]\nmax_waiting_clients = 3\n[registry]\nquery = \"select name as tenant, plan as class, servers as max_server_connections, state from public.customers\"\nrefresh = \"200ms\"\n";
        let pooler = pooler(db, 2, registry).await;
        let mut acme = raw(&pooler, "acme").await;
        assert_eq!(acme.run("select name from who").await.unwrap(), ["acme"]);
        pooler.until_log(1, |log| log["problem"].as_str().is_some_and(|text| text.contains("not a tenant's name"))).await;
        pooler.until_log(1, |log| log["path"] == "registry.odd.class").await;
        let refused = |tenant: &str| {
            let url = pooler.url(&format!("app.{tenant}"), "");
            async move { connect(&url).await.unwrap_err().as_db_error().unwrap().code().code().to_owned() }
        };
        assert_eq!(refused("umbra").await, "3D000");
        db.admin.batch_execute("insert into public.customers values ('umbra', null, 1, null)").await.unwrap();
        pooler.until_log(1, |log| log["changed"] == "registry.umbra").await;
        let mut umbra = raw(&pooler, "umbra").await;
        assert_eq!(umbra.run("select name from who").await.unwrap(), ["umbra"]);
        // While it cannot be asked, what it said last holds.
        db.admin.batch_execute("alter table public.customers rename to gone").await.unwrap();
        pooler.until_message(1, "the registry cannot be asked: what it said last holds").await;
        assert_eq!(raw(&pooler, "umbra").await.run("select name from who").await.unwrap(), ["umbra"]);
        pooler.reload(3, str::to_owned).await;
        assert_eq!(raw(&pooler, "umbra").await.run("select name from who").await.unwrap(), ["umbra"], "nor does a reload forget it");
        db.admin.batch_execute("alter table public.gone rename to customers; delete from public.customers where name = 'umbra'; update public.customers set state = 'suspended' where name = 'acme'").await.unwrap();
        assert_eq!(last_word(&mut umbra).await.0, "3D000");
        assert_eq!(last_word(&mut acme).await.0, "57P03");
        assert_eq!(refused("umbra").await, "3D000");
    }

    async fn a_column_of_the_tables_own_is_ignored_and_too_many_guarantees_are_said(db: &protocol_tests::Database) {
        let sql = format!("create table public.customers (tenant text, guaranteed_server_connections int, notes text); grant select on public.customers to {}; insert into public.customers values ('acme', 1, 'pays late'), ('umbra', 1, null)", db.name);
        db.admin.batch_execute(&sql).await.unwrap();
        let pooler = pooler(db, 2, "[registry]\nquery = \"select * from public.customers\"\n").await;
        assert_eq!(raw(&pooler, "acme").await.run("select name from who").await.unwrap(), ["acme"]);
        let ignored = pooler.until_message(1, "columns of the registry that are no settings of a tenant are ignored").await;
        assert_eq!(ignored["columns"], "notes");
        let said = pooler.until_message(1, "more is guaranteed than can be kept: those whose clients come first have it").await;
        assert_eq!((said["guaranteed"].as_u64(), said["max_server_connections"].as_u64()), (Some(2), Some(2)));
    }

    async fn a_question_that_hangs_leaves_no_backend_behind(db: &protocol_tests::Database) {
        let sql = format!("create table public.customers (tenant text); grant select on public.customers to {}; insert into public.customers values ('acme')", db.name);
        db.admin.batch_execute(&sql).await.unwrap();
        let registry = "[registry]\nquery = \"select tenant from public.customers\"\nrefresh = \"100ms\"\n";
        let toml = format!("{}[auth]\ntype = \"trust\"\n[tenancy]\ntenant_from = [\"user:.\"]\nschema = \"{{tenant}}\"\n{registry}", db.toml(2));
        db.schemas(&["acme"]).await;
        let pooler = Pooler::start(&toml.replace("[clusters.main]\n", "[clusters.main]\nserver_connect_timeout = \"500ms\"\n")).await;
        raw(&pooler, "acme").await.run("select 1").await.unwrap();
        db.admin.batch_execute("begin; lock public.customers in access exclusive mode").await.unwrap();
        pooler.until_message(3, "the registry cannot be asked: what it said last holds").await;
        let hanging = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%public.customers%'";
        let other = connect(&db.direct_as_admin(&db.name)).await.unwrap();
        let count: i64 = other.query_one(hanging, &[]).await.unwrap().get(0);
        // One that was given up may be on its way out, and the next one asks already.
        assert!(count <= 2, "{count}");
        db.admin.batch_execute("rollback").await.unwrap();
    }
}
