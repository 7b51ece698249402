//! The model as it answers: any consecutive layers of it, with or without the embedding in front
//! and the output head behind.
//!
//! The formulas are those of Llama (RMSNorm, rotary positions, grouped-query attention, SwiGLU) with
//! what Mistral and Qwen add: a window, biases, norms of the heads. The same layers give the same
//! bits whether they run in one process or in two, because a part does to a hidden state exactly
//! what the whole model does.

use std::ops::Range;
use std::path::Path;

use candle_core::{D, DType, Device, Tensor};
use candle_nn::ops::rms_norm;

use super::adapters::Adapted;
use super::cache::KeyValueCache;
use super::compute::Compute;
use super::error::EngineError;
use super::gguf::BlockType;
use super::halves::Half;
use super::hidden::Hidden;
use super::layer::{Layer, Pass};
use super::linear::{Maps, Matrix, bytes};
use super::memory::Needed;
use super::slots::Slots;
use super::tensors::{EMBEDDING, FINAL_NORM, HEAD};
use super::threads;
use super::weights::{RotaryOrder, Weights, read_config};
use crate::model_config::ModelConfig;

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

/// Cosines and sines of position times frequency. Where the weights bring divisors of the plain
/// frequencies, those are the stretching.
pub(crate) fn rotation(
    config: &ModelConfig,
    divisors: Option<&[f32]>,
) -> candle_core::Result<(Tensor, Tensor)> {
    let frequencies = match divisors {
        None => config.rotary_frequencies(),
        Some(divisors) => {
            let plain = ModelConfig {
                rope_scaling: None,
                ..*config
            };
            let pairs = plain.rotary_frequencies().into_iter().zip(divisors);
            pairs
                .map(|(frequency, divisor)| frequency / f64::from(*divisor))
                .collect()
        }
    };
    let angles = (0..config.max_positions).flat_map(|position| {
        frequencies
            .iter()
            .map(move |frequency| f64::from(position) * frequency)
    });
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the tables are f32 by design"
    )]
    let (cosines, sines): (Vec<f32>, Vec<f32>) = angles
        .map(|angle| (angle.cos() as f32, angle.sin() as f32))
        .unzip();
    let shape = (size(config.max_positions), frequencies.len());
    Ok((
        Tensor::from_vec(cosines, shape, &Device::Cpu)?,
        Tensor::from_vec(sines, shape, &Device::Cpu)?,
    ))
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
    /// Loads the layers of `layers`, and the ends that `parts` names, from a model's directory, to
    /// compute on the CPU in f32.
    ///
    /// # Errors
    /// Files that are missing, truncated or damaged, layers that the model does not have, or more
    /// memory than is left.
    pub fn load(directory: &Path, layers: Range<u32>, parts: Parts) -> Result<Model, EngineError> {
        Model::load_on(directory, layers, parts, &Compute::cpu())
    }

    /// The same, to compute on another device or in other numbers.
    ///
    /// # Errors
    /// See [`Model::load`]; and a device that has no room for it.
    pub fn load_on(
        directory: &Path,
        layers: Range<u32>,
        parts: Parts,
        compute: &Compute,
    ) -> Result<Model, EngineError> {
        Model::load_in_blocks(directory, layers, parts, (compute, None))
    }

    /// The same, with the matrices in blocks of fewer bits where a type is given: those that
    /// [`super::gguf::quantise`] would store. In another precision than f32 they are kept as numbers of it, rounded
    /// as the blocks are: see [`Model::kept`].
    ///
    /// # Errors
    /// See [`Model::load_on`]; a model that is in blocks already.
    pub fn load_in_blocks(
        directory: &Path,
        layers: Range<u32>,
        parts: Parts,
        (compute, blocks): (&Compute, Option<BlockType>),
    ) -> Result<Model, EngineError> {
        Model::load_shared(directory, layers, parts, (compute, blocks, None))
    }

    /// The same, or half of each of the layers alone.
    pub(super) fn load_shared(
        directory: &Path,
        layers: Range<u32>,
        parts: Parts,
        (compute, blocks, half): (&Compute, Option<BlockType>, Option<Half>),
    ) -> Result<Model, EngineError> {
        let config = read_config(directory)?;
        let shape = match half {
            Some(half) => half.shape(&config)?,
            None => config,
        };
        if layers.start > layers.end || layers.end > config.layers {
            return Err(EngineError::Layers {
                range: layers,
                layers: config.layers,
            });
        }
        let mut weights =
            Weights::open_in_blocks(directory, compute, blocks.map(|of| (of, config)))?;
        // Of halves the whole matrices are read.
        let reading = Needed::of(&weights, &config, &layers, parts).reading;
        let needed = Needed {
            reading,
            ..Needed::of(&weights, &shape, &layers, parts)
        };
        needed.check(&layers, compute.memory_left())?;
        let table = |name: &str| (name.to_owned(), vec![config.vocabulary, config.width]);
        let needs_table = parts.embedding || (parts.head && config.tie_embeddings);
        let embedding = needs_table
            .then(|| weights.matrix(&table(EMBEDDING)))
            .transpose()?;
        let mut weight_bytes = embedding.as_ref().map_or(0, Matrix::bytes);
        let head = if parts.head {
            let (matrix, is_own) = match &embedding {
                Some(embedding) if config.tie_embeddings => (embedding.clone(), false),
                _ => (weights.matrix(&table(HEAD))?, true),
            };
            let joining = EngineError::tensor("joining weights");
            let scores = Maps::one(matrix, None).map_err(joining)?;
            let norm = weights.vector(&(FINAL_NORM.to_owned(), vec![config.width]))?;
            weight_bytes += bytes(&norm) + if is_own { scores.bytes() } else { 0 };
            Some(Head { norm, scores })
        } else {
            None
        };
        let loaded = layers
            .clone()
            .map(|layer| Layer::load(&mut weights, &config, (layer, half)));
        let loaded: Vec<Layer> = loaded.collect::<Result<_, _>>()?;
        let divisors = weights.frequency_divisors(&config)?;
        let place = |(cosines, sines)| Ok((compute.place(&cosines)?, compute.place(&sines)?));
        let rotation = rotation(&config, divisors.as_deref())
            .and_then(place)
            .map_err(EngineError::tensor("computing the rotary embedding"))?;
        weight_bytes += loaded.iter().map(Layer::bytes).sum::<u64>();
        Ok(Model {
            config,
            half,
            shape,
            compute: compute.clone(),
            range: layers,
            embedding: embedding.filter(|_| parts.embedding),
            layers: loaded,
            head,
            rotary_order: weights.rotary_order(),
            rotation,
            weight_bytes,
            kept: weights.kept(),
        })
    }

    /// Loads all of a model.
    ///
    /// # Errors
    /// See [`Model::load`].
    pub fn load_whole(directory: &Path) -> Result<Model, EngineError> {
        let layers = read_config(directory)?.layers;
        Model::load(
            directory,
            0..layers,
            Parts {
                embedding: true,
                head: true,
            },
        )
    }

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

    /// The final norm and what scores the next token, where this part has them.
    pub(super) fn head_weights(&self) -> Option<(&Tensor, &Maps)> {
        let head = self.head.as_ref();
        head.map(|head| (&head.norm, &head.scores))
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

    pub(super) fn forward_through(
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

    pub(super) fn forward_slots_through(
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

    pub(super) fn check(&self, hidden: &Hidden, positions: u64) -> Result<(), EngineError> {
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

    /// Scores of every token of the vocabulary to come after each of the given states.
    ///
    /// # Errors
    /// A part without the head, or states of another width.
    pub fn logits(&self, hidden: &Hidden) -> Result<Vec<Vec<f32>>, EngineError> {
        let scores = self.score(&hidden.states)?;
        scores
            .to_vec2::<f32>()
            .map_err(EngineError::tensor("reading scores"))
    }

    /// The most probable token after the last of the given states; of equals, the lowest id.
    ///
    /// # Errors
    /// A part without the head, states of another width, or scores that are not numbers.
    pub fn next_token(&self, hidden: &Hidden) -> Result<u32, EngineError> {
        let next = self.next_tokens(&hidden.last()?)?;
        next.first().copied().ok_or(EngineError::NoTokens)
    }

    /// The most probable token after each of the given states; of equals, the lowest id on CPUs and
    /// any on a GPU, where only ids leave the device.
    ///
    /// # Errors
    /// See [`Model::next_token`].
    pub fn next_tokens(&self, hidden: &Hidden) -> Result<Vec<u32>, EngineError> {
        let scores = self.score(&hidden.states)?;
        let reading = || EngineError::tensor("reading scores");
        let not_numbers = EngineError::NotNumbers {
            precision: self.compute.precision(),
        };
        if scores.device().is_cpu() {
            let scores = scores.to_vec2::<f32>().map_err(reading())?;
            let best = scores.iter().map(|scores| argmax(scores));
            return best.collect::<Option<_>>().ok_or(not_numbers);
        }
        // A sum is no number where one of its terms is none.
        let sums = scores.sum(D::Minus1).and_then(|sums| sums.to_vec1::<f32>());
        if sums.map_err(reading())?.iter().any(|sum| sum.is_nan()) {
            return Err(not_numbers);
        }
        let best = scores.argmax(D::Minus1);
        best.and_then(|best| best.to_vec1::<u32>())
            .map_err(reading())
    }

    fn head(&self) -> Result<&Head, EngineError> {
        let head = self.head.as_ref();
        head.ok_or(EngineError::MissingPart {
            piece: "output head",
        })
    }

    /// Scores of states that have been normed, as f32.
    pub(super) fn score_normed(&self, states: &Tensor) -> Result<Tensor, EngineError> {
        let head = self.head()?;
        threads::run(|| {
            let scores = head.scores.apply_one(states);
            scores
                .and_then(|scores| scores.to_dtype(DType::F32))
                .map_err(EngineError::tensor("scoring the next token"))
        })
    }

    /// Scores, as f32.
    pub(super) fn score(&self, states: &Tensor) -> Result<Tensor, EngineError> {
        let head = self.head()?;
        let (expected, found) = (self.config.width, states.dim(D::Minus1));
        let found = u32::try_from(found.unwrap_or(0)).unwrap_or(u32::MAX);
        if expected != found {
            return Err(EngineError::HiddenWidth { expected, found });
        }
        threads::run(|| {
            let states = states.contiguous();
            states
                .and_then(|states| self.compute.place(&states))
                .and_then(|states| rms_norm(&states, &head.norm, epsilon(&self.config)))
                .and_then(|states| head.scores.apply_one(&states))
                .and_then(|scores| scores.to_dtype(DType::F32))
                .map_err(EngineError::tensor("scoring the next token"))
        })
    }

    pub(super) fn pass(&self, tokens: u32, position: u32) -> candle_core::Result<Pass<'_>> {
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

/// Index of the largest score; of equals, the lowest. `None` where a score is not a number, or none
/// is more than minus infinity.
pub(crate) fn argmax(scores: &[f32]) -> Option<u32> {
    let mut best = (None, f32::NEG_INFINITY);
    for (index, score) in (0..).zip(scores) {
        if score.is_nan() {
            return None;
        }
        if *score > best.1 {
            best = (Some(index), *score);
        }
    }
    best.0
}
