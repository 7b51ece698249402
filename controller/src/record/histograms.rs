//! `latency.hlog`: every latency of every phase as HdrHistogram's tools read it.

use hexloop_workloads::job::RequestRecord;

use crate::results::{PhaseResults, Results};
use hexloop_statistics::{
    HistogramError, Interval, LatencyHistogram, Origin, end_to_end_ns, inter_token_gaps_ns,
    send_lateness_ns, time_per_output_token_ns, time_to_first_token_ns, write_interval_log,
};

/// The histogram log of a run: one interval per phase and metric, values in nanoseconds.
///
/// # Errors
/// Never: it is written to memory.
pub fn histogram_log(results: &Results) -> Result<Vec<u8>, HistogramError> {
    let mut intervals = Vec::new();
    let base_ns = results
        .phases
        .iter()
        .find_map(|phase| phase.t0_wall_clock_ns)
        .unwrap_or(0);
    for phase in &results.phases {
        let start_ns = phase
            .t0_wall_clock_ns
            .unwrap_or(base_ns)
            .saturating_sub(base_ns);
        let length_ns = phase.end.as_ref().map_or(0, |end| end.duration_ns);
        for (metric, latencies) in metrics(phase) {
            intervals.push(Interval {
                tag: format!("{}.{metric}", phase.name),
                start_ns,
                length_ns,
                latencies: LatencyHistogram::of(latencies)?,
            });
        }
    }
    let mut log = Vec::new();
    write_interval_log(&mut log, base_ns, &intervals)?;
    Ok(log)
}

fn metrics(phase: &PhaseResults) -> [(&'static str, Vec<u64>); 6] {
    let each = |metric: fn(&RequestRecord) -> Option<u64>| -> Vec<u64> {
        phase.requests.values().filter_map(metric).collect()
    };
    let gaps = phase.requests.values().flat_map(inter_token_gaps_ns);
    [
        (
            "ttft-scheduled",
            each(|r| time_to_first_token_ns(r, Origin::Scheduled)),
        ),
        (
            "ttft-sent",
            each(|r| time_to_first_token_ns(r, Origin::Sent)),
        ),
        ("tpot", each(time_per_output_token_ns)),
        ("itl", gaps.collect()),
        (
            "e2e-scheduled",
            each(|r| end_to_end_ns(r, Origin::Scheduled)),
        ),
        ("send-lateness", each(|r| Some(send_lateness_ns(r)))),
    ]
}
