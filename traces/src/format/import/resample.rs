//! Longer rows that carry the same bytes.

use crate::format::{RowSource, Spans};
use crate::generate::MOST_ROWS;
use crate::losses::longer_burst_milli;
use crate::state::SMALLEST_BURST_MILLI;
use crate::{
    Diagnostics, Direction, LinkState, TraceError, TraceMetadata, TraceRow, UNLIMITED_RATE_BPS,
};

/// Bits x 10^9.
const PER_BIT: u128 = 1_000_000_000;

/// Makes rows of `step_ns` from rows of any length, over a trace of `duration_ns`.
///
/// A row's rate is the mean over its time; what rounding takes from one row the next one gets, so
/// that the bytes up to the end of any row differ by less than one bit times the row's length.
/// The delay, jitter and queue are the largest, the loss is weighted by the bytes that meet it.
/// Rows are cut where an outage or an unlimited rate of either direction begins or ends: no mean
/// is taken across those edges.
///
/// # Errors
/// A step of 0, or more rows than this program makes.
pub fn resample(
    rows: &[TraceRow],
    duration_ns: u64,
    step_ns: u64,
) -> Result<Vec<TraceRow>, TraceError> {
    if step_ns == 0 || duration_ns / step_ns.max(1) > MOST_ROWS {
        return Err(TraceError::Generator {
            setting: "step",
            problem: format!(
                "rows of {step_ns} ns over {duration_ns} ns are more than {MOST_ROWS}; use a \
                 longer step"
            ),
        });
    }
    let mut made: Vec<TraceRow> = Vec::new();
    let mut binning = Binning::new(step_ns);
    for (index, row) in rows.iter().enumerate() {
        let mut from_ns = row.t_ns;
        let until_ns = rows.get(index + 1).map_or(duration_ns, |next| next.t_ns);
        while from_ns < until_ns {
            let (full, reached_ns) = binning.take(row, from_ns, until_ns);
            made.extend(full);
            from_ns = reached_ns;
        }
    }
    made.extend(binning.finish());
    Ok(made)
}

/// Rows of another length, made one by one as [`resample`] does. Memory does not grow with their
/// number.
#[derive(Debug)]
pub struct Resampled<S> {
    spans: Spans<S>,
    metadata: TraceMetadata,
    binning: Binning,
    /// The row being taken apart, how far it was, and its end.
    current: Option<(TraceRow, u64, u64)>,
}

impl<S: RowSource> Resampled<S> {
    /// Rows of `step_ns`.
    ///
    /// # Errors
    /// A step of 0.
    pub fn new(source: S, step_ns: u64) -> Result<Resampled<S>, TraceError> {
        if step_ns == 0 {
            return Err(TraceError::Generator {
                setting: "step",
                problem: "rows of 0 ns never end".to_owned(),
            });
        }
        let mut metadata = source.metadata().clone();
        metadata.notes.push(note(step_ns));
        Ok(Resampled {
            spans: Spans::new(source),
            metadata,
            binning: Binning::new(step_ns),
            current: None,
        })
    }
}

impl<S: RowSource> RowSource for Resampled<S> {
    fn metadata(&self) -> &TraceMetadata {
        &self.metadata
    }

    fn next_row(&mut self) -> Result<Option<TraceRow>, TraceError> {
        loop {
            let (row, from_ns, until_ns) = match self.current.take() {
                Some(current) => current,
                None => match self.spans.next_span()? {
                    Some((row, until_ns)) => (row.clone(), row.t_ns, until_ns),
                    None => return Ok(self.binning.finish()),
                },
            };
            let (full, reached_ns) = self.binning.take(&row, from_ns, until_ns);
            if reached_ns < until_ns {
                self.current = Some((row, reached_ns, until_ns));
            }
            if full.is_some() {
                return Ok(full);
            }
        }
    }
}

