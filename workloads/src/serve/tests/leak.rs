//! What leaks as processes, over the loopback.

use super::harness::{SmallModel, bare_study, played_by_two};
use crate::coding::Coding;
use crate::study::leak::Leaking;
use crate::study::{Arm, Grid, StudyFinding, StudySpec};

#[test]
fn an_edge_guesses_each_token_in_two_ways_from_what_crossed_the_link_and_nothing_else_did() {
    let model = SmallModel::new();
    let of = |layer, coding| Leaking { layer, coding };
    let leaks = [of(1, Coding::F32), of(3, Coding::F32), of(1, Coding::Int8)];
    let study = StudySpec {
        arms: leaks.map(Arm::Leaking).to_vec(),
        prompts: 2,
        prompt_tokens: 12,
        output_tokens: 1,
        grid: Grid {
            round_trips_ns: vec![0],
            rates_bps: vec![1_000_000],
            around_percent: Vec::new(),
        },
        ..bare_study()
    };
    let findings = played_by_two(&model, study, vec![100, 101]);
    let mut found = Vec::new();
    for finding in &findings {
        match finding {
            StudyFinding::Leak(leak) => found.push(*leak),
            StudyFinding::Trial(trial) => {
                let Arm::Leaking(of) = &trial.arm else {
                    panic!("{}", trial.arm.name())
                };
                assert_eq!(trial.hops, [of.hop_bytes(12, model.width())]);
                assert_eq!(trial.tokens.len(), 24);
                assert!(trial.tokens.iter().all(|token| *token < model.vocabulary()));
            }
            _ => {}
        }
    }
    assert_eq!(found.len(), 6);
    for leak in &found {
        assert_eq!(leak.tokens, 12);
        assert!(leak.nearest <= 12 && leak.probe <= 12);
    }
    let exact = |layer| {
        let of = found.iter().filter(move |leak| {
            leak.of
                == Leaking {
                    layer,
                    coding: Coding::F32,
                }
        });
        of.count()
    };
    assert_eq!([exact(1), exact(3)], [2, 2]);
}
