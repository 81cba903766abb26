//! `/readyz`: whether clients that come now can be served.

use std::collections::HashMap;
use std::fmt::Write;
use std::io;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::looked::{ClusterLook, Looked};
use crate::config::Host;
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
    knock_where_nothing_is_known(looked, knocks).await;
    let mut said = String::new();
    let open = looked.shared.is_open();
    let _ = writeln!(said, "clients: {}", if open { "let in" } else { "refused, shutting down" });
    let mut reachable = false;
    for look in &looked.clusters {
        let state = known_of(look).unwrap_or_else(|| {
            let answers = knocks.0.lock().get(&look.name).is_some_and(|(_, answers)| *answers);
            if answers { "reachable" } else { "not reachable" }
        });
        reachable |= matches!(state, "in use" | "reachable");
        let _ = writeln!(said, "cluster {}: {state}", look.name);
    }
    (open && reachable, said)
}

/// What servers and logins say of a cluster, if they say anything.
fn known_of(look: &ClusterLook) -> Option<&'static str> {
    let is_late = |login: &LastLogin| login.at.elapsed() < FAILURE_AGE_MAX;
    match look.last_login {
        _ if look.is_in_use() => Some("in use"),
        Some(login) if !login.answered && is_late(&login) => Some("logins fail"),
        Some(_) | None => None,
    }
}

/// Asks at all hosts of the other clusters at once, unless that was done a moment ago.
async fn knock_where_nothing_is_known(looked: &Looked<'_>, knocks: &Knocks) {
    let mut asked = JoinSet::new();
    for look in looked.clusters.iter().filter(|look| known_of(look).is_none()) {
        let known = knocks.0.lock().get(&look.name).copied();
        let Some(cluster) = looked.access.config.clusters.get(&look.name) else { continue };
        if known.is_some_and(|(at, _)| at.elapsed() < AGE_MAX) {
            continue;
        }
        for host in cluster.hosts.clone() {
            let name = look.name.clone();
            asked.spawn(async move {
                let answer = timeout(DIAL_TIME_MAX, knock(&host)).await;
                (name, matches!(answer, Ok(Ok(()))))
            });
        }
    }
    let mut answers: HashMap<String, bool> = HashMap::new();
    while let Some(asked) = asked.join_next().await {
        if let Ok((name, answered)) = asked {
            *answers.entry(name).or_default() |= answered;
        }
    }
    let now = Instant::now();
    knocks.0.lock().extend(answers.into_iter().map(|(name, answered)| (name, (now, answered))));
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
