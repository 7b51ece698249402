//! Arms that adapt as well as can be make the claim hold, and those that do not do not.

use hexloop_topologies::plan::StudyClaim;
use hexloop_workloads::study::kv::{Delivery, Source};
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
    let arms = [
        Delivery::Recompute,
        Delivery::Ship(hexloop_workloads::coding::kv::KvCoding::F32),
        Delivery::Adaptive,
    ];
    let mut findings = vec![StudyFinding::Trial(TrialRecord {
        arm: arm(Delivery::Recompute),
        ..fixture::trial()
    })];
    for delivery in arms {
        for request in 0..requests {
            let due_ns = u64::from(request) * 1000 * MS;
            let first = due_ns + took_ms(delivery, request, excess_percent) * MS;
            let traced = TracedTrial {
                repetition: 0,
                request,
                from_ns: 0,
                due_ns,
                trial: TrialRecord {
                    arm: arm(delivery),
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
        arms: arms.map(arm).to_vec(),
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
