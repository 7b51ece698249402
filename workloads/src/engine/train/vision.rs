//! Training of a vision encoder: the language model stays as it is, and encoder and projector learn to put in front of a
//! question what makes it name the image (as `LLaVA`'s projector is aligned, arXiv 2304.08485, section 4.2).
//!
//! The encoder first learns alone to tell things apart, by a linear map from the mean of its states, which is then
//! thrown away: through a frozen model it would learn outlines much more slowly. After that, each half of a batch has
//! its neighbouring patches merged in its own way, so that one encoder serves all of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::network::Network;
use super::noise::Noise;
use super::operations::cross_entropy;
use super::optimiser::AdamW;
use super::{
    MOST_REPORT_BYTES, TrainingProgress, pools, put_in_place, save_tensors, write, write_error,
};
use crate::clock;
use crate::engine::error::EngineError;
use crate::engine::images::{self, QUESTION, SIDE, Scene};
use crate::engine::input::read_text;
use crate::engine::model::{argmax, size};
use crate::engine::recipe_cache::TRAINING_FILE;
use crate::engine::text::TextTokenizer;
use crate::engine::vision::{self, VisionConfig, config_text, shapes};
use crate::engine::weights::{CONFIG_FILE, WEIGHTS_FILE};
use crate::recipe::{Recipe, VISION_DIRECTORY, hexadecimal};
use crate::study::multimodal::MERGES;

/// Raised when this training changes in a way that changes its result.
const VERSION: u32 = 1;

/// Steps in which the encoder learns alone, and those of encoder and projector in front of the language model.
const STEPS_ALONE: u32 = 360;
const STEPS_TOGETHER: u32 = 150;

/// The map from states to things, while the encoder learns alone.
const CLASSIFIER: &str = "classifier.weight";

/// Images that are never trained on, of which each way of merging is asked.
const HELD_OUT: u32 = 128;

/// Their seeds begin here.
const HELD_OUT_FROM: u32 = 1 << 30;

/// The shape of the built-in encoders.
#[must_use]
pub const fn config() -> VisionConfig {
    VisionConfig {
        image_size: SIDE,
        patch_size: 8,
        hidden_size: 96,
        intermediate_size: 192,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        layer_norm_eps: 1e-6,
    }
}

/// What the training of a vision encoder came to; also in its directory's training.json.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VisionReport {
    /// How it was trained.
    pub recipe: Recipe,
    /// Hash of everything that determines it on a given machine.
    pub vision_sha256: String,
    /// Parameters of encoder and projector.
    pub parameters: u64,
    /// Mean loss of the last step, in nats per word.
    pub training_loss: f64,
    /// For each way of merging, the share of words of images that were never trained on that are named.
    pub held_out_shares: Vec<(u32, f64)>,
    /// Wall-clock time.
    pub seconds: f64,
}

/// How the vision encoder of a recipe's model is trained.
#[must_use]
pub fn recipe_of(recipe: &Recipe) -> Recipe {
    Recipe {
        name: format!("{} vision", recipe.name),
        steps: STEPS_ALONE + STEPS_TOGETHER,
        batch: 24,
        learning_rate: 3e-3,
        warmup_steps: 20,
        weight_decay: 0.01,
        ..recipe.clone()
    }
}

fn sha256(recipe: &Recipe) -> String {
    let mut hasher = Sha256::new();
    hasher.update(b"hexloop vision\0");
    hasher.update(VERSION.to_le_bytes());
    hasher.update(recipe_of(recipe).sha256_hex());
    hasher.update(format!(
        "{:?} {MERGES:?} {HELD_OUT} {STEPS_ALONE}",
        config()
    ));
    hasher.update(images::SOURCE);
    hexadecimal(&hasher.finalize())
}

fn vision_directory(directory: &Path) -> PathBuf {
    directory.join(VISION_DIRECTORY)
}

