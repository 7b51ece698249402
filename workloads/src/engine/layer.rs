//! One layer of a model: its weights, and what it does to hidden states.

use candle_core::Tensor;
use candle_nn::ops::{rms_norm, silu, softmax_last_dim};
use candle_nn::rotary_emb::{rope, rope_i};

use super::adapters::Adapted;
use super::error::EngineError;
use super::halves::Half;
use super::linear::{Maps, Matrix, bytes};
use super::model::{epsilon, size};
use super::tensors::{NamedShape, bias_of, head_norm_shapes, layer_shapes};
use super::weights::{RotaryOrder, Weights};
use crate::model_config::ModelConfig;

/// Weights of one layer.
#[derive(Debug)]
pub(super) struct Layer {
    attention_norm: Tensor,
    query_key_value: Maps,
    /// Norms of each query head and of each key head.
    head_norms: Option<[Tensor; 2]>,
    output: Maps,
    feed_forward_norm: Tensor,
    gate_up: Maps,
    down: Maps,
}

/// What all layers share while some tokens pass through them.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    pub(super) config: &'a ModelConfig,
    pub(super) rotary_order: RotaryOrder,
    /// How many sequences: their tokens, equally many of each, stand one below the other.
    pub(super) sequences: usize,
    /// Added to the scores: tokens x positions, or sequences x 1 x tokens x positions.
    pub(super) mask: Option<Tensor>,
    /// Tokens x half a head's width, or sequences x tokens x half a head's width.
    pub(super) cosines: Tensor,
    pub(super) sines: Tensor,
    /// What the rows have besides the weights.
    pub(super) adapted: Option<Adapted<'a>>,
}

impl Layer {
    /// Memory that its weights occupy.
    pub(super) fn bytes(&self) -> u64 {
        self.maps().map(Maps::bytes).iter().sum::<u64>() + self.norms().map(bytes).sum::<u64>()
    }

    /// What it multiplies with.
    pub(super) const fn maps(&self) -> [&Maps; 4] {
        [
            &self.query_key_value,
            &self.output,
            &self.gate_up,
            &self.down,
        ]
    }

    /// Its other weights.
    pub(super) fn norms(&self) -> impl Iterator<Item = &Tensor> {
        let norms = [&self.attention_norm, &self.feed_forward_norm];
        norms.into_iter().chain(self.head_norms.iter().flatten())
    }

