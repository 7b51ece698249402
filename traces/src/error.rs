//! What can be wrong with a trace.

use std::path::PathBuf;

/// An error in a trace or its file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// There is no row at all.
    #[error("the trace has no rows")]
    Empty,
    /// Time must start at 0.
    #[error("the first row is at {t_ns} ns; a trace starts at 0")]
    FirstRowNotAtZero {
        /// The time of the first row.
        t_ns: u64,
    },
    /// Time must increase from row to row.
    #[error("row {row}: time goes back from {previous_ns} ns to {t_ns} ns")]
    TimeGoesBack {
        /// Data row, counted from 1.
        row: usize,
        /// The offending time.
        t_ns: u64,
        /// The time before it.
        previous_ns: u64,
    },
    /// A row lies at or after the stated end.
    #[error("row {row} at {t_ns} ns is not before the end of the trace at {duration_ns} ns")]
    RowAfterEnd {
        /// Data row, counted from 1.
        row: usize,
        /// Its time.
        t_ns: u64,
        /// The stated length.
        duration_ns: u64,
    },
    /// A row holds a value that no link can have.
    #[error("row {row}: {field} is {value}; expected {expected}")]
    Impossible {
        /// Data row, counted from 1.
        row: usize,
        /// The column, such as `down_loss_ppb`.
        field: String,
        /// The offending value.
        value: String,
        /// What it may be.
        expected: std::borrow::Cow<'static, str>,
    },
    /// The text of a trace file cannot be understood.
    #[error("line {line}, column {column}: {problem}")]
    Syntax {
        /// Line in the file, counted from 1.
        line: usize,
        /// Character in the line, counted from 1.
        column: usize,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// A recording in another format cannot be imported.
    #[error("{file}:{line}:{column}: {problem}")]
    Recording {
        /// The file's name.
        file: String,
        /// Line in the file, counted from 1.
        line: usize,
        /// Character in the line, counted from 1.
        column: usize,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// A generator was asked for something it cannot make.
    #[error("generator setting {setting}: {problem}")]
    Generator {
        /// The setting's name.
        setting: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The file could not be read or written.
    #[error("cannot {action} trace file {}", path.display())]
    File {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The rows could not be read or written, wherever they come from or go to.
    #[error("cannot {action} the trace")]
    Stream {
        /// `read` or `write`.
        action: &'static str,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A columnar file cannot be understood.
    #[error("{problem}")]
    Columnar {
        /// What is wrong and what was expected.
        problem: String,
    },
    /// The file is larger than any trace that this program plays.
    #[error(
        "trace file {} is larger than {limit_bytes} bytes; use a longer step or a shorter trace",
        path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The largest size that is read.
        limit_bytes: u64,
    },
    /// The file has more rows than a trace in memory.
    #[error(
        "trace file {} has more than {limit} rows, too many to hold in memory; `hexloop trace export \
         --output NAME.arrow` makes a file that is mapped, whatever its length, and --step longer rows",
        path.display()
    )]
    TooManyRows {
        /// The file.
        path: PathBuf,
        /// The most rows of a trace in memory.
        limit: u64,
    },
    /// The file's content is wrong.
    #[error("trace file {} is not usable", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<TraceError>,
    },
}

impl TraceError {
    /// Line and column of the mistake in the trace's text, where there is one.
    #[must_use]
    pub fn position(&self) -> Option<(usize, usize)> {
        match self {
            TraceError::Syntax { line, column, .. }
            | TraceError::Recording { line, column, .. } => Some((*line, *column)),
            TraceError::InFile { source, .. } => source.position(),
            _ => None,
        }
    }
}
