//! Adapters beside a shared backbone: each as if it had been merged into the weights, and in a batch as if
//! alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use half::f16;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::family::{family, random_model, tokens, weights, write_tensors};
use crate::engine::adapters::{Adapters, parameters};
use crate::engine::train::noise::Noise;
use crate::engine::{EngineError, Model};
use crate::model_config::ModelConfig;

const ALPHA: f64 = 6.0;

/// Tokens of some slots, and their last scores.
type Answers = (Vec<Vec<u32>>, Vec<Vec<f32>>);

fn size(value: u32) -> usize {
    usize::try_from(value).unwrap()
}

/// The matrices of an adapter, by layer and map: down (rank x inputs) and up (outputs x rank), as f16 holds
/// them.
fn matrices(
    config: &ModelConfig,
    rank: u32,
    seed: u64,
) -> BTreeMap<(u32, &'static str), [Vec<f32>; 2]> {
    let mut all = BTreeMap::new();
    for layer in 0..config.layers {
        let maps = [("q_proj", config.heads), ("v_proj", config.kv_heads)];
        for (map, heads) in maps {
            let outputs = heads * config.head_width;
            let normal = |half: &str, count: u32| {
                let name = format!("{layer} {map} {half}");
                let values = Noise::new(seed, &name).normal(size(count), 0.12);
                values
                    .iter()
                    .map(|value| f16::from_f32(*value).to_f32())
                    .collect()
            };
            let pair = [
                normal("down", rank * config.width),
                normal("up", outputs * rank),
            ];
            all.insert((layer, map), pair);
        }
    }
    all
}

/// An adapter's directory, as PEFT writes it, in 16 bits.
pub(super) fn write_adapter(root: &Path, config: &ModelConfig, rank: u32, seed: u64) -> PathBuf {
    let directory = root.join(format!("adapter-{seed}"));
    std::fs::create_dir(&directory).unwrap();
    let text = format!(
        r#"{{"peft_type": "LORA", "r": {rank}, "lora_alpha": {ALPHA}, "target_modules": ["v_proj", "q_proj"]}}"#
    );
    std::fs::write(directory.join("adapter_config.json"), text).unwrap();
    let mut tensors = Vec::new();
    for ((layer, map), pair) in matrices(config, rank, seed) {
        let outputs = pair[1].len() / size(rank);
        let shapes = [[size(rank), size(config.width)], [outputs, size(rank)]];
        for ((half, shape), values) in ["lora_A", "lora_B"].into_iter().zip(shapes).zip(&pair) {
            let name =
                format!("base_model.model.model.layers.{layer}.self_attn.{map}.{half}.weight");
            let bytes: Vec<u8> = values
                .iter()
                .flat_map(|value| f16::from_f32(*value).to_le_bytes())
                .collect();
            tensors.push((name, shape.to_vec(), bytes));
        }
    }
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F16, shape.clone(), bytes).unwrap();
        (name.clone(), view)
    });
    let file = directory.join("adapter_model.safetensors");
    safetensors::serialize_to_file(views.collect::<Vec<_>>(), None, &file).unwrap();
    directory
}

/// A model whose weights have the adapter in them: `W + alpha / r B A`.
fn merged(config: &ModelConfig, rank: u32, seed: u64) -> tempfile::TempDir {
    let directory = random_model(config);
    let mut all = weights(config);
    for ((layer, map), [down, up]) in matrices(config, rank, seed) {
        let name = format!("model.layers.{layer}.self_attn.{map}.weight");
        let (_, weight) = all.get_mut(&name).unwrap();
        let (rank, width) = (size(rank), size(config.width));
        for (row, up) in weight.chunks_mut(width).zip(up.chunks(rank)) {
            for (column, value) in row.iter_mut().enumerate() {
                let pairs = up.iter().enumerate();
                let products = pairs
                    .map(|(place, up)| f64::from(*up) * f64::from(down[place * width + column]));
                let added = products.sum::<f64>() * ALPHA / f64::from(u32::try_from(rank).unwrap());
                #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
                let sum = (f64::from(*value) + added) as f32;
                *value = sum;
            }
        }
    }
    write_tensors(&directory.path().join("model.safetensors"), &all);
    directory
}

