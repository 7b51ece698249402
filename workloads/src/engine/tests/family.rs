//! Every model of the family, with random weights: against the formulas written out in f64, from
//! one file, from several and from GGUF.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};

use super::reference::Reference;
use crate::engine::tensors::all_shapes;
use crate::engine::train::noise::Noise;
use crate::engine::{EngineError, Model};
use crate::model_config::{Architecture, ModelConfig, RopeScaling};
use crate::recipe::Recipe;

/// The micro shape as each model of the family has it.
pub(super) fn family() -> Vec<(&'static str, ModelConfig)> {
    let micro = Recipe::by_name("micro").expect("exists").config;
    let micro = ModelConfig {
        layers: 3,
        max_positions: 64,
        ..micro
    };
    let llama3 = RopeScaling::Llama3 {
        factor: 8.0,
        low_frequency_factor: 1.0,
        high_frequency_factor: 4.0,
        original_positions: 16,
    };
    vec![
        (
            "Llama 2",
            ModelConfig {
                tie_embeddings: false,
                ..micro
            },
        ),
        (
            "Llama 3",
            ModelConfig {
                rope_theta: 500_000.0,
                rope_scaling: Some(llama3),
                ..micro
            },
        ),
        (
            "Llama with biases, positions interpolated",
            ModelConfig {
                attention_bias: true,
                output_bias: true,
                rope_scaling: Some(RopeScaling::Linear { factor: 2.0 }),
                ..micro
            },
        ),
        (
            "Mistral",
            ModelConfig {
                architecture: Architecture::Mistral,
                sliding_window: Some(7),
                tie_embeddings: false,
                ..micro
            },
        ),
        (
            "Qwen2",
            ModelConfig {
                architecture: Architecture::Qwen2,
                attention_bias: true,
                ..micro
            },
        ),
        (
            "Qwen3",
            ModelConfig {
                architecture: Architecture::Qwen3,
                head_norm: true,
                // Its heads are wider than their share of the state.
                head_width: 32,
                tie_embeddings: false,
                ..micro
            },
        ),
    ]
}

/// Random values for every tensor of a model, by name.
pub(super) fn weights(config: &ModelConfig) -> BTreeMap<String, (Vec<u32>, Vec<f32>)> {
    let tensors = all_shapes(config).into_iter().map(|(name, shape)| {
        let count: u32 = shape.iter().product();
        let count = usize::try_from(count).expect("small");
        // Matrices keep the size of what they map, so that errors are not blown up.
        let spread = match *shape.as_slice() {
            [_, inputs] => 1.0 / f64::from(inputs).sqrt(),
            _ => 0.15,
        };
        let mut values = Noise::new(5, &name).normal(count, spread);
        if name.ends_with("norm.weight") {
            values.iter_mut().for_each(|value| *value += 1.0);
        }
        (name, (shape, values))
    });
    tensors.collect()
}

pub(super) fn write_tensors(path: &Path, tensors: &BTreeMap<String, (Vec<u32>, Vec<f32>)>) {
    let bytes: BTreeMap<&String, (Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, (shape, values))| {
            let shape = shape
                .iter()
                .map(|size| usize::try_from(*size).expect("small"));
            let bytes = values.iter().flat_map(|value| value.to_le_bytes());
            (name, (shape.collect(), bytes.collect()))
        })
        .collect();
    let views = bytes.iter().map(|(name, (shape, bytes))| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("whole");
        ((*name).clone(), view)
    });
    safetensors::serialize_to_file(views.collect::<Vec<_>>(), None, path).expect("written");
}

/// A model of that shape with random weights, in one file.
pub(super) fn random_model(config: &ModelConfig) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("made");
    let text = config.to_hugging_face_json().expect("writes");
    std::fs::write(directory.path().join("config.json"), text).expect("written");
    write_tensors(
        &directory.path().join("model.safetensors"),
        &weights(config),
    );
    directory
}

