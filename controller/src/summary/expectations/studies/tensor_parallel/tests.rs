//! Halves that do as their laws say make the claims hold, and others do not.

use hexloop_topologies::plan::StudyClaim;
use hexloop_workloads::study::placement::{Placement, Weights};
use hexloop_workloads::study::tensor_parallel::{
    HalfCosts, HalvesRecord, TensorParallel, hop_bytes, token_time_ns,
};
use hexloop_workloads::study::{
    Grid, NodeCosts, RowRecord, StudyFinding, StudySpec, placement, split,
};

use super::super::judge;
use super::*;
use crate::fixture;
use crate::summary::ExpectationOutcome::{self, Held, NotHeld, Undecided};

const MS: u64 = 1_000_000;
const ECHOES_NS: [u64; 4] = [MS / 5, MS, 5 * MS, 10 * MS];
const RATES_BPS: [u64; 2] = [20_000_000, 100_000_000];
const LENGTHS: (u64, u64) = (8, 5);

/// What is not as it should be.
#[derive(Clone, Copy)]
struct Broken {
    more_bytes: u64,
    /// The fourth token of the first prompt is another one, and whether its scores were close.
    other_token: Option<bool>,
    /// Times of halves in percent of what they should be, and further round trips that each token pays.
    percent: u64,
    more_round_trips: u64,
    /// What the split's tokens take besides.
    split_besides_ns: u64,
    prompts: u32,
}

const WELL: Broken = Broken {
    more_bytes: 0,
    other_token: None,
    percent: 100,
    more_round_trips: 0,
    split_besides_ns: 0,
    prompts: 3,
};

const HALF: HalfCosts = HalfCosts {
    attention_ns: MS / 4,
    feed_forward_ns: MS / 2,
    passes: 9,
};

fn costs(layer_ns: u64) -> NodeCosts {
    NodeCosts {
        layer_ns,
        fixed_ns: 0,
        head_ns: Some(MS / 10),
        passes: 9,
    }
}

/// What a claim comes to.
fn outcome(broken: Broken, claim: StudyClaim) -> (ExpectationOutcome, String) {
    let plan = fixture::plan();
    let model = plan.model.as_ref().unwrap();
    let (width, layers) = (u64::from(model.width), model.layers);
    let halves = TensorParallel {
        coding: Coding::F32,
    };
    let arms = vec![
        Arm::TensorParallel(halves),
        Arm::Split {
            ends: vec![1, layers],
            in_flight: 1,
            coding: Coding::F32,
        },
        Arm::Placed(Placement {
            place: 0,
            node: "device".to_owned(),
            weights: Weights::Full,
            nodes: 2,
        }),
    ];
    let node_costs = [costs(2 * MS), costs(MS / 2)];
    let mut findings = vec![
        StudyFinding::Costs(node_costs.to_vec()),
        StudyFinding::Halves(vec![HALF, HALF]),
    ];
    let mut number = 0;
    for echo_ns in ECHOES_NS {
        findings.push(StudyFinding::Row(RowRecord {
            round_trip_ns: echo_ns,
            echo_ns,
            echoes: 21,
            critical_rate_bps: None,
            rates_bps: RATES_BPS.to_vec(),
        }));
        for (rate_bps, prompt) in RATES_BPS
            .into_iter()
            .flat_map(|rate| (0..broken.prompts).map(move |prompt| (rate, prompt)))
        {
            for arm in &arms {
                number += 1;
                let way = (echo_ns, rate_bps);
                let is_halves = exact_halves(arm);
                let gap_ns = match arm {
                    Arm::TensorParallel(_) => {
                        let head_ns = MS / 10;
                        let time = token_time_ns(layers, ([&HALF, &HALF], head_ns), way, 4 * width);
                        time * broken.percent / 100 + broken.more_round_trips * echo_ns
                    }
                    Arm::Split { .. } => {
                        let time = split::token_time_ns(arm, &node_costs, way, 4 * width);
                        time + broken.split_besides_ns
                    }
                    _ => u64::from(layers) * 2 * MS + MS / 10,
                };
                let mut hops = match arm {
                    Arm::TensorParallel(_) => {
                        vec![hop_bytes(layers, LENGTHS, (Coding::F32, width))]
                    }
                    Arm::Split { .. } => split::hop_bytes(1, LENGTHS, (Coding::F32, width)),
                    _ => placement::hop_bytes(0, 1, LENGTHS),
                };
                hops[0].down += broken.more_bytes * u64::from(is_halves);
                let mut tokens = vec![7, 8, 9, 10, 11];
                let mut ties = Vec::new();
                if let (true, 0, Some(is_tie)) = (is_halves, prompt, broken.other_token) {
                    tokens[3] = 99;
                    ties.extend(is_tie.then_some(3));
                }
                findings.push(StudyFinding::Trial(TrialRecord {
                    number,
                    group: number,
                    arm: arm.clone(),
                    round_trip_ns: echo_ns,
                    rate_bps,
                    prompt,
                    token_ns: (1..=LENGTHS.1)
                        .map(|token| token * gap_ns + u64::from(prompt))
                        .collect(),
                    tokens,
                    hops,
                    busy_ns: vec![MS, MS],
                    halves: is_halves.then(|| Box::new(HalvesRecord { ties })),
                    ..fixture::trial()
                }));
            }
        }
    }
    let study = StudySpec {
        arms,
        prompts: broken.prompts,
        prompt_tokens: u32::try_from(LENGTHS.0).unwrap(),
        output_tokens: u32::try_from(LENGTHS.1).unwrap(),
        grid: Grid {
            round_trips_ns: ECHOES_NS.to_vec(),
            rates_bps: RATES_BPS.to_vec(),
            around_percent: Vec::new(),
        },
        ..fixture::study_spec()
    };
    let (plan, results) = fixture::with_study("halves", study, findings);
    let judged = judge(&plan, &results, ("halves", claim));
    (judged.outcome, judged.detail)
}

