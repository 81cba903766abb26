//! The extended protocol: unnamed and named statements, portals, errors up to Sync.

use protocol_tests::wire::{batch, bind, execute, flush, message, parse, query, sync};
use protocol_tests::{Database, on_both};

use crate::{raw, simple_query::bare, trusting};

fn describe(kind: u8, name: &str) -> Vec<u8> {
    message('D', &[&[kind][..], name.as_bytes(), b"\0"].concat())
}

/// Which of the conversations has a simple query in the middle.
const QUERY_IN_A_PIPELINE: usize = 11;

on_both! {
    async fn conversations_are_postgresqls_own(db: &Database) {
        let pooler = trusting(db, 1).await;
        let conversations: Vec<(Vec<u8>, usize)> = vec![
            ([batch("select name from who"), sync()].concat(), 1),
            ([parse("", "select 1"), describe(b'S', ""), bind("", ""), describe(b'P', ""), execute("", 0), sync()].concat(), 1),
            ([batch("select 1/0"), batch("select 2"), sync()].concat(), 1),
            ([parse("", "selec"), sync()].concat(), 1),
            ([batch(""), sync()].concat(), 1),
            (sync(), 1),
            ([flush(), sync()].concat(), 1),
            ([parse("", "select generate_series(1, 5)"), bind("", ""), execute("", 2), execute("", 2), execute("", 0), sync()].concat(), 1),
            ([bind("", ""), sync()].concat(), 1),
            ([bind("p", "nosuch"), execute("p", 0), sync()].concat(), 1),
            ([message('C', b"Snosuch\0"), sync()].concat(), 1),
            ([batch("select 1"), query("select 2"), sync()].concat(), 2),
            ([parse("", "selec"), query("select 2"), sync()].concat(), 1),
            ([message('P', b"\0"), sync()].concat(), 1),
            ([message('B', b""), sync()].concat(), 1),
            ([batch("begin"), sync(), batch("select 1/0"), sync(), batch("select 1"), sync(), batch("rollback"), sync()].concat(), 4),
        ];
        let (mut through, mut bare) = (raw(&pooler, "acme").await, bare(db).await);
        for (at, (bytes, readies)) in conversations.iter().enumerate() {
            let mut answers = Vec::new();
            // Behind a query in the middle of a pipeline, PostgreSQL 18 fails the next statement of the connection, and
            // that fault is not passed on to whoever comes to the server.
            if at == QUERY_IN_A_PIPELINE + 1 {
                bare.run("").await.ok();
            }
            for wire in [&mut through, &mut bare] {
                wire.send(bytes).await;
                let mut all = Vec::new();
                for _ in 0..*readies {
                    let (messages, status) = wire.until_ready().await;
                    all.extend(messages.into_iter().filter(|m| m.tag != 'S').map(|m| (m.tag, m.body)));
                    all.push(('Z', vec![status as u8]));
                }
                answers.push(all);
            }
            assert_eq!(answers[0], answers[1], "conversation {at}");
        }
    }

    async fn the_last_clients_unnamed_statement_is_not_found(db: &Database) {
        let pooler = trusting(db, 1).await;
        let (mut a, mut b) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await);
        a.send(&[batch("select 'a''s'"), sync()].concat()).await;
        assert_eq!(a.tags().await, "12DCZI");
        b.send(&[bind("", ""), execute("", 0), sync()].concat()).await;
        let (messages, _) = b.until_ready().await;
        assert_eq!(messages[0].field('C'), "26000");
    }

    async fn an_unnamed_statement_can_be_bound_in_a_later_transaction(db: &Database) {
        let pooler = trusting(db, 2).await;
        let (mut a, mut b) = (raw(&pooler, "acme").await, raw(&pooler, "umbra").await);
        a.send(&[parse("", "select name from who"), sync()].concat()).await;
        assert_eq!(a.tags().await, "1ZI");
        assert_eq!(b.run("select name from who").await.unwrap(), ["umbra"]);
        for _ in 0..2 {
            a.send(&[bind("", ""), execute("", 0), sync()].concat()).await;
            let (messages, _) = a.until_ready().await;
            assert_eq!(messages[1].text(), "acme");
        }
    }

    async fn a_named_statement_keeps_its_session_on_its_server(db: &Database) {
        let pooler = trusting(db, 2).await;
        let mut a = raw(&pooler, "acme").await;
        a.send(&[parse("s", "select name from who"), sync()].concat()).await;
        assert_eq!(a.tags().await, "1ZI");
        let mut b = raw(&pooler, "umbra").await;
        for _ in 0..3 {
            assert_eq!(b.run("select name from who").await.unwrap(), ["umbra"]);
            a.send(&[bind("", "s"), execute("", 0), sync()].concat()).await;
            assert_eq!(a.until_ready().await.0[1].text(), "acme");
        }
        drop(a);
        // The statement is gone for whoever comes next.
        let mut c = raw(&pooler, "acme").await;
        for _ in 0..2 {
            c.send(&[bind("", "s"), sync()].concat()).await;
            assert_eq!(c.until_ready().await.0[0].field('C'), "26000");
        }
    }

    async fn a_function_call_passes_through(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        // pg_backend_pid(), oid 2026, no arguments, text result.
        wire.send(&message('F', &[0, 0, 0x07, 0xea, 0, 0, 0, 0, 0, 0])).await;
        assert_eq!(wire.tags().await, "VZI");
        wire.send(&message('F', &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0])).await;
        assert_eq!(wire.tags().await, "EZI");
    }
}
