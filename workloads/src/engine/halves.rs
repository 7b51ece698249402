//! Half of every layer on each of two nodes: tensor parallelism as in Megatron-LM (arXiv 1909.08053, section 3).
//!
//! A half has half of the attention heads, with the key-value heads that serve them, and half of the inner width
//! of the feed-forward part. Its output and down maps take those as inputs, so that what it makes of the states
//! is its part of a sum. Norms are in both. After the attention and after the feed-forward part of each layer both
//! parts are added, in one order, so that both nodes go on from the same bits.
//!
//! Nothing here waits: who steps a pass through the layers is told each part, and brings the sum's two parts back.

use candle_core::Tensor;

use super::cache::KeyValueCache;
use super::compute::Compute;
use super::error::EngineError;
use super::hidden::Hidden;
use super::layer::Pass;
use super::linear::Matrix;
use super::model::{Model, Parts, argmax, size};
use super::threads;
use super::weights::read_config;
use crate::model_config::ModelConfig;
use std::path::Path;

/// How far a score of two halves in f32 may be from the whole model's, one beside others in a batch from the same alone,
/// or one of another device from the same, as a share of 1 plus the largest score of its position: sums are rounded in another order, and nothing else
/// differs.
pub const SCORE_BOUND: f32 = 2e-5;

/// Which half of every layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// The first heads and the first of the inner width, with the biases of outputs.
    First,
    /// The others.
    Second,
}

/// Some tokens on their way through halves of layers.
#[derive(Debug)]
pub struct HalfPass {
    /// Tokens x width: the same in both halves.
    states: Tensor,
    tokens: u32,
    position: u32,
    /// Sums that have been added: two in each layer.
    sums: u32,
}

impl Half {
    /// The shape of what a half holds of each layer of a model.
    pub(super) fn shape(self, config: &ModelConfig) -> Result<ModelConfig, EngineError> {
        let odd = |count: u32, of: &str| {
            let reason = format!("it has {count} {of}, which is no even number");
            EngineError::Halves { reason }
        };
        if !config.kv_heads.is_multiple_of(2) {
            return Err(odd(config.kv_heads, "key-value heads"));
        }
        if !config.feed_forward.is_multiple_of(2) {
            return Err(odd(config.feed_forward, "inner channels"));
        }
        Ok(ModelConfig {
            heads: config.heads / 2,
            kv_heads: config.kv_heads / 2,
            feed_forward: config.feed_forward / 2,
            ..*config
        })
    }

    /// Its place among so many.
    fn of(self, count: usize) -> std::ops::Range<usize> {
        match self {
            Half::First => 0..count / 2,
            Half::Second => count / 2..count,
        }
    }

    /// Half of the outputs of a matrix.
    pub(super) fn outputs_of(self, matrix: &Matrix) -> Result<Matrix, EngineError> {
        let part = matrix
            .sizes()
            .and_then(|(outputs, inputs)| matrix.part(self.of(outputs), 0..inputs));
        part.map_err(|error| unhalved(&error))
    }

    /// Half of the inputs of a matrix.
    pub(super) fn inputs_of(self, matrix: &Matrix) -> Result<Matrix, EngineError> {
        let part = matrix
            .sizes()
            .and_then(|(outputs, inputs)| matrix.part(0..outputs, self.of(inputs)));
        part.map_err(|error| unhalved(&error))
    }

    /// Half of some values.
    pub(super) fn values_of(self, values: &Tensor) -> Result<Tensor, EngineError> {
        let part = values.dim(0).and_then(|count| {
            let own = self.of(count);
            values.narrow(0, own.start, own.len())?.force_contiguous()
        });
        part.map_err(|error| unhalved(&error))
    }
}

fn unhalved(error: &candle_core::Error) -> EngineError {
    EngineError::Halves {
        reason: super::error::first_line(error),
    }
}

impl HalfPass {
    /// How many tokens pass.
    #[must_use]
    pub const fn tokens(&self) -> u32 {
        self.tokens
    }

    /// How many sums have been added.
    #[must_use]
    pub const fn sums(&self) -> u32 {
        self.sums
    }

    /// The states, which are those behind the last layer once all sums have been added.
    #[must_use]
    pub fn states(&self) -> Hidden {
        let states = self.states.clone();
        Hidden { states }
    }
}

impl Model {
    /// Loads half of every layer, and the ends that `parts` names.
    ///
    /// # Errors
    /// See [`Model::load_on`]; a number of key-value heads or an inner width that is odd, and blocks that a half
    /// would cut.
    pub fn load_half(
        directory: &Path,
        half: Half,
        parts: Parts,
        compute: &Compute,
    ) -> Result<Model, EngineError> {
        let layers = read_config(directory)?.layers;
        Model::load_shared(directory, 0..layers, parts, (compute, None, Some(half)))
    }

    /// Begins to carry the states of consecutive tokens through the half layers, behind what the cache holds.
    ///
    /// # Errors
    /// As [`Model::forward`], and a part that holds whole layers.
    pub fn begin_half(
        &self,
        hidden: &Hidden,
        cache: &KeyValueCache,
    ) -> Result<HalfPass, EngineError> {
        self.half()?;
        let (position, tokens) = (cache.positions(), hidden.tokens());
        cache.check(&self.layers(), position)?;
        self.check(hidden, u64::from(position) + u64::from(tokens))?;
        let states = self.compute.place(&hidden.states);
        Ok(HalfPass {
            states: states.map_err(EngineError::tensor("placing states"))?,
            tokens,
            position,
            sums: 0,
        })
    }

