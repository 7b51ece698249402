//! Claims about traffic on links and cells, and deliberately broken links that they find.

use std::collections::BTreeMap;

use hexloop_proto::{IdlePower, LinkWindow, Measurement, MeterChannel, MeterReadings};
use hexloop_topologies::plan::{
    BesidePlan, CellPlan, CellUserPlan, Claim, ExpectationPlan, Plan, TrafficJob, TrafficPlan,
};
use hexloop_traces::generate::control;
use hexloop_traces::{CellPolicy, CellSettings, Direction, Trace};
use hexloop_workloads::traffic::{ProbeRecord, TrafficRecord, probe_ip_bytes};

use super::evaluate;
use crate::fixture::{self, MS, S};
use crate::results::{PhaseResults, Results, TrafficOfLink};
use crate::summary::ExpectationOutcome::{self, Held, NotHeld, Undecided};
use crate::summary::ExpectationSummary;

const WINDOW_NS: u64 = 100 * MS;

/// Rate and delay of the link's trace: a byte takes a microsecond.
const RATE_BPS: u64 = 8_000_000;
const DELAY_NS: u64 = 2 * MS;

/// The plan of one phase of traffic over the link of the fixture, and of one claim about it.
fn plan(job: TrafficJob, claim: Claim) -> Plan {
    let mut plan = fixture::plan();
    plan.traffic = vec![TrafficPlan {
        name: "traffic".to_owned(),
        job,
        link: "radio".to_owned(),
        address: ([198, 18, 0, 2], 1).into(),
        beside: Vec::new(),
        load: false,
        duration_ns: 4 * S,
    }];
    plan.expectations = vec![ExpectationPlan {
        name: "claim".to_owned(),
        claim,
    }];
    plan
}

fn constant(rate_bps: u64) -> Trace {
    control::constant(rate_bps, DELAY_NS, 0, 1 << 40).unwrap()
}

