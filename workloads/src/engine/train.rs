//! Training of the built-in models: generated text, a tokenizer learnt from it, a network, AdamW.
//!
//! The two halves of each batch are computed side by side, so two processors are kept busy; the
//! result does not depend on which half is faster.

pub mod adapters;
pub mod exits;
mod network;
pub(crate) mod noise;
mod operations;
mod optimiser;
#[cfg(test)]
mod tests;
pub mod vision;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use safetensors::{Dtype, tensor::TensorView};
use serde::{Deserialize, Serialize};

use self::network::{Network, inputs_and_targets};
use self::noise::Noise;
use self::operations::cross_entropy;
use self::optimiser::AdamW;
use super::corpus;
use super::error::EngineError;
use super::model::argmax;
use super::recipe_cache::TRAINING_FILE;
use super::text::{END_OF_TEXT, TextTokenizer};
use super::threads;
use super::weights::{CONFIG_FILE, WEIGHTS_FILE, weights_sha256};
use crate::clock;
use crate::recipe::Recipe;

/// Longest report of a training that is read, in bytes.
const MOST_REPORT_BYTES: u64 = 1 << 20;

/// How far a training is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingProgress {
    /// Steps done.
    pub step: u32,
    /// Steps in all.
    pub steps: u32,
    /// Mean loss of the last step, in nats per token.
    pub loss: f64,
    /// Loss on text never trained on, in nats per token; `None` after steps without an evaluation.
    pub held_out_loss: Option<f64>,
}

/// What a training came to; also in the model's training.json.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingReport {
    /// What was trained.
    pub recipe: Recipe,
    /// See [`Recipe::sha256_hex`].
    pub recipe_sha256: String,
    /// See [`super::path`].
    pub engine_path: String,
    /// Number of weights.
    pub parameters: u64,
    /// Tokens of the text to learn from.
    pub corpus_tokens: u64,
    /// Loss before the first step, in nats per token of text never trained on.
    pub untrained_loss: f64,
    /// Loss after the last step, likewise.
    pub held_out_loss: f64,
    /// Share of held-out tokens that greedy decoding would have got right.
    pub held_out_top1: f64,
    /// Mean loss of the last step.
    pub training_loss: f64,
    /// Wall-clock time.
    pub seconds: f64,
    /// Hash of the weights.
    pub weights_sha256: String,
}

/// Steps between two evaluations, and windows of the held-out text that each takes: together a few
/// percent of the training.
const STEPS_PER_EVALUATION: u32 = 10;
const EVALUATED_WINDOWS: usize = 8;

/// Trains a recipe's model and writes its files into an existing directory.
///
/// It computes on threads of its own, one per processor, whatever [`super::set_threads`] said.
/// The same recipe gives the same bytes on the same engine path and number of processors.
///
/// # Errors
/// A directory that cannot be written, or a recipe that asks for the impossible.
pub fn train(
    recipe: &Recipe,
    into: &Path,
    progress: &mut dyn FnMut(TrainingProgress),
) -> Result<TrainingReport, EngineError> {
    let started = clock::now();
    check(recipe)?;
    let bytes = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let paragraphs = corpus::paragraphs(recipe.seed, "train", bytes(recipe.corpus_bytes));
    let tokenizer = TextTokenizer::train(&paragraphs, recipe.config.vocabulary)?;
    let text = TokenText::new(&tokenizer, &paragraphs, recipe)?;
    let held_out = corpus::paragraphs(recipe.seed, "held-out", bytes(recipe.held_out_bytes));
    let held_out = TokenText::new(&tokenizer, &held_out, recipe)?;

    let network = Network::new(&recipe.config, recipe.seed)
        .map_err(EngineError::tensor("making the first weights"))?;
    let pools = pools()?;
    let evaluate_all = || pools[0].install(|| evaluate(&network, &held_out));
    let computing = || EngineError::tensor("evaluating the model");
    let (untrained_loss, _) = evaluate_all().map_err(computing())?;

    let sample = held_out.beginning(EVALUATED_WINDOWS);
    let mut optimiser = AdamW::new(network.variables());
    let mut order = Order::new(recipe, &text);
    let mut training_loss = f64::NAN;
    for step in 0..recipe.steps {
        let batch = order.next_batch(&text);
        let (loss, shares) = in_halves(&batch, &pools, |half| gradients(&network, half))
            .map_err(EngineError::tensor("computing gradients"))?;
        optimiser
            .step(recipe, network.variables(), &shares)
            .map_err(EngineError::tensor("moving the weights"))?;
        training_loss = loss;
        let evaluated = (step + 1).is_multiple_of(STEPS_PER_EVALUATION);
        let held_out_loss = evaluated
            .then(|| pools[0].install(|| evaluate(&network, &sample)))
            .transpose()
            .map_err(EngineError::tensor("evaluating the model"))?
            .map(|(loss, _)| loss);
        progress(TrainingProgress {
            step: step + 1,
            steps: recipe.steps,
            loss,
            held_out_loss,
        });
    }
    let (held_out_loss, held_out_top1) = evaluate_all().map_err(computing())?;

    let weights_sha256 = save(recipe, &network, &tokenizer, into)?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds are told to the microsecond"
    )]
    let seconds = ((clock::now() - started) / 1_000) as f64 / 1e6;
    let report = TrainingReport {
        recipe: recipe.clone(),
        recipe_sha256: recipe.sha256_hex(),
        engine_path: super::path(),
        parameters: recipe.config.parameters(),
        corpus_tokens: u64::try_from(text.tokens.len()).unwrap_or(u64::MAX),
        untrained_loss,
        held_out_loss,
        held_out_top1,
        training_loss,
        seconds,
        weights_sha256,
    };
    // Of numbers, names and strings: there is nothing in it that JSON cannot hold.
    let described = serde_json::to_string_pretty(&report).unwrap_or_default();
    write(&into.join(TRAINING_FILE), described.as_bytes())?;
    Ok(report)
}

