//! The model as it learns: the same formulas as [`crate::engine::Model`], whole sequences at once,
//! every operation with a backward.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Result, Tensor, Var, bail};

use super::noise::Noise;
use super::operations::{
    Heads, Rotation, causal_softmax, cross_entropy, merge_heads, rms_norm, split_heads, swiglu,
    times_frozen, times_transposed,
};
use crate::engine::error::EngineError;
use crate::engine::model::{epsilon, rotation};
use crate::engine::tensors::{EMBEDDING, FINAL_NORM, HEAD, all_shapes, layer_shapes};
use crate::engine::weights::{Weights, read_config};
use crate::model_config::{Architecture, ModelConfig};

/// All weights of a model, being trained.
#[derive(Debug)]
pub(super) struct Network {
    config: ModelConfig,
    variables: BTreeMap<String, Var>,
    rotation: Rotation,
    /// Whether its own weights stay as they are.
    frozen: bool,
    /// Pairs beside some of its maps, by the map's name, where it is frozen.
    pairs: BTreeMap<String, Pair>,
}

/// What an adapter adds to a map of states x: `s B A x`.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    /// A, rank x inputs.
    pub(super) down: Var,
    /// B, outputs x rank.
    pub(super) up: Var,
    /// s.
    pub(super) scale: f64,
}

