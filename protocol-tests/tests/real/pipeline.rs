//! Pipelines: many units in one write, replies in order, a server only released at the end.

use protocol_tests::wire::{batch, flush, query, sync};
use protocol_tests::{Database, on_both};

use crate::{raw, trusting};

on_both! {
    async fn a_thousand_units_in_one_write_are_answered_in_order(db: &Database) {
        let pooler = trusting(db, 2).await;
        let mut wire = raw(&pooler, "acme").await;
        let bytes: Vec<u8> = (0..1000).flat_map(|n| [batch(&format!("select {n}")), sync()].concat()).collect();
        wire.send(&bytes).await;
        for n in 0..1000 {
            let (messages, status) = wire.until_ready().await;
            assert_eq!((messages[2].text(), status), (n.to_string(), 'I'));
        }
    }

    async fn an_error_skips_to_the_next_sync_and_no_further(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        wire.send(&[batch("select 1"), batch("select 1/0"), batch("select 2"), sync(), batch("select 3"), sync(), query("select 4")].concat()).await;
        assert_eq!(wire.tags().await, "12DC1EZI", "a division of constants fails when it is bound");
        assert_eq!(wire.tags().await, "12DCZI");
        assert_eq!(wire.tags().await, "TDCZI");
    }

    async fn a_flush_without_sync_answers_and_keeps_the_server(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut other = raw(&pooler, "umbra").await;
        let mut wire = raw(&pooler, "acme").await;
        wire.send(&[batch("insert into who values ('unsynced') returning name"), flush()].concat()).await;
        for tag in ['1', '2', 'D', 'C'] {
            assert_eq!(wire.receive().await.tag, tag);
        }
        // Its implicit transaction is open: nobody else may have the one server.
        other.send(&query("select name from who")).await;
        pooler.until_message(1, "client waits for a server").await;
        assert!(other.is_silent().await);
        // It leaves without a Sync: nothing was committed, and the server is not kept.
        drop(wire);
        assert_eq!(other.until_ready().await.0[1].text(), "umbra");
        let mut again = raw(&pooler, "acme").await;
        assert_eq!(again.run("select name from who").await.unwrap(), ["acme"]);
    }

    async fn a_client_that_writes_without_reading_does_not_block_others(db: &Database) {
        let pooler = trusting(db, 2).await;
        let mut deaf = raw(&pooler, "acme").await;
        let flood: Vec<u8> = (0..200).flat_map(|_| query("select repeat('x', 200000)")).collect();
        deaf.send(&flood).await;
        let mut other = raw(&pooler, "umbra").await;
        for _ in 0..5 {
            assert_eq!(other.run("select name from who").await.unwrap(), ["umbra"]);
        }
        for _ in 0..200 {
            assert_eq!(deaf.until_ready().await.0[1].text().len(), 200_000);
        }
    }
}