fn logits(model: &Model, tokens: &[u32], adapters: Option<(&Adapters, u32)>) -> Vec<Vec<f32>> {
    let hidden = model.embed(tokens).unwrap();
    let mut cache = model.new_cache();
    let hidden = match adapters {
        Some(adapter) => model.forward_adapted(&hidden, 0, &mut cache, adapter),
        None => model.forward(&hidden, 0, &mut cache),
    };
    model.logits(&hidden.unwrap()).unwrap()
}

fn farthest(one: &[Vec<f32>], other: &[Vec<f32>]) -> f32 {
    let pairs = one.iter().flatten().zip(other.iter().flatten());
    pairs
        .map(|(one, other)| (one - other).abs())
        .fold(0.0, f32::max)
}

#[test]
fn an_adapter_scores_as_if_it_were_in_the_weights_and_only_its_own_bytes_are_read() {
    for (name, config) in family() {
        let directory = random_model(&config);
        let root = tempfile::tempdir().unwrap();
        let model = Model::load_whole(directory.path()).unwrap();
        // The second has a lower rank and is filled with zeros.
        let ranks = [(4, 11), (2, 12)];
        let directories = ranks.map(|(rank, seed)| write_adapter(root.path(), &config, rank, seed));
        let adapters = model.load_adapters(&directories).unwrap();
        assert_eq!(adapters.count(), 2);
        let formula = 2 * (parameters(&config, 4) + parameters(&config, 2));
        assert_eq!(adapters.stored_bytes(), formula, "{name}");
        let tokens = &tokens()[..13];
        let plain = logits(&model, tokens, None);
        for ((rank, seed), adapter) in ranks.into_iter().zip(0..) {
            let merged = merged(&config, rank, seed);
            let merged = Model::load_whole(merged.path()).unwrap();
            let expected = logits(&merged, tokens, None);
            let found = logits(&model, tokens, Some((&adapters, adapter)));
            assert!(
                farthest(&found, &expected) < 1e-4,
                "{name}, adapter {adapter}"
            );
            assert!(farthest(&found, &plain) > 1e-2, "{name}, adapter {adapter}");
        }
    }
}

#[test]
fn sequences_of_different_adapters_and_of_none_pass_together_as_each_does_alone() {
    let (_, config) = family().swap_remove(0);
    let directory = random_model(&config);
    let root = tempfile::tempdir().unwrap();
    let model = Model::load_whole(directory.path()).unwrap();
    let ranks = [(4, 11), (2, 12), (4, 13)];
    let directories = ranks.map(|(rank, seed)| write_adapter(root.path(), &config, rank, seed));
    let adapters = model.load_adapters(&directories).unwrap();
    let of_slots = [Some(2), None, Some(0), Some(1), Some(2)];
    let prompts: Vec<Vec<u32>> = (0..5)
        .map(|slot| tokens()[slot..slot + 6 + slot].to_vec())
        .collect();
    let begin = |prompt: &[u32], adapter: Option<u32>| {
        let hidden = model.embed(prompt).unwrap();
        let mut cache = model.new_cache();
        let hidden = match adapter {
            Some(adapter) => model.forward_adapted(&hidden, 0, &mut cache, (&adapters, adapter)),
            None => model.forward(&hidden, 0, &mut cache),
        };
        (cache, model.next_token(&hidden.unwrap()).unwrap())
    };
    let answer = |slots_of: &[usize]| -> Answers {
        let mut slots = model.new_slots(5, 40).unwrap();
        let mut answers = Vec::new();
        for slot in slots_of {
            let (cache, first) = begin(&prompts[*slot], of_slots[*slot]);
            slots.fill(&cache).unwrap();
            answers.push(vec![first]);
        }
        let own: Vec<Option<u32>> = slots_of.iter().map(|slot| of_slots[*slot]).collect();
        let mut scores = Vec::new();
        for _ in 0..8 {
            let last: Vec<u32> = answers
                .iter()
                .map(|tokens| *tokens.last().unwrap())
                .collect();
            let hidden = model.embed(&last).unwrap();
            let hidden = model.forward_slots_adapted(&hidden, &mut slots, (&adapters, &own));
            let hidden = hidden.unwrap();
            scores = model.logits(&hidden).unwrap();
            for (answer, token) in answers.iter_mut().zip(model.next_tokens(&hidden).unwrap()) {
                answer.push(token);
            }
        }
        (answers, scores)
    };
    let (together, scores) = answer(&[0, 1, 2, 3, 4]);
    for slot in 0..5 {
        let (alone, of_alone) = answer(&[slot]);
        assert_eq!(alone[0], together[slot], "slot {slot}");
        let apart = farthest(&of_alone, &scores[slot..=slot]);
        assert!(apart < 2e-5, "slot {slot}: {apart}");
    }
}

