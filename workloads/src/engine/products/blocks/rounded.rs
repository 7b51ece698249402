//! States whose numbers are rounded to eight bits, some of which share a scale.
//!
//! This is what GGUF's blocks are multiplied with wherever they are multiplied as integers (ggml's `block_q8_0` and
//! `block_q8_K`); the scale stays an f32 here. A group that has a number that is none makes every product no number.

use pulp::NullaryFnOnce;

/// How states are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rounding {
    /// So many numbers share a scale; they divide the inputs.
    pub(super) shared: usize,
    /// Of so many integers the sums are kept; they divide those that share a scale.
    pub(super) summed: Option<usize>,
}

/// States, count x inputs.
#[derive(Debug)]
pub(in crate::engine) struct Rounded {
    rounding: Rounding,
    integers: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<i16>,
    /// How many of these a state has.
    each: [usize; 3],
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct State<'s> {
    pub(super) integers: &'s [[i8; 4]],
    /// What an integer is worth, of each of those that share it.
    pub(super) scales: &'s [f32],
    /// Of some integers each.
    pub(super) sums: &'s [[i16; 2]],
}

/// The largest integer.
const MOST: f32 = 127.0;

/// 1.5 * 2^23: added to a smaller number, its lowest bits are the nearest integer.
const ROUNDS: f32 = 12_582_912.0;

impl Rounded {
    /// Rounds states of some inputs.
    pub(super) fn new(states: &[f32], inputs: usize, rounding: Rounding) -> Rounded {
        let summed = rounding.summed;
        let sums_of = |integers: usize| summed.map_or(0, |summed| integers / summed);
        let mut rounded = Rounded {
            rounding,
            integers: vec![0; states.len()],
            scales: vec![0.0; states.len() / rounding.shared],
            sums: vec![0; sums_of(states.len())],
            each: [inputs, inputs / rounding.shared, sums_of(inputs)],
        };
        pulp::Arch::new().dispatch(Fill {
            rounded: &mut rounded,
            states,
        });
        rounded
    }

    /// Whether they are rounded in that way.
    pub(super) fn is_for(&self, rounding: Rounding) -> bool {
        self.rounding == rounding
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.integers.len().checked_div(self.each[0]).unwrap_or(0)
    }

    /// Numbers of each.
    pub(super) const fn inputs(&self) -> usize {
        self.each[0]
    }

    /// One of them.
    #[expect(
        clippy::inline_always,
        reason = "else it is compiled without the vector units"
    )]
    #[inline(always)]
    pub(super) fn state(&self, number: usize) -> State<'_> {
        let [integers, scales, sums] = self.each;
        State {
            integers: self.integers[number * integers..][..integers].as_chunks().0,
            scales: &self.scales[number * scales..][..scales],
            sums: self.sums[number * sums..][..sums].as_chunks().0,
        }
    }
}

/// Rounds all states.
struct Fill<'a> {
    rounded: &'a mut Rounded,
    states: &'a [f32],
}

impl NullaryFnOnce for Fill<'_> {
    type Output = ();

    #[expect(
        clippy::inline_always,
        reason = "else it is compiled without the vector units"
    )]
    #[inline(always)]
    fn call(self) {
        let rounded = self.rounded;
        let Rounding { shared, summed } = rounded.rounding;
        let groups = self.states.chunks_exact(shared);
        let integers = rounded.integers.chunks_exact_mut(shared);
        for ((numbers, integers), scale) in groups.zip(integers).zip(&mut rounded.scales) {
            *scale = round(numbers, integers);
        }
        let Some(summed) = summed else { return };
        let groups = rounded.integers.chunks_exact(summed);
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

    const fn rounding(summed: Option<usize>) -> Rounding {
        let shared = 32;
        Rounding { shared, summed }
    }

    #[test]
    fn numbers_are_within_half_a_step_of_what_they_were() {
        let mut numbers = Noise::new(3, "states").normal(2 * 96, 1.0);
        numbers[5] = 9.0;
        numbers[64..96].fill(0.0);
        let rounded = Rounded::new(&numbers, 96, rounding(Some(16)));
        assert_eq!((rounded.count(), rounded.inputs()), (2, 96));
        for (number, state) in numbers.chunks(96).enumerate() {
            let rounded = rounded.state(number);
            let sums = rounded.sums.as_flattened();
            assert_eq!((rounded.scales.len(), sums.len()), (3, 6));
            let integers = rounded.integers.as_flattened().chunks(32);
            for (group, (integers, numbers)) in integers.zip(state.chunks(32)).enumerate() {
                let scale = rounded.scales[group];
                let largest = numbers.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
                assert_eq!(scale.to_bits(), (largest / 127.0).to_bits());
                for (integer, number) in integers.iter().zip(numbers) {
                    let back = f32::from(*integer) * scale;
                    assert!((back - number).abs() <= scale * 0.5001, "{back} {number}");
                }
                for (half, integers) in integers.chunks(16).enumerate() {
                    let sum: i16 = integers.iter().map(|one| i16::from(*one)).sum();
                    assert_eq!(sums[2 * group + half], sum);
                }
            }
        }
    }

    #[test]
    fn a_number_that_is_none_makes_the_scale_none() {
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut numbers = [1.0; 64];
            numbers[40] = odd;
            let rounded = Rounded::new(&numbers, 64, rounding(None));
            let scales = rounded.state(0).scales;
            assert!(!scales[0].is_nan() && scales[1].is_nan(), "{scales:?}");
        }
    }

    #[test]
    fn numbers_next_to_nothing_are_nothing() {
        let rounded = Rounded::new(&[1e-40; 32], 32, rounding(None));
        assert!(rounded.state(0).scales[0] <= 1e-40);
    }
}
