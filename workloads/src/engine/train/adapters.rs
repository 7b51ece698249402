//! Training of low-rank adapters: the backbone stays as it is, and pairs beside the query and value maps of each layer
//! learn one task's text (`LoRA`, arXiv 2106.09685: A normal, B zero at first, so that training begins at the
//! backbone).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor, Var};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::network::{Network, Pair};
use super::noise::Noise;
use super::optimiser::AdamW;
use super::{
    MOST_REPORT_BYTES, Order, TokenText, TrainingProgress, evaluate, gradients, in_halves, pools,
    put_in_place, save_tensors, write, write_error,
};
use crate::clock;
use crate::engine::adapters::{Half, config_text, tensor_name};
use crate::engine::error::EngineError;
use crate::engine::input::read_text;
use crate::engine::recipe_cache::TRAINING_FILE;
use crate::engine::tasks;
use crate::engine::tensors::layer_shapes;
use crate::engine::text::TextTokenizer;
use crate::model_config::ModelConfig;
use crate::recipe::{
    ADAPTER_CONFIG_FILE, ADAPTER_TEXT_FILE, ADAPTER_WEIGHTS_FILE, ADAPTERS_DIRECTORY, Recipe,
    hexadecimal,
};

/// Rank of the built-in adapters.
const RANK: u32 = 8;

/// Their `lora_alpha`.
const ALPHA: f64 = 16.0;

/// Raised when the training of adapters changes in a way that changes its result.
const VERSION: u32 = 1;

/// Paragraphs of a task to learn from, and those that are never trained on.
const LEARNT_PARAGRAPHS: usize = 160;
const HELD_OUT_PARAGRAPHS: usize = 48;

/// What the training of an adapter came to; also in its directory's training.json.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterReport {
    /// How it was trained.
    pub recipe: Recipe,
    /// Hash of everything that determines it on a given machine.
    pub adapter_sha256: String,
    /// Its parameters.
    pub parameters: u64,
    /// Loss of the backbone on text of the task that was never trained on, in nats per token.
    pub backbone_loss: f64,
    /// The same with the adapter.
    pub held_out_loss: f64,
    /// Wall-clock time.
    pub seconds: f64,
}

/// How the adapters of a recipe's model are trained: less of everything, for they are small.
#[must_use]
pub fn recipe_of(recipe: &Recipe, task: &str) -> Recipe {
    Recipe {
        name: format!("{} adapter {task}", recipe.name),
        steps: recipe.steps / 5,
        learning_rate: 1e-2,
        warmup_steps: 3,
        weight_decay: 0.0,
        sequence: recipe.sequence.min(64),
        ..recipe.clone()
    }
}

fn sha256(recipe: &Recipe, task: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(b"hexloop adapter\0");
    hasher.update(VERSION.to_le_bytes());
    hasher.update(recipe_of(recipe, task).sha256_hex());
    hasher.update(format!(
        "{RANK} {ALPHA} {LEARNT_PARAGRAPHS} {HELD_OUT_PARAGRAPHS}"
    ));
    hasher.update(tasks::SOURCE);
    hexadecimal(&hasher.finalize())
}

/// The directory of an adapter of the model in `directory`.
#[must_use]
pub fn adapter_directory(directory: &Path, task: &str) -> PathBuf {
    directory.join(ADAPTERS_DIRECTORY).join(task)
}

/// Whether a model's directory holds the adapter for a task that its recipe asks for.
#[must_use]
pub fn is_current(recipe: &Recipe, directory: &Path, task: &str) -> bool {
    let place = adapter_directory(directory, task);
    let report = read_text(&place.join(TRAINING_FILE), MOST_REPORT_BYTES).ok();
    let report = report.and_then(|text| serde_json::from_str::<AdapterReport>(&text).ok());
    report.is_some_and(|report| report.adapter_sha256 == sha256(recipe, task))
        && [ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE, ADAPTER_TEXT_FILE]
            .iter()
            .all(|file| place.join(file).is_file())
}