fn size(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Standard deviation of a tensor's first values; `None` for norms, which start at one. Matrices
/// keep the size of what they map (1 / sqrt(inputs)); those that add to the residual stream are
/// smaller by sqrt(2 layers), as GPT-2's are. The table is small because the head reads it too.
fn spread(name: &str, shape: &[u32], layers: u32) -> Option<f64> {
    let [_, inputs] = *shape else { return None };
    if name == EMBEDDING || name == HEAD {
        return Some(0.02);
    }
    let to_residual = name.contains("o_proj") || name.contains("down_proj");
    let shrink = if to_residual {
        f64::from(2 * layers)
    } else {
        1.0
    };
    Some(1.0 / (f64::from(inputs) * shrink).sqrt())
}

impl Network {
    /// A network with seeded random weights.
    pub(super) fn new(config: &ModelConfig, seed: u64) -> Result<Network> {
        // What only Mistral and Qwen have has no backward here.
        if config.architecture != Architecture::Llama || config.attention_bias || config.output_bias
        {
            bail!("training a {} model", config.architecture.model_type());
        }
        let mut variables = BTreeMap::new();
        for (name, shape) in all_shapes(config) {
            let sizes: Vec<usize> = shape.iter().copied().map(size).collect();
            let count = sizes.iter().product();
            let values = match spread(&name, &shape, config.layers) {
                // Each tensor has a stream of its own: another layer does not change this one.
                Some(spread) => Noise::new(seed, &name).normal(count, spread),
                None => vec![1.0; count],
            };
            let variable = Var::from_vec(values, sizes, &Device::Cpu)?;
            variables.insert(name, variable);
        }
        let (cosines, sines) = rotation(config, None)?;
        let rotation = Rotation {
            cosines: Arc::new(cosines.flatten_all()?.to_vec1()?),
            sines: Arc::new(sines.flatten_all()?.to_vec1()?),
        };
        Ok(Network {
            config: *config,
            variables,
            rotation,
            frozen: false,
            pairs: BTreeMap::new(),
        })
    }

    /// Freezes it, and puts pairs beside its maps.
    pub(super) fn adapt(&mut self, pairs: BTreeMap<String, Pair>) {
        self.frozen = true;
        self.pairs = pairs;
    }

    /// The network of a trained model, from its directory.
    pub(super) fn load(directory: &Path) -> std::result::Result<Network, EngineError> {
        let config = read_config(directory)?;
        let mut weights = Weights::open(directory)?;
        let computing = || EngineError::tensor("taking a trained model's weights");
        let network = Network::new(&config, 0).map_err(computing())?;
        for named in all_shapes(&config) {
            let stored = weights.vector(&named)?;
            network.variables[&named.0]
                .set(&stored)
                .map_err(computing())?;
        }
        Ok(network)
    }

    /// Its shape.
    pub(super) const fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The weights of its last norm, which are not to change.
    pub(super) fn final_norm(&self) -> Result<Tensor> {
        Ok(self.weight(FINAL_NORM)?.detach())
    }

    /// Its output head, which is not to change.
    pub(super) fn output_head(&self) -> Result<Tensor> {
        Ok(self.weight(self.head_name())?.detach())
    }

    const fn head_name(&self) -> &'static str {
        if self.config.tie_embeddings {
            EMBEDDING
        } else {
            HEAD
        }
    }

    /// The states after each layer but the last, and what the last one says: the most probable token
    /// after each token. Nothing of it has a gradient. A sequence has one token more than it is asked
    /// about, as for [`Network::loss`].
    pub(super) fn after_each_layer(&self, sequences: &[&[u32]]) -> Result<(Vec<Tensor>, Vec<u32>)> {
        let (inputs, _) = inputs_and_targets(sequences);
        let sequence = inputs.len() / sequences.len().max(1);
        let tokens = Tensor::new(inputs, &Device::Cpu)?;
        let mut states = self.weight(EMBEDDING)?.index_select(&tokens, 0)?.detach();
        let mut earlier = Vec::new();
        for layer in 0..self.config.layers {
            states = self.run_layer(layer, &states, sequence)?.detach();
            earlier.push(states.clone());
        }
        earlier.pop();
        let states = rms_norm(&states, &self.final_norm()?, epsilon(&self.config))?;
        let scores = times_transposed(&states, &self.output_head()?)?;
        let best = scores.argmax(candle_core::D::Minus1)?.to_vec1::<u32>()?;
        Ok((earlier, best))
    }

    /// The weights by their Hugging Face names.
    pub(super) const fn variables(&self) -> &BTreeMap<String, Var> {
        &self.variables
    }

    fn weight(&self, name: &str) -> Result<&Tensor> {
        match self.variables.get(name) {
            Some(variable) => Ok(variable.as_tensor()),
            None => bail!("no weight {name}"),
        }
    }

    /// States through the map of that name, with what is beside it.
    fn apply(&self, states: &Tensor, name: &str) -> Result<Tensor> {
        if !self.frozen {
            return times_transposed(states, self.weight(name)?);
        }
        let mapped = times_frozen(states, &self.weight(name)?.detach())?;
        let Some(pair) = self.pairs.get(name) else {
            return Ok(mapped);
        };
        let narrow = times_transposed(states, pair.down.as_tensor())?;
        mapped + (times_transposed(&narrow, pair.up.as_tensor())? * pair.scale)?
    }

    /// Scores for each token of sequences of equal length: (sequences * tokens) x vocabulary.
    pub(super) fn scores(&self, tokens: &[u32], sequence: usize) -> Result<Tensor> {
        let tokens = Tensor::new(tokens, &Device::Cpu)?;
        let mut states = self.weight(EMBEDDING)?.index_select(&tokens, 0)?;
        if self.frozen {
            states = states.detach();
        }
        self.score(&self.through_layers(&states, sequence)?)
    }

    /// The states in front of the first layer for some tokens, without a gradient.
    pub(super) fn embedded(&self, tokens: &[u32]) -> Result<Tensor> {
        let tokens = Tensor::new(tokens, &Device::Cpu)?;
        let states = self.weight(EMBEDDING)?.index_select(&tokens, 0)?;
        Ok(states.detach())
    }

    /// States of sequences of equal length through all layers: (sequences * tokens) x width.
    pub(super) fn through_layers(&self, states: &Tensor, sequence: usize) -> Result<Tensor> {
        let mut states = states.clone();
        for layer in 0..self.config.layers {
            states = self.run_layer(layer, &states, sequence)?;
        }
        Ok(states)
    }

    /// Scores of all tokens to come after some states behind the last layer.
    pub(super) fn score(&self, states: &Tensor) -> Result<Tensor> {
        let states = rms_norm(states, self.weight(FINAL_NORM)?, epsilon(&self.config))?;
        self.apply(&states, self.head_name())
    }

    /// Mean loss of predicting each sequence's next tokens; a sequence has one token more than
    /// it predicts.
    pub(super) fn loss(&self, sequences: &[&[u32]]) -> Result<Tensor> {
        let (inputs, targets) = inputs_and_targets(sequences);
        let tokens = inputs.len() / sequences.len().max(1);
        cross_entropy(&self.scores(&inputs, tokens)?, targets)
    }

    fn run_layer(&self, layer: u32, states: &Tensor, tokens: usize) -> Result<Tensor> {
        let names = layer_shapes(&self.config, layer).map(|(name, _)| name);
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
        ] = names;
        let apply = |states: &Tensor, name: &str| self.apply(states, name);
        let epsilon = epsilon(&self.config);
        let width = size(self.config.head_width);
        let heads = |heads: u32| Heads {
            tokens,
            heads: size(heads),
            width,
        };

        let normed = rms_norm(states, self.weight(&attention_norm)?, epsilon)?;
        let rotation = Some(self.rotation.clone());
        let queries = split_heads(
            &apply(&normed, &query)?,
            heads(self.config.heads),
            rotation.clone(),
        )?;
        let keys = split_heads(
            &apply(&normed, &key)?,
            heads(self.config.kv_heads),
            rotation,
        )?;
        let values = split_heads(&apply(&normed, &value)?, heads(self.config.kv_heads), None)?;
        // The query heads of one key-value head stand one below the other.
        let grouped = queries.reshape((keys.dim(0)?, (), width))?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the kernels compute in f32"
        )]
        let scale = (1.0 / f64::from(self.config.head_width).sqrt()) as f32;
        let weights = causal_softmax(&times_transposed(&grouped, &keys)?, tokens, scale)?;
        let attended = weights.matmul(&values)?.reshape(queries.shape())?;
        let attended = merge_heads(&attended, heads(self.config.heads))?;
        let states = (states + apply(&attended, &output)?)?;

        let normed = rms_norm(&states, self.weight(&feed_forward_norm)?, epsilon)?;
        let inner = swiglu(&apply(&normed, &gate)?, &apply(&normed, &up)?)?;
        &states + apply(&inner, &down)?
    }
}

/// What goes in, and what should come out for it.
pub(super) fn inputs_and_targets(sequences: &[&[u32]]) -> (Vec<u32>, Vec<usize>) {
    let inputs = sequences
        .iter()
        .flat_map(|tokens| tokens.iter().take(tokens.len() - 1));
    let targets = sequences.iter().flat_map(|tokens| tokens.iter().skip(1));
    (
        inputs.copied().collect(),
        targets.copied().map(size).collect(),
    )
}
