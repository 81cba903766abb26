//! `/readyz`: whether clients that come now can be served.

use std::collections::HashMap;
use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::looked::{ClusterLook, Looked};
use crate::config::{Cluster, Host};
use crate::pool::LastLogin;
use crate::wire::build::SSL_REQUEST;

/// How long an answer of PostgreSQL's is good: probes may come from many sides.
const AGE_MAX: Duration = Duration::from_secs(2);
/// How long a login that found nobody counts. Clients that wait have it tried again sooner.
const FAILURE_AGE_MAX: Duration = Duration::from_secs(30);
/// Longest it may take to answer.
const DIAL_TIME_MAX: Duration = Duration::from_secs(1);

/// What is known of clusters that no server is open to.
#[derive(Default)]
pub(super) struct Knocks(Mutex<HashMap<String, (Instant, bool)>>);

/// Whether it is ready, and a line for each thing that was looked at.
pub(super) async fn readiness(looked: &Looked<'_>, knocks: &Knocks) -> (bool, String) {
    let mut said = String::new();
    let open = looked.shared.is_open();
    let _ = writeln!(said, "clients: {}", if open { "let in" } else { "refused, shutting down" });
    let mut reachable = false;
    for look in &looked.clusters {
        let config = looked.access.config.clusters.get(&look.name);
        let state = match config {
            Some(cluster) => state(look, cluster, knocks).await,
            None => "gone",
        };
        reachable |= matches!(state, "in use" | "reachable");
        let _ = writeln!(said, "cluster {}: {state}", look.name);
    }
    (open && reachable, said)
}

async fn state(look: &ClusterLook, cluster: &Arc<Cluster>, knocks: &Knocks) -> &'static str {
    if look.is_in_use() {
        return "in use";
    }
    let is_late = |login: &LastLogin| login.at.elapsed() < FAILURE_AGE_MAX;
    if look.is_down() && look.last_login.as_ref().is_some_and(is_late) {
        return "logins fail";
    }
    let known = knocks.0.lock().get(&look.name).copied();
    let answers = match known {
        Some((at, answers)) if at.elapsed() < AGE_MAX => answers,
        _ => {
            let answers = answers(cluster).await;
            knocks.0.lock().insert(look.name.clone(), (Instant::now(), answers));
            answers
        }
    };
    if answers { "reachable" } else { "not reachable" }
}

/// Whether a PostgreSQL answers at one of its hosts.
async fn answers(cluster: &Cluster) -> bool {
    for host in &cluster.hosts {
        if matches!(timeout(DIAL_TIME_MAX, knock(host)).await, Ok(Ok(()))) {
            return true;
        }
    }
    false
}

/// Asks for TLS, as every client may, and hears yes or no. A connection alone says little: the kernel takes it for a
/// PostgreSQL that hangs, too.
async fn knock(host: &Host) -> io::Result<()> {
    if host.name.starts_with('/') {
        let path = format!("{}/.s.PGSQL.{}", host.name, host.port);
        return ask(UnixStream::connect(path).await?).await;
    }
    ask(TcpStream::connect((host.name.as_str(), host.port)).await?).await
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    stream.write_all(SSL_REQUEST).await?;
    stream.read_u8().await.map(drop)
}
