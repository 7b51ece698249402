//! Blocks of few bits where nothing multiplies them: numbers of the model's precision, rounded as the blocks are.

use std::path::Path;

use candle_core::Device;

use super::WHOLE;
use super::blocks::model_with_tokenizer;
use super::family::{family, tokens};
use crate::engine::gguf::{BlockType, quantise, store};
use crate::engine::memory::Needed;
use crate::engine::tensors::all_shapes;
use crate::engine::train::serialise;
use crate::engine::weights::{WEIGHTS_FILE, Weights, read_config};
use crate::engine::{Compute, ComputeDevice, Model, Precision, path_of};
use crate::model_config::ModelConfig;

fn half() -> Compute {
    Compute::open(ComputeDevice::Cpu, Precision::F16).expect("CPUs have it")
}

fn load(directory: &Path, blocks: Option<BlockType>) -> Model {
    let layers = read_config(directory).expect("read").layers;
    let model = Model::load_in_blocks(directory, 0..layers, WHOLE, (&half(), blocks));
    model.expect("loads")
}

fn scores(model: &Model) -> Vec<f32> {
    let hidden = model.embed(&tokens()).expect("embeds");
    let hidden = model.forward(&hidden, 0, &mut model.new_cache());
    let scores = model.logits(&hidden.expect("runs")).expect("scores");
    scores.concat()
}

/// Puts the numbers that a checkpoint's matrices are in blocks of that type in their place.
fn round_to_blocks(directory: &Path, config: &ModelConfig, block_type: BlockType) {
    let mut weights = Weights::open(directory).expect("opened");
    let tensors = all_shapes(config).into_iter().map(|named| {
        let tensor = weights.vector(&named).expect("read");
        let (stored, is_whole) = store(&named.0, config, &tensor, block_type).expect("stored");
        let rounded = stored.dequantize(&Device::Cpu).expect("read back");
        let tensor = if is_whole { rounded } else { tensor };
        (named.0, tensor)
    });
    let tensors: Vec<_> = tensors.collect();
    let path = directory.join(WEIGHTS_FILE);
    let bytes = serialise(tensors.iter().map(|(name, tensor)| (name, tensor)), &path);
    std::fs::write(&path, bytes.expect("fits")).expect("written");
}

#[test]
fn in_half_precision_blocks_score_as_the_numbers_that_they_stand_for() {
    for (name, config) in family() {
        let original = model_with_tokenizer(&config);
        let root = tempfile::tempdir().expect("made");
        let file = root.path().join("file");
        quantise(original.path(), BlockType::Q8_0, &file).expect("written");
        let made = scores(&load(original.path(), Some(BlockType::Q8_0)));
        let unrounded = scores(&load(original.path(), None));
        round_to_blocks(original.path(), &config, BlockType::Q8_0);
        let expected = scores(&load(original.path(), None));
        assert_eq!(made, expected, "{name}");
        assert_ne!(made, unrounded, "{name}");
        // Of Llama the file has queries and keys in another order, so that sums round differently.
        let read = scores(&load(&file, None));
        let largest = expected.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
        let pairs = expected.iter().zip(&read);
        let apart = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 0.01 * (1.0 + largest), "{name}: {apart}");
    }
}

#[test]
fn blocks_that_become_numbers_take_the_room_of_numbers_and_it_is_told_before() {
    for (name, config) in family() {
        let original = model_with_tokenizer(&config);
        let root = tempfile::tempdir().expect("made");
        let file = root.path().join("file");
        quantise(original.path(), BlockType::Q8_0, &file).expect("written");
        let dense = load(original.path(), None).weight_bytes();
        for (directory, blocks) in [
            (original.path(), Some(BlockType::Q8_0)),
            (file.as_path(), None),
        ] {
            let kept = blocks.map(|of| (of, config));
            let weights = Weights::open_in_blocks(directory, &half(), kept).expect("opened");
            let needed = Needed::of(&weights, &config, &(0..config.layers), WHOLE);
            let found = load(directory, blocks).weight_bytes();
            assert_eq!((needed.weights, dense), (found, found), "{name}");
            // What is read, twice in f32, is more than what stays of it.
            let matrix = u64::from(config.vocabulary) * u64::from(config.width);
            assert!(needed.reading >= 10 * matrix, "{name}: {}", needed.reading);
        }
    }
}

#[test]
fn how_blocks_are_kept_is_told_where_it_is_not_as_blocks() {
    let (_, config) = family().swap_remove(0);
    let original = model_with_tokenizer(&config);
    let root = tempfile::tempdir().expect("made");
    let file = root.path().join("file");
    quantise(original.path(), BlockType::Q8_0, &file).expect("written");
    let told = |directory: &Path, blocks| path_of(&load(directory, blocks));
    let made = told(original.path(), Some(BlockType::Q8_0));
    assert!(made.ends_with("f16, Q8_0 blocks as f16 numbers"), "{made}");
    let read = told(&file, None);
    assert!(
        read.ends_with("f16, blocks of the GGUF file as f16 numbers"),
        "{read}"
    );
    assert!(told(original.path(), None).ends_with(" f16"));
    // Beside f32 they stay blocks.
    let whole = Model::load_whole(&file).expect("loads");
    assert_eq!(whole.kept(), None);
    assert!(whole.weight_bytes() < load(&file, None).weight_bytes());
}