/// Whether a model's directory holds the vision encoder that its recipe asks for.
#[must_use]
pub fn is_current(recipe: &Recipe, directory: &Path) -> bool {
    let place = vision_directory(directory);
    let report = read_text(&place.join(TRAINING_FILE), MOST_REPORT_BYTES).ok();
    let report = report.and_then(|text| serde_json::from_str::<VisionReport>(&text).ok());
    report.is_some_and(|report| report.vision_sha256 == sha256(recipe))
        && [CONFIG_FILE, WEIGHTS_FILE]
            .iter()
            .all(|file| place.join(file).is_file())
}

/// Trains the vision encoder of a recipe's trained model and puts it into the model's directory, whole and at once.
/// Where somebody else was faster, theirs stays.
///
/// # Errors
/// A directory without that model, or one that cannot be written.
pub fn train_vision(
    recipe: &Recipe,
    directory: &Path,
    progress: &mut dyn FnMut(TrainingProgress),
) -> Result<VisionReport, EngineError> {
    let started = clock::now();
    let own = recipe_of(recipe);
    let tokenizer = TextTokenizer::load(directory)?;
    let mut language = Network::load(directory)?;
    language.adapt(BTreeMap::new());
    let width = language.config().width;
    let making = || EngineError::tensor("making the first vision encoder");
    let variables = first(own.seed, width).map_err(making())?;
    let tensors = variables.iter();
    let tensors = tensors.map(|(name, variable)| (name.clone(), variable.as_tensor().clone()));
    let lesson = Lesson {
        language,
        encoder: vision::network::Network::new(config(), tensors.collect()),
        question: tokenizer.encode(QUESTION)?,
        tokenizer,
    };
    let pools = pools()?;
    let mut done = 0;
    let mut training_loss = f64::NAN;
    let mut tell = |loss| {
        done += 1;
        training_loss = loss;
        progress(TrainingProgress {
            step: done,
            steps: own.steps,
            loss,
            held_out_loss: None,
        });
    };
    let classifier = classifier(own.seed).map_err(making())?;
    let mut alone: BTreeMap<String, Var> = variables.clone();
    alone.retain(|name, _| !name.starts_with("multi_modal_projector"));
    alone.insert(CLASSIFIER.to_owned(), classifier.clone());
    teach(
        &own,
        (&alone, STEPS_ALONE),
        (&pools, &mut tell),
        |step, which| {
            let scenes = scenes(&own, 2 * step + which);
            lesson.gradients_alone(&scenes, &classifier)
        },
    )?;
    teach(
        &own,
        (&variables, STEPS_TOGETHER),
        (&pools, &mut tell),
        |step, which| {
            let scenes = scenes(&own, 2 * (STEPS_ALONE + step) + which);
            // Both halves go through all ways, in turns of which no two are alike.
            let merges = u32::try_from(MERGES.len()).unwrap_or(1);
            let merge = MERGES[size((step + which * (1 + step / merges)) % merges)];
            lesson.gradients(&scenes, merge)
        },
    )?;
    let shares = MERGES
        .map(|merge| Ok((merge, pools[0].install(|| lesson.share_named(merge))?)))
        .into_iter()
        .collect::<Result<Vec<_>, EngineError>>()?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds are told to the microsecond"
    )]
    let seconds = ((clock::now() - started) / 1_000) as f64 / 1e6;
    let numbers = shapes(&config(), width);
    let numbers = numbers
        .iter()
        .map(|(_, shape)| shape.iter().copied().map(u64::from).product::<u64>());
    let report = VisionReport {
        recipe: own,
        vision_sha256: sha256(recipe),
        parameters: numbers.sum(),
        training_loss,
        held_out_shares: shares,
        seconds,
    };
    keep(recipe, directory, (&variables, &report))?;
    Ok(report)
}

/// The scenes of one half of a batch; none comes twice.
fn scenes(own: &Recipe, half: u32) -> Vec<Scene> {
    let count = own.batch / 2;
    let numbers = half * count..(half + 1) * count;
    numbers.map(images::learnt_scene).collect()
}

