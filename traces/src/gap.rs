//! Rows that last much longer than a trace's usual step: what a recording leaves out.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{LinkState, Trace};

/// Steps from which the usual one is told.
const STEPS_LOOKED_AT: usize = 1000;

/// With fewer steps none is usual.
const FEWEST_STEPS: usize = 50;

/// A trace is regular if at least nine of ten steps are at most twice the usual one. In others, such as those with
/// a row for each change, a long row says that nothing changed.
const LONGEST_REGULAR: u64 = 2;

/// A row that lasts more than so many usual steps is a gap.
const SHORTEST_GAP: u64 = 10;

/// The gaps of a trace that is otherwise regular. A row holds until the next, so that a link plays what it was
/// before a gap all through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gaps {
    /// How many there are.
    pub count: u64,
    /// How long they are together, in nanoseconds.
    pub total_ns: u64,
    /// Where the longest begins, after the trace's start.
    pub longest_at_ns: u64,
    /// How long that is.
    pub longest_ns: u64,
    /// The trace's usual step.
    pub step_ns: u64,
}

impl Gaps {
    /// Those of a trace; `None` where it has none, or no usual step.
    #[must_use]
    pub fn of(trace: &Trace) -> Option<Gaps> {
        Gaps::between(trace.states(), trace.duration_ns())
    }

    /// Those of rows with these starts and states, the last of which lasts until the trace's end.
    #[must_use]
    pub fn between(
        rows: impl IntoIterator<Item = (u64, [LinkState; 2])>,
        duration_ns: u64,
    ) -> Option<Gaps> {
        let mut rows = rows.into_iter().peekable();
        let mut steps = std::iter::from_fn(|| {
            let (start_ns, states) = rows.next()?;
            let end_ns = rows.peek().map_or(duration_ns, |(next_ns, _)| *next_ns);
            // That nothing was carried is said by the row itself.
            let carries = states.iter().any(|state| state.rate_bps > 0);
            Some((start_ns, end_ns.saturating_sub(start_ns), carries))
        });
        let first: Vec<(u64, u64, bool)> = steps.by_ref().take(STEPS_LOOKED_AT).collect();
        if first.len() < FEWEST_STEPS {
            return None;
        }
        let mut lengths: Vec<u64> = first.iter().map(|(_, length_ns, _)| *length_ns).collect();
        let (_, step_ns, _) = lengths.select_nth_unstable(first.len() / 2);
        let step_ns = (*step_ns).max(1);
        let mut gaps = Gaps {
            count: 0,
            total_ns: 0,
            longest_at_ns: 0,
            longest_ns: 0,
            step_ns,
        };
        let [mut all, mut regular] = [0_u64; 2];
        for (start_ns, length_ns, carries) in first.into_iter().chain(steps) {
            all += 1;
            regular += u64::from(length_ns <= LONGEST_REGULAR * step_ns || !carries);
            if carries && length_ns > SHORTEST_GAP * step_ns {
                gaps.count += 1;
                gaps.total_ns += length_ns;
                if length_ns > gaps.longest_ns {
                    (gaps.longest_at_ns, gaps.longest_ns) = (start_ns, length_ns);
                }
            }
        }
        (gaps.count > 0 && regular >= all - all / 10).then_some(gaps)
    }
}

impl fmt::Display for Gaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [at, longest, total, step] = [
            self.longest_at_ns,
            self.longest_ns,
            self.total_ns,
            self.step_ns,
        ]
        .map(seconds);
        let (gaps, are) = if self.count == 1 {
            ("gap", "it is")
        } else {
            ("gaps", "they are")
        };
        write!(
            f,
            "{} {gaps} in rows that are otherwise {step} s apart: {are} {total} s long together, the longest \
             {longest} s from {at} s on; the row before a gap holds all through it",
            self.count
        )
    }
}

#[expect(clippy::cast_precision_loss, reason = "for printing only")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn rows(
        starts: impl Iterator<Item = u64>,
        state: LinkState,
    ) -> impl Iterator<Item = (u64, [LinkState; 2])> {
        starts.map(move |start_ns| (start_ns, [state; 2]))
    }

    #[test]
    fn a_hole_and_a_missing_tail_of_regular_rows_are_gaps() {
        let starts = (0..1000).chain(30_000..31_000).map(|ms| ms * MS);
        let found = |state| Gaps::between(rows(starts.clone(), state), 60_000 * MS);
        let gaps = found(LinkState::TRANSPARENT).unwrap();
        let expected = Gaps {
            count: 2,
            total_ns: 58_002 * MS,
            longest_at_ns: 999 * MS,
            longest_ns: 29_001 * MS,
            step_ns: MS,
        };
        assert_eq!(gaps, expected);
        let words = gaps.to_string();
        assert!(
            words.contains("the longest 29.001 s from 0.999 s on"),
            "{words}"
        );
        let outage = LinkState {
            rate_bps: 0,
            ..LinkState::TRANSPARENT
        };
        assert_eq!(found(outage), None, "an outage is no gap");
    }

    #[test]
    fn rows_that_come_with_changes_have_no_gaps_and_neither_has_a_handful() {
        let found = |starts: &mut dyn Iterator<Item = u64>, duration_ns| {
            Gaps::between(rows(starts, LinkState::TRANSPARENT), duration_ns)
        };
        let mut changes = (0..200_u64).map(|number| number * number * number * MS);
        assert_eq!(found(&mut changes, 8_000_000 * MS), None);
        let mut few = (0..20).map(|ms| ms * MS);
        assert_eq!(found(&mut few, 60_000 * MS), None);
        let mut regular = (0..5000).map(|ms| ms * MS);
        assert_eq!(found(&mut regular, 5009 * MS), None);
    }
}
