//! SIGHUP and RELOAD reload, and a changed file, if that is watched for; SIGTERM drains; a second one, or SIGINT, stops now.

use std::fmt::Display;
use std::io;
use std::time::Instant;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tracing::info;

use super::Pooler;
use super::watch::Watch;
use crate::admin::{Order, Unread};
use crate::config::Config;

/// Signals that are waited for, and no longer end the process by themselves.
pub struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on they are caught. Must run inside a tokio runtime.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn catch() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Runs a pooler until a signal ends it, and returns when nothing is left of it. `load` reads its
    /// configuration again.
    pub async fn rule<E: Display + Send + 'static>(
        self,
        pooler: Pooler,
        load: impl Fn() -> Result<Config, E> + Clone + Send + 'static,
    ) {
        let Self { mut hangup, mut terminate, mut interrupt } = self;
        let reloads = async {
            let mut watch = Watch::new(&pooler.shared);
            let mut asked = None;
            let mut orders = pooler.orders.lock().take();
            loop {
                let mut reply = None;
                tokio::select! {
                    rows = pooler.registry_changes(&mut asked) => {
                        pooler.take_registry(rows);
                        continue;
                    }
                    Some(order) = next_order(&mut orders) => match order {
                        Order::Reload(whom) => {
                            info!("RELOAD: reading the configuration again");
                            reply = Some(whom);
                        }
                        Order::Tenant { id, change, reply } => {
                            // Who gave the order may be gone.
                            let _ = reply.send(pooler.change_tenant(&id, change));
                            continue;
                        }
                    },
                    _ = hangup.recv() => info!("SIGHUP: reading the configuration again"),
                    () = watch.changed(&pooler.shared), if pooler.shared.general.watch => {
                        info!("a file has changed: reading the configuration again");
                    }
                }
                // Before it is read: what changes meanwhile is another change.
                watch = Watch::new(&pooler.shared);
                let reloaded = pooler.reload(load.clone()).await.map_err(Unread::Configuration);
                let news = pooler.registry_news().await;
                asked = Some(Instant::now());
                let registry =
                    news.map(|rows| rows.into_iter().for_each(|r| pooler.take_registry(r)));
                let result = reloaded.and(registry.map_err(Unread::Registry));
                if let Some(reply) = reply {
                    // Who gave the order may be gone.
                    let _ = reply.send(result);
                }
            }
        };
        tokio::select! {
            () = reloads => {}
            _ = interrupt.recv() => info!("SIGINT: stopping now"),
            _ = terminate.recv() => {
                info!("SIGTERM: finishing transactions; send it again to stop now");
                tokio::select! {
                    () = pooler.drain() => {}
                    _ = terminate.recv() => info!("second SIGTERM: stopping now"),
                    _ = interrupt.recv() => info!("SIGINT: stopping now"),
                }
            }
        }
        pooler.stopped().await;
    }
}

async fn next_order(orders: &mut Option<mpsc::Receiver<Order>>) -> Option<Order> {
    match orders {
        Some(orders) => orders.recv().await,
        None => None,
    }
}
