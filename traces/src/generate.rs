//! Analytic traces: [`control`] stands for nothing but itself. What stands for a radio channel is a
//! [`scenario`](crate::scenario).

pub mod control;

/// The most rows that a generator or importer makes.
pub(crate) const MOST_ROWS: u64 = 10_000_000;
