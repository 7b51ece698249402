//! States whose numbers are rounded to eight bits, some of which share a scale.
//!
//! This is what GGUF's blocks are multiplied with wherever they are multiplied as integers (ggml's `block_q8_0` and
//! `block_q8_K`); the scale stays an f32 here. A group that has a number that is none makes every product no number.

use pulp::NullaryFnOnce;

/// States, count x inputs.
#[derive(Debug)]
pub(super) struct Rounded {
    inputs: usize,
    /// count x inputs.
    integers: Vec<i8>,
    /// count x scales of a state.
    scales: Vec<f32>,
    scales_each: usize,
    /// Sums of [`SUMMED`] integers each: count x inputs / 16.
    sums: Vec<i16>,
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct State<'s> {
    pub(super) integers: &'s [[i8; GROUP]],
    /// Of each group; behind the last one there are zeros up to a multiple of [`SCALES_TOGETHER`].
    pub(super) scales: &'s [f32],
    /// Of each [`SUMMED`] integers.
    pub(super) sums: &'s [i16],
}

/// Integers that are multiplied together.
pub(super) const GROUP: usize = 32;

/// Integers of which the sum is kept.
const SUMMED: usize = 16;

/// Scales that are multiplied together.
pub(super) const SCALES_TOGETHER: usize = 8;

/// The largest integer.
const MOST: f32 = 127.0;

/// 1.5 * 2^23: added to a smaller number, its lowest bits are the nearest integer.
const ROUNDS: f32 = 12_582_912.0;

impl Rounded {
    /// Rounds states of some inputs, of which so many share a scale, which divide them and are divided by
    /// [`GROUP`].
    pub(super) fn new(states: &[f32], inputs: usize, shared: usize) -> Rounded {
        let count = states.len().checked_div(inputs).unwrap_or(0);
        let scales_each = (inputs / shared).next_multiple_of(SCALES_TOGETHER);
        let mut rounded = Rounded {
            inputs,
            integers: vec![0; states.len()],
            scales: vec![0.0; count * scales_each],
            scales_each,
            sums: vec![0; states.len() / SUMMED],
        };
        pulp::Arch::new().dispatch(Fill {
            rounded: &mut rounded,
            states,
            shared,
        });
        rounded
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.integers.len().checked_div(self.inputs).unwrap_or(0)
    }

    /// Numbers of each.
    pub(super) const fn inputs(&self) -> usize {
        self.inputs
    }

    /// One of them.
    #[expect(
        clippy::inline_always,
        reason = "else it is compiled without the vector units"
    )]
    #[inline(always)]
    pub(super) fn state(&self, number: usize) -> State<'_> {
        let sums = self.inputs / SUMMED;
        let integers = &self.integers[number * self.inputs..(number + 1) * self.inputs];
        State {
            integers: integers.as_chunks().0,
            scales: &self.scales[number * self.scales_each..(number + 1) * self.scales_each],
            sums: &self.sums[number * sums..(number + 1) * sums],
        }
    }
}

/// Rounds all states.
struct Fill<'a> {
    rounded: &'a mut Rounded,
    states: &'a [f32],
    shared: usize,
}

impl NullaryFnOnce for Fill<'_> {
    type Output = ();

    #[expect(
        clippy::inline_always,
        reason = "else it is compiled without the vector units"
    )]
    #[inline(always)]
    fn call(self) {
        let (rounded, shared) = (self.rounded, self.shared);
        let each = rounded.inputs / shared;
        let groups = self.states.chunks_exact(shared);
        let integers = rounded.integers.chunks_exact_mut(shared);
        for (number, (numbers, integers)) in groups.zip(integers).enumerate() {
            let scale = round(numbers, integers);
            rounded.scales[number / each * rounded.scales_each + number % each] = scale;
        }
        let groups = rounded.integers.as_chunks::<SUMMED>().0;
        for (sum, integers) in rounded.sums.iter_mut().zip(groups) {
            let mut all = 0;
            for integer in integers {
                all += i16::from(*integer);
            }
            *sum = all;
        }
    }
}

/// Rounds the numbers of a group; returns what an integer is worth.
#[expect(
    clippy::inline_always,
    reason = "else it is compiled without the vector units"
)]
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the lowest bits are what is meant"
)]
fn round(numbers: &[f32], integers: &mut [i8]) -> f32 {
    // Lane by lane, so that the order of the sums is no obstacle.
    let (mut most, mut nothing) = ([0.0_f32; 8], [0.0_f32; 8]);
    for eight in numbers.as_chunks::<8>().0 {
        for lane in 0..8 {
            let size = eight[lane].abs();
            most[lane] = if size > most[lane] { size } else { most[lane] };
            // 0, or no number where this is none.
            nothing[lane] += 0.0 * size;
        }
    }
    let largest = most.into_iter().fold(0.0, f32::max);
    let scale = if largest > 0.0 { MOST / largest } else { 0.0 };
    for (integer, number) in integers.iter_mut().zip(numbers) {
        *integer = (number * scale + ROUNDS).to_bits() as i8;
    }
    largest / MOST + nothing.into_iter().sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::train::noise::Noise;

    #[test]
    fn numbers_are_within_half_a_step_of_what_they_were() {
        let mut numbers = Noise::new(3, "states").normal(2 * 96, 1.0);
        numbers[5] = 9.0;
        numbers[64..96].fill(0.0);
        let rounded = Rounded::new(&numbers, 96, 32);
        assert_eq!((rounded.count(), rounded.inputs()), (2, 96));
        for (number, state) in numbers.chunks(96).enumerate() {
            let rounded = rounded.state(number);
            assert_eq!(rounded.scales.len(), 8, "filled up");
            assert_eq!(rounded.scales[3..], [0.0; 5]);
            for (group, numbers) in state.chunks(32).enumerate() {
                let (integers, scale) = (&rounded.integers[group], rounded.scales[group]);
                let largest = numbers.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
                assert_eq!(scale.to_bits(), (largest / 127.0).to_bits());
                for (integer, number) in integers.iter().zip(numbers) {
                    let back = f32::from(*integer) * scale;
                    assert!((back - number).abs() <= scale * 0.5001, "{back} {number}");
                }
                for (half, integers) in integers.chunks(16).enumerate() {
                    let sum: i16 = integers.iter().map(|one| i16::from(*one)).sum();
                    assert_eq!(rounded.sums[2 * group + half], sum);
                }
            }
        }
    }

    #[test]
    fn a_number_that_is_none_makes_the_scale_none() {
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut numbers = [1.0; 64];
            numbers[40] = odd;
            let rounded = Rounded::new(&numbers, 64, 32);
            let scales = rounded.state(0).scales;
            assert!(!scales[0].is_nan() && scales[1].is_nan(), "{scales:?}");
        }
    }

    #[test]
    fn numbers_next_to_nothing_are_nothing() {
        let rounded = Rounded::new(&[1e-40; 32], 32, 32);
        assert!(rounded.state(0).scales[0] <= 1e-40);
    }
}
