//! Products with matrices of numbers.

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};
use pulp::{Arch, Simd, WithSimd};

use super::in_parts;
use super::prefetch::ask_for;

/// States from which on the library's product is the faster one.
pub(in crate::engine) const FEWER_THAN: usize = 48;

/// Whether this makes the product: of few states in f32 on a CPU that nobody learns from.
pub(in crate::engine) fn suits(states: &Tensor, matrix: &Tensor) -> bool {
    let suits = |tensor: &Tensor| {
        tensor.dtype() == DType::F32 && tensor.device().is_cpu() && !tensor.track_op()
    };
    let is_few = states.rank() == 2 && states.dims()[0] < FEWER_THAN;
    is_few && suits(states) && suits(matrix) && matrix.is_contiguous()
}

/// x W^T: states x outputs, of states x inputs and outputs x inputs.
pub(in crate::engine) fn product(states: &Tensor, matrix: &Tensor) -> Result<Tensor> {
    states.contiguous()?.apply_op2_no_bwd(matrix, &Product)
}

struct Product;

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "few-states-product"
    }

    fn cpu_fwd(
        &self,
        states: &CpuStorage,
        states_layout: &Layout,
        matrix: &CpuStorage,
        matrix_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((rows, inputs), (outputs, width)) = (
            states_layout.shape().dims2()?,
            matrix_layout.shape().dims2()?,
        );
        if inputs == 0 || inputs != width {
            bail!("states of {inputs} numbers and a matrix of {width} inputs");
        }
        let states = super::numbers(states, states_layout)?;
        let numbers = super::numbers(matrix, matrix_layout)?;
        let product = in_parts(rows, inputs, outputs, |part, sums| {
            let matrix = &numbers[part.start * inputs..part.end * inputs];
            Arch::new().dispatch(Sums {
                states,
                matrix,
                inputs,
                sums,
            });
        });
        Ok((CpuStorage::F32(product), Shape::from((rows, outputs))))
    }
}

/// Inputs below which rows are too short for the processor to find out by itself that they are read one after the
/// other: what follows is asked for.
const SHORT: usize = 1024;

/// Rows of the matrix that meet the states together: as many sums as keep the vector units busy, and as there are
/// registers for.
const TILE: usize = 4;

/// How many tiles before they are read.
const TILES_AHEAD: usize = 2;

/// Fills `sums`, states x outputs.
struct Sums<'a> {
    states: &'a [f32],
    matrix: &'a [f32],
    inputs: usize,
    sums: &'a mut [f32],
}

impl WithSimd for Sums<'_> {
    type Output = ();

    #[expect(
        clippy::inline_always,
        reason = "else it is compiled without the vector units"
    )]
    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let after = self.in_tiles::<S, TILE>(simd, 0);
        self.in_tiles::<S, 1>(simd, after);
    }
}

impl Sums<'_> {
    /// Makes the sums of as many whole tiles of `OUTPUTS` rows as there are from row `first` on; returns the row
    /// behind them.
    #[expect(
        clippy::inline_always,
        reason = "else it is compiled without the vector units"
    )]
    #[inline(always)]
    fn in_tiles<S: Simd, const OUTPUTS: usize>(&mut self, simd: S, first: usize) -> usize {
        let (matrix, inputs) = (self.matrix, self.inputs);
        let outputs = matrix.len() / inputs;
        let mut output = first;
        while output + OUTPUTS <= outputs {
            let ahead = output + TILES_AHEAD * OUTPUTS;
            if inputs < SHORT && ahead + OUTPUTS <= outputs {
                ask_for(&matrix[ahead * inputs..(ahead + OUTPUTS) * inputs]);
            }
            let tile = &matrix[output * inputs..(output + OUTPUTS) * inputs];
            // A tile stays in the nearest cache while it meets one group of states after the other.
            let mut at = output;
            let mut states = self.states;
            while states.len() >= 3 * inputs {
                for row in dots::<S, OUTPUTS, 3>(simd, tile, states, inputs) {
                    self.sums[at..at + OUTPUTS].copy_from_slice(&row);
                    at += outputs;
                }
                states = &states[3 * inputs..];
            }
            if states.len() >= 2 * inputs {
                for row in dots::<S, OUTPUTS, 2>(simd, tile, states, inputs) {
                    self.sums[at..at + OUTPUTS].copy_from_slice(&row);
                    at += outputs;
                }
            } else if !states.is_empty() {
                let [row] = dots::<S, OUTPUTS, 1>(simd, tile, states, inputs);
                self.sums[at..at + OUTPUTS].copy_from_slice(&row);
            }
            output += OUTPUTS;
        }
        output
    }
}

