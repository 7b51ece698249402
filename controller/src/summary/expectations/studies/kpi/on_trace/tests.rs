//! Links that carry what their trace says make the claim hold, and those that carry more, less or something else do not.

use hexloop_proto::{LinkChanged, LinkControl};
use hexloop_topologies::plan::StudyClaim;
use hexloop_traces::generate::control::states;
use hexloop_traces::{CapacityCurve, Direction, EndPolicy, LinkChange, LinkState, PlaybackChange};
use hexloop_workloads::study::kpi::{KpiSpec, payload_frame_bytes};
use hexloop_workloads::study::traced::{TracedSpec, TracedTrial};
use hexloop_workloads::study::{Arm, StudyFinding, StudySpec, TrialRecord};

use super::super::super::judge_with;
use super::*;
use crate::fixture;
use crate::results::ChangeMade;
use crate::summary::ExpectationOutcome::{Held, NotHeld, Undecided};
use crate::summary::studies::summaries;

const MS: u64 = 1_000_000;
const S: u64 = 1000 * MS;
const EVERY_NS: u64 = S / 2;

/// 1 ms each way, and two rates by turns, each for 2 s.
fn trace(rates_bps: [u64; 2]) -> Trace {
    let state = |rate_bps| LinkState {
        rate_bps,
        delay_ns: MS,
        ..LinkState::TRANSPARENT
    };
    let steps = rates_bps.map(|rate_bps| (2 * S, state(rate_bps)));
    states(EndPolicy::Loop, &steps).unwrap()
}

/// At 20 Mbit/s three of the five rows that are tried have much to spare, and those that have 10 ms for 30 kB and more
/// are short. At 1 Mbit/s one has two thirds to spare, and four are short.
const BY_TURNS: [u64; 2] = [20_000_000, 1_000_000];

/// A link, and what it does of what its trace says.
#[derive(Clone, Copy)]
struct Nature {
    rates_bps: [u64; 2],
    /// Transmissions of a row.
    requests: u32,
    /// What it carries, in percent of what the trace does.
    carries_percent: u64,
    /// Where in the trace it is when it should be at its start.
    ahead_ns: u64,
}

const AS_THE_TRACE_SAYS: Nature = Nature {
    rates_bps: BY_TURNS,
    requests: 8,
    carries_percent: 100,
    ahead_ns: 0,
};

fn spec() -> KpiSpec {
    KpiSpec {
        tables: vec!["7.10.1-1".to_owned(), "7.10.2-1".to_owned()],
        percents: Vec::new(),
        scale: 50,
        most_rate_bps: 40_000_000,
    }
}

impl Nature {
    /// How long a frame takes that is sent so long after the trace began, with 4.6 % of headers.
    fn took_ns(self, curve: &CapacityCurve, at_ns: u64, frame_bytes: u64) -> u64 {
        let bits = frame_bytes * 8 * 1046 / 1000 * 100 / self.carries_percent;
        let at_ns = at_ns + self.ahead_ns;
        curve.finish_ns(at_ns, bits).unwrap() + MS - at_ns
    }

    fn findings(self, trace: &Trace, arms: &[Arm]) -> Vec<StudyFinding> {
        let curve = CapacityCurve::new(trace, Direction::Up);
        let kpi = spec();
        let mut findings = Vec::new();
        let rows = kpi.rows().filter_map(|(_, row)| kpi.flow(row).ok());
        for (arm, flow) in arms.iter().zip(rows) {
            for request in 0..self.requests {
                let due_ns = u64::from(request) * EVERY_NS;
                let frame_bytes = payload_frame_bytes(flow.payload_bytes);
                let took_ns = self.took_ns(&curve, due_ns, frame_bytes);
                findings.push(StudyFinding::Traced(Box::new(TracedTrial {
                    repetition: 0,
                    request,
                    from_ns: S,
                    due_ns: S + due_ns,
                    trial: TrialRecord {
                        arm: arm.clone(),
                        started_ns: S + due_ns,
                        token_ns: vec![S + due_ns + took_ns],
                        ..fixture::trial()
                    },
                })));
            }
        }
        findings
    }

