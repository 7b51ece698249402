//! Traces for the tests of this module.

use hexloop_traces::generate::control;
use hexloop_traces::{EndPolicy, LinkState, Trace};

pub(crate) const MS: u64 = 1_000_000;

pub(crate) const fn state(rate_bps: u64, delay_ns: u64) -> LinkState {
    LinkState {
        rate_bps,
        delay_ns,
        ..LinkState::TRANSPARENT
    }
}

/// A trace of rows with their lengths, the same in both directions.
pub(crate) fn trace(end: EndPolicy, steps: &[(u64, LinkState)]) -> Trace {
    control::states(end, steps).unwrap()
}