/// Moves variables for so many steps, by the gradients of both halves of each batch, which are computed at once.
fn teach(
    own: &Recipe,
    (variables, steps): (&BTreeMap<String, Var>, u32),
    (pools, tell): (&[rayon::ThreadPool; 2], &mut dyn FnMut(f64)),
    learn: impl Fn(u32, u32) -> Result<(f64, GradStore), EngineError> + Sync,
) -> Result<(), EngineError> {
    let own = Recipe {
        steps,
        ..own.clone()
    };
    let mut optimiser = AdamW::new(variables);
    for step in 0..steps {
        let (loss, shares) = side_by_side(pools, |which| learn(step, which))?;
        optimiser
            .step(&own, variables, &shares)
            .map_err(EngineError::tensor("moving a vision encoder's weights"))?;
        tell(loss);
    }
    Ok(())
}

/// Writes all files beside their place, and moves them there.
fn keep(
    recipe: &Recipe,
    directory: &Path,
    (variables, report): (&BTreeMap<String, Var>, &VisionReport),
) -> Result<(), EngineError> {
    let place = vision_directory(directory);
    let partial = format!(".{VISION_DIRECTORY}.{}.partial", std::process::id());
    let partial = place.with_file_name(partial);
    std::fs::create_dir_all(&partial).map_err(write_error(&partial))?;
    save_tensors(variables, &partial.join(WEIGHTS_FILE))?;
    write(
        &partial.join(CONFIG_FILE),
        config_text(&config()).as_bytes(),
    )?;
    // Of numbers, names and strings: there is nothing in it that JSON cannot hold.
    let described = serde_json::to_string_pretty(report).unwrap_or_default();
    write(&partial.join(TRAINING_FILE), described.as_bytes())?;
    put_in_place(&partial, &place, || is_current(recipe, directory))
}

/// Weights before the first step: maps keep the size of what they map, norms and biases begin as nothing.
fn first(seed: u64, text_width: u32) -> candle_core::Result<BTreeMap<String, Var>> {
    let mut variables = BTreeMap::new();
    for (name, shape) in shapes(&config(), text_width) {
        let sizes: Vec<usize> = shape.iter().copied().map(size).collect();
        let count = sizes.iter().product();
        let inputs: u32 = shape.iter().skip(1).product();
        let values = match sizes.len() {
            1 if name.ends_with("weight") => vec![1.0; count],
            1 => vec![0.0; count],
            _ if name.contains("position") => Noise::new(seed, &name).normal(count, 0.02),
            _ => Noise::new(seed, &name).normal(count, 1.0 / f64::from(inputs).sqrt()),
        };
        let variable = Var::from_vec(values, sizes, &Device::Cpu)?;
        variables.insert(name, variable);
    }
    Ok(variables)
}

fn classifier(seed: u64) -> candle_core::Result<Var> {
    let width = size(config().hidden_size);
    let deviation = 1.0 / f64::from(config().hidden_size).sqrt();
    let values = Noise::new(seed, CLASSIFIER).normal(images::KINDS * width, deviation);
    Var::from_vec(values, (images::KINDS, width), &Device::Cpu)
}

/// What is learnt with.
struct Lesson {
    language: Network,
    encoder: vision::network::Network,
    question: Vec<u32>,
    tokenizer: TextTokenizer,
}

impl Lesson {
    /// Gradients of telling things apart by the mean of their states.
    fn gradients_alone(
        &self,
        scenes: &[Scene],
        classifier: &Var,
    ) -> Result<(f64, GradStore), EngineError> {
        let kinds = scenes.iter().map(|scene| scene.kind).collect();
        let computed = || -> candle_core::Result<(f64, GradStore)> {
            let config = self.encoder.config();
            let states = self.states(scenes)?;
            let shape = (
                scenes.len(),
                size(config.patches()),
                size(config.hidden_size),
            );
            let means = states.reshape(shape)?.mean(1)?;
            let loss = cross_entropy(&means.matmul(&classifier.t()?)?, kinds)?;
            Ok((f64::from(loss.to_scalar::<f32>()?), loss.backward()?))
        };
        computed().map_err(EngineError::tensor("learning to see"))
    }

