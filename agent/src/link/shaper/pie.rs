//! The proportional integral controller enhanced of RFC 8033: it drops (or marks) what comes with
//! a probability that follows the queueing delay.
//!
//! Section 4 with the enhancements 5.1 (ECN), 5.4 (no runs of drops or of passes) and 5.5 (the
//! probability rises by 2 % at most once it is above 10 %). The delay is measured by time stamps,
//! as section 4.3 allows and `net/sched/sch_pie.c` does by default: how long the packet waited
//! that left the queue last, and none if it left the queue empty. No departure rate is estimated.

use rand_chacha::ChaCha12Rng;
use rand_core::Rng;

/// How long a queue may grow without drops (section 4.4).
const MAX_BURST_NS: u64 = 150_000_000;

/// Per second of delay (section 4.2).
const ALPHA: f64 = 0.125;
const BETA: f64 = 1.25;

/// Above this probability packets are dropped also if they can carry a mark (section 5.1).
const MARK_UP_TO: f64 = 0.1;

/// The controller acts more gently the lower the probability is (section 4.2): below the first
/// figure, the change is divided by the second.
const GENTLENESS: [(f64, f64); 6] = [
    (0.000_001, 2048.0),
    (0.000_01, 512.0),
    (0.000_1, 128.0),
    (0.001, 32.0),
    (0.01, 8.0),
    (0.1, 2.0),
];

#[derive(Debug, Clone)]
pub(super) struct Pie {
    target_ns: u64,
    update_ns: u64,
    /// A queue of two packets is never too long.
    mtu_bytes: u64,
    next_update_ns: u64,
    delay_ns: u64,
    old_delay_ns: u64,
    probability: f64,
    accumulated: f64,
    burst_allowance_ns: u64,
    random: ChaCha12Rng,
}

fn seconds(ns: u64) -> f64 {
    // Delays are far below 2^53 ns, 104 days.
    #[expect(clippy::cast_precision_loss, reason = "see above")]
    let ns = ns as f64;
    ns / 1e9
}

impl Pie {
    /// Starts at `now_ns` with an empty queue.
    pub(super) fn new(
        target_ns: u64,
        update_ns: u64,
        mtu: u32,
        now_ns: u64,
        random: ChaCha12Rng,
    ) -> Pie {
        let update_ns = update_ns.max(1);
        Pie {
            target_ns,
            update_ns,
            mtu_bytes: u64::from(mtu),
            next_update_ns: now_ns.saturating_add(update_ns),
            delay_ns: 0,
            old_delay_ns: 0,
            probability: 0.0,
            accumulated: 0.0,
            burst_allowance_ns: MAX_BURST_NS,
            random,
        }
    }

    /// Whether a packet that comes is to be dropped, with so many bytes waiting.
    pub(super) fn drops(&mut self, waiting_bytes: u64) -> bool {
        if self.burst_allowance_ns > 0 {
            return false;
        }
        let low = self.old_delay_ns < self.target_ns / 2 && self.probability < 0.2;
        if low || waiting_bytes <= 2 * self.mtu_bytes {
            return false;
        }
        if self.probability <= 0.0 {
            self.accumulated = 0.0;
        }
        self.accumulated += self.probability;
        if self.accumulated < 0.85 {
            return false;
        }
        let drawn = f64::from(self.random.next_u32()) / 4_294_967_296.0;
        let drops = self.accumulated >= 8.5 || drawn < self.probability;
        if drops {
            self.accumulated = 0.0;
        }
        drops
    }

    /// The queue had no room: the run without drops is over.
    pub(super) const fn found_full(&mut self) {
        self.accumulated = 0.0;
    }

    /// Whether a packet that can carry a mark gets one instead of being dropped.
    pub(super) fn marks(&self) -> bool {
        self.probability <= MARK_UP_TO
    }

    /// A packet left the queue that had waited so long; so many bytes wait still.
    pub(super) const fn departed(&mut self, sojourn_ns: u64, waiting_bytes: u64) {
        self.delay_ns = if waiting_bytes == 0 { 0 } else { sojourn_ns };
    }

    /// Computes the probability at every moment up to `to_ns` at which that is due.
    pub(super) fn update_until(&mut self, to_ns: u64) {
        while self.next_update_ns <= to_ns {
            self.update();
            self.next_update_ns = self.next_update_ns.saturating_add(self.update_ns);
            if self.is_at_rest() && self.next_update_ns <= to_ns {
                // Nothing changes until a packet leaves.
                let missed = (to_ns - self.next_update_ns) / self.update_ns + 1;
                self.next_update_ns = self
                    .next_update_ns
                    .saturating_add(missed.saturating_mul(self.update_ns));
            }
        }
    }

    fn is_at_rest(&self) -> bool {
        self.probability <= 0.0
            && self.delay_ns == 0
            && self.old_delay_ns == 0
            && self.burst_allowance_ns == MAX_BURST_NS
    }

    fn update(&mut self) {
        let delay = seconds(self.delay_ns);
        let mut change =
            ALPHA * (delay - seconds(self.target_ns)) + BETA * (delay - seconds(self.old_delay_ns));
        let gentler = GENTLENESS
            .iter()
            .find(|(below, _)| self.probability < *below);
        change /= gentler.map_or(1.0, |(_, divisor)| *divisor);
        if self.probability >= 0.1 && change > 0.02 {
            change = 0.02;
        }
        self.probability += change;
        if self.delay_ns == 0 && self.old_delay_ns == 0 {
            self.probability *= 1.0 - 1.0 / 64.0;
        }
        self.probability = self.probability.clamp(0.0, 1.0);
        let low = |delay_ns: u64| delay_ns < self.target_ns / 2;
        self.burst_allowance_ns = self.burst_allowance_ns.saturating_sub(self.update_ns);
        if self.probability <= 0.0 && low(self.delay_ns) && low(self.old_delay_ns) {
            self.burst_allowance_ns = MAX_BURST_NS;
        }
        self.old_delay_ns = self.delay_ns;
    }
}
