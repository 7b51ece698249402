//! Contexts that come as the laws say make the claims hold, and those that do not do not.

use hexloop_topologies::plan::{BesidePlan, StudyClaim, StudyPlan};
use hexloop_workloads::study::kv::{CodingCosts, LossRecord, TransferRecord, hop_bytes};
use hexloop_workloads::study::{Arm, Grid, RowRecord, StudyFinding, StudySpec, TrialRecord};
use hexloop_workloads::transport::Transport;

use super::super::judge;
use super::*;
use crate::fixture;
use crate::results::PhaseResults;
use crate::summary::ExpectationOutcome::{self, Held, NotHeld, Undecided};

const MS: u64 = 1_000_000;
const PROMPT_TOKENS: u32 = 72;
const PROMPTS: u32 = 3;
const HELD_OUT: u32 = 6;
const RATES_BPS: [u64; 6] = [MS / 3, MS, 4 * MS, 20 * MS, 60 * MS, 400 * MS];

/// What nature does in these trials.
#[derive(Clone, Copy)]
struct Nature {
    /// Of the rate that was asked for, what the link carries, in percent.
    carries_percent: u64,
    /// To compute a context again, beside what was measured, in percent.
    recompute_percent: u64,
    /// What contexts of each prompt take at the second rate when they are coded in 4 bits, in percent.
    by_chance_percent: [u64; 3],
    /// What an adaptive arm chooses whatever the rate is.
    always: Option<Delivery>,
    /// Bytes beside the formula's.
    more_bytes: u64,
    /// Whether exact keys and values lead elsewhere.
    derails: bool,
    /// Divergence of each coding from exact ones in micro-nats a token.
    divergences: [u64; 4],
    /// By how much the text is more surprising with 4 bits, in micro-nats a token.
    surprise: u64,
}

const AS_THE_LAWS_SAY: Nature = Nature {
    carries_percent: 100,
    recompute_percent: 100,
    by_chance_percent: [100; 3],
    always: None,
    more_bytes: 0,
    derails: false,
    divergences: [0, 1, 40, 900],
    surprise: 10_000,
};

fn study() -> StudySpec {
    let arm = |delivery| Arm::KeyValues {
        delivery,
        source: Source::Stored,
    };
    StudySpec {
        arms: Delivery::ALL.map(arm).to_vec(),
        prompts: PROMPTS,
        prompt_tokens: PROMPT_TOKENS,
        output_tokens: 2,
        held_out_prompts: HELD_OUT,
        grid: Grid {
            round_trips_ns: vec![2 * MS],
            rates_bps: RATES_BPS.to_vec(),
            around_percent: Vec::new(),
        },
        ..fixture::study_spec()
    }
}

fn costs() -> DeliveryCosts {
    let of = |coding, encode_ns, decode_ns| CodingCosts {
        coding,
        encode_ns,
        decode_ns,
    };
    DeliveryCosts {
        recompute_ns: 800 * MS,
        prefill_ns: 20 * MS,
        answer_ns: 100 * MS,
        codings: vec![
            of(KvCoding::F32, MS, 10 * MS),
            of(KvCoding::F16, MS, 45 * MS),
            of(KvCoding::Int8, 2 * MS, 60 * MS),
            of(KvCoding::Int4, 2 * MS, 70 * MS),
        ],
        passes: 5,
    }
}

