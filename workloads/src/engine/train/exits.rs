//! Training of early exits: heads that tell the next token after fewer layers than there are.
//!
//! The model itself stays as it is. An exit maps the states after its layer by `x + x M^T`, norms
//! them, and scores them with the model's own output head (the affine translator of Belrose et al.
//! 2023, arXiv:2303.08112, section 3, with a norm of its own). It learns to say what the last layer
//! would say: the targets are the last layer's most probable tokens, on text that the model has not
//! seen, so that an exit's largest probability estimates how often the last layer agrees.

mod backbone;
mod checkpoint;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::backprop::GradStore;
use candle_core::{Device, Result, Tensor, Var};
use serde::{Deserialize, Serialize};

use self::backbone::Backbone;
pub use self::checkpoint::{CheckpointExits, CheckpointSpec};
use super::network::Network;
use super::operations::{cross_entropy, rms_norm, times_frozen, times_transposed};
use super::optimiser::AdamW;
use super::{
    MOST_REPORT_BYTES, Order, TokenText, TrainingProgress, in_halves, pools, save_tensors, write,
};
use crate::clock;
use crate::engine::corpus;
use crate::engine::error::EngineError;
use crate::engine::exit::{Choice, EXITS_REPORT_FILE, exit_shapes};
use crate::engine::input::read_text_if_there;
use crate::engine::model::epsilon;
use crate::engine::text::TextTokenizer;
use crate::engine::weights::weights_sha256;
use crate::recipe::{EXITS_FILE, Recipe};

/// What the exits of a model came to; also in the model's exits.json.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExitReport {
    /// How they were trained.
    pub recipe: Recipe,
    /// See [`Recipe::sha256_hex`].
    pub recipe_sha256: String,
    /// Hash of the weights of the model that they belong to.
    pub weights_sha256: String,
    /// Hash of the text where it is a user's; built-in models learn what is generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_sha256: Option<String>,
    /// Tokens of the text that the figures below are of, never trained on.
    pub held_out_tokens: u32,
    /// Each exit, the earliest first.
    pub exits: Vec<ExitAgreement>,
    /// Wall-clock time.
    pub seconds: f64,
}

/// How an exit agrees with the last layer, token by token, each after the same true text.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExitAgreement {
    /// The layer that it follows.
    pub layer: u32,
    /// Share of tokens where both name the same.
    pub agreement: f64,
    /// Share of tokens where the exit's largest probability is 0.9 or more.
    pub confident: f64,
    /// Share of those where both name the same; `None` if there are none.
    pub agreement_where_confident: Option<f64>,
}

/// The largest probability from which on an exit counts as confident in the report.
const CONFIDENT: f64 = 0.9;

/// Digits of a hash that a message shows: enough to tell it from others, and to find it where it is whole.
const SHOWN_DIGITS: usize = 12;

impl ExitReport {
    /// Refuses exits that were trained for other weights than those of the model beside them, whose hash
    /// ([`weights_sha256`]) is given: of the same shape they would load, and answer something.
    ///
    /// # Errors
    /// Another hash in the report of that directory, with both and the remedy.
    pub fn check_weights(
        &self,
        directory: &Path,
        weights_sha256: &str,
    ) -> std::result::Result<(), EngineError> {
        if self.weights_sha256 == weights_sha256 {
            return Ok(());
        }
        let shown = |hash: &str| hash.chars().take(SHOWN_DIGITS).collect::<String>();
        Err(EngineError::Unsuitable {
            path: directory.join(EXITS_REPORT_FILE),
            reason: format!(
                "these exits were trained for weights whose SHA-256 begins with {}, and that of the model's begins \
                 with {}: move {EXITS_REPORT_FILE} and {EXITS_FILE} away, and train exits for this model: hexloop \
                 model exits DIRECTORY --text FILE",
                shown(&self.weights_sha256),
                shown(weights_sha256)
            ),
        })
    }
}

/// How the exits of a recipe's model are trained: less of everything, for they are small.
#[must_use]
pub fn recipe_of(recipe: &Recipe) -> Recipe {
    Recipe {
        name: format!("{} exits", recipe.name),
        corpus_bytes: recipe.corpus_bytes / 4,
        steps: recipe.steps * 3 / 8,
        learning_rate: 2e-3,
        warmup_steps: 5,
        ..recipe.clone()
    }
}

/// Whether a model's directory holds the exits that its recipe asks for, trained for its weights, whose hash
/// ([`weights_sha256`]) is given.
#[must_use]
pub fn is_current(recipe: &Recipe, directory: &Path, weights_sha256: &str) -> bool {
    // What cannot be read is none of this recipe's: its exits are trained again.
    let report = read_report(directory).ok().flatten();
    let expected = recipe_of(recipe).sha256_hex();
    report.is_some_and(|report| {
        report.recipe_sha256 == expected && report.weights_sha256 == weights_sha256
    }) && directory.join(EXITS_FILE).is_file()
}