/// What the notes of a trace say that was resampled.
pub(super) fn note(step_ns: u64) -> String {
    format!(
        "resampled to {step_ns} ns: the mean rate (bytes are kept), the longest delay, the loss \
         weighted by bytes; outages keep their edges"
    )
}

/// A row that is being put together.
#[derive(Debug)]
struct Binning {
    step_ns: u64,
    bin: Option<Bin>,
    /// Bit-nanoseconds of each direction that rounding has kept back.
    carry: [u128; 2],
}

impl Binning {
    const fn new(step_ns: u64) -> Binning {
        Binning {
            step_ns,
            bin: None,
            carry: [0; 2],
        }
    }

    /// Takes of a row what belongs into the current bin, and tells up to where that was. A bin
    /// that is full comes back instead, and nothing was taken.
    fn take(&mut self, row: &TraceRow, from_ns: u64, until_ns: u64) -> (Option<TraceRow>, u64) {
        let is_edge = self.bin.as_ref().is_some_and(|bin| {
            bin.start_ns / self.step_ns != from_ns / self.step_ns || bin.kinds != kinds(row)
        });
        if is_edge {
            return (self.finish(), from_ns);
        }
        let step_end = (from_ns / self.step_ns + 1).saturating_mul(self.step_ns);
        let to_ns = until_ns.min(step_end);
        let bin = self.bin.get_or_insert_with(|| Bin::new(from_ns, row));
        bin.add(row, to_ns - from_ns);
        (None, to_ns)
    }

    /// What is left.
    fn finish(&mut self) -> Option<TraceRow> {
        Some(self.bin.take()?.into_row(&mut self.carry))
    }
}

/// Whether a rate may enter a mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Outage,
    Limited,
    Unlimited,
}

fn kinds(row: &TraceRow) -> [Kind; 2] {
    Direction::BOTH.map(|direction| match row.direction(direction).rate_bps {
        0 => Kind::Outage,
        UNLIMITED_RATE_BPS => Kind::Unlimited,
        _ => Kind::Limited,
    })
}

/// One row to be.
#[derive(Debug)]
struct Bin {
    start_ns: u64,
    length_ns: u64,
    kinds: [Kind; 2],
    sums: [Sums; 2],
    diagnostics: Diagnostics,
}

#[derive(Debug, Clone, Copy)]
struct Sums {
    state: LinkState,
    /// Bit-nanoseconds.
    area: u128,
    /// Losses in 10^-9 x weight, and the weight.
    lost: u128,
    weight: u128,
}

impl Bin {
    fn new(start_ns: u64, row: &TraceRow) -> Bin {
        Bin {
            start_ns,
            length_ns: 0,
            kinds: kinds(row),
            sums: Direction::BOTH.map(|direction| Sums {
                state: *row.direction(direction),
                area: 0,
                lost: 0,
                weight: 0,
            }),
            diagnostics: row.diagnostics.clone(),
        }
    }

    fn add(&mut self, row: &TraceRow, ns: u64) {
        self.length_ns += ns;
        if self.diagnostics.event.is_none() {
            self.diagnostics.event.clone_from(&row.diagnostics.event);
        }
        for (sums, direction) in self.sums.iter_mut().zip(Direction::BOTH) {
            let state = row.direction(direction);
            let area = u128::from(state.rate_bps) * u128::from(ns);
            // Where no byte is counted, time is the weight.
            let weight = match state.rate_bps {
                0 | UNLIMITED_RATE_BPS => u128::from(ns),
                _ => area / 1_000_000 + 1,
            };
            sums.area += area;
            sums.weight += weight;
            sums.lost += weight * u128::from(state.loss_ppb);
            let worst = &mut sums.state;
            worst.delay_ns = worst.delay_ns.max(state.delay_ns);
            worst.jitter_ns = worst.jitter_ns.max(state.jitter_ns);
            worst.queue_bytes = worst.queue_bytes.max(state.queue_bytes);
            worst.loss_burst_milli = worst.loss_burst_milli.max(state.loss_burst_milli);
            worst.dup_ppb = worst.dup_ppb.max(state.dup_ppb);
            worst.corrupt_ppb = worst.corrupt_ppb.max(state.corrupt_ppb);
        }
    }

