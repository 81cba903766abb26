//! Sessions that keep their servers (pinned, or in session mode) while their tenants change, move and go.

use protocol_tests::wire::query;
use protocol_tests::{Database, Pooler, Wire, on_both};

use crate::living_tenants::{last_word, pooler};
use crate::raw;

/// A pinned session, one in session mode, and one that is pinned and in a transaction.
async fn keepers(pooler: &Pooler) -> [Wire; 3] {
    let mut pinned = raw(pooler, "acme").await;
    pinned.run("listen news").await.unwrap();
    let mode = [("user", "app.acme"), ("options", "-c tenantry.pool_mode=session")];
    let mut whole = Wire::login(pooler.port, &mode).await;
    whole.run("select 1").await.unwrap();
    let mut busy = raw(pooler, "acme").await;
    busy.run("create temporary table t (n int)").await.unwrap();
    busy.run("begin").await.unwrap();
    [pinned, whole, busy]
}

const ACME: &str = "[tenants.acme]\n";

async fn end_with(db: &Database, state: &str, sqlstate: &str) {
    let pooler = pooler(db, 4, "[tenants.acme]\n[tenants.umbra]\n").await;
    let [mut pinned, mut whole, mut busy] = keepers(&pooler).await;
    pooler.reload(1, |text| text.replace(ACME, state)).await;
    for wire in [&mut pinned, &mut whole] {
        assert_eq!(last_word(wire).await.0, sqlstate, "{state}");
    }
    busy.run("insert into who values ('before')").await.unwrap();
    // The next transaction waits behind the end of this one, and does not begin.
    let mut both = query("commit");
    both.extend(query("insert into who values ('after')"));
    busy.send(&both).await;
    let (_, status) = busy.until_ready().await;
    assert_eq!(status, 'I');
    assert_eq!(last_word(&mut busy).await.0, sqlstate, "{state}");
    let written = "select count(*) from acme.who where name in ('before', 'after')";
    let written: i64 = db.admin.query_one(written, &[]).await.unwrap().get(0);
    assert_eq!(written, 1, "{state}");
    // What they kept is clean and serves others.
    let mut umbra = raw(&pooler, "umbra").await;
    assert_eq!(umbra.run("select name from who").await.unwrap(), ["umbra"]);
    let listening = umbra.run("select count(*) from pg_listening_channels()").await.unwrap();
    assert_eq!(listening, ["0"]);
}