/// What is told of the exits in a model's directory; `None` if nothing is.
///
/// # Errors
/// A file that cannot be read, or that tells something else.
pub fn read_report(directory: &Path) -> std::result::Result<Option<ExitReport>, EngineError> {
    let path = directory.join(EXITS_REPORT_FILE);
    let Some(text) = read_text_if_there(&path, MOST_REPORT_BYTES)? else {
        return Ok(None);
    };
    let report = serde_json::from_str(&text);
    report.map(Some).map_err(|error| EngineError::Unsuitable {
        path,
        reason: format!(
            "it is no report of how early exits were trained: {error}; copy it again, or remove it, and nothing is \
             told of the exits"
        ),
    })
}

/// Trains the exits of a recipe's trained model and puts them beside its weights. The report comes
/// last and in one piece, so that half-written exits are never taken for whole ones.
///
/// # Errors
/// A directory without that model, or one that cannot be written.
pub fn train_exits(
    recipe: &Recipe,
    directory: &Path,
    progress: &mut dyn FnMut(TrainingProgress),
) -> std::result::Result<ExitReport, EngineError> {
    let started = clock::now();
    let own = recipe_of(recipe);
    let bytes = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let tokenizer = TextTokenizer::load(directory)?;
    let text = |purpose: &str, count: u64| {
        let paragraphs = corpus::paragraphs(own.seed, purpose, bytes(count));
        TokenText::new(&tokenizer, &paragraphs, &own)
    };
    let (learnt, held_out) = (
        text("exits", own.corpus_bytes)?,
        text("held-out", own.held_out_bytes)?,
    );
    let network = Network::load(directory)?;
    let layers: Vec<u32> = (1..network.config().layers).collect();
    let exits =
        Exits::new(&network, &layers).map_err(EngineError::tensor("making the first exits"))?;
    let learnt = learn(&network, &exits, (&own, (&learnt, &held_out)), progress)?;
    keep(&exits, (directory, directory), (own, None), learnt, started)
}

/// Held-out tokens, and how each exit agrees with the last layer there.
type Agreements = (u32, Vec<ExitAgreement>);

/// Trains exits on a text, and compares them with the last layer on another.
fn learn(
    backbone: &dyn Backbone,
    exits: &Exits,
    (own, (text, held_out)): (&Recipe, (&TokenText, &TokenText)),
    progress: &mut dyn FnMut(TrainingProgress),
) -> std::result::Result<Agreements, EngineError> {
    let pools = pools()?;
    let mut optimiser = AdamW::new(&exits.variables);
    let mut order = Order::new(own, text);
    for step in 0..own.steps {
        let batch = order.next_batch(text);
        let (loss, shares) = in_halves(&batch, &pools, |half| exits.gradients(backbone, half))
            .map_err(EngineError::tensor("computing gradients of exits"))?;
        optimiser
            .step(own, &exits.variables, &shares)
            .map_err(EngineError::tensor("moving the weights of exits"))?;
        progress(TrainingProgress {
            step: step + 1,
            steps: own.steps,
            loss,
            held_out_loss: None,
        });
    }
    let evaluated = pools[0].install(|| exits.evaluate(backbone, held_out));
    evaluated.map_err(EngineError::tensor("evaluating the exits"))
}

/// Where exits are written before they are whole.
fn partial_in(directory: &Path) -> PathBuf {
    directory.join(format!(".{EXITS_FILE}.{}.partial", std::process::id()))
}

/// Writes exits of the model in one directory into another, and then what is told of them.
fn keep(
    exits: &Exits,
    (model, into): (&Path, &Path),
    (own, text_sha256): (Recipe, Option<String>),
    (held_out_tokens, agreement): Agreements,
    started: u64,
) -> std::result::Result<ExitReport, EngineError> {
    // Moved into place, for who reads exits of the same recipe meanwhile.
    let place = into.join(EXITS_FILE);
    let partial = partial_in(into);
    save_tensors(&exits.variables, &partial)?;
    std::fs::rename(&partial, &place).map_err(|source| EngineError::Write {
        path: place,
        source,
    })?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds are told to the microsecond"
    )]
    let seconds = ((clock::now() - started) / 1_000) as f64 / 1e6;
    let report = ExitReport {
        recipe_sha256: own.sha256_hex(),
        recipe: own,
        weights_sha256: weights_sha256(model)?,
        text_sha256,
        held_out_tokens,
        exits: agreement,
        seconds,
    };
    // Of numbers, names and strings: there is nothing in it that JSON cannot hold.
    let described = serde_json::to_string_pretty(&report).unwrap_or_default();
    write(&into.join(EXITS_REPORT_FILE), described.as_bytes())?;
    Ok(report)
}