#[test]
fn halves_that_follow_their_laws_make_every_claim_hold() {
    for claim in [
        StudyClaim::HalvesAgree,
        StudyClaim::HalvesPayRoundTrips,
        StudyClaim::HalvesTakeSum,
        StudyClaim::TensorParallelFallsFirst,
        StudyClaim::ArmBytesFollowFormula,
        StudyClaim::ArmsAgree,
    ] {
        let (outcome, detail) = outcome(WELL, claim);
        assert_eq!(outcome, Held, "{}: {detail}", claim.name());
    }
}

#[test]
fn a_byte_more_another_token_slower_halves_and_a_split_that_falls_first_are_told() {
    let with_other_token = Broken {
        other_token: Some(false),
        ..WELL
    };
    let with_bytes = Broken {
        more_bytes: 1,
        ..WELL
    };
    let with_round_trips = Broken {
        more_round_trips: 3,
        ..WELL
    };
    let slow = Broken {
        percent: 130,
        ..WELL
    };
    // Hardly faster than the first node alone without any round trip, and behind it at once with one.
    let with_slow_split = Broken {
        split_besides_ns: 7 * MS,
        percent: 60,
        ..WELL
    };
    for (broken, claim) in [
        (with_other_token, StudyClaim::HalvesAgree),
        (with_bytes, StudyClaim::ArmBytesFollowFormula),
        (with_round_trips, StudyClaim::HalvesPayRoundTrips),
        (slow, StudyClaim::HalvesTakeSum),
        (with_slow_split, StudyClaim::TensorParallelFallsFirst),
    ] {
        let (outcome, detail) = outcome(broken, claim);
        assert_eq!(outcome, NotHeld, "{}: {detail}", claim.name());
    }
}

#[test]
fn another_token_where_two_are_as_good_is_counted_and_too_few_places_and_lines_decide_nothing() {
    let close = Broken {
        other_token: Some(true),
        ..WELL
    };
    let (held, detail) = outcome(close, StudyClaim::HalvesAgree);
    // One tie in 14 places, of which the last of one answer is not compared.
    assert_eq!(held, Undecided, "{detail}");
    assert!(detail.contains("8 tokens were as good"), "{detail}");
    assert!(detail.contains("at 1 places trials"), "{detail}");
    let few = Broken { prompts: 1, ..WELL };
    for claim in [
        StudyClaim::HalvesPayRoundTrips,
        StudyClaim::TensorParallelFallsFirst,
    ] {
        let (outcome, detail) = outcome(few, claim);
        assert_eq!(outcome, Undecided, "{}: {detail}", claim.name());
    }
    // A split that is behind at every round trip does not fall.
    let never = Broken {
        split_besides_ns: 100 * MS,
        ..WELL
    };
    let (outcome, detail) = outcome(never, StudyClaim::TensorParallelFallsFirst);
    assert_eq!(outcome, Undecided, "{detail}");
}