/// A window of a link in which something always waited.
fn window(link: &str, number: u64, (trace_bytes, delivered_bytes): (u64, u64)) -> LinkWindow {
    LinkWindow {
        link: link.to_owned(),
        direction: Direction::Up,
        start_ns: number * WINDOW_NS,
        length_ns: WINDOW_NS,
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

fn judged(
    plan: &Plan,
    traces: &BTreeMap<String, Trace>,
    recorded: PhaseResults,
) -> ExpectationSummary {
    let mut results = Results::default();
    results.phases.push(PhaseResults {
        name: "traffic".to_owned(),
        ..recorded
    });
    let judged = evaluate(plan, traces, &results);
    let [judged] = <[ExpectationSummary; 1]>::try_from(judged).unwrap();
    let is_decided = judged.outcome != Undecided;
    assert!(!is_decided || !judged.evidence.is_empty(), "{judged:?}");
    judged
}

/// A bulk phase of so many windows on a trace that steps every fourth window, and what is delivered in each window.
fn rate_follows(windows: u64, delivered: impl Fn(u64) -> u64) -> ExpectationOutcome {
    let claim = Claim::RateFollowsTrace {
        phase: "traffic".to_owned(),
    };
    let job = TrafficJob::Bulk {
        directions: vec![Direction::Up],
    };
    let recorded = PhaseResults {
        windows: (0..windows)
            .map(|number| window("radio", number, (stepping(number), delivered(number))))
            .collect(),
        ..PhaseResults::default()
    };
    judged(&plan(job, claim), &BTreeMap::new(), recorded).outcome
}

/// What the stepping trace allows in a window.
fn stepping(number: u64) -> u64 {
    [100_000, 200_000][usize::from(number % 8 >= 4)]
}

#[test]
fn a_link_that_is_slower_than_its_trace_or_steps_late_does_not_follow_it() {
    assert_eq!(rate_follows(40, stepping), Held);
    // Too slow by 6 %, though the course is the trace's.
    let slower = |number| stepping(number) * 94 / 100;
    assert_eq!(rate_follows(40, slower), NotHeld);
    // Two windows late, though on average nearly as fast.
    let late = |number: u64| stepping(number.saturating_sub(2));
    assert_eq!(rate_follows(40, late), NotHeld);
    // As fast on average, and always.
    assert_eq!(rate_follows(40, |_| 150_000), NotHeld);
    assert_eq!(rate_follows(5, stepping), Undecided);
}

/// A bulk phase both ways: so many percent of the trace in each of 40 windows up, all of it in so many down.
fn both_ways_follow(up_percent: u64, windows_down: u64) -> ExpectationOutcome {
    let claim = Claim::RateFollowsTrace {
        phase: "traffic".to_owned(),
    };
    let job = TrafficJob::Bulk {
        directions: Direction::BOTH.to_vec(),
    };
    let up = (0..40).map(|number| {
        let asked = stepping(number);
        window("radio", number, (asked, asked * up_percent / 100))
    });
    let down = (0..windows_down).map(|number| LinkWindow {
        direction: Direction::Down,
        ..window("radio", number, (stepping(number), stepping(number)))
    });
    let recorded = PhaseResults {
        windows: up.chain(down).collect(),
        ..PhaseResults::default()
    };
    judged(&plan(job, claim), &BTreeMap::new(), recorded).outcome
}

#[test]
fn a_direction_that_does_not_follow_is_told_though_the_other_one_decides_nothing() {
    assert_eq!(both_ways_follow(100, 40), Held);
    for windows_down in [0, 5, 40] {
        assert_eq!(both_ways_follow(90, windows_down), NotHeld);
    }
    assert_eq!(both_ways_follow(100, 5), Undecided);
    assert_eq!(both_ways_follow(100, 0), Undecided);
}

/// A ping phase whose packets took so long there and back, or were lost.
fn round_trips_follow(round_trip_ns: Option<u64>) -> ExpectationSummary {
    let claim = Claim::RoundTripFollowsTrace {
        phase: "traffic".to_owned(),
    };
    let probes = (0..20).map(|number| ProbeRecord {
        sent_ns: number * WINDOW_NS,
        round_trip_ns,
        ..ProbeRecord::default()
    });
    let recorded = PhaseResults {
        traffic: vec![TrafficOfLink {
            link: Some("radio".to_owned()),
            record: TrafficRecord {
                probes: probes.collect(),
                ..TrafficRecord::default()
            },
        }],
        ..PhaseResults::default()
    };
    let plan = plan(TrafficJob::Ping { gap_ns: WINDOW_NS }, claim);
    let traces = BTreeMap::from([("street".to_owned(), constant(RATE_BPS))]);
    judged(&plan, &traces, recorded)
}

#[test]
fn a_link_with_another_delay_than_its_trace_does_not_follow_it() {
    let asked_ns = 2 * (DELAY_NS + probe_ip_bytes(false) * 1000);
    let found = round_trips_follow(Some(asked_ns));
    assert_eq!(found.outcome, Held, "{found:?}");
    assert_eq!(found.evidence[0].sample_size, 20);
    for wrong_ns in [asked_ns + MS, asked_ns - DELAY_NS] {
        let found = round_trips_follow(Some(wrong_ns));
        assert_eq!(found.outcome, NotHeld, "{found:?}");
    }
    assert_eq!(round_trips_follow(None).outcome, Undecided);
}

/// Two links of a cell with fixed shares of 1 and 3 that carry 1000 and 2000 bytes per millisecond if they have it for
/// themselves, filled together, and the bytes that each gets in each of so many windows.
fn shares_follow(windows: u64, [first, second]: [u64; 2]) -> ExpectationSummary {
    let claim = Claim::SharesFollowCell {
        phase: "traffic".to_owned(),
    };
    let job = TrafficJob::Bulk {
        directions: vec![Direction::Up],
    };
    let mut plan = plan(job, claim);
    let mut beside = plan.links[0].clone();
    (beside.name, beside.trace) = ("beside".to_owned(), "beside".to_owned());
    plan.links.push(beside);
    plan.traffic[0].beside = vec![BesidePlan {
        link: "beside".to_owned(),
        address: ([198, 18, 0, 6], 1).into(),
    }];
    let users = [("radio", 1), ("beside", 3)].map(|(link, weight)| CellUserPlan {
        link: link.to_owned(),
        weight,
    });
    plan.cells = vec![CellPlan {
        name: "macro".to_owned(),
        trace: None,
        trace_sha256: None,
        settings: CellSettings::new(CellPolicy::FixedShare),
        users: users.to_vec(),
    }];
    // In the first window less arrives: the delay has to pass.
    let of_link =
        |link, bytes| (1..=windows).map(move |number| window(link, number, (bytes, bytes)));
    let recorded = PhaseResults {
        windows: of_link("radio", first)
            .chain(of_link("beside", second))
            .collect(),
        ..PhaseResults::default()
    };
    let traces = BTreeMap::from([
        ("street".to_owned(), constant(RATE_BPS)),
        ("beside".to_owned(), constant(2 * RATE_BPS)),
    ]);
    judged(&plan, &traces, recorded)
}

#[test]
fn links_that_share_a_cell_in_another_way_than_its_policy_do_not_follow_it() {
    let found = shares_follow(20, [25_000, 150_000]);
    assert_eq!(found.outcome, Held, "{found:?}");
    // In turns, and with their weights exchanged.
    for wrong in [[50_000, 100_000], [75_000, 50_000]] {
        let found = shares_follow(20, wrong);
        assert_eq!(found.outcome, NotHeld, "{found:?}");
    }
    assert_eq!(shares_follow(5, [25_000, 150_000]).outcome, Undecided);
}

/// A bulk phase over a trace that keeps 8 Mbit/s and then 16, so many windows each, and what of each was delivered, in
/// percent.
fn rates_pass(windows: u64, percent: [u64; 2]) -> ExpectationSummary {
    let claim = Claim::ConstantRatesPass {
        phase: "traffic".to_owned(),
    };
    let job = TrafficJob::Bulk {
        directions: vec![Direction::Up],
    };
    let of = |number: u64| {
        let later = usize::from(number >= windows);
        let trace_bytes = [100_000, 200_000][later];
        window(
            "radio",
            number,
            (trace_bytes, trace_bytes * percent[later] / 100),
        )
    };
    let recorded = PhaseResults {
        windows: (0..2 * windows).map(of).collect(),
        ..PhaseResults::default()
    };
    judged(&plan(job, claim), &BTreeMap::new(), recorded)
}

#[test]
fn a_constant_rate_that_is_not_delivered_is_found_and_named() {
    let found = rates_pass(12, [100, 98]);
    assert_eq!(found.outcome, Held, "{found:?}");
    assert_eq!(found.evidence[0].sample_size, 12);
    assert!(
        found.detail.contains("delivered: 8.00 Mbit/s, 16.0 Mbit/s"),
        "{found:?}"
    );
    let found = rates_pass(12, [100, 93]);
    assert_eq!(found.outcome, NotHeld, "{found:?}");
    assert!(
        found.detail.contains("not delivered: 16.0 Mbit/s"),
        "{found:?}"
    );
    assert_eq!(rates_pass(9, [100, 100]).outcome, Undecided);
}

/// What is judged of power that a counter with 20 ticks a second shows for 5 s before the phases.
fn idle_power(power_w: impl Fn(u64) -> u64) -> ExpectationSummary {
    let mut records = fixture::records();
    records.plan.expectations = vec![ExpectationPlan {
        name: "claim".to_owned(),
        claim: Claim::IdlePowerStable,
    }];
    let results = &mut records.results;
    results.agent.as_mut().unwrap().meters = vec![MeterChannel {
        device: "GPU-0".to_owned(),
        scope: "GPU".to_owned(),
        quantity: "energy counter".to_owned(),
        average_window_ns: None,
        wraps_at_uj: None,
        source: "a test".to_owned(),
        estimated: false,
        counted: true,
        stub: true,
    }];
    let (mut readings, mut total_uj) = (MeterReadings::default(), 0);
    for number in 0..=100 {
        readings.at_ns.push(number * 50 * MS);
        readings.values.push(vec![Some(total_uj)]);
        total_uj += power_w(number * 50) * 50_000;
    }
    results.idle = vec![IdlePower {
        when: "before".to_owned(),
        span_ns: 5 * S,
        power_w: Measurement::Measured {
            value: 70.0,
            source: "a test".to_owned(),
        },
        uncertainty_w: None,
        channels_w: Vec::new(),
        readings: Some(readings),
    }];
    let judged = evaluate(&records.plan, &records.traces, results);
    <[ExpectationSummary; 1]>::try_from(judged).unwrap()[0].clone()
}

#[test]
fn power_that_varies_without_work_is_not_steady() {
    let found = idle_power(|at_ms| 70 + at_ms / 500 % 2);
    assert_eq!(found.outcome, Held, "{found:?}");
    assert_eq!(found.evidence[0].sample_size, 10);
    let found = idle_power(|at_ms| 70 + 20 * (at_ms / 500 % 2));
    assert_eq!(found.outcome, NotHeld, "{found:?}");
    assert!(found.numbers["idle_variation"] > 0.1, "{found:?}");
}

#[test]
fn idle_power_without_a_meter_is_undecided_for_the_reason_that_there_is_none() {
    let mut records = fixture::records();
    records.plan.expectations = vec![ExpectationPlan {
        name: "claim".to_owned(),
        claim: Claim::IdlePowerStable,
    }];
    let judged = evaluate(&records.plan, &records.traces, &records.results);
    assert_eq!(judged[0].outcome, Undecided);
    let why = "idle power is unavailable: no sensor: neither RAPL nor NVML is present";
    assert!(judged[0].detail.starts_with(why), "{judged:?}");
    assert!(judged[0].evidence.is_empty() && judged[0].numbers.is_empty());
}
