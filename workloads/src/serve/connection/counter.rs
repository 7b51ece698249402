//! What all connections of a process carry, counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::stream::{Counts, Stream};
use crate::transport::QuicTotals;
use crate::wire::PayloadBytes;

/// Payload of all connections of a process.
#[derive(Debug, Default)]
pub(in crate::serve) struct PayloadCounter {
    pub(super) up: Arc<AtomicU64>,
    pub(super) down: Arc<AtomicU64>,
    /// Connections that were accepted and have not been read to their end.
    open: Mutex<usize>,
    closed: Condvar,
    /// What QUIC counts, of each connection over it.
    below: Mutex<Vec<Counts>>,
}

impl PayloadCounter {
    /// One more connection is being read.
    pub(in crate::serve) fn opened(&self) -> usize {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        *open += 1;
        *open
    }

    /// A connection has been read to its end.
    pub(in crate::serve) fn closed(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.closed.notify_all();
    }

    /// Waits until all that was sent has been counted: no connection is open, or `limit` is over.
    pub(in crate::serve) fn wait_until_closed(&self, limit: Duration) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Whether it was in time or not, the count is what it is.
        let _ = self
            .closed
            .wait_timeout_while(open, limit, |open| *open > 0);
    }

    /// A connection whose transport counts too.
    pub(super) fn counts_below(&self, stream: &Stream) {
        let mut below = self.below.lock().unwrap_or_else(PoisonError::into_inner);
        below.extend(stream.counts());
    }

    /// What QUIC has counted so far; `None` if no connection is over it.
    pub(in crate::serve) fn read_quic(&self) -> Option<QuicTotals> {
        let below = self.below.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts = below.iter().map(Counts::read);
        let mut totals = counts.next()?;
        counts.for_each(|further| totals.add(further));
        Some(totals)
    }

    /// The count so far.
    pub(in crate::serve) fn read(&self) -> PayloadBytes {
        PayloadBytes {
            up: self.up.load(Ordering::Relaxed),
            down: self.down.load(Ordering::Relaxed),
        }
    }
}
