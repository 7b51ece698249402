//! From samples at moments to the rows of a trace.

use std::collections::{BTreeMap, BTreeSet};

use super::gaps::usual_distance_ns;
use super::{GapPolicy, ImportOptions, Place, Recording, resample};
use crate::generate::MOST_ROWS;
use crate::{
    Diagnostics, Direction, EndPolicy, LinkState, Provenance, TRACE_SCHEMA, Trace, TraceError,
    TraceMetadata, TraceRow, TraceStatus, UNLIMITED_RATE_BPS,
};

/// What a sample is about. All are in the units of [`LinkState`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantity {
    /// Bits per second of IP packets.
    Rate(Direction),
    /// One-way delay in ns.
    Delay(Direction),
    /// Half-width of the jitter in ns.
    Jitter(Direction),
    /// Loss in parts per 10^9.
    Loss(Direction),
    /// Duplicates in parts per 10^9.
    Duplicates(Direction),
    /// Queue in bytes.
    Queue(Direction),
}

/// What an importer knows of a recording beside its samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts<'a> {
    /// The format's name.
    pub format: &'static str,
    /// The files.
    pub recordings: &'a [Recording<'a>],
    /// What follows the end, unless the options say so.
    pub end: EndPolicy,
    /// Whether time without samples is a gap. Without, a sample holds until the next by the
    /// format's own definition.
    pub sampled: bool,
    /// The end, as a moment; by default one usual distance after the last sample.
    pub end_ns: Option<i64>,
    /// What the reader of the trace must know.
    pub notes: Vec<String>,
}

/// Samples that fell on one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at_ns: i64,
    sum: u128,
    count: u32,
}

impl Sample {
    /// Their mean, rounded to the nearest.
    fn value(self) -> u64 {
        let count = u128::from(self.count);
        u64::try_from((self.sum + count / 2) / count).unwrap_or(u64::MAX)
    }
}

/// Samples with their moments, in order of time.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    tracks: BTreeMap<Quantity, Vec<Sample>>,
    diagnostics: Vec<(i64, Diagnostics)>,
    /// Every moment at which anything was sampled.
    moments: Vec<i64>,
    several: u64,
    samples: u64,
}

impl Timeline {
    /// Without samples.
    #[must_use]
    pub fn new() -> Timeline {
        Timeline::default()
    }

