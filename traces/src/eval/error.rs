//! What can be wrong with a row, and where it is.

use std::fmt::Display;

/// Why a model has no result for a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// The row has no value where the model needs one.
    #[error("column {column} is absent or empty, and {why}")]
    Absent {
        /// The column.
        column: &'static str,
        /// Why it is needed.
        why: String,
    },
    /// A value that the model cannot use.
    #[error("column {column} is {value:?}; expected {expected}")]
    Value {
        /// The column.
        column: &'static str,
        /// What stands there.
        value: String,
        /// What may stand there.
        expected: String,
    },
    /// A value outside what the model's source covers, where `--extrapolate` would help.
    #[error("{quantity} is {value}; expected {expected}")]
    OutOfRange {
        /// The column, or what is computed from several.
        quantity: String,
        /// How much it is.
        value: String,
        /// The range and whose it is.
        expected: String,
    },
    /// Values that do not go together.
    #[error("{0}")]
    Combination(String),
}

impl EvalError {
    /// A value that the model cannot use.
    pub fn value(
        column: &'static str,
        value: impl Display + Copy,
        expected: impl Into<String>,
    ) -> EvalError {
        EvalError::Value {
            column,
            value: value.to_string(),
            expected: expected.into(),
        }
    }

    /// What the user can do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            EvalError::Absent { .. } => "add the column to the header line and a value to the row",
            EvalError::Value { .. } | EvalError::Combination(_) => "correct the row",
            EvalError::OutOfRange { .. } => {
                "correct the row, or give --extrapolate to use the formula there all the same"
            }
        }
    }
}

/// Why a table cannot be evaluated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// There is not even a header.
    #[error("the table is empty; expected a header line and rows")]
    Empty,
    /// There is only a header.
    #[error("the table has a header line and no rows")]
    NoRows,
    /// Two columns of the same name, of which the model reads one.
    #[error("line 1: column {column} stands there twice")]
    ColumnTwice {
        /// The column.
        column: &'static str,
    },
    /// A row has more cells than the header.
    #[error("row {row} (line {line}): {cells} cells under a header of {columns} columns")]
    TooManyCells {
        /// Data row, counted from 1.
        row: u64,
        /// Line of the file, counted from 1.
        line: u64,
        /// Its cells.
        cells: usize,
        /// The header's columns.
        columns: usize,
    },
    /// A row has no result.
    #[error("row {row} (line {line}): {problem}")]
    Row {
        /// Data row, counted from 1.
        row: u64,
        /// Line of the file, counted from 1.
        line: u64,
        /// Why.
        problem: EvalError,
    },
    /// The text is no CSV, or could not be read.
    #[error("row {row}: not readable as CSV in UTF-8")]
    Csv {
        /// Data row, counted from 1; 0 for the header.
        row: u64,
        /// The cause.
        #[source]
        source: csv::Error,
    },
}

impl TableError {
    /// What the user can do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            TableError::Empty | TableError::NoRows => {
                "give a CSV file with a header line and at least one row"
            }
            TableError::ColumnTwice { .. } => "rename one of them",
            TableError::TooManyCells { .. } => "quote cells that contain commas",
            TableError::Row { problem, .. } => problem.remedy(),
            TableError::Csv { .. } => "check the row's quotes and the file's encoding",
        }
    }
}
