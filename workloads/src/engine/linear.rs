//! Linear maps of hidden states: dense matrices, and matrices in the blocks of GGUF.

use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{D, Device, Module as _, Tensor};

/// A matrix, outputs x inputs.
#[derive(Debug, Clone)]
pub(crate) enum Matrix {
    /// Numbers of the model's precision.
    Dense(Tensor),
    /// Blocks of few bits with their scales, as GGUF stores them.
    Blocks(Arc<QTensor>),
}

impl Matrix {
    /// Some rows of it: what an embedding table gives for token ids.
    pub(crate) fn rows(&self, numbers: &[u32], device: &Device) -> candle_core::Result<Tensor> {
        let numbers = Tensor::new(numbers, device)?;
        match self {
            Matrix::Dense(matrix) => matrix.index_select(&numbers, 0),
            Matrix::Blocks(blocks) => blocks.embedding(&numbers),
        }
    }

    fn outputs(&self) -> candle_core::Result<usize> {
        match self {
            Matrix::Dense(matrix) => matrix.dim(0),
            Matrix::Blocks(blocks) => Ok(blocks.shape().dims2()?.0),
        }
    }

    /// Memory that it occupies once it has been multiplied with.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Matrix::Dense(matrix) => bytes(matrix),
            // The tensor library keeps a copy of these beside the original, in the order in which
            // its kernels read them.
            Matrix::Blocks(blocks) => {
                let copies = if is_repacked(blocks) { 2 } else { 1 };
                u64::try_from(copies * blocks.storage_size_in_bytes()).unwrap_or(u64::MAX)
            }
        }
    }
}

/// Memory that a tensor occupies.
pub(crate) fn bytes(tensor: &Tensor) -> u64 {
    let bytes = tensor.dtype().size_in_bytes() * tensor.elem_count();
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Whether the tensor library repacks these blocks for its kernels (candle 0.11.1,
/// `quantized/repack.rs`): on x86-64 with AVX2, types of which whole groups of rows exist.
fn is_repacked(blocks: &QTensor) -> bool {
    let rows = blocks.shape().dims().first().copied().unwrap_or(0);
    let repacked = match blocks.dtype() {
        GgmlDType::Q8_0 => rows.is_multiple_of(4),
        GgmlDType::Q4K | GgmlDType::Q5K | GgmlDType::Q6K => rows.is_multiple_of(8),
        _ => false,
    };
    repacked && blocks.device().is_cpu() && cfg!(target_arch = "x86_64")
}

/// Several linear maps of the same states, with or without biases.
#[derive(Debug)]
pub(crate) struct Maps {
    kernel: Kernel,
    /// Width of each map's output.
    outputs: Vec<usize>,
    biases: Vec<Option<Tensor>>,
    bytes: u64,
}

/// What multiplies.
#[derive(Debug)]
enum Kernel {
    /// One matrix, the maps' rows one below the other: one product for all.
    Joined(Tensor),
    /// One product for each map.
    Apart(Vec<QMatMul>),
}

impl Maps {
    /// The maps of some matrices and their biases, which must be as many.
    pub(crate) fn new(
        matrices: Vec<Matrix>,
        biases: Vec<Option<Tensor>>,
    ) -> candle_core::Result<Maps> {
        let outputs = matrices.iter().map(Matrix::outputs);
        let outputs = outputs.collect::<candle_core::Result<Vec<_>>>()?;
        let bias_bytes: u64 = biases.iter().flatten().map(bytes).sum();
        let bytes = matrices.iter().map(Matrix::bytes).sum::<u64>() + bias_bytes;
        let dense: Option<Vec<&Tensor>> = matrices
            .iter()
            .map(|matrix| match matrix {
                Matrix::Dense(matrix) => Some(matrix),
                Matrix::Blocks(_) => None,
            })
            .collect();
        let kernel = match dense.as_deref() {
            Some([one]) => Kernel::Joined((*one).clone()),
            Some(several) => Kernel::Joined(Tensor::cat(several, 0)?),
            None => {
                let products = matrices.into_iter().map(|matrix| match matrix {
                    Matrix::Dense(matrix) => Ok(QMatMul::Tensor(matrix)),
                    Matrix::Blocks(blocks) => QMatMul::from_arc(blocks),
                });
                Kernel::Apart(products.collect::<candle_core::Result<_>>()?)
            }
        };
        Ok(Maps {
            kernel,
            outputs,
            biases,
            bytes,
        })
    }

    /// A map alone.
    pub(crate) fn one(matrix: Matrix, bias: Option<Tensor>) -> candle_core::Result<Maps> {
        Maps::new(vec![matrix], vec![bias])
    }

    /// Memory that the weights occupy.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What each map makes of the states (tokens x inputs): tokens x its outputs.
    pub(crate) fn apply(&self, states: &Tensor) -> candle_core::Result<Vec<Tensor>> {
        let products = match &self.kernel {
            Kernel::Joined(matrix) => {
                let product = states.matmul(&matrix.t()?)?;
                let mut start = 0;
                let parts = self.outputs.iter().map(|width| {
                    let part = product.narrow(D::Minus1, start, *width);
                    start += width;
                    part
                });
                parts.collect::<candle_core::Result<Vec<_>>>()?
            }
            Kernel::Apart(products) => {
                let parts = products.iter().map(|product| product.forward(states));
                parts.collect::<candle_core::Result<Vec<_>>>()?
            }
        };
        let biased = products.into_iter().zip(&self.biases);
        biased
            .map(|(product, bias)| match bias {
                Some(bias) => product.broadcast_add(bias),
                None => Ok(product),
            })
            .collect()
    }

    /// What a map alone makes of the states.
    pub(crate) fn apply_one(&self, states: &Tensor) -> candle_core::Result<Tensor> {
        match self.apply(states)?.as_slice() {
            [one] => Ok(one.clone()),
            several => candle_core::bail!("{} maps where one is meant", several.len()),
        }
    }
}
