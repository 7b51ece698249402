//! Rows in blocks of eight bits: GGUF's `Q8_0`.

use super::lanes::{Lanes, ROWS, bytes_at, four_at, halves};
use super::rounded::{Rounding, State};
use super::vectors::Vectors;
use super::{Dots, Format};

/// 32 integers of eight bits that share a scale in f16 (ggml's `block_q8_0`).
#[derive(Debug, Clone, Copy)]
pub(super) struct EightBits;

const VALUES: usize = 32;

/// A block of each row, where no vector of it lies across two lines of the cache.
#[derive(Debug, Clone, Copy)]
#[repr(align(32))]
pub(super) struct Beside {
    integers: [Lanes; VALUES / 4],
    scales: [f32; ROWS],
}

/// Bytes of a block: the scale, and the integers.
const BYTES: usize = 2 + VALUES;

impl Format for EightBits {
    const VALUES: usize = VALUES;
    type Block = [u8; BYTES];
    const ROUNDING: Rounding = Rounding {
        shared: VALUES,
        summed: None,
    };
    type Beside = Beside;
    const NOTHING: Beside = Beside {
        integers: [[0; ROWS]; VALUES / 4],
        scales: [0.0; ROWS],
    };

    fn blocks(bytes: &[u8]) -> &[Self::Block] {
        bytes.as_chunks().0
    }

    #[expect(
        clippy::inline_always,
        reason = "else it is compiled without the vector units"
    )]
    #[inline(always)]
    fn put_beside<V: Vectors>(vectors: V, blocks: [&[u8; BYTES]; ROWS], beside: &mut Beside) {
        beside.integers = vectors.interleaved(bytes_at(blocks, 2));
        beside.scales = halves(four_at(blocks, 0));
    }

    #[expect(
        clippy::inline_always,
        reason = "else it is compiled without the vector units"
    )]
    #[inline(always)]
    fn dots<V: Vectors, const STATES: usize>(
        vectors: V,
        tile: &[Beside],
        states: [State<'_>; STATES],
    ) -> Dots<STATES> {
        let ones = vectors.shorts(&[0x0001_0001; ROWS]);
        let mut sums = [vectors.no_floats(); STATES];
        for (number, block) in tile.iter().enumerate() {
            let mut integers: [&[[i8; 4]; VALUES / 4]; STATES] = [&[[0; 4]; VALUES / 4]; STATES];
            for state in 0..STATES {
                integers[state] = &states[state].integers.as_chunks().0[number];
            }
            let mut words = [vectors.no_words(); STATES];
            for (at, weights) in block.integers.iter().enumerate() {
                let weights = vectors.bytes(weights);
                let magnitudes = vectors.magnitudes(weights);
                for state in 0..STATES {
                    let others = vectors.four(&integers[state][at]);
                    let others = vectors.with_signs(others, weights);
                    let pairs = vectors.pair_sums(magnitudes, others);
                    words[state] = vectors.plus(words[state], vectors.word_sums(pairs, ones));
                }
            }
            for state in 0..STATES {
                let scale = states[state].scales[number];
                sums[state] = vectors.scaled_onto(words[state], &block.scales, scale, sums[state]);
            }
        }
        let mut dots = [[0.0; ROWS]; STATES];
        for state in 0..STATES {
            dots[state] = vectors.lanes(sums[state]);
        }
        dots
    }
}
