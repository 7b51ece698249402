//! The control as processes, over the loopback.

use super::harness::{SmallModel, bare_study, played_by_two};
use crate::study::cnn::{Convolutional, block_count};
use crate::study::{Arm, Grid, StudyFinding, StudySpec};

#[test]
fn images_wait_for_their_layers_on_both_nodes_and_put_the_activations_on_the_link() {
    let model = SmallModel::new();
    let network = |cut| Convolutional {
        cut,
        near_per_us: 1_000_000,
        far_per_us: 10_000_000,
    };
    let cuts = [1, 5, block_count()].map(network);
    let study = StudySpec {
        arms: cuts.map(Arm::Convolutional).to_vec(),
        prompts: 2,
        prompt_tokens: 1,
        output_tokens: 1,
        grid: Grid {
            round_trips_ns: vec![0],
            rates_bps: vec![1_000_000],
            around_percent: Vec::new(),
        },
        ..bare_study()
    };
    let findings = played_by_two(&model, study, vec![1, 2]);
    let trials = findings.iter().filter_map(|finding| match finding {
        StudyFinding::Trial(trial) => Some(trial),
        _ => None,
    });
    let trials: Vec<_> = trials.collect();
    assert_eq!(trials.len(), 6);
    for (trial, network) in trials.iter().zip(cuts.iter().cycle()) {
        assert_eq!(trial.hops, [network.hop_bytes()]);
        assert!(trial.busy_ns[0] >= network.near_ns());
        assert!(trial.busy_ns[1] >= network.far_ns());
        let took = trial.token_ns[0] - trial.started_ns;
        assert!(took >= network.near_ns() + network.far_ns());
    }
}
