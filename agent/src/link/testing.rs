//! Traces for the tests of this module.

use hexloop_traces::{
    EndPolicy, LinkState, TRACE_SCHEMA, Trace, TraceMetadata, TraceRow, TraceStatus,
};

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
    let mut t_ns = 0;
    let mut rows = Vec::new();
    for &(length_ns, state) in steps {
        rows.push(TraceRow {
            t_ns,
            down: state,
            up: state,
            diagnostics: Default::default(),
        });
        t_ns += length_ns;
    }
    let metadata = TraceMetadata {
        schema: TRACE_SCHEMA,
        scenario: "test".to_owned(),
        status: TraceStatus::Control,
        duration_ns: t_ns,
        end,
        seed: None,
        generator: "test".to_owned(),
        configuration: Default::default(),
        notes: Vec::new(),
        provenance: Default::default(),
    };
    Trace::new(metadata, rows).unwrap()
}