#[test]
fn adapters_that_do_not_fit_are_refused_in_words() {
    let (_, config) = family().swap_remove(0);
    let directory = random_model(&config);
    let root = tempfile::tempdir().unwrap();
    let model = Model::load_whole(directory.path()).unwrap();
    let path = write_adapter(root.path(), &config, 4, 11);
    let adapters = model.load_adapters(std::slice::from_ref(&path)).unwrap();
    let hidden = model.embed(&[1]).unwrap();
    let refused = model.forward_adapted(&hidden, 0, &mut model.new_cache(), (&adapters, 1));
    assert!(matches!(
        refused,
        Err(EngineError::NoAdapter {
            adapter: 1,
            adapters: 1
        })
    ));
    let mut slots = model.new_slots(1, 8).unwrap();
    let refused = model.forward_slots_adapted(&hidden, &mut slots, (&adapters, &[Some(0)]));
    assert!(matches!(refused, Err(EngineError::SlotTokens { .. })));

    let config_file = path.join("adapter_config.json");
    for (text, why) in [
        (
            r#"{"r": 4, "lora_alpha": 8, "target_modules": ["k_proj"]}"#,
            "k_proj",
        ),
        (
            r#"{"r": 0, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}"#,
            "rank is 0",
        ),
        (
            r#"{"r": 2, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}"#,
            "config.json implies",
        ),
        (r#"{"r": 4}"#, "lora_alpha"),
        (
            r#"{"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "use_dora": true}"#,
            "use_dora",
        ),
    ] {
        std::fs::write(&config_file, text).unwrap();
        let error = model
            .load_adapters(std::slice::from_ref(&path))
            .unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    let text = r#"{"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}"#;
    std::fs::write(&config_file, text).unwrap();
    for (changed, why) in [
        (Changed::NotNumbers, "not numbers"),
        (
            Changed::Unread,
            "nothing here reads its base_model.model.lm_head.lora_A.weight",
        ),
    ] {
        change_weights(&path.join("adapter_model.safetensors"), changed);
        let error = model
            .load_adapters(std::slice::from_ref(&path))
            .unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    std::fs::remove_file(&config_file).unwrap();
    assert!(matches!(
        model.load_adapters(&[path]),
        Err(EngineError::Read { .. })
    ));
}

/// What is done to the weights of an adapter.
#[derive(Clone, Copy, PartialEq)]
enum Changed {
    /// A value of one matrix is none.
    NotNumbers,
    /// There is a matrix beside another map.
    Unread,
}

fn change_weights(path: &Path, changed: Changed) {
    let file = std::fs::read(path).unwrap();
    let stored = safetensors::SafeTensors::deserialize(&file).unwrap();
    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = stored
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            (
                name,
                view.dtype(),
                view.shape().to_vec(),
                view.data().to_vec(),
            )
        })
        .collect();
    let nan = f16::NAN.to_le_bytes();
    if changed == Changed::NotNumbers {
        tensors[0].3[..2].copy_from_slice(&nan);
    } else {
        let name = "base_model.model.lm_head.lora_A.weight".to_owned();
        tensors.push((name, Dtype::F16, vec![1], nan.to_vec()));
    }
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        let view = TensorView::new(*dtype, shape.clone(), bytes).unwrap();
        (name.clone(), view)
    });
    safetensors::serialize_to_file(views.collect::<Vec<_>>(), None, path).unwrap();
}
