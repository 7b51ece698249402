//! What phases without a model found: how closely what was delivered follows the trace, and how
//! long packets took there and back.

use std::collections::{BTreeMap, BTreeSet};

use hexloop_proto::LinkWindow;
use hexloop_topologies::plan::{LinkPlan, Plan, TrafficJob, TrafficPlan};
use hexloop_traces::{CapacityCurve, Direction, Trace};
use hexloop_workloads::traffic::{ProbeRecord, probe_ip_bytes};

use super::{Following, RoundTrips, TrafficSummary, rates};
use crate::format::{count_to_f64, length, ns_to_ms, ns_to_s, ratio, rounded};
use crate::results::{PhaseResults, Results};

/// A step of the trace: the bytes of a window differ from those of the one before by more than
/// this share, and by more than two packets: a window holds whole ones only.
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
        let trace = traces.get(&link.trace);
        let mut summary = summary(phase, link, recorded, trace);
        if plan.is_in_cell(&link.name) {
            // What it may is its share of the cell, which no trace keeps.
            for following in &mut summary.following {
                following.rates.clear();
            }
        }
        Some(summary)
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
            .traffic_of(&link.name)
            .map(|record| record.congestion_control.clone())
            .filter(|name| !name.is_empty())
            .collect::<BTreeSet<String>>()
            .into_iter()
            .collect(),
        duration_s: recorded.end.as_ref().map(|end| ns_to_s(end.duration_ns)),
        following: directions
            .iter()
            .map(|direction| following(recorded, link, *direction))
            .collect(),
        round_trips: match phase.job {
            TrafficJob::Bulk { .. } => None,
            TrafficJob::Ping { .. } => Some(round_trips(phase, (recorded, &link.name), trace)),
        },
    }
}

/// How what was delivered in one direction follows the trace, over the windows in which the queue
/// was never empty: only in those the link alone decided what arrived.
fn following(recorded: &PhaseResults, link: &LinkPlan, direction: Direction) -> Following {
    let mut windows: Vec<&LinkWindow> = recorded
        .windows
        .iter()
        .filter(|window| window.link == link.name && window.direction == direction)
        .collect();
    windows.sort_by_key(|window| window.start_ns);
    let filled: Vec<&LinkWindow> = windows.iter().copied().filter(|w| w.backlogged).collect();
    let sum = |of: fn(&LinkWindow) -> u64| filled.iter().map(|window| of(window)).sum::<u64>();
    let (steps, late_steps) = steps(&windows, u64::from(link.mtu));
    Following {
        direction: direction.name().to_owned(),
        windows: length(&windows),
        backlogged_windows: length(&filled),
        delivered_over_trace: ratio(sum(|w| w.delivered_bytes), sum(|w| w.trace_bytes)),
        correlation: correlation(&joined(&filled, u64::from(link.mtu)))
            .map(|value| rounded(value, 6)),
        steps,
        late_steps,
        rates: rates::constant_rates(&windows),
    }
}

/// Windows that are compared let so many packets through on average. Where single ones do not, as
/// many as it takes are put together: one that lets four through differs from the next by one,
/// whatever the trace asks.
const LEAST_PACKETS: u64 = 20;

/// The bytes allowed and delivered in each window, or in several that are put together.
fn joined(windows: &[&LinkWindow], packet_bytes: u64) -> Vec<[u64; 2]> {
    let sum = |part: &[&LinkWindow]| {
        part.iter().fold([0, 0], |[allowed, delivered], window| {
            [
                allowed + window.trace_bytes,
                delivered + window.delivered_bytes,
            ]
        })
    };
    let [allowed, _] = sum(windows);
    let least = LEAST_PACKETS * packet_bytes * length(windows);
    let together = usize::try_from(least.div_ceil(allowed.max(1))).unwrap_or(usize::MAX);
    windows.chunks_exact(together.max(1)).map(sum).collect()
}