    fn into_row(self, carry: &mut [u128; 2]) -> TraceRow {
        let mut states = [LinkState::TRANSPARENT; 2];
        let length = u128::from(self.length_ns.max(1));
        for (index, sums) in self.sums.iter().enumerate() {
            let mut state = sums.state;
            if self.kinds[index] == Kind::Limited {
                let owed = sums.area + carry[index];
                // A limited row stays one: a rate of 0 would be an outage.
                let rate = (owed / length).max(1);
                carry[index] = owed.saturating_sub(rate * length).min(PER_BIT * length);
                state.rate_bps = u64::try_from(rate)
                    .unwrap_or(UNLIMITED_RATE_BPS)
                    .min(UNLIMITED_RATE_BPS - 1);
            }
            let loss = sums.lost.checked_div(sums.weight).unwrap_or(0);
            state.loss_ppb = u32::try_from(loss).unwrap_or(state.loss_ppb);
            // Of rows with and without bursts the mean may need longer ones than any of them.
            if let Some(longer) = longer_burst_milli(state.loss_ppb, state.loss_burst_milli) {
                state.loss_burst_milli = u32::try_from(longer).unwrap_or(SMALLEST_BURST_MILLI);
            }
            states[index] = state;
        }
        let [down, up] = states;
        TraceRow {
            t_ns: self.start_ns,
            down,
            up,
            diagnostics: self.diagnostics,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::TraceRows;
    use crate::generate::control::{self, Link};
    use crate::{CapacityCurve, Trace};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn resampling_keeps_bytes_and_the_edges_of_outages(
            steps in prop::collection::vec(
                (1_u64..5_000_000, prop_oneof![Just(0), 1_u64..1_000_000_000]),
                1..60,
            ),
            step_ns in 100_000_u64..20_000_000,
        ) {
            let trace = control::step(Link::new(0, 7, 0), &steps).unwrap();
            let rows = resample(trace.rows(), trace.duration_ns(), step_ns).unwrap();
            let made = Trace::new(trace.metadata().clone(), rows).unwrap();
            prop_assert_eq!(
                crate::stats::outages(&made, Direction::Down),
                crate::stats::outages(&trace, Direction::Down)
            );
            let old = CapacityCurve::new(&trace, Direction::Down);
            let new = CapacityCurve::new(&made, Direction::Down);
            for row in made.rows() {
                let (old, new) = (old.bits_between(0, row.t_ns), new.bits_between(0, row.t_ns));
                prop_assert!(old.abs_diff(new) <= 2, "{old} {new}");
            }
        }
    }

    #[test]
    fn rows_are_resampled_one_by_one_as_they_are_together() {
        let steps: Vec<(u64, u64)> = (0..50)
            .map(|index| (700_000 + index * 13, index % 7 * 1_000_003))
            .collect();
        let trace = control::step(Link::new(0, 7, 0), &steps).unwrap();
        let together = resample(trace.rows(), trace.duration_ns(), 3_000_000).unwrap();
        let mut one_by_one = Resampled::new(TraceRows::new(&trace), 3_000_000).unwrap();
        let mut rows = Vec::new();
        while let Some(row) = one_by_one.next_row().unwrap() {
            rows.push(row);
        }
        assert_eq!(rows, together);
        assert!(Resampled::new(TraceRows::new(&trace), 0).is_err());
    }

    #[test]
    fn a_step_that_makes_too_many_rows_is_refused() {
        let trace = control::constant(1, 0, 0, u64::MAX).unwrap();
        for step_ns in [0, 1] {
            assert!(resample(trace.rows(), u64::MAX, step_ns).is_err());
        }
    }
}
