//! The operations of the model that training needs and the tensor library has no backward for, or
//! only one that is several times slower: each is one pass forward and one pass back.
//!
//! Gradients are those of the formulas stated at each; a test holds them against differences.

mod heads;

use std::ops::Deref;

use candle_core::backend::BackendStorage as _;
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, Device, Layout, Result, Shape, Storage, Tensor, bail,
};

pub(super) use self::heads::{Heads, Rotation, merge_heads, split_heads};

fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("this operation takes contiguous tensors");
    };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// A contiguous tensor whose values can be looked at.
struct Values<'a, Guard> {
    storage: Guard,
    layout: &'a Layout,
}

fn values_of(tensor: &Tensor) -> Values<'_, impl Deref<Target = Storage> + use<'_>> {
    let (storage, layout) = tensor.storage_and_layout();
    Values { storage, layout }
}

impl<Guard: Deref<Target = Storage>> Values<'_, Guard> {
    fn slice(&self) -> Result<&[f32]> {
        match &*self.storage {
            Storage::Cpu(storage) => slice(storage, self.layout),
            _ => bail!("training runs on the CPU"),
        }
    }
}

fn filled(values: Vec<f32>, shape: &Shape) -> (CpuStorage, Shape) {
    (CpuStorage::F32(values), shape.clone())
}

/// e^x to a relative error of 3e-7, without a branch so that it is computed for several values
/// at once: 2^n * 2^f with n whole and |f| <= 1/2, 2^f by its series.
pub(super) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves the whole part in the low bits
    let power = x.clamp(-87.0, 88.0) * std::f32::consts::LOG2_E;
    let shifted = power + ROUND;
    let f = (power - (shifted - ROUND)) * std::f32::consts::LN_2;
    let series = 1.0
        + f * (1.0
            + f * (0.5 + f * (1.0 / 6.0 + f * (1.0 / 24.0 + f * (1.0 / 120.0 + f / 720.0)))));
    let exponent = shifted
        .to_bits()
        .wrapping_sub(ROUND.to_bits())
        .wrapping_add(127)
        << 23;
    series * f32::from_bits(exponent)
}

/// Sum of `term` over pairs, in sixteen strands that vector units can hold.
fn sum_of(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let (a_chunks, a_rest) = a.as_chunks::<16>();
    let (b_chunks, b_rest) = b.as_chunks::<16>();
    let mut strands = [0.0_f32; 16];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..16 {
            strands[lane] += term(a[lane], b[lane]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| term(*a, *b)).sum();
    strands.iter().sum::<f32>() + rest
}

#[expect(clippy::cast_precision_loss, reason = "sizes of small matrices")]
fn float(count: usize) -> f32 {
    count as f32
}

/// a b^T, of matrices or of as many matrices in a and b: `da = g b`, `db = g^T a`.
struct TimesTransposed {
    /// Whether b learns too.
    both: bool,
}

impl CustomOp2 for TimesTransposed {
    fn name(&self) -> &'static str {
        "times-transposed"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let transposed =
            b_layout.transpose(b_layout.dims().len() - 2, b_layout.dims().len() - 1)?;
        let (batches, rows, inner) = match *a_layout.dims() {
            [rows, inner] => (1, rows, inner),
            [batches, rows, inner] => (batches, rows, inner),
            _ => bail!("a product of matrices of rank {}", a_layout.dims().len()),
        };
        let columns = *transposed.dims().last().unwrap_or(&0);
        let product = a.matmul(b, (batches, rows, columns, inner), a_layout, &transposed)?;
        let shape = match a_layout.dims().len() {
            2 => Shape::from((rows, columns)),
            _ => Shape::from((batches, rows, columns)),
        };
        Ok((product, shape))
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (a, b) = (a.detach(), b.detach());
        let of_a = gradient.matmul(&b)?;
        let of_b = match self.both {
            true => Some(gradient.t()?.matmul(&a)?),
            false => None,
        };
        Ok((Some(of_a), of_b))
    }
}

/// a b^T.
pub(super) fn times_transposed(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    a.apply_op2(b, TimesTransposed { both: true })
}

