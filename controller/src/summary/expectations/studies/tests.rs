//! Trials that follow the laws make the claims hold, and trials that follow broken ones do not.

use hexloop_topologies::plan::{BesidePlan, StudyPlan};
use hexloop_workloads::coding::Coding;
use hexloop_workloads::device::ComputeDevice;
use hexloop_workloads::study::{
    Arm, Grid, NodeCosts, StudyFinding, StudySpec, Technique, TrialRecord, split,
};
use hexloop_workloads::transport::Transport;

use super::cuts::over_signed;
use super::*;
use crate::fixture;
use crate::results::PhaseResults;
use crate::summary::ExpectationOutcome::{self, Held, NotHeld, Undecided};

const LAYERS: u32 = 6;
const STATE_BYTES: u64 = 1024;
const MS: u64 = 1_000_000;

/// What nature does in these trials.
#[derive(Clone, Copy)]
struct Nature {
    /// Of each layer on the device, beside what its costs say.
    device_layer_ns: u64,
    /// Bytes that a token really takes on the wire.
    wire_bytes: u64,
    /// Bytes of the trials, beside the formula's, for each layer on the device.
    bytes_per_layer: u64,
    /// Whether a cut changes the answer.
    changes_tokens: bool,
}

const AS_THE_LAWS_SAY: Nature = Nature {
    device_layer_ns: 2 * MS,
    wire_bytes: split::wire_bytes_per_token(STATE_BYTES),
    bytes_per_layer: 0,
    changes_tokens: false,
};

fn costs(layer_ns: u64) -> NodeCosts {
    NodeCosts {
        layer_ns,
        fixed_ns: 0,
        head_ns: Some(layer_ns / 2),
        passes: 15,
    }
}

/// A study of every cut, whose prediction is `critical` of costs, with trials as nature makes them.
fn played(nature: Nature, round_trips_ns: &[u64]) -> (StudyPlan, PhaseResults) {
    let arms: Vec<Arm> = (1..=LAYERS)
        .map(|cut| Arm::Split {
            ends: vec![cut, LAYERS],
            in_flight: 1,
            coding: Coding::F32,
        })
        .collect();
    let study = StudySpec {
        arms: arms.clone(),
        prompts: 2,
        prompt_tokens: 8,
        output_tokens: 12,
        patience_ns: 0,
        grid: Grid {
            round_trips_ns: round_trips_ns.to_vec(),
            rates_bps: vec![MS, 8 * MS],
            around_percent: vec![30, 50, 70, 140, 200, 300],
        },
        ..fixture::study_spec()
    };
    let all_costs = vec![costs(2 * MS), costs(MS / 4)];
    let mut recorded = PhaseResults {
        name: "cuts".to_owned(),
        end: fixture::records()
            .results
            .phases
            .first()
            .and_then(|phase| phase.end.clone()),
        ..PhaseResults::default()
    };
    recorded
        .findings
        .push(StudyFinding::Costs(all_costs.clone()));
    let mut number = 0;
    for round_trip_ns in round_trips_ns {
        let critical = split::critical_rate_of(&study, &all_costs, *round_trip_ns, STATE_BYTES);
        let rates: Vec<u64> = match critical {
            Some(rate) => study
                .grid
                .around_percent
                .iter()
                .map(|percent| rate * u64::from(*percent) / 100)
                .collect(),
            None => study.grid.rates_bps.clone(),
        };
        recorded.findings.push(StudyFinding::Row(RowRecord {
            round_trip_ns: *round_trip_ns,
            echo_ns: *round_trip_ns,
            echoes: 21,
            critical_rate_bps: critical,
            rates_bps: rates.clone(),
        }));
        for rate in rates {
            for prompt in 0..study.prompts {
                for arm in &arms {
                    let trial = trial(nature, (*round_trip_ns, rate), (arm, prompt, number));
                    recorded.findings.push(StudyFinding::Trial(trial));
                    number += 1;
                }
            }
        }
    }
    let plan = StudyPlan {
        name: "cuts".to_owned(),
        path: vec!["device".to_owned(), "edge".to_owned()],
        hops: vec![BesidePlan {
            link: "radio".to_owned(),
            address: "198.18.0.2:27800".parse().unwrap(),
        }],
        transport: Transport::Tcp,
        study,
        duration_ns: 1,
    };
    (plan, recorded)
}

