//! Early exits: what a device says after some of a model's layers, and how sure it is.
//!
//! An exit belongs to one layer of one model and scores with that model's output head. Its weights
//! stand in a file of their own beside the model's.

use std::path::Path;

use candle_nn::ops::rms_norm;

use super::error::EngineError;
use super::hidden::Hidden;
use super::linear::{Maps, Matrix, bytes};
use super::model::{Model, argmax, epsilon};
use super::tensors::NamedShape;
use super::threads;
use super::weights::WeightsFile;
use crate::model_config::ModelConfig;
use crate::recipe::EXITS_FILE;

/// What is told of them.
pub const EXITS_REPORT_FILE: &str = "exits.json";

/// Names and shapes of the exit after a layer: its norm, and what its map adds to the states.
pub(crate) fn exit_shapes(config: &ModelConfig, layer: u32) -> [NamedShape; 2] {
    let width = config.width;
    [
        (format!("model.exits.{layer}.norm.weight"), vec![width]),
        (
            format!("model.exits.{layer}.map.weight"),
            vec![width, width],
        ),
    ]
}

/// The exit after one layer.
#[derive(Debug)]
pub struct Exit {
    layer: u32,
    norm: candle_core::Tensor,
    map: Maps,
}

/// The most probable token, and how sure a head is of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// The token; of equals, the lowest id.
    pub token: u32,
    /// Its probability, from 0 to 1.
    pub probability: f64,
}

impl Choice {
    /// The choice that scores amount to: a softmax in f64. `None` of scores that are not numbers.
    #[must_use]
    pub fn of(scores: &[f32]) -> Option<Choice> {
        let token = argmax(scores)?;
        let highest = f64::from(*scores.get(usize::try_from(token).ok()?)?);
        let sum: f64 = scores
            .iter()
            .map(|score| libm::exp(f64::from(*score) - highest))
            .sum();
        Some(Choice {
            token,
            probability: 1.0 / sum,
        })
    }
}

impl Exit {
    /// Loads the exit after a layer of a model.
    ///
    /// # Errors
    /// A model without exits, with the remedy; a file that is truncated or damaged; a layer that no exit
    /// follows, with those that one does.
    pub fn load(directory: &Path, model: &Model, layer: u32) -> Result<Exit, EngineError> {
        let config = model.config();
        let path = directory.join(EXITS_FILE);
        if !path.exists() {
            return Err(EngineError::Unsuitable {
                path,
                reason: "the model has no early exits: take a built-in recipe, whose exits are trained \
                         when they are needed, or train a checkpoint's: hexloop model exits DIRECTORY --text FILE"
                    .to_owned(),
            });
        }
        if !(1..config.layers).contains(&layer) {
            return Err(EngineError::Unsuitable {
                path,
                reason: format!(
                    "there is no exit after layer {layer} of {}: choose 1 to {}",
                    config.layers,
                    config.layers.saturating_sub(1)
                ),
            });
        }
        let shapes = exit_shapes(config, layer);
        let [norm, map] = &shapes;
        let mut file = WeightsFile::open(path.clone())?;
        let has_exit = |layer: u32| {
            exit_shapes(config, layer)
                .iter()
                .all(|(name, _)| file.has(name))
        };
        if !has_exit(layer) {
            let there = (1..config.layers).filter(|layer| has_exit(*layer));
            let there: Vec<String> = there.map(|layer| layer.to_string()).collect();
            return Err(EngineError::Unsuitable {
                path,
                reason: format!(
                    "it has no exit after layer {layer}, only after: {}. Cut there, or train all that are needed: \
                     hexloop model exits",
                    there.join(", ")
                ),
            });
        }
        let norm = file.tensor(norm, model.compute())?;
        let map = Maps::one(Matrix::Dense(file.tensor(map, model.compute())?), None);
        Ok(Exit {
            layer,
            norm,
            map: map.map_err(EngineError::tensor("taking an exit's map"))?,
        })
    }

    /// The layer that it follows.
    #[must_use]
    pub const fn layer(&self) -> u32 {
        self.layer
    }

    /// Memory that its weights occupy, the model's head apart.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        bytes(&self.norm) + self.map.bytes()
    }
}

impl Model {
    /// What the exit says after the last of some states, which have passed through its layer.
    ///
    /// # Errors
    /// A part without the head, states of another width, or scores that are not numbers.
    pub fn choose_at(&self, exit: &Exit, hidden: &Hidden) -> Result<Choice, EngineError> {
        let last = hidden.last()?;
        let normed = threads::run(|| {
            let states = self.compute().place(&last.states);
            states
                .and_then(|states| states.contiguous())
                .and_then(|states| &states + exit.map.apply_one(&states)?)
                .and_then(|moved| rms_norm(&moved, &exit.norm, epsilon(self.config())))
                .map_err(EngineError::tensor("reading states at an exit"))
        })?;
        self.choice(&self.score_normed(&normed)?)
    }

    /// What the model's own head says after the last of some states, and how sure it is.
    ///
    /// # Errors
    /// See [`Model::next_token`].
    pub fn choose(&self, hidden: &Hidden) -> Result<Choice, EngineError> {
        let last = hidden.last()?;
        self.choice(&self.score(&last.states)?)
    }

    fn choice(&self, scores: &candle_core::Tensor) -> Result<Choice, EngineError> {
        let rows = scores.to_vec2::<f32>();
        let rows = rows.map_err(EngineError::tensor("reading scores"))?;
        let choice = rows.first().and_then(|scores| Choice::of(scores));
        choice.ok_or(EngineError::NotNumbers {
            precision: self.compute().precision(),
        })
    }
}