/// Pearson's coefficient of the bytes allowed and delivered; `None` where either never changes.
fn correlation(pieces: &[[u64; 2]]) -> Option<f64> {
    let count = count_to_f64(length(pieces));
    let mean = |side: usize| {
        let sum: f64 = pieces.iter().map(|piece| count_to_f64(piece[side])).sum();
        sum / count
    };
    let (mean_allowed, mean_delivered) = (mean(0), mean(1));
    let (mut both, mut of_delivered, mut of_allowed) = (0.0, 0.0, 0.0);
    for [allowed, delivered] in pieces {
        let x = count_to_f64(*delivered) - mean_delivered;
        let y = count_to_f64(*allowed) - mean_allowed;
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
fn steps(windows: &[&LinkWindow], packet_bytes: u64) -> (u64, u64) {
    let (mut steps, mut late) = (0, 0);
    for three in windows.windows(3) {
        let [before, _, after] = three else { continue };
        let differ = before.trace_bytes.abs_diff(after.trace_bytes);
        let larger = before.trace_bytes.max(after.trace_bytes);
        let is_step = differ * 100 > larger * STEP_PERCENT && differ > 2 * packet_bytes;
        if !after.backlogged || !is_step {
            continue;
        }
        steps += 1;
        let to_new = after.delivered_bytes.abs_diff(after.trace_bytes);
        let to_old = after.delivered_bytes.abs_diff(before.trace_bytes);
        late += u64::from(to_new >= to_old);
    }
    (steps, late)
}

/// When a packet may arrive: the bounds of what jitter can do, and what is asked without it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Moment {
    earliest_ns: u64,
    asked_ns: u64,
    latest_ns: u64,
}

impl Moment {
    const fn at(ns: u64) -> Moment {
        Moment {
            earliest_ns: ns,
            asked_ns: ns,
            latest_ns: ns,
        }
    }

    /// So much later.
    const fn after(self, ns: u64) -> Moment {
        Moment {
            earliest_ns: self.earliest_ns.saturating_add(ns),
            asked_ns: self.asked_ns.saturating_add(ns),
            latest_ns: self.latest_ns.saturating_add(ns),
        }
    }

    /// Through one direction of an empty link. `ahead` is when the packet before was through, which
    /// this one does not overtake, and becomes when this one is.
    fn through(self, curve: &CapacityCurve, bits: u64, ahead: &mut Moment) -> Option<Moment> {
        let passed = |from_ns| {
            let finish_ns = curve.finish_ns(from_ns, bits)?;
            let state = curve.state_at(finish_ns);
            Some((finish_ns + state.delay_ns, u64::from(state.jitter_ns)))
        };
        let ways = [self.earliest_ns, self.asked_ns, self.latest_ns].map(passed);
        let [Some(first), Some((asked_ns, _)), Some(last)] = ways else {
            return None;
        };
        let ends = [first, last];
        let earliest_ns = ends.map(|(due_ns, jitter_ns)| due_ns.saturating_sub(jitter_ns));
        let latest_ns = ends.map(|(due_ns, jitter_ns)| due_ns.saturating_add(jitter_ns));
        *ahead = Moment {
            earliest_ns: ahead.earliest_ns.max(earliest_ns[0].min(earliest_ns[1])),
            asked_ns: ahead.asked_ns.max(asked_ns),
            latest_ns: ahead.latest_ns.max(latest_ns[0].max(latest_ns[1])),
        };
        Some(*ahead)
    }
}

/// What a round trip should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AskedRoundTrip {
    /// Through both directions of an empty link, one after the other, without jitter.
    pub(crate) asked_ns: u64,
    /// What jitter can make of it at least.
    earliest_ns: u64,
    /// And at most.
    latest_ns: u64,
}

impl AskedRoundTrip {
    /// How far a round trip is from what may be.
    const fn error_ns(&self, measured_ns: u64) -> u64 {
        let late_ns = measured_ns.saturating_sub(self.latest_ns);
        let early_ns = self.earliest_ns.saturating_sub(measured_ns);
        if late_ns > early_ns {
            late_ns
        } else {
            early_ns
        }
    }
}

/// The round trip of every probe, which were sent in this order.
fn asked_of<'a>(
    probes: impl Iterator<Item = &'a ProbeRecord>,
    [down, up]: &[CapacityCurve; 2],
    bits: u64,
) -> Vec<Option<AskedRoundTrip>> {
    let (mut there, mut back) = (Moment::default(), Moment::default());
    let asked = probes.map(|probe| {
        let sent = Moment::at(probe.sent_ns);
        let sent_back = sent.through(up, bits, &mut there)?.after(probe.held_ns);
        let back = sent_back.through(down, bits, &mut back)?;
        let left_ns = probe.sent_ns.saturating_add(probe.held_ns);
        Some(AskedRoundTrip {
            asked_ns: back.asked_ns.saturating_sub(left_ns),
            earliest_ns: back.earliest_ns.saturating_sub(left_ns),
            latest_ns: back.latest_ns.saturating_sub(left_ns),
        })
    });
    asked.collect()
}

/// What each probe over a link of a phase should have taken, in the order of the records.
pub(crate) fn asked_round_trips(
    phase: &TrafficPlan,
    (recorded, link): (&PhaseResults, &str),
    trace: Option<&Trace>,
) -> Vec<Option<AskedRoundTrip>> {
    let bits = probe_ip_bytes(phase.address.is_ipv6()) * 8;
    let probes = recorded.traffic_of(link).flat_map(|record| &record.probes);
    match trace {
        Some(trace) => {
            let curves = Direction::BOTH.map(|direction| CapacityCurve::new(trace, direction));
            asked_of(probes, &curves, bits)
        }
        None => probes.map(|_| None).collect(),
    }
}

