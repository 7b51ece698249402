//! Requests on traces: rounds that begin with the traces, requests that are due at set moments of them, and
//! answers that are those of the settings.

use super::harness::{SmallModel, bare_study, played_by_two};
use crate::coding::Coding;
use crate::study::kpi::{KpiSpec, ROWS, hop_bytes};
use crate::study::kv::{Delivery, QUESTION_TOKENS, Source};
use crate::study::multimodal::{ATTRIBUTES, Encoder, Look};
use crate::study::placement::{Placement, PlacementPolicy, Weights};
use crate::study::traced::{TracedSpec, TracedTrial};
use crate::study::{Arm, StudyFinding, StudySpec, TrialRecord};

const MS: u64 = 1_000_000;

const ON_TRACES: TracedSpec = TracedSpec {
    requests: 3,
    every_ns: 20 * MS,
    repetitions: 2,
};

const PROMPTS: u32 = 2;

fn study(arms: Vec<Arm>) -> StudySpec {
    StudySpec {
        arms,
        prompts: PROMPTS,
        prompt_tokens: QUESTION_TOKENS + 6,
        output_tokens: 3,
        traced: Some(ON_TRACES),
        ..bare_study()
    }
}

/// The trials at settings, and those on the traces.
fn played(study: &StudySpec) -> (Vec<TrialRecord>, Vec<TracedTrial>) {
    played_with(&SmallModel::new(), study)
}

fn played_with(model: &SmallModel, study: &StudySpec) -> (Vec<TrialRecord>, Vec<TracedTrial>) {
    let seeds = (100..).take(usize::try_from(PROMPTS).unwrap()).collect();
    let (mut trials, mut traced) = (Vec::new(), Vec::new());
    for finding in played_by_two(model, study.clone(), seeds) {
        match finding {
            StudyFinding::Trial(trial) => trials.push(trial),
            StudyFinding::Traced(one) => traced.push(*one),
            _ => {}
        }
    }
    (trials, traced)
}

/// Checks that rounds are what was asked for.
fn expect_rounds(arms: &[&Arm], traced: &[TracedTrial]) {
    let size = usize::try_from(ON_TRACES.requests).unwrap();
    let rounds: Vec<&[TracedTrial]> = traced.chunks(size).collect();
    assert_eq!(rounds.len(), 2 * arms.len());
    let mut before_ns = 0;
    for (number, round) in rounds.iter().enumerate() {
        let from_ns = round[0].from_ns;
        assert!(
            from_ns >= before_ns,
            "traces begin anew after the last answer"
        );
        for (request, one) in (0_u32..).zip(*round) {
            assert_eq!(one.trial.arm, *arms[number % arms.len()]);
            let repetition = u32::try_from(number / arms.len()).unwrap();
            assert_eq!(one.place(), (repetition, request));
            assert_eq!(one.trial.prompt, request % PROMPTS);
            assert_eq!(one.from_ns, from_ns);
            assert_eq!(one.position_ns(), u64::from(request) * 20 * MS);
            assert!(one.trial.started_ns >= one.due_ns, "none is asked early");
            assert!(one.first_token_ns() <= one.answer_ns());
            assert_eq!((one.trial.round_trip_ns, one.trial.rate_bps), (0, 0));
            before_ns = *one.trial.token_ns.last().unwrap();
        }
    }
}

/// Whatever is exact answers on the traces as it does at the settings.
fn expect_the_same_tokens(trials: &[TrialRecord], traced: &[TracedTrial]) {
    for one in traced.iter().filter(|one| one.trial.arm.is_exact()) {
        let mut others = trials.iter().filter(|trial| trial.arm.is_exact());
        let same = others.find(|trial| trial.prompt == one.trial.prompt);
        assert_eq!(one.trial.tokens, same.unwrap().tokens);
    }
}

#[test]
fn splits_with_one_request_under_way_are_asked_at_the_same_moments_of_the_traces() {
    let arm = |ends: [u32; 2], in_flight| Arm::Split {
        ends: ends.to_vec(),
        in_flight,
        coding: Coding::F32,
    };
    let layers = SmallModel::new().layers();
    let study = study(vec![
        arm([1, layers], 1),
        arm([1, layers], 2),
        arm([layers, layers], 1),
    ]);
    let (trials, traced) = played(&study);
    expect_rounds(&[&study.arms[0], &study.arms[2]], &traced);
    expect_the_same_tokens(&trials, &traced);
}

