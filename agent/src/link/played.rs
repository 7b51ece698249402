//! What is played: the asked trace with the faults of the plan in it.

use hexloop_topologies::plan::FaultPlan;
use hexloop_traces::{LinkState, Trace, TraceError, TraceRow, UNLIMITED_RATE_BPS};

/// The trace to play. The reference stays the asked one, so that a fault shows.
pub(crate) fn with_faults(trace: &Trace, faults: &FaultPlan) -> Result<Trace, TraceError> {
    let rows = trace.rows().iter().map(|row| TraceRow {
        down: state_with_faults(&row.down, faults),
        up: state_with_faults(&row.up, faults),
        ..row.clone()
    });
    Trace::new(trace.metadata().clone(), rows.collect())
}

fn state_with_faults(state: &LinkState, faults: &FaultPlan) -> LinkState {
    let mut played = *state;
    if faults.scale_rate_ppm > 0 && state.rate_bps != UNLIMITED_RATE_BPS {
        let scaled = u128::from(state.rate_bps) * u128::from(faults.scale_rate_ppm) / 1_000_000;
        played.rate_bps = u64::try_from(scaled).unwrap_or(UNLIMITED_RATE_BPS - 1);
    }
    played.delay_ns = state.delay_ns.saturating_add(faults.add_delay_ns);
    played
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::testing::{MS, state, trace};
    use hexloop_traces::EndPolicy;

    #[test]
    fn an_honest_run_plays_the_trace_as_it_is() {
        let trace = trace(EndPolicy::Hold, &[(MS, state(1000, 5))]);
        assert_eq!(with_faults(&trace, &FaultPlan::default()).unwrap(), trace);
    }

    #[test]
    fn faults_scale_rates_and_add_delay_but_leave_unlimited_rates() {
        let trace = trace(
            EndPolicy::Hold,
            &[(MS, state(1000, 5)), (MS, state(UNLIMITED_RATE_BPS, 0))],
        );
        let faults = FaultPlan {
            scale_rate_ppm: 1_030_000,
            add_delay_ns: 7,
            ..FaultPlan::default()
        };
        let played = with_faults(&trace, &faults).unwrap();
        assert_eq!(played.rows()[0].up, state(1030, 12));
        assert_eq!(played.rows()[1].down, state(UNLIMITED_RATE_BPS, 7));
    }
}
