//! A prepared statement returns what its client was told, or PostgreSQL's error: never rows of another kind.

use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::wire::{bind, describe, execute, parse, sync};
use protocol_tests::{Database, Pooler, Wire, on_both};

use crate::raw;

/// How a table changes: what it was, and what makes it another one.
const CHANGES: [(&str, &str); 6] = [
    ("create table rt (a int); insert into rt values (1)", "alter table rt alter a type real"),
    (
        "create table rt (a text, b text); insert into rt values ('A', 'B')",
        "alter table rt add c text; update rt set c = a; alter table rt drop a; alter table rt rename c to a",
    ),
    ("create table rt (a int); insert into rt values (1)", "alter table rt alter a type text"),
    ("create table rt (a int); insert into rt values (1)", "alter table rt add b int default 2"),
    (
        "create table rt (a varchar(3)); insert into rt values ('x')",
        "alter table rt alter a type varchar(9)",
    ),
    ("create table rt (a int); insert into rt values (1)", "alter table rt rename a to b"),
];

fn run(name: &str) -> Vec<u8> {
    [bind("", name), execute("", 0), sync()].concat()
}

/// Tags, and the SQLSTATE of an error.
async fn told(wire: &mut Wire) -> String {
    let (messages, _) = wire.until_ready().await;
    let of = |m: &protocol_tests::wire::Message| match m.tag {
        'E' => format!("E{} {}", m.field('C'), m.field('R')),
        tag => tag.to_string(),
    };
    messages.iter().filter(|m| m.tag != 'S').map(of).collect()
}

async fn set_up(db: &Database, servers: usize) -> Pooler {
    Pooler::start(&format!("{}[auth]\ntype = \"trust\"\n{BY_SCHEMA}", db.toml(servers))).await
}

on_both! {
    async fn rows_are_what_the_client_was_told_or_there_is_an_error(db: &Database) {
        db.schemas(&["acme"]).await;
        let owner = db.name.clone();
        for servers in [1, 2] {
            let pooler = set_up(db, servers).await;
            for (before, change) in CHANGES {
                for name in ["s", ""] {
                    let make = |sql: &str| format!("set search_path to acme; set role {owner}; drop table if exists rt; {sql}; reset role; reset search_path");
                    db.admin.batch_execute(&make(before)).await.unwrap();
                    let (mut wire, mut holder) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await);
                    let mut direct = db.wire("-c search_path=acme").await;
                    // Described once, as drivers do that decode by it from then on.
                    let prepare = [parse(name, "select * from rt"), describe('S', name), sync()].concat();
                    for one in [&mut wire, &mut direct] {
                        one.send(&prepare).await;
                        assert_eq!(told(one).await, "1tT");
                        if !name.is_empty() {
                            one.send(&run(name)).await;
                            assert_eq!(told(one).await, "2DC");
                        }
                    }
                    if servers == 2 {
                        // It has to go to the other server, which has never heard of the statement.
                        holder.run("begin").await.unwrap();
                    }
                    let alter = format!("set search_path to acme; {change}; reset search_path");
                    db.admin.batch_execute(&alter).await.unwrap();
                    direct.send(&run(name)).await;
                    let want = told(&mut direct).await;
                    assert_eq!(want, "E0A000 RevalidateCachedQuery", "{change}");
                    // Time and again, until the client prepares anew.
                    for _ in 0..2 {
                        wire.send(&run(name)).await;
                        assert_eq!(told(&mut wire).await, want, "{change} {name:?} over {servers}");
                    }
                    // Another client prepares the same text meanwhile: the old one's is what it was.
                    if servers == 1 && !name.is_empty() {
                        let mut fresh = raw(&pooler, "acme").await;
                        fresh.send(&[prepare.clone(), run(name)].concat()).await;
                        assert_eq!((told(&mut fresh).await, told(&mut fresh).await), ("1tT".into(), "2DC".into()));
                        wire.send(&run(name)).await;
                        assert_eq!(told(&mut wire).await, want, "{change}");
                    }
                    // Who asks in the same batch learns of it.
                    if !name.is_empty() {
                        wire.send(&[bind("", name), describe('P', ""), execute("", 0), sync()].concat()).await;
                        assert_eq!(told(&mut wire).await, "2TDC", "{change}");
                    }
                    let anew = [protocol_tests::wire::close('S', name), prepare.clone(), run(name)].concat();
                    wire.send(&anew).await;
                    assert_eq!((told(&mut wire).await, told(&mut wire).await), ("31tT".into(), "2DC".into()));
                    holder.run("rollback").await.unwrap();
                }
            }
        }
    }

    async fn who_describes_the_portal_once_is_told_too(db: &Database) {
        db.schemas(&["acme"]).await;
        let owner = db.name.clone();
        let pooler = set_up(db, 1).await;
        let make = format!("create table acme.rt (a int); insert into acme.rt values (1); alter table acme.rt owner to {owner}");
        db.admin.batch_execute(&make).await.unwrap();
        let mut wire = raw(&pooler, "acme").await;
        wire.send(&[parse("s", "select * from rt"), bind("", "s"), describe('P', ""), execute("", 0), sync()].concat()).await;
        assert_eq!(told(&mut wire).await, "12TDC");
        wire.send(&run("s")).await;
        assert_eq!(told(&mut wire).await, "2DC");
        db.admin.batch_execute("alter table acme.rt alter a type real").await.unwrap();
        wire.send(&run("s")).await;
        assert_eq!(told(&mut wire).await, "E0A000 RevalidateCachedQuery");
    }

    /// What was asked of a name is answered behind the message that gives the name to something else.
    async fn a_name_that_is_given_anew_in_the_same_batch_is_another_statement(db: &Database) {
        db.schemas(&["acme"]).await;
        let pooler = set_up(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        for name in ["s", ""] {
            let anew = if name.is_empty() { vec![] } else { protocol_tests::wire::close('S', name) };
            wire.send(&[parse(name, "select 1"), sync()].concat()).await;
            assert_eq!(told(&mut wire).await, "1");
            wire.send(&[describe('S', name), anew.clone(), parse(name, "select 'text'::text as other"), sync()].concat()).await;
            assert_eq!(told(&mut wire).await, if name.is_empty() { "tT1" } else { "tT31" });
            for _ in 0..2 {
                wire.send(&run(name)).await;
                assert_eq!(told(&mut wire).await, "2DC", "{name:?}");
            }
        }
    }
}