/// Sums of products of each row of the matrix with each state.
#[expect(
    clippy::inline_always,
    reason = "else it is compiled without the vector units"
)]
#[inline(always)]
fn dots<S: Simd, const OUTPUTS: usize, const STATES: usize>(
    simd: S,
    matrix: &[f32],
    states: &[f32],
    inputs: usize,
) -> [[f32; OUTPUTS]; STATES] {
    // Plain loops: closures would be functions of their own, compiled without the vector units.
    let vectors = inputs / S::F32_LANES;
    let whole = vectors * S::F32_LANES;
    let mut rows: [&[S::f32s]; OUTPUTS] = [&[]; OUTPUTS];
    for (of, row) in rows.iter_mut().enumerate() {
        *row = &S::as_simd_f32s(&matrix[of * inputs..of * inputs + whole]).0[..vectors];
    }
    let mut numbers: [&[S::f32s]; STATES] = [&[]; STATES];
    for (of, state) in numbers.iter_mut().enumerate() {
        *state = &S::as_simd_f32s(&states[of * inputs..of * inputs + whole]).0[..vectors];
    }
    let mut sums = [[simd.splat_f32s(0.0); OUTPUTS]; STATES];
    for at in 0..vectors {
        for output in 0..OUTPUTS {
            let weights = rows[output][at];
            for state in 0..STATES {
                sums[state][output] =
                    simd.mul_add_f32s(weights, numbers[state][at], sums[state][output]);
            }
        }
    }
    let mut all = [[0.0; OUTPUTS]; STATES];
    for state in 0..STATES {
        for output in 0..OUTPUTS {
            all[state][output] = simd.reduce_sum_f32s(sums[state][output]);
            for at in whole..inputs {
                all[state][output] += matrix[output * inputs + at] * states[state * inputs + at];
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::engine::train::noise::Noise;

    fn random(name: &str, (rows, columns): (usize, usize)) -> Tensor {
        let values = Noise::new(3, name).normal(rows * columns, 1.0);
        Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
    }

    #[test]
    fn sums_are_those_of_the_formula_for_every_number_of_states_outputs_and_inputs() {
        for (rows, inputs, outputs) in [
            (1, 1, 1),
            (1, 64, 7),
            (2, 33, 8),
            (3, 100, 13),
            (5, 47, 4),
            (8, 256, 300),
            (15, 129, 1001),
            (4, 1023, 66),
            (47, 1033, 131),
        ] {
            let (states, matrix) = (
                random("states", (rows, inputs)),
                random("matrix", (outputs, inputs)),
            );
            let product = product(&states, &matrix).unwrap();
            assert_eq!(product.dims(), [rows, outputs]);
            let product = product.to_vec2::<f32>().unwrap();
            let (states, matrix) = (
                states.to_vec2::<f32>().unwrap(),
                matrix.to_vec2::<f32>().unwrap(),
            );
            for (product, state) in product.iter().zip(&states) {
                for (ours, row) in product.iter().zip(&matrix) {
                    let terms = state.iter().zip(row);
                    let terms = terms.map(|(x, w)| f64::from(*x) * f64::from(*w));
                    let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term| {
                        (sum + term, size + f64::abs(term))
                    });
                    assert!(
                        (f64::from(*ours) - sum).abs() <= 1e-6 * size,
                        "{ours} {sum}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_state_makes_the_same_numbers_alone_and_beside_others() {
        for inputs in [200, 1100] {
            let (states, matrix) = (
                random("states", (15, inputs)),
                random("matrix", (501, inputs)),
            );
            let together = product(&states, &matrix).unwrap();
            let together = together.to_vec2::<f32>().unwrap();
            for (row, expected) in together.iter().enumerate() {
                let alone = product(&states.narrow(0, row, 1).unwrap(), &matrix).unwrap();
                assert_eq!(alone.to_vec2::<f32>().unwrap()[0], *expected);
            }
        }
    }

    /// How far a sum may be from the same one on other vector units, as a share of its terms' magnitudes: terms are
    /// added in another order, each time with a rounding of 2^-24, and roundings mostly cancel.
    const BOUND_BETWEEN_UNITS: f32 = 1e-6;

    /// Everything that products may be made with here.
    fn units() -> Vec<Arch> {
        #[cfg(target_arch = "x86_64")]
        let wider = [
            pulp::x86::V3::try_new().map(Arch::V3),
            pulp::x86::V4::try_new().map(Arch::V4),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let wider = [Some(Arch::new())];
        let wider = wider.into_iter().flatten();
        std::iter::once(Arch::Scalar).chain(wider).collect()
    }

    /// The highest of some scores, by its place, and how far the next one is below it.
    fn best(scores: &[f32]) -> (usize, f32) {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|one, other| scores[*other].total_cmp(&scores[*one]));
        (order[0], scores[order[0]] - scores[order[1]])
    }

    #[test]
    fn all_vector_units_make_the_same_sums_within_a_bound_and_name_the_same_token_unless_two_are_closer()
     {
        const ROWS: usize = 47;
        const OUTPUTS: usize = 501;
        for inputs in [64, 1033] {
            let numbers = |name, rows| {
                let all = random(name, (rows, inputs)).flatten_all().unwrap();
                all.to_vec1::<f32>().unwrap()
            };
            let (states, matrix) = (numbers("states", ROWS), numbers("matrix", OUTPUTS));
            let made = units().into_iter().map(|unit| {
                let mut sums = vec![0.0; ROWS * OUTPUTS];
                unit.dispatch(Sums {
                    states: &states,
                    matrix: &matrix,
                    inputs,
                    sums: &mut sums,
                });
                sums
            });
            let made: Vec<Vec<f32>> = made.collect();
            let [plain, wider @ ..] = made.as_slice() else {
                panic!("nothing makes products")
            };
            for wider in wider {
                let rows = plain.chunks(OUTPUTS).zip(wider.chunks(OUTPUTS));
                for ((plain, wider), state) in rows.zip(states.chunks(inputs)) {
                    let mut farthest = 0.0_f32;
                    for ((one, other), row) in plain.iter().zip(wider).zip(matrix.chunks(inputs)) {
                        let size: f32 = state.iter().zip(row).map(|(x, w)| (x * w).abs()).sum();
                        let bound = BOUND_BETWEEN_UNITS * size;
                        assert!((one - other).abs() <= bound, "{one} and {other}");
                        farthest = farthest.max(bound);
                    }
                    let ((one, gap), (other, _)) = (best(plain), best(wider));
                    assert!(one == other || gap <= 2.0 * farthest, "{one} and {other}");
                }
            }
        }
    }

    #[test]
    fn other_widths_are_refused() {
        let error = product(&random("states", (2, 3)), &random("matrix", (4, 5)));
        assert!(error.unwrap_err().to_string().contains("5 inputs"));
    }
}
