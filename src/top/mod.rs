//! `tenantry top`: tenants by who waits and who is busy, from the console of a pooler, again and again.
//!
//! Promises: it only looks (`SHOW`); the terminal is as it was when it ends, however it ends.
//!
//! Uses `server`: the console speaks as PostgreSQL does.

mod screen;

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::engine::Worker;
use crate::net::TlsError;
use crate::server::{AskError, Endpoint, LoginError, Server, login};
use screen::{Look, Screen};

/// Longest answer of the console that is read, in bytes: tens of thousands of tenants.
const ANSWER_LEN_MAX: usize = 64 * 1024 * 1024;

/// Why there is nothing to see.
#[derive(Debug, thiserror::Error)]
pub enum TopError {
    /// The console could not be logged in to.
    #[error("could not log in to the console: {0}")]
    Login(#[from] LoginError),
    /// It refused to answer, or broke off.
    #[error("{0}")]
    Ask(#[from] AskError),
    /// Certificates are no good.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// The terminal broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A bug; the panic's own words are on stderr.
    #[error("it panicked")]
    Panicked,
}

/// How it is shown.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Between two looks.
    pub interval: Duration,
    /// Looks, if not for ever.
    pub count: Option<u32>,
}

/// Shows it until it is told to end, or so often as is wanted.
///
/// # Errors
/// [`TopError`].
pub async fn run(endpoint: Endpoint, options: Options) -> Result<(), TopError> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (worker, thread) = Worker::start("top".to_owned(), Handle::current())?;
    let (reply, result) = oneshot::channel();
    worker.spawn(async move {
        // After a signal nobody listens.
        let _ = reply.send(show(&endpoint, options).await);
    });
    let result = tokio::select! {
        result = result => result.unwrap_or(Err(TopError::Panicked)),
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    // The screen is put back by whoever has it: that ends with the worker.
    worker.stop();
    thread.join().map_err(|_| TopError::Panicked)?;
    result
}

async fn show(endpoint: &Endpoint, options: Options) -> Result<(), TopError> {
    let mut console = login(endpoint).await?;
    let mut screen = Screen::open(io::stdout().is_terminal())?;
    let mut before = look(&mut console).await?;
    let mut shown = 0;
    while options.count.is_none_or(|count| shown < count) {
        sleep(options.interval).await;
        let now = look(&mut console).await?;
        screen.show(&now, &before)?;
        io::stdout().flush()?;
        before = now;
        shown += 1;
    }
    Ok(())
}

/// What the console says now.
async fn look(console: &mut Server) -> Result<Look, TopError> {
    let at = Instant::now();
    let version = console.fetch_all("SHOW VERSION", ANSWER_LEN_MAX).await?;
    let lists = console.fetch_all("SHOW LISTS", ANSWER_LEN_MAX).await?;
    let pools = console.fetch_all("SHOW POOLS", ANSWER_LEN_MAX).await?;
    let tenants = console.fetch_all("SHOW TENANTS", ANSWER_LEN_MAX).await?;
    Ok(Look::new(at, &version, &lists, &pools, &tenants))
}
