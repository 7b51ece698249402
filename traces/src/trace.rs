//! A channel trace: rows of link state, constant until the next row.

mod mapped;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::format::MappedTrace;
use crate::{
    Diagnostics, Direction, LinkState, Provenance, RowCheck, StateOverride, TraceError,
    UNLIMITED_RATE_BPS,
};
pub(crate) use mapped::MappedRows;

/// The version of the trace schema that this crate writes: 2 since the diagnostics name the
/// scheme, the cell and the elevation. It reads [`OLDEST_TRACE_SCHEMA`] too.
pub const TRACE_SCHEMA: u32 = 2;

/// The oldest version of the trace schema that this crate reads.
pub const OLDEST_TRACE_SCHEMA: u32 = 1;

/// What happens when a trace has been played to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndPolicy {
    /// Start again from the first row.
    Loop,
    /// Keep the last row.
    Hold,
    /// Lift every limit.
    Clear,
}

/// How far a trace may be trusted to stand for the scenario it is named after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TraceStatus {
    /// Made by a model that passed the checks of the specification it names.
    Checked,
    /// Made by a reduced model: shaped like the scenario, not calibrated against it.
    Simplified,
    /// Recorded on a real network.
    Recorded,
    /// Written by hand, for a purpose of its own.
    Control,
}

/// What a trace says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceMetadata {
    /// The schema version. A trace in memory has [`TRACE_SCHEMA`], whatever its file had.
    pub schema: u32,
    /// A short name, such as `street-fr3-blockage`.
    pub scenario: String,
    /// How far to trust it.
    pub status: TraceStatus,
    /// Total length; the last row holds until then.
    pub duration_ns: u64,
    /// What follows the end.
    pub end: EndPolicy,
    /// The seed of the generator, if it had one.
    pub seed: Option<u64>,
    /// The program and version that made it.
    pub generator: String,
    /// The generator's resolved settings, name to value with unit.
    #[serde(default)]
    pub configuration: BTreeMap<String, String>,
    /// What the reader must know: what is standard, extrapolated or assumed.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What it follows and what it was made of.
    #[serde(default, skip_serializing_if = "Provenance::is_empty")]
    pub provenance: Provenance,
}

/// One row: the state of both directions from `t_ns` until the next row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceRow {
    /// Offset from the start of the trace, strictly increasing, 0 in the first row.
    pub t_ns: u64,
    /// Downlink.
    pub down: LinkState,
    /// Uplink.
    pub up: LinkState,
    /// What the generator knew.
    #[serde(default)]
    pub diagnostics: Diagnostics,
}

impl TraceRow {
    /// The state of one direction.
    #[must_use]
    pub const fn direction(&self, direction: Direction) -> &LinkState {
        match direction {
            Direction::Down => &self.down,
            Direction::Up => &self.up,
        }
    }

    /// The state of one direction, to be changed.
    pub const fn direction_mut(&mut self, direction: Direction) -> &mut LinkState {
        match direction {
            Direction::Down => &mut self.down,
            Direction::Up => &mut self.up,
        }
    }

    /// The first quantity that no link can have: its column, its value and what it may be.
    pub(crate) fn impossible(&self) -> Option<(String, u32, Cow<'static, str>)> {
        Direction::BOTH.into_iter().find_map(|direction| {
            let (name, value, expected) = self.direction(direction).impossible()?;
            Some((format!("{}_{name}", direction.name()), value, expected))
        })
    }
}

/// A whole trace, in memory or where it lies in a mapped file. It exists only in a valid state: at
/// least one row, the first at 0, times strictly increasing and before the end, every value
/// possible. Clones of a mapped one share the file.
#[derive(Debug, Clone)]
pub struct Trace {
    metadata: TraceMetadata,
    rows: Rows,
}

#[derive(Debug, Clone)]
enum Rows {
    Memory(Vec<TraceRow>),
    Mapped {
        file: MappedRows,
        /// Filled by whoever asks for all of them at once.
        memory: OnceLock<Vec<TraceRow>>,
    },
}

impl PartialEq for Trace {
    fn eq(&self, other: &Trace) -> bool {
        self.metadata == other.metadata
            && self.row_count() == other.row_count()
            && self.iter().eq(other.iter())
    }
}

