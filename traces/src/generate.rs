//! Generators of traces: [`street`] stands for a radio channel, [`control`] for nothing but
//! itself.
//!
//! A generator is a pure function of its settings and a seed, and gives the same bits on every
//! machine: transcendental functions come from `libm`, results are rounded to integers.

pub mod control;
mod normal;
pub mod path_loss;
pub mod shadowing;
pub mod street;

pub use street::{StreetSettings, generate};

/// The most rows that a generator or importer makes.
pub(crate) const MOST_ROWS: u64 = 10_000_000;
