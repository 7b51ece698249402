//! Linear maps of hidden states: dense matrices, and matrices in the blocks of GGUF.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{D, DType, Device, Module as _, Tensor};

use super::products::blocks::{self, Blocks, Rounded};
use super::products::dense;
use super::work::PassWork;

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
        Ok(self.sizes()?.0)
    }

    /// Outputs and inputs.
    pub(crate) fn sizes(&self) -> candle_core::Result<(usize, usize)> {
        match self {
            Matrix::Dense(matrix) => matrix.dims2(),
            Matrix::Blocks(blocks) => blocks.shape().dims2(),
        }
    }

    /// Some of its outputs and inputs, which share nothing with it; inputs of a matrix in blocks begin and end
    /// with a block.
    pub(crate) fn part(
        &self,
        outputs: Range<usize>,
        inputs: Range<usize>,
    ) -> candle_core::Result<Matrix> {
        let blocks = match self {
            Matrix::Dense(matrix) => {
                let rows = matrix.narrow(0, outputs.start, outputs.len())?;
                let part = rows.narrow(1, inputs.start, inputs.len())?;
                return Ok(Matrix::Dense(part.force_contiguous()?));
            }
            Matrix::Blocks(blocks) => blocks,
        };
        let (dtype, (_, width)) = (blocks.dtype(), blocks.shape().dims2()?);
        let values = dtype.block_size();
        if ![inputs.start, inputs.end]
            .iter()
            .all(|end| end.is_multiple_of(values))
        {
            candle_core::bail!("inputs {inputs:?} cut a block of {values}");
        }
        let bytes_of = |values_of: usize| values_of / values * dtype.type_size();
        let data = blocks.data()?;
        let rows = data.chunks_exact(bytes_of(width).max(1));
        let rows = rows.skip(outputs.start).take(outputs.len());
        let kept = bytes_of(inputs.start)..bytes_of(inputs.end);
        let part: Vec<u8> = rows
            .flat_map(|row| row.get(kept.clone()).unwrap_or_default())
            .copied()
            .collect();
        let storage = QStorage::from_data(Cow::Owned(part), &blocks.device(), dtype)?;
        let part = QTensor::new(storage, (outputs.len(), inputs.len()))?;
        Ok(Matrix::Blocks(Arc::new(part)))
    }

    /// What a product of one state with it reads and multiplies: of a copy beside the original, one of them.
    fn work(&self) -> candle_core::Result<PassWork> {
        let (outputs, inputs) = self.sizes()?;
        let (weight_bytes, of_numbers) = match self {
            Matrix::Dense(matrix) => (bytes(matrix), matrix.dtype() == DType::F32),
            Matrix::Blocks(stored) => {
                let bytes = u64::try_from(stored.storage_size_in_bytes()).unwrap_or(u64::MAX);
                (bytes, false)
            }
        };
        Ok(PassWork {
            weight_bytes,
            token_products: u64::try_from(outputs.saturating_mul(inputs)).unwrap_or(u64::MAX),
            of_numbers,
            ..PassWork::NONE
        })
    }

    /// Memory that it occupies once it has been multiplied with.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Matrix::Dense(matrix) => bytes(matrix),
            Matrix::Blocks(blocks) => {
                let kind = blocks.dtype();
                block_bytes(blocks.shape().dims(), kind, &blocks.device())
            }
        }
    }
}

/// Memory that a tensor occupies.
pub(crate) fn bytes(tensor: &Tensor) -> u64 {
    let bytes = tensor.dtype().size_in_bytes() * tensor.elem_count();
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Memory that a matrix in blocks occupies once it has been multiplied with. Of some that it multiplies itself the
/// tensor library keeps a copy beside the original, in the order in which its kernels read them (candle 0.11.1,
/// `quantized/repack.rs`): on x86-64 with AVX2, types of which whole groups of rows exist.
pub(crate) fn block_bytes(shape: &[usize], kind: GgmlDType, device: &Device) -> u64 {
    let elements = shape
        .iter()
        .fold(1_usize, |all, size| all.saturating_mul(*size));
    let stored = (elements / kind.block_size()).saturating_mul(kind.type_size());
    let rows = shape.first().copied().unwrap_or(0);
    let is_repacked = match kind {
        GgmlDType::Q5K => rows.is_multiple_of(8),
        _ => false,
    };
    let is_repacked = is_repacked && device.is_cpu() && cfg!(target_arch = "x86_64");
    let copies = if is_repacked { 2_usize } else { 1 };
    u64::try_from(stored.saturating_mul(copies)).unwrap_or(u64::MAX)
}

/// Several linear maps of the same states, with or without biases.
#[derive(Debug)]
pub(crate) struct Maps {
    kernel: Kernel,
    /// Width of each map's output.
    outputs: Vec<usize>,
    biases: Vec<Option<Tensor>>,
    bytes: u64,
    work: PassWork,
}

/// What multiplies.
#[derive(Debug)]
enum Kernel {
    /// One matrix, the maps' rows one below the other: one product for all.
    Joined(Tensor),
    /// One product for each map.
    Apart(Vec<Product>),
}

/// What multiplies with one matrix of several.
#[derive(Debug)]
enum Product {
    /// Our own product with its blocks.
    Blocks(Blocks),
    /// The tensor library's.
    Library(QMatMul),
}

impl Product {
    fn of(matrix: Matrix) -> candle_core::Result<Product> {
        let stored = match matrix {
            Matrix::Dense(matrix) => return Ok(Product::Library(QMatMul::Tensor(matrix))),
            Matrix::Blocks(stored) => stored,
        };
        match blocks::suits(stored.dtype(), &stored.device()) {
            true => Ok(Product::Blocks(Blocks::new(stored)?)),
            false => Ok(Product::Library(QMatMul::from_arc(stored)?)),
        }
    }

    /// Blocks round the states, or take them as they were rounded for other blocks.
    fn apply(&self, states: &Tensor, rounded: &mut Option<Rounded>) -> candle_core::Result<Tensor> {
        match self {
            Product::Blocks(blocks) => blocks.product(states, rounded),
            Product::Library(product) => product.forward(states),
        }
    }
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
        let mut work = PassWork {
            weight_bytes: bias_bytes,
            ..PassWork::NONE
        };
        for matrix in &matrices {
            work.add(&matrix.work()?);
        }
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
                let products = matrices.into_iter().map(Product::of);
                Kernel::Apart(products.collect::<candle_core::Result<_>>()?)
            }
        };
        Ok(Maps {
            kernel,
            outputs,
            biases,
            bytes,
            work,
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

    /// What a pass of one token through them reads and multiplies.
    pub(crate) const fn work(&self) -> &PassWork {
        &self.work
    }

    /// What each map makes of the states (tokens x inputs): tokens x its outputs.
    pub(crate) fn apply(&self, states: &Tensor) -> candle_core::Result<Vec<Tensor>> {
        let products = match &self.kernel {
            Kernel::Joined(matrix) => {
                let product = match dense::suits(states, matrix) {
                    true => dense::product(states, matrix)?,
                    false => states.matmul(&matrix.t()?)?,
                };
                let mut start = 0;
                let parts = self.outputs.iter().map(|width| {
                    let part = product.narrow(D::Minus1, start, *width);
                    start += width;
                    part
                });
                parts.collect::<candle_core::Result<Vec<_>>>()?
            }
            Kernel::Apart(products) => {
                let mut rounded = None;
                let parts = products
                    .iter()
                    .map(|product| product.apply(states, &mut rounded));
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
