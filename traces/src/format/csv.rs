//! The project's own trace file: commented CSV.
//!
//! ```text
//! # {"schema":2,"scenario":"...","status":"control","duration_ns":20000000000,...}
//! t_ns,down_rate_bps,down_delay_ns,...,up_queue_bytes,sinr_cdb,mcs,...,event
//! 0,60000000,4000000,...
//! ```
//!
//! The metadata is one line of JSON behind `# `; other lines that start with `#` are comments.
//! All numbers are whole; the rate `max` means unlimited; an empty diagnostic is unknown. A file
//! may leave out columns other than the time and the two rates, and order them as it likes;
//! [`to_text`] writes all of them in one order, so equal traces have equal text.

use std::fmt::Write as _;

use super::column::{Cell, Column};
use crate::{
    Diagnostics, LinkState, OLDEST_TRACE_SCHEMA, TRACE_SCHEMA, Trace, TraceError, TraceMetadata,
    TraceRow,
};

/// The text of a trace in canonical form: equal traces give equal bytes.
#[must_use]
pub fn to_text(trace: &Trace) -> String {
    let columns: Vec<Column> = Column::all().collect();
    let mut text = String::with_capacity(512 + trace.rows().len() * 96);
    text.push_str("# ");
    text.push_str(&metadata_line(trace.metadata()));
    text.push('\n');
    let names: Vec<String> = columns.iter().map(|column| column.name()).collect();
    text.push_str(&names.join(","));
    text.push('\n');
    for row in trace.rows() {
        for (index, &column) in columns.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            // Writing to a string cannot fail.
            let _ = write!(text, "{comma}{}", Cell { column, row });
        }
        text.push('\n');
    }
    text
}

#[expect(
    clippy::expect_used,
    reason = "strings, integers and string maps always become JSON"
)]
fn metadata_line(metadata: &TraceMetadata) -> String {
    serde_json::to_string(metadata).expect("metadata is plain data")
}

/// Where the parser stands, for its errors.
#[derive(Clone, Copy)]
struct Place<'a> {
    line: usize,
    text: &'a str,
}

impl Place<'_> {
    /// An error at the part of the line that begins at byte `offset`.
    fn error(self, offset: usize, problem: impl Into<String>) -> TraceError {
        let before = self.text.get(..offset).unwrap_or(self.text);
        TraceError::Syntax {
            line: self.line,
            column: before.chars().count() + 1,
            problem: problem.into(),
        }
    }
}

/// Splits a line at its commas into (byte offset, trimmed field).
fn fields(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut offset = 0;
    line.split(',').map(move |field| {
        let start = offset + (field.len() - field.trim_start().len());
        offset += field.len() + 1;
        (start, field.trim())
    })
}

/// Reads a trace from the text of a file.
///
/// # Errors
/// The first mistake, with its line, its column and what was expected there.
pub fn parse(text: &str) -> Result<Trace, TraceError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut metadata: Option<TraceMetadata> = None;
    let mut header: Option<Header> = None;
    let mut rows: Vec<TraceRow> = Vec::new();
    let mut last_line = 1;
    for (index, line) in text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let place = Place {
            line: index + 1,
            text: line,
        };
        if line.trim().is_empty() {
            continue;
        }
        last_line = place.line;
        if let Some(comment) = line.strip_prefix('#') {
            if metadata.is_none() && comment.trim_start().starts_with('{') {
                metadata = Some(parse_metadata(place, comment)?);
            }
            continue;
        }
        let Some(metadata) = &metadata else {
            return Err(place.error(
                0,
                "expected the metadata first: a line `# {\"schema\":1,...}` as `hexloop trace gen` \
                 writes it",
            ));
        };
        match &header {
            None => header = Some(parse_header(place)?),
            Some(header) => {
                let row = parse_row(place, &header.columns)?;
                let time_at = || {
                    fields(line)
                        .nth(header.time)
                        .map_or(0, |(offset, _)| offset)
                };
                time_problem(rows.last(), row.t_ns, metadata.duration_ns)
                    .map_or(Ok(()), |problem| Err(place.error(time_at(), problem)))?;
                rows.push(row);
            }
        }
    }
    let at_end = |problem: &str| TraceError::Syntax {
        line: last_line,
        column: 1,
        problem: problem.to_owned(),
    };
    let metadata =
        metadata.ok_or_else(|| at_end("expected the metadata: a line `# {\"schema\":1,...}`"))?;
    if rows.is_empty() {
        return Err(at_end(
            "expected a header row and at least one row of data after this",
        ));
    }
    Trace::new(metadata, rows)
}

