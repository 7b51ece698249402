//! Devices that answer as long as they are sure enough, as processes over the loopback.

use super::harness::{
    Job, SmallModel, access, bare_study, free_address, listen, requests, study_spec,
};
use crate::serve::connection::{Listener, PayloadCounter, Terms, accept};
use crate::study::own::{
    Decision, Maker, OutageSpec, Rule, Threshold, cascade_bytes, early_exit_bytes,
};
use crate::study::{
    Arm, Grid, HopBytes, NodeCosts, StudyFinding, StudyRole, StudySpec, TrialRecord,
};
use crate::transport::Transport;
use crate::wire::FrameKind;

const PROMPT_TOKENS: u32 = 5;
const OUTPUT_TOKENS: u32 = 6;
const PROMPTS: u32 = 2;

fn study(arms: Vec<Arm>) -> StudySpec {
    StudySpec {
        arms,
        prompts: PROMPTS,
        prompt_tokens: PROMPT_TOKENS,
        output_tokens: OUTPUT_TOKENS,
        grid: Grid {
            round_trips_ns: vec![0],
            rates_bps: vec![1_000_000],
            around_percent: Vec::new(),
        },
        patience_ns: 60_000_000_000,
        ..bare_study()
    }
}

/// Plays a study over two nodes. The device's model is `small` in a cascade.
fn play(model: &SmallModel, small: Option<&SmallModel>, study: &StudySpec) -> Vec<TrialRecord> {
    let address = free_address();
    let role = StudyRole::Stage {
        place: 1,
        study: study.clone(),
        listen: address,
        next: None,
    };
    let mut stage = Job::start_study(&study_spec(model, role));
    stage.wait_until_ready();
    stage.begin();
    let role = StudyRole::Driver {
        study: study.clone(),
        prompt_seeds: (0..study.prompts)
            .map(|prompt| 100 + u64::from(prompt))
            .collect(),
        next: Some(address),
    };
    let mut spec = study_spec(model, role);
    spec.draft_directory = small.map(|small| small.path().to_owned());
    let mut driver = Job::start_study(&spec);
    driver.wait_until_ready();
    driver.begin();
    let found = trials(driver.findings_until_idle());
    driver.stop();
    stage.stop();
    found
}

fn trials(findings: Vec<StudyFinding>) -> Vec<TrialRecord> {
    let trials = findings.into_iter().filter_map(|finding| match finding {
        StudyFinding::Trial(trial) => Some(trial),
        _ => None,
    });
    trials.collect()
}

/// What the whole model answers to each prompt.
fn greedy(model: &SmallModel) -> Vec<Vec<u32>> {
    let asked = requests(&[0, 0], PROMPT_TOKENS, OUTPUT_TOKENS);
    asked.iter().map(|request| model.greedy(request)).collect()
}

fn exits(cut: u32, thresholds: &[Threshold]) -> Vec<Arm> {
    let arm = |threshold: &Threshold| Arm::EarlyExit {
        cut,
        threshold: *threshold,
    };
    thresholds.iter().map(arm).collect()
}

fn makers(trial: &TrialRecord) -> Vec<Maker> {
    trial
        .decisions
        .iter()
        .map(|decision| decision.maker)
        .collect()
}

/// A threshold between the least and the largest confidence of some decisions.
fn between(decisions: &[Decision]) -> Threshold {
    let sure = decisions
        .iter()
        .filter_map(|decision| decision.confidence_ppm);
    let mut sure: Vec<u32> = sure.collect();
    sure.sort_unstable();
    let least_ppm = sure[sure.len() / 2];
    assert!(sure[0] < least_ppm, "{sure:?}");
    Threshold { least_ppm }
}

#[test]
fn what_an_exit_is_not_sure_of_is_the_whole_models_and_its_cache_is_filled_back() {
    let model = SmallModel::with_exits();
    let whole = greedy(&model);
    let ends = [Threshold::DEVICE, Threshold::REMOTE];
    let found = play(&model, None, &study(exits(2, &ends)));
    let alone: Vec<&TrialRecord> = found.iter().step_by(2).collect();
    for (trial, expected) in found.iter().skip(1).step_by(2).zip(&whole) {
        assert_eq!(trial.tokens, *expected);
        assert_eq!(makers(trial), vec![Maker::Edge; 6]);
    }
    for trial in &alone {
        assert_eq!(makers(trial), vec![Maker::Device; 6]);
        assert_eq!(trial.hops, vec![HopBytes::default()]);
    }
    // Between them each token that was asked for is what the whole model says after the same text.
    let all: Vec<Decision> = alone
        .iter()
        .flat_map(|trial| trial.decisions.clone())
        .collect();
    let found = play(&model, None, &study(exits(2, &[between(&all)])));
    let mut asked = 0;
    for trial in &found {
        let request = requests(&[0, 0], PROMPT_TOKENS, OUTPUT_TOKENS);
        let prompt = &request[usize::try_from(trial.prompt).unwrap()];
        for (place, maker) in makers(trial).into_iter().enumerate() {
            if maker == Maker::Edge {
                asked += 1;
                let next = model.next_after(prompt, &trial.tokens[..place]);
                assert_eq!(trial.tokens[place], next, "token {place}");
            }
        }
        let state_bytes = 4 * model.width();
        let formula = early_exit_bytes(trial, u64::from(PROMPT_TOKENS), state_bytes);
        assert_eq!(trial.hops, vec![formula]);
    }
    assert!(asked > 0 && asked < 12, "{asked}");
}