    fn played(self) -> (Plan, BTreeMap<String, Trace>, Results) {
        let trace = trace(self.rates_bps);
        let kpi = spec();
        let tried = kpi.rows().filter(|(_, row)| kpi.flow(row).is_ok());
        let arms: Vec<Arm> = tried.map(|(row, _)| Arm::KpiOnTrace { row }).collect();
        assert_eq!(arms.len(), 5);
        let findings = self.findings(&trace, &arms);
        let study = StudySpec {
            arms,
            kpi: Some(spec()),
            traced: Some(TracedSpec {
                requests: self.requests,
                every_ns: EVERY_NS,
                repetitions: 1,
            }),
            ..fixture::study_spec()
        };
        let (plan, results) = fixture::with_study("rows", study, findings);
        let traces = BTreeMap::from([(plan.links[0].trace.clone(), trace)]);
        (plan, traces, results)
    }

    fn judged(self) -> Judgement {
        let (plan, traces, results) = self.played();
        judged(&plan, &traces, &results)
    }
}

fn judged(plan: &Plan, traces: &BTreeMap<String, Trace>, results: &Results) -> Judgement {
    judge_with(plan, traces, results, ("rows", StudyClaim::KpisHoldByTrace))
}

/// One of the claim's numbers, all of which are counts.
fn count(judged: &Judgement, name: &str) -> String {
    judged.numbers[name].to_string()
}

#[test]
fn a_link_that_carries_what_its_trace_says_holds_with_transmissions_of_either_kind() {
    let judged = AS_THE_TRACE_SAYS.judged();
    assert_eq!(judged.outcome, Held, "{}", judged.detail);
    // At 20 Mbit/s four of each of three rows, at 1 Mbit/s four of one; the rest of five times eight is short.
    assert_eq!(count(&judged, "carried"), "16");
    assert_eq!(count(&judged, "carried_in_time"), "16");
    assert_eq!(count(&judged, "not_carried"), "24");
    assert_eq!(count(&judged, "not_carried_late"), "24");
    assert_eq!(count(&judged, "between"), "0");
    assert_eq!(judged.evidence[0].sample_size, 4);
    let effect = &judged.evidence[0].smallest_effect;
    assert!(effect.contains("53 %"), "{effect}");
}

#[test]
fn a_link_that_carries_a_third_of_its_trace_does_not_hold() {
    let judged = Nature {
        carries_percent: 33,
        ..AS_THE_TRACE_SAYS
    }
    .judged();
    assert_eq!(judged.outcome, NotHeld, "{}", judged.detail);
    // 816 bytes and headers at a third of 1 Mbit/s take longer than 12 ms.
    let told = "split control of robots: 4 of 8 in time";
    assert!(judged.detail.contains(told), "{}", judged.detail);
}

#[test]
fn a_link_that_carries_twice_its_trace_does_not_hold() {
    let judged = Nature {
        carries_percent: 200,
        ..AS_THE_TRACE_SAYS
    }
    .judged();
    assert_eq!(judged.outcome, NotHeld, "{}", judged.detail);
    let told = "offloading to a device nearby: 4 of 8 late";
    assert!(judged.detail.contains(told), "{}", judged.detail);
}

#[test]
fn a_link_that_plays_its_trace_from_another_place_does_not_hold() {
    let judged = Nature {
        ahead_ns: 2 * S,
        ..AS_THE_TRACE_SAYS
    }
    .judged();
    assert_eq!(judged.outcome, NotHeld, "{}", judged.detail);
    for word in ["in time", "late"] {
        let told = format!("split image recognition: 0 of 4 {word}");
        assert!(judged.detail.contains(&told), "{}", judged.detail);
    }
}

#[test]
fn where_one_kind_is_missing_or_rows_are_sent_too_few_times_nothing_is_decided() {
    let all_carried = Nature {
        rates_bps: [200_000_000; 2],
        ..AS_THE_TRACE_SAYS
    };
    let none_carried = Nature {
        rates_bps: [100_000; 2],
        ..AS_THE_TRACE_SAYS
    };
    let twice = Nature {
        rates_bps: [20_000_000; 2],
        requests: 2,
        ..AS_THE_TRACE_SAYS
    };
    for (nature, carried, not_carried) in [
        (all_carried, "40", "0"),
        (none_carried, "0", "40"),
        (twice, "0", "0"),
    ] {
        let judged = nature.judged();
        assert_eq!(judged.outcome, Undecided, "{}", judged.detail);
        assert_eq!(count(&judged, "carried"), carried, "{}", judged.detail);
        assert_eq!(
            count(&judged, "not_carried"),
            not_carried,
            "{}",
            judged.detail
        );
        assert!(judged.evidence.is_empty());
    }
}