fn trial(
    nature: Nature,
    findings: &Findings<'_>,
    (arm, rate_bps): (&Arm, u64),
    (prompt, number): (u32, u32),
) -> TrialRecord {
    let Arm::KeyValues { delivery, source } = *arm else {
        panic!("{arm:?}")
    };
    let costs = costs();
    let at = findings.circumstances(findings.rows[0], source);
    let offered = findings.plan.study.deliveries();
    let chosen = match (delivery, nature.always) {
        (Delivery::Adaptive, Some(always)) => always,
        (Delivery::Adaptive, None) => costs.fastest(&offered, &at, rate_bps).unwrap(),
        (fixed, _) => fixed,
    };
    let carried = rate_bps * nature.carries_percent / 100;
    let mut time = costs.expected_ns(chosen, &at, carried).unwrap();
    if chosen == Delivery::Recompute {
        time = time - costs.recompute_ns + costs.recompute_ns * nature.recompute_percent / 100;
    }
    if (chosen, rate_bps) == (Delivery::Ship(KvCoding::Int4), RATES_BPS[1]) {
        time = time * nature.by_chance_percent[prompt as usize] / 100;
    }
    let mut bytes = hop_bytes(chosen, findings.context());
    bytes.down += nature.more_bytes;
    let started_ns = u64::from(number) * 100_000 * MS;
    let context_ns = started_ns + time + u64::from(prompt) * MS / 10;
    let first = context_ns + costs.answer_ns;
    let derailed = nature.derails && delivery == Delivery::Ship(KvCoding::F32);
    TrialRecord {
        number,
        group: number,
        arm: arm.clone(),
        round_trip_ns: 2 * MS,
        rate_bps,
        prompt,
        started_ns,
        token_ns: vec![first, first + MS],
        tokens: vec![u32::from(derailed), prompt],
        hops: vec![bytes],
        busy_ns: vec![0; 2],
        transfer: Some(TransferRecord {
            delivery: chosen,
            measured_bps: (delivery == Delivery::Adaptive).then_some(rate_bps),
            context_ns,
        }),
        ..fixture::trial()
    }
}

fn losses(nature: Nature, held_out: u32) -> Vec<StudyFinding> {
    let pairs = KvCoding::ALL.into_iter().zip(nature.divergences);
    let of = |prompt: u32| {
        pairs.clone().map(move |(coding, divergence)| {
            let more = match coding {
                KvCoding::Int4 => nature.surprise * (100 + u64::from(prompt)) / 100,
                _ => 0,
            };
            StudyFinding::Loss(LossRecord {
                coding,
                prompt,
                tokens: 10,
                surprise_nano: 10_000 * (800_000 + u64::from(prompt) * 5000 + more),
                divergence_nano: 10_000 * divergence,
                same_choice: 9,
                largest_delta_micro: divergence,
            })
        })
    };
    (0..held_out).flat_map(of).collect()
}

fn outcome_of(nature: Nature, claim: StudyClaim, held_out: u32) -> (ExpectationOutcome, String) {
    let study = study();
    let row = RowRecord {
        round_trip_ns: 2 * MS,
        echo_ns: 2 * MS,
        echoes: 1,
        critical_rate_bps: None,
        rates_bps: RATES_BPS.to_vec(),
    };
    let mut plan = fixture::plan();
    plan.studies = vec![StudyPlan {
        name: "contexts".to_owned(),
        path: vec!["device".to_owned(), "edge".to_owned()],
        hops: vec![BesidePlan {
            link: "radio".to_owned(),
            address: "198.18.0.2:27800".parse().unwrap(),
        }],
        transport: Transport::Tcp,
        study: study.clone(),
        duration_ns: 1,
    }];
    let mut recorded = PhaseResults {
        name: "contexts".to_owned(),
        end: fixture::records()
            .results
            .phases
            .first()
            .and_then(|phase| phase.end.clone()),
        findings: vec![StudyFinding::Delivery(costs()), StudyFinding::Row(row)],
        ..PhaseResults::default()
    };
    recorded.findings.extend(losses(nature, held_out));
    let mut trials = Vec::new();
    {
        let model = plan.model.as_ref().unwrap();
        let findings = Findings::of(&plan.studies[0], model, &recorded);
        let mut number = 0;
        for rate_bps in RATES_BPS {
            for prompt in 0..PROMPTS {
                for arm in &study.arms {
                    let made = trial(nature, &findings, (arm, rate_bps), (prompt, number));
                    trials.push(StudyFinding::Trial(made));
                    number += 1;
                }
            }
        }
    }
    recorded.findings.extend(trials);
    let mut results = fixture::records().results;
    results.phases.push(recorded);
    let judged = judge(&plan, &results, ("contexts", claim));
    (judged.outcome, judged.detail)
}

fn outcome(nature: Nature, claim: StudyClaim) -> (ExpectationOutcome, String) {
    outcome_of(nature, claim, HELD_OUT)
}

