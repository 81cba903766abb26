//! Tenants come, change, move and go while their clients stay connected.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use protocol_tests::database::connect;
use protocol_tests::wire::{V3_0, query, startup};
use serde_json::Value;
use tokio::task::JoinSet;

use protocol_tests::{Cluster, Database, Pooler, Wire, on_both, soon};

use crate::raw;

const BY_USER: &str =
    "[auth]\ntype = \"trust\"\n[tenancy]\ntenant_from = [\"user:.\"]\nschema = \"{tenant}\"\n";

pub(crate) async fn pooler(db: &Database, servers: usize, tenants: &str) -> Pooler {
    db.schemas(&["acme", "umbra"]).await;
    Pooler::start(&format!("{}{BY_USER}{tenants}", db.toml(servers))).await
}

/// Its last word: SQLSTATE and text of a FATAL error.
pub(crate) async fn last_word(wire: &mut Wire) -> (String, String) {
    let message = wire.receive().await;
    assert_eq!((message.tag, message.field('S').as_str()), ('E', "FATAL"));
    (message.field('C'), message.field('M'))
}

fn word(sqlstate: &str, text: &str) -> (String, String) {
    (sqlstate.to_owned(), text.to_owned())
}

on_both! {
    async fn a_tenant_that_is_suspended_drained_or_gone_ends_with_its_transactions(db: &Database) {
        let pooler = pooler(db, 3, "[tenants.acme]\n[tenants.umbra]\n").await;
        for (at, state, end) in [
            (1, "state = \"suspended\"\nmessage = \"pay\"", word("57P03", "tenant \"acme\" is suspended")),
            (3, "state = \"draining\"", word("57P03", "tenant \"acme\" is draining")),
            (5, "", word("3D000", "tenant \"acme\" does not exist")),
        ] {
            let (mut idle, mut busy, mut other) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await, raw(&pooler, "umbra").await);
            busy.run("begin").await.unwrap();
            let changed = if state.is_empty() { String::new() } else { format!("[tenants.acme]\n{state}\n") };
            pooler.reload(at, |text| text.replace("[tenants.acme]\n", &changed)).await;
            assert_eq!(last_word(&mut idle).await, end, "an idle session hears it at once");
            assert_eq!(busy.run("select name from who").await.unwrap(), ["acme"], "a transaction ends as it would have");
            busy.run("commit").await.unwrap();
            assert_eq!(last_word(&mut busy).await, end);
            assert_eq!(other.run("select name from who").await.unwrap(), ["umbra"]);
            let refused = connect(&pooler.url("app.acme", "")).await.unwrap_err();
            assert_eq!(refused.as_db_error().unwrap().code().code(), end.0);
            if !state.is_empty() {
                pooler.reload(at + 1, |text| text.replace(&changed, "[tenants.acme]\n")).await;
            }
        }
        // It comes again, as anybody new does.
        pooler.reload(6, |text| format!("{text}\n[tenants.acme]\n")).await;
        assert_eq!(raw(&pooler, "acme").await.run("select name from who").await.unwrap(), ["acme"]);
    }

    async fn quotas_and_session_state_change_with_the_next_transaction(db: &Database) {
        let pooler = pooler(db, 2, "[classes.small]\nmax_server_connections = 1\n[tenants.acme]\nclass = \"small\"\n").await;
        let (mut one, mut two) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await);
        one.run("set work_mem = '1234kB'").await.unwrap();
        one.run("begin").await.unwrap();
        two.send(&query("select name from who")).await;
        pooler.until_message(1, "client waits for a server").await;
        // One more server: who waits gets it.
        pooler.reload(1, |text| text.replace("[classes.small]\nmax_server_connections = 1", "[classes.small]\nmax_server_connections = 2")).await;
        two.until_ready().await;
        pooler.reload(2, |text| text.replace("schema = \"{tenant}\"", "schema = \"{tenant}\"\nsettings = { \"app.tier\" = \"gold\", work_mem = \"8MB\" }")).await;
        assert_eq!(one.run("select current_setting('app.tier', true)").await.unwrap(), [""], "not in the middle of a transaction");
        one.run("commit").await.unwrap();
        assert_eq!(one.run("select current_setting('app.tier') || ' ' || current_setting('work_mem')").await.unwrap(), ["gold 1234kB"], "what the client has set stays");
        assert_eq!(two.run("select current_setting('app.tier') || ' ' || current_setting('work_mem')").await.unwrap(), ["gold 8MB"]);
        one.run("reset work_mem").await.unwrap();
        assert_eq!(one.run("show work_mem").await.unwrap(), ["8MB"]);
    }

    async fn a_read_only_tenant_does_not_write(db: &Database) {
        let pooler = pooler(db, 2, "[tenants.acme]\n[tenants.umbra]\n").await;
        let (mut acme, mut umbra) = (raw(&pooler, "acme").await, raw(&pooler, "umbra").await);
        acme.run("insert into who values ('more')").await.unwrap();
        pooler.reload(1, |text| text.replace("[tenants.acme]\n", "[tenants.acme]\nstate = \"read_only\"\n")).await;
        for wire in [&mut acme, &mut raw(&pooler, "acme").await] {
            assert_eq!(wire.run("insert into who values ('more')").await.unwrap_err(), "25006");
            assert_eq!(wire.run("select count(*) from who").await.unwrap(), ["2"]);
        }
        umbra.run("insert into who values ('more')").await.unwrap();
        pooler.reload(2, |text| text.replace("state = \"read_only\"\n", "")).await;
        acme.run("insert into who values ('more')").await.unwrap();
    }

    /// Pause -> move -> resume, under load: no client sees an error, and no transaction runs in the new
    /// place before the last one has ended in the old.
    async fn a_paused_tenant_moves_to_another_database_without_an_error(db: &Database) {
        let target = Database::create_on(db.major, db.port).await;
        target.schemas(&["acme"]).await;
        target.admin.batch_execute("delete from acme.who").await.unwrap();
        db.admin.batch_execute(&format!("grant all on database {} to {}", target.name, db.name)).await.unwrap();
        target.admin.batch_execute(&format!("grant all on schema acme to {0}; grant all on acme.who to {0}", db.name)).await.unwrap();
        let pooler = pooler(db, 3, "[tenants.acme]\n[tenants.umbra]\n").await;
        moves(db, &target, &pooler, &format!("database = \"{}\"\n", target.name)).await;
    }

    async fn and_to_another_cluster(db: &Database) {
        let other = Cluster::start(db.major, "");
        let target = Database::create_on(db.major, other.port).await;
        target.schemas(&["acme"]).await;
        target.admin.batch_execute("delete from acme.who").await.unwrap();
        let pooler = pooler(db, 3, "cluster = \"main\"\n[tenants.acme]\n[tenants.umbra]\n").await;
        let second = format!(
            "[clusters.second]\nhost = \"127.0.0.1\"\nport = {}\nuser = \"{}\"\npassword = \"pw\"\ndatabase = \"{}\"\n",
            other.port, target.name, target.name
        );
        pooler.reload(1, |text| format!("{text}\n{second}")).await;
        moves_from(1, db, &target, &pooler, "cluster = \"second\"\n").await;
    }

    async fn a_place_without_the_tenants_schema_is_refused_and_not_taken_for_public(db: &Database) {
        let target = Database::create_on(db.major, db.port).await;
        target.admin.batch_execute(&format!("create table public.who (name text); insert into public.who values ('public'); grant all on public.who to {0}; grant all on database {1} to {0}", db.name, target.name)).await.unwrap();
        let pooler = pooler(db, 2, "search_path = [\"{tenant}\", \"public\"]\n[tenants.acme]\n[tenants.umbra]\n").await;
        let mut acme = raw(&pooler, "acme").await;
        assert_eq!(acme.run("select name from who").await.unwrap(), ["acme"]);
        pooler.reload(1, |text| text.replace("[tenants.acme]\n", &format!("[tenants.acme]\ndatabase = \"{}\"\n", target.name))).await;
        for _ in 0..2 {
            assert_eq!(acme.run("select name from who").await.unwrap_err(), "3F000");
        }
        pooler.reload(2, |text| text.replace(&format!("database = \"{}\"\n", target.name), "")).await;
        assert_eq!(acme.run("select name from who").await.unwrap(), ["acme"], "the session has stayed");
    }

    async fn tenants_that_swap_their_schemas_see_the_new_ones_from_then_on(db: &Database) {
        let swapped = "[tenants.acme]\nschema = \"umbra\"\n[tenants.umbra]\nschema = \"acme\"\n";
        let pooler = pooler(db, 2, "[tenants.acme]\n[tenants.umbra]\n").await;
        let (mut acme, mut umbra) = (raw(&pooler, "acme").await, raw(&pooler, "umbra").await);
        for wire in [&mut acme, &mut umbra] {
            wire.run("prepare p as select name from who").await.unwrap();
        }
        for round in 0..4 {
            let own = if round % 2 == 0 { ["acme", "umbra"] } else { ["umbra", "acme"] };
            for (wire, own) in [(&mut acme, own[0]), (&mut umbra, own[1])] {
                for sql in ["select name from who", "execute p", "begin; select name from who; commit"] {
                    assert_eq!(wire.run(sql).await.unwrap(), [own], "{round}: {sql}");
                }
            }
            let (from, to) = if round % 2 == 0 { ("[tenants.acme]\n[tenants.umbra]\n", swapped) } else { (swapped, "[tenants.acme]\n[tenants.umbra]\n") };
            pooler.reload(round + 1, |text| text.replace(from, to)).await;
        }
    }

    async fn who_waits_at_a_cluster_that_is_taken_away_is_served_where_the_tenant_lives(db: &Database) {
        let second = format!("[clusters.second]\nport = {}\nuser = \"{}\"\npassword = \"pw\"\nmax_server_connections = 1\n", db.port, db.name);
        let pooler = pooler(db, 1, &format!("cluster = \"second\"\n[tenants.acme]\n[tenants.umbra]\n{second}")).await;
        let (mut holder, mut waits, mut idle) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await, raw(&pooler, "umbra").await);
        holder.run("begin").await.unwrap();
        waits.send(&query("select name from who")).await;
        pooler.until_message(1, "client waits for a server").await;
        pooler.reload(1, |text| text.replace("cluster = \"second\"", "cluster = \"main\"").replace(&second, "")).await;
        let (messages, _) = waits.until_ready().await;
        assert!(messages.iter().any(|message| message.tag == 'D' && message.text() == "acme"));
        assert_eq!(holder.run("select name from who").await.unwrap(), ["acme"], "what has begun ends where it began");
        holder.run("commit").await.unwrap();
        for (wire, own) in [(&mut holder, "acme"), (&mut waits, "acme"), (&mut idle, "umbra")] {
            assert_eq!(wire.run("select name from who").await.unwrap(), [own]);
        }
        db.until("true", 1).await;
    }

    async fn a_changed_file_or_a_swapped_configmap_is_read_by_itself(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        let pooler = Pooler::start_with("watch = true", &format!("{}{BY_USER}[tenants.acme]\n", db.toml(2))).await;
        let mut acme = raw(&pooler, "acme").await;
        // As a ConfigMap is mounted: a link to a link to a directory, and that link is swapped.
        let mount = pooler.directory.path().join("tenants.d");
        for (version, text) in [("..v1", ""), ("..v2", "[tenants.umbra]\n"), ("..v3", "[tenants.umbra]\nshema = 1\n"), ("..v4", "[tenants.umbra]\nstate = \"suspended\"\n")] {
            std::fs::create_dir_all(mount.join(version)).unwrap();
            std::fs::write(mount.join(version).join("more.toml"), text).unwrap();
        }
        let swap = |version: &str| {
            std::os::unix::fs::symlink(version, mount.join("..new")).unwrap();
            std::fs::rename(mount.join("..new"), mount.join("..data")).unwrap();
        };
        swap("..v1");
        std::os::unix::fs::symlink("..data/more.toml", mount.join("more.toml")).unwrap();
        pooler.rewrite(|text| format!("include = [\"tenants.d/*.toml\"]\n{text}"));
        pooler.until_message(1, "configuration reloaded").await;
        assert_eq!(connect(&pooler.url("app.umbra", "")).await.unwrap_err().as_db_error().unwrap().code().code(), "3D000");
        swap("..v2");
        let changed = |log: &Value| log["changed"] == "tenants.umbra";
        pooler.until_log(1, changed).await;
        let mut umbra = raw(&pooler, "umbra").await;
        swap("..v3");
        let refused = pooler.until_message(1, "configuration not reloaded: the old one stays").await;
        assert!(refused["error"].as_str().unwrap().contains("tenants.umbra.shema: unknown key; did you mean \"schema\"?"));
        assert_eq!(umbra.run("select name from who").await.unwrap(), ["umbra"]);
        swap("..v4");
        pooler.until_log(2, changed).await;
        assert_eq!(last_word(&mut umbra).await.0, "57P03");
        assert_eq!(acme.run("select name from who").await.unwrap(), ["acme"]);
    }

    async fn the_operator_is_not_told_too_early_wherever_its_clients_are(db: &Database) {
        let second = format!("[clusters.second]\nport = {}\nuser = \"{}\"\npassword = \"pw\"\n", db.port, db.name);
        let pooler = pooler(db, 2, &format!("cluster = \"main\"\n[tenants.acme]\n[tenants.umbra]\n{second}")).await;
        let paused = "[tenants.acme]\nstate = \"paused\"\n";
        let quiet = "the tenant is paused, and none of its transactions is under way";
        // Nobody is there: nothing is under way.
        pooler.reload(1, |text| text.replace("[tenants.acme]\n", paused)).await;
        pooler.until_message(1, quiet).await;
        pooler.reload(2, |text| text.replace(paused, "[tenants.acme]\n")).await;
        // One client stays where the tenant lived before, idle; the other has a transaction where it lives now.
        let (mut idle, mut busy) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await);
        idle.run("select 1").await.unwrap();
        pooler.reload(3, |text| text.replace("[tenants.acme]\n", "[tenants.acme]\ncluster = \"second\"\n")).await;
        busy.run("begin").await.unwrap();
        pooler.reload(4, |text| text.replace("[tenants.acme]\n", paused)).await;
        busy.run("insert into who values ('late')").await.unwrap();
        assert_eq!(pooler.messages(quiet), 1, "a transaction is under way");
        busy.run("commit").await.unwrap();
        pooler.until_message(2, quiet).await;
        idle.send(&query("select name from who")).await;
        assert!(idle.is_silent().await);
        pooler.reload(5, |text| text.replace(paused, "[tenants.acme]\n")).await;
        idle.until_ready().await;
    }

    async fn nor_never_when_a_cluster_was_taken_away_under_a_transaction(db: &Database) {
        let second = format!("[clusters.second]\nport = {}\nuser = \"{}\"\npassword = \"pw\"\n", db.port, db.name);
        let pooler = pooler(db, 2, &format!("cluster = \"second\"\n[tenants.acme]\n[tenants.umbra]\n{second}")).await;
        let mut acme = raw(&pooler, "acme").await;
        acme.run("begin").await.unwrap();
        // Another one keeps its server there.
        let mut kept = raw(&pooler, "acme").await;
        kept.run("listen news").await.unwrap();
        kept.run("begin").await.unwrap();
        pooler.reload(1, |text| text.replace("cluster = \"second\"", "cluster = \"main\"").replace(&second, "")).await;
        pooler.reload(2, |text| text.replace("[tenants.acme]\n", "[tenants.acme]\nstate = \"paused\"\n")).await;
        acme.run("commit").await.unwrap();
        kept.run("select 1").await.unwrap();
        let quiet = "the tenant is paused, and none of its transactions is under way";
        assert_eq!(pooler.messages(quiet), 0);
        kept.run("commit").await.unwrap();
        pooler.until_message(1, quiet).await;
    }

    async fn who_logs_in_during_a_pause_is_let_in_where_the_tenant_lives_then(db: &Database) {
        let pooler = pooler(db, 2, "[tenants.acme]\n[tenants.umbra]\n").await;
        let paused = "[tenants.acme]\nstate = \"paused\"\n";
        pooler.reload(1, |text| text.replace("[tenants.acme]\n", paused)).await;
        let mut wires = Vec::new();
        for _ in 0..3 {
            let mut wire = Wire::open(pooler.port).await;
            wire.send(&startup(V3_0, &[("user", "app.acme")])).await;
            wires.push(wire);
        }
        for wire in &mut wires {
            // Not before it has been let in: who waits for a server has got no further.
            assert!(wire.is_silent().await);
        }
        pooler.reload(2, |text| text.replace(paused, &format!("{paused}schema = \"umbra\"\n"))).await;
        pooler.reload(3, |text| text.replace("state = \"paused\"\n", "")).await;
        for wire in &mut wires {
            wire.logged_in().await;
            assert_eq!(wire.run("select name from who").await.unwrap(), ["umbra"]);
        }
    }

    async fn who_waits_for_a_paused_tenant_is_told_when_it_takes_too_long(db: &Database) {
        let pooler = pooler(db, 2, "[tenants.acme]\n[tenants.umbra]\n").await;
        let (mut acme, mut umbra) = (raw(&pooler, "acme").await, raw(&pooler, "umbra").await);
        acme.run("begin").await.unwrap();
        pooler.reload(1, |text| text.replace("[tenants.acme]\n", "[tenants.acme]\nstate = \"paused\"\nquery_wait_timeout = \"100ms\"\n")).await;
        assert_eq!(acme.run("select name from who").await.unwrap(), ["acme"], "what has begun goes on");
        acme.run("commit").await.unwrap();
        pooler.until_message(1, "the tenant is paused, and none of its transactions is under way").await;
        acme.send(&query("select name from who")).await;
        let (messages, _) = acme.until_ready().await;
        let error = &messages[0];
        assert_eq!((error.field('S').as_str(), error.field('C').as_str()), ("ERROR", "53300"));
        assert_eq!(error.field('H'), "The tenant is paused by the operator.");
        assert_eq!(umbra.run("select name from who").await.unwrap(), ["umbra"]);
        pooler.reload(2, |text| text.replace("state = \"paused\"\nquery_wait_timeout = \"100ms\"\n", "")).await;
        assert_eq!(acme.run("select name from who").await.unwrap(), ["acme"]);
    }
}