    /// What this half adds to the states next (tokens x width): its part of the attention of a layer, then of the
    /// feed-forward part, layer by layer. `None` once all sums have been added.
    ///
    /// # Errors
    /// Failures of the tensor library.
    pub fn half_partial(
        &self,
        pass: &HalfPass,
        cache: &mut KeyValueCache,
    ) -> Result<Option<Hidden>, EngineError> {
        let place = size(pass.sums / 2);
        let Some(layer) = self.layers.get(place) else {
            return Ok(None);
        };
        let states = threads::run(|| {
            let shared = self.pass(pass.tokens, pass.position);
            let partial = shared.and_then(|shared: Pass<'_>| match pass.sums.is_multiple_of(2) {
                true => layer.attention(&pass.states, (&shared, place), |keys, values| {
                    cache.append(place, keys, values)
                }),
                false => layer.feed_forward(&pass.states, &shared),
            });
            partial.map_err(EngineError::tensor("running half a layer"))
        })?;
        Ok(Some(Hidden { states }))
    }

    /// Adds both halves' parts, those of [`Half::First`] first. After the last the cache holds the tokens.
    ///
    /// # Errors
    /// Parts of another shape than the states.
    pub fn half_add(
        &self,
        pass: &mut HalfPass,
        [first, second]: [&Hidden; 2],
        cache: &mut KeyValueCache,
    ) -> Result<(), EngineError> {
        for part in [first, second] {
            self.check(part, 0)?;
            if part.tokens() != pass.tokens {
                return Err(EngineError::HalfTokens {
                    expected: pass.tokens,
                    found: part.tokens(),
                });
            }
        }
        let adding = || EngineError::tensor("adding both halves");
        let placed = |part: &Hidden| self.compute.place(&part.states).map_err(adding());
        let (first, second) = (placed(first)?, placed(second)?);
        let sum = (first + second).and_then(|sum| &pass.states + sum);
        pass.states = sum.map_err(adding())?;
        pass.sums += 1;
        if size(pass.sums) == 2 * self.layers.len() {
            cache.advance(pass.tokens);
        }
        Ok(())
    }

    /// Which half of every layer this part holds.
    ///
    /// # Errors
    /// It holds whole layers.
    pub fn half(&self) -> Result<Half, EngineError> {
        self.half.ok_or(EngineError::OtherHalf {
            doing: "a pass through halves of layers",
            held: "all",
        })
    }

    /// The most probable token after the last of some states, as [`Model::next_token`], and whether it leads
    /// the second by less than scores of two halves may be off: then the whole model may say the other one.
    ///
    /// # Errors
    /// See [`Model::next_token`].
    pub fn next_token_or_tie(&self, hidden: &Hidden) -> Result<(u32, bool), EngineError> {
        let scores = self.logits(&hidden.last()?)?;
        let best = scores.first().and_then(|scores| best_or_tie(scores));
        best.ok_or_else(|| self.not_numbers())
    }

    /// The same after each of some states. On a GPU, where only ids leave the device, no token is told to be a tie.
    ///
    /// # Errors
    /// See [`Model::next_token`].
    pub fn next_tokens_or_ties(&self, hidden: &Hidden) -> Result<Vec<(u32, bool)>, EngineError> {
        if !self.compute.device().is_cpu() {
            let tokens = self.next_tokens(hidden)?;
            return Ok(tokens.into_iter().map(|token| (token, false)).collect());
        }
        let scores = self.logits(hidden)?;
        let best = scores.iter().map(|scores| best_or_tie(scores));
        best.collect::<Option<_>>()
            .ok_or_else(|| self.not_numbers())
    }

    const fn not_numbers(&self) -> EngineError {
        EngineError::NotNumbers {
            precision: self.compute.precision(),
        }
    }
}

/// The token with the highest score, and whether the next one is within what both may be off. `None` where scores are
/// not numbers.
fn best_or_tie(scores: &[f32]) -> Option<(u32, bool)> {
    let best = argmax(scores)?;
    let (mut first, mut second, mut largest) = (f32::NEG_INFINITY, f32::NEG_INFINITY, 0.0_f32);
    for score in scores {
        largest = largest.max(score.abs());
        if *score > first {
            (first, second) = (*score, first);
        } else {
            second = second.max(*score);
        }
    }
    Some((best, first - second < 2.0 * SCORE_BOUND * (1.0 + largest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_tie_where_the_next_score_is_within_what_both_may_be_off() {
        // Twice 2e-5 of 1 and 9 are 4e-4.
        assert_eq!(best_or_tie(&[1.0, 9.0, 8.9995]), Some((1, false)));
        assert_eq!(best_or_tie(&[8.9997, 9.0, 1.0]), Some((1, true)));
        assert_eq!(best_or_tie(&[1.0, 9.0, 9.0]), Some((1, true)));
        assert_eq!(best_or_tie(&[f32::NAN, 1.0]), None);
    }
}
