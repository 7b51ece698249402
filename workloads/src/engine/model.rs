//! The model as it answers: any consecutive layers of it, with or without the embedding in front
//! and the output head behind.
//!
//! The formulas are those of Llama (RMSNorm, rotary positions in half-split order, grouped-query
//! attention, SwiGLU). The same layers give the same bits whether they run in one process or in
//! two, because a part does to a hidden state exactly what the whole model does.

use std::ops::Range;
use std::path::Path;

use candle_core::{D, Device, IndexOp as _, Tensor};
use candle_nn::ops::{rms_norm, silu, softmax_last_dim};
use candle_nn::rotary_emb::rope;

use super::cache::KeyValueCache;
use super::error::EngineError;
use super::hidden::Hidden;
use super::threads;
use super::weights::{EMBEDDING, FINAL_NORM, HEAD, WeightsFile, layer_shapes, read_config};
use crate::recipe::ModelConfig;

/// Which ends of the model a part holds besides its layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// The embedding table, which turns token ids into hidden states.
    pub embedding: bool,
    /// The final norm and the output head, which turn a hidden state into the next token.
    pub head: bool,
}

/// Weights of one layer; the query, key and value matrices are one, and so are gate and up.
#[derive(Debug)]
struct Layer {
    attention_norm: Tensor,
    query_key_value: Tensor,
    output: Tensor,
    feed_forward_norm: Tensor,
    gate_up: Tensor,
    down: Tensor,
}

#[derive(Debug)]
struct Head {
    norm: Tensor,
    matrix: Tensor,
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
    embedding: Option<Tensor>,
    layers: Vec<Layer>,
    head: Option<Head>,
    /// Cosines and sines of the rotary embedding, position x half a head's width.
    rotation: (Tensor, Tensor),
    weight_bytes: u64,
}