fn check(recipe: &Recipe) -> Result<(), EngineError> {
    let refuse = |reason: &str| {
        Err(EngineError::Recipe {
            name: recipe.name.clone(),
            reason: reason.to_owned(),
        })
    };
    if recipe.batch < 2 || !recipe.batch.is_multiple_of(2) {
        return refuse("the batch must be an even number of sequences");
    }
    if recipe.config.vocabulary < 257 {
        return refuse("a byte-level vocabulary needs at least 257 ids");
    }
    if recipe.sequence == 0 || recipe.sequence > recipe.config.max_positions {
        return refuse("sequences must be longer than nothing and fit the positions");
    }
    Ok(())
}

/// A text as token ids, cut into windows that predict `sequence` tokens each.
#[derive(Debug)]
struct TokenText {
    tokens: Vec<u32>,
    sequence: usize,
}

impl TokenText {
    fn new(
        tokenizer: &TextTokenizer,
        paragraphs: &[String],
        recipe: &Recipe,
    ) -> Result<TokenText, EngineError> {
        let mut tokens = Vec::new();
        for paragraph in paragraphs {
            tokens.extend(tokenizer.encode(&format!("{paragraph}{END_OF_TEXT}"))?);
        }
        let sequence = usize::try_from(recipe.sequence).unwrap_or(usize::MAX);
        if tokens.len() <= sequence {
            let reason = "its text is shorter than one sequence".to_owned();
            return Err(EngineError::Recipe {
                name: recipe.name.clone(),
                reason,
            });
        }
        Ok(TokenText { tokens, sequence })
    }

    /// Its first windows.
    fn beginning(&self, windows: usize) -> TokenText {
        let length = windows.saturating_mul(self.sequence).saturating_add(1);
        TokenText {
            tokens: self.tokens.iter().copied().take(length).collect(),
            sequence: self.sequence,
        }
    }

    fn windows(&self) -> usize {
        (self.tokens.len() - 1) / self.sequence
    }

    fn window(&self, index: usize) -> &[u32] {
        &self.tokens[index * self.sequence..][..=self.sequence]
    }
}

/// Which windows come next: every one once, in random order, before any comes again.
struct Order {
    noise: Noise,
    windows: usize,
    batch: usize,
    left: Vec<usize>,
}

impl Order {
    fn new(recipe: &Recipe, text: &TokenText) -> Order {
        Order {
            noise: Noise::new(recipe.seed, "order"),
            windows: text.windows(),
            batch: usize::try_from(recipe.batch).unwrap_or(usize::MAX),
            left: Vec::new(),
        }
    }

    fn next_batch<'a>(&mut self, text: &'a TokenText) -> Vec<&'a [u32]> {
        (0..self.batch)
            .map(|_| {
                if self.left.is_empty() {
                    self.left = self.noise.shuffled(self.windows);
                }
                text.window(self.left.pop().unwrap_or(0))
            })
            .collect()
    }
}

/// Threads for each half of a batch: as many as there are processors, together.
fn pools() -> Result<[rayon::ThreadPool; 2], EngineError> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let halves = processors.div_ceil(2);
    Ok([
        threads::build(halves, "train-a")?,
        threads::build(halves, "train-b")?,
    ])
}

/// Mean loss of some sequences, and its gradients.
fn gradients(network: &Network, sequences: &[&[u32]]) -> candle_core::Result<(f32, GradStore)> {
    let loss = network.loss(sequences)?;
    Ok((loss.to_scalar::<f32>()?, loss.backward()?))
}

/// Mean loss of a batch, and the gradients of each half of it, which are computed side by side.
fn in_halves(
    batch: &[&[u32]],
    pools: &[rayon::ThreadPool; 2],
    gradients: impl Fn(&[&[u32]]) -> candle_core::Result<(f32, GradStore)> + Sync,
) -> candle_core::Result<(f64, [GradStore; 2])> {
    let (first, second) = batch.split_at(batch.len() / 2);
    let share = |half: &[&[u32]], pool: &rayon::ThreadPool| pool.install(|| gradients(half));
    let (first, second) = std::thread::scope(|scope| {
        let second = scope.spawn(|| share(second, &pools[1]));
        let first = share(first, &pools[0]);
        let second = second
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (first, second)
    });
    let ((first_loss, first), (second_loss, second)) = (first?, second?);
    let loss = f64::midpoint(f64::from(first_loss), f64::from(second_loss));
    Ok((loss, [first, second]))
}

