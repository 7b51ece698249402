//! The model as it answers: any consecutive layers of it, with or without the embedding in front
//! and the output head behind.
//!
//! The formulas are those of Llama (RMSNorm, rotary positions, grouped-query attention, SwiGLU) with
//! what Mistral and Qwen add: a window, biases, norms of the heads. The same layers give the same
//! bits whether they run in one process or in two, because a part does to a hidden state exactly
//! what the whole model does.

mod forward;
mod load;
mod rotation;
mod scores;

use std::ops::Range;

use candle_core::Tensor;

use super::cache::KeyValueCache;
use super::compute::Compute;
use super::error::EngineError;
use super::halves::Half;
use super::layer::Layer;
use super::linear::{Maps, Matrix};
use super::slots::Slots;
use super::weights::RotaryOrder;
use crate::model_config::ModelConfig;

pub(crate) use rotation::rotation;
pub(crate) use scores::argmax;

/// Which ends of the model a part holds besides its layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// The embedding table, which turns token ids into hidden states.
    pub embedding: bool,
    /// The final norm and the output head, which turn a hidden state into the next token.
    pub head: bool,
}

#[derive(Debug)]
struct Head {
    norm: Tensor,
    scores: Maps,
}

/// Some consecutive layers of a model, ready to answer.
#[derive(Debug)]
pub struct Model {
    config: ModelConfig,
    /// Of the layers, which half is held where it is not all of them, and their shape then.
    pub(super) half: Option<Half>,
    shape: ModelConfig,
    pub(super) compute: Compute,
    range: Range<u32>,
    embedding: Option<Matrix>,
    pub(super) layers: Vec<Layer>,
    head: Option<Head>,
    rotary_order: RotaryOrder,
    /// Cosines and sines of the rotary embedding, position x half a head's width.
    rotation: (Tensor, Tensor),
    weight_bytes: u64,
    kept: Option<String>,
}

pub(crate) fn size(value: u32) -> usize {
    // usize has at least 32 bits wherever Linux runs.
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// The rms epsilon as the kernels take it.
pub(crate) fn epsilon(config: &ModelConfig) -> f32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the kernels compute in f32"
    )]
    let epsilon = config.rms_norm_eps as f32;
    epsilon
}

impl Model {
    /// The shape of the whole model that this is a part of.
    #[must_use]
    pub const fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Where it computes.
    #[must_use]
    pub const fn compute(&self) -> &Compute {
        &self.compute
    }

    /// The layers that this part holds.
    #[must_use]
    pub fn layers(&self) -> Range<u32> {
        self.range.clone()
    }

    /// Memory that the weights of this part occupy.
    #[must_use]
    pub const fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// How blocks of few bits are kept, where it is not as blocks: "`Q8_0` blocks as f16 numbers".
    #[must_use]
    pub fn kept(&self) -> Option<&str> {
        self.kept.as_deref()
    }

    /// Slots for so many sequences of at most so many positions through the layers of this part.
    ///
    /// # Errors
    /// A device that has no room for them.
    pub fn new_slots(&self, slots: u32, positions: u32) -> Result<Slots, EngineError> {
        Slots::new(
            &self.config,
            self.range.clone(),
            &self.compute,
            slots,
            positions,
        )
    }

    /// An empty cache for one sequence through the layers of this part.
    #[must_use]
    pub fn new_cache(&self) -> KeyValueCache {
        KeyValueCache::new(self.range.clone())
    }

    /// An empty cache for one sequence through some of the layers of this part.
    #[must_use]
    pub fn new_cache_of(&self, layers: Range<u32>) -> KeyValueCache {
        KeyValueCache::new(layers)
    }
}
