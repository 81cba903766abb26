//! Tenants that live in a table come and go with their rows.

use protocol_tests::database::connect;
use protocol_tests::on_both;

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
}
