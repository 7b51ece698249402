//! Lines of trace text: where they are, the header and the rows.

use super::super::column::Column;
use crate::{Diagnostics, LinkState, TraceError, TraceRow};

/// Where the reader stands, for its errors.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) line: usize,
    pub(super) text: &'a str,
}

impl Place<'_> {
    /// An error at a byte offset into the line.
    pub(super) fn error(self, offset: usize, problem: impl Into<String>) -> TraceError {
        let before = self.text.get(..offset).unwrap_or(self.text);
        TraceError::Syntax {
            line: self.line,
            column: before.chars().count() + 1,
            problem: problem.into(),
        }
    }
}

/// The fields of a line with their byte offsets, without the blanks around them.
pub(super) fn fields(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut offset = 0;
    line.split(',').map(move |field| {
        let start = offset + (field.len() - field.trim_start().len());
        offset += field.len() + 1;
        (start, field.trim())
    })
}

/// The columns of a file.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) columns: Vec<Column>,
    /// Which of them is the time.
    pub(super) time: usize,
}

impl Header {
    pub(super) fn parse(place: Place<'_>) -> Result<Header, TraceError> {
        let mut columns = Vec::new();
        for (offset, name) in fields(place.text) {
            let column = Column::named(name).map_err(|problem| place.error(offset, problem))?;
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
}

/// A row before anything of it was read: columns that a file leaves out keep this.
pub(in super::super) const fn untouched_row() -> TraceRow {
    TraceRow {
        t_ns: 0,
        down: LinkState::TRANSPARENT,
        up: LinkState::TRANSPARENT,
        diagnostics: Diagnostics::UNKNOWN,
    }
}

/// Reads a row as nearly all are written; `None` leaves it to [`parse_row`].
pub(super) fn plain_row(line: &[u8], columns: &[Column]) -> Option<TraceRow> {
    let mut row = untouched_row();
    let mut rest = Some(line);
    for column in columns {
        let text = rest?;
        let field = match text.iter().position(|&byte| byte == b',') {
            Some(comma) => {
                rest = Some(&text[comma + 1..]);
                &text[..comma]
            }
            None => {
                rest = None;
                text
            }
        };
        column.read_plain(&mut row, field)?;
    }
    rest.is_none().then_some(row)
}

pub(super) fn parse_row(place: Place<'_>, columns: &[Column]) -> Result<TraceRow, TraceError> {
    let mut row = untouched_row();
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

/// What is wrong with the time of a row, if anything.
pub(super) fn time_problem(previous: Option<u64>, t_ns: u64, duration_ns: u64) -> Option<String> {
    match previous {
        None if t_ns != 0 => Some(format!("the first row is at {t_ns} ns; expected 0")),
        Some(previous) if t_ns < previous => Some(format!(
            "time goes back from {previous} ns to {t_ns} ns; expected a later time in every row"
        )),
        Some(previous) if t_ns == previous => Some(format!(
            "the time {t_ns} ns is repeated; expected a later time in every row"
        )),
        _ if t_ns >= duration_ns => Some(format!(
            "the row at {t_ns} ns is not before the end of the trace; expected less than the \
             metadata's duration_ns, {duration_ns}"
        )),
        _ => None,
    }
}