pub(super) fn scores(directory: &Path, tokens: &[u32]) -> Vec<Vec<f32>> {
    let model = Model::load_whole(directory).expect("loads");
    let mut cache = model.new_cache();
    let mut scores = Vec::new();
    // In three passes: a prompt, some more, and one token at a time.
    let (prompt, rest) = tokens.split_at(tokens.len() / 2);
    let (more, single) = rest.split_at(rest.len() / 2);
    for pass in [prompt, more].into_iter().chain(single.chunks(1)) {
        let position = cache.positions();
        let hidden = model.embed(pass).expect("embeds");
        let hidden = model.forward(&hidden, position, &mut cache).expect("runs");
        scores.extend(model.logits(&hidden).expect("scores"));
    }
    scores
}

pub(super) fn tokens() -> Vec<u32> {
    (0..40).map(|token| token * 37 % 96).collect()
}

#[test]
fn every_model_of_the_family_agrees_with_its_formulas_in_f64() {
    for (name, config) in family() {
        let directory = random_model(&config);
        let found = scores(directory.path(), &tokens());
        let reference = Reference::load(directory.path()).scores(&tokens());
        assert_eq!(found.len(), reference.len());
        for (position, (found, reference)) in found.iter().zip(&reference).enumerate() {
            let largest = reference.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
            for (found, reference) in found.iter().zip(reference) {
                let difference = (f64::from(*found) - reference).abs();
                assert!(
                    difference < 2e-5 * (1.0 + largest),
                    "{name}, token {position}: {found} and {reference}"
                );
            }
        }
    }
}

#[test]
fn weights_in_several_files_are_those_of_one() {
    let (_, config) = family().swap_remove(4);
    let one = random_model(&config);
    let several = tempfile::tempdir().expect("made");
    std::fs::copy(
        one.path().join("config.json"),
        several.path().join("config.json"),
    )
    .expect("copied");
    let all = weights(&config);
    let mut map = BTreeMap::new();
    for (number, name) in [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
    .into_iter()
    .enumerate()
    {
        let part = all
            .iter()
            .enumerate()
            .filter(|(index, _)| index % 2 == number);
        let part: BTreeMap<_, _> = part
            .map(|(_, (name, tensor))| (name.clone(), tensor.clone()))
            .collect();
        map.extend(part.keys().map(|tensor| (tensor.clone(), name)));
        write_tensors(&several.path().join(name), &part);
    }
    let index = several.path().join("model.safetensors.index.json");
    let text = |map: &BTreeMap<String, &str>| serde_json::json!({ "weight_map": map }).to_string();
    std::fs::write(&index, text(&map)).expect("written");
    assert_eq!(
        scores(several.path(), &tokens()),
        scores(one.path(), &tokens())
    );

    // A missing file, one outside the directory, and a wrong index are told by name.
    let error = |map: &BTreeMap<String, &str>| {
        std::fs::write(&index, text(map)).expect("written");
        Model::load_whole(several.path())
            .expect_err("refused")
            .to_string()
    };
    let norm = "model.norm.weight".to_owned();
    let mut other = map.clone();
    other.insert(norm.clone(), "../elsewhere.safetensors");
    assert!(error(&other).contains("no file name"), "{}", error(&other));
    other.insert(norm.clone(), "model-00003.safetensors");
    assert!(error(&other).contains("model-00003"), "{}", error(&other));
    let wrong = match map[&norm] {
        "model-00001-of-00002.safetensors" => "model-00002-of-00002.safetensors",
        _ => "model-00001-of-00002.safetensors",
    };
    other.insert(norm.clone(), wrong);
    assert!(error(&other).contains("and it is not"), "{}", error(&other));
    other.remove(&norm);
    let error = error(&other);
    assert!(error.contains("model.norm.weight"), "{error}");
}

#[test]
fn a_model_of_another_kind_is_refused_by_name_before_its_weights_are_read() {
    let (_, config) = family().swap_remove(0);
    let directory = random_model(&config);
    let path = directory.path().join("config.json");
    let text = std::fs::read_to_string(&path).expect("read");
    std::fs::write(&path, text.replace("\"llama\"", "\"phi3\"")).expect("written");
    let error = Model::load_whole(directory.path()).expect_err("refused");
    let EngineError::Config { source, .. } = &error else {
        unreachable!("{error}");
    };
    let source = source.to_string();
    assert!(
        source.contains("phi3") && source.contains("qwen2"),
        "{source}"
    );
}
