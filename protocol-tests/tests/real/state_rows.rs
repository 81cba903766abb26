//! The ways to change a session, each as on a connection of one's own: the client keeps what it
//! made, others see only their own while it is connected and after it left. The rows are those on
//! which other poolers were tried; PostgreSQL itself, asked directly, says what is right.

use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::wire::{batch, query, sync};
use protocol_tests::{Database, Pooler, Wire, on_both, report};

/// What a client does, and how to see it.
struct Row {
    name: &'static str,
    does: &'static [Step],
    probe: &'static str,
    /// Only one server has it: with a pool of one, others wait until the client left.
    ties: bool,
}

enum Step {
    Simple(&'static str),
    Extended(&'static str),
    Fails(&'static str),
}
use Step::{Extended, Fails, Simple};

const PATH: &str = "select current_setting('search_path')";
const LISTENS: &str = "select count(*) from pg_listening_channels()";

const fn row(name: &'static str, does: &'static [Step], probe: &'static str) -> Row {
    Row { name, does, probe, ties: false }
}

const fn tied(name: &'static str, does: &'static [Step], probe: &'static str) -> Row {
    Row { name, does, probe, ties: true }
}

const ROWS: [Row; 38] = [
    row("SET outside a transaction", &[Simple("SET search_path TO umbra")], PATH),
    row("SET, extended protocol", &[Extended("SET search_path TO umbra")], PATH),
    row("SET, two schemas", &[Simple("SET search_path TO umbra, public")], PATH),
    row("SET, quoted name", &[Simple("SET search_path TO \"Odd \"\"Name\", umbra")], PATH),
    row(
        "set_config(.., false)",
        &[Simple("select set_config('search_path', 'umbra, public', false)")],
        PATH,
    ),
    row("comment before SET", &[Simple("/* a; */ -- b\nSET search_path TO umbra")], PATH),
    row("lower case: set .. to", &[Simple("set search_path to umbra")], PATH),
    row("one message: SET; SELECT", &[Simple("SET search_path TO umbra; SELECT 1")], PATH),
    row("one message: SELECT; SET", &[Simple("SELECT 1; SET search_path TO umbra")], PATH),
    row(
        "BEGIN; SET; COMMIT",
        &[Simple("BEGIN"), Simple("SET search_path TO umbra"), Simple("COMMIT")],
        PATH,
    ),
    row(
        "BEGIN; SET; ROLLBACK",
        &[Simple("BEGIN"), Simple("SET search_path TO umbra"), Simple("ROLLBACK")],
        PATH,
    ),
    row(
        "SAVEPOINT; SET; ROLLBACK TO; COMMIT",
        &[
            Simple("BEGIN"),
            Simple("SET search_path TO public"),
            Simple("SAVEPOINT s"),
            Simple("SET search_path TO umbra"),
            Simple("ROLLBACK TO s"),
            Simple("COMMIT"),
        ],
        PATH,
    ),
    row(
        "BEGIN; SET LOCAL; COMMIT",
        &[Simple("BEGIN"), Simple("SET LOCAL search_path TO umbra"), Simple("COMMIT")],
        PATH,
    ),
    row("SET that fails", &[Fails("SET work_mem TO 'x'")], "select current_setting('work_mem')"),
    row(
        "set_config in a DO block",
        &[Simple("DO $$ begin perform set_config('search_path', 'umbra', false); end $$")],
        PATH,
    ),
    row("SET; RESET", &[Simple("SET search_path TO umbra"), Simple("RESET search_path")], PATH),
    row(
        "SET; RESET ALL",
        &[Simple("SET search_path TO umbra"), Simple("SET work_mem TO '9MB'"), Simple("RESET ALL")],
        "select current_setting('search_path') || current_setting('work_mem') || current_setting('app.tenant')",
    ),
    row(
        "SET; DISCARD ALL",
        &[Simple("SET search_path TO umbra"), Simple("SET app.x TO '1'"), Simple("DISCARD ALL")],
        "select current_setting('search_path') || current_setting('app.tenant') || coalesce(current_setting('app.x', true), '')",
    ),
    row("SET ROLE", &[Simple("SET ROLE pg_read_all_data")], "select current_user"),
    row(
        "SET SESSION CHARACTERISTICS",
        &[Simple(
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE",
        )],
        "select current_setting('transaction_read_only') || current_setting('transaction_isolation')",
    ),
    row(
        "SET TIME ZONE",
        &[Simple("SET TIME ZONE 'Asia/Tokyo'")],
        "select current_setting('timezone')",
    ),
    row(
        "custom setting",
        &[Simple("SET app.custom TO 'it''s \\ mine'")],
        "select coalesce(current_setting('app.custom', true), '')",
    ),
    row("PREPARE", &[Simple("PREPARE p1 (int) AS SELECT $1")], "execute p1(7)"),
    tied(
        "temporary table",
        &[Simple("CREATE TEMP TABLE mine (a int)")],
        "select to_regclass('pg_temp.mine') is not null",
    ),
    tied("LISTEN", &[Simple("LISTEN news")], LISTENS),
    tied(
        "session advisory lock",
        &[Simple("select pg_advisory_lock(7)")],
        "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()",
    ),
    tied(
        "cursor WITH HOLD",
        &[Simple("DECLARE c CURSOR WITH HOLD FOR SELECT 1")],
        "select count(*) from pg_cursors where is_holdable",
    ),
    // Beyond the rows of the comparison.
    tied(
        "cursor WITH HOLD; SET",
        &[Simple("DECLARE c CURSOR WITH HOLD FOR SELECT 1"), Simple("SET search_path TO umbra")],
        "select count(*) from pg_cursors where is_holdable",
    ),
    row(
        "cursor WITH HOLD; CLOSE",
        &[Simple("DECLARE c CURSOR WITH HOLD FOR SELECT 1"), Simple("CLOSE c")],
        "select count(*) from pg_cursors where is_holdable",
    ),
    row(
        "temporary table; DROP",
        &[Simple("CREATE TEMP TABLE mine (a int)"), Simple("DROP TABLE mine")],
        "select to_regclass('pg_temp.mine') is not null",
    ),
    row(
        "session advisory lock; unlock",
        &[Simple("select pg_advisory_lock(7)"), Simple("select pg_advisory_unlock(7)")],
        "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()",
    ),
    row(
        "PREPARE; DEALLOCATE",
        &[Simple("PREPARE p1 AS SELECT 1"), Simple("DEALLOCATE p1")],
        "execute p1",
    ),
    row("SET NAMES", &[Simple("SET NAMES 'LATIN1'")], "select current_setting('client_encoding')"),
    row("SET SCHEMA", &[Simple("SET SCHEMA 'umbra'")], PATH),
    row(
        "SET .. TO DEFAULT",
        &[
            Simple("SET timezone TO 'Asia/Tokyo'"),
            Simple("SET search_path TO umbra"),
            Simple("SET search_path TO DEFAULT"),
        ],
        "select current_setting('search_path') || current_setting('timezone')",
    ),
    row(
        "set_config of a custom setting in an EXECUTE of a DO block",
        &[Simple("DO $$ begin execute 'set app.custom = ' || quote_literal('x'); end $$")],
        "select coalesce(current_setting('app.custom', true), '')",
    ),
    row(
        "temporary table ON COMMIT DROP",
        &[
            Simple("BEGIN"),
            Simple("CREATE TEMP TABLE mine (a int) ON COMMIT DROP"),
            Simple("COMMIT"),
        ],
        "select to_regclass('pg_temp.mine') is not null",
    ),
    row("LISTEN; UNLISTEN", &[Simple("LISTEN news"), Simple("UNLISTEN *")], LISTENS),
];

async fn act(wire: &mut Wire, steps: &[Step]) {
    for step in steps {
        match step {
            Simple(sql) => wire.send(&query(sql)).await,
            Fails(sql) => {
                assert!(wire.run(sql).await.is_err(), "{sql}");
                continue;
            }
            Extended(sql) => wire.send(&[batch(sql), sync()].concat()).await,
        }
        let (messages, _) = wire.until_ready().await;
        let error = messages.iter().find(|message| message.tag == 'E');
        assert!(error.is_none(), "{:?}", error.map(|error| error.field('M')));
    }
}

async fn probe(wire: &mut Wire, row: &Row) -> Seen {
    wire.run(row.probe).await
}

/// What a probe says, or the SQLSTATE.
type Seen = Result<Vec<String>, String>;

/// What is right: the same on a connection of one's own, and on a fresh one.
async fn oracle(db: &Database, row: &Row) -> (Seen, Seen) {
    let mut own = db.wire("-c search_path=acme,\\ public -c app.tenant=acme").await;
    let fresh = probe(&mut own, row).await;
    act(&mut own, row.does).await;
    (probe(&mut own, row).await, fresh)
}

async fn acme(pooler: &Pooler) -> Wire {
    Wire::login(pooler.port, &[("user", "app.acme")]).await
}

/// What went wrong, or nothing.
async fn cell(db: &Database, pooler: &Pooler, row: &Row, servers: usize) -> Result<(), String> {
    let (mine, fresh) = oracle(db, row).await;
    let mut others = [acme(pooler).await, acme(pooler).await, acme(pooler).await];
    let mut a = acme(pooler).await;
    act(&mut a, row.does).await;
    for round in 0..3 {
        let seen = probe(&mut a, row).await;
        if seen != mine {
            return Err(format!("the client sees {seen:?}, not {mine:?}, in round {round}"));
        }
        // One that waits in vain is enough.
        let watching =
            if row.ties && servers == 1 { usize::from(round == 0) } else { others.len() };
        for other in &mut others[..watching] {
            let seen = probe(other, row).await;
            let waits = row.ties && servers == 1 && seen == Err("53300".to_owned());
            if seen != fresh && !waits {
                return Err(format!("another client sees {seen:?}, not {fresh:?}"));
            }
        }
    }
    let pids = "select pg_backend_pid()";
    drop(a);
    for _ in 0..servers * 2 {
        let mut next = acme(pooler).await;
        let pid = next.run(pids).await;
        let seen = probe(&mut next, row).await;
        if seen != fresh {
            return Err(format!("after it left, server {pid:?} shows {seen:?}, not {fresh:?}"));
        }
    }
    Ok(())
}

async fn all_rows(db: &Database, servers: usize) {
    db.schemas(&["acme", "umbra"]).await;
    db.admin.batch_execute(&format!("grant pg_read_all_data to {}", db.name)).await.unwrap();
    let general = "[auth]\ntype = \"trust\"\n";
    let toml = format!("{}{general}{BY_SCHEMA}{QUOTAS}", db.toml(servers));
    let pooler = Pooler::start(&toml).await;
    let (mut lines, mut wrong) = (Vec::new(), Vec::new());
    for row in &ROWS {
        let result = cell(db, &pooler, row, servers).await;
        let star = if row.ties { " \\*" } else { "" };
        lines.push((
            format!("{}{star}", row.name),
            if result.is_ok() { "ok" } else { "FAIL" }.to_owned(),
        ));
        wrong.extend(result.err().map(|problem| format!("{}: {problem}", row.name)));
    }
    report("session-state", &format!("PostgreSQL {}, pool of {servers}", db.major), &lines);
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), pooler.log_text());
}

/// Long enough for a busy machine, short enough for the rows in which others wait in vain.
const QUOTAS: &str = "query_wait_timeout = \"2s\"\nsettings = { \"app.tenant\" = \"{tenant}\" }\nsearch_path = [\"{tenant}\", \"public\"]\n";

on_both! {
    async fn every_way_to_change_a_session_is_right_over_one_server(db: &Database) {
        all_rows(db, 1).await;
    }

    async fn every_way_to_change_a_session_is_right_over_two_servers(db: &Database) {
        all_rows(db, 2).await;
    }

    async fn every_way_to_change_a_session_is_right_over_five_servers(db: &Database) {
        all_rows(db, 5).await;
    }
}