async fn moves(db: &Database, target: &Database, pooler: &Pooler, place: &str) {
    moves_from(0, db, target, pooler, place).await;
}

async fn moves_from(
    reloads: usize,
    db: &Database,
    target: &Database,
    pooler: &Pooler,
    place: &str,
) {
    let (over, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for number in 0..6 {
        let mut wire = raw(pooler, "acme").await;
        let (over, rounds) = (Arc::clone(&over), Arc::clone(&rounds));
        clients.spawn(async move {
            let mut count = 0;
            while !over.load(Ordering::SeqCst) {
                let sql = format!("begin; insert into who values ('{number}'); select 1; commit");
                wire.run(&sql).await.unwrap();
                count += 1;
                rounds.fetch_add(1, Ordering::SeqCst);
            }
            count
        });
    }
    let more = |than: usize| {
        let rounds = Arc::clone(&rounds);
        soon("more transactions", async move {
            while rounds.load(Ordering::SeqCst) < than {
                tokio::task::yield_now().await;
            }
        })
    };
    more(50).await;
    pooler
        .reload(reloads + 1, |text| {
            text.replace("[tenants.acme]\n", "[tenants.acme]\nstate = \"paused\"\n")
        })
        .await;
    pooler
        .until_message(1, "the tenant is paused, and none of its transactions is under way")
        .await;
    let mut umbra = raw(pooler, "umbra").await;
    assert_eq!(umbra.run("select name from who").await.unwrap(), ["umbra"], "others go on");
    // Here an operator copies the data. Nothing of the tenant's changes meanwhile.
    let count = "select count(*) from acme.who where name <> 'acme'";
    let before: i64 = db.admin.query_one(count, &[]).await.unwrap().get(0);
    pooler
        .reload(reloads + 2, |text| {
            text.replace("[tenants.acme]\n", &format!("[tenants.acme]\n{place}"))
        })
        .await;
    let paused_at = rounds.load(Ordering::SeqCst);
    pooler.reload(reloads + 3, |text| text.replace("state = \"paused\"\n", "")).await;
    more(paused_at + 50).await;
    over.store(true, Ordering::SeqCst);
    let mut sum = 0;
    while let Some(count) = clients.join_next().await {
        sum += count.unwrap();
    }
    let (after, there): (i64, i64) = (
        db.admin.query_one(count, &[]).await.unwrap().get(0),
        target.admin.query_one(count, &[]).await.unwrap().get(0),
    );
    assert_eq!(before, after, "nothing is written in the old place");
    assert_eq!(before + there, sum, "every transaction has run once");
    assert!(there >= 50);
}