/// What is done to every state of a trace.
#[derive(Debug, Clone, Copy)]
pub(crate) enum StateChange {
    ScaleRates { ppm: u64 },
    AddDelay { ns: u64 },
    Override([StateOverride; 2]),
}

impl StateChange {
    fn apply(self, state: LinkState, direction: Direction) -> LinkState {
        match self {
            StateChange::ScaleRates { .. } if state.rate_bps == UNLIMITED_RATE_BPS => state,
            StateChange::ScaleRates { ppm } => {
                let scaled = u128::from(state.rate_bps) * u128::from(ppm) / 1_000_000;
                let highest = UNLIMITED_RATE_BPS - 1;
                LinkState {
                    rate_bps: u64::try_from(scaled).unwrap_or(highest).min(highest),
                    ..state
                }
            }
            StateChange::AddDelay { ns } => LinkState {
                delay_ns: state.delay_ns.saturating_add(ns),
                ..state
            },
            StateChange::Override([down, up]) => match direction {
                Direction::Down => down.over(state),
                Direction::Up => up.over(state),
            },
        }
    }
}

impl Trace {
    /// Checks the rows and makes a trace of them.
    ///
    /// # Errors
    /// No rows, a first row that is not at 0, a time that does not increase, a row at or after
    /// `metadata.duration_ns`, a share above 1, a loss burst shorter than one packet, or an event
    /// whose name is not a word. The error's `row` counts data rows from 1.
    pub fn new(metadata: TraceMetadata, rows: Vec<TraceRow>) -> Result<Trace, TraceError> {
        let mut check = RowCheck::new(metadata.duration_ns);
        for row in &rows {
            check.accept(row)?;
        }
        check.finish()?;
        let rows = Rows::Memory(rows);
        Ok(Trace { metadata, rows })
    }

    /// The trace of a mapped file, whose rows stay there. They are checked here, once.
    ///
    /// The file must not be changed while the trace lives.
    ///
    /// # Errors
    /// As of [`Trace::new`]; the rows cannot be read, or are not those that were written.
    pub fn of_mapped(mapped: &MappedTrace) -> Result<Trace, TraceError> {
        let file = MappedRows::new(mapped)?;
        Ok(Trace {
            metadata: mapped.metadata().clone(),
            rows: Rows::Mapped {
                file,
                memory: OnceLock::new(),
            },
        })
    }

    /// What the trace says about itself.
    #[must_use]
    pub const fn metadata(&self) -> &TraceMetadata {
        &self.metadata
    }

    /// The same trace that says something else about itself, with the same length.
    pub(crate) fn with_said(mut self, say: impl FnOnce(&mut TraceMetadata)) -> Trace {
        let duration_ns = self.metadata.duration_ns;
        say(&mut self.metadata);
        self.metadata.duration_ns = duration_ns;
        self
    }

    /// All rows in memory, in order of time. Those of a mapped file are taken into it by the first
    /// call, however many there are: what should play a trace of any length asks for
    /// [`Trace::iter`], [`Trace::row`] or a [`crate::CapacityCurve`].
    #[must_use]
    pub fn rows(&self) -> &[TraceRow] {
        match &self.rows {
            Rows::Memory(rows) => rows,
            Rows::Mapped { memory, .. } => memory.get_or_init(|| self.iter().collect()),
        }
    }

    /// How many rows there are.
    #[must_use]
    pub const fn row_count(&self) -> usize {
        match &self.rows {
            Rows::Memory(rows) => rows.len(),
            Rows::Mapped { file, .. } => file.len(),
        }
    }

    /// Whether the rows stay in a mapped file.
    #[must_use]
    pub const fn is_mapped(&self) -> bool {
        matches!(self.rows, Rows::Mapped { .. })
    }

    /// How many of them are in this process's memory.
    #[must_use]
    pub fn rows_in_memory(&self) -> usize {
        match &self.rows {
            Rows::Memory(rows) => rows.len(),
            Rows::Mapped { memory, .. } => memory.get().map_or(0, Vec::len),
        }
    }

    /// One row, wherever it is; `None` after the last.
    #[must_use]
    pub fn row(&self, index: usize) -> Option<TraceRow> {
        match &self.rows {
            Rows::Memory(rows) => rows.get(index).cloned(),
            Rows::Mapped { file, .. } => file.row(index),
        }
    }