    /// Of steps at moments in any order, each of which holds until the next of its quantity.
    ///
    /// # Errors
    /// There are more steps than this program imports.
    pub fn of_steps(
        mut steps: Vec<(i64, Quantity, u64)>,
        recordings: &[Recording<'_>],
    ) -> Result<Timeline, TraceError> {
        steps.sort_by_key(|(at_ns, ..)| *at_ns);
        let place = Recording::first(recordings).place(1, 1);
        let mut timeline = Timeline::new();
        for (at_ns, quantity, value) in steps {
            timeline.moment(at_ns, place)?;
            timeline.sample(quantity, value);
        }
        Ok(timeline)
    }

    /// A moment at which something was sampled, even if all of it is missing: later samples may
    /// be at the same moment but not before it. Call it for every row of the recording.
    ///
    /// # Errors
    /// Time goes back, or there are more rows than this program imports.
    pub fn moment(&mut self, at_ns: i64, place: Place<'_>) -> Result<(), TraceError> {
        match self.moments.last() {
            Some(&last) if at_ns < last => {
                let by_s = last.abs_diff(at_ns) / 1_000_000_000;
                return Err(place.error(format!(
                    "time goes back by {by_s} s ({} ns); expected rows in order of time",
                    last.abs_diff(at_ns)
                )));
            }
            Some(&last) if at_ns == last => {}
            _ => self.moments.push(at_ns),
        }
        self.samples += 1;
        if self.samples > MOST_ROWS {
            return Err(place.error(format!("more than {MOST_ROWS} rows; import a part of them")));
        }
        Ok(())
    }

    /// A sample at the moment of the last [`Timeline::moment`]. Several at one moment count as
    /// their mean.
    pub fn sample(&mut self, quantity: Quantity, value: u64) {
        let Some(&at_ns) = self.moments.last() else {
            return;
        };
        let track = self.tracks.entry(quantity).or_default();
        match track.last_mut() {
            Some(last) if last.at_ns == at_ns => {
                last.sum += u128::from(value);
                last.count += 1;
                self.several += 1;
            }
            _ => track.push(Sample {
                at_ns,
                sum: value.into(),
                count: 1,
            }),
        }
    }

    /// A round-trip time: half of it is each direction's delay.
    pub fn round_trip(&mut self, rtt_ns: u64) {
        for direction in Direction::BOTH {
            self.sample(Quantity::Delay(direction), rtt_ns / 2);
        }
    }

    /// What is known beside the link's state at the moment of the last [`Timeline::moment`].
    pub fn diagnostics(&mut self, diagnostics: Diagnostics) {
        let Some(&at_ns) = self.moments.last() else {
            return;
        };
        match self.diagnostics.last_mut() {
            Some(last) if last.0 == at_ns => last.1 = diagnostics,
            Some(last) if last.1 == diagnostics => {}
            _ => self.diagnostics.push((at_ns, diagnostics)),
        }
    }

    /// Makes a trace of the samples.
    ///
    /// # Errors
    /// No rates at all, a gap that the options refuse, or rows that make no trace.
    pub fn into_trace(
        mut self,
        facts: Facts<'_>,
        options: &ImportOptions,
    ) -> Result<Trace, TraceError> {
        let place = facts.recordings.first().map_or(
            Place {
                file: "recording",
                line: 1,
                column: 1,
            },
            |recording| recording.end(),
        );
        let first_rate = |(quantity, track): (&Quantity, &Vec<Sample>)| match quantity {
            Quantity::Rate(_) => track.first().map(|sample| sample.at_ns),
            _ => None,
        };
        let last = self.moments.last().copied();
        let has_any = !self.tracks.is_empty();
        let begin_ns = self.tracks.iter().filter_map(first_rate).min();
        // A recording of delays alone plays without a limit of rate.
        let begin_ns = begin_ns.or_else(|| self.moments.first().copied().filter(|_| has_any));
        let (Some(begin_ns), Some(last_ns)) = (begin_ns, last) else {
            return Err(place.error("there is no sample before this; expected rows of data"));
        };
        let usual_ns = usual_distance_ns(&self.moments)
            .unwrap_or(1_000_000_000)
            .max(1);
        let mut notes = facts.notes;
        if self.several > 0 {
            notes.push(format!(
                "{} samples fell on the moment of another; each moment has their mean",
                self.several
            ));
        }
        let usual_end = i64::try_from(usual_ns)
            .ok()
            .and_then(|ns| last_ns.checked_add(ns));
        let end_ns = facts.end_ns.or(usual_end).unwrap_or(i64::MAX);
        if facts.sampled {
            self.rates_of_delays(&mut notes);
            let limit_ns = options
                .longest_hold_ns
                .unwrap_or(usual_ns.saturating_mul(3));
            let gaps = Gaps {
                usual_ns,
                limit_ns,
                end_ns,
                policy: options.gaps,
                place,
            };
            for (quantity, track) in &mut self.tracks {
                if let Quantity::Rate(direction) = quantity {
                    gaps.treat(*direction, track, &mut notes)?;
                }
            }
        }
        let rows = self.rows(begin_ns, options, &mut notes);
        let duration_ns = u64::try_from(i128::from(end_ns) - i128::from(begin_ns))
            .ok()
            .filter(|&ns| ns > 0)
            .ok_or_else(|| place.error("the recording ends before its first sample"))?;
        let (rows, status_note) = match options.step_ns {
            Some(step_ns) => (
                resample(&rows, duration_ns, step_ns)?,
                Some(resample::note(step_ns)),
            ),
            None => (rows, None),
        };
        notes.extend(status_note);
        let metadata = TraceMetadata {
            schema: TRACE_SCHEMA,
            scenario: options.scenario.clone(),
            status: TraceStatus::Recorded,
            duration_ns,
            end: options.end.unwrap_or(facts.end),
            seed: None,
            generator: format!("hexloop import of {} v1", facts.format),
            configuration: BTreeMap::new(),
            notes,
            provenance: Provenance {
                sources: facts
                    .recordings
                    .iter()
                    .map(|recording| recording.source(options.licence.as_deref()))
                    .collect(),
                ..Provenance::default()
            },
        };
        Trace::new(metadata, rows)
    }

    /// Gives a recording of delays alone rates without limit at its moments: time without an
    /// answer is a gap like any other.
    fn rates_of_delays(&mut self, notes: &mut Vec<String>) {
        if self
            .tracks
            .keys()
            .any(|quantity| matches!(quantity, Quantity::Rate(_)))
        {
            return;
        }
        for direction in Direction::BOTH {
            let Some(delays) = self.tracks.get(&Quantity::Delay(direction)) else {
                continue;
            };
            let unlimited = delays
                .iter()
                .map(|sample| Sample {
                    at_ns: sample.at_ns,
                    sum: UNLIMITED_RATE_BPS.into(),
                    count: 1,
                })
                .collect();
            self.tracks.insert(Quantity::Rate(direction), unlimited);
            notes.push(format!(
                "the recording has no rate of the {}link; it is not limited but in gaps",
                direction.name()
            ));
        }
    }

    /// The rows from `begin_ns` on: one at each moment at which something changes.
    fn rows(
        &self,
        begin_ns: i64,
        options: &ImportOptions,
        notes: &mut Vec<String>,
    ) -> Vec<TraceRow> {
        for direction in Direction::BOTH {
            let name = direction.name();
            if !self.tracks.contains_key(&Quantity::Rate(direction)) {
                notes.push(format!(
                    "the recording has no rate of the {name}link; it is not limited"
                ));
            }
            if !self.tracks.contains_key(&Quantity::Delay(direction)) && options.delay_ns > 0 {
                notes.push(format!(
                    "the recording has no delay of the {name}link; it is {} ns as told",
                    options.delay_ns
                ));
            }
        }
        let mut changes = BTreeSet::from([begin_ns]);
        let moments = self.tracks.values().flatten().map(|sample| sample.at_ns);
        let known = self.diagnostics.iter().map(|(at_ns, _)| *at_ns);
        changes.extend(moments.chain(known).filter(|&at_ns| at_ns > begin_ns));
        let mut tracks: Vec<Cursor<'_>> = self
            .tracks
            .iter()
            .map(|(&quantity, samples)| Cursor { quantity, samples })
            .collect();
        let untouched = LinkState {
            delay_ns: options.delay_ns,
            queue_bytes: options.queue_bytes,
            ..LinkState::TRANSPARENT
        };
        let mut row = TraceRow {
            t_ns: 0,
            down: untouched,
            up: untouched,
            diagnostics: Diagnostics::default(),
        };
        // What is known only later held before, too: there is no better guess.
        for cursor in &tracks {
            if let Some(first) = cursor.samples.first() {
                set(&mut row, cursor.quantity, first.value());
            }
        }
        let mut diagnostics = self.diagnostics.iter().peekable();
        let mut rows: Vec<TraceRow> = Vec::new();
        for at_ns in changes {
            for cursor in &mut tracks {
                while let Some((sample, rest)) = cursor.samples.split_first() {
                    if sample.at_ns > at_ns {
                        break;
                    }
                    set(&mut row, cursor.quantity, sample.value());
                    cursor.samples = rest;
                }
            }
            row.diagnostics.event = None;
            while let Some((_, known)) = diagnostics.next_if(|(moment, _)| *moment <= at_ns) {
                row.diagnostics = known.clone();
            }
            row.t_ns = at_ns.abs_diff(begin_ns);
            let is_new = rows.last().is_none_or(|last| {
                (last.down, last.up) != (row.down, row.up) || last.diagnostics != row.diagnostics
            });
            if is_new {
                rows.push(row.clone());
            }
        }
        rows
    }
}

/// The same trace with its directions exchanged.
pub(super) fn swapped(trace: &Trace) -> Result<Trace, TraceError> {
    let exchange = |row: &TraceRow| TraceRow {
        down: row.up,
        up: row.down,
        ..row.clone()
    };
    let mut metadata = trace.metadata().clone();
    metadata
        .notes
        .push("the recording was taken for the uplink, as told".to_owned());
    Trace::new(metadata, trace.rows().iter().map(exchange).collect())
}

/// A track and how far it was read.
struct Cursor<'a> {
    quantity: Quantity,
    samples: &'a [Sample],
}

