//! Arms on the traces: a round of each, with pauses between its requests.

use hexloop_workloads::study::traced::{TracedSpec, TracedTrial};

use super::*;
use crate::summary::StudyTracedArm;

/// When the round of each arm begins.
const BEGIN_MS: [u64; 2] = [0, 2_000];

/// A request is due every second.
const EVERY_MS: u64 = 1_000;

/// Tokens of an answer.
const TOKENS: u64 = 4;

/// Two arms of two requests each, which take so long, of which the nodes compute a tenth and a fifth of a second. The
/// machine draws so many watts while a request of an arm is under way, and 4 W in pauses and without jobs.
fn played(took_ms: [u64; 2], powers_w: Option<[u64; 2]>) -> Vec<StudyTracedArm> {
    let arms = [split(1), split(2)];
    let mut findings = Vec::new();
    for (place, arm) in arms.iter().enumerate() {
        for request in 0..2_u32 {
            let due_ms = BEGIN_MS[place] + u64::from(request) * EVERY_MS;
            let token_ms = (1..=TOKENS).map(|token| due_ms + token * took_ms[place] / TOKENS);
            let number = u32::try_from(findings.len()).unwrap();
            findings.push(StudyFinding::Traced(Box::new(TracedTrial {
                repetition: 0,
                request,
                from_ns: BEGIN_MS[place] * MS,
                due_ns: due_ms * MS,
                trial: TrialRecord {
                    number,
                    group: number,
                    arm: arm.clone(),
                    started_ns: due_ms * MS,
                    token_ns: token_ms.map(|ms| ms * MS).collect(),
                    tokens: vec![7; usize::try_from(TOKENS).unwrap()],
                    busy_ns: vec![100 * MS, 200 * MS],
                    ..fixture::trial()
                },
            })));
        }
    }
    let study = StudySpec {
        arms: arms.to_vec(),
        traced: Some(TracedSpec {
            requests: 2,
            every_ns: EVERY_MS * MS,
            repetitions: 1,
        }),
        ..fixture::study_spec()
    };
    let (plan, mut results) = fixture::with_study("traced", study, findings);
    if let Some(powers_w) = powers_w {
        let counters = [("package-0", "package", true)];
        fixture::meter(&mut results, &counters, 4_000, |_, at_ms| {
            let place = usize::from(at_ms >= BEGIN_MS[1]);
            match at_ms % EVERY_MS < took_ms[place] {
                true => powers_w[place],
                false => 4,
            }
        });
        fixture::idle_power(&mut results, 4.0);
    }
    let study = summaries(&plan, &BTreeMap::new(), &results).pop().unwrap();
    study.traced.unwrap().arms
}

fn assert_near(found: &Quantity, expected: f64) {
    let joules = found.value.unwrap();
    assert!((joules - expected).abs() < 1e-6, "{expected}: {found:?}");
    assert_eq!(found.quality, Quality::Derived);
}

#[test]
fn requests_on_traces_have_the_energy_of_their_own_times_and_rounds_that_of_the_pauses_too() {
    let arms = played([400, 500], Some([10, 20]));
    // 10 W for 0.4 s and 20 W for 0.5 s, for four tokens, of which 4 W would have been drawn anyway. Rounds last 1.4 s and
    // 1.5 s: two requests, and a pause at 4 W.
    let expected = [[4.0, 2.4, 1.0, 5.2], [10.0, 8.0, 2.5, 11.0]];
    assert_eq!(arms.len(), expected.len());
    for (arm, expected) in arms.iter().zip(expected) {
        let energy = &arm.energy;
        assert_near(&energy.j_per_request, expected[0]);
        assert_near(&energy.above_idle_j_per_request, expected[1]);
        assert_near(&energy.j_per_token, expected[2]);
        assert_near(&arm.round_j_per_request, expected[3]);
        assert_eq!(energy.node_energy.len(), 2);
    }
    assert_eq!(arms[0].busy, [0.25, 0.5]);
    assert_eq!(arms[1].busy, [0.2, 0.4]);
}

#[test]
fn requests_that_are_too_short_to_be_told_apart_have_the_energy_of_their_rounds_alone() {
    let arms = played([200, 200], Some([10, 10]));
    for arm in &arms {
        let energy = &arm.energy;
        for energy in [
            &energy.j_per_request,
            &energy.above_idle_j_per_request,
            &energy.j_per_token,
        ] {
            assert_eq!(energy.value, None);
            let why = "it is too short for what meters tell apart";
            assert_eq!(energy.reason.as_deref(), Some(why));
        }
        // 1.2 s, of which 0.4 s at 10 W and 0.8 s at 4 W, for two requests.
        assert_near(&arm.round_j_per_request, 3.6);
    }
}

#[test]
fn arms_on_traces_without_a_meter_have_no_energy_but_a_reason() {
    for arm in played([400, 500], None) {
        let energy = &arm.energy;
        for energy in [
            &energy.j_per_request,
            &energy.above_idle_j_per_request,
            &energy.j_per_token,
            &arm.round_j_per_request,
        ] {
            assert_eq!(energy.value, None);
            assert_eq!(energy.quality, Quality::Unavailable);
            let why = "no meter can be summed up";
            assert_eq!(energy.reason.as_deref(), Some(why));
        }
        assert_eq!(energy.node_energy.len(), 2);
        for node in &energy.node_energy {
            assert_eq!(node.j_per_request.value, None);
            let why = "nothing is metered on this machine";
            assert_eq!(node.j_per_request.reason.as_deref(), Some(why));
        }
    }
}
