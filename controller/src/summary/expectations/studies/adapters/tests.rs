//! Tasks that are served as the formulas say make the claims hold, and others do not.

use hexloop_topologies::plan::StudyClaim;
use hexloop_workloads::study::adapters::{
    AdapterFinding, AdapterServing, AdaptersSpec, WaveRequest, WeightsDelivery, cold_start_ns,
    delivery_frames,
};
use hexloop_workloads::study::{Arm, RowRecord, StudyFinding, StudySpec};

use super::super::judge;
use super::*;
use crate::fixture;
use crate::summary::ExpectationOutcome::{self, Held, NotHeld, Undecided};

const MS: u64 = 1_000_000;
const PROMPT_TOKENS: u32 = 6;
const OUTPUT_TOKENS: u32 = 4;
const TASKS: u32 = 2;
const PROMPTS: u32 = 2;
const ECHO_NS: u64 = 2 * MS;
const RATE_BPS: u64 = 8_000_000;
const PARAMETERS: [u64; 2] = [1_000, 100_000];
const LOAD_NS: [u64; 2] = [MS, 9 * MS];

/// What nature does in a study.
#[derive(Clone, Copy)]
struct Nature {
    /// Parameters of adapters beyond the formula's.
    more_parameters: u64,
    /// Bytes of deliveries beyond their files and frames.
    more_bytes: u64,
    /// Bytes of requests beyond the formula's, and such that one end alone counted.
    more_request_bytes: u64,
    more_at_stage: u64,
    /// How long deliveries take, in percent of the law.
    start_percent: u64,
    /// A place of answers in batches of different adapters that differs, and how near its scores are.
    parts_beside: bool,
    /// The same with merged weights.
    parts_merged: bool,
    gap_millionths: u64,
    /// Micronats of a token with the own adapter; with any other, and none, it is a million.
    own: u64,
    /// In how many milliseconds a wave is over, side by side and one adapter at a time.
    waves_ms: [u64; 2],
}

const AS_IT_SHOULD_BE: Nature = Nature {
    more_parameters: 0,
    more_bytes: 0,
    more_request_bytes: 0,
    more_at_stage: 0,
    start_percent: 103,
    parts_beside: false,
    parts_merged: false,
    gap_millionths: 50_000,
    own: 400_000,
    waves_ms: [60, 120],
};

fn deliveries(nature: Nature) -> Vec<AdapterFinding> {
    let mut all = Vec::new();
    for task in 0..TASKS {
        for (whole, repetition) in [(false, 0), (false, 1), (true, 0), (true, 1)] {
            let kind = usize::from(whole);
            let formula_parameters = PARAMETERS[kind];
            let parameters = formula_parameters + nature.more_parameters;
            let file_bytes = 4 * parameters + 300;
            let frames = delivery_frames(&[file_bytes]);
            let up = delivery_bytes(file_bytes, frames) + nature.more_bytes;
            let law = cold_start_ns(up, RATE_BPS, (ECHO_NS, LOAD_NS[kind]));
            // No two are the same.
            let took = law * (nature.start_percent + repetition) / 100;
            all.push(AdapterFinding::Delivery(WeightsDelivery {
                task,
                whole,
                round_trip_ns: 1,
                rate_bps: RATE_BPS,
                parameters,
                formula_parameters,
                parameter_bytes: 4 * parameters,
                file_bytes,
                frames,
                up,
                started_ns: 5,
                ended_ns: 5 + took,
                load_ns: LOAD_NS[kind],
            }));
        }
    }
    all
}

fn answer(task: u32, prompt: u32) -> Vec<u32> {
    (0..OUTPUT_TOKENS)
        .map(|place| 100 * task + 10 * prompt + place)
        .collect()
}

