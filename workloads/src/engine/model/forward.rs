//! Tokens into hidden states, and hidden states through layers.

use std::ops::Range;

use candle_core::{Device, Tensor};

use super::{Model, size};
use crate::engine::adapters::Adapted;
use crate::engine::cache::KeyValueCache;
use crate::engine::error::EngineError;
use crate::engine::hidden::Hidden;
use crate::engine::layer::{Layer, Pass};
use crate::engine::slots::Slots;
use crate::engine::threads;

impl Model {
    /// The hidden states in front of the first layer.
    ///
    /// # Errors
    /// A part without the embedding, no tokens, or one outside the vocabulary.
    pub fn embed(&self, tokens: &[u32]) -> Result<Hidden, EngineError> {
        let piece = EngineError::MissingPart { piece: "embedding" };
        let embedding = self.embedding.as_ref().ok_or(piece)?;
        let vocabulary = self.config.vocabulary;
        if let Some(token) = tokens.iter().find(|token| **token >= vocabulary) {
            return Err(EngineError::TokenOutside {
                token: *token,
                vocabulary,
            });
        }
        if tokens.is_empty() {
            return Err(EngineError::NoTokens);
        }
        let states = embedding
            .rows(tokens, self.compute.device())
            .map_err(EngineError::tensor("embedding tokens"))?;
        Ok(Hidden { states })
    }

    /// Runs the layers of this part over the hidden states of consecutive tokens, the first of
    /// which is at `position` of its sequence, and appends their keys and values to the cache.
    ///
    /// # Errors
    /// States of another width, a cache that does not end at `position` or belongs to other
    /// layers, or a sequence beyond the model's positions.
    pub fn forward(
        &self,
        hidden: &Hidden,
        position: u32,
        cache: &mut KeyValueCache,
    ) -> Result<Hidden, EngineError> {
        self.forward_layers(self.range.clone(), hidden, position, cache)
    }

    /// The same through some of the layers of this part alone, with a cache made for those.
    ///
    /// # Errors
    /// As [`Model::forward`], and layers that this part does not hold.
    pub fn forward_layers(
        &self,
        layers: Range<u32>,
        hidden: &Hidden,
        position: u32,
        cache: &mut KeyValueCache,
    ) -> Result<Hidden, EngineError> {
        self.forward_through(layers, hidden, (position, cache), None)
    }

    pub(in super::super) fn forward_through(
        &self,
        layers: Range<u32>,
        hidden: &Hidden,
        (position, cache): (u32, &mut KeyValueCache),
        adapted: Option<Adapted<'_>>,
    ) -> Result<Hidden, EngineError> {
        let chosen = self.chosen(&layers)?;
        self.check_whole("a pass through whole layers")?;
        cache.check(&layers, position)?;
        self.check(hidden, u64::from(position) + u64::from(hidden.tokens()))?;
        let states = threads::run(|| {
            let pass = self.pass(hidden.tokens(), position);
            let pass = pass.map_err(EngineError::tensor("preparing a pass"))?;
            let pass = Pass { adapted, ..pass };
            self.run_layers(chosen, hidden, &pass, |index, keys, values| {
                cache.append(index, keys, values)
            })
        })?;
        cache.advance(hidden.tokens());
        Ok(states)
    }

    /// Runs the layers of this part over one token of each filled slot, in the order of the slots,
    /// and appends their keys and values to the slots.
    ///
    /// # Errors
    /// As many states as there are filled slots are needed, of the model's width, and slots of this
    /// part of the model that have room.
    pub fn forward_slots(&self, hidden: &Hidden, slots: &mut Slots) -> Result<Hidden, EngineError> {
        self.forward_slots_through(hidden, slots, None)
    }

