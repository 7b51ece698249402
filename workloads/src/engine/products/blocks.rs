//! Products with matrices in blocks of small integers (GGUF's `Q8_0`, `Q6_K` and `Q4_K`).
//!
//! States are rounded to eight bits, as everywhere where such blocks are multiplied as integers, and rows of the
//! matrix are read where the file has put them: nothing is kept beside. Eight of them at a time are put beside each
//! other, a lane of the vectors each, so that sums stay in their lanes until the end, and meet all states then. The
//! tensor library's products take as long for each state of a prompt as for one alone, and keep a second copy of
//! matrices of four and six bits.

mod eight_bits;
mod four_bits;
mod groups;
mod lanes;
mod rounded;
mod six_bits;
mod vectors;

use std::marker::PhantomData;
use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Result, Storage, Tensor, bail};
use pulp::NullaryFnOnce;

use self::eight_bits::EightBits;
use self::four_bits::FourBits;
use self::lanes::ROWS;
pub(in crate::engine) use self::rounded::Rounded;
use self::rounded::{Rounding, State};
use self::six_bits::SixBits;
use self::vectors::{Plain, Vectors};
use super::in_parts;
use super::prefetch::ask_for;

/// A matrix in blocks that are multiplied here.
#[derive(Debug)]
pub(in crate::engine) struct Blocks {
    stored: Arc<QTensor>,
    inputs: usize,
    outputs: usize,
}

/// Whether blocks of that kind on that device are multiplied here.
pub(in crate::engine) fn suits(kind: GgmlDType, device: &Device) -> bool {
    matches!(kind, GgmlDType::Q8_0 | GgmlDType::Q6K | GgmlDType::Q4K) && device.is_cpu()
}

impl Blocks {
    /// A matrix whose blocks suit.
    pub(in crate::engine) fn new(stored: Arc<QTensor>) -> Result<Blocks> {
        let (outputs, inputs) = stored.shape().dims2()?;
        Ok(Blocks {
            stored,
            inputs,
            outputs,
        })
    }

    /// x W^T: states x outputs, of states x inputs; which are rounded as they were for another matrix, if it is of the
    /// same kind.
    pub(in crate::engine) fn product(
        &self,
        states: &Tensor,
        rounded: &mut Option<Rounded>,
    ) -> Result<Tensor> {
        let (count, inputs) = states.dims2()?;
        if inputs != self.inputs || states.dtype() != DType::F32 {
            let (kind, width) = (states.dtype(), self.inputs);
            bail!("states of {inputs} numbers in {kind:?} and a matrix of {width} inputs for f32");
        }
        let states = states.contiguous()?;
        let (storage, layout) = states.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else {
            bail!("states on another device than a matrix in blocks");
        };
        let states = super::numbers(storage, layout)?;
        let product = match self.stored.dtype() {
            GgmlDType::Q8_0 => self.multiply::<EightBits>(states, rounded)?,
            GgmlDType::Q6K => self.multiply::<SixBits>(states, rounded)?,
            GgmlDType::Q4K => self.multiply::<FourBits>(states, rounded)?,
            other => bail!("blocks of {other:?} are not multiplied here"),
        };
        Tensor::from_vec(product, (count, self.outputs), &Device::Cpu)
    }

    fn multiply<F: Format>(
        &self,
        states: &[f32],
        rounded: &mut Option<Rounded>,
    ) -> Result<Vec<f32>> {
        let row_blocks = self.inputs / F::VALUES;
        if row_blocks == 0 {
            bail!("a matrix without inputs");
        }
        let row_bytes = row_blocks * size_of::<F::Block>();
        let data = self.stored.data()?;
        let alike = rounded.take().filter(|rounded| rounded.is_for(F::ROUNDING));
        let states = alike.unwrap_or_else(|| Rounded::new(states, self.inputs, F::ROUNDING));
        let states = &*rounded.insert(states);
        let product = in_parts(states.count(), self.inputs, self.outputs, |rows, sums| {
            fastest(Sums::<F> {
                data: &data[rows.start * row_bytes..rows.end * row_bytes],
                row_blocks,
                width: rows.len(),
                states,
                sums,
                format: PhantomData,
            });
        });
        Ok(product)
    }
}