/// a b^T with a b that stays as it is.
pub(super) fn times_frozen(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    a.apply_op2(b, TimesTransposed { both: false })
}

/// Root mean square norm of rows, Zhang and Sennrich 2019, eq. 4: `y = x r w` with
/// `r = (mean(x^2) + epsilon)^(-1/2)`.
struct RmsNorm {
    epsilon: f32,
}

impl RmsNorm {
    fn scale(&self, row: &[f32]) -> f32 {
        let mean = sum_of(row, row, |a, b| a * b) / float(row.len());
        1.0 / (mean + self.epsilon).sqrt()
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, w) = (slice(x, x_layout)?, slice(w, w_layout)?);
        let mut y = vec![0.0; x.len()];
        for (row, out) in x.chunks_exact(w.len()).zip(y.chunks_exact_mut(w.len())) {
            let scale = self.scale(row);
            for ((out, x), w) in out.iter_mut().zip(row).zip(w) {
                *out = x * scale * w;
            }
        }
        Ok(filled(y, x_layout.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let (xs, ws, gs) = (values_of(x), values_of(w), values_of(&gradient));
        let (xs, ws, gs) = (xs.slice()?, ws.slice()?, gs.slice()?);
        let width = ws.len();
        let mut of_x = vec![0.0; xs.len()];
        let mut of_w = vec![0.0; width];
        let mut weighted = vec![0.0; width];
        for ((row, g), out) in xs
            .chunks_exact(width)
            .zip(gs.chunks_exact(width))
            .zip(of_x.chunks_exact_mut(width))
        {
            let scale = self.scale(row);
            for ((weighted, g), w) in weighted.iter_mut().zip(g).zip(ws) {
                *weighted = g * w;
            }
            let along = sum_of(&weighted, row, |a, b| a * b);
            let pull = along * scale * scale * scale / float(width);
            for ((out, weighted), x) in out.iter_mut().zip(&weighted).zip(row) {
                *out = scale * weighted - pull * x;
            }
            for ((of_w, g), x) in of_w.iter_mut().zip(g).zip(row) {
                *of_w += g * x * scale;
            }
        }
        Ok((
            Some(Tensor::from_vec(of_x, x.shape(), &Device::Cpu)?),
            Some(Tensor::from_vec(of_w, w.shape(), &Device::Cpu)?),
        ))
    }
}

/// Root mean square norm of rows.
pub(super) fn rms_norm(x: &Tensor, w: &Tensor, epsilon: f32) -> Result<Tensor> {
    x.apply_op2(w, RmsNorm { epsilon })
}

/// Softmax of scaled scores over the tokens up to one's own; the rows of a matrix are the tokens,
/// once for every query head of its group. `dx = scale * p * (g - sum(g p))`.
struct CausalSoftmax {
    tokens: usize,
    scale: f32,
}

impl CustomOp1 for CausalSoftmax {
    fn name(&self) -> &'static str {
        "causal-softmax"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(x, layout)?;
        let mut y = vec![0.0; x.len()];
        let rows = x
            .chunks_exact(self.tokens)
            .zip(y.chunks_exact_mut(self.tokens));
        for (row, (scores, out)) in rows.enumerate() {
            let seen = row % self.tokens + 1;
            let (scores, out) = (&scores[..seen], &mut out[..seen]);
            softmax_row(scores, out, self.scale);
        }
        Ok(filled(y, layout.shape()))
    }

    fn bwd(&self, x: &Tensor, result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let gradient = gradient.contiguous()?;
        let (ps, gs) = (values_of(result), values_of(&gradient));
        let (ps, gs) = (ps.slice()?, gs.slice()?);
        let mut of_x = vec![0.0; ps.len()];
        let rows = ps
            .chunks_exact(self.tokens)
            .zip(gs.chunks_exact(self.tokens));
        for (row, ((p, g), out)) in rows.zip(of_x.chunks_exact_mut(self.tokens)).enumerate() {
            let seen = row % self.tokens + 1;
            let (p, g, out) = (&p[..seen], &g[..seen], &mut out[..seen]);
            let mean = sum_of(p, g, |a, b| a * b);
            for ((out, p), g) in out.iter_mut().zip(p).zip(g) {
                *out = self.scale * p * (g - mean);
            }
        }
        Tensor::from_vec(of_x, x.shape(), &Device::Cpu).map(Some)
    }
}