/// Mean loss over a text, and the share of its tokens that had the highest score.
fn evaluate(network: &Network, text: &TokenText) -> candle_core::Result<(f64, f64)> {
    let windows: Vec<&[u32]> = (0..text.windows())
        .map(|index| text.window(index))
        .collect();
    let (mut loss, mut right, mut tokens) = (0.0, 0_u32, 0_u32);
    for batch in windows.chunks(4) {
        let (inputs, targets) = inputs_and_targets(batch);
        let scores = network.scores(&inputs, text.sequence)?.detach();
        let rows = u32::try_from(targets.len()).unwrap_or(u32::MAX);
        let mean = cross_entropy(&scores, targets.clone())?.to_scalar::<f32>()?;
        loss += f64::from(mean) * f64::from(rows);
        tokens += rows;
        for (scores, target) in scores.to_vec2::<f32>()?.iter().zip(targets) {
            let best = argmax(scores).and_then(|best| usize::try_from(best).ok());
            right += u32::from(best == Some(target));
        }
    }
    Ok((
        loss / f64::from(tokens),
        f64::from(right) / f64::from(tokens),
    ))
}

/// Scores of a stored model by the training network, for tests.
#[cfg(test)]
pub(super) fn scores_in_training(
    directory: &Path,
    tokens: &[u32],
) -> Result<Vec<Vec<f32>>, EngineError> {
    let computing = || EngineError::tensor("computing scores");
    let network = Network::load(directory)?;
    let scores = network.scores(tokens, tokens.len());
    scores
        .and_then(|scores| scores.to_vec2())
        .map_err(computing())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), EngineError> {
    std::fs::write(path, bytes).map_err(write_error(path))
}

fn write_error(path: &Path) -> impl FnOnce(std::io::Error) -> EngineError {
    let path = path.to_owned();
    move |source| EngineError::Write { path, source }
}

/// Moves a directory that is finished to its place, at once. Where somebody else was faster, as `is_current` tells, theirs
/// stays; what another recipe left is in the way and goes.
fn put_in_place(
    partial: &Path,
    place: &Path,
    is_current: impl FnOnce() -> bool,
) -> Result<(), EngineError> {
    if is_current() {
        return std::fs::remove_dir_all(partial).map_err(write_error(partial));
    }
    if place.exists() {
        std::fs::remove_dir_all(place).map_err(write_error(place))?;
    }
    std::fs::rename(partial, place).map_err(write_error(place))
}

/// Writes config.json, tokenizer.json and model.safetensors; the hash of the last.
fn save(
    recipe: &Recipe,
    network: &Network,
    tokenizer: &TextTokenizer,
    into: &Path,
) -> Result<String, EngineError> {
    let path = into.join(CONFIG_FILE);
    let config = recipe.config.to_hugging_face_json();
    let config = config.map_err(|source| EngineError::Config {
        path: path.clone(),
        source,
    })?;
    write(&path, config.as_bytes())?;
    tokenizer.save(into)?;
    save_tensors(network.variables(), &into.join(WEIGHTS_FILE))?;
    weights_sha256(into)
}

/// Writes weights as safetensors.
fn save_tensors(variables: &BTreeMap<String, Var>, path: &Path) -> Result<(), EngineError> {
    let tensors = variables.iter();
    let file = serialise(
        tensors.map(|(name, variable)| (name, variable.as_tensor())),
        path,
    )?;
    write(path, &file)
}

/// Tensors of f32 as the bytes of a safetensors file, which is to be at `path`.
pub(crate) fn serialise<'a>(
    tensors: impl Iterator<Item = (&'a String, &'a Tensor)>,
    path: &Path,
) -> Result<Vec<u8>, EngineError> {
    let mut bytes = Vec::new();
    for (name, tensor) in tensors {
        let values = little_endian(tensor);
        let values = values.map_err(EngineError::tensor("reading trained weights"))?;
        bytes.push((name, tensor.dims().to_vec(), values));
    }
    let damaged = |error: safetensors::SafeTensorError| EngineError::Damaged {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let views = bytes.iter().map(|(name, shape, values)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), values);
        view.map(|view| (name, view)).map_err(damaged)
    });
    let views: Vec<_> = views.collect::<Result<_, _>>()?;
    // Hugging Face's loaders ask for this entry.
    let metadata = [("format".to_owned(), "pt".to_owned())]
        .into_iter()
        .collect();
    safetensors::serialize(views, Some(metadata)).map_err(damaged)
}

fn little_endian(tensor: &Tensor) -> candle_core::Result<Vec<u8>> {
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    Ok(values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect())
}
