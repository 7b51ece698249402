//! Tables of measurements with a header: what each column is, and in which unit, comes from a
//! preset or from whoever imports.

mod map;
mod preset;

use super::{
    Cell, Delimiter, Facts, ImportOptions, Importer, Place, Quantity, Recording, Table, Timeline,
    ZoneCheck, civil_ns, decimal_ns, delay_ns, loss_ppb, number, rate_bps,
};
use crate::{Diagnostics, EndPolicy, Trace, TraceError};
use map::{Column, Role, Unit};
use preset::Preset;
pub(super) use preset::{GENERIC, LENS, LUMOS5G, SATELLITE_VS_CELLULAR, STARLINK_RTT, UCC_5G};

/// A role with the column that plays it, for one file.
struct Played<'m> {
    column: &'m Column,
    index: usize,
}

/// Whether the header has all columns that a preset needs.
fn has_columns(preset: &Preset, recording: &Recording<'_>) -> bool {
    Table::new(*recording, Delimiter::Comma).is_ok_and(|table| {
        preset
            .signature
            .iter()
            .all(|name| table.find(name).is_some())
    })
}

/// Reads a table as `preset` says, overridden by the columns of the options.
fn import(
    preset: &Preset,
    recordings: &[Recording<'_>],
    options: &ImportOptions,
) -> Result<Trace, TraceError> {
    let Some(&recording) = recordings.first() else {
        let nothing = Recording { name: "", text: "" };
        return Err(nothing.end().error("expected a file"));
    };
    let delimiter = delimiter(recording);
    let table = Table::new(recording, delimiter)?;
    let columns = preset
        .columns(options)
        .map_err(|problem| recording.place(1, 1).error(problem))?;
    let mut places = Vec::new();
    for column in &columns {
        match table.find(&column.name) {
            Some(index) => places.push(Played { column, index }),
            None if column.is_optional => {}
            None => {
                table.column(&column.name)?;
            }
        }
    }
    let selected = selections(&table, options)?;
    let run = preset.run.and_then(|name| Some((name, table.find(name)?)));
    let mut reader = Reader {
        preset,
        zones: ZoneCheck::default(),
        first_run: None,
        skipped: 0,
        missing: 0,
    };
    let mut timeline = Timeline::new();
    for record in table.records() {
        let is_selected = selected.iter().all(|(index, value)| {
            record
                .cells
                .get(*index)
                .is_some_and(|cell| cell.text == *value)
        });
        if !is_selected {
            reader.skipped += 1;
            continue;
        }
        if let Some((name, index)) = run {
            reader.one_run(name, record.cell(index, name)?)?;
        }
        reader.row(&mut timeline, record.place, &places, |place| {
            record.cell(place.index, &place.column.name)
        })?;
    }
    let mut notes = preset.notes();
    if reader.skipped > 0 {
        notes.push(format!("{} rows were not selected", reader.skipped));
    }
    if reader.missing > 0 {
        notes.push(format!(
            "{} values are missing in the recording and were left out, not filled in",
            reader.missing
        ));
    }
    let facts = Facts {
        format: preset.name,
        recordings: &recordings[..1],
        end: EndPolicy::Loop,
        sampled: true,
        end_ns: None,
        notes,
    };
    timeline.into_trace(facts, options)
}

/// The mark that the header line holds most of.
fn delimiter(recording: Recording<'_>) -> Delimiter {
    let header = recording
        .lines()
        .map(|(_, line)| line)
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default();
    if header.contains(',') {
        Delimiter::Comma
    } else if header.contains(';') {
        Delimiter::Semicolon
    } else {
        Delimiter::Blank
    }
}

/// The columns by which rows are selected, and the value that each must have.
fn selections<'a>(
    table: &Table<'_>,
    options: &'a ImportOptions,
) -> Result<Vec<(usize, &'a str)>, TraceError> {
    options
        .select
        .iter()
        .map(|(name, value)| Ok((table.column(name)?, value.as_str())))
        .collect()
}

/// What is remembered from row to row.
struct Reader<'p> {
    preset: &'p Preset,
    zones: ZoneCheck,
    first_run: Option<String>,
    skipped: u64,
    missing: u64,
}

