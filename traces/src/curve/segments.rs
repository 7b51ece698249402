//! Stretches of a trace in which its state is constant, with the integral at their starts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::area;
use crate::{EndPolicy, LinkState};

#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub(super) start_ns: u64,
    /// Integral at `start_ns` from the start of the trace, in bits x 10^9.
    pub(super) integral: u128,
    pub(super) state: LinkState,
    /// By when everything sent before the end of this segment has arrived: the largest
    /// end + delay up to here. The last segment of a trace that does not loop has no end.
    pub(super) settled_ns: u128,
}

/// What is carried from segment to segment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    /// Integral from the start of the trace, in bits x 10^9.
    pub(super) integral: u128,
    /// By when everything sent so far has arrived.
    pub(super) settled_ns: u128,
}

impl Sums {
    /// The next segment, which holds from `start_ns` to `end_ns` and, if it `is_endless`, for
    /// ever after.
    pub(super) fn next(
        &mut self,
        (start_ns, end_ns): (u64, u64),
        state: LinkState,
        is_endless: bool,
    ) -> Segment {
        let settled_ns = if is_endless {
            u128::MAX
        } else {
            u128::from(end_ns) + u128::from(state.delay_ns)
        };
        self.settled_ns = self.settled_ns.max(settled_ns);
        let segment = Segment {
            start_ns,
            integral: self.integral,
            state,
            settled_ns: self.settled_ns,
        };
        self.integral += area(state.rate_bps, end_ns - start_ns);
        segment
    }
}

/// Where the answers to the last questions were: guesses that are checked before they are
/// believed, as the next question is nearly always about the same segment or the one after it.
/// Two for moments, as whoever plays a trace asks about arrivals and about departures.
#[derive(Debug, Default)]
struct Guesses {
    moments: [AtomicUsize; 2],
    integral: AtomicUsize,
}

impl Guesses {
    /// The index of the only segment that `holds`, from a guess or the one after it.
    fn check(guess: &AtomicUsize, holds: impl Fn(usize) -> bool) -> Option<usize> {
        let index = guess.load(Ordering::Relaxed);
        if holds(index) {
            return Some(index);
        }
        holds(index + 1).then(|| {
            guess.store(index + 1, Ordering::Relaxed);
            index + 1
        })
    }
}

/// The segments of a whole trace, in memory. Clones share them.
#[derive(Debug)]
pub(super) struct Segments {
    all: Arc<[Segment]>,
    guesses: Guesses,
}

impl Clone for Segments {
    fn clone(&self) -> Segments {
        Segments {
            all: Arc::clone(&self.all),
            guesses: Guesses::default(),
        }
    }
}

impl Segments {
    /// Of these rows, each with its start, until the end of the trace. Returns the integral of
    /// one whole period as well.
    pub(super) fn new(
        rows: impl Iterator<Item = (u64, LinkState)>,
        duration_ns: u64,
        end: EndPolicy,
    ) -> (Segments, u128) {
        let mut rows = rows.peekable();
        let (mut all, mut sums) = (Vec::with_capacity(rows.size_hint().0 + 1), Sums::default());
        while let Some((start_ns, state)) = rows.next() {
            let next_ns = rows.peek().map(|(next_ns, _)| *next_ns);
            let is_endless = next_ns.is_none() && end == EndPolicy::Hold;
            let end_ns = next_ns.unwrap_or(duration_ns);
            all.push(sums.next((start_ns, end_ns), state, is_endless));
        }
        let period = sums.integral;
        if end == EndPolicy::Clear {
            let span = (duration_ns, duration_ns);
            all.push(sums.next(span, LinkState::TRANSPARENT, true));
        }
        let segments = Segments {
            all: all.into(),
            guesses: Guesses::default(),
        };
        (segments, period)
    }

    pub(super) fn states(&self) -> impl Iterator<Item = &LinkState> {
        self.all.iter().map(|segment| &segment.state)
    }

    /// The segment that a moment of the trace is in, and the start of the one after it.
    pub(super) fn at(&self, t_ns: u64) -> (&Segment, Option<u64>) {
        let started = |segment: &Segment| segment.start_ns <= t_ns;
        let holds = |index: usize| {
            self.all.get(index).is_some_and(started)
                && !self.all.get(index + 1).is_some_and(started)
        };
        let [first, second] = &self.guesses.moments;
        let index = Guesses::check(first, holds).or_else(|| Guesses::check(second, holds));
        let index = index.unwrap_or_else(|| {
            let index = self.all.partition_point(started).saturating_sub(1);
            second.store(first.load(Ordering::Relaxed), Ordering::Relaxed);
            first.store(index, Ordering::Relaxed);
            index
        });
        let next_ns = self.all.get(index + 1).map(|next| next.start_ns);
        (&self.all[index], next_ns)
    }

    /// The last segment at whose start the integral is less than `target`.
    pub(super) fn short_of(&self, target: u128) -> &Segment {
        let short = |segment: &Segment| segment.integral < target;
        let holds = |index: usize| {
            self.all.get(index).is_some_and(short) && !self.all.get(index + 1).is_some_and(short)
        };
        let guess = &self.guesses.integral;
        let index = Guesses::check(guess, holds).unwrap_or_else(|| {
            let index = self.all.partition_point(short).saturating_sub(1);
            guess.store(index, Ordering::Relaxed);
            index
        });
        &self.all[index]
    }

    /// The first segment of which something has not arrived at `t_ns`, else the last one.
    pub(super) fn under_way(&self, t_ns: u128) -> &Segment {
        let arrived = |segment: &Segment| segment.settled_ns <= t_ns;
        let index = self.all.partition_point(arrived);
        &self.all[index.min(self.all.len() - 1)]
    }

    /// By when everything has arrived.
    pub(super) fn settled_ns(&self) -> u128 {
        self.all.last().map_or(0, |segment| segment.settled_ns)
    }
}