fn softmax_row(scores: &[f32], out: &mut [f32], scale: f32) {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for (out, score) in out.iter_mut().zip(scores) {
        *out = exp((score - highest) * scale);
    }
    let total = sum_of(out, out, |a, _| a);
    for out in out {
        *out /= total;
    }
}

/// Softmax over the past.
pub(super) fn causal_softmax(x: &Tensor, tokens: usize, scale: f32) -> Result<Tensor> {
    x.apply_op1(CausalSoftmax { tokens, scale })
}

/// The gate of the feed-forward part, Shazeer 2020: `silu(a) b` with `silu(a) = a / (1 + e^-a)`.
struct SwiGlu;

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (a, b) = (slice(a, a_layout)?, slice(b, b_layout)?);
        let y = a
            .iter()
            .zip(b)
            .map(|(a, b)| a / (1.0 + exp(-a)) * b)
            .collect();
        Ok(filled(y, a_layout.shape()))
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let (av, bv, gv) = (values_of(a), values_of(b), values_of(&gradient));
        let (av, bv, gv) = (av.slice()?, bv.slice()?, gv.slice()?);
        let mut of_a = vec![0.0; av.len()];
        let mut of_b = vec![0.0; av.len()];
        for ((((of_a, of_b), a), b), g) in of_a.iter_mut().zip(&mut of_b).zip(av).zip(bv).zip(gv) {
            let sigmoid = 1.0 / (1.0 + exp(-a));
            *of_b = g * a * sigmoid;
            *of_a = g * b * sigmoid * (1.0 + a * (1.0 - sigmoid));
        }
        Ok((
            Some(Tensor::from_vec(of_a, a.shape(), &Device::Cpu)?),
            Some(Tensor::from_vec(of_b, b.shape(), &Device::Cpu)?),
        ))
    }
}

/// The gated product of the feed-forward part.
pub(super) fn swiglu(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    a.apply_op2(b, SwiGlu)
}

/// Mean of `-ln softmax(x)[target]` over rows: `dx = g (softmax(x) - 1[target]) / rows`.
struct CrossEntropy {
    targets: Vec<usize>,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(x, layout)?;
        let columns = x.len() / self.targets.len();
        let mut total = 0.0_f64;
        let mut powers = vec![0.0; columns];
        for (row, target) in x.chunks_exact(columns).zip(&self.targets) {
            let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            for (power, score) in powers.iter_mut().zip(row) {
                *power = exp(score - highest);
            }
            let sum = sum_of(&powers, &powers, |a, _| a);
            total += f64::from(sum.ln() + highest - row[*target]);
        }
        #[expect(clippy::cast_possible_truncation, reason = "a loss is an f32 tensor")]
        let mean = (total / f64::from(float(self.targets.len()))) as f32;
        Ok((CpuStorage::F32(vec![mean]), Shape::from(())))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let share = gradient.to_scalar::<f32>()? / float(self.targets.len());
        let values = values_of(x);
        let values = values.slice()?;
        let columns = values.len() / self.targets.len();
        let mut of_x = vec![0.0; values.len()];
        let rows = values
            .chunks_exact(columns)
            .zip(of_x.chunks_exact_mut(columns));
        for ((row, out), target) in rows.zip(&self.targets) {
            softmax_row(row, out, 1.0);
            out[*target] -= 1.0;
            for out in out {
                *out *= share;
            }
        }
        Tensor::from_vec(of_x, x.shape(), &Device::Cpu).map(Some)
    }
}

/// Mean cross-entropy of rows of scores and the ids that should have won.
pub(super) fn cross_entropy(scores: &Tensor, targets: Vec<usize>) -> Result<Tensor> {
    let (rows, columns) = scores.dims2()?;
    if rows == 0 || rows != targets.len() || targets.iter().any(|target| *target >= columns) {
        bail!("{} targets for scores of {rows} x {columns}", targets.len());
    }
    scores.apply_op1(CrossEntropy { targets })
}
