//! The model as it answers: any consecutive layers of it, with or without the embedding in front
//! and the output head behind.
//!
//! The formulas are those of Llama (RMSNorm, rotary positions, grouped-query attention, SwiGLU) with
//! what Mistral and Qwen add: a window, biases, norms of the heads. The same layers give the same
//! bits whether they run in one process or in two, because a part does to a hidden state exactly
//! what the whole model does.

use std::ops::Range;
use std::path::Path;

use candle_core::{D, Device, IndexOp as _, Tensor};
use candle_nn::ops::{rms_norm, silu, softmax_last_dim};
use candle_nn::rotary_emb::{rope, rope_i};

use super::cache::KeyValueCache;
use super::error::EngineError;
use super::hidden::Hidden;
use super::linear::{Maps, Matrix};
use super::tensors::{
    EMBEDDING, FINAL_NORM, HEAD, NamedShape, bias_of, head_norm_shapes, layer_shapes,
};
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

/// Weights of one layer.
#[derive(Debug)]
struct Layer {
    attention_norm: Tensor,
    query_key_value: Maps,
    /// Norms of each query head and of each key head.
    head_norms: Option<[Tensor; 2]>,
    output: Maps,
    feed_forward_norm: Tensor,
    gate_up: Maps,
    down: Maps,
}

#[derive(Debug)]
struct Head {
    norm: Tensor,
    scores: Maps,
}

/// What all layers share while some tokens pass through them.
struct Pass {
    mask: Option<Tensor>,
    cosines: Tensor,
    sines: Tensor,
}

