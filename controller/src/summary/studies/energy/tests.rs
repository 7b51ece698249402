//! Two arms that take turns, under a counter of energy and without one.

mod own_gpu;
mod traces;
mod users;

use std::collections::BTreeMap;

use hexloop_topologies::plan::Plan;
use hexloop_workloads::coding::Coding;
use hexloop_workloads::study::own::Threshold;
use hexloop_workloads::study::speculative::Drawing;
use hexloop_workloads::study::{Arm, StudyFinding, StudySpec};

use super::*;
use crate::fixture;
use crate::summary::StudySummary;
use crate::summary::studies::summaries;

const MS: u64 = 1_000_000;

/// Of each trial.
const TOKENS: u64 = 5;

/// Two arms that take turns, twice each, without a pause between them.
fn two_arms(arms: &[Arm; 2], trial_ms: u64) -> (Plan, Results) {
    let turns = (0_u32..4).zip(arms.iter().cycle());
    let trials = turns.map(|(number, arm)| {
        let started_ns = u64::from(number) * trial_ms * MS;
        StudyFinding::Trial(TrialRecord {
            number,
            group: number,
            arm: arm.clone(),
            started_ns,
            token_ns: (1..=TOKENS)
                .map(|token| started_ns + token * trial_ms * MS / TOKENS)
                .collect(),
            tokens: vec![7; usize::try_from(TOKENS).unwrap()],
            ..fixture::trial()
        })
    });
    let findings = trials.collect();
    let study = StudySpec {
        arms: arms.to_vec(),
        ..fixture::study_spec()
    };
    fixture::with_study("metered", study, findings)
}

/// What is told of them. A counter tells their power in watts.
fn studied(arms: &[Arm; 2], trial_ms: u64, powers_w: Option<[u64; 2]>) -> StudySummary {
    let (plan, mut results) = two_arms(arms, trial_ms);
    if let Some(powers_w) = powers_w {
        let counters = [("GPU 0", "board", true)];
        fixture::meter(&mut results, &counters, 4 * trial_ms, |_, at_ms| {
            powers_w[usize::try_from(at_ms / trial_ms % 2).unwrap()]
        });
    }
    summaries(&plan, &BTreeMap::new(), &results).pop().unwrap()
}

fn split(first_cut: u32) -> Arm {
    Arm::Split {
        ends: vec![first_cut, 3],
        in_flight: 1,
        coding: Coding::F32,
    }
}

fn remote(drawing: Drawing) -> Arm {
    Arm::Remote { drawing }
}

fn early_exit(cut: u32) -> Arm {
    Arm::EarlyExit {
        cut,
        threshold: Threshold { least_ppm: 500_000 },
    }
}

/// Arms of a split, of speculation, and of a device that answers as long as it is sure.
fn techniques() -> [[Arm; 2]; 3] {
    [
        [split(1), split(2)],
        [remote(Drawing::Greedy), remote(Drawing::Sampled)],
        [early_exit(1), early_exit(2)],
    ]
}

/// What each table of a study says of the energy of its two arms.
fn tables(study: &StudySummary) -> Vec<[Quantity; 2]> {
    let cells = study.cells.iter().map(|cell| &cell.energy.j_per_token);
    let drafts = study.speculation.iter().map(|one| &one.energy.j_per_token);
    let own = study.own.iter().map(|own| &own.energy.j_per_token);
    let tables = [
        cells.cloned().collect::<Vec<_>>(),
        drafts.cloned().collect(),
        own.cloned().collect(),
    ];
    let filled = tables.into_iter().filter(|table| !table.is_empty());
    filled.map(|table| table.try_into().unwrap()).collect()
}

#[test]
fn each_arm_has_the_energy_of_its_own_turns_for_each_token() {
    for (arms, count) in techniques().into_iter().zip([1, 2, 2]) {
        let tables = tables(&studied(&arms, 500, Some([10, 30])));
        assert_eq!(tables.len(), count);
        for energies in tables {
            // Half a second at 10 W or 30 W for five tokens.
            for (energy, expected) in energies.iter().zip([1.0, 3.0]) {
                let joules = energy.value.unwrap();
                assert!((joules - expected).abs() < 1e-6, "{energy:?}");
                assert_eq!(energy.quality, Quality::Derived);
            }
        }
    }
}

#[test]
fn what_nothing_meters_or_is_too_short_to_be_told_apart_has_no_energy_but_a_reason() {
    let cases = [
        (500, None, "no meter can be summed up"),
        (
            200,
            Some([10, 30]),
            "it is too short for what meters tell apart",
        ),
    ];
    for (trial_ms, powers_w, why) in cases {
        for arms in techniques() {
            for energy in tables(&studied(&arms, trial_ms, powers_w)).iter().flatten() {
                assert_eq!(energy.value, None);
                assert_eq!(energy.reason.as_deref(), Some(why));
            }
        }
    }
}

#[test]
fn an_arm_without_tokens_has_no_energy_for_each() {
    let (plan, results) = fixture::with_study(
        "empty",
        StudySpec {
            arms: vec![split(1)],
            ..fixture::study_spec()
        },
        vec![StudyFinding::Trial(TrialRecord {
            arm: split(1),
            ..fixture::trial()
        })],
    );
    let study = summaries(&plan, &BTreeMap::new(), &results).pop().unwrap();
    let energy = &study.cells.first().unwrap().energy.j_per_token;
    assert_eq!(energy.reason.as_deref(), Some("no token was made"));
}
