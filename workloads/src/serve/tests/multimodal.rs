//! Multimodal splits as processes, over the loopback.

use std::collections::BTreeMap;

use super::harness::{
    Job, SmallModel, bare_study, event_reasons, free_address, played_by_two, study_spec,
};
use crate::coding::Coding;
use crate::study::multimodal::{ATTRIBUTES, Encoder, Look, LookShape};
use crate::study::{Arm, Grid, StudyFinding, StudyRole, StudySpec};

const IMAGES: u32 = 2;

fn look(encoder: Encoder, merge: u32, coding: Coding) -> Look {
    Look {
        encoder,
        merge,
        coding,
    }
}

fn study(looks: &[Look]) -> StudySpec {
    StudySpec {
        arms: looks.iter().copied().map(Arm::Look).collect(),
        prompts: IMAGES,
        prompt_tokens: 1,
        output_tokens: ATTRIBUTES,
        grid: Grid {
            round_trips_ns: vec![0],
            rates_bps: vec![1_000_000],
            around_percent: Vec::new(),
        },
        ..bare_study()
    }
}

#[test]
fn an_answer_is_the_same_wherever_the_image_is_encoded_and_the_bytes_are_those_of_the_formula() {
    let model = SmallModel::with_eyes();
    let looks = [
        look(Encoder::Edge, 1, Coding::F32),
        look(Encoder::Edge, 16, Coding::F32),
        look(Encoder::Device, 1, Coding::F32),
        look(Encoder::Device, 16, Coding::F32),
        look(Encoder::Device, 16, Coding::Int8),
    ];
    let findings = played_by_two(&model, study(&looks), vec![100, 101]);
    let shape = findings.iter().find_map(|finding| match finding {
        StudyFinding::Looks(record) => {
            assert_eq!(record.costs.len(), looks.len());
            assert!(record.costs.iter().all(|costs| costs.edge_ns > 0));
            let merged = record.costs_of(looks[3]).unwrap();
            assert!(merged.device_ns > 0 && merged.passes == 5);
            Some(record.shape)
        }
        _ => None,
    });
    let shape: LookShape = shape.unwrap();
    assert_eq!((shape.image_bytes, shape.patches), (12_288, 64));
    assert_eq!(u64::from(shape.width), model.width());
    let mut answers: BTreeMap<(u32, u32), Vec<Vec<u32>>> = BTreeMap::new();
    let mut named = 0;
    for finding in &findings {
        match finding {
            StudyFinding::Look(look) => {
                named += 1;
                assert_eq!(look.asked, ATTRIBUTES);
                assert!(look.right <= look.asked);
            }
            StudyFinding::Trial(trial) => {
                let Arm::Look(look) = trial.arm else {
                    panic!("{}", trial.arm.name())
                };
                assert_eq!(trial.hops, [look.hop_bytes(shape)], "{}", look.name());
                assert_eq!(trial.tokens.len(), 1);
                if trial.arm.is_exact() {
                    let key = (trial.prompt, trial.arm.answers());
                    answers.entry(key).or_default().push(trial.tokens.clone());
                }
            }
            _ => {}
        }
    }
    assert_eq!(named, 5 * IMAGES);
    assert_eq!(answers.len(), 4);
    for answers in answers.values() {
        assert_eq!(answers.len(), 2);
        assert_eq!(answers[0], answers[1]);
    }
}

#[test]
fn nodes_with_other_encoders_are_told_apart_where_both_encode_and_else_work_together() {
    let (eyes, others) = (SmallModel::with_eyes(), SmallModel::with_eyes_of_seed(12));
    let (image, tokens) = (
        look(Encoder::Edge, 16, Coding::F32),
        look(Encoder::Device, 16, Coding::F32),
    );
    let blind = SmallModel::new();
    for (looks, edge, told) in [
        (vec![image, tokens], &others, "vision encoder"),
        (vec![tokens], &blind, ""),
    ] {
        let address = free_address();
        let study = study(&looks);
        let stage = StudyRole::Stage {
            place: 1,
            study: study.clone(),
            listen: address,
            next: None,
        };
        let mut stage = Job::start_study(&study_spec(edge, stage));
        stage.wait_until_ready();
        stage.begin();
        let driver = StudyRole::Driver {
            study,
            prompt_seeds: vec![100, 101],
            next: Some(address),
        };
        let mut driver = Job::start_study(&study_spec(&eyes, driver));
        if told.is_empty() {
            driver.wait_until_ready();
            driver.begin();
            let findings = driver.findings_until_idle();
            let trials = findings.iter();
            let trials = trials.filter(|finding| matches!(finding, StudyFinding::Trial(_)));
            assert_eq!(trials.count(), usize::try_from(IMAGES).unwrap());
            driver.stop();
        } else {
            let (events, _) = driver.end();
            let reasons = event_reasons(&events).join("\n");
            assert!(reasons.contains(told), "{reasons}");
        }
        stage.stop();
    }
}