fn waves(nature: Nature) -> Vec<AdapterFinding> {
    let formula = request_bytes(u64::from(PROMPT_TOKENS), u64::from(OUTPUT_TOKENS));
    let mut all = Vec::new();
    for repetition in 0..6 {
        for (serving, wave_ms) in [Serving::Together, Serving::Switched]
            .into_iter()
            .zip(nature.waves_ms)
        {
            let request = |task: u32, prompt: u32| {
                let mut tokens = answer(task, prompt);
                if nature.parts_beside && serving == Serving::Together && prompt == 0 {
                    tokens[2] += 1;
                }
                let last_ns = wave_ms * MS * u64::from(task + 1) / u64::from(TASKS);
                WaveRequest {
                    task,
                    prompt,
                    sent_ns: 0,
                    token_ns: vec![last_ns; tokens.len()],
                    tokens,
                    up: formula.0 + nature.more_request_bytes,
                    down: formula.1,
                }
            };
            let requests: Vec<WaveRequest> = (0..TASKS)
                .flat_map(|task| (0..PROMPTS).map(move |prompt| (task, prompt)))
                .map(|(task, prompt)| request(task, prompt))
                .collect();
            all.push(AdapterFinding::Wave(WaveRecord {
                number: 0,
                arm: AdapterServing { serving, batch: 4 },
                round_trip_ns: 1,
                rate_bps: RATE_BPS,
                repetition,
                from_ns: 0,
                until_ns: wave_ms * MS,
                passes: 3,
                sequences: 12,
                switches: 0,
                up: requests.iter().map(|it| it.up).sum::<u64>() + nature.more_at_stage,
                down: requests.iter().map(|it| it.down).sum(),
                requests,
            }));
        }
    }
    all
}

fn appraised(nature: Nature) -> Vec<AdapterFinding> {
    let mut all = Vec::new();
    for task in 0..TASKS {
        for prompt in 0..PROMPTS {
            let tokens = answer(task, prompt);
            let mut merged = tokens.clone();
            if nature.parts_merged && prompt == 1 {
                merged[3] += 1;
            }
            let mut gap_millionths = vec![50_000; tokens.len()];
            gap_millionths[2] = nature.gap_millionths;
            gap_millionths[3] = nature.gap_millionths;
            all.push(AdapterFinding::Alone(AloneRecord {
                task,
                prompt,
                tokens,
                gap_millionths,
                merged: Some(merged),
            }));
        }
        for adapter in [None, Some(0), Some(1)] {
            let each = match adapter == Some(task) {
                true => nature.own,
                false => 1_000_000,
            };
            let paragraph = |number: u64| 10 * each + number * 1000;
            all.push(AdapterFinding::Loss(TaskLossRecord {
                text: task,
                adapter,
                tokens: vec![10; 6],
                micronats: (0..6).map(paragraph).collect(),
            }));
        }
    }
    all
}

fn outcome(nature: Nature, claim: StudyClaim) -> (ExpectationOutcome, String) {
    let mut findings = vec![StudyFinding::Row(RowRecord {
        round_trip_ns: 1,
        echo_ns: ECHO_NS,
        echoes: 21,
        critical_rate_bps: None,
        rates_bps: vec![RATE_BPS],
    })];
    let all = [deliveries(nature), waves(nature), appraised(nature)];
    findings.extend(all.into_iter().flatten().map(StudyFinding::Adapters));
    let arm = |serving| Arm::Adapters(AdapterServing { serving, batch: 4 });
    let study = StudySpec {
        arms: Serving::ALL.map(arm).to_vec(),
        prompts: PROMPTS,
        prompt_tokens: PROMPT_TOKENS,
        output_tokens: OUTPUT_TOKENS,
        adapters: Some(AdaptersSpec {
            tasks: vec!["orders".to_owned(), "weather".to_owned()],
            wave: TASKS * PROMPTS,
            repetitions: 6,
            deadline_ns: 100 * MS,
        }),
        ..fixture::study_spec()
    };
    let (plan, results) = fixture::with_study("tasks", study, findings);
    let judged = judge(&plan, &results, ("tasks", claim));
    (judged.outcome, judged.detail)
}

