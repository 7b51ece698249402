//! One trace out of two: the downlink of one, the uplink of the other.

use std::collections::BTreeSet;

use crate::generate::MOST_ROWS;
use crate::{EndPolicy, LinkState, Trace, TraceError, TraceRow};

/// The downlink of `down` with the uplink of `up`.
///
/// The result is as long as the longer one and ends like it; the shorter one is continued until
/// then as its own end says, and cut there. What is known beside the states, such as events, is
/// the downlink's.
///
/// # Errors
/// More rows than this program makes.
pub fn pair(down: &Trace, up: &Trace) -> Result<Trace, TraceError> {
    let (longer, shorter) = if down.duration_ns() >= up.duration_ns() {
        (down, up)
    } else {
        (up, down)
    };
    let duration_ns = longer.duration_ns();
    if [down, up]
        .iter()
        .any(|trace| u64::try_from(trace.row_count()).unwrap_or(u64::MAX) > MOST_ROWS)
    {
        return Err(TraceError::Generator {
            setting: "pair",
            problem: format!(
                "a trace of more than {MOST_ROWS} rows is not put together with another; play it \
                 in both directions"
            ),
        });
    }
    let mut moments: BTreeSet<u64> = longer.rows().iter().map(|row| row.t_ns).collect();
    let period_ns = shorter.duration_ns();
    let repeats = match shorter.metadata().end {
        EndPolicy::Loop => duration_ns.div_ceil(period_ns),
        EndPolicy::Hold | EndPolicy::Clear => 1,
    };
    let rows = u64::try_from(shorter.rows().len()).unwrap_or(u64::MAX);
    if repeats.saturating_mul(rows) > MOST_ROWS {
        return Err(TraceError::Generator {
            setting: "pair",
            problem: format!(
                "repeating {rows} rows {repeats} times until the longer trace ends makes more \
                 than {MOST_ROWS}"
            ),
        });
    }
    for repeat in 0..repeats {
        let at = |row: &TraceRow| repeat * period_ns + row.t_ns;
        moments.extend(shorter.rows().iter().map(at).filter(|at| *at < duration_ns));
    }
    if shorter.metadata().end == EndPolicy::Clear && period_ns < duration_ns {
        moments.insert(period_ns);
    }
    let rows = moments.into_iter().map(|t_ns| TraceRow {
        t_ns,
        down: row_at(down, t_ns).map_or(LinkState::TRANSPARENT, |row| row.down),
        up: row_at(up, t_ns).map_or(LinkState::TRANSPARENT, |row| row.up),
        diagnostics: down
            .rows()
            .binary_search_by_key(&t_ns, |row| row.t_ns)
            .ok()
            .and_then(|place| down.rows().get(place))
            .map(|row| row.diagnostics.clone())
            .unwrap_or_default(),
    });
    let mut metadata = longer.metadata().clone();
    metadata.scenario = format!(
        "{} and {}",
        down.metadata().scenario,
        up.metadata().scenario
    );
    metadata.seed = None;
    metadata.notes = down.metadata().notes.clone();
    metadata.notes.extend(up.metadata().notes.iter().cloned());
    let is_cut =
        shorter.metadata().end == EndPolicy::Loop && !duration_ns.is_multiple_of(period_ns);
    if is_cut {
        metadata.notes.push(format!(
            "the shorter trace begins anew every {period_ns} ns and is cut where the longer one ends, at \
             {duration_ns} ns"
        ));
    }
    Trace::new(metadata, rows.collect())
}

/// Most rows of what [`pair_to_play`] makes.
const MOST_ROWS_PLAYED: u64 = 1_000_000;

/// The downlink of `down` with the uplink of `up`, to be played for any time: where both begin anew at their
/// ends, the longer one is repeated until both end together. Where that takes more rows than a million it is repeated
/// as often as they allow; then a note of the trace says how the shorter one is cut.
///
/// # Errors
/// As of [`pair`].
pub fn pair_to_play(down: &Trace, up: &Trace) -> Result<Trace, TraceError> {
    let loops = [down, up].map(|trace| trace.metadata().end == EndPolicy::Loop);
    let [down_ns, up_ns] = [down.duration_ns(), up.duration_ns()];
    if loops != [true; 2] || down_ns == up_ns {
        return pair(down, up);
    }
    let (longer_ns, shorter_ns) = (down_ns.max(up_ns), down_ns.min(up_ns));
    let until_together = shorter_ns / greatest_common_divisor(longer_ns, shorter_ns);
    let rows = |trace: &Trace| u64::try_from(trace.row_count()).unwrap_or(u64::MAX);
    let (longer, shorter) = if down_ns > up_ns {
        (down, up)
    } else {
        (up, down)
    };
    let shorter_rows = rows(shorter).saturating_mul(longer_ns.div_ceil(shorter_ns));
    let rows_each = rows(longer).saturating_add(shorter_rows).max(1);
    let times = until_together.min(MOST_ROWS_PLAYED / rows_each).max(1);
    let longer = repeated(longer, times)?;
    if down_ns > up_ns {
        pair(&longer, up)
    } else {
        pair(down, &longer)
    }
}

const fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The same trace so many times, one after the other.
fn repeated(trace: &Trace, times: u64) -> Result<Trace, TraceError> {
    if times == 1 {
        return Ok(trace.clone());
    }
    let period_ns = trace.duration_ns();
    let mut metadata = trace.metadata().clone();
    metadata.duration_ns = period_ns.saturating_mul(times);
    let rows = (0..times).flat_map(|repeat| {
        trace.rows().iter().map(move |row| TraceRow {
            t_ns: repeat * period_ns + row.t_ns,
            ..row.clone()
        })
    });
    Trace::new(metadata, rows.collect())
}

/// The row that holds at a moment; `None` where the trace has ended and lifts its limits.
fn row_at(trace: &Trace, t_ns: u64) -> Option<&TraceRow> {
    let t_ns = match trace.metadata().end {
        EndPolicy::Clear if t_ns >= trace.duration_ns() => return None,
        EndPolicy::Loop => t_ns % trace.duration_ns(),
        EndPolicy::Hold | EndPolicy::Clear => t_ns,
    };
    let after = trace.rows().partition_point(|row| row.t_ns <= t_ns);
    trace.rows().get(after.checked_sub(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::control;
    use crate::{CapacityCurve, Direction};
    use proptest::prelude::*;

    fn steps(end: EndPolicy, steps: &[(u64, u64)]) -> Trace {
        let trace = control::step(control::Link::new(0, 7, 0), steps).unwrap();
        let mut metadata = trace.metadata().clone();
        metadata.end = end;
        Trace::new(metadata, trace.rows().to_vec()).unwrap()
    }

    #[test]
    fn a_shorter_trace_goes_on_as_its_end_says() {
        let down = steps(EndPolicy::Hold, &[(1000, 5)]);
        for (end, expected) in [
            (EndPolicy::Loop, vec![1, 2, 1, 2]),
            (EndPolicy::Hold, vec![1, 2]),
            (EndPolicy::Clear, vec![1, 2, u64::MAX]),
        ] {
            let up = steps(end, &[(300, 1), (200, 2)]);
            let paired = pair(&down, &up).unwrap();
            let rates: Vec<u64> = paired.rows().iter().map(|row| row.up.rate_bps).collect();
            assert_eq!(rates, expected, "{end:?}");
            assert!(paired.rows().iter().all(|row| row.down.rate_bps == 5));
            assert_eq!(paired.metadata().end, EndPolicy::Hold);
        }
    }

    #[test]
    fn to_be_played_each_has_its_own_period_until_both_end_together() {
        let down = steps(EndPolicy::Loop, &[(6, 1), (4, 2)]);
        let up = steps(EndPolicy::Loop, &[(3, 5), (4, 6)]);
        let paired = pair_to_play(&down, &up).unwrap();
        assert_eq!(paired.duration_ns(), 70);
        let is_cut = |trace: &Trace| {
            let mut notes = trace.metadata().notes.iter();
            notes.any(|note| note.contains("is cut where the longer one ends"))
        };
        assert!(!is_cut(&paired));
        for at in 0..70 {
            let row = row_at(&paired, at).unwrap();
            let alone = [&down, &up].map(|trace| row_at(trace, at).unwrap());
            assert_eq!((row.down, row.up), (alone[0].down, alone[1].up), "at {at}");
        }
        let swapped = pair_to_play(&up, &down).unwrap();
        assert_eq!(swapped.duration_ns(), 70);
        // Two primes, whose product is more than a million rows.
        let long = steps(EndPolicy::Loop, &[(1_000_003, 1), (4, 2)]);
        let short = steps(EndPolicy::Loop, &[(999_983, 1), (6, 2)]);
        let cut = pair_to_play(&long, &short).unwrap();
        assert!(cut.row_count() <= 1_000_000 && cut.duration_ns() > 1_000_007);
        assert!(is_cut(&cut));
    }

    proptest! {
        #[test]
        fn each_direction_carries_what_its_own_trace_does(
            down in proptest::collection::vec((1_u64..1000, 0_u64..1_000_000_000), 1..8),
            up in proptest::collection::vec((1_u64..1000, 0_u64..1_000_000_000), 1..8),
            at in 0_u64..8000,
        ) {
            let (down, up) = (steps(EndPolicy::Loop, &down), steps(EndPolicy::Loop, &up));
            let paired = pair(&down, &up).unwrap();
            let until = at.min(paired.duration_ns());
            for (own, direction) in [(&down, Direction::Down), (&up, Direction::Up)] {
                let [alone, together] =
                    [own, &paired].map(|trace| CapacityCurve::new(trace, direction));
                let bits = [alone, together].map(|curve| curve.bits_between(0, until));
                prop_assert!(bits[0].abs_diff(bits[1]) <= 1, "{bits:?}");
            }
        }
    }
}