/// How rows are stored.
trait Format: Copy + Send + Sync {
    /// Numbers of a block.
    const VALUES: usize;
    /// The bytes of a block.
    type Block;
    /// How states are rounded.
    const ROUNDING: Rounding;
    /// A block of each of some rows, as they meet states.
    type Beside: Copy;
    /// Blocks of zeros.
    const NOTHING: Self::Beside;

    /// The blocks of some rows.
    fn blocks(bytes: &[u8]) -> &[Self::Block];

    /// Puts blocks beside each other.
    fn put_beside<V: Vectors>(vectors: V, blocks: [&Self::Block; ROWS], beside: &mut Self::Beside);

    /// How many of a row's blocks have to be there at once for [`Format::alone`].
    fn room_alone(row_blocks: usize) -> usize {
        row_blocks
    }

    /// Products of rows with a state that meets them alone, the same bits as beside others; `tile` has room for blocks.
    #[expect(
        clippy::inline_always,
        reason = "else it is compiled without the vector units"
    )]
    #[inline(always)]
    fn alone<V: Vectors>(
        vectors: V,
        rows: Rows<'_, Self::Block>,
        tile: &mut [Self::Beside],
        state: State<'_>,
    ) -> [f32; ROWS] {
        for (number, beside) in tile.iter_mut().enumerate() {
            Self::put_beside(vectors, rows.blocks(number), beside);
        }
        let [dots] = Self::dots::<V, 1>(vectors, tile, [state]);
        dots
    }

    /// Products of rows, of each block after block, with some states.
    fn dots<V: Vectors, const STATES: usize>(
        vectors: V,
        rows: &[Self::Beside],
        states: [State<'_>; STATES],
    ) -> Dots<STATES>;
}

/// Some rows of a matrix.
#[derive(Debug)]
struct Rows<'d, Block> {
    rows: [&'d [Block]; ROWS],
    /// What is stored after the last of them.
    after: &'d [u8],
}

impl<'d, Block> Rows<'d, Block> {
    /// Blocks of a row.
    const fn count(&self) -> usize {
        self.rows[0].len()
    }

    /// A block of each row. A part of the rows after them is asked for meanwhile: eight at a time are too many for the
    /// processor to find out by itself what is read on.
    #[expect(
        clippy::inline_always,
        reason = "else it is compiled without the vector units"
    )]
    #[inline(always)]
    fn blocks(&self, number: usize) -> [&'d Block; ROWS] {
        let bytes = ROWS * size_of::<Block>();
        let after = self.after.get(number * bytes..(number + 1) * bytes);
        ask_for(after.unwrap_or_default());
        let mut blocks = [&self.rows[0][number]; ROWS];
        for (block, row) in blocks.iter_mut().zip(&self.rows) {
            *block = &row[number];
        }
        blocks
    }
}

/// Of each state, of each row.
type Dots<const STATES: usize> = [[f32; ROWS]; STATES];

/// Fills sums with what the processor has.
fn fastest<F: Format>(sums: Sums<'_, F>) {
    #[cfg(target_arch = "x86_64")]
    if let Some(vectors) = vectors::Avx2::try_new() {
        return vectors.vectorize(With { vectors, sums });
    }
    pulp::Arch::new().dispatch(With {
        vectors: Plain,
        sums,
    });
}

/// Fills sums with given vectors.
struct With<'a, F, V> {
    vectors: V,
    sums: Sums<'a, F>,
}

impl<F: Format, V: Vectors> NullaryFnOnce for With<'_, F, V> {
    type Output = ();

    #[expect(
        clippy::inline_always,
        reason = "else it is compiled without the vector units"
    )]
    #[inline(always)]
    fn call(mut self) {
        self.sums.fill(self.vectors);
    }
}

