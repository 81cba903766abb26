//! A server whose client left: what it still owes is drained, an open block is rolled back, and
//! what cannot be ended cleanly is cancelled and closed. The same for one that has refused a switch. Nobody waits for it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tracing::debug;

use crate::flow::{Exchange, ServerScan, ServerVerdict};
use crate::net::{BUFFER_LEN, Phase, Shutdown};
use crate::pool::{Linked, Taint};
use crate::server::note_parameter;
use crate::wire::backend::{TransactionStatus, ready_for_query, tag};
use crate::wire::build;

/// Longest a departed client's statement may run on before it is cancelled.
pub(super) const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

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
        linked.end_backend().await;
    });
}

/// Takes a switch back that was refused, in front of messages of the client's with so many `Sync`: PostgreSQL has skipped
/// them, and is in the switch's failed transaction. `rest` was read behind the error. What one client or one tenant is
/// refused costs the others no server.
pub(super) fn roll_back(linked: Linked, scan: ServerScan, rest: Box<[u8]>, syncs: usize) {
    linked.finish_with(move |mut linked| async move {
        let undone = undo(&mut linked, scan, &rest, syncs);
        if matches!(timeout(DRAIN_TIME_MAX, undone).await, Ok(Ok(true))) {
            // Some of what a scrub removes no rollback brings back.
            linked.taint(Taint::Scrub);
            linked.check_in();
        }
    });
}

/// `true`: the server is outside any transaction, and nothing of the client's has run.
async fn undo(
    linked: &mut Linked,
    mut scan: ServerScan,
    rest: &[u8],
    syncs: usize,
) -> io::Result<bool> {
    linked.server().stream().write_all(build::SYNC).await?;
    linked.server().stream().flush().await?;
    let (mut bytes, mut owed) = (BytesMut::from(rest), syncs + 1);
    while owed > 0 || !bytes.is_empty() || !scan.at_boundary() {
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
        match (message.tag, message.body) {
            (tag::READY_FOR_QUERY, Some(body)) if owed > 0 => {
                if ready_for_query(body).map_err(invalid)? != TransactionStatus::Failed {
                    return Ok(false);
                }
                owed -= 1;
            }
            (tag::PARAMETER_STATUS, _) => {
                note_parameter(&mut linked.server().parameters, &message).map_err(invalid)?;
            }
            (tag::NOTICE | tag::NOTIFICATION, _) => {}
            _ => return Ok(false),
        }
        let consumed = message.consumed;
        bytes.advance(consumed);
    }
    let ended = linked.server().ask(None, "ROLLBACK").await.map_err(invalid)?;
    Ok(ended.status == TransactionStatus::Idle)
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