fn trial(
    nature: Nature,
    (round_trip_ns, rate_bps): (u64, u64),
    (arm, prompt, number): (&Arm, u32, u32),
) -> TrialRecord {
    let cut = u64::from(arm.first_cut());
    let mut gap = nature.device_layer_ns * cut;
    if arm.is_whole() {
        gap += MS;
    } else {
        gap += MS / 4 * (u64::from(LAYERS) - cut) + MS / 8 + round_trip_ns;
        gap += nature.wire_bytes * 8 * 1_000_000_000 / rate_bps;
    }
    // A little noise that is the same every time.
    let noise = |token: u64| (token * 7919 + u64::from(number) * 104_729) % 200 * 1000;
    let output = 12;
    let started_ns = u64::from(number) * 1_000_000_000;
    let hops = if arm.is_whole() {
        Vec::new()
    } else {
        let mut hops = split::hop_bytes(1, (8, output), (Coding::F32, STATE_BYTES / 4));
        hops[0].up += nature.bytes_per_layer * cut;
        hops
    };
    let changed = u32::from(nature.changes_tokens && cut == 3);
    TrialRecord {
        number,
        group: number,
        arm: arm.clone(),
        round_trip_ns,
        rate_bps,
        prompt,
        started_ns,
        token_ns: (1..=output)
            .map(|token| started_ns + token * gap + noise(token))
            .collect(),
        tokens: (0..12).map(|token| token + changed).collect(),
        hops,
        busy_ns: vec![0; 2],
        ..fixture::trial()
    }
}

fn outcome(
    nature: Nature,
    round_trips_ns: &[u64],
    claim: StudyClaim,
) -> (ExpectationOutcome, String) {
    let (study, recorded) = played(nature, round_trips_ns);
    let mut plan = fixture::plan();
    plan.studies = vec![study];
    let mut results = fixture::records().results;
    results.phases.push(recorded);
    let judged = judge(&plan, &results, ("cuts", claim));
    (judged.outcome, judged.detail)
}

const ROUND_TRIPS: [u64; 3] = [MS, 2 * MS, 60 * MS];

#[test]
fn trials_that_follow_the_laws_make_every_claim_hold() {
    // Those about paths of several nodes and about codings are held against trials of their own.
    let of_others = [
        StudyClaim::LatencyIsSum,
        StudyClaim::ThroughputIsSlowest,
        StudyClaim::BestDivisionAsPredicted,
        StudyClaim::CodingsSaveLinkTime,
        StudyClaim::QualityRisesWithThreshold,
        StudyClaim::SureExitsAgree,
        StudyClaim::BestCutSlides,
        StudyClaim::DeviceAnswersInOutage,
        StudyClaim::UplinkFollowsEscalation,
        // That is about meters, of which there are none here.
        StudyClaim::CounterIsIntegratedPower,
    ];
    let claims = StudyClaim::ALL.into_iter();
    let of_splits = claims.filter(|claim| claim.is_about(Technique::Split));
    for claim in of_splits.filter(|claim| !of_others.contains(claim)) {
        let (outcome, detail) = outcome(AS_THE_LAWS_SAY, &ROUND_TRIPS, claim);
        assert_eq!(outcome, Held, "{}: {detail}", claim.name());
    }
}

#[test]
fn a_wrong_formula_of_the_bytes_on_the_wire_moves_the_flip() {
    let twice = Nature {
        wire_bytes: 2 * AS_THE_LAWS_SAY.wire_bytes,
        ..AS_THE_LAWS_SAY
    };
    let (outcome, detail) = outcome(twice, &ROUND_TRIPS, StudyClaim::BestCutFlips);
    assert_eq!(outcome, NotHeld, "{detail}");
}

#[test]
fn layers_that_cost_something_else_than_was_measured_bend_the_line_and_move_the_flip() {
    let slower = Nature {
        device_layer_ns: 3 * MS,
        ..AS_THE_LAWS_SAY
    };
    for claim in [StudyClaim::TokenTimeLinearInCut, StudyClaim::BestCutFlips] {
        let (outcome, detail) = outcome(slower, &ROUND_TRIPS, claim);
        assert_eq!(outcome, NotHeld, "{}: {detail}", claim.name());
    }
}

