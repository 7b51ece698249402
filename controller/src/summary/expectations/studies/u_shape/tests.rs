//! A U that sends every state twice makes the claims hold, and one that sends something else does not.

use hexloop_topologies::plan::StudyClaim;
use hexloop_workloads::coding::Coding;
use hexloop_workloads::study::u_shape::{UShape, hop_bytes};
use hexloop_workloads::study::{Grid, StudyFinding, StudySpec, split};

use super::super::judge;
use super::*;
use crate::fixture;
use crate::summary::ExpectationOutcome::{self, Held, NotHeld};

const LENGTHS: (u64, u64) = (8, 5);

/// What a claim comes to if a U sends so many bytes more than it should, or answers something else.
fn outcome(more_bytes: u64, changed: u32, claim: StudyClaim) -> (ExpectationOutcome, String) {
    let plan = fixture::plan();
    let model = plan.model.as_ref().unwrap();
    let (width, layers) = (u64::from(model.width), model.layers);
    let two_way = Arm::Split {
        ends: vec![1, layers],
        in_flight: 1,
        coding: Coding::F32,
    };
    let shape = UShape {
        first: 1,
        last: layers - 1,
    };
    let arms = vec![two_way, Arm::UShaped(shape)];
    let mut findings = Vec::new();
    for prompt in 0..3 {
        for (arm, number) in arms.iter().zip(2 * prompt..) {
            let is_u = matches!(arm, Arm::UShaped(_));
            let mut hops = match is_u {
                true => vec![hop_bytes(LENGTHS, 4 * width)],
                false => split::hop_bytes(1, LENGTHS, (Coding::F32, width)),
            };
            hops[0].down += more_bytes * u64::from(is_u);
            findings.push(StudyFinding::Trial(TrialRecord {
                number,
                group: number,
                arm: arm.clone(),
                prompt,
                token_ns: vec![1; 5],
                tokens: vec![changed * u32::from(is_u); 5],
                hops,
                busy_ns: vec![1, 1],
                ..fixture::trial()
            }));
        }
    }
    let study = StudySpec {
        arms,
        prompts: 3,
        prompt_tokens: u32::try_from(LENGTHS.0).unwrap(),
        output_tokens: u32::try_from(LENGTHS.1).unwrap(),
        grid: Grid {
            round_trips_ns: vec![1],
            rates_bps: vec![1],
            around_percent: Vec::new(),
        },
        ..fixture::study_spec()
    };
    let (plan, results) = fixture::with_study("u", study, findings);
    let judged = judge(&plan, &results, ("u", claim));
    (judged.outcome, judged.detail)
}

#[test]
fn a_u_doubles_the_states_and_answers_the_same() {
    for claim in [
        StudyClaim::UShapeDoublesStates,
        StudyClaim::ArmBytesFollowFormula,
        StudyClaim::ArmsAgree,
    ] {
        let (outcome, detail) = outcome(0, 0, claim);
        assert_eq!(outcome, Held, "{}: {detail}", claim.name());
    }
}

#[test]
fn a_byte_more_and_another_token_are_told() {
    for (more_bytes, changed, claim) in [
        (1, 0, StudyClaim::UShapeDoublesStates),
        (1, 0, StudyClaim::ArmBytesFollowFormula),
        (0, 1, StudyClaim::ArmsAgree),
    ] {
        let (outcome, detail) = outcome(more_bytes, changed, claim);
        assert_eq!(outcome, NotHeld, "{}: {detail}", claim.name());
    }
}
