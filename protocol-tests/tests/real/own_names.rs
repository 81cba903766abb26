//! Statements under their clients' own names on a server, where the pooler has no room to keep them: their server is
//! nobody else's while they are there, whatever their texts say.

use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::wire::{describe, parse, sync};
use protocol_tests::{Database, Pooler, on_both};

use crate::prepared::{ok, run, send};
use crate::raw;

/// One text for each thing that the pooler looks for in texts.
const TEXTS: [&str; 19] = [
    "select 1",
    "begin",
    "set work_mem = '5MB'",
    "set local work_mem = '5MB'",
    "set search_path to default",
    "reset work_mem",
    "select set_config('work_mem', '5MB', false)",
    "select set_config($1, $2, false)",
    "discard plans",
    "listen x",
    "unlisten x",
    "declare c cursor with hold for select 1",
    "create temp table t (i int)",
    "select pg_try_advisory_lock(1)",
    "do 'begin end'",
    "prepare q as select 1",
    "execute q",
    "explain execute q",
    "deallocate q",
];

on_both! {
    async fn nobody_finds_what_another_has_parsed_whatever_it_says(db: &Database) {
        db.schemas(&["acme"]).await;
        for guard in ["off", "reject"] {
            let toml = format!("{}[auth]\ntype = \"trust\"\n{BY_SCHEMA}guard = \"{guard}\"\n", db.toml(1));
            let pooler = Pooler::start_with("max_prepared_statements = 0", &toml).await;
            for text in TEXTS {
                let case = format!("guard = {guard}, {text}");
                let mut first = raw(&pooler, "acme").await;
                let (said, told) = send(&mut first, &[parse("s", text), sync()]).await;
                let is_refused = told.contains("\"q\" does not exist") || told.starts_with("42501");
                assert!(said == "1ZI" || is_refused, "{case}: {said} {told}");
                drop(first);
                let mut second = raw(&pooler, "acme").await;
                let (_, told) = send(&mut second, &[describe('S', "s"), sync()]).await;
                assert_eq!(told, "26000 prepared statement \"s\" does not exist", "{case}");
                assert_eq!(send(&mut second, &[parse("s", "select 2"), sync()]).await, ok("1ZI"), "{case}");
                assert_eq!(run(&mut second, "s").await.unwrap(), ["2"], "{case}");
            }
        }
    }

    async fn each_client_runs_its_own_of_two_with_one_name(db: &Database) {
        db.schemas(&["acme"]).await;
        for guard in ["off", "reject"] {
            let toml = format!("{}[auth]\ntype = \"trust\"\n{BY_SCHEMA}guard = \"{guard}\"\n", db.toml(3));
            let pooler = Pooler::start_with("max_prepared_statements = 0", &toml).await;
            let mut clients = Vec::new();
            for size in ["5MB", "6MB"] {
                let mut client = raw(&pooler, "acme").await;
                let text = format!("set work_mem = '{size}'");
                assert_eq!(send(&mut client, &[parse("s", &text), sync()]).await, ok("1ZI"), "{guard}");
                clients.push((client, size));
            }
            for (client, size) in clients.iter_mut().rev() {
                run(client, "s").await.unwrap();
                assert_eq!(client.run("show work_mem").await.unwrap(), [*size], "{guard}");
            }
        }
    }
}
