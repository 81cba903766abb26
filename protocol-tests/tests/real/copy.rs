//! COPY in and out, ended well, by failure, by the client's death.

use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::wire::{batch, bind, close, execute, flush, message, parse, query, sync};
use protocol_tests::{Database, Pooler, on_both};

use crate::{raw, trusting};

on_both! {
    async fn copy_in_and_out_carry_the_data(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        wire.send(&query("copy who from stdin")).await;
        assert_eq!(wire.receive().await.tag, 'G');
        for n in 0..5000 {
            wire.send(&message('d', format!("row {n} {}\n", "x".repeat(100)).as_bytes())).await;
        }
        wire.send(&message('c', b"")).await;
        let (messages, status) = wire.until_ready().await;
        assert_eq!((messages[0].body.as_slice(), status), (&b"COPY 5000\0"[..], 'I'));
        wire.send(&query("copy who to stdout")).await;
        let (messages, _) = wire.until_ready().await;
        assert_eq!(messages.iter().filter(|m| m.tag == 'd').count(), 5001);
    }

    async fn a_copy_in_one_write_with_its_data_works(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        let data = [message('d', b"a\n"), message('d', b"b\n"), message('c', b"")].concat();
        wire.send(&[query("copy who from stdin"), data.clone(), query("select count(*) from who")].concat()).await;
        assert_eq!(wire.tags().await, "GCZI");
        assert_eq!(wire.until_ready().await.0[1].text(), "3");
        wire.send(&[batch("copy who from stdin"), data, sync()].concat()).await;
        assert_eq!(wire.tags().await, "12GCZI");
    }

    async fn a_copy_that_fails_leaves_the_session_in_order(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        for (data, code) in [(message('f', b"changed my mind\0"), "57014"), (message('d', b"too\tmany\n"), "22P04")] {
            wire.send(&query("copy who from stdin")).await;
            assert_eq!(wire.receive().await.tag, 'G');
            wire.send(&data).await;
            // Data that was on its way already is ignored, as PostgreSQL does.
            wire.send(&[message('d', b"late\n"), message('c', b"")].concat()).await;
            let (messages, status) = wire.until_ready().await;
            assert_eq!((messages[0].field('C').as_str(), status), (code, 'I'));
            assert_eq!(wire.run("select name from who").await.unwrap(), ["acme"]);
        }
        wire.send(&query("copy nowhere from stdin")).await;
        assert_eq!(wire.tags().await, "EZI");
    }

    async fn what_is_flushed_behind_a_copy_keeps_its_transaction(db: &Database) {
        let pooler = trusting(db, 1).await;
        // Of one state: between them there is no switch that PostgreSQL would refuse.
        let (mut wire, mut other) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await);
        let copy = [batch("copy who from stdin"), message('d', b"copied\n"), message('c', b""), sync()].concat();
        wire.send(&[copy, batch("insert into who values ('open')"), flush()].concat()).await;
        assert_eq!(wire.tags().await, "12GCZI");
        for tag in ['1', '2', 'C'] {
            assert_eq!(wire.receive().await.tag, tag);
        }
        other.send(&query("select count(*) from who")).await;
        pooler.until_message(1, "client waits for a server").await;
        drop(wire); // without a Sync nothing of it is committed
        assert_eq!(other.until_ready().await.0[1].text(), "2");
    }

    async fn a_failed_copy_whose_sync_came_early_gives_its_server_back(db: &Database) {
        // libpq sends Parse, Bind, Describe, Execute and Sync at once; the COPY reads the Sync and drops it.
        let pooler = trusting(db, 1).await;
        let (mut wire, mut other) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await);
        for _ in 0..3 {
            wire.send(&[batch("copy who from stdin"), sync()].concat()).await;
            for tag in ['1', '2', 'G'] {
                assert_eq!(wire.receive().await.tag, tag);
            }
            wire.send(&[message('d', b"too\tmany\n"), message('c', b""), sync()].concat()).await;
            let (messages, status) = wire.until_ready().await;
            assert_eq!((messages[0].field('C').as_str(), status), ("22P04", 'I'));
            assert_eq!(other.run("select name from who").await.unwrap(), ["acme"]);
            assert_eq!(wire.run("select name from who").await.unwrap(), ["acme"]);
        }
    }

    async fn a_failed_copy_with_an_early_sync_is_settled_wherever_it_stood(db: &Database) {
        let pooler = trusting(db, 1).await;
        let (mut wire, mut other) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await);
        let (copy, data) = ([batch("copy who from stdin"), sync()].concat(), [message('d', b"too\tmany\n"), message('c', b"")].concat());
        // In the simple protocol, and in a block that is rolled back, or saved.
        wire.send(&[query("copy who from stdin"), sync(), data.clone()].concat()).await;
        assert_eq!(wire.tags().await, "GEZI");
        assert_eq!(other.run("select name from who").await.unwrap(), ["acme"]);
        for (before, after) in [("begin", "rollback"), ("begin; savepoint s", "rollback to s; commit")] {
            wire.run(before).await.unwrap();
            wire.send(&[copy.clone(), data.clone(), sync()].concat()).await;
            assert_eq!(wire.tags().await, "12GEZE");
            wire.run(after).await.unwrap();
            assert_eq!(other.run("select name from who").await.unwrap(), ["acme"]);
        }
        assert_eq!(pooler.messages("session pinned to its server"), 0);
        // With more behind it in one write nobody can tell: the session is pinned, and says so.
        wire.send(&[copy, data, sync(), query("select name from who")].concat()).await;
        assert_eq!(wire.tags().await, "12GEZI");
        assert_eq!(wire.tags().await, "TDCZI");
        pooler.until_message(1, "session pinned to its server").await;
    }

    async fn a_settled_server_keeps_no_unnamed_statement_for_the_next_client(db: &Database) {
        let pooler = trusting(db, 1).await;
        let (mut wire, mut other) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await);
        wire.send(&[batch("copy who from stdin"), sync()].concat()).await;
        for tag in ['1', '2', 'G'] {
            assert_eq!(wire.receive().await.tag, tag);
        }
        wire.send(&[message('d', b"too\tmany\n"), message('c', b""), sync()].concat()).await;
        assert_eq!(wire.tags().await, "EZI");
        other.send(&[bind("", ""), execute("", 0), sync()].concat()).await;
        assert_eq!(other.until_ready().await.0[0].field('C'), "26000");
    }

    async fn a_client_that_dies_in_a_copy_leaves_nothing(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        wire.send(&query("copy who from stdin")).await;
        assert_eq!(wire.receive().await.tag, 'G');
        wire.send(&message('d', b"lost\n")).await;
        drop(wire);
        let mut other = raw(&pooler, "acme").await;
        assert_eq!(other.run("select name from who").await.unwrap(), ["acme"]);
        db.until("state = 'active'", 0).await;
    }

    async fn a_message_of_many_megabytes_passes_without_being_gathered(db: &Database) {
        let pooler = trusting(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        let rss = || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", pooler.pid())).unwrap();
            let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap().to_owned();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        assert_eq!(wire.run("select 1").await.unwrap(), ["1"]);
        let before = rss();
        let mut large = b"select length('".to_vec();
        large.resize(large.len() + 64 * 1024 * 1024, b'x');
        large.extend(b"')\0");
        wire.send(&message('Q', &large)).await;
        assert_eq!(wire.until_ready().await.0[1].text(), "67108864");
        wire.send(&query("select repeat('y', 64 * 1024 * 1024)")).await;
        assert_eq!(wire.until_ready().await.0[1].text().len(), 67_108_864);
        assert!(rss() - before < 4096, "{} kB more for messages of 64 MiB", rss() - before);
    }
    /// PostgreSQL takes it for lost synchronization, and so ends the connection. Nobody waits for ever.
    async fn what_may_not_stand_in_a_copy_ends_the_connection(db: &Database) {
        let guarded = format!("{}{BY_SCHEMA}guard = \"reject\"\n[auth]\ntype = \"trust\"\n", db.toml(1));
        let poolers = [trusting(db, 1).await, Pooler::start(&guarded).await];
        for pooler in poolers {
            for copy in [query("copy who from stdin"), [batch("copy who from stdin"), flush()].concat()] {
                for breaks in [parse("", "select 1"), query("select 1"), bind("", ""), execute("", 0), close('S', "x")] {
                    for early in [false, true] {
                        let mut wire = raw(&pooler, "acme").await;
                        let broken = [&breaks[..], &sync()].concat();
                        if early {
                            wire.send(&[&copy[..], &broken].concat()).await;
                        } else {
                            wire.send(&copy).await;
                            while wire.receive().await.tag != 'G' {}
                            wire.send(&broken).await;
                        }
                        let mut last = wire.receive().await;
                        while let Some(next) = wire.next().await {
                            last = next;
                        }
                        let text = format!("unexpected message type 0x{:02X} during COPY from stdin", breaks[0]);
                        assert_eq!((last.field('C').as_str(), last.field('M').contains(&text)), ("08P01", true), "{last:?}");
                    }
                }
            }
            let mut wire = raw(&pooler, "acme").await;
            assert_eq!(wire.run("select name from who").await.unwrap(), ["acme"]);
        }
    }
    /// The pooler's own messages have answers, too.
    async fn behind_a_failed_copy_that_nobody_can_settle_nothing_is_asked_nor_answered_twice(db: &Database) {
        let pooler = trusting(db, 1).await;
        let bad = [message('d', b"too\tmany\n"), message('c', b"")].concat();
        let failed = [batch("copy who from stdin"), sync(), bad, batch("select 1"), sync()].concat();
        for reset in ["reset all", "discard all"] {
            for next in [query(reset), [batch(reset), sync()].concat()] {
                let mut wire = raw(&pooler, "acme").await;
                wire.send(&failed).await;
                assert_eq!(wire.tags().await, "12GEZI");
                assert_eq!(wire.run("select name from who").await.unwrap(), ["acme"]);
                wire.send(&[next, query("select 2")].concat()).await;
                let last = wire.receive().await;
                assert_eq!((last.tag, last.field('C').as_str()), ('E', "08P01"), "{last:?}");
                assert!(wire.next().await.is_none());
            }
        }
    }

    /// Where the guard is on, what a client sends waits until what was before is over; what ends a COPY is part of that.
    async fn a_failed_copy_ends_where_the_guard_is_on(db: &Database) {
        db.schemas(&["acme"]).await;
        let rules = "guard = \"reject\"\n";
        let pooler = Pooler::start(&format!("{}[auth]\ntype = \"trust\"\n{BY_SCHEMA}{rules}", db.toml(1))).await;
        let (bad, end) = (message('d', b"too\tmany\n"), message('c', b""));
        let copy = || [batch("copy who from stdin"), sync()].concat();
        for writes in [
            vec![[copy(), bad.clone()].concat(), [end.clone(), sync()].concat()],
            vec![[copy(), bad.clone(), end.clone()].concat(), sync()],
            vec![copy(), bad.clone(), bad.clone(), message('f', b"no"), sync()],
            vec![[copy(), bad.clone(), end.clone(), sync()].concat()],
        ] {
            let mut wire = raw(&pooler, "acme").await;
            for write in &writes {
                wire.send(write).await;
            }
            let last = wire.until_ready().await;
            assert_eq!((last.0.iter().filter(|m| m.tag == 'E').count(), last.1), (1, 'I'));
            assert_eq!(wire.run("select name from who").await.unwrap(), ["acme"]);
        }
        // PostgreSQL waits for a Sync, and the next message for PostgreSQL.
        let mut wire = raw(&pooler, "acme").await;
        wire.send(&[copy(), bad, end, batch("reset all"), sync(), query("select 2")].concat()).await;
        let mut last = wire.receive().await;
        while let Some(next) = wire.next().await {
            last = next;
        }
        assert_eq!(last.field('C'), "08006", "{last:?}");
    }
}
