//! What a model will occupy, against what it occupies once it is loaded.

use std::path::Path;

use safetensors::SafeTensors;

use super::adapters::write_adapter;
use super::blocks::model_with_tokenizer;
use super::encoder::{SMALL, write_description, write_encoder};
use super::family::family;
use super::{BACK, FRONT, WHOLE};
use crate::engine::adapters::merged_weights;
use crate::engine::gguf::{BlockType, quantise};
use crate::engine::halves::Half;
use crate::engine::memory::{Needed, key_value_bytes, tensor_bytes};
use crate::engine::vision::{VisionConfig, VisionEncoder, shapes};
use crate::engine::weights::{Weights, read_config, write_random};
use crate::engine::{Compute, EngineError, Model, Parts, all_shapes};

fn told_and_found(directory: &Path, parts: Parts, blocks: Option<BlockType>) -> (u64, u64) {
    let (config, compute) = (read_config(directory).expect("read"), Compute::cpu());
    let layers = 1..config.layers;
    let kept = blocks.map(|of| (of, config));
    let weights = Weights::open_in_blocks(directory, &compute, kept).expect("opened");
    let told = Needed::of(&weights, &config, &layers, parts).weights;
    let model = Model::load_in_blocks(directory, layers, parts, (&compute, blocks));
    (told, model.expect("loads").weight_bytes())
}

#[test]
fn what_weights_will_occupy_is_what_they_do_whatever_they_are_stored_as() {
    for (name, config) in family() {
        let original = model_with_tokenizer(&config);
        for parts in [WHOLE, FRONT, BACK] {
            let (told, found) = told_and_found(original.path(), parts, None);
            assert_eq!(told, found, "{name}, {parts:?}");
            let (told, found) = told_and_found(original.path(), parts, Some(BlockType::Q8_0));
            assert_eq!(told, found, "{name}, {parts:?} in blocks");
        }
        for kind in [
            BlockType::F16,
            BlockType::Q8_0,
            BlockType::Q4_0,
            BlockType::Q4K,
        ] {
            let root = tempfile::tempdir().expect("made");
            let written = root.path().join("written");
            quantise(original.path(), kind, &written).expect("written");
            let (told, found) = told_and_found(&written, WHOLE, None);
            assert_eq!(told, found, "{name} as {kind}");
        }
    }
}

#[test]
fn half_of_every_layer_takes_half_of_the_room() {
    let compute = Compute::cpu();
    for (name, config) in family() {
        let directory = model_with_tokenizer(&config);
        let Ok(shape) = Half::First.shape(&config) else {
            continue;
        };
        let weights = Weights::open_on(directory.path(), &compute).expect("opened");
        let told = Needed::of(&weights, &shape, &(0..config.layers), BACK).weights;
        let half = Model::load_half(directory.path(), Half::First, BACK, &compute);
        assert_eq!(told, half.expect("loads").weight_bytes(), "{name}");
    }
}

#[test]
fn what_sequences_will_occupy_is_what_they_do() {
    let (_, config) = family().swap_remove(0);
    let directory = model_with_tokenizer(&config);
    let model = Model::load(directory.path(), 1..3, FRONT).expect("loads");
    let slots = model.new_slots(5, 48).expect("made");
    let told = key_value_bytes(&config, &(1..3), &Compute::cpu(), (5, 48));
    assert_eq!(told, slots.bytes());
}

#[test]
fn what_a_vision_encoder_will_occupy_is_what_it_does() {
    let (_, config) = family().swap_remove(0);
    let directory = model_with_tokenizer(&config);
    write_encoder(directory.path(), &SMALL, config.width);
    let model = Model::load(directory.path(), 0..0, FRONT).expect("loads");
    let encoder = VisionEncoder::load(directory.path(), &model).expect("loads");
    let (told, reading) = tensor_bytes(&shapes(&SMALL, config.width), &Compute::cpu());
    assert_eq!(told, encoder.weight_bytes());
    assert!(reading > 0 && reading < 2 * told, "{reading} of {told}");
}

#[test]
fn a_vision_encoder_that_no_machine_has_room_for_is_refused_before_it_is_read() {
    let (_, config) = family().swap_remove(0);
    let directory = model_with_tokenizer(&config);
    // The most that a description may say: 10^14 bytes. There are no weights.
    let endless = VisionConfig {
        hidden_size: 1 << 14,
        intermediate_size: 1 << 14,
        num_hidden_layers: 1 << 14,
        ..SMALL
    };
    write_description(directory.path(), &endless);
    let model = Model::load(directory.path(), 0..0, FRONT).expect("loads");
    let error = VisionEncoder::load(directory.path(), &model).expect_err("refused");
    assert!(matches!(error, EngineError::Memory { .. }), "{error}");
    let told = error.to_string();
    assert!(
        told.contains("vision/config.json") && told.contains("is left"),
        "{told}"
    );
}

#[test]
fn what_a_full_model_with_an_adapter_will_occupy_is_what_is_in_its_file() {
    let (_, config) = family().swap_remove(0);
    let directory = model_with_tokenizer(&config);
    let adapter = write_adapter(directory.path(), &config, 4, 11);
    let merged = merged_weights(directory.path(), &adapter).expect("merged");
    let tensors = SafeTensors::deserialize(&merged).expect("whole").tensors();
    let found: usize = tensors.iter().map(|(_, view)| view.data().len()).sum();
    let (told, _) = tensor_bytes(&all_shapes(&config), &Compute::cpu());
    assert_eq!(Ok(told), u64::try_from(found));
}

#[test]
fn a_model_that_no_machine_has_room_for_is_not_merged_with_an_adapter() {
    let directory = endless_model();
    // Nothing of an adapter is looked for.
    let error = merged_weights(directory.path(), &directory.path().join("none"));
    let error = error.expect_err("refused");
    assert!(matches!(error, EngineError::Memory { .. }), "{error}");
    let told = error.to_string();
    assert!(
        told.contains("an adapter merged into its weights") && told.contains("is left"),
        "{told}"
    );
}

/// A directory that describes a model larger than any memory.
fn endless_model() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("made");
    let (_, config) = family().swap_remove(0);
    let mut published: serde_json::Value =
        serde_json::from_str(&config.to_hugging_face_json().expect("written")).expect("JSON");
    // Four of its numbers as large as nothing is: 10^16 bytes and more.
    published["vocab_size"] = 200_000.into();
    published["hidden_size"] = (1 << 20).into();
    published["intermediate_size"] = (1 << 22).into();
    published["num_hidden_layers"] = 200.into();
    let shape = directory.path().join("shape.json");
    std::fs::write(&shape, published.to_string()).expect("written");
    write_random(&shape, 1, directory.path()).expect("written");
    directory
}

#[test]
fn a_model_that_no_machine_has_room_for_is_refused_before_it_is_read() {
    let directory = endless_model();
    let error = Model::load_whole(directory.path()).expect_err("refused");
    assert!(matches!(error, EngineError::Memory { .. }), "{error}");
    let told = error.to_string();
    assert!(
        told.contains("layers 0..200") && told.contains("is left"),
        "{told}"
    );
}
