//! A server whose client left: what it still owes is drained, an open block is rolled back, and
//! what cannot be ended cleanly is cancelled and closed. Nobody waits for it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use tracing::debug;

use crate::flow::{Exchange, ServerScan, ServerVerdict};
use crate::net::{BUFFER_LEN, Phase, Shutdown};
use crate::pool::Linked;
use crate::server::note_parameter;
use crate::wire::backend::TransactionStatus;

/// Longest a departed client's statement may run on before it is cancelled.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// Parts with a server at a message boundary; `rest` was read from it and not yet scanned.
pub(super) fn part(
    linked: Linked,
    exchange: Exchange,
    scan: ServerScan,
    rest: Box<[u8]>,
    shutdown: Arc<Shutdown>,
) {
    if exchange.is_at_rest() && rest.is_empty() && scan.at_boundary() {
        return linked.check_in();
    }
    if !exchange.can_drain() {
        // A pipeline without its Sync has committed nothing, and a Sync would commit it.
        return abandon(linked, exchange.is_busy());
    }
    linked.finish_with(|linked| finish(linked, exchange, scan, rest, shutdown));
}

/// Closes a server in the middle of something; what it runs is cancelled.
pub(super) fn abandon(mut linked: Linked, busy: bool) {
    if !busy {
        return drop(linked);
    }
    let cancel = linked.server().cancel_key.promise();
    linked.finish_with(|linked| async move {
        match cancel.send().await {
            Ok(()) => debug!("a statement was cancelled: its client is gone"),
            Err(error) => debug!(%error, "could not cancel what a departed client had running"),
        }
        drop(linked);
    });
}

async fn finish(
    mut linked: Linked,
    mut exchange: Exchange,
    scan: ServerScan,
    rest: Box<[u8]>,
    shutdown: Arc<Shutdown>,
) {
    let ended = tokio::select! {
        ended = timeout(DRAIN_TIME_MAX, end(&mut linked, &mut exchange, scan, &rest)) => ended.ok(),
        // What has not ended by now is not waited for.
        () = shutdown.reached(Phase::Stopping) => None,
    };
    match ended {
        Some(Ok(true)) => linked.check_in(),
        Some(Ok(false) | Err(_)) => drop(linked),
        None => abandon(linked, true),
    }
}

/// Reads to the end of what is owed and rolls back. `true`: the server can be lent again.
async fn end(
    linked: &mut Linked,
    exchange: &mut Exchange,
    mut scan: ServerScan,
    rest: &[u8],
) -> io::Result<bool> {
    let mut bytes = BytesMut::from(rest);
    while exchange.is_busy() || !bytes.is_empty() || !scan.at_boundary() {
        let skipped = scan.skip_body(&bytes);
        bytes.advance(skipped);
        let message = if scan.at_boundary() { scan.next(&bytes).map_err(invalid)? } else { None };
        let Some(message) = message else {
            bytes.reserve(BUFFER_LEN);
            if linked.server().stream().read_buf(&mut bytes).await? == 0 {
                return Ok(false);
            }
            continue;
        };
        match exchange.on_server(message.tag, message.body).map_err(invalid)? {
            ServerVerdict::SwitchFailed => return Ok(false),
            ServerVerdict::SwitchDone => linked.confirm(),
            ServerVerdict::Parameter => {
                note_parameter(&mut linked.server().parameters, &message).map_err(invalid)?;
            }
            ServerVerdict::Forward
            | ServerVerdict::Swallow
            | ServerVerdict::Named(_)
            | ServerVerdict::NotRestored
            | ServerVerdict::Foretold
            | ServerVerdict::Ready(_) => {}
        }
        let consumed = message.consumed;
        bytes.advance(consumed);
    }
    if exchange.in_block() {
        let answer = linked.server().ask(None, "ROLLBACK").await.map_err(invalid)?;
        return Ok(answer.status == TransactionStatus::Idle);
    }
    Ok(exchange.is_at_rest())
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
