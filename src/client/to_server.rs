//! From the client to the server: read, scan, write, untouched.

use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Buf;
use tokio::io::AsyncWrite;

use super::link::LinkEnd;
use super::session::Session;
use super::units::Step;
use crate::wire::frontend::tag;

impl Session {
    /// `Ok(true)`: something moved.
    pub(super) fn feed_server(&mut self, cx: &mut Context<'_>) -> Result<bool, LinkEnd> {
        let mut moved = false;
        while self.link.linked.is_some() && self.link.write_error.is_none() && self.fuel.burn() {
            if self.link.confirmed
                && !self.link.keeps_unit
                && !self.link.leaving
                && self.link.broken.is_none()
            {
                self.scan_inbound();
            }
            if self.begins_to_wait() {
                return Err(LinkEnd::Outdated);
            }
            let stopped = self.has_rewritten_enough();
            match self.write_server(cx) {
                Poll::Pending => return Ok(moved),
                Poll::Ready(wrote) => moved |= wrote,
            }
            if stopped && self.link.confirmed && self.link.write_error.is_none() {
                // More of the client's is there, and waits for nothing else.
                continue;
            }
            // Who has left may have sent more than the unit that waits for its switch.
            let waits = (!self.link.confirmed || self.link.keeps_unit)
                && self.inbound.len() > self.units.scanned;
            if self.link.leaving || (self.link.ended && !waits) {
                return Err(LinkEnd::ClientLeft);
            }
            self.last_word_if_due()?;
            // What it sends is not read any more; that it leaves is noticed.
            if self.link.broken.is_some() && self.client.poll_closed(cx).is_ready() {
                return Err(LinkEnd::ClientLeft);
            }
            let full = self.inbound.is_full() || !self.exchange.has_room();
            if self.link.ended || (full && self.client.poll_closed(cx).is_ready()) {
                self.note_left(cx);
            }
            if self.link.ended || self.link.broken.is_some() || full {
                return Ok(moved);
            }
            match self.poll_client(cx) {
                Poll::Pending => return Ok(moved),
                Poll::Ready(Ok(1..)) => moved = true,
                Poll::Ready(Ok(0)) => self.link.ended = true,
                Poll::Ready(Err(_)) => return Err(LinkEnd::ClientLeft),
            }
        }
        Ok(moved)
    }

    pub(super) fn scan_inbound(&mut self) {
        self.note_more();
        while self.fuel.burn() {
            if let Some(tag) = self.breaks_into_copy() {
                let problem = format!("unexpected message type 0x{tag:02X} during COPY from stdin");
                return self.link.broken = Some(problem.into());
            }
            if self.changes.is_some() && self.is_below_home() || self.is_held() {
                return;
            }
            if self.waits_to_be_verified() {
                return;
            }
            let inside = self.units.is_inside_forwarded();
            let step = self.scan(true);
            if let Some(linked) = &mut self.link.linked {
                linked.taint(self.taint);
            }
            match step {
                Step::Progress | Step::UnitEnds => {}
                Step::NeedsMore | Step::Stop => return,
                Step::Terminate => return self.link.leaving = true,
                Step::Broken(problem) => {
                    self.link.broken = Some(problem.into());
                    self.link.is_cut_off = inside;
                    return;
                }
            }
        }
    }

    /// The next message of the client's, where PostgreSQL reads the data of a COPY and it is none that may come there.
    /// PostgreSQL would take it for lost synchronization, and ends the connection.
    fn breaks_into_copy(&self) -> Option<u8> {
        if !self.exchange.copies_in() || !self.units.at_boundary() {
            return None;
        }
        let next = *self.inbound.bytes().get(self.units.scanned)?;
        (!may_stand_in_copy(next) && next != tag::TERMINATE).then_some(next)
    }

    /// Writes the switch and what was scanned, in one write if the socket takes it.
    fn write_server(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let link = &mut self.link;
        let Some(linked) = &mut link.linked else { return Poll::Ready(false) };
        let stream = linked.server().stream();
        let mut wrote = false;
        let failed = loop {
            let upto = if link.held_back { link.sent } else { self.units.scanned };
            let unit = &self.inbound.bytes()[link.sent..upto];
            let nothing_first = link.prefix.is_empty() && link.rewritten.is_empty();
            if nothing_first && unit.is_empty() {
                break None;
            }
            let len = unit.len();
            let result = if nothing_first {
                Pin::new(&mut *stream).poll_write(cx, unit)
            } else {
                let parts = [&link.prefix[..], &link.rewritten, unit].map(IoSlice::new);
                Pin::new(&mut *stream).poll_write_vectored(cx, &parts)
            };
            let count = match result {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(count @ 1..)) => count,
                Poll::Ready(Ok(0)) => break Some("nothing was written".into()),
                Poll::Ready(Err(error)) => break Some(error.to_string()),
            };
            let of_unit = if nothing_first {
                count
            } else {
                let of_prefix = drop_written(&mut link.prefix, count);
                count - of_prefix - drop_written(&mut link.rewritten, count - of_prefix)
            };
            link.sent += of_unit;
            (wrote, link.wrote) = (true, true);
            self.verified.on_sent();
            link.flush_server = stream.buffers_writes();
            if link.confirmed && !link.keeps_unit {
                self.inbound.consume(link.sent);
                self.units.scanned -= std::mem::take(&mut link.sent);
            }
            if nothing_first && count == len {
                break None;
            }
        };
        let failed = match failed {
            None if link.flush_server => match Pin::new(stream).poll_flush(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => {
                    link.flush_server = false;
                    None
                }
                Poll::Ready(Err(error)) => Some(error.to_string()),
            },
            failed => failed,
        };
        // It may still have a last word: reading goes on.
        let wrote = wrote || failed.is_some();
        if let Some(failed) = failed {
            link.write_error = Some(failed.into());
        }
        Poll::Ready(wrote)
    }
}

/// Messages that PostgreSQL reads in the middle of a COPY FROM STDIN.
/// <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY>
pub(super) const fn may_stand_in_copy(message: u8) -> bool {
    matches!(message, tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL | tag::SYNC | tag::FLUSH)
}

/// Drops from the front what of `count` bytes was of these: how many.
fn drop_written(bytes: &mut impl Buf, count: usize) -> usize {
    let dropped = count.min(bytes.remaining());
    bytes.advance(dropped);
    dropped
}
