//! Devices that decide as the laws say make the claims hold, and those that do not do not.

use hexloop_topologies::plan::StudyClaim;
use hexloop_workloads::study::own::{
    Decision, Keeping, OutageRecord, Rule, cascade_bytes, early_exit_bytes, keeping,
};
use hexloop_workloads::study::{Arm, Grid, RowRecord, StudyFinding, StudySpec};

use super::super::judge;
use super::*;
use crate::fixture;
use crate::summary::ExpectationOutcome::{self, Held, NotHeld};

const MS: u64 = 1_000_000;
const STATE_BYTES: u64 = 1024;
const PROMPT_TOKENS: u32 = 8;
const OUTPUT_TOKENS: u32 = 20;
const PROMPTS: u32 = 32;
const LAYERS: u32 = 6;
const RATES_BPS: [u64; 4] = [100 * MS, 2 * MS, MS / 5, MS / 50];
const OUTAGE_NS: u64 = 1_000 * MS;

/// What nature does in these trials.
#[derive(Clone, Copy)]
struct Nature {
    /// Whether the edge goes wrong where it is asked in the middle of an answer, as without the states of
    /// earlier tokens.
    edge_errs: bool,
    /// One in so many of the tokens that an exit is sure of is wrong.
    sure_is_wrong: u32,
    /// Bytes beside the formula's for each token that was asked for.
    more_bytes: u64,
    /// Whether each further layer makes exits surer.
    layers_help: bool,
    /// Whether the device waits for the edge in an outage too.
    waits: bool,
    /// Whether tokens cross the link that is out.
    leaks: bool,
    /// Whether the slower of two rates carries more.
    swaps_rates: bool,
}

const AS_THE_LAWS_SAY: Nature = Nature {
    edge_errs: false,
    sure_is_wrong: u32::MAX,
    more_bytes: 0,
    layers_help: true,
    waits: false,
    leaks: false,
    swaps_rates: false,
};

fn thresholds() -> Vec<Threshold> {
    let shares = [0, 300_000, 600_000, 950_000, u32::MAX];
    shares.map(|least_ppm| Threshold { least_ppm }).to_vec()
}

fn arms() -> Vec<Arm> {
    let of_exit = |cut| move |threshold| Arm::EarlyExit { cut, threshold };
    let slide = Threshold { least_ppm: 600_000 };
    let mut arms: Vec<Arm> = thresholds().into_iter().map(of_exit(2)).collect();
    arms.extend([1, 3, 4, 5, LAYERS].map(|cut| of_exit(cut)(slide)));
    let rule = Rule::Mean;
    let of_cascade = |threshold| Arm::Cascade { rule, threshold };
    arms.extend(thresholds().into_iter().map(of_cascade));
    arms
}

/// How sure the device is of each of its tokens, and whether it is right: the same for all arms.
fn own_choice(nature: Nature, prompt: u32, token: u32) -> (u32, bool) {
    let draw = (prompt * 7919 + token * 104_729 + 13) % 1000;
    let confidence = draw * 1000;
    let right = if confidence >= 900_000 {
        (prompt * OUTPUT_TOKENS + token) % nature.sure_is_wrong != 1
    } else {
        confidence >= 300_000
    };
    (confidence, right)
}