/// Of the rows that meet all states before the next ones are read: what a nearby cache holds of them.
const PANEL_BYTES: usize = 128 << 10;

/// Of the states that meet some rows of a panel after the others: what the nearest cache holds beside those.
const STATE_BYTES: usize = 16 << 10;

/// Fills `sums`, states x width.
struct Sums<'a, F> {
    data: &'a [u8],
    row_blocks: usize,
    width: usize,
    states: &'a Rounded,
    sums: &'a mut [f32],
    format: PhantomData<F>,
}

#[expect(
    clippy::inline_always,
    reason = "else it is compiled without the vector units"
)]
impl<F: Format> Sums<'_, F> {
    #[inline(always)]
    fn fill<V: Vectors>(&mut self, vectors: V) {
        let count = self.states.count();
        if count == 1 {
            return self.fill_alone(vectors);
        }
        let together = (STATE_BYTES / self.states.inputs() / 4).max(1) * 4;
        let blocks = self.row_blocks;
        let tiles = if count > together {
            (PANEL_BYTES / (blocks * size_of::<F::Beside>())).max(1)
        } else {
            1
        };
        let mut panel = vec![F::NOTHING; tiles * blocks];
        for first_row in (0..self.width).step_by(tiles * ROWS) {
            let end = self.width.min(first_row + tiles * ROWS);
            let first_rows = (first_row..end).step_by(ROWS);
            for (row, tile) in first_rows.clone().zip(panel.chunks_exact_mut(blocks)) {
                let rows = self.rows(row);
                for (number, beside) in tile.iter_mut().enumerate() {
                    F::put_beside(vectors, rows.blocks(number), beside);
                }
            }
            for first in (0..count).step_by(together) {
                let some = first..count.min(first + together);
                for (row, tile) in first_rows.clone().zip(panel.chunks_exact(blocks)) {
                    self.tile(vectors, (row, tile), some.clone());
                }
            }
        }
    }

    /// With the only state.
    #[inline(always)]
    fn fill_alone<V: Vectors>(&mut self, vectors: V) {
        let state = self.states.state(0);
        let mut tile = vec![F::NOTHING; F::room_alone(self.row_blocks)];
        for row in (0..self.width).step_by(ROWS) {
            let dots = F::alone(vectors, self.rows(row), &mut tile, state);
            let rows = ROWS.min(self.width - row);
            self.sums[row..row + rows].copy_from_slice(&dots[..rows]);
        }
    }

    /// Some rows; behind the last row, the last one again.
    #[inline(always)]
    fn rows(&self, first: usize) -> Rows<'_, F::Block> {
        let blocks = F::blocks(self.data);
        let mut rows: [&[F::Block]; ROWS] = [&[]; ROWS];
        for (of, row) in rows.iter_mut().enumerate() {
            let number = (first + of).min(self.width - 1);
            *row = &blocks[number * self.row_blocks..][..self.row_blocks];
        }
        let bytes = self.row_blocks * size_of::<F::Block>();
        let after = self.data.get((first + ROWS) * bytes..);
        Rows {
            rows,
            after: after.unwrap_or_default(),
        }
    }

    /// The sums of some rows with some states.
    #[inline(always)]
    fn tile<V: Vectors>(
        &mut self,
        vectors: V,
        tile: (usize, &[F::Beside]),
        some: std::ops::Range<usize>,
    ) {
        let mut state = some.start;
        while state + 4 <= some.end {
            self.dots::<V, 4>(vectors, tile, state);
            state += 4;
        }
        if state + 2 <= some.end {
            self.dots::<V, 2>(vectors, tile, state);
            state += 2;
        }
        if state < some.end {
            self.dots::<V, 1>(vectors, tile, state);
        }
    }

    #[inline(always)]
    fn dots<V: Vectors, const STATES: usize>(
        &mut self,
        vectors: V,
        (row, tile): (usize, &[F::Beside]),
        first: usize,
    ) {
        let mut states = [self.states.state(first); STATES];
        for (of, state) in states.iter_mut().enumerate() {
            *state = self.states.state(first + of);
        }
        let dots = F::dots::<V, STATES>(vectors, tile, states);
        let rows = ROWS.min(self.width - row);
        for (of, dots) in dots.iter().enumerate() {
            let at = (first + of) * self.width + row;
            self.sums[at..at + rows].copy_from_slice(&dots[..rows]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::train::noise::Noise;

    const KINDS: [GgmlDType; 3] = [GgmlDType::Q8_0, GgmlDType::Q6K, GgmlDType::Q4K];

    fn random(name: &str, (rows, columns): (usize, usize)) -> Tensor {
        let values = Noise::new(3, name).normal(rows * columns, 1.0);
        Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
    }

    fn stored(kind: GgmlDType, shape: (usize, usize)) -> (Blocks, Tensor) {
        let stored = QTensor::quantize(&random("matrix", shape), kind).unwrap();
        let numbers = stored.dequantize(&Device::Cpu).unwrap();
        (Blocks::new(Arc::new(stored)).unwrap(), numbers)
    }

    /// The numbers that states are once they have been rounded.
    fn rounded(states: &Tensor, shared: usize) -> Tensor {
        let (count, inputs) = states.dims2().unwrap();
        let numbers = states.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let summed = None;
        let rounded = Rounded::new(&numbers, inputs, Rounding { shared, summed });
        let mut numbers = Vec::new();
        for state in (0..count).map(|number| rounded.state(number)) {
            let groups = state.integers.as_flattened().chunks(shared);
            for (integers, scale) in groups.zip(state.scales) {
                numbers.extend(integers.iter().map(|integer| f32::from(*integer) * scale));
            }
        }
        Tensor::from_vec(numbers, (count, inputs), &Device::Cpu).unwrap()
    }

    #[test]
    fn products_are_those_of_the_numbers_and_the_rounded_states_however_many_there_are() {
        for (kind, shared) in KINDS.into_iter().zip([32, 256, 256]) {
            for (outputs, inputs) in [(301, 256), (6, 1280), (1, 512)] {
                let (blocks, numbers) = stored(kind, (outputs, inputs));
                for count in [1, 2, 3, 5, 48, 70] {
                    let states = random("states", (count, inputs));
                    let ours = blocks.product(&states, &mut None).unwrap();
                    let rounded = rounded(&states, shared);
                    let theirs = rounded.matmul(&numbers.t().unwrap()).unwrap();
                    assert_eq!(ours.dims(), theirs.dims());
                    let apart = (ours - theirs).unwrap().abs().unwrap();
                    let apart = apart.max_all().unwrap().to_scalar::<f32>().unwrap();
                    assert!(apart < 1e-3, "{kind:?}, {count} states: {apart}");
                }
            }
        }
    }

    #[test]
    fn inputs_need_not_fill_the_scales_that_are_multiplied_together() {
        let (blocks, numbers) = stored(GgmlDType::Q8_0, (7, 352));
        let states = random("states", (4, 352));
        let theirs = rounded(&states, 32).matmul(&numbers.t().unwrap()).unwrap();
        let apart = (blocks.product(&states, &mut None).unwrap() - theirs).unwrap();
        let apart = apart.abs().unwrap().max_all().unwrap();
        assert!(apart.to_scalar::<f32>().unwrap() < 1e-3);
    }

    #[test]
    fn rounding_the_states_costs_less_than_a_hundredth_of_what_a_product_is_large() {
        for kind in KINDS {
            let (blocks, numbers) = stored(kind, (64, 1024));
            let states = random("states", (8, 1024));
            let exact = states.matmul(&numbers.t().unwrap()).unwrap();
            let apart = (blocks.product(&states, &mut None).unwrap() - &exact).unwrap();
            let size = |of: &Tensor| {
                let squares = of.sqr().unwrap().mean_all().unwrap();
                squares.to_scalar::<f32>().unwrap().sqrt()
            };
            let relative = size(&apart) / size(&exact);
            assert!(relative > 0.0 && relative < 0.01, "{kind:?}: {relative}");
        }
    }

    #[test]
    fn a_state_makes_the_same_numbers_alone_and_beside_others() {
        for kind in KINDS {
            let (blocks, _) = stored(kind, (37, 512));
            let states = random("states", (70, 512));
            let together = blocks
                .product(&states, &mut None)
                .unwrap()
                .to_vec2::<f32>()
                .unwrap();
            for (row, expected) in together.iter().enumerate() {
                let alone = blocks
                    .product(&states.narrow(0, row, 1).unwrap(), &mut None)
                    .unwrap();
                assert_eq!(alone.to_vec2::<f32>().unwrap()[0], *expected);
            }
        }
    }

    #[test]
    fn states_that_were_rounded_for_another_matrix_make_the_same_numbers() {
        let states = random("states", (3, 512));
        let mut rounded = None;
        for kind in [KINDS, KINDS].as_flattened() {
            for outputs in [7, 16] {
                let (blocks, _) = stored(*kind, (outputs, 512));
                let shared = blocks.product(&states, &mut rounded).unwrap();
                let own = blocks.product(&states, &mut None).unwrap();
                let [shared, own] = [shared, own].map(|of| of.to_vec2::<f32>().unwrap());
                assert_eq!(shared, own);
            }
        }
    }

    #[test]
    fn every_processor_makes_the_same_bits() {
        fn with<F: Format, V: Vectors>(vectors: V, blocks: &Blocks, states: &Rounded) -> Vec<f32> {
            let mut sums = vec![0.0; states.count() * blocks.outputs];
            let data = blocks.stored.data().unwrap();
            let call = With {
                vectors,
                sums: Sums::<F> {
                    data: &data,
                    row_blocks: blocks.inputs / F::VALUES,
                    width: blocks.outputs,
                    states,
                    sums: &mut sums,
                    format: PhantomData,
                },
            };
            call.call();
            sums
        }
        fn both<F: Format>(blocks: &Blocks, states: &Tensor) {
            let numbers = states.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let rounded = Rounded::new(&numbers, blocks.inputs, F::ROUNDING);
            let plain = with::<F, _>(Plain, blocks, &rounded);
            let chosen = blocks
                .product(states, &mut None)
                .unwrap()
                .flatten_all()
                .unwrap();
            assert_eq!(plain, chosen.to_vec1::<f32>().unwrap());
        }
        let states = random("states", (5, 768));
        both::<EightBits>(&stored(GgmlDType::Q8_0, (9, 768)).0, &states);
        both::<SixBits>(&stored(GgmlDType::Q6K, (9, 768)).0, &states);
        both::<FourBits>(&stored(GgmlDType::Q4K, (9, 768)).0, &states);
    }

    #[test]
    fn states_that_are_no_numbers_make_none() {
        for kind in KINDS {
            let (blocks, _) = stored(kind, (5, 256));
            let mut numbers = vec![1.0; 512];
            numbers[300] = f32::NAN;
            let states = Tensor::from_vec(numbers, (2, 256), &Device::Cpu).unwrap();
            let product = blocks
                .product(&states, &mut None)
                .unwrap()
                .to_vec2::<f32>()
                .unwrap();
            assert!(product[0].iter().all(|one| one.is_finite()));
            assert!(product[1].iter().all(|one| one.is_nan()), "{product:?}");
        }
    }

    #[test]
    fn other_widths_are_refused() {
        let (narrow, _) = stored(GgmlDType::Q8_0, (3, 64));
        let error = narrow
            .product(&random("states", (2, 32)), &mut None)
            .unwrap_err();
        assert!(error.to_string().contains("64 inputs"), "{error}");
    }
}
