//! Simple queries pass through as they are.

use protocol_tests::wire::{message, query};
use protocol_tests::{Database, Wire, on_both};

use crate::{raw, trusting};

/// The same bytes to a bare PostgreSQL and through the pooler: the same answers, but for timing.
async fn both(
    db: &Database,
    bytes: &[u8],
    readies: usize,
) -> (Vec<(char, Vec<u8>)>, Vec<(char, Vec<u8>)>) {
    let pooler = trusting(db, 1).await;
    let mut through = raw(&pooler, "acme").await;
    let mut bare = bare(db).await;
    let mut answers = Vec::new();
    for wire in [&mut through, &mut bare] {
        wire.send(bytes).await;
        let mut all = Vec::new();
        for _ in 0..readies {
            let (messages, status) = wire.until_ready().await;
            all.extend(messages.into_iter().filter(|m| m.tag != 'S').map(|m| (m.tag, m.body)));
            all.push(('Z', vec![status as u8]));
        }
        answers.push(all);
    }
    let bare = answers.pop().unwrap();
    (answers.pop().unwrap(), bare)
}

/// A raw connection straight to PostgreSQL, in the state of `acme`.
pub(crate) async fn bare(db: &Database) -> Wire {
    let tcp = tokio::net::TcpStream::connect(("127.0.0.1", db.port)).await.unwrap();
    let mut wire = Wire::over(tcp);
    wire.send(&protocol_tests::wire::startup(
        protocol_tests::wire::V3_0,
        &[("user", &db.name), ("database", &db.name), ("search_path", "acme")],
    ))
    .await;
    protocol_tests::wire::scram(&mut wire, protocol_tests::cluster::PASSWORD).await;
    wire.logged_in().await;
    wire
}

on_both! {
    async fn answers_are_postgresqls_own_byte_by_byte(db: &Database) {
        let sql = [
            "select 1, 'two', null", "", ";", "select 1; select 2; begin; select 3; commit", "selec", "select * from nowhere",
            "select 1/0; select 2", "begin; select 1/0; select 2", "rollback", "rollback", "do $$ begin raise notice 'hello'; end $$",
            "select repeat('x', 100000)", "select generate_series(1, 20000)", "select name from who", "begin; insert into who values ('acme'); select name from who; rollback",
            "copy who to stdout", "explain (costs off) select 1", "select 'é', E'\\u00e9'", "begin", "savepoint a", "select 1/0", "rollback to a", "commit",
        ];
        let bytes: Vec<u8> = sql.iter().flat_map(|sql| query(sql)).collect();
        let (through, bare) = both(db, &bytes, sql.len()).await;
        assert_eq!(through.len(), bare.len());
        for (through, bare) in through.iter().zip(&bare) {
            assert_eq!(through, bare);
        }
    }

    async fn a_malformed_query_is_answered_by_postgresql(db: &Database) {
        let bytes = [message('Q', b"select 1"), message('Q', b""), query("select 2")].concat();
        let (through, bare) = both(db, &bytes, 3).await;
        assert_eq!(through, bare);
    }

    async fn notices_and_settings_come_through_at_any_time(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        wire.send(&query("set timezone = 'Asia/Tokyo'; select 1")).await;
        let tags = wire.tags().await;
        assert!(tags.contains('S'), "{tags}");
    }
}