fn trial(
    nature: Nature,
    (arm, rate_bps): (&Arm, u64),
    (prompt, number, out): (u32, u32, bool),
) -> TrialRecord {
    let Keeping { family, threshold } = keeping(arm).unwrap();
    let started_ns = u64::from(number) * 10_000 * MS;
    let mut trial = TrialRecord {
        number,
        group: number,
        arm: arm.clone(),
        round_trip_ns: MS,
        rate_bps,
        prompt,
        started_ns,
        token_ns: Vec::new(),
        tokens: Vec::new(),
        hops: Vec::new(),
        busy_ns: vec![0; 2],
        outage: out.then(|| {
            Box::new(OutageRecord {
                from_ns: started_ns,
                until_ns: started_ns + OUTAGE_NS,
            })
        }),
        ..fixture::trial()
    };
    let answer: Vec<(u32, bool)> = (0..OUTPUT_TOKENS)
        .map(|token| own_choice(nature, prompt, token))
        .collect();
    let mean = answer.iter().map(|(confidence, _)| confidence).sum::<u32>() / OUTPUT_TOKENS;
    // Of a cascade, prompts differ in how sure the device is of them.
    let mean = mean / 2 + prompt % 8 * 60_000;
    let cut = match family {
        Family::EarlyExit { cut } => cut,
        Family::Cascade { .. } => 1,
    };
    let mut clock = started_ns;
    for (token, (confidence, right)) in (0..).zip(answer) {
        let (confidence, right) = match family {
            Family::Cascade { .. } => (mean, mean >= 300_000 || token < 3),
            // Each layer more makes tokens surer, and the more layers there are the less.
            Family::EarlyExit { cut } if nature.layers_help => {
                let surer = match cut {
                    0 | 1 => 0,
                    2 => 250_000,
                    3 => 400_000,
                    4 => 480_000,
                    _ => 500_000,
                };
                (confidence + surer, right)
            }
            Family::EarlyExit { .. } => (confidence, right),
        };
        let keeps = threshold.keeps(confidence) || cut == LAYERS;
        let maker = match (keeps, out && threshold != Threshold::REMOTE) {
            (true, _) => Maker::Device,
            (false, true) => Maker::Alone,
            (false, false) => Maker::Edge,
        };
        clock += u64::from(cut) * 4 * MS;
        if maker == Maker::Edge {
            let carries_bps = match nature.swaps_rates {
                true => RATES_BPS[0] * RATES_BPS[3] / rate_bps,
                false => rate_bps,
            };
            clock += 2 * MS + 8 * STATE_BYTES * 1_000_000_000 / carries_bps;
        }
        let stalls = out && !nature.leaks && (threshold == Threshold::REMOTE || nature.waits);
        if stalls {
            clock = clock.max(started_ns + OUTAGE_NS + MS);
        }
        let of_edge = maker == Maker::Edge;
        let errs = of_edge && nature.edge_errs && threshold != Threshold::REMOTE;
        let is_whole = (of_edge || right || cut == LAYERS) && !errs;
        trial.tokens.push(if is_whole { token } else { 999 });
        trial.token_ns.push(clock);
        trial.decisions.push(Decision {
            maker,
            confidence_ppm: Some(confidence),
        });
    }
    let mut bytes = match family {
        Family::EarlyExit { .. } => early_exit_bytes(&trial, u64::from(PROMPT_TOKENS), STATE_BYTES),
        Family::Cascade { .. } => cascade_bytes(&trial, u64::from(PROMPT_TOKENS)),
    };
    let asked = trial
        .decisions
        .iter()
        .filter(|made| made.maker == Maker::Edge)
        .count();
    if threshold != Threshold::REMOTE {
        bytes.up += nature.more_bytes * u64::try_from(asked).unwrap();
    }
    trial.hops = vec![bytes];
    trial
}

fn outcome(nature: Nature, claim: StudyClaim) -> (ExpectationOutcome, String) {
    let study = StudySpec {
        arms: arms(),
        prompts: PROMPTS,
        prompt_tokens: PROMPT_TOKENS,
        output_tokens: OUTPUT_TOKENS,
        grid: Grid {
            round_trips_ns: vec![MS],
            rates_bps: RATES_BPS.to_vec(),
            around_percent: Vec::new(),
        },
        ..fixture::study_spec()
    };
    let row = RowRecord {
        round_trip_ns: MS,
        echo_ns: MS,
        echoes: 1,
        critical_rate_bps: None,
        rates_bps: RATES_BPS.to_vec(),
    };
    let mut findings = vec![StudyFinding::Row(row)];
    let mut number = 0;
    let settings = RATES_BPS.map(|rate| (rate, false));
    for (rate_bps, out) in settings.into_iter().chain([(RATES_BPS[0], true)]) {
        for prompt in 0..PROMPTS {
            for arm in &study.arms {
                let made = trial(nature, (arm, rate_bps), (prompt, number, out));
                findings.push(StudyFinding::Trial(made));
                number += 1;
            }
        }
    }
    let (plan, results) = fixture::with_study("own", study, findings);
    let judged = judge(&plan, &results, ("own", claim));
    (judged.outcome, judged.detail)
}

