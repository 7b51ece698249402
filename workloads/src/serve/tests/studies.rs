//! Studies as processes: a driver and its stages, over the loopback.

use std::net::SocketAddr;

use super::harness::{
    Job, SmallModel, TRANSPORTS, access, bare_study, event_reasons, free_address, listen, requests,
    study_spec,
};
use crate::coding::Coding;
use crate::serve::connection::{ConnectionError, PayloadCounter, accept, connect};
use crate::serve::error::JobError;
use crate::study::split;
use crate::study::{Arm, Grid, StudyFinding, StudyJobSpec, StudyRole, StudySpec, TrialRecord};
use crate::transport::Transport;
use crate::wire::{FrameKind, handshake_payload};

const PROMPT_TOKENS: u32 = 5;
const OUTPUT_TOKENS: u32 = 4;

fn study(ends: &[&[u32]], in_flight: u32, prompts: u32) -> StudySpec {
    let arm = |ends: &&[u32]| Arm::Split {
        ends: ends.to_vec(),
        in_flight,
        coding: Coding::F32,
    };
    StudySpec {
        arms: ends.iter().map(arm).collect(),
        prompts,
        prompt_tokens: PROMPT_TOKENS,
        output_tokens: OUTPUT_TOKENS,
        grid: Grid {
            round_trips_ns: vec![0],
            rates_bps: vec![1_000_000],
            around_percent: Vec::new(),
        },
        ..bare_study()
    }
}

fn driver_role(study: &StudySpec, next: Option<SocketAddr>) -> StudyRole {
    let prompt_seeds = (0..study.prompts).map(|prompt| 100 + u64::from(prompt));
    StudyRole::Driver {
        study: study.clone(),
        prompt_seeds: prompt_seeds.collect(),
        next,
    }
}

fn stage_role(
    study: &StudySpec,
    place: u32,
    (listen, next): (SocketAddr, Option<SocketAddr>),
) -> StudyRole {
    StudyRole::Stage {
        place,
        study: study.clone(),
        listen,
        next,
    }
}

fn over(transport: Transport, model: &SmallModel, role: StudyRole) -> Job {
    Job::start_study(&StudyJobSpec {
        transport,
        ..study_spec(model, role)
    })
}

fn driver(model: &SmallModel, study: &StudySpec, next: Option<SocketAddr>) -> Job {
    over(Transport::Tcp, model, driver_role(study, next))
}

fn trials(findings: &[StudyFinding]) -> Vec<&TrialRecord> {
    let trials = findings.iter().filter_map(|finding| match finding {
        StudyFinding::Trial(trial) => Some(trial),
        _ => None,
    });
    trials.collect()
}

/// Plays a study over a path of as many nodes as its arms have ends.
fn play(model: &SmallModel, study: &StudySpec) -> Vec<StudyFinding> {
    play_over(Transport::Tcp, model, study)
}

fn play_over(transport: Transport, model: &SmallModel, study: &StudySpec) -> Vec<StudyFinding> {
    let addresses: Vec<SocketAddr> = (1..study.nodes()).map(|_| free_address()).collect();
    let mut stages = Vec::new();
    for place in (1..study.nodes()).rev() {
        let listen = addresses[place - 1];
        let next = addresses.get(place).copied();
        let role = stage_role(study, u32::try_from(place).unwrap(), (listen, next));
        let mut job = over(transport, model, role);
        job.wait_until_ready();
        job.begin();
        stages.push(job);
    }
    let role = driver_role(study, addresses.first().copied());
    let mut driver = over(transport, model, role);
    driver.wait_until_ready();
    driver.begin();
    let findings = driver.findings_until_idle();
    let (_, totals) = driver.stop();
    let sent: u64 = trials(&findings)
        .iter()
        .filter_map(|trial| Some(trial.hops.first()?.up))
        .sum();
    // Beside the trials there are the handshake, the echoes and the question what layers cost.
    assert!(totals.payload.up > sent + handshake_payload().up || study.nodes() == 1);
    for stage in stages {
        stage.stop();
    }
    findings
}