/// Some consecutive layers of a model, ready to answer.
#[derive(Debug)]
pub struct Model {
    config: ModelConfig,
    range: Range<u32>,
    embedding: Option<Matrix>,
    layers: Vec<Layer>,
    head: Option<Head>,
    rotary_order: RotaryOrder,
    /// Cosines and sines of the rotary embedding, position x half a head's width.
    rotation: (Tensor, Tensor),
    weight_bytes: u64,
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
    /// Loads the layers of `layers`, and the ends that `parts` names, from a model's directory.
    ///
    /// # Errors
    /// Files that are missing, truncated or damaged, or layers that the model does not have.
    pub fn load(directory: &Path, layers: Range<u32>, parts: Parts) -> Result<Model, EngineError> {
        let config = read_config(directory)?;
        if layers.start > layers.end || layers.end > config.layers {
            return Err(EngineError::Layers {
                range: layers,
                layers: config.layers,
            });
        }
        let mut weights = Weights::open(directory)?;
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
            .map(|layer| load_layer(&mut weights, &config, layer));
        let loaded: Vec<Layer> = loaded.collect::<Result<_, _>>()?;
        let divisors = weights.frequency_divisors(&config)?;
        let rotation = rotation(&config, divisors.as_deref())
            .map_err(EngineError::tensor("computing the rotary embedding"))?;
        weight_bytes += loaded.iter().map(Layer::bytes).sum::<u64>();
        Ok(Model {
            config,
            range: layers,
            embedding: embedding.filter(|_| parts.embedding),
            layers: loaded,
            head,
            rotary_order: weights.rotary_order(),
            rotation,
            weight_bytes,
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

    /// An empty cache for one sequence through the layers of this part.
    #[must_use]
    pub fn new_cache(&self) -> KeyValueCache {
        KeyValueCache::new(self.range.clone())
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
            .rows(tokens)
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
        let (expected, found) = (self.config.width, hidden.width());
        if expected != found {
            return Err(EngineError::HiddenWidth { expected, found });
        }
        cache.check(&self.range, position)?;
        let positions = u64::from(position) + u64::from(hidden.tokens());
        if positions > u64::from(self.config.max_positions) {
            let max_positions = self.config.max_positions;
            return Err(EngineError::TooLong {
                positions,
                max_positions,
            });
        }
        let states = threads::run(|| {
            let pass = self.pass(hidden.tokens(), position);
            let pass = pass.map_err(EngineError::tensor("preparing a pass"))?;
            let mut states = hidden.states.clone();
            for (index, layer) in self.layers.iter().enumerate() {
                let keys_values =
                    |keys: &Tensor, values: &Tensor| cache.append(index, keys, values);
                states = self
                    .run_layer(layer, &states, &pass, keys_values)
                    .map_err(EngineError::tensor("running a layer"))?;
            }
            Ok(states)
        })?;
        cache.advance(hidden.tokens());
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
        let last = size(hidden.tokens())
            .checked_sub(1)
            .ok_or(EngineError::NoTokens)?;
        let state = hidden.states.narrow(0, last, 1);
        let state = state.map_err(EngineError::tensor("taking the last state"))?;
        let scores = self.score(&state)?;
        let scores = scores.i(0).and_then(|scores| scores.to_vec1::<f32>());
        Ok(argmax(
            &scores.map_err(EngineError::tensor("reading scores"))?,
        ))
    }

    fn score(&self, states: &Tensor) -> Result<Tensor, EngineError> {
        let head = self.head.as_ref();
        let head = head.ok_or(EngineError::MissingPart {
            piece: "output head",
        })?;
        let (expected, found) = (self.config.width, states.dim(D::Minus1));
        let found = u32::try_from(found.unwrap_or(0)).unwrap_or(u32::MAX);
        if expected != found {
            return Err(EngineError::HiddenWidth { expected, found });
        }
        threads::run(|| {
            let states = states.contiguous();
            states
                .and_then(|states| rms_norm(&states, &head.norm, epsilon(&self.config)))
                .and_then(|states| head.scores.apply_one(&states))
                .map_err(EngineError::tensor("scoring the next token"))
        })
    }

    fn pass(&self, tokens: u32, position: u32) -> candle_core::Result<Pass> {
        Ok(Pass {
            mask: mask(tokens, position, self.config.sliding_window)?,
            cosines: self.rotation.0.narrow(0, size(position), size(tokens))?,
            sines: self.rotation.1.narrow(0, size(position), size(tokens))?,
        })
    }

    fn run_layer(
        &self,
        layer: &Layer,
        states: &Tensor,
        pass: &Pass,
        append: impl FnOnce(&Tensor, &Tensor) -> candle_core::Result<(Tensor, Tensor)>,
    ) -> candle_core::Result<Tensor> {
        let epsilon = epsilon(&self.config);
        let normed = rms_norm(states, &layer.attention_norm, epsilon)?;
        let attended = self.attend(layer, &normed, pass, append)?;
        let states = (states + layer.output.apply_one(&attended)?)?;
        let normed = rms_norm(&states, &layer.feed_forward_norm, epsilon)?;
        let both = layer.gate_up.apply(&normed)?;
        let [gate, up] = both.as_slice() else {
            candle_core::bail!("{} maps for gate and up", both.len());
        };
        let inner = (silu(&gate.contiguous()?)? * up.contiguous()?)?;
        &states + layer.down.apply_one(&inner)?
    }

    /// Attention of the new tokens to all up to themselves. A key-value head serves a group of
    /// query heads, which stand one below the other in the rows of its score matrix.
    fn attend(
        &self,
        layer: &Layer,
        states: &Tensor,
        pass: &Pass,
        append: impl FnOnce(&Tensor, &Tensor) -> candle_core::Result<(Tensor, Tensor)>,
    ) -> candle_core::Result<Tensor> {
        let (heads, kv_heads) = (size(self.config.heads), size(self.config.kv_heads));
        let width = size(self.config.head_width);
        let tokens = states.dim(0)?;
        let mixed = layer.query_key_value.apply(states)?;
        let [queries, keys, values] = mixed.as_slice() else {
            candle_core::bail!("{} maps for queries, keys and values", mixed.len());
        };
        let split = |columns: &Tensor, heads: usize| {
            columns
                .reshape((tokens, heads, width))?
                .transpose(0, 1)?
                .contiguous()
        };
        let norm = |states: Tensor, norm: Option<&Tensor>| match norm {
            Some(norm) => rms_norm(&states, norm, epsilon(&self.config)),
            None => Ok(states),
        };
        let rotate = |states: &Tensor| {
            let states = states.unsqueeze(0)?;
            let (cosines, sines) = (&pass.cosines, &pass.sines);
            let turned = match self.rotary_order {
                RotaryOrder::HalfSplit => rope(&states, cosines, sines),
                RotaryOrder::Interleaved => rope_i(&states, cosines, sines),
            };
            turned?.squeeze(0)
        };
        let norms = layer.head_norms.as_ref();
        let queries = norm(split(queries, heads)?, norms.map(|[queries, _]| queries))?;
        let keys = norm(split(keys, kv_heads)?, norms.map(|[_, keys]| keys))?;
        let (queries, keys) = (rotate(&queries)?, rotate(&keys)?);
        let values = split(values, kv_heads)?;
        let (keys, values) = append(&keys, &values)?;

        let group = heads / kv_heads;
        let queries = queries.reshape((kv_heads, group * tokens, width))?;
        let scale = 1.0 / f64::from(self.config.head_width).sqrt();
        let scores = (queries.matmul(&keys.t()?)? * scale)?;
        let all = keys.dim(1)?;
        let scores = match &pass.mask {
            Some(mask) => scores
                .reshape((kv_heads, group, tokens, all))?
                .broadcast_add(mask)?
                .reshape((kv_heads, group * tokens, all))?,
            None => scores,
        };
        let attended = softmax_last_dim(&scores)?.matmul(&values)?;
        attended
            .reshape((heads, tokens, width))?
            .transpose(0, 1)?
            .reshape((tokens, heads * width))
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

/// Index of the largest score; of equals, the lowest. Not-a-number never wins.
pub(crate) fn argmax(scores: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (index, score) in (0..).zip(scores) {
        if *score > best.1 {
            best = (index, *score);
        }
    }
    best.0
}

fn bytes(tensor: &Tensor) -> u64 {
    u64::try_from(4 * tensor.elem_count()).unwrap_or(u64::MAX)
}

impl Layer {
    /// Memory that its weights occupy.
    fn bytes(&self) -> u64 {
        let maps = [
            &self.query_key_value,
            &self.output,
            &self.gate_up,
            &self.down,
        ];
        let norms = [&self.attention_norm, &self.feed_forward_norm];
        let norms = norms.into_iter().chain(self.head_norms.iter().flatten());
        maps.map(Maps::bytes).iter().sum::<u64>() + norms.map(bytes).sum::<u64>()
    }
}

fn load_layer(
    weights: &mut Weights,
    config: &ModelConfig,
    layer: u32,
) -> Result<Layer, EngineError> {
    let [
        attention_norm,
        query,
        key,
        value,
        output,
        feed_forward_norm,
        gate,
        up,
        down,
    ] = layer_shapes(config, layer);
    let mut maps = |shapes: &[NamedShape], has_bias: bool| {
        let matrices = shapes.iter().map(|shape| weights.matrix(shape));
        let matrices = matrices.collect::<Result<Vec<_>, _>>()?;
        let biases = shapes.iter().map(|shape| {
            let bias = has_bias.then(|| weights.vector(&bias_of(shape)));
            bias.transpose()
        });
        let biases = biases.collect::<Result<Vec<_>, _>>()?;
        Maps::new(matrices, biases).map_err(EngineError::tensor("joining weights"))
    };
    let query_key_value = maps(&[query, key, value], config.attention_bias)?;
    let output = maps(&[output], config.output_bias)?;
    let gate_up = maps(&[gate, up], false)?;
    let down = maps(&[down], false)?;
    let head_norms = if config.head_norm {
        let [queries, keys] = head_norm_shapes(config, layer);
        Some([weights.vector(&queries)?, weights.vector(&keys)?])
    } else {
        None
    };
    Ok(Layer {
        attention_norm: weights.vector(&attention_norm)?,
        query_key_value,
        head_norms,
        output,
        feed_forward_norm: weights.vector(&feed_forward_norm)?,
        gate_up,
        down,
    })
}
