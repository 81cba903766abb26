//! A switch that PostgreSQL refuses: nothing of the client's runs behind it, whatever the client sends and has prepared.

use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::wire::{bind, execute, flush, parse, query, sync};
use protocol_tests::{Database, Pooler, Wire, on_both};

use crate::raw;

/// Ends whatever transaction there is, changes what is another tenant's, and is of the kinds that the pooler rewrites.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let hack = "rollback; update umbra.who set name = 'hacked'";
    let commit = "commit; update umbra.who set name = 'hacked'";
    let whole = |sql: &str| query(sql);
    let extended = |first: &str| {
        let parts = [first, "rollback", "update umbra.who set name = 'hacked'"];
        let batch = parts.iter().map(|sql| [parse("", sql), bind("", ""), execute("", 0)].concat());
        [batch.collect::<Vec<_>>().concat(), sync()].concat()
    };
    vec![
        ("plain", whole(hack)),
        ("behind a PREPARE", whole(&format!("{hack}; prepare x as select 1"))),
        ("before it", whole(&format!("prepare x as select 1; {commit}"))),
        ("with EXECUTE", whole(&format!("{hack}; execute p"))),
        ("with EXPLAIN EXECUTE", whole(&format!("{commit}; explain execute p"))),
        ("with a name in a string", whole(&format!("{hack}; select 'p'"))),
        ("with a DO", whole(&format!("{hack}; do $$ begin execute 'execute p'; end $$"))),
        ("with DEALLOCATE", whole(&format!("{hack}; deallocate p"))),
        ("with DEALLOCATE ALL", whole(&format!("{hack}; deallocate all"))),
        ("with RESET", whole(&format!("{hack}; reset work_mem"))),
        ("behind RESET", whole(&format!("reset work_mem; {commit}"))),
        ("with DISCARD", whole("discard all")),
        ("with SET", whole(&format!("{hack}; set work_mem = '1MB'"))),
        ("extended, SELECT", extended("select 1")),
        ("extended, PREPARE", extended("prepare x as select 1")),
        ("extended, EXECUTE", extended("execute p")),
        ("extended, EXPLAIN EXECUTE", extended("explain execute p")),
        ("extended, a name in a string", extended("select 'p'")),
        ("extended, RESET", extended("reset work_mem")),
        ("extended, DEALLOCATE", extended("deallocate p")),
        ("a lone EXECUTE", whole("execute p")),
        ("a lone PREPARE", whole("prepare x as select 1")),
        ("a named statement", [bind("", "proto"), execute("", 0), sync()].concat()),
        ("a Flush", [parse("", "explain execute p"), flush(), query(hack)].concat()),
    ]
}

async fn prepared(pooler: &Pooler) -> Wire {
    let mut wire = raw(pooler, "acme").await;
    wire.run("prepare p as select 1").await.unwrap();
    wire.send(&[parse("proto", "select 2"), sync()].concat()).await;
    wire.until_ready().await;
    wire
}

/// Until `ReadyForQuery` or the end.
async fn answered(wire: &mut Wire) {
    while let Some(message) = wire.next().await {
        if message.tag == 'Z' {
            return;
        }
    }
}

on_both! {
    async fn nothing_runs_behind_a_switch_that_is_refused(db: &Database) {
        db.schemas(&["acme", "umbra"]).await;
        let name = &db.name;
        db.admin.batch_execute(&format!(
            "create role {name}_acme; create role {name}_umbra; grant {name}_acme, {name}_umbra to {name}; \
             grant usage, create on schema acme to {name}_acme; grant usage on schema umbra to {name}_umbra, {name}_acme; \
             grant all on umbra.who to {name}_umbra; grant all on acme.who to {name}_acme")).await.unwrap();
        for guard in ["off", "reject"] {
            let rules = format!("guard = \"{guard}\"\n[tenants.acme]\nrole = \"{name}_acme\"\n[tenants.umbra]\nrole = \"{name}_umbra\"\n");
            let toml = format!("{}[auth]\ntype = \"trust\"\n{}{rules}", db.toml(1), BY_SCHEMA.replace("[tenants.\"*\"]\n", ""));
            let pooler = Pooler::start(&toml).await;
            let mut umbra = raw(&pooler, "umbra").await;
            for (what, messages) in hostile() {
                let mut acme = prepared(&pooler).await;
                // The server is in umbra's state, and acme's can be reached no more.
                umbra.run("select 1").await.unwrap();
                db.admin.batch_execute(&format!("revoke {name}_acme from {name}")).await.unwrap();
                acme.send(&messages).await;
                acme.send_if_open(&sync()).await;
                answered(&mut acme).await;
                drop(acme);
                assert_eq!(umbra.run("select name from who").await.unwrap(), ["umbra"], "{what}, guard {guard}");
                db.admin.batch_execute(&format!("grant {name}_acme to {name}")).await.unwrap();
            }
        }
    }
}
