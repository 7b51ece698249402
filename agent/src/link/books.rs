//! What the shaper knows about each window of time: was its queue ever empty, how long did it
//! get, what was dropped. The bytes that were delivered are counted elsewhere, at the receiver.

use hexloop_traces::Carried;

/// What happened in one window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct WindowBook {
    /// The queue was empty at some time of the window, as the receiver sees it.
    pub(crate) idle: bool,
    /// The longest queue, in bytes.
    pub(crate) queue_bytes: u64,
    /// Packets that found the queue full or that the discipline dropped.
    pub(crate) dropped: u64,
    /// Packets lost as the trace asks.
    pub(crate) lost: u64,
    /// Packets that the discipline marked instead of dropping them.
    pub(crate) marked: u64,
    /// Packets of which there came another one, as the trace asks.
    pub(crate) duplicated: u64,
    /// Packets with a flipped bit, as the trace asks.
    pub(crate) corrupted: u64,
    /// What a cell has granted for it, on a link that shares one.
    pub(crate) granted: Option<Carried>,
}

/// The books of the windows that are still open: a ring that never grows.
#[derive(Debug)]
pub(crate) struct WindowBooks {
    length_ns: u64,
    /// Number of the oldest open window.
    oldest: u64,
    ring: Vec<WindowBook>,
    /// Whether a cell grants capacity: then each window has had its part, if nothing.
    shared: bool,
}

/// How long after its end a window is closed, so that stamps on their way are not missed.
const GRACE_NS: u64 = 5_000_000;

impl WindowBooks {
    /// Books with windows of this length, for idle gaps that the receiver sees at most
    /// `horizon_ns` after the present.
    pub(crate) fn new(length_ns: u64, horizon_ns: u64) -> WindowBooks {
        let length_ns = length_ns.max(1);
        let windows = usize::try_from(horizon_ns / length_ns)
            .unwrap_or(0)
            .min(100_000);
        WindowBooks {
            length_ns,
            oldest: 0,
            ring: vec![WindowBook::default(); windows + 64],
            shared: false,
        }
    }

    /// Books of a link that shares a cell.
    pub(crate) fn of_a_cell(length_ns: u64, horizon_ns: u64) -> WindowBooks {
        WindowBooks {
            shared: true,
            ..WindowBooks::new(length_ns, horizon_ns)
        }
    }

    /// A cell has granted something that arrives at this moment.
    pub(crate) fn granted(&mut self, at_ns: u64, granted: Carried) {
        if let Some(book) = self.slot(at_ns / self.length_ns) {
            book.granted = Some(book.granted.unwrap_or_default().and(granted));
        }
    }

    fn slot(&mut self, window: u64) -> Option<&mut WindowBook> {
        let length = u64::try_from(self.ring.len()).ok()?;
        if window < self.oldest || window >= self.oldest + length {
            return None;
        }
        self.ring.get_mut(usize::try_from(window % length).ok()?)
    }

    /// The queue was empty between two moments.
    pub(crate) fn idle(&mut self, from_ns: u64, to_ns: u64) {
        let horizon = self.oldest + u64::try_from(self.ring.len()).unwrap_or(0);
        let first = (from_ns / self.length_ns).max(self.oldest);
        let last = (to_ns / self.length_ns).min(horizon);
        for window in first..=last {
            if let Some(book) = self.slot(window) {
                book.idle = true;
            }
        }
    }

    /// The queue was so long.
    pub(crate) fn queue(&mut self, at_ns: u64, bytes: u64) {
        if let Some(book) = self.slot(at_ns / self.length_ns) {
            book.queue_bytes = book.queue_bytes.max(bytes);
        }
    }

    fn count(&mut self, at_ns: u64, which: impl FnOnce(&mut WindowBook) -> &mut u64) {
        if let Some(book) = self.slot(at_ns / self.length_ns) {
            *which(book) += 1;
        }
    }

    /// A packet found the queue full, or the discipline dropped it.
    pub(crate) fn dropped(&mut self, at_ns: u64) {
        self.count(at_ns, |book| &mut book.dropped);
    }

    /// A packet was lost.
    pub(crate) fn lost(&mut self, at_ns: u64) {
        self.count(at_ns, |book| &mut book.lost);
    }

    /// The discipline marked a packet.
    pub(crate) fn marked(&mut self, at_ns: u64) {
        self.count(at_ns, |book| &mut book.marked);
    }

    /// A packet was duplicated.
    pub(crate) fn duplicated(&mut self, at_ns: u64) {
        self.count(at_ns, |book| &mut book.duplicated);
    }

    /// A bit of a packet was flipped.
    pub(crate) fn corrupted(&mut self, at_ns: u64) {
        self.count(at_ns, |book| &mut book.corrupted);
    }

    /// Takes the oldest window out if it ended long enough before `now_ns`. The queue has been
    /// empty since `idle_since`, if that is given, and holds `queue_bytes` now.
    pub(crate) fn close(
        &mut self,
        now_ns: u64,
        idle_since: Option<u64>,
        queue_bytes: u64,
    ) -> Option<(u64, WindowBook)> {
        let window = self.oldest;
        let end_ns = (window + 1) * self.length_ns;
        if now_ns < end_ns + GRACE_NS {
            return None;
        }
        let mut book = std::mem::take(self.slot(window)?);
        book.idle |= idle_since.is_some_and(|since| since < end_ns);
        book.queue_bytes = book.queue_bytes.max(queue_bytes);
        if self.shared {
            book.granted.get_or_insert_default();
        }
        self.oldest += 1;
        Some((window, book))
    }

    /// When the oldest window can be closed.
    pub(crate) const fn next_close_ns(&self) -> u64 {
        (self.oldest + 1) * self.length_ns + GRACE_NS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_gap_marks_every_window_it_touches_and_no_other() {
        let mut books = WindowBooks::new(10 * MS, 100 * MS);
        books.idle(15 * MS, 31 * MS);
        let idle: Vec<bool> = (0..5)
            .map(|_| books.close(1000 * MS, None, 0).unwrap().1.idle)
            .collect();
        assert_eq!(idle, [false, true, true, true, false]);
    }

    #[test]
    fn a_window_closes_only_after_its_end_and_the_grace() {
        let mut books = WindowBooks::new(10 * MS, 0);
        assert_eq!(books.next_close_ns(), 15 * MS);
        assert_eq!(books.close(15 * MS - 1, None, 0), None);
        assert!(books.close(15 * MS, None, 0).is_some());
    }

    #[test]
    fn a_queue_that_has_been_empty_since_a_window_makes_it_idle() {
        let mut books = WindowBooks::new(10 * MS, 0);
        assert!(!books.close(100 * MS, Some(10 * MS), 0).unwrap().1.idle);
        assert!(books.close(100 * MS, Some(10 * MS), 0).unwrap().1.idle);
    }

    #[test]
    fn marks_beyond_the_ring_are_left_out_instead_of_landing_elsewhere() {
        let mut books = WindowBooks::new(10 * MS, 0);
        books.queue(64 * 10 * MS, 7);
        books.idle(0, u64::MAX);
        assert_eq!(books.close(100 * MS, None, 0).unwrap().1.queue_bytes, 0);
    }
}