impl Reader<'_> {
    /// Refuses files with several runs, each of which has a time of its own.
    fn one_run(&mut self, name: &str, cell: Cell<'_>) -> Result<(), TraceError> {
        let first = self.first_run.get_or_insert_with(|| cell.text.to_owned());
        if first == cell.text {
            return Ok(());
        }
        Err(cell.error(format!(
            "the file holds several runs, the first of which is {first}; select one of column \
             `{name}`, as in --select {name}={first}"
        )))
    }

    fn row<'a>(
        &mut self,
        timeline: &mut Timeline,
        place: Place<'_>,
        places: &[Played<'_>],
        cell: impl Fn(&Played<'_>) -> Result<Cell<'a>, TraceError>,
    ) -> Result<(), TraceError> {
        let mut at_ns = None;
        for moment in places
            .iter()
            .filter(|place| place.column.role == Role::Time)
        {
            let cell = cell(moment)?;
            at_ns = Some(
                self.moment(moment.column.unit, cell.text)
                    .map_err(|problem| cell.error(problem))?,
            );
        }
        let at_ns = at_ns.ok_or_else(|| {
            place.error("no column says when; name it as in --column time=timestamp:s")
        })?;
        timeline.moment(at_ns, place)?;
        let missing = self.preset.missing;
        let mut known = Diagnostics::default();
        let mut is_known = false;
        // Where the round trip is lost, the other delays of the row mean nothing.
        let mut is_lost = false;
        for place in places {
            let cell = cell(place)?;
            let unit = place.column.unit;
            let wrong = |problem: String| cell.error(problem);
            let mut sample = |quantity: Quantity, value: Option<u64>| match value {
                Some(value) => timeline.sample(quantity, value),
                None => self.missing += 1,
            };
            match place.column.role {
                Role::Time => {}
                Role::Rate(direction) => {
                    let value = rate_bps(cell.text, unit.rate(), missing).map_err(wrong)?;
                    sample(Quantity::Rate(direction), value);
                }
                Role::RoundTrip => {
                    let value = delay_ns(cell.text, unit.nanoseconds(), missing).map_err(wrong)?;
                    is_lost = value.is_none();
                    match value {
                        Some(value) => timeline.round_trip(value),
                        None => self.missing += 1,
                    }
                }
                Role::Delay(_) if is_lost => {}
                Role::Delay(direction) => {
                    let value = delay_ns(cell.text, unit.nanoseconds(), missing).map_err(wrong)?;
                    sample(Quantity::Delay(direction), value);
                }
                Role::Loss(direction) => {
                    let value = loss_ppb(cell.text, unit.whole(), missing).map_err(wrong)?;
                    sample(Quantity::Loss(direction), value.map(u64::from));
                }
                Role::Snr => {
                    // A diagnostic: one that is not known spoils nothing.
                    let value = number(cell.text, missing).ok().flatten();
                    known.sinr_cdb = value.and_then(hundredths);
                    is_known |= known.sinr_cdb.is_some();
                }
                Role::Cell => {
                    known.cell_id = cell.text.parse().ok();
                    is_known |= known.cell_id.is_some();
                }
            }
        }
        if is_known {
            timeline.diagnostics(known);
        }
        Ok(())
    }

    fn moment(&mut self, unit: Unit, text: &str) -> Result<i64, String> {
        if unit != Unit::Date {
            return decimal_ns(text, unit.nanoseconds());
        }
        let (at_ns, zone) = civil_ns(text)?;
        self.zones.accept(zone)?;
        Ok(at_ns)
    }
}

/// Hundredths, if there can be so many decibels.
pub(super) fn hundredths(db: f64) -> Option<i32> {
    #[expect(clippy::cast_possible_truncation, reason = "at most 20000")]
    (db.abs() <= 200.0).then_some(libm::round(db * 100.0) as i32)
}

/// The importer of a preset.
macro_rules! importer {
    ($name:ident, $preset:path, $about:literal) => {
        pub(super) const $name: Importer = Importer {
            name: $preset.name,
            about: $about,
            most_files: 1,
            detect: |recording| !$preset.signature.is_empty() && has_columns(&$preset, recording),
            import: |recordings, options| import(&$preset, recordings, options),
        };
    };
}

importer!(
    TABLE,
    GENERIC,
    "any table with a header; --column time=NAME:UNIT, down, up, rtt, delay-down, delay-up, \
     loss-down, loss-up, snr and cell say what is what"
);
importer!(
    UCC,
    UCC_5G,
    "5G production dataset of UCC (G-NetTrack): local time, kbit/s, pings in ms"
);
importer!(
    LUMOS,
    LUMOS5G,
    "Lumos5G 1.0: seconds of a run, Mbit/s; select one run with --select run_num=N"
);
importer!(
    TRACKER,
    SATELLITE_VS_CELLULAR,
    "5GTracker logs of Satellite-vs-Cellular: time with zone, throughput in Mbit/s"
);
importer!(
    RTT,
    STARLINK_RTT,
    "table of pings (LEONetEM): timestamp in epoch seconds, rtt in ms; no rates"
);
importer!(
    IRTT,
    LENS,
    "IRTT table of LENS: timestamp in ns, rtt, uplink and downlink in ms, -1 where lost"
);

#[cfg(test)]
#[path = "dataset_tests.rs"]
mod tests;