#[test]
fn what_the_trace_carries_just_so_is_told_and_not_judged() {
    // 5,416 bytes in 14 ms are 3.095 Mbit/s; of the others two have to spare, and two are short.
    let just_so = Nature {
        rates_bps: [3_095_000; 2],
        ..AS_THE_TRACE_SAYS
    };
    let judged = just_so.judged();
    assert_eq!(judged.outcome, Held, "{}", judged.detail);
    assert_eq!(count(&judged, "between"), "8");
    assert_eq!(count(&judged, "carried"), "16");
    assert_eq!(count(&judged, "not_carried"), "16");
    // It is late by its headers.
    let (plan, traces, results) = just_so.played();
    let rows = summaries(&plan, &traces, &results).pop().unwrap().kpis;
    let row = rows
        .iter()
        .find(|row| row.use_case == "split image recognition");
    let on_trace = row.unwrap().on_trace.as_ref().unwrap();
    assert_eq!((on_trace.sent, on_trace.in_time), (8, 0));
    assert_eq!(on_trace.verdict, "fail");
    assert_eq!(on_trace.by_trace.as_ref().unwrap().between, 8);
}

#[test]
fn the_summary_has_pass_or_fail_and_margin_of_each_row_and_says_which_are_not_tried() {
    let (plan, traces, results) = AS_THE_TRACE_SAYS.played();
    let study = summaries(&plan, &traces, &results).pop().unwrap();
    assert!(study.traced.is_none());
    let row = |name: &str| study.kpis.iter().find(|row| row.use_case == name).unwrap();
    let robots = row("split control of robots").on_trace.as_ref().unwrap();
    assert_eq!((robots.verdict.as_str(), robots.sent), ("pass", 8));
    assert_eq!(robots.trace, plan.links[0].trace);
    // 816 bytes and headers, 6,828 bits: 1.3414 ms at 20 Mbit/s with the delay, 7.828 ms at 1 Mbit/s.
    assert!(
        (robots.longest_ms - 7.828).abs() < 1e-3,
        "{}",
        robots.longest_ms
    );
    assert!((robots.margin - (12.0 - 7.828) / 12.0).abs() < 1e-4);
    let by_trace = robots.by_trace.as_ref().unwrap();
    assert_eq!((by_trace.enough, by_trace.enough_in_time), (8, 8));
    // 11 ms at 1 and at 20 Mbit/s, of 6,528 bits.
    let [least, _, most] = by_trace.carried_over_needed;
    assert!((least - 1.6850).abs() < 1e-4 && (most - 33.7010).abs() < 1e-4);
    assert_eq!(
        row("split image recognition")
            .on_trace
            .as_ref()
            .unwrap()
            .verdict,
        "mixed"
    );
    assert_eq!(
        row("factory robots, 8 bits")
            .on_trace
            .as_ref()
            .unwrap()
            .verdict,
        "fail"
    );
    let untried = row("factory robots, 32 bits");
    assert!(untried.on_trace.is_none() && untried.not_tried.is_some());
}

#[test]
fn a_trace_that_is_not_recorded_and_a_link_that_others_changed_decide_nothing() {
    let (plan, traces, mut results) = AS_THE_TRACE_SAYS.played();
    let without = judged(&plan, &BTreeMap::new(), &results);
    assert_eq!(without.outcome, Undecided);
    assert!(
        without.detail.contains("not recorded"),
        "{}",
        without.detail
    );
    let rows = summaries(&plan, &BTreeMap::new(), &results)
        .pop()
        .unwrap()
        .kpis;
    let on_trace = rows.iter().find_map(|row| row.on_trace.as_ref()).unwrap();
    assert_eq!(on_trace.by_trace, None);

    let mut change = |asked_by: &str| {
        let made = ChangeMade {
            asked_ns: 0,
            changed: LinkChanged {
                asked_by: Some(asked_by.to_owned()),
                control: LinkControl {
                    link: plan.links[0].name.clone(),
                    directions: Direction::BOTH.to_vec(),
                    change: LinkChange::Play(PlaybackChange::Jump { to_ns: 0 }),
                },
                at_ns: 0,
            },
        };
        results.phases.last_mut().unwrap().changes.push(made);
        judged(&plan, &traces, &results)
    };
    // The study has its trace begin anew for each row.
    assert_eq!(change("rows").outcome, Held);
    let by_others = change("outage");
    assert_eq!(by_others.outcome, Undecided);
    assert!(
        by_others.detail.contains("was changed"),
        "{}",
        by_others.detail
    );
}
