//! Rows in blocks of four bits: GGUF's `Q4_K`.

use super::groups::{Grouped, VALUES};
use super::lanes::{Lanes, ROWS, bytes_at, either, halves, masked, shifted};
use super::rounded::{Rounding, State};
use super::vectors::Vectors;
use super::{Dots, Format, Rows};

/// 256 integers of four bits in eight groups, each of which has a scale and a minimum in six bits, which share a scale
/// of the scales and one of the minima in f16 (ggml's `block_q4_K`): a value is `scale * integer - minimum`.
#[derive(Debug, Clone, Copy)]
pub(super) struct FourBits;

const GROUPS: usize = 8;

/// Eight sums of two products of at most 15 and 127: below 2^15.
const ADDED: usize = 8;

/// Bytes of a block: both scales, six bits for each group's scale and minimum, and the integers.
const BYTES: usize = INTEGERS + VALUES / 2;

/// Where the integers are.
const INTEGERS: usize = 2 + 2 + 12;

impl Format for FourBits {
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
        put_scales(vectors, blocks, beside);
        // Two groups in 32 bytes: one in the low halves, one in the high halves.
        for pair in 0..GROUPS / 2 {
            let both = vectors.interleaved(bytes_at(blocks, INTEGERS + 32 * pair));
            for (at, both) in both.iter().enumerate() {
                beside.integers[16 * pair + at] = masked(*both, 0x0f);
                beside.integers[16 * pair + 8 + at] = masked(shifted(*both, 4), 0x0f);
            }
        }
    }

    fn room_alone(_row_blocks: usize) -> usize {
        1
    }

    /// Rows are as they were stored, and a row's products are added up over all lanes: for one state it would take longer
    /// to put their integers beside each other.
    #[expect(
        clippy::inline_always,
        reason = "else it is compiled without the vector units"
    )]
    #[inline(always)]
    fn alone<V: Vectors>(
        vectors: V,
        rows: Rows<'_, [u8; BYTES]>,
        tile: &mut [Self::Beside],
        state: State<'_>,
    ) -> [f32; ROWS] {
        let mut sum = vectors.no_floats();
        let [beside, ..] = tile else {
            return vectors.lanes(sum);
        };
        for number in 0..rows.count() {
            let blocks = rows.blocks(number);
            put_scales(vectors, blocks, beside);
            let integers: &[[i8; 4]; VALUES / 4] = &state.integers.as_chunks().0[number];
            let mut words = [vectors.no_words(); ROWS];
            for pair in 0..GROUPS / 2 {
                let [low, high] = &integers[16 * pair..].as_chunks().0[..2] else {
                    continue;
                };
                let others = [vectors.integers(low), vectors.integers(high)];
                let rows = bytes_at(blocks, INTEGERS + 32 * pair);
                for row in 0..ROWS {
                    let two = vectors.four_bits(rows[row]);
                    for group in 0..2 {
                        let scale = vectors.both(beside.scales[2 * pair + group][row]);
                        let products = vectors.pair_sums(two[group], others[group]);
                        let weighted = vectors.word_sums(products, scale);
                        words[row] = vectors.plus(words[row], weighted);
                    }
                }
            }
            let of_groups = &state.sums.as_chunks().0[number];
            let words = vectors.sums_of_each(words);
            sum = beside.onto(vectors, words, of_groups, state.scales[number], sum);
        }
        vectors.lanes(sum)
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

/// Puts all of some blocks but their integers beside each other.
#[expect(
    clippy::inline_always,
    reason = "else it is compiled without the vector units"
)]
#[inline(always)]
fn put_scales<V: Vectors>(
    vectors: V,
    blocks: [&[u8; BYTES]; ROWS],
    beside: &mut <FourBits as Format>::Beside,
) {
    let [both, scales, minima, rest, ..] = vectors.interleaved(bytes_at(blocks, 0));
    beside.scale = halves(both);
    beside.least = halves(shifted(both, 16));
    let (scales, minima) = (six_bits(scales, rest), six_bits(minima, shifted(rest, 4)));
    for group in 0..GROUPS {
        let mut twice = shifted(scales[group / 4], 8 * (group % 4));
        for lane in &mut twice {
            *lane = *lane & 0xff | (*lane & 0xff) << 16;
        }
        beside.scales[group] = twice;
    }
    for pair in 0..GROUPS / 2 {
        let mut two = shifted(minima[pair / 2], 16 * (pair % 2));
        for lane in &mut two {
            *lane = *lane & 0xff | (*lane & 0xff00) << 8;
        }
        beside.minima[pair] = two;
    }
}

/// The scales of four groups, and those of the other four, a byte each; or their minima.
///
/// The first four lie in the low six bits of four bytes, the others in four bits and the highest two of those bytes
/// (ggml's `get_scale_min_k4`).
#[expect(
    clippy::inline_always,
    reason = "else it is compiled without the vector units"
)]
#[inline(always)]
fn six_bits(first: Lanes, halves: Lanes) -> [Lanes; 2] {
    let above = masked(shifted(first, 2), 0x30);
    [masked(first, 0x3f), either(masked(halves, 0x0f), above)]
}
