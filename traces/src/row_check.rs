//! Whether rows, one after the other, make a trace.

use crate::state::{EVENT_NAME_RULE, is_event_name};
use crate::{TraceError, TraceRow};

/// Checks rows as they come, without keeping them: the first at 0, times that strictly increase
/// and lie before the end, every value possible.
#[derive(Debug, Clone)]
pub struct RowCheck {
    rows: usize,
    previous_ns: u64,
    duration_ns: u64,
}

impl RowCheck {
    /// For the rows of a trace of this length.
    #[must_use]
    pub const fn new(duration_ns: u64) -> RowCheck {
        RowCheck {
            rows: 0,
            previous_ns: 0,
            duration_ns,
        }
    }

    /// Rows accepted so far.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Accepts the next row.
    ///
    /// # Errors
    /// A first row that is not at 0, a time that does not increase, a row at or after the end, a
    /// share above 1, loss bursts shorter than one packet or too short for the share that is lost, or an event whose name is not a word.
    /// The error's `row` counts data rows from 1.
    pub fn accept(&mut self, row: &TraceRow) -> Result<(), TraceError> {
        let number = self.rows + 1;
        if self.rows == 0 && row.t_ns != 0 {
            return Err(TraceError::FirstRowNotAtZero { t_ns: row.t_ns });
        }
        if self.rows > 0 && row.t_ns <= self.previous_ns {
            return Err(TraceError::TimeGoesBack {
                row: number,
                t_ns: row.t_ns,
                previous_ns: self.previous_ns,
            });
        }
        if row.t_ns >= self.duration_ns {
            return Err(TraceError::RowAfterEnd {
                row: number,
                t_ns: row.t_ns,
                duration_ns: self.duration_ns,
            });
        }
        check_values(number, row)?;
        self.previous_ns = row.t_ns;
        self.rows = number;
        Ok(())
    }

    /// To be asked after the last row.
    ///
    /// # Errors
    /// There was none.
    pub const fn finish(&self) -> Result<(), TraceError> {
        if self.rows == 0 {
            Err(TraceError::Empty)
        } else {
            Ok(())
        }
    }
}

fn check_values(number: usize, row: &TraceRow) -> Result<(), TraceError> {
    if let Some((field, value, expected)) = row.impossible() {
        return Err(TraceError::Impossible {
            row: number,
            field,
            value: value.to_string(),
            expected,
        });
    }
    match &row.diagnostics.event {
        Some(name) if !is_event_name(name) => Err(TraceError::Impossible {
            row: number,
            field: "event".to_owned(),
            value: format!("{name:?}"),
            expected: EVENT_NAME_RULE.into(),
        }),
        _ => Ok(()),
    }
}
