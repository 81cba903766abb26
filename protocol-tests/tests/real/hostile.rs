//! Whatever a client sends, it gets a clear error, and nobody else notices.

use protocol_tests::wire::{V3_0, message, query, startup, sync};
use protocol_tests::{Database, Pooler, Wire, on_both};

use crate::{raw, trusting};

async fn is_well(pooler: &mut Pooler) {
    assert!(pooler.is_running());
    assert_eq!(raw(pooler, "acme").await.run("select name from who").await.unwrap(), ["acme"]);
}

fn frame(tag: u8, len: i32, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &len.to_be_bytes(), body].concat()
}

on_both! {
    async fn malformed_packets_before_authentication(db: &Database) {
        let mut pooler = trusting(db, 1).await;
        let whole = startup(V3_0, &[("user", "app.acme")]);
        // What comes of impossible lengths and old versions: real/first_bytes.rs.
        let packets = [
            startup(4 << 16, &[("user", "app.acme")]),
            startup(V3_0, &[]),
            startup(V3_0, &[("user", "app.acme"), ("options", "-B 5")]),
            startup(V3_0, &[("user", "app.acme"), ("tenantry.pool_mode", "odd")]),
            startup(V3_0, &[("user", "app.acme"), ("bad name", "x")]),
            [&8_i32.to_be_bytes()[..], &V3_0.to_be_bytes()].concat(),
            [&12_i32.to_be_bytes()[..], &V3_0.to_be_bytes(), b"usr\0"].concat(),
        ];
        for packet in packets {
            let mut wire = Wire::open(pooler.port).await;
            wire.send(&packet).await;
            let answer = wire.receive().await;
            assert_eq!((answer.tag, answer.field('S').as_str()), ('E', "FATAL"), "{packet:?}");
            assert_eq!(wire.next().await, None);
        }
        for len in 0..whole.len() {
            let mut wire = Wire::open(pooler.port).await;
            wire.send(&whole[..len]).await; // and away
        }
        let mut slow = Wire::open(pooler.port).await;
        for byte in &whole {
            slow.send(&[*byte]).await;
        }
        slow.logged_in().await;
        is_well(&mut pooler).await;
    }

    async fn malformed_messages_in_a_session(db: &Database) {
        let mut pooler = trusting(db, 1).await;
        for bytes in [
            frame(b'Q', 0, b""), frame(b'Q', 3, b""), frame(b'Q', -1, b""), frame(b'Q', i32::MIN, b""), frame(b'Q', i32::MAX, b""), frame(b'Q', 0x4000_0000, b""),
            frame(0, 4, b""), frame(b'?', 4, b""), frame(b'p', 5, b"x"), frame(255, 4, b""),
        ] {
            for prefix in [&b""[..], &query("select 1"), &query("begin")] {
                let mut wire = raw(&pooler, "acme").await;
                wire.send(&[prefix, &bytes].concat()).await;
                let mut last = None;
                while let Some(message) = wire.next().await {
                    last = Some(message);
                }
                let last = last.expect("an error");
                assert_eq!((last.tag, last.field('C').as_str()), ('E', "08P01"), "{bytes:?}");
            }
        }
        is_well(&mut pooler).await;
        db.until("state = 'idle in transaction'", 0).await;
    }

    async fn messages_in_the_wrong_order_are_answered_by_postgresql(db: &Database) {
        let mut pooler = trusting(db, 1).await;
        let mut wire = raw(&pooler, "acme").await;
        wire.send(&[message('d', b"stray"), message('c', b""), message('f', b"x\0"), query("select 1")].concat()).await;
        assert_eq!(wire.tags().await, "TDCZI");
        wire.send(&[message('E', b"\0\0\0\0\0"), message('B', b"\0nosuch\0\0\0\0\0\0\0"), message('D', b"Xx\0"), sync()].concat()).await;
        assert_eq!(wire.tags().await, "EZI");
        wire.send(&message('S', b"body")).await;
        let (messages, status) = wire.until_ready().await;
        assert_eq!((messages[0].field('C').as_str(), status), ("08P01", 'I'));
        wire.send(&[message('P', b"no end"), sync(), message('S', b"body"), query("select 1")].concat()).await;
        assert_eq!(wire.tags().await, "EZI");
        drop(wire); // a name without an end counts as a name: it was pinned
        is_well(&mut pooler).await;
    }

    async fn a_thousand_announced_gibibytes_cost_nothing(db: &Database) {
        let mut pooler = trusting(db, 1).await;
        let mut wires = Vec::new();
        for _ in 0..20 {
            let mut wire = raw(&pooler, "acme").await;
            wire.send(&frame(b'Q', 0x3fff_ffff, b"select 1")).await;
            wires.push(wire);
        }
        is_well(&mut pooler).await;
        let status = std::fs::read_to_string(format!("/proc/{}/status", pooler.pid())).unwrap();
        let peak: u64 = status.lines().find(|l| l.starts_with("VmHWM")).unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
        assert!(peak < 100_000, "{peak} kB");
        drop(wires);
        is_well(&mut pooler).await;
    }

    async fn a_flush_with_a_body_leaves_no_server_deaf(db: &Database) {
        // PostgreSQL answers it with an error, and then discards everything up to a Sync.
        let mut pooler = trusting(db, 1).await;
        for then in [&b""[..], &sync(), &query("select 1")] {
            let mut wire = raw(&pooler, "acme").await;
            wire.send(&[message('H', b"?"), then.to_vec()].concat()).await;
            let error = wire.receive().await;
            assert_eq!((error.tag, error.field('C').as_str()), ('E', "08P01"));
            drop(wire);
            is_well(&mut pooler).await;
        }
    }

    async fn random_bytes_in_a_session_harm_nobody(db: &Database) {
        use rand::{Rng, SeedableRng};
        let mut pooler = trusting(db, 2).await;
        let seed: u64 = rand::rng().random();
        println!("seed {seed}");
        let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
        for _ in 0..60 {
            let mut wire = raw(&pooler, "acme").await;
            let tags = b"QPBDECHSFdcfX?";
            let mut bytes = Vec::new();
            for _ in 0..rng.random_range(1..6) {
                let body: Vec<u8> = (0..rng.random_range(0..30)).map(|_| rng.random()).collect();
                bytes.extend(message(char::from(tags[rng.random_range(0..tags.len())]), &body));
            }
            wire.send_if_open(&bytes).await;
        }
        is_well(&mut pooler).await;
    }
}
