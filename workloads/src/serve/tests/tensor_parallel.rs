//! Tensor-parallel pairs as processes, over the loopback.

use super::harness::{
    Job, SmallModel, bare_study, free_address, played_by_two, requests, study_spec,
};
use crate::coding::Coding;
use crate::study::placement::{Placement, Weights};
use crate::study::tensor_parallel::{TensorParallel, hop_bytes};
use crate::study::{Arm, StudyFinding, StudyRole, StudySpec, placement, split};

const PROMPT_TOKENS: u32 = 5;
const OUTPUT_TOKENS: u32 = 6;

fn arms(layers: u32) -> Vec<Arm> {
    let halves = |coding| Arm::TensorParallel(TensorParallel { coding });
    let alone = |place| {
        Arm::Placed(Placement {
            place,
            node: format!("node {place}"),
            weights: Weights::Full,
            nodes: 2,
        })
    };
    let two_way = Arm::Split {
        ends: vec![1, layers],
        in_flight: 1,
        coding: Coding::F32,
    };
    let codings = [Coding::F32, Coding::F16, Coding::Int8];
    codings
        .map(halves)
        .into_iter()
        .chain([two_way, alone(0), alone(1)])
        .collect()
}

#[test]
fn halves_a_split_and_either_node_answer_as_the_whole_model_does_and_put_the_formulas_bytes_on_the_link()
 {
    let model = SmallModel::new();
    let layers = model.layers();
    let study = StudySpec {
        arms: arms(layers),
        prompts: 2,
        prompt_tokens: PROMPT_TOKENS,
        output_tokens: OUTPUT_TOKENS,
        ..bare_study()
    };
    let findings = played_by_two(&model, study, vec![100, 101]);
    let asked = requests(&[0, 0], PROMPT_TOKENS, OUTPUT_TOKENS);
    let lengths = (u64::from(PROMPT_TOKENS), u64::from(OUTPUT_TOKENS));
    let mut trials = 0;
    for finding in &findings {
        let StudyFinding::Trial(trial) = finding else {
            continue;
        };
        trials += 1;
        let name = trial.arm.name();
        let whole = model.greedy(&asked[usize::try_from(trial.prompt).unwrap()]);
        // What two scores as good as each other lead to, and what a coding loses, is another answer.
        let is_sure = trial.arm.coding() == Coding::F32
            && trial
                .halves
                .as_ref()
                .is_none_or(|halves| halves.ties.is_empty());
        if is_sure {
            assert_eq!(trial.tokens, whole, "{name}");
        }
        let expected = match &trial.arm {
            Arm::TensorParallel(halves) => {
                vec![hop_bytes(layers, lengths, (halves.coding, model.width()))]
            }
            Arm::Placed(node) => placement::hop_bytes(node.place, 1, lengths),
            _ => split::hop_bytes(1, lengths, (Coding::F32, model.width())),
        };
        assert_eq!(trial.hops, expected, "{name}");
        let computed: Vec<bool> = trial.busy_ns.iter().map(|busy| *busy > 0).collect();
        let both = match &trial.arm {
            Arm::Placed(node) => [node.place == 0, node.place == 1],
            _ => [true, true],
        };
        assert_eq!(computed, both, "{name}");
    }
    assert_eq!(trials, 12);
    let halves = findings.iter().filter_map(|finding| match finding {
        StudyFinding::Halves(costs) => Some(costs),
        _ => None,
    });
    let measured: Vec<_> = halves.collect();
    assert_eq!(measured.len(), 2);
    for costs in measured {
        assert_eq!(costs.len(), 2);
        assert!(
            costs
                .iter()
                .all(|costs| costs.attention_ns > 0 && costs.feed_forward_ns > 0)
        );
    }
}

#[test]
fn long_parts_of_a_prompt_are_sent_and_received_at_the_same_time() {
    let model = SmallModel::new();
    let study = StudySpec {
        arms: arms(model.layers()).into_iter().take(1).collect(),
        prompt_tokens: 200,
        output_tokens: 1,
        ..bare_study()
    };
    let findings = played_by_two(&model, study, vec![7]);
    let answered = findings.iter().any(|finding| match finding {
        StudyFinding::Trial(trial) => trial.tokens.len() == 1,
        _ => false,
    });
    assert!(answered);
}

#[test]
fn a_stage_refuses_a_part_of_a_sum_that_nobody_awaits() {
    use crate::serve::connection::{PayloadCounter, connect};
    use crate::transport::Transport;
    use crate::wire::FrameKind;

    let model = SmallModel::new();
    let address = free_address();
    let study = StudySpec {
        arms: arms(model.layers()),
        ..bare_study()
    };
    let role = StudyRole::Stage {
        place: 1,
        study,
        listen: address,
        next: None,
    };
    let mut stage = Job::start_study(&study_spec(&model, role));
    stage.wait_until_ready();
    stage.begin();
    let access = super::harness::access(Transport::Tcp);
    let terms = model.terms(0);
    let mut driver = connect(address, (&access, &terms), &PayloadCounter::default()).unwrap();
    driver
        .writer
        .write(FrameKind::Partial, 3, 0, &[0; 4])
        .unwrap();
    let (events, result) = stage.end();
    assert!(result.is_err());
    let reasons = super::harness::event_reasons(&events);
    assert!(
        reasons[0].contains("no such request is open"),
        "{reasons:?}"
    );
}
