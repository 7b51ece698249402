//! Products with rows whose blocks of 256 small integers are in groups that have scales and minima of their own.

use super::Dots;
use super::lanes::{Lanes, ROWS};
use super::rounded::State;
use super::vectors::Vectors;

/// Integers of a block.
pub(super) const VALUES: usize = 256;

/// A block of each row: values are `scale * (scales * integer) - least * minimum`, with the scale and the minimum of
/// their group. No vector of it lies across two lines of the cache.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))]
pub(super) struct Grouped<const GROUPS: usize, const PAIRS: usize> {
    /// Not negative.
    pub(super) integers: [Lanes; VALUES / 4],
    /// Of each group its scale, twice.
    pub(super) scales: [Lanes; GROUPS],
    /// Of each two groups their minima.
    pub(super) minima: [Lanes; PAIRS],
    /// What a scale is worth.
    pub(super) scale: [f32; ROWS],
    /// What a minimum is worth.
    pub(super) least: [f32; ROWS],
}

impl<const GROUPS: usize, const PAIRS: usize> Grouped<GROUPS, PAIRS> {
    pub(super) const NOTHING: Self = Grouped {
        integers: [[0; ROWS]; VALUES / 4],
        scales: [[0; ROWS]; GROUPS],
        minima: [[0; ROWS]; PAIRS],
        scale: [0.0; ROWS],
        least: [0.0; ROWS],
    };

    /// Products of states with rows. Of a state, sums of two neighbours' products are added up before they are
    /// widened, `ADDED` of them, which must fit 16 bits.
    #[expect(
        clippy::inline_always,
        reason = "else it is compiled without the vector units"
    )]
    #[inline(always)]
    pub(super) fn dots<V: Vectors, const STATES: usize, const ADDED: usize>(
        vectors: V,
        tile: &[Self],
        states: [State<'_>; STATES],
    ) -> Dots<STATES> {
        let mut sums = [vectors.no_floats(); STATES];
        for (number, block) in tile.iter().enumerate() {
            let mut integers: [&[[i8; 4]; VALUES / 4]; STATES] = [&[[0; 4]; VALUES / 4]; STATES];
            let mut of_groups: [&[[i16; 2]; PAIRS]; STATES] = [&[[0; 2]; PAIRS]; STATES];
            for state in 0..STATES {
                integers[state] = &states[state].integers.as_chunks().0[number];
                of_groups[state] = &states[state].sums.as_chunks().0[number];
            }
            let mut words = [vectors.no_words(); STATES];
            for (some, weights) in block.integers.as_chunks::<ADDED>().0.iter().enumerate() {
                let scales = vectors.shorts(&block.scales[some * ADDED * GROUPS / (VALUES / 4)]);
                let mut pairs = [vectors.shorts(&[0; ROWS]); STATES];
                for (at, weights) in weights.iter().enumerate() {
                    let weights = vectors.bytes(weights);
                    for state in 0..STATES {
                        let others = vectors.four(&integers[state][some * ADDED + at]);
                        let products = vectors.pair_sums(weights, others);
                        pairs[state] = vectors.plus_shorts(pairs[state], products);
                    }
                }
                for state in 0..STATES {
                    let weighted = vectors.word_sums(pairs[state], scales);
                    words[state] = vectors.plus(words[state], weighted);
                }
            }
            for state in 0..STATES {
                let worth = states[state].scales[number];
                sums[state] =
                    block.onto(vectors, words[state], of_groups[state], worth, sums[state]);
            }
        }
        let mut dots = [[0.0; ROWS]; STATES];
        for state in 0..STATES {
            dots[state] = vectors.lanes(sums[state]);
        }
        dots
    }

    /// Adds the products of a state's block with this one of each row: from the sums of its integers' products, and the
    /// sums of the state's integers of each group, of which one is worth so much.
    #[expect(
        clippy::inline_always,
        reason = "else it is compiled without the vector units"
    )]
    #[inline(always)]
    pub(super) fn onto<V: Vectors>(
        &self,
        vectors: V,
        words: V::Words,
        of_groups: &[[i16; 2]; PAIRS],
        worth: f32,
        sum: V::Floats,
    ) -> V::Floats {
        let mut of_minima = vectors.no_words();
        for (minima, of_groups) in self.minima.iter().zip(of_groups) {
            let both = vectors.word_sums(vectors.shorts(minima), vectors.two(of_groups));
            of_minima = vectors.plus(of_minima, both);
        }
        let sum = vectors.scaled_onto(words, &self.scale, worth, sum);
        vectors.scaled_onto(of_minima, &self.least, -worth, sum)
    }
}
