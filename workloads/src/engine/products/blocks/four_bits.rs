//! Rows in blocks of four bits: GGUF's `Q4_K`.

use super::rounded::State;
use super::vectors::{Vectors, half, sum};
use super::{Dots, Format};

/// 256 integers of four bits in eight groups, each of which has a scale and a minimum in six bits, which share a scale
/// of the scales and one of the minima in f16 (ggml's `block_q4_K`): a value is `scale * integer - minimum`.
#[derive(Debug, Clone, Copy)]
pub(super) struct FourBits;

const VALUES: usize = 256;
const GROUPS: usize = 8;

/// Bytes of a block: both scales, six bits for each group's scale and minimum, and the integers.
const BYTES: usize = 2 + 2 + 12 + VALUES / 2;

impl Format for FourBits {
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
                let scale = half(u16::from_le_bytes([block[0], block[1]]));
                let least = half(u16::from_le_bytes([block[2], block[3]]));
                let (scales, minima) = six_bits(block);
                let (scales, minima) = (vectors.eight(scales), vectors.doubled(minima));
                let mut words = [vectors.no_words(); STATES];
                // Two groups in 32 bytes: one in the low halves, one in the high halves.
                for (pair, bytes) in block[16..].as_chunks::<32>().0.iter().enumerate() {
                    let bytes = vectors.bytes(bytes);
                    let halves = [vectors.low_halves(bytes), vectors.high_halves(bytes)];
                    for (of, integers) in halves.into_iter().enumerate() {
                        let group = 2 * pair + of;
                        let worth = vectors.spread(scales, group);
                        for state in 0..STATES {
                            let others = &states[state].integers[GROUPS * number + group];
                            let pairs = vectors.pair_sums(integers, vectors.signed(others));
                            let weighted = vectors.word_sums(pairs, worth);
                            words[state] = vectors.plus(words[state], weighted);
                        }
                    }
                }
                for state in 0..STATES {
                    let worth = states[state].scales[number];
                    let others = &states[state].sums.as_chunks().0[number];
                    let of_minima = vectors.word_sums(minima, vectors.shorts(others));
                    sums[state] = vectors.scaled_onto(words[state], scale * worth, sums[state]);
                    sums[state] = vectors.scaled_onto(of_minima, -least * worth, sums[state]);
                }
            }
            for state in 0..STATES {
                dots[state][row] = sum(vectors.lanes(sums[state]));
            }
        }
        dots
    }
}

/// The eight scales and the eight minima of a block, a byte each.
///
/// Their first four lie in the low six bits of four bytes each, the others in four bits and the highest two of those
/// bytes (ggml's `get_scale_min_k4`).
#[expect(
    clippy::inline_always,
    reason = "else it is compiled without the vector units"
)]
#[inline(always)]
fn six_bits(block: &[u8; BYTES]) -> (u64, u64) {
    let four =
        |at: usize| u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    let (scales, minima, rest) = (four(4), four(8), four(12));
    let both = |first: u32, halves: u32| {
        let second = halves & 0x0f0f_0f0f | (first >> 2) & 0x3030_3030;
        u64::from(first & 0x3f3f_3f3f) | u64::from(second) << 32
    };
    (both(scales, rest), both(minima, rest >> 4))
}