#[test]
fn with_all_layers_on_the_device_it_answers_as_the_whole_model_does_and_sends_nothing() {
    let model = SmallModel::with_exits();
    let arms = exits(model.layers(), &[Threshold::DEVICE]);
    let found = play(&model, None, &study(arms));
    for (trial, expected) in found.iter().zip(greedy(&model)) {
        assert_eq!(trial.tokens, expected);
        assert_eq!(trial.hops, vec![HopBytes::default()]);
    }
    assert_eq!(found.len(), 2);
}

#[test]
fn a_cascade_escalates_what_the_small_model_is_not_sure_of_and_nothing_else() {
    let (large, small) = (SmallModel::new(), SmallModel::of_seed(6));
    let (whole, own) = (greedy(&large), greedy(&small));
    let arm = |threshold| Arm::Cascade {
        rule: Rule::Mean,
        threshold,
    };
    let ends = vec![arm(Threshold::DEVICE), arm(Threshold::REMOTE)];
    let found = play(&large, Some(&small), &study(ends));
    let mut confidences = Vec::new();
    for (pair, (own, whole)) in found.chunks(2).zip(own.iter().zip(&whole)) {
        assert_eq!((&pair[0].tokens, &pair[1].tokens), (own, whole));
        assert_eq!(pair[0].hops, vec![HopBytes::default()]);
        let of_tokens = pair[0]
            .decisions
            .iter()
            .filter_map(|decision| decision.confidence_ppm);
        confidences.push(Rule::Mean.confidence_ppm(&of_tokens.collect::<Vec<u32>>()));
    }
    // As sure as the surer of both answers: one is kept, the other escalated.
    let least_ppm = confidences.iter().copied().max().unwrap();
    assert!(confidences.iter().any(|confidence| *confidence < least_ppm));
    let found = play(
        &large,
        Some(&small),
        &study(vec![arm(Threshold { least_ppm })]),
    );
    for (prompt, trial) in found.iter().enumerate() {
        let kept = confidences[prompt] >= least_ppm;
        let (expected, maker) = match kept {
            true => (&own[prompt], Maker::Device),
            false => (&whole[prompt], Maker::Edge),
        };
        assert_eq!(trial.tokens, *expected);
        assert_eq!(makers(trial), vec![maker; 6]);
        assert_eq!(
            trial.hops,
            vec![cascade_bytes(trial, u64::from(PROMPT_TOKENS))]
        );
        assert_eq!(trial.hops[0].up == 0, kept);
    }
}

/// An edge that takes everything and answers a request only when it is over.
fn late_edge(listener: &Listener, held: &Terms) {
    let (stream, peer) = listener.accept().unwrap().unwrap();
    let counter = PayloadCounter::default();
    let mut edge = accept(stream, peer, (&access(Transport::Tcp), held), &counter).unwrap();
    let costs = NodeCosts {
        layer_ns: 1,
        fixed_ns: 1,
        head_ns: Some(1),
        passes: 1,
    };
    let costs = serde_json::to_vec(&[costs]).unwrap();
    let mut asked = Vec::new();
    while let Some(frame) = edge.reader.read(&|_| Some(1 << 20)).unwrap() {
        let (kind, id) = (frame.header.kind, frame.header.request);
        let mut send = |kind, body: &[u8]| edge.writer.write(kind, id, 0, body).unwrap();
        match kind {
            FrameKind::Echo => drop(send(FrameKind::Echo, &[])),
            FrameKind::Measure => drop(send(FrameKind::Costs, &costs)),
            FrameKind::Hidden => asked.push(frame.body.len()),
            FrameKind::End => {
                for _ in asked.drain(..) {
                    send(FrameKind::Token, &[0; 4]);
                }
                send(FrameKind::Books, &[0; 40]);
            }
            _ => {}
        }
    }
}

#[test]
fn when_the_patience_is_over_the_device_keeps_its_own_tokens_says_so_and_asks_no_more() {
    let model = SmallModel::with_exits();
    let alone = play(&model, None, &study(exits(2, &[Threshold::DEVICE])));
    let never = Threshold {
        least_ppm: 1_000_001,
    };
    let mut impatient = study(exits(2, &[never]));
    impatient.patience_ns = 1_000_000;
    impatient.outage = Some(OutageSpec { length_ns: 1 });
    let (listener, _socket) = listen(Transport::Tcp);
    let role = StudyRole::Driver {
        study: impatient,
        prompt_seeds: vec![100, 101],
        next: Some(listener.address()),
    };
    let held = model.terms(2);
    let edge = std::thread::spawn(move || late_edge(&listener, &held));
    let mut driver = Job::start_study(&study_spec(&model, role));
    driver.wait_until_ready();
    driver.begin();
    let found = trials(driver.findings_until_idle());
    driver.stop();
    edge.join().unwrap();
    assert_eq!(found.len(), 3);
    for trial in &found {
        let own = &alone[usize::try_from(trial.prompt).unwrap()];
        assert_eq!(trial.tokens, own.tokens);
        let rest = vec![Maker::Alone; 5];
        assert_eq!(makers(trial), [vec![Maker::Fallback], rest].concat());
    }
    // The last was played in an outage of its own.
    let out: Vec<bool> = found.iter().map(|trial| trial.outage.is_some()).collect();
    assert_eq!(out, [false, false, true]);
}

#[test]
fn a_model_without_exits_ends_the_study_with_the_remedy() {
    let model = SmallModel::new();
    let role = StudyRole::Driver {
        study: study(exits(2, &[Threshold::DEVICE])),
        prompt_seeds: vec![1, 2],
        next: Some(free_address()),
    };
    let (events, result) = Job::start_study(&study_spec(&model, role)).end();
    assert!(result.is_err());
    let reasons = super::harness::event_reasons(&events).join("\n");
    assert!(reasons.contains("take a built-in recipe"), "{reasons}");
}
