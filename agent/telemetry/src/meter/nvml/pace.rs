//! How often a dear call is made.
//!
//! On an H200 behind a virtual machine monitor, the energy counter takes 3 ms to read (16 ms at the
//! 99th percentile) where every other quantity takes less than a microsecond, and is renewed ten
//! times a second: reading it a hundred times a second would take 40 % of a CPU from the jobs.

/// A call that usually takes less is made whenever it is asked for.
const DEAR_NS: u64 = 500_000;
/// A dear call takes at most one part in so many of the time.
const SHARE: u64 = 20;
/// But is made so often: the slowest counters are renewed ten times a second.
const LONGEST_NS: u64 = 80_000_000;
/// So many calls are remembered. A single one may have been held up by other work.
const REMEMBERED: usize = 8;

/// Decides when a call is due.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace {
    costs_ns: [u64; REMEMBERED],
    calls: usize,
    due_ns: u64,
}

impl Pace {
    /// Whether it is time for the call.
    pub(super) const fn is_due(&self, now_ns: u64) -> bool {
        now_ns >= self.due_ns
    }

    /// How long to wait after the beginning of a call until the next; 0: no longer than others do.
    pub(super) fn period_ns(&self) -> u64 {
        if self.calls < REMEMBERED {
            return 0;
        }
        let mut costs_ns = self.costs_ns;
        costs_ns.sort_unstable();
        // The lower median.
        let usual_ns = costs_ns[(REMEMBERED - 1) / 2];
        if usual_ns < DEAR_NS {
            0
        } else {
            usual_ns.saturating_mul(SHARE).min(LONGEST_NS)
        }
    }

    /// A call has been made.
    pub(super) fn made(&mut self, began_ns: u64, ended_ns: u64) {
        self.costs_ns[self.calls % REMEMBERED] = ended_ns.saturating_sub(began_ns);
        self.calls += 1;
        self.due_ns = began_ns.saturating_add(self.period_ns());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// When calls of these costs are made in a second, asked for every 10 ms.
    fn made_at(cost_ns: impl Fn(usize) -> u64) -> Vec<u64> {
        let mut pace = Pace::default();
        let mut made = Vec::new();
        for now_ns in (0..1_000 * MS).step_by(10_000_000) {
            if pace.is_due(now_ns) {
                pace.made(now_ns, now_ns + cost_ns(made.len()));
                made.push(now_ns);
            }
        }
        made
    }

    #[test]
    fn a_cheap_call_is_made_whenever_it_is_asked_for_even_if_it_is_held_up_now_and_then() {
        assert_eq!(made_at(|_| 300).len(), 100);
        assert_eq!(
            made_at(|call| if call % 3 == 0 { 9 * MS } else { 300 }).len(),
            100
        );
    }

    #[test]
    fn a_dear_call_takes_a_twentieth_of_the_time_once_it_is_known_to_be_dear() {
        let made = made_at(|_| 3 * MS);
        assert!(
            made[..8]
                .windows(2)
                .all(|pair| pair[1] - pair[0] == 10 * MS)
        );
        assert!(
            made[7..]
                .windows(2)
                .all(|pair| pair[1] - pair[0] == 60 * MS)
        );
        // Sixteen milliseconds would have to wait for 320: longer than a counter is renewed.
        let made = made_at(|_| 16 * MS);
        assert!(
            made[7..]
                .windows(2)
                .all(|pair| pair[1] - pair[0] == 80 * MS)
        );
    }
}
