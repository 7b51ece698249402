//! What is played: the asked trace with the faults of the plan in it.

use hexloop_topologies::plan::FaultPlan;
use hexloop_traces::Trace;

/// The trace to play. The reference stays the asked one, so that a fault shows.
pub(crate) fn with_faults(trace: &Trace, faults: &FaultPlan) -> Trace {
    let mut played = trace.clone();
    if faults.scale_rate_ppm > 0 {
        played = played.with_rates_scaled_ppm(faults.scale_rate_ppm);
    }
    if faults.add_delay_ns > 0 {
        played = played.with_delay_added(faults.add_delay_ns);
    }
    played
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::testing::{MS, state, trace};
    use hexloop_traces::{EndPolicy, UNLIMITED_RATE_BPS};

    #[test]
    fn an_honest_run_plays_the_trace_as_it_is() {
        let trace = trace(EndPolicy::Hold, &[(MS, state(1000, 5))]);
        assert_eq!(with_faults(&trace, &FaultPlan::default()), trace);
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
        let played = with_faults(&trace, &faults);
        assert_eq!(played.rows()[0].up, state(1030, 12));
        assert_eq!(played.rows()[1].down, state(UNLIMITED_RATE_BPS, 7));
    }
}
