//! Speculative decoding as processes: a driver that drafts and a stage that verifies, over the loopback.

use super::harness::{
    Job, SmallModel, bare_study, event_reasons, free_address, requests, study_spec,
    study_spec_of_two,
};
use crate::serve::error::JobError;
use crate::study::speculative::{
    self, Crossing, DraftLength, Drawing, Number, RoundRecord, Speculation,
};
use crate::study::{Arm, Grid, StudyFinding, StudyRole, StudySpec, TrialRecord};

const PROMPT_TOKENS: u32 = 5;
const OUTPUT_TOKENS: u32 = 11;

const CROSSINGS: [Crossing; 4] = [
    Crossing::Ids,
    Crossing::Distributions(Number::F16),
    Crossing::Distributions(Number::F32),
    Crossing::TopK(4),
];

fn study(arms: Vec<Arm>) -> StudySpec {
    StudySpec {
        arms,
        prompts: 2,
        prompt_tokens: PROMPT_TOKENS,
        output_tokens: OUTPUT_TOKENS,
        held_out_prompts: 1,
        grid: Grid {
            round_trips_ns: vec![0],
            rates_bps: vec![1_000_000],
            around_percent: Vec::new(),
        },
        ..bare_study()
    }
}

fn arm(drawing: Drawing, crossing: Crossing, length: DraftLength) -> Arm {
    Arm::Speculative(Speculation {
        drawing,
        crossing,
        length,
    })
}

/// The driver, with its own idea of the small model, and the stage.
fn start([large, small, other]: [&SmallModel; 3], study: &StudySpec) -> (Job, Job) {
    let listen = free_address();
    let role = StudyRole::Stage {
        place: 1,
        study: study.clone(),
        listen,
        next: None,
    };
    let mut stage = Job::start_study(&study_spec_of_two(large, small, role));
    stage.wait_until_ready();
    let seeds = u64::from(study.prompts + study.held_out_prompts);
    let role = StudyRole::Driver {
        study: study.clone(),
        prompt_seeds: (0..seeds).map(|prompt| 100 + prompt).collect(),
        next: Some(listen),
    };
    (
        Job::start_study(&study_spec_of_two(large, other, role)),
        stage,
    )
}

fn play(large: &SmallModel, small: &SmallModel, study: &StudySpec) -> Vec<StudyFinding> {
    let (mut driver, mut stage) = start([large, small, small], study);
    driver.wait_until_ready();
    stage.begin();
    driver.begin();
    let findings = driver.findings_until_idle();
    driver.stop();
    stage.stop();
    findings
}

fn trials(findings: &[StudyFinding]) -> Vec<&TrialRecord> {
    let trials = findings.iter().filter_map(|finding| match finding {
        StudyFinding::Trial(trial) => Some(trial),
        _ => None,
    });
    trials.collect()
}

fn overlaps(findings: &[StudyFinding], asked: Drawing) -> Vec<u32> {
    let records = findings.iter().filter_map(|finding| match finding {
        StudyFinding::Acceptance(record) if record.drawing == asked => Some(&record.overlap_ppm),
        _ => None,
    });
    records.flatten().copied().collect()
}