on_both! {
    async fn they_end_between_transactions_when_the_tenant_is_suspended(db: &Database) {
        end_with(db, "[tenants.acme]\nstate = \"suspended\"\n", "57P03").await;
    }

    async fn when_it_is_draining(db: &Database) {
        end_with(db, "[tenants.acme]\nstate = \"draining\"\n", "57P03").await;
    }

    async fn when_it_is_gone(db: &Database) {
        end_with(db, "", "3D000").await;
    }

    async fn when_it_is_read_only(db: &Database) {
        end_with(db, "[tenants.acme]\nstate = \"read_only\"\n", "57P01").await;
    }

    async fn when_it_lives_elsewhere(db: &Database) {
        end_with(db, "[tenants.acme]\nschema = \"umbra\"\n", "57P01").await;
    }

    async fn other_quotas_are_no_reason_to_end(db: &Database) {
        let pooler = pooler(db, 4, "[tenants.acme]\n[tenants.umbra]\n").await;
        let [mut pinned, mut whole, mut busy] = keepers(&pooler).await;
        pooler.reload(1, |text| text.replace(ACME, "[tenants.acme]\nweight = 3\nmax_pin_time = \"1h\"\n")).await;
        assert_eq!(busy.run("insert into t values (1); commit; select n from t").await.unwrap(), ["1"]);
        assert_eq!(pinned.run("select pg_listening_channels()").await.unwrap(), ["news"]);
        whole.run("select 1").await.unwrap();
    }

    async fn they_wait_while_the_tenant_is_paused_and_go_on_as_they_were(db: &Database) {
        let pooler = pooler(db, 4, "[tenants.acme]\n[tenants.umbra]\n").await;
        let [mut pinned, mut whole, mut busy] = keepers(&pooler).await;
        let paused = "[tenants.acme]\nstate = \"paused\"\n";
        pooler.reload(1, |text| text.replace(ACME, paused)).await;
        let insert = query("insert into who values ('paused')");
        for wire in [&mut pinned, &mut whole] {
            wire.send(&insert).await;
        }
        busy.run("insert into t values (1)").await.unwrap();
        let mut both = query("commit");
        both.extend(&insert);
        busy.send(&both).await;
        assert_eq!(busy.until_ready().await.1, 'I');
        // All three keep a server; no transaction is under way: here an operator copies the data.
        pooler.until_message(1, "the tenant is paused, and none of its transactions is under way").await;
        let mut all = [pinned, whole, busy];
        for wire in &mut all {
            assert!(wire.is_silent().await);
        }
        let count = "select count(*) from acme.who where name = 'paused'";
        let written: i64 = db.admin.query_one(count, &[]).await.unwrap().get(0);
        assert_eq!(written, 0);
        pooler.reload(2, |text| text.replace(paused, ACME)).await;
        for wire in &mut all {
            wire.until_ready().await;
        }
        let written: i64 = db.admin.query_one(count, &[]).await.unwrap().get(0);
        assert_eq!(written, 3);
        assert_eq!(all[0].run("select pg_listening_channels()").await.unwrap(), ["news"]);
        assert_eq!(all[2].run("select n from t").await.unwrap(), ["1"]);
    }

    async fn they_hide_no_transaction_from_the_operator(db: &Database) {
        let pooler = pooler(db, 5, "[tenants.acme]\n[tenants.umbra]\n").await;
        let [pinned, whole, mut busy] = keepers(&pooler).await;
        let mut plain = raw(&pooler, "acme").await;
        plain.run("begin; insert into who values ('late')").await.unwrap();
        pooler.reload(1, |text| text.replace(ACME, "[tenants.acme]\nstate = \"paused\"\n")).await;
        // One asks for something, is killed or leaves, and one ends its transaction and leaves.
        for mut wire in [pinned, whole] {
            wire.send(&query("select 1")).await;
            assert!(wire.is_silent().await);
        }
        let kill = "select count(pg_terminate_backend(pid)) from pg_stat_activity where state = 'idle' and pid <> pg_backend_pid() and usename = $1";
        busy.run("commit").await.unwrap();
        db.admin.query_one(kill, &[&db.name]).await.unwrap();
        while busy.next().await.is_some() {}
        plain.run("select 1").await.unwrap();
        assert_eq!(pooler.messages("the tenant is paused, and none of its transactions is under way"), 0);
        plain.run("commit").await.unwrap();
        pooler.until_message(1, "the tenant is paused, and none of its transactions is under way").await;
    }

    async fn who_waits_so_for_too_long_is_told(db: &Database) {
        let pooler = pooler(db, 4, "[tenants.acme]\n[tenants.umbra]\n").await;
        let [mut pinned, mut whole, _busy] = keepers(&pooler).await;
        let paused = "[tenants.acme]\nstate = \"paused\"\nquery_wait_timeout = \"50ms\"\n";
        pooler.reload(1, |text| text.replace(ACME, paused)).await;
        pinned.send(&query("insert into who values ('paused')")).await;
        let (sqlstate, message) = last_word(&mut pinned).await;
        assert_eq!((sqlstate.as_str(), message.as_str()), ("57P03", "tenant \"acme\" is paused"));
        // Who has asked for nothing has not waited.
        pooler.reload(2, |text| text.replace(paused, ACME)).await;
        whole.run("select 1").await.unwrap();
    }
}
