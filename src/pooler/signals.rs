//! SIGHUP and RELOAD reload, and a changed file, if that is watched for; SIGTERM drains; a second one, or SIGINT, stops
//! now. SHUTDOWN on the console is one of these, or waits until clients have left by themselves.

use std::fmt::Display;
use std::io;
use std::pin::pin;
use std::time::Instant;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tracing::info;

use super::Pooler;
use super::supervisor;
use super::watch::Watch;
use crate::admin::{Leave, Order, Unread};
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
        let interrupted = async |interrupt: &mut Signal| {
            interrupt.recv().await;
            info!("SIGINT: stopping now");
        };
        supervisor::ready();
        let mut orders = pooler.orders.lock().take();
        let mut leave = tokio::select! {
            leave = take_orders(&pooler, &mut hangup, &load, &mut orders) => leave,
            () = interrupted(&mut interrupt) => Leave::Now,
            _ = terminate.recv() => Leave::WhenServersAreIdle,
        };
        supervisor::stopping();
        if leave == Leave::WhenClientsAreGone {
            let mut emptied = pin!(pooler.emptied());
            // They may wait for an operator: for a tenant that is paused, say.
            while leave == Leave::WhenClientsAreGone {
                leave = tokio::select! {
                    () = &mut emptied => Leave::Now,
                    leave = take_orders(&pooler, &mut hangup, &load, &mut orders) => leave,
                    () = interrupted(&mut interrupt) => Leave::Now,
                    _ = terminate.recv() => Leave::WhenServersAreIdle,
                };
            }
        }
        if leave == Leave::WhenServersAreIdle {
            info!("finishing transactions; SIGTERM stops now");
            let mut drained = pin!(pooler.drain());
            while leave == Leave::WhenServersAreIdle {
                leave = tokio::select! {
                    () = &mut drained => Leave::Now,
                    leave = take_orders(&pooler, &mut hangup, &load, &mut orders) => match leave {
                        Leave::Now => leave,
                        Leave::WhenServersAreIdle | Leave::WhenClientsAreGone => Leave::WhenServersAreIdle,
                    },
                    _ = terminate.recv() => {
                        info!("SIGTERM: stopping now");
                        Leave::Now
                    }
                    () = interrupted(&mut interrupt) => Leave::Now,
                };
            }
        }
        pooler.stopped().await;
    }
}

/// Reloads, and does what operators want, until one of them wants the end.
async fn take_orders<E: Display + Send + 'static>(
    pooler: &Pooler,
    hangup: &mut Signal,
    load: &(impl Fn() -> Result<Config, E> + Clone + Send + 'static),
    orders: &mut Option<mpsc::Receiver<Order>>,
) -> Leave {
    let mut watch = Watch::new(&pooler.shared);
    let mut asked = None;
    loop {
        let mut reply = None;
        tokio::select! {
            rows = pooler.registry_changes(&mut asked) => {
                pooler.take_registry(rows);
                continue;
            }
            Some(order) = next_order(orders) => match order {
                Order::Reload(whom) => {
                    info!("RELOAD: reading the configuration again");
                    reply = Some(whom);
                }
                Order::Tenant { id, change, by, reply } => {
                    // Who gave the order may be gone.
                    let _ = reply.send(pooler.change_tenant(&id, change, &by));
                    continue;
                }
                Order::Database { name, change, by, reply } => {
                    let _ = reply.send(pooler.change_database(name.as_deref(), change, &by));
                    continue;
                }
                Order::Shutdown(leave) => return leave,
            },
            _ = hangup.recv() => info!("SIGHUP: reading the configuration again"),
            () = watch.changed(&pooler.shared), if pooler.shared.general.watch => {
                info!("a file has changed: reading the configuration again");
            }
        }
        supervisor::reloading();
        // Before it is read: what changes meanwhile is another change.
        watch = Watch::new(&pooler.shared);
        let reloaded = pooler.reload(load.clone()).await.map_err(Unread::Configuration);
        pooler.shared.stats.count_reload(reloaded.is_ok());
        let news = pooler.registry_news().await;
        asked = Some(Instant::now());
        let registry = news.map(|rows| rows.into_iter().for_each(|r| pooler.take_registry(r)));
        supervisor::ready();
        let result = reloaded.and(registry.map_err(Unread::Registry));
        if let Some(reply) = reply {
            // Who gave the order may be gone.
            let _ = reply.send(result);
        }
    }
}

async fn next_order(orders: &mut Option<mpsc::Receiver<Order>>) -> Option<Order> {
    match orders {
        Some(orders) => orders.recv().await,
        None => None,
    }
}