/// Trains the adapter of a recipe's trained model for a task and puts it into the model's directory, whole and at
/// once. Where somebody else was faster, theirs stays.
///
/// # Errors
/// A task that does not exist, a directory without that model, or one that cannot be written.
pub fn train_adapter(
    recipe: &Recipe,
    (directory, task): (&Path, &str),
    progress: &mut dyn FnMut(TrainingProgress),
) -> Result<AdapterReport, EngineError> {
    let started = clock::now();
    let own = recipe_of(recipe, task);
    let tokenizer = TextTokenizer::load(directory)?;
    let no_task = || EngineError::Recipe {
        name: own.name.clone(),
        reason: "there is no such task".to_owned(),
    };
    let paragraphs = |purpose: &str, count| {
        tasks::paragraphs(task, (own.seed, purpose), count).ok_or_else(no_task)
    };
    let text = |paragraphs: &[String]| TokenText::new(&tokenizer, paragraphs, &own);
    let learnt = text(&paragraphs("learnt", LEARNT_PARAGRAPHS)?)?;
    let held_out_paragraphs = paragraphs("held-out", HELD_OUT_PARAGRAPHS)?;
    let held_out = text(&held_out_paragraphs)?;
    let mut network = Network::load(directory)?;
    let pools = pools()?;
    let loss_of = |network: &Network| {
        let evaluated = pools[0].install(|| evaluate(network, &held_out));
        let evaluated = evaluated.map_err(EngineError::tensor("evaluating an adapter"))?;
        Ok(evaluated.0)
    };
    let backbone_loss = loss_of(&network)?;
    let making = EngineError::tensor("making the first adapter");
    let (variables, pairs) = first(network.config(), own.seed, task).map_err(making)?;
    network.adapt(pairs);
    let mut optimiser = AdamW::new(&variables);
    let mut order = Order::new(&own, &learnt);
    for step in 0..own.steps {
        let batch = order.next_batch(&learnt);
        let (loss, shares) = in_halves(&batch, &pools, |half| gradients(&network, half))
            .map_err(EngineError::tensor("computing gradients of an adapter"))?;
        optimiser
            .step(&own, &variables, &shares)
            .map_err(EngineError::tensor("moving the weights of an adapter"))?;
        progress(TrainingProgress {
            step: step + 1,
            steps: own.steps,
            loss,
            held_out_loss: None,
        });
    }
    let held_out_loss = loss_of(&network)?;
    let place = adapter_directory(directory, task);
    let partial = format!(".{task}.{}.partial", std::process::id());
    let partial = place.with_file_name(partial);
    std::fs::create_dir_all(&partial).map_err(write_error(&partial))?;
    save_tensors(&variables, &partial.join(ADAPTER_WEIGHTS_FILE))?;
    write(
        &partial.join(ADAPTER_CONFIG_FILE),
        config_text(RANK, ALPHA).as_bytes(),
    )?;
    write(
        &partial.join(ADAPTER_TEXT_FILE),
        held_out_paragraphs.join("\n").as_bytes(),
    )?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds are told to the microsecond"
    )]
    let seconds = ((clock::now() - started) / 1_000) as f64 / 1e6;
    let report = AdapterReport {
        parameters: crate::engine::adapters::parameters(network.config(), RANK),
        recipe: own,
        adapter_sha256: sha256(recipe, task),
        backbone_loss,
        held_out_loss,
        seconds,
    };
    // Of numbers, names and strings: there is nothing in it that JSON cannot hold.
    let described = serde_json::to_string_pretty(&report).unwrap_or_default();
    write(&partial.join(TRAINING_FILE), described.as_bytes())?;
    put_in_place(&partial, &place, || is_current(recipe, directory, task))?;
    Ok(report)
}

/// The matrices by PEFT's names, and the same by the maps that they stand beside.
type First = (BTreeMap<String, Var>, BTreeMap<String, Pair>);

fn first(config: &ModelConfig, seed: u64, task: &str) -> candle_core::Result<First> {
    let (mut variables, mut pairs) = (BTreeMap::new(), BTreeMap::new());
    let size = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
    for layer in 0..config.layers {
        let targets = [("q_proj", config.heads), ("v_proj", config.kv_heads)];
        for (target, heads) in targets {
            let name = tensor_name(layer, target, Half::Down);
            let spread = 1.0 / f64::from(config.width).sqrt();
            let values = Noise::new(seed, &format!("{task} {name}"))
                .normal(size(RANK * config.width), spread);
            let down = Var::from_vec(values, (size(RANK), size(config.width)), &Device::Cpu)?;
            let outputs = size(heads * config.head_width);
            let up = Tensor::zeros((outputs, size(RANK)), DType::F32, &Device::Cpu)?;
            let up = Var::from_tensor(&up)?;
            let map = layer_shapes(config, layer)
                .into_iter()
                .find(|(name, _)| name.contains(target));
            if let Some((map, _)) = map {
                let scale = ALPHA / f64::from(RANK);
                let (down, up) = (down.clone(), up.clone());
                pairs.insert(map, Pair { down, up, scale });
            }
            variables.insert(name, down);
            variables.insert(tensor_name(layer, target, Half::Up), up);
        }
    }
    Ok((variables, pairs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Model;
    use crate::engine::adapters::{merged_weights, parameters};
    use crate::engine::tests::copy_of_micro;
    use crate::recipe::TASKS;

    #[test]
    fn adapters_learn_their_task_are_read_back_as_files_and_score_as_merged_weights() {
        let root = copy_of_micro();
        let recipe = Recipe::by_name("micro").unwrap();
        let task = TASKS[0];
        assert!(!is_current(&recipe, root.path(), task));
        let report = train_adapter(&recipe, (root.path(), task), &mut |_| ()).unwrap();
        assert!(is_current(&recipe, root.path(), task));
        assert!(!is_current(&recipe, root.path(), TASKS[1]));
        assert!(
            report.held_out_loss < report.backbone_loss - 0.3,
            "{report:?}"
        );

        let model = Model::load_whole(root.path()).unwrap();
        let place = adapter_directory(root.path(), task);
        let adapters = model.load_adapters(std::slice::from_ref(&place)).unwrap();
        assert_eq!(
            adapters.stored_bytes(),
            4 * parameters(model.config(), RANK)
        );
        assert_eq!(report.parameters, parameters(model.config(), RANK));
        let tokens: Vec<u32> = (1..20).collect();
        let states = model.embed(&tokens).unwrap();
        let adapted = model.forward_adapted(&states, 0, &mut model.new_cache(), (&adapters, 0));
        let adapted = model.logits(&adapted.unwrap()).unwrap();
        let merged = merged_weights(root.path(), &place).unwrap();
        std::fs::write(root.path().join("model.safetensors"), merged).unwrap();
        let model = Model::load_whole(root.path()).unwrap();
        let states = model.embed(&tokens).unwrap();
        let states = model.forward(&states, 0, &mut model.new_cache()).unwrap();
        let merged = model.logits(&states).unwrap();
        for (adapted, merged) in adapted.iter().flatten().zip(merged.iter().flatten()) {
            assert!((adapted - merged).abs() < 1e-3, "{adapted} {merged}");
        }
        let error = train_adapter(&recipe, (root.path(), "poems"), &mut |_| ()).unwrap_err();
        assert!(error.to_string().contains("no such task"), "{error}");
    }
}