    pub(in super::super) fn forward_slots_through(
        &self,
        hidden: &Hidden,
        slots: &mut Slots,
        adapted: Option<Adapted<'_>>,
    ) -> Result<Hidden, EngineError> {
        self.check_whole("a pass through whole layers")?;
        slots.check(&self.range, hidden.tokens())?;
        self.check(hidden, u64::from(slots.longest()) + 1)?;
        let states = threads::run(|| {
            let turned = slots.steps(&self.rotation, &self.compute, self.config.sliding_window);
            let step = turned.map_err(EngineError::tensor("preparing a pass"))?;
            let pass = Pass {
                config: &self.config,
                rotary_order: self.rotary_order,
                sequences: step.sequences,
                mask: Some(step.mask),
                cosines: step.cosines,
                sines: step.sines,
                adapted,
            };
            self.run_layers(&self.layers, hidden, &pass, |index, keys, values| {
                slots.append(index, &step.places, keys, values)
            })
        })?;
        slots.advance();
        Ok(states)
    }

    pub(in super::super) fn check(
        &self,
        hidden: &Hidden,
        positions: u64,
    ) -> Result<(), EngineError> {
        let (expected, found) = (self.config.width, hidden.width());
        if expected != found {
            return Err(EngineError::HiddenWidth { expected, found });
        }
        let max_positions = self.config.max_positions;
        if positions > u64::from(max_positions) {
            return Err(EngineError::TooLong {
                positions,
                max_positions,
            });
        }
        Ok(())
    }

    fn check_whole(&self, doing: &'static str) -> Result<(), EngineError> {
        match self.half {
            None => Ok(()),
            Some(_) => Err(EngineError::OtherHalf {
                doing,
                held: "half",
            }),
        }
    }

    fn run_layers(
        &self,
        layers: &[Layer],
        hidden: &Hidden,
        pass: &Pass<'_>,
        mut append: impl FnMut(usize, &Tensor, &Tensor) -> candle_core::Result<(Tensor, Tensor)>,
    ) -> Result<Hidden, EngineError> {
        let running = || EngineError::tensor("running a layer");
        // States that came over a link are f32, in this machine's memory.
        let mut states = self.compute.place(&hidden.states).map_err(running())?;
        for (index, layer) in layers.iter().enumerate() {
            let append = |keys: &Tensor, values: &Tensor| append(index, keys, values);
            states = layer
                .run(&states, (pass, index), append)
                .map_err(running())?;
        }
        Ok(Hidden { states })
    }

    /// Some of the layers of this part.
    fn chosen(&self, layers: &Range<u32>) -> Result<&[Layer], EngineError> {
        let refused = || EngineError::Layers {
            range: layers.clone(),
            layers: self.config.layers,
        };
        let place = |layer: u32| layer.checked_sub(self.range.start).map(size);
        let (Some(start), Some(end)) = (place(layers.start), place(layers.end)) else {
            return Err(refused());
        };
        self.layers.get(start..end).ok_or_else(refused)
    }

    /// What the layers need to know of a pass of so many tokens of one sequence, the first of which is at `position`.
    pub(in super::super) fn pass(
        &self,
        tokens: u32,
        position: u32,
    ) -> candle_core::Result<Pass<'_>> {
        let mask = mask(tokens, position, self.config.sliding_window)?;
        Ok(Pass {
            config: &self.shape,
            rotary_order: self.rotary_order,
            sequences: 1,
            mask: mask.map(|mask| self.compute.place(&mask)).transpose()?,
            cosines: self.rotation.0.narrow(0, size(position), size(tokens))?,
            sines: self.rotation.1.narrow(0, size(position), size(tokens))?,
            adapted: None,
        })
    }
}

/// Zero where a token may look, minus infinity where it would see the future or beyond its window;
/// none is needed for a single token that sees everything.
fn mask(tokens: u32, position: u32, window: Option<u32>) -> candle_core::Result<Option<Tensor>> {
    let all = position + tokens;
    let window = window.unwrap_or(u32::MAX);
    if tokens < 2 && all <= window {
        return Ok(None);
    }
    let row = |token: u32| {
        let last = position + token;
        let sees = move |seen: u32| seen <= last && last - seen < window;
        (0..all).map(move |seen| if sees(seen) { 0.0 } else { f32::NEG_INFINITY })
    };
    let mask: Vec<f32> = (0..tokens).flat_map(row).collect();
    Tensor::from_vec(mask, (size(tokens), size(all)), &Device::Cpu).map(Some)
}
