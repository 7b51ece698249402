//! Rows that come one by one, wherever they come from.

use super::TraceReader;
use crate::{Trace, TraceError, TraceMetadata, TraceRow};

/// A trace whose rows come one by one.
pub trait RowSource {
    /// What the trace says about itself.
    fn metadata(&self) -> &TraceMetadata;

    /// The next row; `None` after the last.
    ///
    /// # Errors
    /// The rows cannot be read or make no trace.
    fn next_row(&mut self) -> Result<Option<TraceRow>, TraceError>;
}

impl RowSource for TraceReader {
    fn metadata(&self) -> &TraceMetadata {
        TraceReader::metadata(self)
    }

    fn next_row(&mut self) -> Result<Option<TraceRow>, TraceError> {
        TraceReader::next_row(self)
    }
}

/// The rows of a trace in memory, one by one.
#[derive(Debug, Clone)]
pub struct TraceRows<'a> {
    trace: &'a Trace,
    next: usize,
}

impl<'a> TraceRows<'a> {
    /// From the first row on.
    #[must_use]
    pub const fn new(trace: &'a Trace) -> TraceRows<'a> {
        TraceRows { trace, next: 0 }
    }
}

impl RowSource for TraceRows<'_> {
    fn metadata(&self) -> &TraceMetadata {
        self.trace.metadata()
    }

    fn next_row(&mut self) -> Result<Option<TraceRow>, TraceError> {
        let row = self.trace.row(self.next);
        self.next += 1;
        Ok(row)
    }
}

/// Rows with the moment until which each holds.
#[derive(Debug)]
pub struct Spans<S> {
    source: S,
    waiting: Option<TraceRow>,
    done: bool,
}

impl<S: RowSource> Spans<S> {
    /// Of these rows.
    #[must_use]
    pub const fn new(source: S) -> Spans<S> {
        Spans {
            source,
            waiting: None,
            done: false,
        }
    }

    /// What the trace says about itself.
    #[must_use]
    pub fn metadata(&self) -> &TraceMetadata {
        self.source.metadata()
    }

    /// The next row, and until when it holds; `None` after the last.
    ///
    /// # Errors
    /// As of [`RowSource::next_row`].
    pub fn next_span(&mut self) -> Result<Option<(TraceRow, u64)>, TraceError> {
        if self.done {
            return Ok(None);
        }
        let row = match self.waiting.take() {
            Some(row) => row,
            None => match self.source.next_row()? {
                Some(row) => row,
                None => {
                    self.done = true;
                    return Ok(None);
                }
            },
        };
        self.waiting = self.source.next_row()?;
        let until_ns = match &self.waiting {
            Some(next) => next.t_ns,
            None => {
                self.done = true;
                self.source.metadata().duration_ns
            }
        };
        Ok(Some((row, until_ns)))
    }
}
