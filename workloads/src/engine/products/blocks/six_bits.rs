//! Rows in blocks of six bits: GGUF's `Q6_K`.

use super::groups::{Grouped, VALUES};
use super::lanes::{ROWS, bytes_at, four_at, halves, masked, shifted};
use super::rounded::{Rounding, State};
use super::vectors::Vectors;
use super::{Dots, Format};

/// 256 integers of six bits, from which 32 is taken, in sixteen groups, each of which has a scale in eight bits, which
/// share a scale of the scales in f16 (ggml's `block_q6_K`).
#[derive(Debug, Clone, Copy)]
pub(super) struct SixBits;

const GROUPS: usize = 16;

/// Where a block's parts begin: of each integer the low four bits, of each the high two, a scale of each group, and
/// theirs.
const HIGH: usize = VALUES / 2;
const SCALES: usize = HIGH + VALUES / 4;
const SCALE: usize = SCALES + GROUPS;

/// Two sums of two products of at most 63 and 127: below 2^15.
const ADDED: usize = 2;

/// Bytes of a block.
const BYTES: usize = SCALE + 2;

impl Format for SixBits {
    const VALUES: usize = VALUES;
    type Block = [u8; BYTES];
    const ROUNDING: Rounding = Rounding {
        shared: VALUES,
        summed: Some(VALUES / GROUPS),
    };
    type Beside = Grouped<GROUPS, { GROUPS / 2 }>;
    const NOTHING: Self::Beside = Grouped::NOTHING;

    fn blocks(bytes: &[u8]) -> &[Self::Block] {
        bytes.as_chunks().0
    }

    #[expect(
        clippy::inline_always,
        reason = "else it is compiled without the vector units"
    )]
    #[inline(always)]
    fn put_beside<V: Vectors>(vectors: V, blocks: [&[u8; BYTES]; ROWS], beside: &mut Self::Beside) {
        beside.scale = halves(shifted(four_at(blocks, SCALE - 2), 16));
        beside.least = beside.scale;
        // The sixteen bytes behind sixteen others.
        let scales = vectors.interleaved(bytes_at(blocks, SCALES - 16));
        for pair in 0..GROUPS / 2 {
            let two = shifted(scales[4 + pair / 2], 16 * (pair % 2));
            let (mut first, mut second, mut minima) = (two, two, two);
            for row in 0..ROWS {
                let low = ((two[row] << 24).cast_signed() >> 24).cast_unsigned();
                let high = ((two[row] << 16).cast_signed() >> 24).cast_unsigned();
                first[row] = low & 0xffff | low << 16;
                second[row] = high & 0xffff | high << 16;
                // 32 times as much.
                minima[row] = low << 5 & 0xffff | high << 21;
            }
            beside.scales[2 * pair] = first;
            beside.scales[2 * pair + 1] = second;
            beside.minima[pair] = minima;
        }
        // 128 integers in 64 bytes of low bits and 32 of high ones: two groups in the low halves of the first 32, two
        // in those of the second, and so on with the high halves.
        for of in 0..2 {
            let first = vectors.interleaved(bytes_at(blocks, 64 * of));
            let second = vectors.interleaved(bytes_at(blocks, 64 * of + 32));
            let high = vectors.interleaved(bytes_at(blocks, HIGH + 32 * of));
            let integers = &mut beside.integers[32 * of..];
            for at in 0..8 {
                // The low bits, and how far down they and the high ones are.
                let parts = [
                    (first[at], 0, 0),
                    (second[at], 0, 2),
                    (first[at], 4, 4),
                    (second[at], 4, 6),
                ];
                for (which, (low, low_places, high_places)) in parts.into_iter().enumerate() {
                    let mut six = masked(shifted(low, low_places), 0x0f);
                    let two = masked(shifted(high[at], high_places), 0x03);
                    for row in 0..ROWS {
                        six[row] |= two[row] << 4;
                    }
                    integers[8 * which + at] = six;
                }
            }
        }
    }

    #[expect(
        clippy::inline_always,
        reason = "else it is compiled without the vector units"
    )]
    #[inline(always)]
    fn dots<V: Vectors, const STATES: usize>(
        vectors: V,
        tile: &[Self::Beside],
        states: [State<'_>; STATES],
    ) -> Dots<STATES> {
        Grouped::dots::<V, STATES, ADDED>(vectors, tile, states)
    }
}
