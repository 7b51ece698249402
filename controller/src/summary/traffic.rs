//! What phases without a model found: how closely what was delivered follows the trace, and how
//! long packets took there and back.

use std::collections::{BTreeMap, BTreeSet};

use hexloop_proto::LinkWindow;
use hexloop_topologies::plan::{LinkPlan, Plan, TrafficJob, TrafficPlan};
use hexloop_traces::{CapacityCurve, Direction, Trace};
use hexloop_workloads::traffic::{ProbeRecord, probe_ip_bytes};

use super::{Following, RoundTrips, TrafficSummary};
use crate::format::{count_to_f64, length, ns_to_ms, ns_to_s, ratio, rounded};
use crate::results::{PhaseResults, Results};

/// A step of the trace: the bytes of a window differ from those of the one before by more than
/// this share.
const STEP_PERCENT: u64 = 10;

/// Fewest values that carry a 99th percentile.
const P99_NEEDS: usize = 459;

pub(super) fn summaries(
    plan: &Plan,
    traces: &BTreeMap<String, Trace>,
    results: &Results,
) -> Vec<TrafficSummary> {
    let links = |phase: &'_ TrafficPlan| -> Vec<String> {
        phase.links().map(|(link, _)| link.to_owned()).collect()
    };
    let crossed = plan.traffic.iter();
    let crossed = crossed.flat_map(|phase| links(phase).into_iter().map(move |link| (phase, link)));
    let played = crossed.filter_map(|(phase, link)| {
        let recorded = results.phase(&phase.name)?;
        let link = plan.link(&link)?;
        Some(summary(phase, link, recorded, traces.get(&link.trace)))
    });
    played.collect()
}

fn summary(
    phase: &TrafficPlan,
    link: &LinkPlan,
    recorded: &PhaseResults,
    trace: Option<&Trace>,
) -> TrafficSummary {
    let (job, directions) = match &phase.job {
        TrafficJob::Bulk { directions } => ("bulk", directions.as_slice()),
        TrafficJob::Ping { .. } => ("ping", [].as_slice()),
    };
    TrafficSummary {
        phase: phase.name.clone(),
        job: job.to_owned(),
        link: link.name.clone(),
        load: phase.load,
        congestion_control: recorded
            .traffic
            .iter()
            .map(|record| record.congestion_control.clone())
            .filter(|name| !name.is_empty())
            .collect::<BTreeSet<String>>()
            .into_iter()
            .collect(),
        duration_s: recorded.end.as_ref().map(|end| ns_to_s(end.duration_ns)),
        following: directions
            .iter()
            .map(|direction| following(recorded, &link.name, *direction))
            .collect(),
        round_trips: match phase.job {
            TrafficJob::Bulk { .. } => None,
            TrafficJob::Ping { .. } => Some(round_trips(phase, recorded, trace)),
        },
    }
}

/// How what was delivered in one direction follows the trace, over the windows in which the queue
/// was never empty: only in those the link alone decided what arrived.
fn following(recorded: &PhaseResults, link: &str, direction: Direction) -> Following {
    let mut windows: Vec<&LinkWindow> = recorded
        .windows
        .iter()
        .filter(|window| window.link == link && window.direction == direction)
        .collect();
    windows.sort_by_key(|window| window.start_ns);
    let filled: Vec<&LinkWindow> = windows.iter().copied().filter(|w| w.backlogged).collect();
    let sum = |of: fn(&LinkWindow) -> u64| filled.iter().map(|window| of(window)).sum::<u64>();
    let (steps, late_steps) = steps(&windows);
    Following {
        direction: direction.name().to_owned(),
        windows: length(&windows),
        backlogged_windows: length(&filled),
        delivered_over_trace: ratio(sum(|w| w.delivered_bytes), sum(|w| w.trace_bytes)),
        correlation: correlation(&filled).map(|value| rounded(value, 6)),
        steps,
        late_steps,
    }
}

/// Pearson's coefficient of the bytes delivered and allowed; `None` where either never changes.
fn correlation(windows: &[&LinkWindow]) -> Option<f64> {
    let count = count_to_f64(length(windows));
    let mean = |of: fn(&LinkWindow) -> u64| {
        windows.iter().map(|w| count_to_f64(of(w))).sum::<f64>() / count
    };
    let (delivered, allowed) = (
        |w: &LinkWindow| w.delivered_bytes,
        |w: &LinkWindow| w.trace_bytes,
    );
    let (mean_delivered, mean_allowed) = (mean(delivered), mean(allowed));
    let (mut both, mut of_delivered, mut of_allowed) = (0.0, 0.0, 0.0);
    for window in windows {
        let x = count_to_f64(window.delivered_bytes) - mean_delivered;
        let y = count_to_f64(window.trace_bytes) - mean_allowed;
        both += x * y;
        of_delivered += x * x;
        of_allowed += y * y;
    }
    // A constant trace differs from its mean by rounding alone.
    let changes = (of_allowed / count).sqrt() > mean_allowed * 1e-3;
    let value = both / (of_delivered.sqrt() * of_allowed.sqrt());
    (changes && value.is_finite()).then_some(value)
}

/// Steps of the trace, and those that what was delivered had not followed a whole window later:
/// it was still nearer to what the trace had allowed before.
fn steps(windows: &[&LinkWindow]) -> (u64, u64) {
    let (mut steps, mut late) = (0, 0);
    for three in windows.windows(3) {
        let [before, _, after] = three else { continue };
        let differ = before.trace_bytes.abs_diff(after.trace_bytes);
        let larger = before.trace_bytes.max(after.trace_bytes);
        if !after.backlogged || differ * 100 <= larger * STEP_PERCENT {
            continue;
        }
        steps += 1;
        let to_new = after.delivered_bytes.abs_diff(after.trace_bytes);
        let to_old = after.delivered_bytes.abs_diff(before.trace_bytes);
        late += u64::from(to_new >= to_old);
    }
    (steps, late)
}

