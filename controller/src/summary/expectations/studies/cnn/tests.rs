//! Images that take as long as the law says make the claim hold, and others do not.

use hexloop_topologies::plan::StudyClaim;
use hexloop_workloads::study::cnn::{Convolutional, block_count};
use hexloop_workloads::study::{Grid, RowRecord, StudyFinding, StudySpec};

use super::super::judge;
use super::*;
use crate::fixture;
use crate::summary::ExpectationOutcome::{self, Held, NotHeld, Undecided};

const MS: u64 = 1_000_000;
const RATES_BPS: [u64; 4] = [100_000_000, 20_000_000, 8_000_000, 1_000_000];

/// What a claim comes to if images take so many percent of what they should beyond the device, with so many more
/// bytes, at some of the rates.
fn outcome(
    beyond_percent: u64,
    more_bytes: u64,
    rates_bps: &[u64],
    claim: StudyClaim,
) -> (ExpectationOutcome, String) {
    let arms: Vec<Arm> = (1..=block_count())
        .map(|cut| {
            Arm::Convolutional(Convolutional {
                cut,
                near_per_us: 25_000,
                far_per_us: 250_000,
            })
        })
        .collect();
    let mut findings = vec![StudyFinding::Row(RowRecord {
        round_trip_ns: MS,
        echo_ns: 2 * MS,
        echoes: 21,
        critical_rate_bps: None,
        rates_bps: rates_bps.to_vec(),
    })];
    let mut number = 0;
    for rate_bps in rates_bps {
        for arm in &arms {
            let Arm::Convolutional(network) = arm else {
                panic!("{}", arm.name())
            };
            let whole = network.image_ns((2 * MS, *rate_bps));
            let beyond = (whole - network.near_ns()) * beyond_percent / 100;
            let mut hops = vec![network.hop_bytes()];
            hops[0].up += more_bytes;
            findings.push(StudyFinding::Trial(TrialRecord {
                number,
                group: number,
                arm: arm.clone(),
                round_trip_ns: MS,
                rate_bps: *rate_bps,
                prompt: 0,
                token_ns: vec![network.near_ns() + beyond],
                tokens: vec![0],
                hops,
                busy_ns: vec![1, 1],
                ..fixture::trial()
            }));
            number += 1;
        }
    }
    let study = StudySpec {
        arms,
        prompts: 1,
        prompt_tokens: 1,
        output_tokens: 1,
        grid: Grid {
            round_trips_ns: vec![MS],
            rates_bps: rates_bps.to_vec(),
            around_percent: Vec::new(),
        },
        ..fixture::study_spec()
    };
    let (plan, results) = fixture::with_study("cnn", study, findings);
    let judged = judge(&plan, &results, ("cnn", claim));
    (judged.outcome, judged.detail)
}

#[test]
fn images_that_take_what_the_law_says_slide_and_put_the_formula_on_the_link() {
    for claim in [StudyClaim::CnnCutSlides, StudyClaim::ArmBytesFollowFormula] {
        let (outcome, detail) = outcome(100, 0, &RATES_BPS, claim);
        assert_eq!(outcome, Held, "{}: {detail}", claim.name());
    }
}

#[test]
fn a_link_that_takes_three_times_as_long_a_byte_more_and_rates_without_a_slide_are_told() {
    let (slow, detail) = outcome(300, 0, &RATES_BPS, StudyClaim::CnnCutSlides);
    assert_eq!(slow, NotHeld, "{detail}");
    let (fatter, detail) = outcome(100, 1, &RATES_BPS, StudyClaim::ArmBytesFollowFormula);
    assert_eq!(fatter, NotHeld, "{detail}");
    let slowest = [1_000_000, 900_000, 800_000];
    let (stays, detail) = outcome(100, 0, &slowest, StudyClaim::CnnCutSlides);
    assert_eq!(stays, NotHeld, "{detail}");
    let (few, detail) = outcome(100, 0, &RATES_BPS[..2], StudyClaim::CnnCutSlides);
    assert_eq!(few, Undecided, "{detail}");
}