#[test]
fn a_slope_that_falls_is_held_against_costs_that_say_so() {
    // The edge takes 2 ms longer for a layer than the device, and the trials say 1 ms to 3 ms.
    assert_eq!(within(over_signed([-2.0, -3.0, -1.0], -2.0)), None);
    assert_eq!(within(over_signed([-2.0, -2.01, -1.99], -2.0)), Some(true));
    assert_eq!(within(over_signed([-4.0, -4.1, -3.9], -2.0)), Some(false));
}

#[test]
fn bytes_that_depend_on_the_cut_are_told_by_both_claims_about_bytes() {
    let fatter = Nature {
        bytes_per_layer: 1,
        ..AS_THE_LAWS_SAY
    };
    for claim in [
        StudyClaim::CutMovesNoBytes,
        StudyClaim::ArmBytesFollowFormula,
    ] {
        let (outcome, detail) = outcome(fatter, &ROUND_TRIPS, claim);
        assert_eq!(outcome, NotHeld, "{}: {detail}", claim.name());
    }
}

#[test]
fn an_arm_that_answers_something_else_is_told() {
    let other = Nature {
        changes_tokens: true,
        ..AS_THE_LAWS_SAY
    };
    let (outcome, detail) = outcome(other, &ROUND_TRIPS, StudyClaim::ArmsAgree);
    assert_eq!(outcome, NotHeld, "{detail}");
}

/// The outcome where nodes compute on these devices, the first trial of a prompt ends with another token than all
/// others of it, and every other trial knows of these ties.
fn outcome_on(
    devices: [ComputeDevice; 2],
    (is_changed, ties): (bool, &[u32]),
) -> (ExpectationOutcome, String) {
    let (study, mut recorded) = played(AS_THE_LAWS_SAY, &ROUND_TRIPS);
    let trials = recorded.findings.iter_mut().filter_map(|finding| {
        let StudyFinding::Trial(trial) = finding else {
            return None;
        };
        Some(trial)
    });
    for (index, trial) in trials.filter(|trial| trial.prompt == 0).enumerate() {
        if index > 0 {
            trial.ties = ties.to_vec();
        } else if is_changed {
            trial.tokens[11] += 1;
        }
    }
    let mut plan = fixture::plan();
    for (node, device) in plan.nodes.iter_mut().zip(devices) {
        node.compute.device = device;
    }
    plan.studies = vec![study];
    let mut results = fixture::records().results;
    results.phases.push(recorded);
    let judged = judge(&plan, &results, ("cuts", StudyClaim::ArmsAgree));
    (judged.outcome, judged.detail)
}

#[test]
fn another_token_is_excused_on_another_device_alone_and_only_where_two_scores_are_close() {
    let one = [ComputeDevice::Cpu; 2];
    let two = [ComputeDevice::Cpu, ComputeDevice::Cuda(0)];
    for (devices, found, expected) in [
        (two, (false, &[11][..]), Held),
        (two, (true, &[]), NotHeld),
        (two, (true, &[10]), NotHeld),
        // One of so few places may be chance, and may be none.
        (two, (true, &[11]), Undecided),
        (one, (true, &[11]), NotHeld),
        (one, (false, &[11]), Held),
    ] {
        let (outcome, detail) = outcome_on(devices, found);
        assert_eq!(outcome, expected, "{devices:?}, {found:?}: {detail}");
        assert_eq!(
            detail.contains("on several devices"),
            devices == two,
            "{detail}"
        );
    }
}

#[test]
fn a_grid_without_a_row_that_brackets_or_one_that_never_splits_does_not_hold() {
    let (no_bracket, _) = outcome(AS_THE_LAWS_SAY, &[60 * MS], StudyClaim::BestCutFlips);
    assert_eq!(no_bracket, NotHeld);
    let (all_split, _) = outcome(AS_THE_LAWS_SAY, &[MS], StudyClaim::NeverSplits);
    assert_eq!(all_split, NotHeld);
}