#[test]
fn tokens_that_the_first_node_chose_among_others_as_good_are_told_as_ties() {
    let model = SmallModel::without_preference();
    let layers = model.layers();
    let findings = play(&model, &study(&[&[1, layers], &[layers, layers]], 1, 1));
    let trials = trials(&findings);
    assert_eq!(trials.len(), 2);
    for trial in trials {
        assert_eq!(trial.tokens, [0; 4], "{}", trial.arm.name());
        let known: &[u32] = if trial.arm.is_whole() {
            &[0, 1, 2, 3]
        } else {
            &[]
        };
        assert_eq!(trial.ties, known, "{}", trial.arm.name());
    }
}

#[test]
fn every_cut_answers_as_the_whole_model_does_and_puts_the_formula_on_the_link() {
    let model = SmallModel::new();
    let layers = model.layers();
    let cuts: Vec<[u32; 2]> = (1..=layers).map(|cut| [cut, layers]).collect();
    let cuts: Vec<&[u32]> = cuts.iter().map(<[u32; 2]>::as_slice).collect();
    let study = study(&cuts, 1, 2);
    let findings = play(&model, &study);
    let expected: Vec<Vec<u32>> = requests(&[0, 0], PROMPT_TOKENS, OUTPUT_TOKENS)
        .iter()
        .map(|request| model.greedy(request))
        .collect();
    let trials = trials(&findings);
    assert_eq!(trials.len(), 2 * cuts.len());
    let (prompt, output) = (u64::from(PROMPT_TOKENS), u64::from(OUTPUT_TOKENS));
    let formula = split::hop_bytes(1, (prompt, output), (Coding::F32, model.width()));
    for trial in trials {
        let prompt = usize::try_from(trial.prompt).unwrap();
        assert_eq!(trial.tokens, expected[prompt], "{}", trial.arm.name());
        if trial.arm.is_whole() {
            assert!(trial.hops.is_empty());
        } else {
            assert_eq!(trial.hops, formula, "{}", trial.arm.name());
        }
        assert!(trial.busy_ns.iter().all(|busy| *busy > 0));
    }
    let StudyFinding::Costs(costs) = &findings[0] else {
        panic!("{:?}", findings[0])
    };
    assert_eq!(costs.len(), 2);
    assert!(costs.iter().all(|node| node.head_ns.is_some()));
    let StudyFinding::Row(row) = &findings[1] else {
        panic!("{:?}", findings[1])
    };
    assert!(row.echo_ns > 0 && row.echoes > 0);
}

#[test]
fn every_coding_puts_the_formula_on_each_link_and_the_most_exact_change_no_token() {
    let model = SmallModel::new();
    let layers = model.layers();
    let arms = Coding::ALL.map(|coding| Arm::Split {
        ends: vec![1, 2, layers],
        in_flight: 1,
        coding,
    });
    let study = StudySpec {
        arms: arms.to_vec(),
        ..study(&[&[1, 2, layers]], 1, 2)
    };
    let requests = requests(&[0; 2], PROMPT_TOKENS, OUTPUT_TOKENS);
    let (prompt, output) = (u64::from(PROMPT_TOKENS), u64::from(OUTPUT_TOKENS));
    let findings = play(&model, &study);
    let trials = trials(&findings);
    assert_eq!(trials.len(), 2 * Coding::ALL.len());
    for trial in &trials {
        let coding = trial.arm.coding();
        let formula = split::hop_bytes(2, (prompt, output), (coding, model.width()));
        assert_eq!(trial.hops, formula, "{coding}");
        let request = &requests[usize::try_from(trial.prompt).unwrap()];
        if matches!(coding, Coding::F32 | Coding::F16) {
            assert_eq!(trial.tokens, model.greedy(request), "{coding}");
        }
    }
}

#[test]
fn a_path_of_four_nodes_with_several_requests_under_way_answers_as_the_whole_model_does() {
    for transport in TRANSPORTS {
        several_under_way(transport);
    }
}

