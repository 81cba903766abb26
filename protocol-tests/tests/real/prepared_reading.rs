//! A prepared statement's literals are read once, by the settings of when it was prepared, wherever it is made again.

use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::wire::{bind, describe, execute, parse, query, sync};
use protocol_tests::{Database, Pooler, Wire, on_both};

use crate::prepared::holding;
use crate::raw;

/// A setting, two values of it, and a text that says another thing in each.
const READ: [(&str, &str, &str, &str); 8] = [
    ("datestyle", "German", "ISO, MDY", "select '04.03.2024'::date - date '2024-01-01'"),
    (
        "datestyle",
        "SQL, DMY",
        "SQL, MDY",
        "select extract(month from timestamp '04/03/2024')::text",
    ),
    (
        "timezone",
        "Asia/Tokyo",
        "UTC",
        "select (timestamptz '2024-01-01 00:00' = timestamptz '2024-01-01 00:00+00')::text",
    ),
    (
        "intervalstyle",
        "sql_standard",
        "postgres",
        "select extract(epoch from interval '-1 2:03:04')::text",
    ),
    (
        "transform_null_equals",
        "on",
        "off",
        "select count(*) from (values (null::int)) as v(x) where x = null",
    ),
    ("array_nulls", "off", "on", "select ('{NULL}'::text[])[1] is null"),
    ("xmloption", "document", "content", "select '<a/>'::xml is document"),
    ("backslash_quote", "on", "safe_encoding", r"select e'a\'b'"),
];

/// What comes of running a name: its rows, or its SQLSTATE.
async fn run(wire: &mut Wire, messages: &[Vec<u8>]) -> Vec<String> {
    wire.send(&messages.concat()).await;
    let (messages, _) = wire.until_ready().await;
    let said = messages.iter().filter_map(|m| match m.tag {
        'D' => Some(m.text()),
        'E' => Some(m.field('C')),
        _ => None,
    });
    said.collect()
}

/// What a client hears that prepares in one setting and runs in the other, and back; `moves`: it gets another server.
async fn conversation(
    wire: &mut Wire,
    (name, one, other, sql): (&str, &str, &str, &str),
    at_log_in: bool,
    mut moves: impl AsyncFnMut(),
) -> Vec<String> {
    let mut said = Vec::new();
    let (set, unset) = (format!("set {name} = '{one}'"), format!("set {name} = '{other}'"));
    let bound = |name: &str| vec![bind("", name), execute("", 0), sync()];
    if !at_log_in {
        said.extend(run(wire, &[query(&set)]).await);
    }
    said.extend(run(wire, &[parse("p", sql), describe('S', "p"), sync()]).await);
    said.extend(run(wire, &[query(&format!("prepare q as {sql}"))]).await);
    for change in [&*unset, &*set, &*unset, &*format!("reset {name}"), "begin", "commit"] {
        said.extend(run(wire, &[query(change)]).await);
        moves().await;
        said.extend(run(wire, &bound("p")).await);
        said.extend(run(wire, &[query("execute q")]).await);
        moves().await;
        said.extend(run(wire, &[describe('S', "p"), sync()]).await);
        said.extend(run(wire, &[query(&format!("show {name}"))]).await);
        // What is prepared now is read as it is now.
        said.extend(
            run(
                wire,
                &[parse("n", sql), bind("", "n"), execute("", 0), sync(), query("deallocate n")],
            )
            .await,
        );
        wire.until_ready().await;
    }
    // With all names as they are on one server.
    said.extend(run(wire, &[query(&set)]).await);
    said.extend(run(wire, &[query("explain (costs off) execute q; execute q")]).await);
    said.extend(run(wire, &bound("p")).await);
    said
}

on_both! {
    async fn literals_are_what_they_were_when_they_were_prepared(db: &Database) {
        db.schemas(&["acme"]).await;
        for servers in [1, 2] {
            let pooler = Pooler::start(&format!("{}[auth]\ntype = \"trust\"\n{BY_SCHEMA}", db.toml(servers))).await;
            for case in READ {
                for at_log_in in [false, true] {
                    let options = if at_log_in { format!("-c {}={}", case.0, case.1.replace(' ', "\\ ")) } else { String::new() };
                    let mut direct = db.wire(&format!("-c search_path=acme {options}")).await;
                    let want = conversation(&mut direct, case, at_log_in, async || {}).await;
                    // Another one of the tenant has the same text, read by what it logged in with.
                    let mut other = raw(&pooler, "acme").await;
                    other.send(&[query(&format!("set {} = '{}'", case.0, case.2)), parse("x", case.3), sync()].concat()).await;
                    other.until_ready().await;
                    other.until_ready().await;
                    let mut wire = Wire::login(pooler.port, &[("user", "app.acme"), ("options", &options)]).await;
                    let mut held = None;
                    let got = conversation(&mut wire, case, at_log_in, async || {
                        held = if servers > 1 && held.is_none() { Some(holding(&pooler).await) } else { None };
                    }).await;
                    assert_eq!(got, want, "{servers} {at_log_in} {case:?}");
                }
            }
        }
    }
}
