//! Between rows of tokens and heads of tokens, turned by their positions on the way.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor};

use super::{slice, values_of};

/// Cosines and sines of the rotary embedding, position x half a head.
#[derive(Debug, Clone)]
pub(in crate::engine::train) struct Rotation {
    pub(in crate::engine::train) cosines: Arc<Vec<f32>>,
    pub(in crate::engine::train) sines: Arc<Vec<f32>>,
}

/// The shape of what is moved between "tokens x heads" and "heads x tokens".
#[derive(Debug, Clone)]
pub(in crate::engine::train) struct Heads {
    pub(in crate::engine::train) tokens: usize,
    pub(in crate::engine::train) heads: usize,
    pub(in crate::engine::train) width: usize,
}

impl Heads {
    /// Copies `sequences x tokens x heads x width` to `sequences x heads x tokens x width`, or back.
    fn move_heads(&self, from: &[f32], into_heads: bool) -> Vec<f32> {
        let Heads {
            tokens,
            heads,
            width,
        } = *self;
        let mut to = vec![0.0; from.len()];
        let sequence = tokens * heads * width;
        for (from, to) in from
            .chunks_exact(sequence)
            .zip(to.chunks_exact_mut(sequence))
        {
            for token in 0..tokens {
                for head in 0..heads {
                    let flat = (token * heads + head) * width;
                    let split = (head * tokens + token) * width;
                    let (read, write) = if into_heads {
                        (flat, split)
                    } else {
                        (split, flat)
                    };
                    to[write..write + width].copy_from_slice(&from[read..read + width]);
                }
            }
        }
        to
    }

    /// Turns each pair (i, i + width/2) of every head by its position's angle, or back by it.
    fn rotate(&self, states: &mut [f32], rotation: &Rotation, back: bool) {
        let half = self.width / 2;
        for (row, state) in states.chunks_exact_mut(self.width).enumerate() {
            let position = row % self.tokens;
            let cosines = &rotation.cosines[position * half..][..half];
            let sines = &rotation.sines[position * half..][..half];
            let (first, second) = state.split_at_mut(half);
            for (((a, b), cosine), sine) in first.iter_mut().zip(second).zip(cosines).zip(sines) {
                let sine = if back { -*sine } else { *sine };
                (*a, *b) = (*a * cosine - *b * sine, *a * sine + *b * cosine);
            }
        }
    }
}

/// Rows of tokens to heads, turned by their positions if a rotation is given. The transpose of a
/// rotation is the rotation back.
struct SplitHeads {
    shape: Heads,
    rotation: Option<Rotation>,
}

impl CustomOp1 for SplitHeads {
    fn name(&self) -> &'static str {
        "split-heads"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut y = self.shape.move_heads(slice(x, layout)?, true);
        if let Some(rotation) = &self.rotation {
            self.shape.rotate(&mut y, rotation, false);
        }
        let Heads { tokens, width, .. } = self.shape;
        let shape = Shape::from((y.len() / (tokens * width), tokens, width));
        Ok((CpuStorage::F32(y), shape))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let gradient = gradient.contiguous()?;
        let mut turned = values_of(&gradient).slice()?.to_vec();
        if let Some(rotation) = &self.rotation {
            self.shape.rotate(&mut turned, rotation, true);
        }
        let back = self.shape.move_heads(&turned, false);
        Tensor::from_vec(back, x.shape(), &Device::Cpu).map(Some)
    }
}

/// `(sequences * tokens) x (heads * width)` to `(sequences * heads) x tokens x width`.
pub(in crate::engine::train) fn split_heads(
    x: &Tensor,
    shape: Heads,
    rotation: Option<Rotation>,
) -> Result<Tensor> {
    x.apply_op1(SplitHeads { shape, rotation })
}

/// The way back from [`split_heads`].
struct MergeHeads(Heads);

impl CustomOp1 for MergeHeads {
    fn name(&self) -> &'static str {
        "merge-heads"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = self.0.move_heads(slice(x, layout)?, false);
        let columns = self.0.heads * self.0.width;
        let shape = Shape::from((y.len() / columns, columns));
        Ok((CpuStorage::F32(y), shape))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let gradient = gradient.contiguous()?;
        let back = self.0.move_heads(values_of(&gradient).slice()?, true);
        Tensor::from_vec(back, x.shape(), &Device::Cpu).map(Some)
    }
}

/// Heads of tokens to rows of tokens.
pub(in crate::engine::train) fn merge_heads(x: &Tensor, shape: Heads) -> Result<Tensor> {
    x.apply_op1(MergeHeads(shape))
}