fn several_under_way(transport: Transport) {
    let model = SmallModel::new();
    assert_eq!(model.layers(), 4);
    let study = study(&[&[1, 2, 3, 4]], 3, 4);
    let findings = play_over(transport, &model, &study);
    let requests = requests(&[0; 4], PROMPT_TOKENS, OUTPUT_TOKENS);
    let (prompt, output) = (u64::from(PROMPT_TOKENS), u64::from(OUTPUT_TOKENS));
    let formula = split::hop_bytes(3, (prompt, output), (Coding::F32, model.width()));
    let trials = trials(&findings);
    assert_eq!(trials.len(), 4);
    for trial in &trials {
        let request = &requests[usize::try_from(trial.prompt).unwrap()];
        assert_eq!(trial.tokens, model.greedy(request));
        assert_eq!(trial.hops, formula);
        assert_eq!(trial.busy_ns.len(), 4);
    }
    // Three were under way together, and the fourth alone.
    let groups: Vec<u32> = trials.iter().map(|trial| trial.group).collect();
    let first = groups.iter().filter(|group| **group == 0).count();
    assert_eq!((first, groups.iter().max()), (3, Some(&1)));
}

#[test]
fn a_peer_with_another_model_or_without_the_layers_is_told_apart_from_a_stranger() {
    for transport in TRANSPORTS {
        told_apart(transport);
    }
}

fn told_apart(transport: Transport) {
    let model = SmallModel::new();
    let study = study(&[&[2, 4]], 1, 1);
    let address = free_address();
    let role = stage_role(&study, 1, (address, None));
    let mut stage = over(transport, &model, role);
    stage.wait_until_ready();
    let counter = PayloadCounter::default();
    let refused = |terms| match connect(address, (&access(transport), &terms), &counter) {
        Err(JobError::Connection { source, .. }) => source,
        other => panic!("{other:?}"),
    };
    let mut other = model.terms(2);
    other.model[0] ^= 1;
    assert!(matches!(refused(other), ConnectionError::WrongModel));
    let told = refused(model.terms(1));
    assert!(
        matches!(told, ConnectionError::WrongLayers { .. }),
        "{told}"
    );
    // Those were turned away: the right one still finds its place.
    let mut driver = over(transport, &model, driver_role(&study, Some(address)));
    driver.wait_until_ready();
    driver.begin();
    assert_eq!(trials(&driver.findings_until_idle()).len(), 1);
    driver.stop();
    stage.stop();
}

#[test]
fn a_stage_that_dies_and_one_that_falls_silent_are_told_apart() {
    for transport in TRANSPORTS {
        dead_and_silent(transport);
    }
}

fn dead_and_silent(transport: Transport) {
    let model = SmallModel::new();
    for dies in [true, false] {
        let mut study = study(&[&[2, 4]], 1, 1);
        // An acknowledgement may be delayed by 40 ms, and the question is none before that.
        study.timeout_ns = if dies { 60_000_000_000 } else { 1_000_000_000 };
        let (listener, _socket) = listen(transport);
        let address = listener.address();
        let mut driver = over(transport, &model, driver_role(&study, Some(address)));
        let (stream, peer) = listener.accept().unwrap().unwrap();
        let (held, counter) = (model.terms(2), PayloadCounter::default());
        let mut edge = accept(stream, peer, (&access(transport), &held), &counter).unwrap();
        driver.wait_until_ready();
        driver.begin();
        // The question what layers cost has come: then nobody is there, or nobody answers.
        let frame = edge.reader.read(&|_| Some(0)).unwrap().unwrap();
        assert_eq!(frame.header.kind, FrameKind::Measure);
        if dies {
            drop(edge);
            let (events, _) = driver.end();
            let reasons = event_reasons(&events).join("\n");
            assert!(reasons.contains("closed the connection"), "{reasons}");
        } else {
            let (events, _) = driver.end();
            let reasons = event_reasons(&events).join("\n");
            assert!(reasons.contains("does not answer"), "{reasons}");
            drop(edge);
        }
    }
}

#[test]
fn a_study_whose_cuts_do_not_fit_the_model_is_refused_in_words() {
    let model = SmallModel::new();
    let (events, result) = driver(&model, &study(&[&[3, 9]], 1, 1), None).end();
    assert!(matches!(result, Err(JobError::Spec { .. })), "{result:?}");
    let reasons = event_reasons(&events).join("\n");
    assert!(reasons.contains("cannot be divided as 3/9"), "{reasons}");
}
