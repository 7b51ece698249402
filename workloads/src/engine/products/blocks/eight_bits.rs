//! Rows in blocks of eight bits: GGUF's `Q8_0`.

use super::rounded::{GROUP, SCALES_TOGETHER, State};
use super::vectors::{Vectors, half, sum};
use super::{Dots, Format};

/// 32 integers of eight bits that share a scale in f16 (ggml's `block_q8_0`).
#[derive(Debug, Clone, Copy)]
pub(super) struct EightBits;

/// Bytes of a block: the scale, and the integers.
const BYTES: usize = 2 + GROUP;

impl Format for EightBits {
    const VALUES: usize = GROUP;
    const BYTES: usize = BYTES;
    const SIDE_BY_SIDE: bool = true;

    #[expect(
        clippy::inline_always,
        reason = "else it is compiled without the vector units"
    )]
    #[inline(always)]
    fn dots<V: Vectors, const ROWS: usize, const STATES: usize>(
        vectors: V,
        rows: [&[u8]; ROWS],
        states: [State<'_>; STATES],
    ) -> Dots<ROWS, STATES> {
        let mut blocks: [&[[u8; BYTES]]; ROWS] = [&[]; ROWS];
        for row in 0..ROWS {
            blocks[row] = rows[row].as_chunks().0;
        }
        let count = states[0].integers.len();
        // Plain loops: closures would be functions of their own, compiled without the vector units.
        let ones = vectors.ones();
        let mut sums = [[vectors.no_floats(); ROWS]; STATES];
        let mut first = 0;
        while first < count {
            let some = SCALES_TOGETHER.min(count - first);
            // What the products of each of these blocks are worth.
            let mut factors = [[[0.0; SCALES_TOGETHER]; ROWS]; STATES];
            for row in 0..ROWS {
                let some_blocks = &blocks[row][first..first + some];
                let mut bits = [0; SCALES_TOGETHER];
                for at in 0..some {
                    bits[at] = u16::from_le_bytes([some_blocks[at][0], some_blocks[at][1]]);
                }
                let mut scales = [0.0; SCALES_TOGETHER];
                for at in 0..SCALES_TOGETHER {
                    scales[at] = half(bits[at]);
                }
                for state in 0..STATES {
                    let others = &states[state].scales[first..first + SCALES_TOGETHER];
                    for at in 0..SCALES_TOGETHER {
                        factors[state][row][at] = scales[at] * others[at];
                    }
                }
            }
            for at in 0..some {
                for row in 0..ROWS {
                    let (_, integers) = blocks[row][first + at].split_at(2);
                    let Some(integers) = integers.first_chunk() else {
                        continue;
                    };
                    let weights = vectors.bytes(integers);
                    let magnitudes = vectors.magnitudes(weights);
                    for state in 0..STATES {
                        let others = vectors.signed(&states[state].integers[first + at]);
                        let others = vectors.with_signs(others, weights);
                        let pairs = vectors.pair_sums(magnitudes, others);
                        sums[state][row] = vectors.scaled_onto(
                            vectors.word_sums(pairs, ones),
                            factors[state][row][at],
                            sums[state][row],
                        );
                    }
                }
            }
            first += SCALES_TOGETHER;
        }
        let mut dots = [[0.0; ROWS]; STATES];
        for state in 0..STATES {
            for row in 0..ROWS {
                dots[state][row] = sum(vectors.lanes(sums[state][row]));
            }
        }
        dots
    }
}