fn parse_metadata(place: Place<'_>, comment: &str) -> Result<TraceMetadata, TraceError> {
    let json = comment.trim_start();
    let start = place.text.len() - json.len();
    let mut metadata: TraceMetadata = serde_json::from_str(json).map_err(|error| {
        let offset = start + error.column().saturating_sub(1);
        place.error(
            offset.min(place.text.len()),
            format!("in the metadata: {}", bare(&error)),
        )
    })?;
    if !(OLDEST_TRACE_SCHEMA..=TRACE_SCHEMA).contains(&metadata.schema) {
        let schema = metadata.schema;
        return Err(place.error(
            start,
            format!(
                "the trace has schema {schema}; this version reads schemas {OLDEST_TRACE_SCHEMA} \
                 to {TRACE_SCHEMA}"
            ),
        ));
    }
    // Newer schemas only add what older files leave unknown.
    metadata.schema = TRACE_SCHEMA;
    Ok(metadata)
}

/// The message without serde's own position, which counts from the start of the JSON.
fn bare(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.rfind(" at line ") {
        Some(at) => message[..at].to_owned(),
        None => message,
    }
}

struct Header {
    columns: Vec<Column>,
    /// Which of them is the time.
    time: usize,
}

fn parse_header(place: Place<'_>) -> Result<Header, TraceError> {
    let mut columns = Vec::new();
    for (offset, name) in fields(place.text) {
        let Some(column) = Column::all().find(|column| column.name() == name) else {
            let shown: String = name.chars().take(40).collect();
            let known: Vec<String> = Column::all().map(Column::name).collect();
            return Err(place.error(
                offset,
                format!(
                    "unknown column `{shown}`; the columns are {}",
                    known.join(", ")
                ),
            ));
        };
        if columns.contains(&column) {
            return Err(place.error(offset, format!("column `{name}` appears twice")));
        }
        columns.push(column);
    }
    for column in Column::all().filter(|column| column.is_required()) {
        if !columns.contains(&column) {
            return Err(place.error(0, format!("column `{}` is missing", column.name())));
        }
    }
    let time = columns
        .iter()
        .position(|&column| column == Column::Time)
        .unwrap_or(0);
    Ok(Header { columns, time })
}

fn parse_row(place: Place<'_>, columns: &[Column]) -> Result<TraceRow, TraceError> {
    let mut row = TraceRow {
        t_ns: 0,
        down: LinkState::TRANSPARENT,
        up: LinkState::TRANSPARENT,
        diagnostics: Diagnostics::default(),
    };
    let mut seen = 0;
    for (offset, field) in fields(place.text) {
        let Some(column) = columns.get(seen) else {
            let expected = columns.len();
            return Err(place.error(
                offset,
                format!("more fields than the header's {expected} columns"),
            ));
        };
        column.read(&mut row, field).map_err(|expected| {
            let shown: String = field.chars().take(40).collect();
            place.error(
                offset,
                format!("{} is `{shown}`; expected {expected}", column.name()),
            )
        })?;
        seen += 1;
    }
    match columns.get(seen) {
        None => Ok(row),
        Some(missing) => Err(place.error(
            place.text.len(),
            format!(
                "the row ends after {seen} fields; expected {} next",
                missing.name()
            ),
        )),
    }
}

fn time_problem(previous: Option<&TraceRow>, t_ns: u64, duration_ns: u64) -> Option<String> {
    match previous {
        None if t_ns != 0 => Some(format!("the first row is at {t_ns} ns; expected 0")),
        Some(previous) if t_ns < previous.t_ns => Some(format!(
            "time goes back from {} ns to {t_ns} ns; expected a later time in every row",
            previous.t_ns
        )),
        Some(previous) if t_ns == previous.t_ns => Some(format!(
            "the time {t_ns} ns is repeated; expected a later time in every row"
        )),
        _ if t_ns >= duration_ns => Some(format!(
            "the row at {t_ns} ns is not before the end of the trace; expected less than the \
             metadata's duration_ns, {duration_ns}"
        )),
        _ => None,
    }
}

#[cfg(test)]
#[path = "csv_tests.rs"]
mod tests;
