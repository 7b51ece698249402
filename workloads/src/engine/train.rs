//! Training of the built-in models.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::EngineError;
use crate::recipe::Recipe;

/// How far a training is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingProgress {
    /// Steps done.
    pub step: u32,
    /// Steps in all.
    pub steps: u32,
    /// Mean loss of the last step, in nats per token.
    pub loss: f64,
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

/// Trains a recipe's model and writes its files into an existing directory.
///
/// # Errors
/// A directory that cannot be written.
pub fn train(
    recipe: &Recipe,
    into: &Path,
    progress: &mut dyn FnMut(TrainingProgress),
) -> Result<TrainingReport, EngineError> {
    let _ = (into, progress);
    Err(EngineError::Recipe {
        name: recipe.name.clone(),
        reason: "not yet".to_owned(),
    })
}
