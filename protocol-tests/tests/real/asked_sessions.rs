//! Questions of the pooler's own, to a server that has more to say: what stands behind an answer is the client's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use protocol_tests::pooler::BY_SCHEMA;
use protocol_tests::wire::query;
use protocol_tests::{Database, Pooler, on_both, soon};

use crate::raw;

/// Longer than any chunk in which answers are read; if somebody began to read in the middle, it would be a message of 825 MB.
fn payload(number: usize) -> String {
    format!("{number} {}", "N1111".repeat(60))
}

/// Notifies without a pause until it is told to stop; how often it did.
async fn notify(db: &Database, stop: Arc<AtomicBool>, sent: Arc<AtomicUsize>) {
    let mut sender = db.wire("").await;
    while !stop.load(Ordering::Relaxed) {
        let number = sent.load(Ordering::Relaxed);
        sender.run(&format!("select pg_notify('ch', '{}')", payload(number))).await.unwrap();
        sent.store(number + 1, Ordering::Relaxed);
    }
}

on_both! {
    async fn a_session_knows_its_own_notifications_by_the_process_id_of_its_login(db: &Database) {
        db.schemas(&["acme"]).await;
        for rules in ["", "guard = \"reject\"\n", "pool_mode = \"session\"\n"] {
            let (general, rules) = if rules.starts_with("pool_mode") { (rules, "") } else { ("", rules) };
            let pooler = Pooler::start_with(general, &format!("{}[auth]\ntype = \"trust\"\n{BY_SCHEMA}{rules}", db.toml(3))).await;
            let (mut wire, mut other) = (raw(&pooler, "acme").await, raw(&pooler, "acme").await);
            wire.run("listen ch").await.unwrap();
            for (sender, is_own) in [(true, true), (false, false)] {
                let by = if sender { &mut wire } else { &mut other };
                by.send(&query("notify ch")).await;
                let mut heard = by.until_ready().await.0;
                heard.retain(|message| message.tag == 'A');
                let heard = if sender { heard.pop() } else { None };
                let heard = match heard {
                    Some(heard) => heard,
                    None => wire.receive().await,
                };
                assert_eq!(heard.tag, 'A');
                let pid = i32::from_be_bytes(heard.body[..4].try_into().unwrap());
                assert_eq!(pid == wire.pid, is_own, "{general}{rules}: {pid}, {}", wire.pid);
            }
        }
    }

    async fn a_notification_behind_the_answer_is_neither_lost_nor_cut(db: &Database) {
        db.schemas(&["acme"]).await;
        for (rules, statement) in [("guard = \"reject\"\n", "select 1"), ("", "do $$ begin perform 1; end $$"), ("guard = \"reject\"\n", "reset datestyle")] {
            let pooler = Pooler::start(&format!("{}[auth]\ntype = \"trust\"\n{BY_SCHEMA}{rules}", db.toml(2))).await;
            let mut wire = raw(&pooler, "acme").await;
            wire.run("listen ch").await.unwrap();
            let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
            let mut heard = 0;
            let asking = async {
                for _ in 0..1000 {
                    wire.send(&query(statement)).await;
                    let (messages, status) = wire.until_ready().await;
                    assert_eq!(status, 'I');
                    for message in messages {
                        assert_ne!(message.tag, 'E', "{}", message.field('M'));
                        if message.tag == 'A' {
                            assert!(message.body.windows(payload(heard).len()).any(|part| part == payload(heard).as_bytes()), "number {heard}");
                            heard += 1;
                        }
                    }
                }
                stop.store(true, Ordering::Relaxed);
            };
            tokio::join!(asking, notify(db, Arc::clone(&stop), Arc::clone(&sent)));
            let sent = sent.load(Ordering::Relaxed);
            let rest = async {
                while heard < sent {
                    assert_eq!(wire.receive().await.tag, 'A');
                    heard += 1;
                }
            };
            soon(&format!("{sent} notifications"), rest).await;
            assert!(sent > 20, "{sent} notifications are too few");
        }
    }
}
