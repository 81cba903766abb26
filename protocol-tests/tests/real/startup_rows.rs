//! Twenty clients, twenty values: settings from the start-up packet, and set behind it, over few
//! servers. Every answer must be the client's own. The rows are those of the comparison of poolers.

use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::wire::{bind, execute, flush, parse, sync};
use protocol_tests::{Database, Pooler, Wire, on_both, report};

const CLIENTS: usize = 20;
const ROUNDS: usize = 5;

/// One way to give a session a value, and to see it. `#` is the client's number.
struct Row {
    name: &'static str,
    startup: &'static [(&'static str, &'static str)],
    then: &'static str,
    probe: &'static str,
    want: &'static str,
}

const PATH: &str = "select array_to_string(current_schemas(false), '|')";
const WHO: &str = "select name from who";
const TIMEOUT: &str = "select current_setting('statement_timeout')";
const APPLICATION: &str = "select current_setting('application_name')";
/// Asked for through a named prepared statement, as asyncpg does.
const PREPARED: &str = "asyncpg, named prepared statement, start-up search_path";

const fn row(
    name: &'static str,
    startup: &'static [(&'static str, &'static str)],
    then: &'static str,
    probe: &'static str,
    want: &'static str,
) -> Row {
    Row { name, startup, then, probe, want }
}

static ROWS: [Row; 12] = [
    row("start-up options=-c search_path", &[("options", "-c search_path=s#")], "", PATH, "s#"),
    row("start-up search_path", &[("search_path", "s#")], "", PATH, "s#"),
    row(
        "start-up search_path of two schemas",
        &[("search_path", "s#, public")],
        "",
        PATH,
        "s#|public",
    ),
    row("unqualified table, two schemas", &[("search_path", "public, s#")], "", WHO, "s#"),
    row("start-up application_name", &[("application_name", "app #")], "", APPLICATION, "app #"),
    row(
        "start-up statement_timeout",
        &[("options", "-c statement_timeout=10#")],
        "",
        TIMEOUT,
        "10#ms",
    ),
    row(
        "start-up TimeZone",
        &[("TimeZone", "Etc/GMT-#")],
        "",
        "select current_setting('timezone')",
        "Etc/GMT-#",
    ),
    row("SET search_path", &[], "set search_path to s#", PATH, "s#"),
    row("SET search_path of two schemas", &[], "set search_path to s#, public", PATH, "s#|public"),
    row("SET application_name", &[], "set application_name to 'app #'", APPLICATION, "app #"),
    row("SET statement_timeout", &[], "set statement_timeout to '10#ms'", TIMEOUT, "10#ms"),
    row(PREPARED, &[("search_path", "s#")], "", WHO, "s#"),
];

async fn ask(wire: &mut Wire, row: &Row, round: usize) -> Result<Vec<String>, String> {
    if row.name != PREPARED {
        return wire.run(row.probe).await;
    }
    if round == 0 {
        wire.send(&[parse("__asyncpg_stmt_1__", row.probe), flush()].concat()).await;
        assert_eq!(wire.receive().await.tag, '1');
    }
    wire.send(&[bind("", "__asyncpg_stmt_1__"), execute("", 0), sync()].concat()).await;
    let (messages, _) = wire.until_ready().await;
    match messages.iter().find(|message| message.tag == 'E') {
        Some(error) => Err(error.field('M')),
        None => Ok(messages
            .iter()
            .filter(|m| m.tag == 'D')
            .map(protocol_tests::wire::Message::text)
            .collect()),
    }
}

async fn one_client(port: u16, row: &'static Row, number: usize) -> Result<(), String> {
    // PostgreSQL knows twelve such zones, and 10 ms would be too short.
    let number = if row.want.starts_with("Etc") { number % 12 + 1 } else { number + 100 };
    let fill = |text: &str| text.replace('#', &number.to_string());
    let startup: Vec<(&str, String)> = row.startup.iter().map(|(n, v)| (*n, fill(v))).collect();
    let mut parameters = vec![("user", "app.acme")];
    parameters.extend(startup.iter().map(|(name, value)| (*name, value.as_str())));
    let mut wire = Wire::login(port, &parameters).await;
    if !row.then.is_empty() {
        wire.run(&fill(row.then)).await?;
    }
    for round in 0..ROUNDS {
        let seen = ask(&mut wire, row, round).await?;
        if seen != [fill(row.want)] {
            return Err(format!("client {number} sees {seen:?} in round {round}"));
        }
    }
    Ok(())
}

async fn all_rows(db: &Database, servers: usize) {
    db.schemas(&["acme"]).await;
    for number in 100..100 + CLIENTS {
        db.schemas(&[&format!("s{number}")]).await;
    }
    let toml = format!(
        "{}[auth]\ntype = \"trust\"\n{BY_SCHEMA}query_wait_timeout = \"20s\"\n",
        db.toml(servers)
    );
    let pooler = Pooler::start(&toml).await;
    let (mut lines, mut wrong) = (Vec::new(), Vec::new());
    for row in &ROWS {
        let mut clients = tokio::task::JoinSet::new();
        for number in 0..CLIENTS {
            clients.spawn(one_client(pooler.port, row, number));
        }
        let problem = clients.join_all().await.into_iter().find_map(Result::err);
        lines.push((row.name.to_owned(), if problem.is_none() { "ok" } else { "FAIL" }.to_owned()));
        wrong.extend(problem.map(|problem| format!("{}: {problem}", row.name)));
    }
    report("startup", &format!("PostgreSQL {}, pool of {servers}", db.major), &lines);
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), pooler.log_text());
}

on_both! {
    async fn twenty_clients_see_their_own_values_over_one_server(db: &Database) {
        all_rows(db, 1).await;
    }

    async fn twenty_clients_see_their_own_values_over_two_servers(db: &Database) {
        all_rows(db, 2).await;
    }

    async fn twenty_clients_see_their_own_values_over_five_servers(db: &Database) {
        all_rows(db, 5).await;
    }
}