fn round_trips(
    phase: &TrafficPlan,
    (recorded, link): (&PhaseResults, &str),
    trace: Option<&Trace>,
) -> RoundTrips {
    let probes = recorded.traffic_of(link).flat_map(|record| &record.probes);
    let probes: Vec<&ProbeRecord> = probes.collect();
    let mut measured: Vec<u64> = probes.iter().filter_map(|p| p.round_trip_ns).collect();
    let asked = asked_round_trips(phase, (recorded, link), trace);
    let pairs = probes.iter().zip(asked);
    let pairs: Vec<(u64, AskedRoundTrip)> = pairs
        .filter_map(|(probe, asked)| Some((probe.round_trip_ns?, asked?)))
        .collect();
    let mut asked: Vec<u64> = pairs.iter().map(|(_, asked)| asked.asked_ns).collect();
    let errors = pairs.iter().map(|(got, asked)| asked.error_ns(*got));
    let mut errors: Vec<u64> = errors.collect();
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
    use hexloop_traces::EndPolicy;

    /// A window with so many packets of 1000 bytes.
    fn window(start: u64, trace_bytes: u64, delivered_bytes: u64) -> LinkWindow {
        LinkWindow {
            link: "a".to_owned(),
            direction: Direction::Up,
            start_ns: start,
            length_ns: 1,
            trace_bytes: trace_bytes * 1000,
            delivered_bytes: delivered_bytes * 1000,
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
        let mut link = crate::fixture::records().plan.links[0].clone();
        link.name = "a".to_owned();
        following(&recorded, &link, Direction::Up)
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
    fn a_difference_of_two_packets_is_no_step() {
        // At 3 packets in a window the second arrives or not by chance.
        let found = of(&[(3, 3), (3, 2), (2, 3), (2, 3), (4, 2)]);
        assert_eq!(found.steps, 0);
    }

    #[test]
    fn windows_of_few_packets_are_put_together_before_they_are_compared() {
        // Six packets a window, then four, then five, and one too many or too few in turn.
        let rates = [6, 4, 5];
        let windows: Vec<(u64, u64)> = rates
            .iter()
            .flat_map(|rate| [(*rate, rate + 1), (*rate, rate - 1)].repeat(12))
            .collect();
        let found = of(&windows);
        assert!(found.correlation.unwrap() > 0.99, "{found:?}");
        // Each for itself they hardly agree.
        let apart: Vec<[u64; 2]> = windows.iter().map(|&(trace, got)| [trace, got]).collect();
        assert!(correlation(&apart).unwrap() < 0.7);
    }

    #[test]
    fn what_a_probe_lay_at_the_other_end_is_no_part_of_what_was_asked() {
        let probe = ProbeRecord {
            sent_ns: 7,
            held_ns: 40_000_000,
            ..ProbeRecord::default()
        };
        let asked = asked_of([probe].iter(), &curves(5_000_000, 0), 800)[0].unwrap();
        assert_eq!(asked.asked_ns, 2 * (5_000_000 + 100_000));
    }

    fn curves(delay_ns: u64, jitter_ns: u32) -> [CapacityCurve; 2] {
        let state = hexloop_traces::LinkState {
            rate_bps: 8_000_000,
            delay_ns,
            jitter_ns,
            ..hexloop_traces::LinkState::TRANSPARENT
        };
        let rows = [(1 << 40, state)];
        let trace = hexloop_traces::generate::control::states(EndPolicy::Hold, &rows).unwrap();
        Direction::BOTH.map(|direction| CapacityCurve::new(&trace, direction))
    }

    fn asked_at(moments: &[u64], curves: &[CapacityCurve; 2]) -> Vec<AskedRoundTrip> {
        let probe = |&sent_ns| ProbeRecord {
            sent_ns,
            ..ProbeRecord::default()
        };
        let probes: Vec<ProbeRecord> = moments.iter().map(probe).collect();
        let asked = asked_of(probes.iter(), curves, 800);
        asked.into_iter().map(Option::unwrap).collect()
    }

    #[test]
    fn an_ideal_round_trip_holds_both_delays_and_both_transmissions() {
        let asked = asked_at(&[7], &curves(5_000_000, 0))[0];
        assert_eq!(asked.asked_ns, 2 * (5_000_000 + 100_000));
        assert_eq!(asked.error_ns(2 * 5_100_000 + 3), 3);
        assert_eq!(asked.error_ns(2 * 5_100_000 - 3), 3);
    }

    #[test]
    fn jitter_excuses_what_it_can_do_to_a_round_trip_and_no_more() {
        let asked = asked_at(&[7], &curves(5_000_000, 1_000_000))[0];
        assert_eq!(asked.asked_ns, 2 * 5_100_000);
        for (measured_ns, error_ns) in [
            (10_200_000, 0),
            (8_200_000, 0),
            (12_200_000, 0),
            (8_199_990, 10),
            (12_200_010, 10),
        ] {
            assert_eq!(asked.error_ns(measured_ns), error_ns, "{measured_ns}");
        }
    }

    #[test]
    fn a_packet_may_wait_behind_one_that_jitter_held_back() {
        // The second is sent 0.5 ms after the first, which may take 2 x 6.1 ms.
        let asked = asked_at(&[0, 500_000], &curves(5_000_000, 1_000_000))[1];
        assert_eq!(asked.latest_ns, 2 * 6_100_000);
        let alone = asked_at(&[0, 9_000_000], &curves(5_000_000, 1_000_000))[1];
        assert_eq!(alone.latest_ns, 2 * 6_100_000);
        let steady = asked_at(&[0, 500_000], &curves(5_000_000, 0))[1];
        assert_eq!(steady.latest_ns, steady.asked_ns);
    }
}
