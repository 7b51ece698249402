//! Arms that adapt as well as can be make the claim hold, and those that do not do not.

use hexloop_topologies::plan::StudyClaim;
use hexloop_workloads::study::kv::{Delivery, Source};
use hexloop_workloads::study::placement::{Placement, PlacementPolicy, Weights};
use hexloop_workloads::study::traced::TracedSpec;
use hexloop_workloads::study::{StudyFinding, StudySpec, TrialRecord};

use super::super::judge;
use super::*;
use crate::fixture;
use crate::summary::ExpectationOutcome::{self, Held, NotHeld, Undecided};

const MS: u64 = 1_000_000;
const REQUESTS: u32 = 30;

fn arm(delivery: Delivery) -> Arm {
    Arm::KeyValues {
        delivery,
        source: Source::Stored,
    }
}

/// What a request of each arm takes on a channel that is good and bad by turns, in ms: computing again the same
/// always, shipping as the channel is, adapting whichever is faster and so much more in percent.
fn took_ms(delivery: Delivery, request: u32, excess_percent: u64) -> u64 {
    let shipping = if (request / 5).is_multiple_of(2) {
        40
    } else {
        900
    } + u64::from(request % 3);
    let computing = 300;
    match delivery {
        Delivery::Recompute => computing,
        Delivery::Adaptive => shipping.min(computing) * (100 + excess_percent) / 100,
        Delivery::Ship(_) => shipping,
    }
}

fn outcome(requests: u32, excess_percent: u64) -> (ExpectationOutcome, String) {
    let deliveries = [
        Delivery::Recompute,
        Delivery::Ship(hexloop_workloads::coding::kv::KvCoding::F32),
        Delivery::Adaptive,
    ];
    let took = |place: usize, request| took_ms(deliveries[place], request, excess_percent);
    judged(&deliveries.map(arm), requests, took)
}

/// How the claim is judged, where a request of each arm, by its place, takes so many ms.
fn judged(
    arms: &[Arm],
    requests: u32,
    took_ms: impl Fn(usize, u32) -> u64,
) -> (ExpectationOutcome, String) {
    let mut findings = vec![StudyFinding::Trial(TrialRecord {
        arm: arms[0].clone(),
        ..fixture::trial()
    })];
    for (place, arm) in arms.iter().enumerate() {
        for request in 0..requests {
            let due_ns = u64::from(request) * 1000 * MS;
            let first = due_ns + took_ms(place, request) * MS;
            let traced = TracedTrial {
                repetition: 0,
                request,
                from_ns: 0,
                due_ns,
                trial: TrialRecord {
                    arm: arm.clone(),
                    started_ns: due_ns,
                    token_ns: vec![first, first + MS],
                    tokens: vec![7, 8],
                    ..fixture::trial()
                },
            };
            findings.push(StudyFinding::Traced(Box::new(traced)));
        }
    }
    let study = StudySpec {
        arms: arms.to_vec(),
        traced: Some(TracedSpec {
            requests,
            every_ns: 1000 * MS,
            repetitions: 1,
        }),
        ..fixture::study_spec()
    };
    let (plan, results) = fixture::with_study("contexts", study, findings);
    let claim = ("contexts", StudyClaim::AdaptiveNearBestOnTraces);
    let judged = judge(&plan, &results, claim);
    (judged.outcome, judged.detail)
}

#[test]
fn an_arm_that_takes_the_better_way_at_each_request_holds_and_beats_all_that_stay() {
    let (held, detail) = outcome(REQUESTS, 0);
    assert_eq!(held, Held, "{detail}");
    assert!(detail.contains("recompute"), "{detail}");
    // 15 requests of 300 ms and 15 of about 40 against 30 of 300.
    assert!(detail.starts_with("adaptive: 0.5"), "{detail}");
}

#[test]
fn an_arm_that_pays_more_for_adapting_than_it_gains_does_not_hold() {
    let (held, detail) = outcome(REQUESTS, 300);
    assert_eq!(held, NotHeld, "{detail}");
}

#[test]
fn few_requests_decide_nothing() {
    let (held, detail) = outcome(8, 0);
    assert_eq!(held, Undecided, "{detail}");
    let (held, detail) = outcome(0, 0);
    assert_eq!(held, Undecided, "{detail}");
}

/// A device that is always in time at 200 ms, an edge that is so where the channel is good, and a policy that takes so
/// many ms where it is good and where it is bad.
fn policy_outcome(requests: u32, policy_ms: [u64; 2]) -> (ExpectationOutcome, String) {
    let placed = |place: u32| {
        Arm::Placed(Placement {
            place,
            node: ["device", "edge"][usize::try_from(place).unwrap()].to_owned(),
            weights: Weights::Full,
            nodes: 2,
        })
    };
    let policy = Arm::Policy(PlacementPolicy {
        deadline_ns: 200 * MS,
        nodes: 2,
    });
    judged(&[placed(0), placed(1), policy], requests, |arm, request| {
        let is_bad = usize::from(!(request / 5).is_multiple_of(2));
        [[180, 180], [60, 900], policy_ms][arm][is_bad]
    })
}

#[test]
fn a_policy_that_is_in_time_wherever_a_fixed_placement_is_holds_though_another_is_faster() {
    let (held, detail) = policy_outcome(REQUESTS, [190, 185]);
    assert_eq!(held, Held, "{detail}");
    assert!(detail.contains("against device"), "{detail}");
}

#[test]
fn a_policy_that_stays_on_the_edge_while_the_channel_is_bad_does_not_hold() {
    let (held, detail) = policy_outcome(REQUESTS, [60, 900]);
    assert_eq!(held, NotHeld, "{detail}");
}

#[test]
fn few_requests_of_a_policy_decide_nothing() {
    let (held, detail) = policy_outcome(8, [60, 185]);
    assert_eq!(held, Undecided, "{detail}");
}