    /// Loads a layer, or that half of it: of queries, keys, values, gate and up a half of the outputs, of the
    /// output and down maps the inputs that belong to it. The bias of an output belongs to the first half.
    pub(super) fn load(
        weights: &mut Weights,
        config: &ModelConfig,
        (layer, half): (u32, Option<Half>),
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
        let outputs_of = |matrix: Matrix| match half {
            Some(half) => half.outputs_of(&matrix),
            None => Ok(matrix),
        };
        let inputs_of = |matrix: Matrix| match half {
            Some(half) => half.inputs_of(&matrix),
            None => Ok(matrix),
        };
        let mut spread = |shapes: &[NamedShape], has_bias: bool| {
            let matrices = shapes
                .iter()
                .map(|shape| outputs_of(weights.matrix(shape)?));
            let matrices = matrices.collect::<Result<Vec<_>, _>>()?;
            let biases = shapes.iter().map(|shape| {
                let bias = has_bias.then(|| weights.vector(&bias_of(shape)));
                let bias = bias.transpose()?;
                bias.map(|bias| match half {
                    Some(half) => half.values_of(&bias),
                    None => Ok(bias),
                })
                .transpose()
            });
            let biases = biases.collect::<Result<Vec<_>, _>>()?;
            Maps::new(matrices, biases).map_err(EngineError::tensor("joining weights"))
        };
        let query_key_value = spread(&[query, key, value], config.attention_bias)?;
        let gate_up = spread(&[gate, up], false)?;
        let mut gathered = |shape: &NamedShape, has_bias: bool| {
            let matrix = inputs_of(weights.matrix(shape)?)?;
            let is_first = half.is_none_or(|half| half == Half::First);
            let bias = (has_bias && is_first).then(|| weights.vector(&bias_of(shape)));
            Maps::one(matrix, bias.transpose()?).map_err(EngineError::tensor("joining weights"))
        };
        let output = gathered(&output, config.output_bias)?;
        let down = gathered(&down, false)?;
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

    /// What the layer makes of the states (sequences and tokens x width). `append` is given the new
    /// keys and values (sequences and key-value heads x tokens x head's width) and returns all. The layer's
    /// place in its part says which adapters are its own.
    pub(super) fn run(
        &self,
        states: &Tensor,
        (pass, place): (&Pass<'_>, usize),
        append: impl FnOnce(&Tensor, &Tensor) -> candle_core::Result<(Tensor, Tensor)>,
    ) -> candle_core::Result<Tensor> {
        let states = (states + self.attention(states, (pass, place), append)?)?;
        &states + self.feed_forward(&states, pass)?
    }

    /// What the attention adds to the states; of half a layer, that half's part of it.
    pub(super) fn attention(
        &self,
        states: &Tensor,
        (pass, place): (&Pass<'_>, usize),
        append: impl FnOnce(&Tensor, &Tensor) -> candle_core::Result<(Tensor, Tensor)>,
    ) -> candle_core::Result<Tensor> {
        let normed = rms_norm(states, &self.attention_norm, epsilon(pass.config))?;
        let attended = self.attend(&normed, (pass, place), append)?;
        self.output.apply_one(&attended)
    }

    /// What the feed-forward part adds to the states; of half a layer, that half's part of it.
    pub(super) fn feed_forward(
        &self,
        states: &Tensor,
        pass: &Pass<'_>,
    ) -> candle_core::Result<Tensor> {
        let normed = rms_norm(states, &self.feed_forward_norm, epsilon(pass.config))?;
        let both = self.gate_up.apply(&normed)?;
        let [gate, up] = both.as_slice() else {
            candle_core::bail!("{} maps for gate and up", both.len());
        };
        let inner = (silu(&gate.contiguous()?)? * up.contiguous()?)?;
        self.down.apply_one(&inner)
    }

    /// Attention of the new tokens to all up to themselves. A key-value head serves a group of
    /// query heads, which stand one below the other in the rows of its score matrix.
    fn attend(
        &self,
        states: &Tensor,
        (pass, place): (&Pass<'_>, usize),
        append: impl FnOnce(&Tensor, &Tensor) -> candle_core::Result<(Tensor, Tensor)>,
    ) -> candle_core::Result<Tensor> {
        let (heads, kv_heads) = (size(pass.config.heads), size(pass.config.kv_heads));
        let width = size(pass.config.head_width);
        let sequences = pass.sequences;
        let rows = states.dim(0)?;
        let tokens = rows / sequences;
        let mixed = self.query_key_value.apply(states)?;
        let [queries, keys, values] = mixed.as_slice() else {
            candle_core::bail!("{} maps for queries, keys and values", mixed.len());
        };
        let adapted = pass.adapted.as_ref();
        let adapted = adapted.map(|adapted| adapted.add(place, states, [queries, values]));
        let adapted = adapted.transpose()?;
        let (queries, values) = match &adapted {
            Some([queries, values]) => (queries, values),
            None => (queries, values),
        };
        let split = |columns: &Tensor, heads: usize| {
            columns
                .reshape((sequences, tokens, heads, width))?
                .transpose(1, 2)?
                .contiguous()
        };
        let norm = |states: Tensor, norm: Option<&Tensor>| match norm {
            Some(norm) => rms_norm(&states, norm, epsilon(pass.config)),
            None => Ok(states),
        };
        let rotate = |states: &Tensor| match pass.rotary_order {
            RotaryOrder::HalfSplit => rope(states, &pass.cosines, &pass.sines),
            RotaryOrder::Interleaved => rope_i(states, &pass.cosines, &pass.sines),
        };
        let norms = self.head_norms.as_ref();
        let queries = norm(split(queries, heads)?, norms.map(|[queries, _]| queries))?;
        let keys = norm(split(keys, kv_heads)?, norms.map(|[_, keys]| keys))?;
        let (queries, keys) = (rotate(&queries)?, rotate(&keys)?);
        let values = split(values, kv_heads)?;
        let stacked = (sequences * kv_heads, tokens, width);
        let (keys, values) = append(&keys.reshape(stacked)?, &values.reshape(stacked)?)?;

        let group = heads / kv_heads;
        let queries = queries.reshape((sequences * kv_heads, group * tokens, width))?;
        let scale = 1.0 / f64::from(pass.config.head_width).sqrt();
        let scores = (queries.matmul(&keys.t()?)? * scale)?;
        let all = keys.dim(1)?;
        let scores = match &pass.mask {
            Some(mask) => scores
                .reshape((sequences, heads, tokens, all))?
                .broadcast_add(mask)?
                .reshape((sequences * kv_heads, group * tokens, all))?,
            None => scores,
        };
        let attended = softmax_last_dim(&scores)?.matmul(&values)?;
        attended
            .reshape((sequences, heads, tokens, width))?
            .transpose(1, 2)?
            .reshape((rows, heads * width))
    }
}
