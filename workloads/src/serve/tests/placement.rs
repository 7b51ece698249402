//! Placements as processes: a device, an edge and a cloud, over the loopback.

use std::net::SocketAddr;

use super::harness::{
    Job, SmallModel, access, bare_study, event_reasons, free_address, requests, study_spec,
};
use crate::serve::connection::{PayloadCounter, connect, token_bytes};
use crate::study::placement::{Placement, PlacementPolicy, Weights, hop_bytes};
use crate::study::{Arm, Grid, StudyFinding, StudyRole, StudySpec, TrialRecord};
use crate::transport::Transport;
use crate::wire::FrameKind;

const PROMPT_TOKENS: u32 = 5;
const OUTPUT_TOKENS: u32 = 7;
const HOUR_NS: u64 = 3_600_000_000_000;

fn placed(place: u32, weights: Weights) -> Arm {
    Arm::Placed(Placement {
        place,
        node: ["device", "edge", "cloud"][usize::try_from(place).unwrap()].to_owned(),
        weights,
        nodes: 3,
    })
}

fn study() -> StudySpec {
    let mut arms = Vec::new();
    for place in 0..3 {
        arms.extend([Weights::Full, Weights::Q8_0].map(|weights| placed(place, weights)));
    }
    for deadline_ns in [1, HOUR_NS] {
        let nodes = 3;
        arms.push(Arm::Policy(PlacementPolicy { deadline_ns, nodes }));
    }
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

fn stage(model: &SmallModel, place: u32, ends: (SocketAddr, Option<SocketAddr>)) -> Job {
    let role = StudyRole::Stage {
        place,
        study: study(),
        listen: ends.0,
        next: ends.1,
    };
    let mut job = Job::start_study(&study_spec(model, role));
    job.wait_until_ready();
    job.begin();
    job
}

fn play(model: &SmallModel) -> Vec<StudyFinding> {
    let [edge, cloud] = [free_address(), free_address()];
    let stages = [
        stage(model, 2, (cloud, None)),
        stage(model, 1, (edge, Some(cloud))),
    ];
    let role = StudyRole::Driver {
        study: study(),
        prompt_seeds: vec![100, 101, 102],
        next: Some(edge),
    };
    let mut driver = Job::start_study(&study_spec(model, role));
    driver.wait_until_ready();
    driver.begin();
    let findings = driver.findings_until_idle();
    driver.stop();
    for stage in stages {
        stage.stop();
    }
    findings
}

#[test]
fn every_node_answers_as_the_whole_model_does_and_only_the_links_up_to_it_carry_the_formula() {
    let model = SmallModel::new();
    let asked = requests(&[0, 0], PROMPT_TOKENS, OUTPUT_TOKENS);
    let whole: Vec<Vec<u32>> = asked.iter().map(|request| model.greedy(request)).collect();
    let findings = play(&model);
    let trials: Vec<&TrialRecord> = findings
        .iter()
        .filter_map(|finding| match finding {
            StudyFinding::Trial(trial) => Some(trial),
            _ => None,
        })
        .collect();
    assert_eq!(trials.len(), 16);
    let lengths = (u64::from(PROMPT_TOKENS), u64::from(OUTPUT_TOKENS));
    for trial in trials {
        let chosen = trial.placed.unwrap();
        assert_eq!(
            trial.hops,
            hop_bytes(chosen.place, 2, lengths),
            "{}",
            trial.arm.name()
        );
        assert_eq!(trial.token_ns.len(), 7);
        let busy = trial.busy_ns.iter().map(|busy| *busy > 0);
        let busy: Vec<bool> = busy.collect();
        let expected = [0, 1, 2].map(|place| place == chosen.place);
        assert_eq!(busy, expected, "{}", trial.arm.name());
        assert!(chosen.predicted_ns > 0);
        let place = usize::try_from(chosen.place).unwrap();
        assert!(chosen.first_busy_ns > 0 && chosen.first_busy_ns < trial.busy_ns[place]);
        if chosen.weights == Weights::Full {
            assert_eq!(trial.tokens, whole[usize::try_from(trial.prompt).unwrap()]);
        }
        match &trial.arm {
            Arm::Placed(fixed) => {
                assert_eq!((chosen.place, chosen.weights), (fixed.place, fixed.weights));
            }
            // With all the time in the world it takes the widest weights.
            Arm::Policy(policy) if policy.deadline_ns == HOUR_NS => {
                assert_eq!(chosen.weights, Weights::Full);
            }
            _ => {}
        }
    }
    let costs = findings.iter().find_map(|finding| match finding {
        StudyFinding::Places(costs) => Some(costs),
        _ => None,
    });
    let costs = costs.unwrap();
    assert_eq!(costs.len(), 6);
    assert!(
        costs
            .iter()
            .all(|costs| costs.first_ns > 0 && costs.requests == 3)
    );
    let way = findings.iter().find_map(|finding| match finding {
        StudyFinding::Ways(way) => Some(way),
        _ => None,
    });
    let echo_ns = &way.unwrap().echo_ns;
    assert!(
        echo_ns[0] == 0 && echo_ns[1] > 0 && echo_ns[2] > 0,
        "{echo_ns:?}"
    );
}

/// What a node says that is asked so, and why it ends.
fn refusal(words: &[u32]) -> String {
    let model = SmallModel::new();
    let address = free_address();
    let job = stage(&model, 1, (address, None));
    let needed = model.terms(0);
    let counter = PayloadCounter::default();
    let mut driver = connect(address, (&access(Transport::Tcp), &needed), &counter).unwrap();
    let body = token_bytes(words);
    driver.writer.write(FrameKind::Place, 1, 3, &body).unwrap();
    let (events, result) = job.end();
    assert!(result.is_err());
    event_reasons(&events).join("\n")
}

#[test]
fn a_node_refuses_what_it_does_not_hold_and_places_that_are_not_behind_it() {
    for (words, reason) in [
        (&[1][..], "names no place"),
        (&[2, 0, 5], "place 2 is not behind 1"),
        (&[0, 0, 5], "place 0 is not behind 1"),
        (&[1, 3, 5], "weights 3 are not held here"),
        (&[1, 9, 5], "weights 9 are not held here"),
        (&[1, 0], "at least one token in"),
        (&[1, 0, 60_000], "token 60000 is outside"),
    ] {
        let told = refusal(words);
        assert!(told.contains(reason), "{words:?}: {told}");
    }
}