fn size(value: u32) -> usize {
    // usize has at least 32 bits wherever Linux runs.
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Cosines and sines of `position * theta^(-2 i / head_width)`, Su et al., RoFormer, eq. 15.
pub(crate) fn rotation(config: &ModelConfig) -> candle_core::Result<(Tensor, Tensor)> {
    let half = config.head_width / 2;
    let angles = (0..config.max_positions).flat_map(|position| {
        (0..half).map(move |index| {
            let exponent = -2.0 * f64::from(index) / f64::from(config.head_width);
            f64::from(position) * config.rope_theta.powf(exponent)
        })
    });
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the tables are f32 by design"
    )]
    let (cosines, sines): (Vec<f32>, Vec<f32>) = angles
        .map(|angle| (angle.cos() as f32, angle.sin() as f32))
        .unzip();
    let shape = (size(config.max_positions), size(half));
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
        let mut file = WeightsFile::open(directory)?;
        let table = [config.vocabulary, config.width];
        let needs_table = parts.embedding || (parts.head && config.tie_embeddings);
        let embedding = needs_table
            .then(|| file.tensor(EMBEDDING, &table))
            .transpose()?;
        let head = if parts.head {
            let matrix = match &embedding {
                Some(embedding) if config.tie_embeddings => embedding.clone(),
                _ => file.tensor(HEAD, &table)?,
            };
            Some(Head {
                norm: file.tensor(FINAL_NORM, &[config.width])?,
                matrix,
            })
        } else {
            None
        };
        let loaded = layers
            .clone()
            .map(|layer| load_layer(&mut file, &config, layer));
        let loaded: Vec<Layer> = loaded.collect::<Result<_, _>>()?;
        let rotation =
            rotation(&config).map_err(EngineError::tensor("computing the rotary embedding"))?;
        let layer_tensors = loaded.iter().flat_map(Layer::tensors);
        let head_tensors = head.iter().flat_map(|head| {
            let own = (!config.tie_embeddings).then_some(&head.matrix);
            own.into_iter().chain([&head.norm])
        });
        let elements: usize = layer_tensors
            .chain(head_tensors)
            .chain(embedding.as_ref())
            .map(Tensor::elem_count)
            .sum();
        Ok(Model {
            config,
            range: layers,
            embedding: embedding.filter(|_| parts.embedding),
            layers: loaded,
            head,
            rotation,
            weight_bytes: 4 * u64::try_from(elements).unwrap_or(u64::MAX / 4),
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
        let states = Tensor::new(tokens, &Device::Cpu)
            .and_then(|tokens| embedding.index_select(&tokens, 0))
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
                .and_then(|states| states.matmul(&head.matrix.t()?))
                .map_err(EngineError::tensor("scoring the next token"))
        })
    }

    fn pass(&self, tokens: u32, position: u32) -> candle_core::Result<Pass> {
        Ok(Pass {
            mask: causal_mask(tokens, position)?,
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
        let mixed = normed.matmul(&layer.query_key_value.t()?)?;
        let attended = self.attend(&mixed, pass, append)?;
        let states = (states + attended.matmul(&layer.output.t()?)?)?;
        let normed = rms_norm(&states, &layer.feed_forward_norm, epsilon)?;
        let both = normed.matmul(&layer.gate_up.t()?)?;
        let inner = size(self.config.feed_forward);
        let gate = silu(&both.narrow(D::Minus1, 0, inner)?.contiguous()?)?;
        let up = both.narrow(D::Minus1, inner, inner)?.contiguous()?;
        &states + (gate * up)?.matmul(&layer.down.t()?)?
    }

    /// Attention of the new tokens to all up to themselves. A key-value head serves a group of
    /// query heads, which stand one below the other in the rows of its score matrix.
    fn attend(
        &self,
        mixed: &Tensor,
        pass: &Pass,
        append: impl FnOnce(&Tensor, &Tensor) -> candle_core::Result<(Tensor, Tensor)>,
    ) -> candle_core::Result<Tensor> {
        let (heads, kv_heads) = (size(self.config.heads), size(self.config.kv_heads));
        let width = size(self.config.head_width);
        let tokens = mixed.dim(0)?;
        let split = |start: usize, heads: usize| {
            let columns = mixed.narrow(1, start * width, heads * width)?;
            columns
                .reshape((tokens, heads, width))?
                .transpose(0, 1)?
                .contiguous()
        };
        let rotate =
            |states: &Tensor| rope(&states.unsqueeze(0)?, &pass.cosines, &pass.sines)?.squeeze(0);
        let queries = rotate(&split(0, heads)?)?;
        let keys = rotate(&split(heads, kv_heads)?)?;
        let values = split(heads + kv_heads, kv_heads)?;
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

/// Zero where a token may look, minus infinity where it would see the future; none is needed for
/// a single token.
fn causal_mask(tokens: u32, position: u32) -> candle_core::Result<Option<Tensor>> {
    if tokens < 2 {
        return Ok(None);
    }
    let all = position + tokens;
    let row = |token: u32| {
        let last = position + token;
        (0..all).map(move |seen| if seen <= last { 0.0 } else { f32::NEG_INFINITY })
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

impl Layer {
    fn tensors(&self) -> [&Tensor; 6] {
        let Layer {
            attention_norm,
            query_key_value,
            output,
            feed_forward_norm,
            gate_up,
            down,
        } = self;
        [
            attention_norm,
            query_key_value,
            output,
            feed_forward_norm,
            gate_up,
            down,
        ]
    }
}

fn load_layer(
    file: &mut WeightsFile,
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
    let mut take = |(name, shape): (String, Vec<u32>)| file.tensor(&name, &shape);
    let (query, key, value) = (take(query)?, take(key)?, take(value)?);
    let (gate, up) = (take(gate)?, take(up)?);
    let joined = EngineError::tensor("joining weights");
    let query_key_value = Tensor::cat(&[query, key, value], 0).map_err(joined)?;
    let joined = EngineError::tensor("joining weights");
    Ok(Layer {
        attention_norm: take(attention_norm)?,
        query_key_value,
        output: take(output)?,
        feed_forward_norm: take(feed_forward_norm)?,
        gate_up: Tensor::cat(&[gate, up], 0).map_err(joined)?,
        down: take(down)?,
    })
}
