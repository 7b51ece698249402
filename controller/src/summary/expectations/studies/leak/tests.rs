//! Guesses that get worse with depth make the claim hold, and others do not.

use hexloop_topologies::plan::StudyClaim;
use hexloop_workloads::study::leak::{LeakRecord, Leaking};
use hexloop_workloads::study::{Arm, Grid, StudyFinding, StudySpec, TrialRecord};

use super::super::judge;
use super::*;
use crate::fixture;
use crate::summary::ExpectationOutcome::{self, Held, NotHeld, Undecided};

const PROMPTS: u32 = 4;

/// What a claim comes to if so many of a prompt's tokens are read after each layer, and so many bytes more cross the
/// link.
fn outcome(
    read: &[u32],
    (tokens, more_bytes): (u32, u64),
    claim: StudyClaim,
) -> (ExpectationOutcome, String) {
    let plan = fixture::plan();
    let width = u64::from(plan.model.as_ref().unwrap().width);
    let (mut arms, mut findings) = (Vec::new(), Vec::new());
    for (layer, read) in (1..).zip(read) {
        let of = Leaking {
            layer,
            coding: Coding::F32,
        };
        arms.push(Arm::Leaking(of));
        for prompt in 0..PROMPTS {
            let mut hops = vec![of.hop_bytes(u64::from(tokens), width)];
            hops[0].up += more_bytes;
            findings.push(StudyFinding::Leak(LeakRecord {
                of,
                prompt,
                tokens,
                nearest: 1,
                probe: *read,
            }));
            findings.push(StudyFinding::Trial(TrialRecord {
                number: layer * PROMPTS + prompt,
                group: 0,
                arm: Arm::Leaking(of),
                prompt,
                token_ns: vec![1],
                tokens: vec![0; 2 * usize::try_from(tokens).unwrap()],
                hops,
                busy_ns: vec![1, 1],
                ..fixture::trial()
            }));
        }
    }
    let study = StudySpec {
        arms,
        prompts: PROMPTS,
        prompt_tokens: tokens,
        output_tokens: 1,
        grid: Grid {
            round_trips_ns: vec![1],
            rates_bps: vec![1],
            around_percent: Vec::new(),
        },
        ..fixture::study_spec()
    };
    let (plan, results) = fixture::with_study("leak", study, findings);
    let judged = judge(&plan, &results, ("leak", claim));
    (judged.outcome, judged.detail)
}

#[test]
fn less_that_is_read_with_depth_and_the_bytes_of_the_formula_make_the_claims_hold() {
    for claim in [
        StudyClaim::LeakFallsWithDepth,
        StudyClaim::ArmBytesFollowFormula,
    ] {
        let (outcome, detail) = outcome(&[36, 30, 12], (40, 0), claim);
        assert_eq!(outcome, Held, "{}: {detail}", claim.name());
    }
}

#[test]
fn more_that_is_read_deeper_no_fall_too_few_tokens_and_a_byte_more_are_told() {
    let falls = StudyClaim::LeakFallsWithDepth;
    let (rises, detail) = outcome(&[36, 10, 30], (40, 0), falls);
    assert_eq!(rises, NotHeld, "{detail}");
    let (stays, detail) = outcome(&[30, 30, 30], (40, 0), falls);
    assert_eq!(stays, NotHeld, "{detail}");
    let (hardly, detail) = outcome(&[30, 29], (40, 0), falls);
    assert_eq!(hardly, Undecided, "{detail}");
    let (few, detail) = outcome(&[5, 3], (5, 0), falls);
    assert_eq!(few, Undecided, "{detail}");
    let (fatter, detail) = outcome(&[36, 12], (40, 1), StudyClaim::ArmBytesFollowFormula);
    assert_eq!(fatter, NotHeld, "{detail}");
}