    fn states(&self, scenes: &[Scene]) -> candle_core::Result<Tensor> {
        let images: Vec<&[u8]> = scenes.iter().map(|scene| scene.image.as_slice()).collect();
        let pixels = vision::network::patches(self.encoder.config(), &images)?;
        self.encoder.encode(&pixels)
    }

    /// Scores behind the questions about some scenes: scenes x vocabulary, and the words.
    fn scores(&self, scenes: &[Scene], merge: u32) -> Result<(Tensor, Vec<u32>), EngineError> {
        let words = scenes.iter().map(|scene| scene.answer(&self.tokenizer));
        let words = words.collect::<Result<_, _>>()?;
        let scores = self.score(scenes, merge);
        let scores = scores.map_err(EngineError::tensor("learning to name what is seen"))?;
        Ok((scores, words))
    }

    fn score(&self, scenes: &[Scene], merge: u32) -> candle_core::Result<Tensor> {
        let square = self.encoder.config().merged_side(merge).unwrap_or(1);
        let visual = self.encoder.project(&self.states(scenes)?, square)?;
        let visual_tokens = visual.dim(0)? / scenes.len();
        let question = self.language.embedded(&self.question)?;
        let mut sequences = Vec::new();
        for index in 0..scenes.len() {
            sequences.push(visual.narrow(0, index * visual_tokens, visual_tokens)?);
            sequences.push(question.clone());
        }
        let states = Tensor::cat(&sequences, 0)?;
        let length = visual_tokens + self.question.len();
        let states = self.language.through_layers(&states, length)?;
        let lasts = (1..=scenes.len()).map(|end| u32::try_from(end * length - 1).unwrap_or(0));
        let lasts: Vec<u32> = lasts.collect();
        let asked = states.index_select(&Tensor::new(lasts, &Device::Cpu)?, 0)?;
        self.language.score(&asked)
    }

    fn gradients(&self, scenes: &[Scene], merge: u32) -> Result<(f64, GradStore), EngineError> {
        let (scores, words) = self.scores(scenes, merge)?;
        let computed = || -> candle_core::Result<(f64, GradStore)> {
            let loss = cross_entropy(&scores, words.into_iter().map(size).collect())?;
            Ok((f64::from(loss.to_scalar::<f32>()?), loss.backward()?))
        };
        computed().map_err(EngineError::tensor(
            "computing gradients of a vision encoder",
        ))
    }

    /// The share of the words of held-out images that have the highest score.
    fn share_named(&self, merge: u32) -> Result<f64, EngineError> {
        let scenes: Vec<Scene> = (HELD_OUT_FROM..HELD_OUT_FROM + HELD_OUT)
            .map(images::learnt_scene)
            .collect();
        let (mut right, mut all) = (0_u32, 0_u32);
        for some in scenes.chunks(16) {
            let (scores, words) = self.scores(some, merge)?;
            let scores = scores.detach().to_vec2::<f32>();
            let scores = scores.map_err(EngineError::tensor("reading scores"))?;
            for (scores, word) in scores.iter().zip(words) {
                right += u32::from(argmax(scores) == Some(word));
                all += 1;
            }
        }
        Ok(f64::from(right) / f64::from(all.max(1)))
    }
}

/// Both halves of a batch at once.
fn side_by_side(
    pools: &[rayon::ThreadPool; 2],
    learn: impl Fn(u32) -> Result<(f64, GradStore), EngineError> + Sync,
) -> Result<(f64, [GradStore; 2]), EngineError> {
    let (first, second) = std::thread::scope(|scope| {
        let second = scope.spawn(|| pools[1].install(|| learn(1)));
        let first = pools[0].install(|| learn(0));
        let second = second
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (first, second)
    });
    let ((first_loss, first), (second_loss, second)) = (first?, second?);
    Ok((f64::midpoint(first_loss, second_loss), [first, second]))
}

#[cfg(test)]
mod tests;