const CLAIMS: [StudyClaim; 6] = [
    StudyClaim::ArmBytesFollowFormula,
    StudyClaim::QualityRisesWithThreshold,
    StudyClaim::SureExitsAgree,
    StudyClaim::BestCutSlides,
    StudyClaim::DeviceAnswersInOutage,
    StudyClaim::UplinkFollowsEscalation,
];

#[test]
fn a_device_that_follows_the_laws_makes_every_claim_hold() {
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
fn an_edge_that_errs_where_it_is_asked_has_no_rising_quality() {
    let nature = Nature {
        edge_errs: true,
        ..AS_THE_LAWS_SAY
    };
    assert_not_held(nature, StudyClaim::QualityRisesWithThreshold);
}

#[test]
fn exits_that_are_sure_of_what_is_wrong_do_not_agree() {
    let nature = Nature {
        sure_is_wrong: 2,
        ..AS_THE_LAWS_SAY
    };
    assert_not_held(nature, StudyClaim::SureExitsAgree);
}

#[test]
fn bytes_beside_the_formula_are_told_by_both_claims_about_bytes() {
    let nature = Nature {
        more_bytes: 1,
        ..AS_THE_LAWS_SAY
    };
    assert_not_held(nature, StudyClaim::ArmBytesFollowFormula);
    assert_not_held(nature, StudyClaim::UplinkFollowsEscalation);
}

#[test]
fn a_cut_that_moves_towards_the_edge_as_the_rate_falls_does_not_slide_as_it_should() {
    let nature = Nature {
        swaps_rates: true,
        ..AS_THE_LAWS_SAY
    };
    assert_not_held(nature, StudyClaim::BestCutSlides);
}

#[test]
fn whether_the_best_cut_stops_on_its_way_is_told() {
    let (_, detail) = outcome(AS_THE_LAWS_SAY, StudyClaim::BestCutSlides);
    assert!(!detail.contains("in between at 0 of 4 rates"), "{detail}");
    let nature = Nature {
        layers_help: false,
        ..AS_THE_LAWS_SAY
    };
    let (_, detail) = outcome(nature, StudyClaim::BestCutSlides);
    assert!(detail.contains("in between at 0 of 4 rates"), "{detail}");
}

#[test]
fn a_device_that_waits_in_an_outage_and_a_link_that_carries_in_one_are_told() {
    let waits = Nature {
        waits: true,
        ..AS_THE_LAWS_SAY
    };
    assert_not_held(waits, StudyClaim::DeviceAnswersInOutage);
    let leaks = Nature {
        leaks: true,
        ..AS_THE_LAWS_SAY
    };
    assert_not_held(leaks, StudyClaim::DeviceAnswersInOutage);
}

#[test]
fn too_few_tokens_decide_nothing_about_quality() {
    let few = Agreement {
        compared: LEAST_TOKENS - 1,
        same: LEAST_TOKENS - 1,
    };
    let named = ["a", "b", "c"].map(|name| (name.to_owned(), few));
    assert_eq!(rising(&named).outcome, ExpectationOutcome::Undecided);
}

#[test]
fn the_interval_of_a_share_is_wilsons() {
    // 9 of 10: Wilson 1927 gives 0.5958 to 0.9821.
    let nine = Agreement {
        compared: 10,
        same: 9,
    };
    let [share, low, high] = nine.interval().unwrap();
    assert!((share - 0.9).abs() < 1e-12);
    assert!((low - 0.5958).abs() < 1e-4 && (high - 0.9821).abs() < 1e-4);
    assert_eq!(Agreement::default().interval(), None);
}
