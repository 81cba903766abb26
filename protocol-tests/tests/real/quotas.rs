//! Limits hold at every moment, and a loud tenant does not starve a quiet one.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use protocol_tests::cluster::PASSWORD;
use protocol_tests::wire::{V3_0, query, startup};
use protocol_tests::{Database, Pooler, Wire, on_both};

use crate::raw;

async fn limited(db: &Database, general: &str, servers: usize, tenants: &str) -> Pooler {
    db.schemas(&["acme", "umbra"]).await;
    let toml = format!(
        "{}[auth]\ntype = \"trust\"\n[tenancy]\ntenant_from = [\"user:.\"]\nschema = \"{{tenant}}\"\n{tenants}",
        db.toml(servers)
    );
    Pooler::start_with(general, &toml).await
}

async fn refused(pooler: &Pooler, tenant: &str) -> (String, String) {
    let mut wire = Wire::open(pooler.port).await;
    wire.send(&startup(V3_0, &[("user", &format!("app.{tenant}"))])).await;
    let mut message = wire.receive().await;
    if message.tag == 'R' {
        message = wire.receive().await;
    }
    (message.field('C'), message.field('M'))
}

on_both! {
    async fn clients_beyond_the_limits_are_refused_at_once(db: &Database) {
        let pooler = limited(db, "max_client_conn = 3", 2, "[tenants.acme]\nmax_client_connections = 2\n[tenants.umbra]\n").await;
        let mut clients = vec![raw(&pooler, "acme").await, raw(&pooler, "acme").await];
        assert_eq!(refused(&pooler, "acme").await, ("53300".to_owned(), "too many connections for tenant \"acme\"".to_owned()));
        clients.push(raw(&pooler, "umbra").await);
        assert_eq!(refused(&pooler, "umbra").await, ("53300".to_owned(), "sorry, too many clients already".to_owned()));
        // A cancel is not a client.
        Wire::cancel(pooler.port, clients[0].pid, &clients[0].key).await;
        drop(clients.pop());
        let again = async { loop { if refused_or_in(&pooler, "umbra").await { break } } };
        protocol_tests::soon("room for another client", again).await;
    }

    async fn a_tenant_never_has_more_servers_than_its_limit(db: &Database) {
        let pooler = limited(db, "", 4, "[tenants.acme]\nmax_server_connections = 2\n[tenants.umbra]\n").await;
        let mut quiet = raw(&pooler, "umbra").await;
        let mut busy = Vec::new();
        for _ in 0..5 {
            let mut wire = raw(&pooler, "acme").await;
            wire.send(&query("begin; select name from who")).await;
            busy.push(wire);
        }
        pooler.until_message(3, "client waits for a server").await;
        db.until("state = 'idle in transaction'", 2).await;
        assert_eq!(quiet.run("select name from who").await.unwrap(), ["umbra"], "others are not affected");
        for wire in &mut busy {
            wire.until_ready().await;
            assert!(db.count("state = 'idle in transaction'").await <= 2);
            wire.run("commit").await.unwrap();
        }
    }

    async fn what_a_tenant_is_guaranteed_nobody_else_gets_while_it_has_clients(db: &Database) {
        let pooler = limited(db, "", 3, "[tenants.acme]\nmax_server_connections = 3\n[tenants.umbra]\nguaranteed_server_connections = 2\n").await;
        let (mut one, mut two, mut three) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await, raw(&pooler, "acme").await);
        let mut gold = raw(&pooler, "umbra").await;
        one.run("begin").await.unwrap();
        two.send(&query("begin")).await;
        pooler.until_message(1, "client waits for a server").await;
        // Two servers rest, or could be opened: they are umbra's.
        gold.run("begin").await.unwrap();
        assert_eq!(gold.run("select name from who").await.unwrap(), ["umbra"]);
        gold.run("commit").await.unwrap();
        three.send(&query("select name from who")).await;
        pooler.until_message(2, "client waits for a server").await;
        // With umbra's last client its guarantee ends.
        drop(gold);
        two.until_ready().await;
        let (messages, _) = three.until_ready().await;
        assert!(messages.iter().any(|message| message.tag == 'D'));
    }

    /// Without any quota that is written. One client of each other tenant is served meanwhile.
    async fn by_default_the_open_transactions_of_one_tenant_stop_nobody_else(db: &Database) {
        let pooler = limited(db, "", 5, "[tenants.acme]\n[tenants.umbra]\n[tenants.third]\n").await;
        let mut open = Vec::new();
        for _ in 0..5 {
            let mut wire = raw(&pooler, "acme").await;
            wire.send(&query("begin")).await;
            open.push(wire);
        }
        for wire in &mut open[..4] {
            wire.until_ready().await;
        }
        pooler.until_message(1, "client waits for a server").await;
        let mut umbra = raw(&pooler, "umbra").await;
        for _ in 0..20 {
            assert_eq!(umbra.run("select name from who").await.unwrap(), ["umbra"]);
        }
        let told = Command::new(protocol_tests::pooler::binary()).args(["check", "--tenant", "acme"])
            .arg(pooler.directory.path().join("tenantry.toml")).output().unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        for (key, value) in [("max_server_connections", "4"), ("query_wait_timeout", "30s"), ("idle_transaction_timeout", "60s")] {
            let line = told.lines().find(|line| line.contains(key)).unwrap_or_else(|| panic!("{key} in {told}"));
            assert!(line.contains(value) && line.contains("default"), "{line}");
        }
    }

    /// 0 is no limit.
    async fn who_waits_in_vain_is_told_who_holds_the_servers_and_how(db: &Database) {
        let pooler = limited(db, "", 3, "[tenants.acme]\n[tenants.umbra]\nquery_wait_timeout = \"200ms\"\nidle_transaction_timeout = 0\n").await;
        let (mut idle, mut pinned, mut own, mut waits) =
            (raw(&pooler, "acme").await, raw(&pooler, "acme").await, raw(&pooler, "umbra").await, raw(&pooler, "umbra").await);
        let mut told = async || {
            waits.send(&query("select 1")).await;
            let (messages, _) = waits.until_ready().await;
            assert_eq!(messages[0].field('C'), "53300");
            messages[0].field('D').clone()
        };
        pinned.run("listen news").await.unwrap();
        idle.run("begin").await.unwrap();
        own.run("begin").await.unwrap();
        let detail = told().await;
        assert!(detail.contains("The tenant has 1 of 2 server connections, the cluster 3 of 3. 2 of 3 servers are"), "{detail}");
        assert!(detail.contains(" of tenant \"acme\", the oldest "), "{detail}");
        pinned.run("unlisten *").await.unwrap();
        drop(pinned);
        idle.run("commit").await.unwrap();
        // Now it is its own limit.
        let mut busy = raw(&pooler, "umbra").await;
        busy.send(&query("select pg_sleep(3600)")).await;
        let at_work = "select count(*) from pg_stat_activity where query like 'select pg_sleep(3600)%' and usename = $1";
        while db.admin.query_one(at_work, &[&db.name]).await.unwrap().get::<_, i64>(0) == 0 {}
        let detail = told().await;
        assert!(detail.starts_with("The tenant has 2 of 2 server connections, the cluster "), "{detail}");
        assert!(detail.contains("2 of 3 servers are in transactions of tenant \"umbra\", the oldest idle for "), "{detail}");
        own.run("commit").await.unwrap();
        own.run("select 1").await.unwrap();
    }

    async fn a_wait_that_is_too_long_or_a_queue_that_is_full_is_an_error_and_the_session_stays(db: &Database) {
        let pooler = limited(db, "", 1, "[tenants.acme]\n[tenants.umbra]\nquery_wait_timeout = \"200ms\"\nmax_waiting_clients = 1\n").await;
        let (mut holder, mut first, mut second) = (raw(&pooler, "acme").await, raw(&pooler, "umbra").await, raw(&pooler, "umbra").await);
        holder.run("begin").await.unwrap();
        first.send(&query("select name from who")).await;
        pooler.until_message(1, "client waits for a server").await;
        second.send(&query("select name from who")).await;
        let (messages, status) = second.until_ready().await;
        let error = &messages[0];
        assert_eq!((error.field('S').as_str(), error.field('C').as_str(), status), ("ERROR", "53300", 'I'));
        assert_eq!(error.field('M'), "too many clients of tenant \"umbra\" wait for a server");
        let (messages, status) = first.until_ready().await;
        let error = &messages[0];
        assert_eq!((error.field('S').as_str(), error.field('C').as_str(), status), ("ERROR", "53300", 'I'));
        assert_eq!(error.field('M'), "query_wait_timeout: no server connection for tenant \"umbra\" within 200ms");
        assert_eq!(error.field('D'), "The tenant has 0 of 1 server connections, the cluster 1 of 1. \
            1 of 1 servers are in transactions of tenant \"acme\", the oldest idle for 0 s.");
        holder.run("commit").await.unwrap();
        for wire in [&mut first, &mut second] {
            assert_eq!(wire.run("select name from who").await.unwrap(), ["umbra"]);
        }
    }

    async fn tenants_take_turns(db: &Database) {
        let pooler = limited(db, "", 1, "[tenants.acme]\n[tenants.umbra]\n").await;
        let mut quiet = raw(&pooler, "umbra").await;
        let mut loud = Vec::new();
        for _ in 0..10 {
            loud.push(raw(&pooler, "acme").await);
        }
        let mut holder = raw(&pooler, "acme").await;
        holder.run("begin").await.unwrap();
        db.admin.batch_execute(&format!("create sequence turns; grant all on sequence turns to {}", db.name)).await.unwrap();
        for wire in &mut loud {
            wire.send(&query("select nextval('public.turns')")).await;
        }
        pooler.until_message(10, "client waits for a server").await;
        quiet.send(&query("select nextval('public.turns')")).await;
        pooler.until_message(11, "client waits for a server").await;
        holder.run("commit").await.unwrap();
        let turn: u32 = quiet.until_ready().await.0[1].text().parse().unwrap();
        assert!(turn <= 2, "served as number {turn} of 11");
    }

    async fn databases_share_one_budget_and_idle_servers_make_room(db: &Database) {
        db.admin.batch_execute(&format!("create role {0}_b login password '{PASSWORD}'; grant {0} to {0}_b", db.name)).await.unwrap();
        let tenants = format!("[tenants.acme]\n[tenants.umbra]\nuser = \"{}_b\"\npassword = \"{PASSWORD}\"\n", db.name);
        db.schemas(&[]).await;
        let pooler = limited(db, "", 1, &tenants).await;
        let (mut a, mut b) = (raw(&pooler, "acme").await, raw(&pooler, "umbra").await);
        db.admin.batch_execute(&format!("grant usage on schema umbra to {0}_b; grant select on umbra.who to {0}_b", db.name)).await.unwrap();
        for _ in 0..3 {
            assert_eq!(a.run("select name from who").await.unwrap(), ["acme"]);
            assert!(db.backends().await <= 2, "the one that leaves may still be saying goodbye");
            assert_eq!(b.run("select name from who").await.unwrap(), ["umbra"]);
        }
        db.until("true", 1).await;
    }

    async fn a_login_that_waits_for_a_server_ends_with_its_client(db: &Database) {
        let pooler = limited(db, "", 1, "[tenants.acme]\n[tenants.umbra]\nquery_wait_timeout = \"1h\"\n").await;
        let mut holder = raw(&pooler, "acme").await;
        holder.run("begin").await.unwrap();
        // Its tenant's first: it asks the one server, which is taken.
        let mut login = Wire::open(pooler.port).await;
        login.send(&startup(V3_0, &[("user", "app.umbra")])).await;
        drop(login);
        pooler.until_log(1, |line| line["sqlstate"] == "08P01" && line["user"] == "app.umbra").await;
        holder.run("commit").await.unwrap();
        assert_eq!(raw(&pooler, "umbra").await.run("select name from who").await.unwrap(), ["umbra"]);
    }

    async fn a_pool_whose_servers_are_all_busy_gets_its_turn_of_the_budget(db: &Database) {
        db.admin.batch_execute(&format!("create role {0}_b login password '{PASSWORD}'; grant {0} to {0}_b", db.name)).await.unwrap();
        let b = format!("user = \"{}_b\"\npassword = \"{PASSWORD}\"\nquery_wait_timeout = \"1h\"\n", db.name);
        let pooler = limited(db, "", 2, &format!("[tenants.acme]\n[tenants.umbra]\n{b}[tenants.third]\nschema = \"umbra\"\n{b}")).await;
        db.admin.batch_execute(&format!("grant usage on schema umbra to {0}_b; grant select on umbra.who to {0}_b", db.name)).await.unwrap();
        let mut holder = raw(&pooler, "umbra").await;
        holder.run("begin").await.unwrap();
        // The other server is never idle for longer than it takes to hand it on.
        let stop = Arc::new(AtomicBool::new(false));
        let mut busy = tokio::task::JoinSet::new();
        for _ in 0..3 {
            let (mut wire, stop) = (raw(&pooler, "acme").await, Arc::clone(&stop));
            busy.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(wire.run("select name from who").await.unwrap(), ["acme"]);
                }
            });
        }
        assert_eq!(raw(&pooler, "third").await.run("select name from who").await.unwrap(), ["umbra"]);
        stop.store(true, Ordering::Relaxed);
        while let Some(ended) = busy.join_next().await {
            ended.unwrap();
        }
    }
}

async fn refused_or_in(pooler: &Pooler, tenant: &str) -> bool {
    let mut wire = Wire::open(pooler.port).await;
    wire.send(&startup(V3_0, &[("user", &format!("app.{tenant}"))])).await;
    loop {
        match wire.receive().await.tag {
            'E' => return false,
            'Z' => return true,
            _ => {}
        }
    }
}