fn set(row: &mut TraceRow, quantity: Quantity, value: u64) {
    let narrow = || u32::try_from(value).unwrap_or(u32::MAX);
    let share = || narrow().min(crate::state::LARGEST_PPB);
    match quantity {
        Quantity::Rate(direction) => row.direction_mut(direction).rate_bps = value,
        Quantity::Delay(direction) => row.direction_mut(direction).delay_ns = value,
        Quantity::Jitter(direction) => row.direction_mut(direction).jitter_ns = narrow(),
        Quantity::Loss(direction) => row.direction_mut(direction).loss_ppb = share(),
        Quantity::Duplicates(direction) => row.direction_mut(direction).dup_ppb = share(),
        Quantity::Queue(direction) => row.direction_mut(direction).queue_bytes = narrow(),
    }
}

/// How gaps of rates are treated.
struct Gaps<'a> {
    usual_ns: u64,
    limit_ns: u64,
    end_ns: i64,
    policy: GapPolicy,
    place: Place<'a>,
}

impl Gaps<'_> {
    fn treat(
        &self,
        direction: Direction,
        track: &mut Vec<Sample>,
        notes: &mut Vec<String>,
    ) -> Result<(), TraceError> {
        let name = direction.name();
        let (mut short, mut long, mut longest_ns) = (0_u64, 0_u64, 0_u64);
        let mut treated: Vec<Sample> = Vec::with_capacity(track.len());
        for (index, &sample) in track.iter().enumerate() {
            treated.push(sample);
            let next_ns = track.get(index + 1).map_or(self.end_ns, |next| next.at_ns);
            let gap_ns = next_ns.abs_diff(sample.at_ns);
            if gap_ns > self.limit_ns {
                long += 1;
                longest_ns = longest_ns.max(gap_ns);
                match self.policy {
                    GapPolicy::Refuse => return Err(self.refusal(name, track, index, gap_ns)),
                    GapPolicy::Hold => {}
                    GapPolicy::Outage => {
                        let usual = i64::try_from(self.usual_ns).unwrap_or(i64::MAX);
                        treated.push(Sample {
                            at_ns: sample.at_ns.saturating_add(usual).min(next_ns),
                            sum: 0,
                            count: 1,
                        });
                    }
                }
            } else if gap_ns > self.usual_ns + self.usual_ns / 2 {
                short += 1;
            }
        }
        *track = treated;
        if short > 0 {
            notes.push(format!(
                "{name}link: {short} times samples are missing for at most {} ns; the last one \
                 holds",
                self.limit_ns
            ));
        }
        if long > 0 {
            let became = match self.policy {
                GapPolicy::Outage => "are outages",
                GapPolicy::Hold | GapPolicy::Refuse => "hold the last sample",
            };
            notes.push(format!(
                "{name}link: {long} gaps of up to {longest_ns} ns {became}, as told"
            ));
        }
        Ok(())
    }

    fn refusal(&self, name: &str, track: &[Sample], index: usize, gap_ns: u64) -> TraceError {
        let begin = track.first().map_or(0, |first| first.at_ns);
        let after_ns = track[index].at_ns.abs_diff(begin);
        self.place.error(format!(
            "the {name}link has no sample for {:.3} s from {:.3} s after the first on, where \
             samples are {:.3} s apart; say whether such gaps hold the last sample or are outages",
            seconds(gap_ns),
            seconds(after_ns),
            seconds(self.usual_ns)
        ))
    }
}

#[expect(clippy::cast_precision_loss, reason = "for printing only")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
#[path = "timeline_tests.rs"]
mod tests;
