//! Rows in blocks of six bits: GGUF's `Q6_K`.

use super::rounded::State;
use super::vectors::{Vectors, half, sum};
use super::{Dots, Format};

/// 256 integers of six bits, from which 32 is taken, in sixteen groups, each of which has a scale in eight bits, which
/// share a scale of the scales in f16 (ggml's `block_q6_K`).
#[derive(Debug, Clone, Copy)]
pub(super) struct SixBits;

const VALUES: usize = 256;

/// Bytes of a block: of each integer the low four bits, of each the high two, a scale of each group, and theirs.
const BYTES: usize = VALUES / 2 + VALUES / 4 + 16 + 2;

impl Format for SixBits {
    const VALUES: usize = VALUES;
    const BYTES: usize = BYTES;
    const SIDE_BY_SIDE: bool = false;

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
        let mut dots = [[0.0; ROWS]; STATES];
        for row in 0..ROWS {
            let mut sums = [vectors.no_floats(); STATES];
            for (number, block) in rows[row].as_chunks::<BYTES>().0.iter().enumerate() {
                let low = block.as_chunks::<32>().0;
                let high = block[VALUES / 2..].as_chunks::<32>().0;
                let rest = &block[VALUES / 2 + VALUES / 4..];
                let scales = vectors.sixteen(&rest.as_chunks().0[0]);
                let scale = half(u16::from_le_bytes([rest[16], rest[17]]));
                let mut words = [vectors.no_words(); STATES];
                // 128 integers in 64 bytes of low bits and 32 of high ones: a group in the low halves of the first
                // 32, one in those of the second, and so on with the high halves.
                for of in 0..2 {
                    let bytes = [vectors.bytes(&low[2 * of]), vectors.bytes(&low[2 * of + 1])];
                    let above = vectors.bytes(&high[of]);
                    for which in 0..4 {
                        let four = match which {
                            0 | 1 => vectors.low_halves(bytes[which]),
                            _ => vectors.high_halves(bytes[which - 2]),
                        };
                        let integers = vectors.either(four, vectors.two_bits(above, which));
                        let group = 4 * of + which;
                        let worth = vectors.spread_pair(scales, group);
                        for state in 0..STATES {
                            let others = &states[state].integers[VALUES / 32 * number + group];
                            let pairs = vectors.pair_sums(integers, vectors.signed(others));
                            let weighted = vectors.word_sums(pairs, worth);
                            words[state] = vectors.plus(words[state], weighted);
                        }
                    }
                }
                let widened = vectors.widened(scales);
                for state in 0..STATES {
                    let worth = scale * states[state].scales[number];
                    let others = &states[state].sums.as_chunks().0[number];
                    let of_offset = vectors.word_sums(widened, vectors.shorts(others));
                    sums[state] = vectors.scaled_onto(words[state], worth, sums[state]);
                    sums[state] = vectors.scaled_onto(of_offset, -32.0 * worth, sums[state]);
                }
            }
            for state in 0..STATES {
                dots[state][row] = sum(vectors.lanes(sums[state]));
            }
        }
        dots
    }
}
