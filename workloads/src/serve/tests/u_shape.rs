//! U-shaped splits as processes, over the loopback.

use super::harness::{SmallModel, bare_study, played_by_two, requests};
use crate::coding::Coding;
use crate::study::u_shape::{UShape, hop_bytes};
use crate::study::{Arm, Grid, StudyFinding, StudySpec, split};

const PROMPT_TOKENS: u32 = 5;
const OUTPUT_TOKENS: u32 = 6;

#[test]
fn a_u_answers_as_the_whole_model_does_and_sends_every_state_up_and_down() {
    let model = SmallModel::new();
    let layers = model.layers();
    let two_way = Arm::Split {
        ends: vec![1, layers],
        in_flight: 1,
        coding: Coding::F32,
    };
    let u = |first, last| Arm::UShaped(UShape { first, last });
    let study = StudySpec {
        arms: vec![two_way, u(1, 3), u(2, 3), u(1, 2)],
        prompts: 2,
        prompt_tokens: PROMPT_TOKENS,
        output_tokens: OUTPUT_TOKENS,
        grid: Grid {
            round_trips_ns: vec![0],
            rates_bps: vec![1_000_000],
            around_percent: Vec::new(),
        },
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
        let prompt = usize::try_from(trial.prompt).unwrap();
        assert_eq!(
            trial.tokens,
            model.greedy(&asked[prompt]),
            "{}",
            trial.arm.name()
        );
        let expected = match trial.arm {
            Arm::UShaped(_) => vec![hop_bytes(lengths, 4 * model.width())],
            _ => split::hop_bytes(1, lengths, (Coding::F32, model.width())),
        };
        assert_eq!(trial.hops, expected, "{}", trial.arm.name());
        assert!(trial.busy_ns.iter().all(|busy| *busy > 0));
    }
    assert_eq!(trials, 8);
}