#[test]
fn greedy_drafts_make_the_tokens_of_the_large_model_alone_whatever_the_small_one() {
    let (large, other) = (SmallModel::new(), SmallModel::of_seed(6));
    let lengths = [1, 2, 5].map(DraftLength::Fixed);
    let lengths = lengths.into_iter().chain([DraftLength::Adaptive]);
    let of_length = |length| arm(Drawing::Greedy, Crossing::Ids, length);
    let baseline = Arm::Remote {
        drawing: Drawing::Greedy,
    };
    let arms: Vec<Arm> = [baseline]
        .into_iter()
        .chain(lengths.map(of_length))
        .collect();
    let study = study(arms);
    let expected: Vec<Vec<u32>> = requests(&[0, 0], PROMPT_TOKENS, OUTPUT_TOKENS)
        .iter()
        .map(|request| large.greedy(request))
        .collect();
    let same = SmallModel::new();
    for (small, accepts_all) in [(&other, false), (&same, true)] {
        let findings = play(&large, small, &study);
        let agreed = overlaps(&findings, Drawing::Greedy);
        assert_eq!(agreed.len(), usize::try_from(OUTPUT_TOKENS).unwrap());
        assert_eq!(agreed.iter().all(|ppm| *ppm == 1_000_000), accepts_all);
        let trials = trials(&findings);
        assert_eq!(trials.len(), 2 * study.arms.len());
        let mut accepted_all = true;
        for trial in trials {
            let name = trial.arm.name();
            let prompt = usize::try_from(trial.prompt).unwrap();
            assert_eq!(trial.tokens, expected[prompt], "{name}");
            assert_eq!(trial.token_ns.len(), trial.tokens.len(), "{name}");
            let formula = match &trial.arm {
                Arm::Speculative(speculation) => speculative::hop_bytes(
                    u64::from(PROMPT_TOKENS),
                    &trial.rounds,
                    (speculation.crossing, large.vocabulary()),
                ),
                _ => speculative::remote_bytes(u64::from(PROMPT_TOKENS), u64::from(OUTPUT_TOKENS)),
            };
            assert_eq!(trial.hops, [formula], "{name}");
            let whole = |round: &RoundRecord| round.drafted == round.accepted;
            accepted_all &= trial.rounds.iter().all(whole);
        }
        assert_eq!(accepted_all, accepts_all);
    }
}

#[test]
fn sampled_drafts_are_reproducible_and_all_accepted_of_a_model_that_drafts_for_itself() {
    let (large, same) = (SmallModel::new(), SmallModel::new());
    let arms = CROSSINGS.map(|crossing| arm(Drawing::Sampled, crossing, DraftLength::Fixed(3)));
    let study = study(arms.to_vec());
    let tokens = |findings: &[StudyFinding]| -> Vec<Vec<u32>> {
        trials(findings)
            .iter()
            .map(|trial| trial.tokens.clone())
            .collect()
    };
    let first = play(&large, &same, &study);
    assert_eq!(tokens(&first), tokens(&play(&large, &same, &study)));
    let overlap = overlaps(&first, Drawing::Sampled);
    assert!(overlap.iter().all(|ppm| *ppm > 999_000), "{overlap:?}");
    for trial in trials(&first) {
        let Arm::Speculative(speculation) = &trial.arm else {
            panic!("{:?}", trial.arm)
        };
        let rejected = trial
            .rounds
            .iter()
            .any(|round| round.accepted < round.drafted);
        // Of the most probable tokens alone, those are drawn too often.
        let exact = !matches!(speculation.crossing, Crossing::TopK(_));
        assert!(
            !(rejected && exact),
            "{}: {:?}",
            trial.arm.name(),
            trial.rounds
        );
    }
    // Prompts differ, and so do their draws.
    let all = tokens(&first);
    assert_ne!(all[0], all[CROSSINGS.len()]);
}

#[test]
fn a_peer_with_another_draft_model_is_told_apart_from_one_with_another_model() {
    let (large, small) = (SmallModel::new(), SmallModel::of_seed(6));
    let study = study(vec![arm(
        Drawing::Greedy,
        Crossing::Ids,
        DraftLength::Fixed(2),
    )]);
    for (models, told) in [
        ([&large, &small, &large], "another draft model"),
        ([&large, &small, &small], ""),
    ] {
        let (mut driver, mut stage) = start(models, &study);
        if told.is_empty() {
            driver.wait_until_ready();
            stage.begin();
            driver.begin();
            assert_eq!(trials(&driver.findings_until_idle()).len(), 2);
            driver.stop();
        } else {
            let (events, _) = driver.end();
            let reasons = event_reasons(&events).join("\n");
            assert!(reasons.contains(told), "{reasons}");
        }
        stage.stop();
    }
}

#[test]
fn drafting_without_a_second_model_is_refused_in_words() {
    let large = SmallModel::new();
    let role = StudyRole::Driver {
        study: study(vec![Arm::Remote {
            drawing: Drawing::Greedy,
        }]),
        prompt_seeds: vec![1, 2, 3],
        next: None,
    };
    let (events, result) = Job::start_study(&study_spec(&large, role)).end();
    assert!(matches!(result, Err(JobError::Spec { .. })), "{result:?}");
    let reasons = event_reasons(&events).join("\n");
    assert!(reasons.contains("no second model"), "{reasons}");
}
