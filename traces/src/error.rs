//! What can be wrong with a trace.

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
    /// The text of a trace file cannot be understood.
    #[error("line {line}, column {column}: {problem}")]
    Syntax {
        /// Line in the file, counted from 1.
        line: usize,
        /// Field in the line, counted from 1.
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
    #[error("cannot {action} trace file {path}")]
    File {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}