/// The weights of all exits, being trained.
struct Exits {
    variables: BTreeMap<String, Var>,
    /// The layers that they follow.
    layers: Vec<u32>,
}

impl Exits {
    /// Exits after some layers, which read the states as the last layer's head would.
    fn new(backbone: &dyn Backbone, layers: &[u32]) -> Result<Exits> {
        let config = backbone.config();
        let mut variables = BTreeMap::new();
        for layer in layers {
            let [(norm, _), (map, shape)] = exit_shapes(config, *layer);
            let last = backbone.final_norm()?.copy()?;
            variables.insert(norm, Var::from_tensor(&last)?);
            let sizes: Vec<usize> = shape.iter().map(|size| *size as usize).collect();
            let zeros = Tensor::zeros(sizes, candle_core::DType::F32, &Device::Cpu)?;
            variables.insert(map, Var::from_tensor(&zeros)?);
        }
        Ok(Exits {
            variables,
            layers: layers.to_vec(),
        })
    }

    fn weight(&self, name: &str) -> Result<&Tensor> {
        match self.variables.get(name) {
            Some(variable) => Ok(variable.as_tensor()),
            None => candle_core::bail!("no weight {name}"),
        }
    }

    /// Scores of the exit after a layer.
    fn scores(&self, backbone: &dyn Backbone, layer: u32, states: &Tensor) -> Result<Tensor> {
        let [(norm, _), (map, _)] = exit_shapes(backbone.config(), layer);
        let moved = (states + times_transposed(states, self.weight(&map)?)?)?;
        let normed = rms_norm(&moved, self.weight(&norm)?, epsilon(backbone.config()))?;
        times_frozen(&normed, &backbone.output_head()?)
    }

    /// Mean loss over all exits of predicting what the last layer says, and its gradients.
    fn gradients(&self, backbone: &dyn Backbone, sequences: &[&[u32]]) -> Result<(f32, GradStore)> {
        let (states, choices) = backbone.after(&self.layers, sequences)?;
        let targets: Vec<usize> = choices.iter().map(|token| *token as usize).collect();
        let losses = self.layers.iter().zip(&states).map(|(layer, states)| {
            cross_entropy(&self.scores(backbone, *layer, states)?, targets.clone())
        });
        let losses = losses.collect::<Result<Vec<Tensor>>>()?;
        let mean = Tensor::stack(&losses, 0)?.mean_all()?;
        Ok((mean.to_scalar::<f32>()?, mean.backward()?))
    }

    /// Tokens that were looked at, and how each exit agrees with the last layer there.
    fn evaluate(&self, backbone: &dyn Backbone, text: &TokenText) -> Result<Agreements> {
        let windows: Vec<&[u32]> = (0..text.windows())
            .map(|index| text.window(index))
            .collect();
        let mut tokens = 0_u32;
        let mut counts = vec![[0_u32; 3]; self.layers.len()];
        for batch in windows.chunks(4) {
            let (states, choices) = backbone.after(&self.layers, batch)?;
            tokens += u32::try_from(choices.len()).unwrap_or(u32::MAX);
            for ((layer, states), count) in self.layers.iter().zip(&states).zip(&mut counts) {
                let scores = self.scores(backbone, *layer, states)?.detach();
                for (scores, last) in scores.to_vec2::<f32>()?.iter().zip(&choices) {
                    let Some(choice) = Choice::of(scores) else {
                        candle_core::bail!("scores of the exit after layer {layer} are no numbers");
                    };
                    let agrees = choice.token == *last;
                    let confident = choice.probability >= CONFIDENT;
                    count[0] += u32::from(agrees);
                    count[1] += u32::from(confident);
                    count[2] += u32::from(confident && agrees);
                }
            }
        }
        let share = |part: u32, whole: u32| f64::from(part) / f64::from(whole.max(1));
        let of_exit = |(layer, [agreeing, confident, both]): (&u32, &[u32; 3])| ExitAgreement {
            layer: *layer,
            agreement: share(*agreeing, tokens),
            confident: share(*confident, tokens),
            agreement_where_confident: (*confident > 0).then(|| share(*both, *confident)),
        };
        let agreements = self.layers.iter().zip(&counts).map(of_exit);
        Ok((tokens, agreements.collect()))
    }
}

#[cfg(test)]
mod tests;