/// When a probe on an empty link should be back: through both directions, one after the other.
fn ideal_round_trip_ns(probe: &ProbeRecord, curves: &[CapacityCurve; 2], bits: u64) -> Option<u64> {
    let [down, up] = curves;
    let through = |curve: &CapacityCurve, at_ns| {
        let finish_ns = curve.finish_ns(at_ns, bits)?;
        Some(finish_ns + curve.state_at(finish_ns).delay_ns)
    };
    let back_ns = through(down, through(up, probe.sent_ns)?)?;
    Some(back_ns - probe.sent_ns)
}

/// When each probe of a phase should have been back, in the order of the records.
pub(crate) fn asked_round_trips(
    phase: &TrafficPlan,
    recorded: &PhaseResults,
    trace: Option<&Trace>,
) -> Vec<Option<u64>> {
    let bits = probe_ip_bytes(phase.address.is_ipv6()) * 8;
    let curves =
        trace.map(|trace| Direction::BOTH.map(|direction| CapacityCurve::new(trace, direction)));
    let probes = recorded.traffic.iter().flat_map(|record| &record.probes);
    probes
        .map(|probe| ideal_round_trip_ns(probe, curves.as_ref()?, bits))
        .collect()
}

fn round_trips(phase: &TrafficPlan, recorded: &PhaseResults, trace: Option<&Trace>) -> RoundTrips {
    let probes = recorded.traffic.iter().flat_map(|record| &record.probes);
    let probes: Vec<&ProbeRecord> = probes.collect();
    let mut measured: Vec<u64> = probes.iter().filter_map(|p| p.round_trip_ns).collect();
    let asked = asked_round_trips(phase, recorded, trace);
    let pairs = probes.iter().zip(asked);
    let pairs: Vec<(u64, u64)> = pairs
        .filter_map(|(probe, asked_ns)| Some((probe.round_trip_ns?, asked_ns?)))
        .collect();
    let mut asked: Vec<u64> = pairs.iter().map(|(_, ideal)| *ideal).collect();
    let mut errors: Vec<u64> = pairs
        .iter()
        .map(|(got, ideal)| got.abs_diff(*ideal))
        .collect();
    for values in [&mut measured, &mut asked, &mut errors] {
        values.sort_unstable();
    }
    let ms = |ns: u64| rounded(ns_to_ms(ns), 6);
    let middle = |values: &[u64]| values.get(values.len() / 2).copied().map(ms);
    let p99 = |values: &[u64]| {
        let index = (values.len() * 99).div_ceil(100).saturating_sub(1);
        (values.len() >= P99_NEEDS).then(|| ms(values[index]))
    };
    RoundTrips {
        sent: length(&probes),
        lost: length(&probes) - length(&measured),
        p50_ms: middle(&measured),
        p99_ms: p99(&measured),
        max_ms: measured.last().copied().map(ms),
        asked_p50_ms: middle(&asked),
        error_p50_ms: middle(&errors),
        error_p99_ms: p99(&errors),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(start: u64, trace_bytes: u64, delivered_bytes: u64) -> LinkWindow {
        LinkWindow {
            link: "a".to_owned(),
            direction: Direction::Up,
            start_ns: start,
            length_ns: 1,
            trace_bytes,
            delivered_bytes,
            delivered_packets: 1,
            backlogged: true,
            queue_bytes: 1,
            dropped_packets: 0,
            lost_packets: 0,
            marked_packets: 0,
            duplicated_packets: 0,
            corrupted_packets: 0,
        }
    }

    fn of(pairs: &[(u64, u64)]) -> Following {
        let windows = (0..)
            .zip(pairs)
            .map(|(n, (trace, got))| window(n, *trace, *got));
        let recorded = PhaseResults {
            windows: windows.collect(),
            ..PhaseResults::default()
        };
        following(&recorded, "a", Direction::Up)
    }

    #[test]
    fn what_follows_the_trace_correlates_and_has_no_late_step() {
        let found = of(&[
            (100, 99),
            (100, 101),
            (200, 190),
            (200, 200),
            (50, 55),
            (50, 50),
        ]);
        assert_eq!((found.backlogged_windows, found.late_steps), (6, 0));
        assert_eq!(found.steps, 4);
        assert!(found.correlation.unwrap() > 0.99, "{found:?}");
        assert!((found.delivered_over_trace.unwrap() - 695.0 / 700.0).abs() < 1e-9);
    }

    #[test]
    fn a_step_that_comes_two_windows_late_is_counted() {
        let found = of(&[(100, 100), (200, 100), (200, 100), (200, 200)]);
        assert_eq!((found.steps, found.late_steps), (1, 1));
        assert!(found.correlation.unwrap() < 0.95, "{found:?}");
    }

    #[test]
    fn a_constant_trace_has_no_correlation() {
        assert_eq!(of(&[(100, 99), (100, 101), (100, 100)]).correlation, None);
        assert_eq!(of(&[]).correlation, None);
    }

    #[test]
    fn an_ideal_round_trip_holds_both_delays_and_both_transmissions() {
        let trace = hexloop_traces::generate::control::constant(8_000_000, 5_000_000, 0, 1 << 40);
        let trace = trace.unwrap();
        let curves = Direction::BOTH.map(|direction| CapacityCurve::new(&trace, direction));
        let probe = ProbeRecord {
            sent_ns: 7,
            round_trip_ns: None,
        };
        let ideal = ideal_round_trip_ns(&probe, &curves, 800);
        assert_eq!(ideal, Some(2 * (5_000_000 + 100_000)));
    }
}