    /// The rows one by one, wherever they are.
    pub fn iter(&self) -> impl Iterator<Item = TraceRow> + '_ {
        (0..self.row_count()).filter_map(|index| self.row(index))
    }

    /// The start and both directions' states of the rows, one by one, wherever they are.
    pub fn states(&self) -> impl Iterator<Item = (u64, [LinkState; 2])> + Clone + '_ {
        (0..self.row_count()).filter_map(|index| self.states_of(index))
    }

    /// The start and both directions' states of one row, wherever it is; `None` after the last.
    #[must_use]
    pub fn states_of(&self, index: usize) -> Option<(u64, [LinkState; 2])> {
        match &self.rows {
            Rows::Memory(rows) => rows.get(index).map(|row| (row.t_ns, [row.down, row.up])),
            Rows::Mapped { file, .. } => file.states(index),
        }
    }

    /// The rows of a mapped file.
    pub(crate) const fn mapped(&self) -> Option<&MappedRows> {
        match &self.rows {
            Rows::Memory(_) => None,
            Rows::Mapped { file, .. } => Some(file),
        }
    }

    /// Total length in nanoseconds.
    #[must_use]
    pub const fn duration_ns(&self) -> u64 {
        self.metadata.duration_ns
    }

    /// The same trace with something done to every state; a mapped one stays mapped.
    fn with_change(&self, change: StateChange) -> Trace {
        let mut trace = self.clone();
        match &mut trace.rows {
            Rows::Memory(rows) => {
                for row in rows {
                    row.down = change.apply(row.down, Direction::Down);
                    row.up = change.apply(row.up, Direction::Up);
                }
            }
            Rows::Mapped { file, memory } => {
                file.push_change(change);
                *memory = OnceLock::new();
            }
        }
        trace
    }

    /// Whether it leaves every packet alone, in both directions, from beginning to end.
    #[must_use]
    pub fn is_transparent(&self) -> bool {
        let mut states = self.states().flat_map(|(_, states)| states);
        states.all(|state| state.is_transparent())
    }

    /// The same trace with every limited rate multiplied by `ppm` / 10^6, rounded down: a fault
    /// to inject on purpose. Unlimited stays unlimited, an outage an outage.
    #[must_use]
    pub fn with_rates_scaled_ppm(&self, ppm: u64) -> Trace {
        let mut trace = self.with_change(StateChange::ScaleRates { ppm });
        trace
            .metadata
            .notes
            .push(format!("rates scaled to {ppm} ppm on purpose"));
        trace
    }

    /// The same trace with `ns` added to every delay: a fault to inject on purpose.
    #[must_use]
    pub fn with_delay_added(&self, ns: u64) -> Trace {
        let mut trace = self.with_change(StateChange::AddDelay { ns });
        trace
            .metadata
            .notes
            .push(format!("{ns} ns added to every delay on purpose"));
        trace
    }

    /// The same trace with these values in every row, downlink and uplink.
    ///
    /// # Errors
    /// A value that no link can have, by itself or beside one that the trace keeps.
    pub fn with_overrides(&self, overrides: [StateOverride; 2]) -> Result<Trace, TraceError> {
        if overrides == [StateOverride::NONE; 2] {
            return Ok(self.clone());
        }
        for (index, (_, states)) in self.states().enumerate() {
            for ((over, state), direction) in overrides.iter().zip(states).zip(Direction::BOTH) {
                if let Some((field, value, expected)) = over.over(state).impossible() {
                    return Err(TraceError::Impossible {
                        row: index + 1,
                        field: format!("{}_{field}", direction.name()),
                        value: value.to_string(),
                        expected,
                    });
                }
            }
        }
        Ok(self.with_change(StateChange::Override(overrides)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::control;

    fn trace() -> Trace {
        control::outage(control::Link::new(1_000_003, 5, 0), 100, 40, 10).unwrap()
    }

    fn rebuilt(change: impl FnOnce(&mut Vec<TraceRow>)) -> Result<Trace, TraceError> {
        let trace = trace();
        let mut rows = trace.rows().to_vec();
        change(&mut rows);
        Trace::new(trace.metadata().clone(), rows)
    }

    #[test]
    fn a_trace_exists_only_with_rows_in_order_of_time() {
        assert!(rebuilt(|_| {}).is_ok());
        assert!(matches!(rebuilt(Vec::clear), Err(TraceError::Empty)));
        let late = rebuilt(|rows| rows[0].t_ns = 1);
        assert!(matches!(
            late,
            Err(TraceError::FirstRowNotAtZero { t_ns: 1 })
        ));
        let back = rebuilt(|rows| rows[2].t_ns = 30);
        let expected = "row 3: time goes back from 40 ns to 30 ns";
        assert_eq!(back.unwrap_err().to_string(), expected);
        let after = rebuilt(|rows| rows[2].t_ns = 100);
        assert!(matches!(after, Err(TraceError::RowAfterEnd { row: 3, .. })));
    }

    #[test]
    fn a_trace_holds_no_value_that_no_link_can_have() {
        for (result, name) in [
            (
                rebuilt(|rows| rows[1].up.loss_ppb = 1_000_000_001),
                "up_loss_ppb",
            ),
            (
                rebuilt(|rows| rows[1].down.loss_burst_milli = 0),
                "down_loss_burst_milli",
            ),
            (
                rebuilt(|rows| {
                    rows[1].up.loss_ppb = 900_000_000;
                    rows[1].up.loss_burst_milli = 8999;
                }),
                "up_loss_burst_milli is 8999; expected at least 9000",
            ),
            (
                rebuilt(|rows| rows[1].diagnostics.event = Some(String::new())),
                "event",
            ),
            (
                rebuilt(|rows| rows[1].diagnostics.event = Some("a,b\n".to_owned())),
                "event",
            ),
        ] {
            let text = result.unwrap_err().to_string();
            assert!(text.starts_with("row 2: ") && text.contains(name), "{text}");
        }
    }

    #[test]
    fn an_override_that_no_row_can_have_beside_what_it_keeps_is_refused_with_the_row() {
        let bursty = rebuilt(|rows| {
            rows[1].up.loss_ppb = 100_000_000;
            rows[1].up.loss_burst_milli = 2000;
        });
        let bursty = bursty.unwrap();
        let lossy = |loss_ppb| StateOverride {
            loss_ppb: Some(loss_ppb),
            ..StateOverride::NONE
        };
        let up = |over| [StateOverride::NONE, over];
        let refused = bursty.with_overrides(up(lossy(900_000_000))).unwrap_err();
        let text = refused.to_string();
        let expected = "row 2: up_loss_burst_milli is 2000; expected at least 9000";
        assert!(text.starts_with(expected), "{text}");
        for over in [
            lossy(600_000_000),
            StateOverride {
                loss_burst_milli: Some(9000),
                ..lossy(900_000_000)
            },
        ] {
            assert!(bursty.with_overrides(up(over)).is_ok(), "{over:?}");
        }
        // The other direction has no bursts.
        let down = [lossy(900_000_000), StateOverride::NONE];
        assert!(bursty.with_overrides(down).is_ok());
    }

    #[test]
    fn only_a_trace_without_limit_and_delay_is_transparent() {
        let constant = |rate, delay| control::constant(rate, delay, 0, 1).unwrap();
        assert!(constant(UNLIMITED_RATE_BPS, 0).is_transparent());
        assert!(!constant(UNLIMITED_RATE_BPS, 1).is_transparent());
        assert!(!constant(1_000_000_000, 0).is_transparent());
    }

    #[test]
    fn faults_scale_limited_rates_and_add_delay() {
        let faulty = trace().with_rates_scaled_ppm(970_000).with_delay_added(7);
        let rates: Vec<u64> = faulty.rows().iter().map(|row| row.up.rate_bps).collect();
        assert_eq!(rates, [970_002, 0, 970_002]);
        assert!(faulty.rows().iter().all(|row| row.down.delay_ns == 12));
        assert_eq!(
            faulty.metadata().notes.len(),
            trace().metadata().notes.len() + 2
        );
        let free = control::constant(UNLIMITED_RATE_BPS, u64::MAX, 0, 1).unwrap();
        let free = free.with_rates_scaled_ppm(1).with_delay_added(1);
        assert_eq!(free.rows()[0].down.rate_bps, UNLIMITED_RATE_BPS);
        assert_eq!(free.rows()[0].down.delay_ns, u64::MAX);
        let fast = control::constant(UNLIMITED_RATE_BPS - 1, 0, 0, 1).unwrap();
        let fast = fast.with_rates_scaled_ppm(2_000_000);
        assert_eq!(fast.rows()[0].down.rate_bps, UNLIMITED_RATE_BPS - 1);
    }
}
