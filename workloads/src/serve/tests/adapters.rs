//! Tasks that share a backbone, as processes over the loopback.

use std::collections::BTreeMap;

use super::harness::{SmallModel, bare_study, played_by_two};
use crate::study::adapters::{
    AdapterFinding, AdapterServing, AdaptersSpec, AloneRecord, CLOSE_MILLIONTHS, Serving,
    WaveRecord, delivery_bytes, request_bytes,
};
use crate::study::{Arm, Grid, StudyFinding, StudySpec};

const TASKS: [&str; 3] = ["one", "two", "three"];
const PROMPT_TOKENS: u32 = 8;
const OUTPUT_TOKENS: u32 = 5;

fn study(servings: &[Serving]) -> StudySpec {
    let arm = |serving: &Serving| {
        Arm::Adapters(AdapterServing {
            serving: *serving,
            batch: 4,
        })
    };
    StudySpec {
        arms: servings.iter().map(arm).collect(),
        prompts: 2,
        prompt_tokens: PROMPT_TOKENS,
        output_tokens: OUTPUT_TOKENS,
        held_out_prompts: 3,
        grid: Grid {
            round_trips_ns: vec![0],
            rates_bps: vec![1_000_000, 2_000_000],
            around_percent: Vec::new(),
        },
        adapters: Some(AdaptersSpec {
            tasks: TASKS.map(str::to_owned).to_vec(),
            wave: 7,
            repetitions: 2,
            deadline_ns: 1,
        }),
        ..bare_study()
    }
}

fn found(servings: &[Serving]) -> Vec<AdapterFinding> {
    let model = SmallModel::with_adapters(&TASKS, 3);
    let findings = played_by_two(&model, study(servings), vec![1, 2]);
    let findings = findings.into_iter().filter_map(|finding| match finding {
        StudyFinding::Adapters(finding) => Some(finding),
        _ => None,
    });
    findings.collect()
}

fn alone(findings: &[AdapterFinding]) -> BTreeMap<(u32, u32), &AloneRecord> {
    let records = findings.iter().filter_map(|finding| match finding {
        AdapterFinding::Alone(record) => Some(((record.task, record.prompt), record)),
        _ => None,
    });
    records.collect()
}

fn waves(findings: &[AdapterFinding]) -> Vec<&WaveRecord> {
    let waves = findings.iter().filter_map(|finding| match finding {
        AdapterFinding::Wave(wave) => Some(wave),
        _ => None,
    });
    waves.collect()
}

/// Whether two answers are the same, or part where two scores are nearly so.
fn agrees(found: &[u32], alone: &AloneRecord) -> bool {
    let mut pairs = found.iter().zip(&alone.tokens);
    match pairs.position(|(found, own)| found != own) {
        None => found.len() == alone.tokens.len(),
        Some(place) => alone.gap_millionths[place] < CLOSE_MILLIONTHS,
    }
}

#[test]
fn tasks_come_over_the_link_and_are_answered_alike_beside_others_alone_and_merged() {
    let findings = found(&Serving::ALL);
    let alone = alone(&findings);
    assert_eq!(alone.len(), 6);
    let answers: std::collections::BTreeSet<_> = alone.values().map(|it| &it.tokens).collect();
    // More answers than prompts: some task's is its own.
    assert!(answers.len() > 2, "adapters that change nothing");
    for record in alone.values() {
        let merged = record.merged.as_ref().unwrap();
        let places = merged
            .iter()
            .zip(&record.tokens)
            .zip(&record.gap_millionths);
        assert!(
            places
                .into_iter()
                .all(|((merged, own), gap)| merged == own || *gap < CLOSE_MILLIONTHS)
        );
    }
    let waves = waves(&findings);
    assert_eq!(waves.len(), 2 * 2 * 3);
    let formula = request_bytes(u64::from(PROMPT_TOKENS), u64::from(OUTPUT_TOKENS));
    for wave in &waves {
        assert_eq!(wave.requests.len(), 7);
        for request in &wave.requests {
            assert_eq!((request.up, request.down), formula);
            assert!(agrees(
                &request.tokens,
                alone[&(request.task, request.prompt)]
            ));
        }
        assert_eq!((wave.up, wave.down), (7 * formula.0, 7 * formula.1));
        // All but the first token of each come of passes.
        assert_eq!(wave.sequences, 7 * u64::from(OUTPUT_TOKENS - 1));
        let is_mixed = wave.arm.serving == Serving::Together;
        // Three, two and two of a task, one task after the other; or four and three of any.
        assert_eq!(wave.switches, if is_mixed { 0 } else { 2 });
        let passes = if is_mixed { 2 } else { 3 } * u64::from(OUTPUT_TOKENS - 1);
        assert_eq!(wave.passes, passes, "{:?}", wave.arm);
    }
    let losses = findings.iter().filter(
        |finding| matches!(finding, AdapterFinding::Loss(loss) if loss.micronats.len() == 3),
    );
    assert_eq!(losses.count(), 3 * 4);
}

#[test]
fn deliveries_are_the_parameters_of_the_formula_and_a_full_model_comes_where_an_arm_needs_it() {
    for (servings, each) in [
        (Serving::ALL.as_slice(), [3 * 3, 3]),
        (&[Serving::Together, Serving::Switched], [3 * 3, 0]),
    ] {
        let findings = found(servings);
        let mut counted = [0, 0];
        for finding in &findings {
            let AdapterFinding::Delivery(delivery) = finding else {
                continue;
            };
            counted[usize::from(delivery.whole)] += 1;
            assert_eq!(delivery.parameters, delivery.formula_parameters);
            assert_eq!(delivery.parameter_bytes, 4 * delivery.parameters);
            assert!(delivery.file_bytes > delivery.parameter_bytes);
            let expected = delivery_bytes(delivery.file_bytes, delivery.frames);
            assert_eq!(delivery.up, expected);
            assert!(delivery.ended_ns - delivery.started_ns > delivery.load_ns);
        }
        // At each of two settings.
        assert_eq!(counted, each.map(|count| 2 * count));
        if !servings.contains(&Serving::Merged) {
            assert!(alone(&findings).values().all(|it| it.merged.is_none()));
        }
    }
}
