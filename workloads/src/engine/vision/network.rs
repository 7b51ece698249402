//! The formulas of the encoder and the projector, every one with a backward, so that what computes is what was trained.

use std::collections::BTreeMap;

use candle_core::{D, Device, Result, Tensor, bail};

use super::{CHANNELS, VisionConfig};
use crate::engine::model::size;

/// An encoder with its weights, which a training may be moving.
#[derive(Debug)]
pub(crate) struct Network {
    config: VisionConfig,
    tensors: BTreeMap<String, Tensor>,
}

/// Images as the patches that the first map takes: images x patches x (3 p p), numbers from -1 to 1. Within a patch
/// the order is that of a convolution's weights: channel, row, column.
pub(crate) fn patches(config: &VisionConfig, images: &[&[u8]]) -> Result<Tensor> {
    let (side, patch) = (size(config.side()), size(config.patch_size));
    let row = side * patch;
    let mut values = Vec::with_capacity(images.len() * CHANNELS * row * row);
    for image in images {
        if image.len() != CHANNELS * row * row {
            bail!("an image of {} bytes", image.len());
        }
        for (top, left) in (0..side).flat_map(|top| (0..side).map(move |left| (top, left))) {
            for channel in 0..CHANNELS {
                for y in top * patch..(top + 1) * patch {
                    for x in left * patch..(left + 1) * patch {
                        let byte = image[(y * row + x) * CHANNELS + channel];
                        values.push(f32::from(byte) / 127.5 - 1.0);
                    }
                }
            }
        }
    }
    let shape = (images.len(), side * side, CHANNELS * patch * patch);
    Tensor::from_vec(values, shape, &Device::Cpu)
}

impl Network {
    pub(crate) const fn new(config: VisionConfig, tensors: BTreeMap<String, Tensor>) -> Network {
        Network { config, tensors }
    }

    pub(crate) const fn config(&self) -> &VisionConfig {
        &self.config
    }

    fn tensor(&self, name: &str) -> Result<&Tensor> {
        match self.tensors.get(name) {
            Some(tensor) => Ok(tensor),
            None => bail!("no weight {name}"),
        }
    }

    /// x W^T + b of rows.
    fn map(&self, states: &Tensor, name: &str) -> Result<Tensor> {
        let weight = self.tensor(&format!("{name}.weight"))?.flatten_from(1)?;
        let mapped = states.matmul(&weight.t()?)?;
        mapped.broadcast_add(self.tensor(&format!("{name}.bias"))?)
    }

    /// Layer norm of rows, arXiv 1607.06450: (x - mean) / sqrt(variance + epsilon) w + b.
    fn norm(&self, states: &Tensor, name: &str) -> Result<Tensor> {
        let centred = states.broadcast_sub(&states.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let deviation = (variance + self.config.layer_norm_eps)?.sqrt()?;
        let normed = centred.broadcast_div(&deviation)?;
        let scaled = normed.broadcast_mul(self.tensor(&format!("{name}.weight"))?)?;
        scaled.broadcast_add(self.tensor(&format!("{name}.bias"))?)
    }

    /// States of all patches behind the last norm: (images * patches) x width, from images x patches x (3 p p).
    pub(crate) fn encode(&self, pixels: &Tensor) -> Result<Tensor> {
        let (images, patches, inputs) = pixels.dims3()?;
        let rows = pixels.reshape((images * patches, inputs))?;
        let embedded = self.map(&rows, "vision_model.embeddings.patch_embedding")?;
        let width = size(self.config.hidden_size);
        let positions = self.tensor("vision_model.embeddings.position_embedding.weight")?;
        let embedded = embedded.reshape((images, patches, width))?;
        let mut states = embedded
            .broadcast_add(positions)?
            .reshape((images * patches, width))?;
        for layer in 0..self.config.num_hidden_layers {
            let name = format!("vision_model.encoder.layers.{layer}");
            let normed = self.norm(&states, &format!("{name}.layer_norm1"))?;
            let attended = self.attend(&normed, &format!("{name}.self_attn"), (images, patches))?;
            states = (states + attended)?;
            let normed = self.norm(&states, &format!("{name}.layer_norm2"))?;
            let inner = self.map(&normed, &format!("{name}.mlp.fc1"))?.gelu()?;
            states = (states + self.map(&inner, &format!("{name}.mlp.fc2"))?)?;
        }
        self.norm(&states, "vision_model.post_layernorm")
    }

    /// Attention of every patch to every other, arXiv 1706.03762, eq. 1.
    fn attend(
        &self,
        states: &Tensor,
        name: &str,
        (images, patches): (usize, usize),
    ) -> Result<Tensor> {
        let heads = size(self.config.num_attention_heads);
        let width = size(self.config.hidden_size) / heads;
        let of_heads = |map: &str| -> Result<Tensor> {
            let mapped = self.map(states, &format!("{name}.{map}"))?;
            let mapped = mapped.reshape((images, patches, heads, width))?;
            let mapped = mapped.transpose(1, 2)?.contiguous()?;
            mapped.reshape((images * heads, patches, width))
        };
        let (queries, keys) = (of_heads("q_proj")?, of_heads("k_proj")?);
        let scale = 1.0 / f64::from(u32::try_from(width).unwrap_or(u32::MAX)).sqrt();
        let scores = (queries.matmul(&keys.t()?)? * scale)?;
        let weights = candle_nn::ops::softmax(&scores, D::Minus1)?;
        let attended = weights.matmul(&of_heads("v_proj")?)?;
        let attended = attended.reshape((images, heads, patches, width))?;
        let attended = attended.transpose(1, 2)?.contiguous()?;
        let attended = attended.reshape((images * patches, heads * width))?;
        self.map(&attended, &format!("{name}.out_proj"))
    }

    /// Visual tokens: means of squares of `square` patches a side, through the projector. Rows stand image by image.
    pub(crate) fn project(&self, states: &Tensor, square: u32) -> Result<Tensor> {
        let (side, square) = (size(self.config.side()), size(square));
        let width = size(self.config.hidden_size);
        let images = states.dim(0)? / (side * side);
        let merged = side / square;
        let states = match square {
            1 => states.clone(),
            _ => states
                .reshape(vec![images, merged, square, merged, square, width])?
                .mean((2, 4))?
                .reshape((images * merged * merged, width))?,
        };
        let inner = self.map(&states, "multi_modal_projector.linear_1")?;
        self.map(&inner.gelu_erf()?, "multi_modal_projector.linear_2")
    }
}
