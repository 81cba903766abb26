//! The guarded switch with a fault at each of its messages, crossed with each kind of first message.
//!
//! The server here answers as PostgreSQL does: after an error it discards everything up to the next
//! `Sync`. What must hold: the client's statement is never sent again after it may have run, never
//! runs on a server whose switch failed, and a second unit is never sent before the switch is
//! confirmed.

use protocol_tests::scripted::{Scripted, sql};
use protocol_tests::wire::{Message, batch, flush, message, query, sync};
use protocol_tests::{Pooler, Wire};

/// The first messages a client may send, the units they hold, and the tags that belong to them.
fn first_messages() -> Vec<(&'static str, Vec<u8>)> {
    let call = message('F', &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    vec![
        ("query", query("client select")),
        ("rollback", query("ROLLBACK; client select")),
        ("begin", query("BEGIN ISOLATION LEVEL SERIALIZABLE")),
        ("vacuum", query("VACUUM client")),
        ("copy", query("COPY client FROM STDIN")),
        ("extended", [batch("client select"), sync()].concat()),
        ("two batches", [batch("client first"), sync(), batch("client second"), sync()].concat()),
        ("flush", [batch("client select"), flush()].concat()),
        ("function call", call),
    ]
}

/// Number of statements in a full switch to `acme` from another tenant: BEGIN, eight of the scrub,
/// two settings, COMMIT. Asserted against what the pooler really sends.
const STATEMENTS: usize = 12;

async fn acme(pooler: &Pooler) -> Wire {
    Wire::login(pooler.port, &[("user", "app.acme")]).await
}

/// Reads the switch up to its COMMIT and the Close behind it.
async fn read_switch(server: &mut Wire) -> Vec<String> {
    let mut statements = Vec::new();
    loop {
        let message = server.receive().await;
        match message.tag {
            'P' => statements.push(sql(&message)),
            'B' | 'E' => {}
            'C' => return statements,
            tag => panic!("{tag} in a switch"),
        }
    }
}

/// Success for `count` statements of a switch.
fn replies(count: usize) -> Vec<u8> {
    let one = [message('1', b""), message('2', b""), message('C', b"SET\0")].concat();
    one.repeat(count)
}

fn error(code: &str) -> Vec<u8> {
    message('E', format!("SERROR\0VERROR\0C{code}\0Mrefused\0\0").as_bytes())
}

/// Answers the question every new state asks at login: a switch and an empty query.
async fn answer_login(server: &mut Wire) {
    let statements = read_switch(server).await.len();
    assert_eq!(server.receive().await.tag, 'Q');
    let all = [replies(statements), message('3', b""), message('I', b""), message('Z', b"I")];
    server.send(&all.concat()).await;
}

/// Answers what is asked once of a database, when its second tenant comes: there is none.
async fn answer_question_about_functions(server: &mut Wire) {
    let question = server.receive().await;
    assert!(
        question.tag == 'Q' && question.body.starts_with(b"SELECT FROM pg_catalog.pg_proc"),
        "{question:?}"
    );
    server.send(&[message('C', b"SELECT 0\0"), message('Z', b"I")].concat()).await;
}

/// A server that last served `umbra`, and a client of `acme` that is logged in.
async fn dirty_server(scripted: &mut Scripted, pooler: &Pooler) -> (Wire, Wire) {
    let server = async {
        let mut server = scripted.accept().await;
        answer_login(&mut server).await; // acme's
        answer_login(&mut server).await; // umbra's
        answer_question_about_functions(&mut server).await;
        server
    };
    let client = async {
        let client = acme(pooler).await;
        Wire::login(pooler.port, &[("user", "app.umbra")]).await;
        client
    };
    tokio::join!(server, client)
}

/// Everything of the client's that reached a server, by its SQL.
fn of_client(message: &Message) -> bool {
    matches!(message.tag, 'P' | 'Q')
        && (sql(message).contains("client") || sql(message).contains("SERIALIZABLE"))
        || message.tag == 'F'
}

/// The tags of the client's first unit, behind the switch.
async fn read_unit(server: &mut Wire) -> String {
    let mut tags = String::new();
    loop {
        let message = server.receive().await;
        tags.push(message.tag);
        if matches!(message.tag, 'Q' | 'S' | 'F' | 'H') {
            return tags;
        }
    }
}

/// The replies to the `Sync`s of a first unit and of the pooler's own: the switch's transaction has failed.
fn failed_block(name: &str) -> Vec<u8> {
    let syncs = 1 + usize::from(matches!(name, "extended" | "two batches"));
    message('Z', b"E").repeat(syncs)
}

/// Answers as PostgreSQL does when a switch that it refused is taken back.
async fn take_back(server: &mut Wire, name: &str) {
    assert_eq!(server.receive().await.tag, 'S', "{name}");
    server.send(&failed_block(name)).await;
    let rollback = server.receive().await;
    assert_eq!((rollback.tag, sql(&rollback).as_str()), ('Q', "ROLLBACK"), "{name}");
    server.send(&[message('C', b"ROLLBACK\0"), message('Z', b"I")].concat()).await;
    // The scrub, behind which nothing is left of whoever had it.
    answer_login(server).await;
}

#[tokio::test]
async fn a_refused_switch_is_taken_back_tried_once_more_and_then_told() {
    for (name, first) in first_messages() {
        for fails_at in 0..STATEMENTS {
            let mut scripted = Scripted::start().await;
            let pooler = Pooler::start(&scripted.toml(1)).await;
            let (mut server, mut client) = dirty_server(&mut scripted, &pooler).await;
            client.send(&first).await;
            let statements = read_switch(&mut server).await;
            assert_eq!(statements.len(), STATEMENTS, "{statements:?}");
            read_unit(&mut server).await;
            server.send(&[replies(fails_at), error("42704")].concat()).await;
            take_back(&mut server, name).await;
            // The second attempt: the same unit fails too.
            read_switch(&mut server).await;
            read_unit(&mut server).await;
            server.send(&error("42704")).await;
            let answer = client.receive().await;
            assert_eq!(
                (answer.tag, answer.field('S').as_str(), answer.field('C').as_str()),
                ('E', "ERROR", "58000"),
                "{name}"
            );
            if name == "flush" {
                client.send(&sync()).await;
            }
            assert_eq!(client.tags().await, "ZI", "{name}");
            take_back(&mut server, name).await;
            assert!(scripted.nobody_else(), "{name}: no server more");
            if name == "two batches" {
                // The second batch is a unit of its own.
                let statements = read_switch(&mut server).await.len();
                assert_eq!(read_unit(&mut server).await, "PBES");
                server
                    .send(
                        &[
                            replies(statements),
                            message('3', b""),
                            batch_replies(),
                            message('Z', b"I"),
                        ]
                        .concat(),
                    )
                    .await;
                assert_eq!(client.tags().await, "12CZI");
            }
        }
    }
}

/// Where it is not certain that nothing has run and that the transaction is over, nobody gets the server again.
#[tokio::test]
async fn a_server_that_does_not_take_a_refused_switch_back_is_closed() {
    let rolled_back = message('C', b"ROLLBACK\0");
    for (name, first) in first_messages() {
        let idle = failed_block(name).strip_suffix(b"E").unwrap().to_vec();
        for answers in [
            vec![[&idle[..], b"I"].concat()],
            vec![[&idle[..], b"T"].concat()],
            vec![[failed_block(name), message('C', b"SELECT 1\0")].concat()],
            vec![[error("XX000"), failed_block(name)].concat()],
            vec![failed_block(name), [&rolled_back[..], &message('Z', b"E")].concat()],
            vec![failed_block(name), [error("57014"), message('Z', b"E")].concat()],
        ] {
            let mut scripted = Scripted::start().await;
            let pooler = Pooler::start(&scripted.toml(1)).await;
            let (mut server, mut client) = dirty_server(&mut scripted, &pooler).await;
            client.send(&first).await;
            read_switch(&mut server).await;
            let sent = read_unit(&mut server).await;
            server.send(&[replies(3), error("42704")].concat()).await;
            for answer in &answers {
                assert!(matches!(server.receive().await.tag, 'S' | 'Q'), "{name}");
                server.send(answer).await;
            }
            while let Some(more) = server.next().await {
                assert!(!of_client(&more), "{name}: {more:?}");
            }
            let mut second = scripted.accept().await;
            read_switch(&mut second).await;
            assert_eq!(read_unit(&mut second).await, sent, "{name}");
        }
    }
}

fn batch_replies() -> Vec<u8> {
    [message('1', b""), message('2', b""), message('C', b"SELECT 1\0")].concat()
}

#[tokio::test]
async fn a_retried_unit_runs_once_and_its_answer_reaches_the_client() {
    for (name, first) in first_messages() {
        let mut scripted = Scripted::start().await;
        let pooler = Pooler::start(&scripted.toml(1)).await;
        let (mut server, mut client) = dirty_server(&mut scripted, &pooler).await;
        client.send(&first).await;
        read_switch(&mut server).await;
        let sent = read_unit(&mut server).await;
        server.send(&[replies(3), error("57014")].concat()).await;
        take_back(&mut server, name).await;
        let mut second = server;
        let statements = read_switch(&mut second).await.len();
        assert_eq!(read_unit(&mut second).await, sent, "{name}: the same unit again");
        second.send(&[replies(statements), message('3', b"")].concat()).await;
        match name {
            "extended" | "two batches" => {
                second.send(&[batch_replies(), message('Z', b"I")].concat()).await
            }
            "flush" => second.send(&batch_replies()).await,
            "function call" => {
                second.send(&[message('V', &[0xff; 4]), message('Z', b"I")].concat()).await
            }
            "begin" => second.send(&[message('C', b"BEGIN\0"), message('Z', b"T")].concat()).await,
            "copy" => second.send(&message('G', &[0, 0, 0])).await,
            _ => second.send(&[message('C', b"SELECT 1\0"), message('Z', b"I")].concat()).await,
        }
        let want = match name {
            "flush" | "extended" | "two batches" => '1',
            "function call" => 'V',
            "copy" => 'G',
            _ => 'C',
        };
        assert_eq!(
            client.receive().await.tag,
            want,
            "{name}: nothing of the switch reaches the client"
        );
    }
}

#[tokio::test]
async fn a_server_that_goes_silent_or_away_in_a_switch_is_never_asked_again() {
    for (name, first) in first_messages() {
        for confirmed in 0..STATEMENTS {
            let mut scripted = Scripted::start().await;
            let pooler = Pooler::start(&scripted.toml(1)).await;
            let (mut server, mut client) = dirty_server(&mut scripted, &pooler).await;
            client.send(&first).await;
            read_switch(&mut server).await;
            read_unit(&mut server).await;
            // PostgreSQL may have run everything and died before it could say so.
            server.send(&replies(confirmed)).await;
            drop(server);
            let answer = client.receive().await;
            assert_eq!(
                (answer.field('S').as_str(), answer.field('C').as_str()),
                ("FATAL", "08006"),
                "{name}"
            );
            assert_eq!(client.next().await, None);
            assert!(scripted.nobody_else(), "{name}: what may have run is not sent again");
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_a_stalled_switch_leaves_no_server_behind() {
    for (name, first) in first_messages() {
        // What it sent beyond the first unit waits for the switch; the next test has that.
        if name == "two batches" {
            continue;
        }
        let mut scripted = Scripted::start().await;
        let pooler = Pooler::start(&scripted.toml(1)).await;
        let (mut server, mut client) = dirty_server(&mut scripted, &pooler).await;
        client.send(&first).await;
        read_switch(&mut server).await;
        read_unit(&mut server).await;
        drop(client); // the server says nothing at all
        assert_eq!(scripted.cancelled().await, 1, "{name}: what it may be running is cancelled");
        assert_eq!(server.next().await, None, "{name}: and it is closed, not lent again");
    }
}

#[tokio::test]
async fn a_second_unit_waits_until_the_switch_is_confirmed() {
    let mut scripted = Scripted::start().await;
    let pooler = Pooler::start(&scripted.toml(1)).await;
    let (mut server, mut client) = dirty_server(&mut scripted, &pooler).await;
    client
        .send(
            &[batch("client first"), sync(), batch("client second"), sync(), query("client third")]
                .concat(),
        )
        .await;
    let statements = read_switch(&mut server).await.len();
    assert_eq!(read_unit(&mut server).await, "PBES");
    assert!(server.is_silent().await, "nothing more before the switch is confirmed");
    server.send(&[replies(statements), message('3', b"")].concat()).await;
    assert_eq!(read_unit(&mut server).await, "PBES");
    assert_eq!(read_unit(&mut server).await, "Q");
    let answer = [
        batch_replies(),
        message('Z', b"I"),
        batch_replies(),
        message('Z', b"I"),
        message('C', b"X\0"),
        message('Z', b"I"),
    ];
    server.send(&answer.concat()).await;
    assert_eq!(client.tags().await, "12CZI");
    assert_eq!(client.tags().await, "12CZI");
    assert_eq!(client.tags().await, "CZI");
}

#[tokio::test]
async fn a_cancel_that_meets_the_switch_is_answered_and_nothing_is_retried() {
    for (name, first) in first_messages() {
        let mut scripted = Scripted::start().await;
        let pooler = Pooler::start(&scripted.toml(1)).await;
        let (mut server, mut client) = dirty_server(&mut scripted, &pooler).await;
        client.send(&first).await;
        read_switch(&mut server).await;
        read_unit(&mut server).await;
        Wire::cancel(pooler.port, client.pid, &client.key).await;
        assert_eq!(scripted.cancelled().await, 1);
        server.send(&[replies(2), error("57014")].concat()).await;
        let answer = client.receive().await;
        let said = (answer.field('S'), answer.field('C'));
        assert_eq!(said, ("ERROR".to_owned(), "57014".to_owned()), "{name}");
        if name == "flush" {
            client.send(&sync()).await;
        }
        assert_eq!(client.tags().await, "ZI", "{name}");
        if name != "two batches" {
            assert!(scripted.nobody_else(), "{name}: the client wanted it cancelled, not retried");
        }
    }
}

#[tokio::test]
async fn a_unit_larger_than_a_buffer_waits_for_the_switch() {
    let mut scripted = Scripted::start().await;
    let pooler = Pooler::start(&scripted.toml(1)).await;
    let (mut server, mut client) = dirty_server(&mut scripted, &pooler).await;
    let large = query(&format!("client {}", "x".repeat(100_000)));
    client.send(&large).await;
    let statements = read_switch(&mut server).await.len();
    assert_eq!(server.receive().await.tag, 'H', "a Flush asks for the replies");
    assert!(server.is_silent().await, "not a byte of it before the switch is confirmed");
    server.send(&[replies(statements), message('3', b"")].concat()).await;
    let got = server.receive().await;
    assert_eq!((got.tag, got.body.len()), ('Q', large.len() - 5));
    assert!(of_client(&got));
    server.send(&[message('C', b"X\0"), message('Z', b"I")].concat()).await;
    assert_eq!(client.tags().await, "CZI");
}
