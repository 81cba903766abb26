//! What goes on while the demo stays up: a few clients of three tenants, so that the dashboard has something to show.

use std::time::Duration;

use bytes::BytesMut;
use tokio::time::sleep;

use super::load::connect;
use super::{DemoError, say};
use crate::net::{Conversation, Tasks};
use crate::wire::backend::tag;
use crate::wire::build;

/// Clients of the first tenants: one is loud, one moderate, one quiet.
const CLIENTS: [usize; 3] = [12, 4, 2];

/// Runs until its tasks are dropped.
pub(super) async fn begin(port: u16, tenants: &[String], tasks: &Tasks) -> Result<(), DemoError> {
    for (tenant, count) in tenants.iter().zip(CLIENTS) {
        for number in 0..count {
            let mut client = connect(port, tenant).await?;
            let listens = (count, number) == (CLIENTS[1], 0);
            tasks.spawn(async move {
                if let Err(error) = go_on(&mut client, number, listens).await {
                    say(&format!("a client failed: {error}"));
                }
            });
        }
    }
    Ok(())
}

/// Short statements and longer ones, and a while of nothing; one of them keeps its server by a LISTEN.
async fn go_on(client: &mut Conversation, number: usize, listens: bool) -> Result<(), DemoError> {
    if listens {
        ask(client, "LISTEN news").await?;
    }
    for turn in number.. {
        let millis = 5 + 7 * (turn % 9);
        ask(client, &format!("SELECT pg_sleep({millis} / 1000.0) FROM who")).await?;
        let pause = 20 + 13 * (turn % 11);
        sleep(Duration::from_millis(pause as u64)).await;
    }
    Ok(())
}

async fn ask(client: &mut Conversation, sql: &str) -> Result<(), DemoError> {
    let mut out = BytesMut::new();
    build::query(sql, &mut out);
    client.send(&out).await?;
    while client.receive().await?.0 != tag::READY_FOR_QUERY {}
    Ok(())
}