fn assert_not_held(nature: Nature, claim: StudyClaim) {
    let (outcome, detail) = outcome(nature, claim);
    assert_eq!(outcome, NotHeld, "{}: {detail}", claim.name());
}

#[test]
fn tasks_that_are_served_as_the_formulas_say_make_the_claims_hold() {
    for claim in [
        StudyClaim::AdapterBytesAreDelta,
        StudyClaim::ArmBytesFollowFormula,
        StudyClaim::ColdStartIsSum,
        StudyClaim::AdaptersAnswerAlike,
        StudyClaim::AdaptersMatter,
        StudyClaim::TogetherServesAsMany,
    ] {
        let (outcome, detail) = outcome(AS_IT_SHOULD_BE, claim);
        assert_eq!(outcome, Held, "{}: {detail}", claim.name());
    }
}

#[test]
fn parameters_and_bytes_beyond_the_formula_are_told() {
    let fatter = Nature {
        more_parameters: 8,
        ..AS_IT_SHOULD_BE
    };
    assert_not_held(fatter, StudyClaim::AdapterBytesAreDelta);
    let padded = Nature {
        more_bytes: 1,
        ..AS_IT_SHOULD_BE
    };
    assert_not_held(padded, StudyClaim::AdapterBytesAreDelta);
    let longer = Nature {
        more_request_bytes: 4,
        ..AS_IT_SHOULD_BE
    };
    assert_not_held(longer, StudyClaim::ArmBytesFollowFormula);
    let counted = Nature {
        more_at_stage: 1,
        ..AS_IT_SHOULD_BE
    };
    assert_not_held(counted, StudyClaim::ArmBytesFollowFormula);
}

#[test]
fn a_cold_start_that_takes_longer_than_its_parts_is_told() {
    let slower = Nature {
        start_percent: 140,
        ..AS_IT_SHOULD_BE
    };
    assert_not_held(slower, StudyClaim::ColdStartIsSum);
}

#[test]
fn another_answer_is_told_unless_scores_were_near_and_then_counted() {
    for (parts_beside, parts_merged) in [(true, false), (false, true)] {
        let other = Nature {
            parts_beside,
            parts_merged,
            ..AS_IT_SHOULD_BE
        };
        assert_not_held(other, StudyClaim::AdaptersAnswerAlike);
    }
    // So many of so few places are no chance.
    let near = Nature {
        parts_merged: true,
        parts_beside: true,
        gap_millionths: 10,
        ..AS_IT_SHOULD_BE
    };
    let (outcome, detail) = outcome(near, StudyClaim::AdaptersAnswerAlike);
    assert_eq!(outcome, NotHeld, "{detail}");
    assert!(detail.contains(" 0 differ"), "{detail}");
}

#[test]
fn adapters_that_learnt_nothing_are_told() {
    let useless = Nature {
        own: 1_000_000,
        ..AS_IT_SHOULD_BE
    };
    assert_not_held(useless, StudyClaim::AdaptersMatter);
    let harmful = Nature {
        own: 1_200_000,
        ..AS_IT_SHOULD_BE
    };
    assert_not_held(harmful, StudyClaim::AdaptersMatter);
}

#[test]
fn fewer_in_time_side_by_side_are_told_and_a_deadline_that_all_keep_decides_nothing() {
    let slower = Nature {
        waves_ms: [180, 90],
        ..AS_IT_SHOULD_BE
    };
    assert_not_held(slower, StudyClaim::TogetherServesAsMany);
    let easy = Nature {
        waves_ms: [20, 30],
        ..AS_IT_SHOULD_BE
    };
    let (outcome, detail) = outcome(easy, StudyClaim::TogetherServesAsMany);
    assert_eq!(outcome, Undecided, "{detail}");
}