const CLAIMS: [StudyClaim; 6] = [
    StudyClaim::ArmBytesFollowFormula,
    StudyClaim::ArmsAgree,
    StudyClaim::FirstTokenIsSum,
    StudyClaim::RegimesAsPredicted,
    StudyClaim::AdaptiveNearBest,
    StudyClaim::LossGrowsAsBitsFall,
];

#[test]
fn contexts_that_come_as_the_laws_say_make_every_claim_hold() {
    for claim in CLAIMS {
        let (outcome, detail) = outcome(AS_THE_LAWS_SAY, claim);
        assert_eq!(outcome, Held, "{}: {detail}", claim.name());
    }
}

fn assert_not_held(nature: Nature, claim: StudyClaim) {
    let (outcome, detail) = outcome(nature, claim);
    assert_eq!(outcome, NotHeld, "{}: {detail}", claim.name());
}

#[test]
fn bytes_beside_the_formula_and_tokens_of_another_text_are_told() {
    let nature = Nature {
        more_bytes: 1,
        ..AS_THE_LAWS_SAY
    };
    assert_not_held(nature, StudyClaim::ArmBytesFollowFormula);
    let nature = Nature {
        derails: true,
        ..AS_THE_LAWS_SAY
    };
    assert_not_held(nature, StudyClaim::ArmsAgree);
}

#[test]
fn a_link_that_carries_half_of_its_rate_takes_longer_than_bytes_and_costs() {
    let nature = Nature {
        carries_percent: 40,
        ..AS_THE_LAWS_SAY
    };
    assert_not_held(nature, StudyClaim::FirstTokenIsSum);
}

#[test]
fn costs_that_are_not_what_was_measured_put_the_regimes_elsewhere() {
    let nature = Nature {
        recompute_percent: 25,
        ..AS_THE_LAWS_SAY
    };
    assert_not_held(nature, StudyClaim::RegimesAsPredicted);
    let nature = Nature {
        carries_percent: 10,
        ..AS_THE_LAWS_SAY
    };
    assert_not_held(nature, StudyClaim::RegimesAsPredicted);
}

#[test]
fn a_way_that_is_slower_by_chance_decides_nothing_about_the_regimes() {
    let slow = |by_chance_percent| {
        let nature = Nature {
            by_chance_percent,
            ..AS_THE_LAWS_SAY
        };
        outcome(nature, StudyClaim::RegimesAsPredicted)
    };
    let (by_chance, detail) = slow([100, 180, 400]);
    assert_eq!(by_chance, Undecided, "{detail}");
    let (surely, detail) = slow([390, 400, 410]);
    assert_eq!(surely, NotHeld, "{detail}");
}

#[test]
fn an_adaptive_arm_that_does_not_adapt_is_told() {
    for always in [Delivery::Recompute, Delivery::Ship(KvCoding::F32)] {
        let nature = Nature {
            always: Some(always),
            ..AS_THE_LAWS_SAY
        };
        let (outcome, detail) = outcome(nature, StudyClaim::AdaptiveNearBest);
        assert_ne!(outcome, Held, "{detail}");
    }
    // Nearly as wrong everywhere.
    let nature = Nature {
        always: Some(Delivery::Recompute),
        recompute_percent: 400,
        ..AS_THE_LAWS_SAY
    };
    assert_not_held(nature, StudyClaim::AdaptiveNearBest);
}

#[test]
fn a_coding_that_loses_more_than_one_of_fewer_bits_or_more_than_the_bound_is_told() {
    for divergences in [[0, 50, 40, 900], [0, 1, 1000, 900], [1, 2, 40, 900]] {
        let nature = Nature {
            divergences,
            ..AS_THE_LAWS_SAY
        };
        assert_not_held(nature, StudyClaim::LossGrowsAsBitsFall);
    }
    let nature = Nature {
        surprise: 100_000,
        ..AS_THE_LAWS_SAY
    };
    assert_not_held(nature, StudyClaim::LossGrowsAsBitsFall);
}

#[test]
fn one_held_out_prompt_decides_nothing_about_losses() {
    let claim = StudyClaim::LossGrowsAsBitsFall;
    let (outcome, detail) = outcome_of(AS_THE_LAWS_SAY, claim, 1);
    assert_eq!(outcome, Undecided, "{detail}");
}