#[test]
fn contexts_that_come_as_the_rate_of_the_moment_says_are_asked_for_there_too() {
    let arm = |delivery| Arm::KeyValues {
        delivery,
        source: Source::Stored,
    };
    let study = study([Delivery::Recompute, Delivery::Adaptive].map(arm).to_vec());
    let (trials, traced) = played(&study);
    let arms: Vec<&Arm> = study.arms.iter().collect();
    expect_rounds(&arms, &traced);
    expect_the_same_tokens(&trials, &traced);
    for one in traced.iter().filter(|one| one.trial.arm.adapts()) {
        let measured = one.trial.transfer.unwrap().measured_bps;
        assert!(measured.is_some_and(|rate| rate > 0));
    }
}

#[test]
fn a_policy_looks_at_the_way_before_each_request() {
    let placed = |place: u32| {
        Arm::Placed(Placement {
            place,
            node: place.to_string(),
            weights: Weights::Full,
            nodes: 2,
        })
    };
    let policy = Arm::Policy(PlacementPolicy {
        deadline_ns: 3_600_000 * MS,
        nodes: 2,
    });
    let study = study(vec![placed(0), placed(1), policy]);
    let (trials, traced) = played(&study);
    let arms: Vec<&Arm> = study.arms.iter().collect();
    expect_rounds(&arms, &traced);
    expect_the_same_tokens(&trials, &traced);
    assert!(traced.iter().all(|one| one.trial.placed.is_some()));
}

#[test]
fn images_are_asked_about_at_the_same_moments_of_the_traces() {
    let arm = |encoder| {
        Arm::Look(Look {
            encoder,
            merge: 16,
            coding: Coding::F32,
        })
    };
    let study = StudySpec {
        prompt_tokens: 1,
        output_tokens: ATTRIBUTES,
        ..study([Encoder::Edge, Encoder::Device].map(arm).to_vec())
    };
    let (trials, traced) = played_with(&SmallModel::with_eyes(), &study);
    let arms: Vec<&Arm> = study.arms.iter().collect();
    expect_rounds(&arms, &traced);
    expect_the_same_tokens(&trials, &traced);
}

#[test]
fn rows_of_the_tables_are_sent_at_the_same_moments_of_the_traces_and_at_no_percentage_there() {
    let kpi = KpiSpec {
        tables: vec!["7.10.1-1".to_owned()],
        percents: vec![125],
        scale: 100,
        most_rate_bps: 100_000_000,
    };
    // One up and one down.
    let (up, down) = (0, 4);
    let arms = vec![
        Arm::Kpi {
            row: up,
            percent: 125,
        },
        Arm::KpiOnTrace { row: up },
        Arm::KpiOnTrace { row: down },
    ];
    let study = StudySpec {
        kpi: Some(kpi.clone()),
        ..study(arms)
    };
    let (trials, traced) = played(&study);
    assert_eq!(trials.len(), usize::try_from(PROMPTS).unwrap());
    assert!(trials.iter().all(|trial| trial.arm == study.arms[0]));
    expect_rounds(&[&study.arms[1], &study.arms[2]], &traced);
    for one in &traced {
        let Arm::KpiOnTrace { row } = one.trial.arm else {
            panic!("{}", one.trial.arm.name())
        };
        let row = &ROWS[usize::try_from(row).unwrap()];
        let flow = kpi.flow(row).unwrap();
        assert_eq!(one.trial.hops, [hop_bytes(row.way, flow.payload_bytes)]);
    }
}

#[test]
fn rows_that_are_sent_on_the_traces_alone_are_tried_at_no_setting() {
    let study = StudySpec {
        kpi: Some(KpiSpec {
            tables: Vec::new(),
            percents: Vec::new(),
            scale: 100,
            most_rate_bps: 100_000_000,
        }),
        ..study(vec![Arm::KpiOnTrace { row: 0 }])
    };
    let (trials, traced) = played(&study);
    assert!(trials.is_empty());
    expect_rounds(&[&study.arms[0]], &traced);
}
