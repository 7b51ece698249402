//! The operations in plain arithmetic, for processors of which nothing else is known.

use super::super::lanes::{Lanes, ROWS};
use super::Vectors;

/// Arrays.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Plain;

#[expect(
    clippy::inline_always,
    reason = "else it is compiled without the vector units"
)]
impl Vectors for Plain {
    type Bytes = [u8; 32];
    type Shorts = [i16; 16];
    type Words = [i32; ROWS];
    type Floats = [f32; ROWS];

    #[inline(always)]
    fn interleaved(self, rows: [&[u8; 32]; ROWS]) -> [Lanes; 8] {
        let mut lanes = [[0; ROWS]; 8];
        for (row, bytes) in rows.into_iter().enumerate() {
            for (lanes, four) in lanes.iter_mut().zip(bytes.as_chunks().0) {
                lanes[row] = u32::from_le_bytes(*four);
            }
        }
        lanes
    }

    #[inline(always)]
    fn bytes(self, from: &Lanes) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (four, lane) in bytes.as_chunks_mut().0.iter_mut().zip(from) {
            *four = lane.to_le_bytes();
        }
        bytes
    }

    #[inline(always)]
    fn shorts(self, from: &Lanes) -> [i16; 16] {
        let mut shorts = [0; 16];
        for (short, two) in shorts.iter_mut().zip(self.bytes(from).as_chunks().0) {
            *short = i16::from_le_bytes(*two);
        }
        shorts
    }

    #[inline(always)]
    fn four(self, from: &[i8; 4]) -> [u8; 32] {
        let mut bytes = [0; 32];
        for four in bytes.as_chunks_mut().0 {
            *four = from.map(i8::cast_unsigned);
        }
        bytes
    }

    #[inline(always)]
    fn integers(self, from: &[[i8; 4]; 8]) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (byte, integer) in bytes.iter_mut().zip(from.as_flattened()) {
            *byte = integer.cast_unsigned();
        }
        bytes
    }

    #[inline(always)]
    fn four_bits(self, from: &[u8; 32]) -> [[u8; 32]; 2] {
        [from.map(|byte| byte & 0x0f), from.map(|byte| byte >> 4)]
    }

    #[inline(always)]
    fn both(self, from: u32) -> [i16; 16] {
        self.shorts(&[from; ROWS])
    }

    #[inline(always)]
    fn two(self, from: &[i16; 2]) -> [i16; 16] {
        let mut shorts = [0; 16];
        shorts.as_chunks_mut().0.fill(*from);
        shorts
    }

    #[inline(always)]
    fn magnitudes(self, of: [u8; 32]) -> [u8; 32] {
        of.map(|byte| byte.cast_signed().unsigned_abs())
    }

    #[inline(always)]
    fn with_signs(self, integers: [u8; 32], signs: [u8; 32]) -> [u8; 32] {
        let mut with = integers;
        for (byte, sign) in with.iter_mut().zip(signs) {
            let signed = byte.cast_signed().wrapping_mul(sign.cast_signed().signum());
            *byte = signed.cast_unsigned();
        }
        with
    }

    #[inline(always)]
    fn pair_sums(self, unsigned: [u8; 32], signed: [u8; 32]) -> [i16; 16] {
        let product = |at: usize| i16::from(unsigned[at]) * i16::from(signed[at].cast_signed());
        let mut sums = [0; 16];
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum = product(2 * lane).wrapping_add(product(2 * lane + 1));
        }
        sums
    }

    #[inline(always)]
    fn plus_shorts(self, left: [i16; 16], right: [i16; 16]) -> [i16; 16] {
        let mut sums = left;
        for (sum, short) in sums.iter_mut().zip(right) {
            *sum += short;
        }
        sums
    }

    #[inline(always)]
    fn word_sums(self, left: [i16; 16], right: [i16; 16]) -> [i32; ROWS] {
        let product = |at: usize| i32::from(left[at]) * i32::from(right[at]);
        let mut sums = [0; ROWS];
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum = product(2 * lane) + product(2 * lane + 1);
        }
        sums
    }

    #[inline(always)]
    fn no_words(self) -> [i32; ROWS] {
        [0; ROWS]
    }

    #[inline(always)]
    fn plus(self, left: [i32; ROWS], right: [i32; ROWS]) -> [i32; ROWS] {
        let mut sums = left;
        for (sum, word) in sums.iter_mut().zip(right) {
            *sum += word;
        }
        sums
    }

    #[inline(always)]
    fn sums_of_each(self, rows: [[i32; ROWS]; ROWS]) -> [i32; ROWS] {
        rows.map(|words| words.into_iter().sum())
    }

    #[inline(always)]
    fn no_floats(self) -> [f32; ROWS] {
        [0.0; ROWS]
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "as the processors' conversion rounds"
    )]
    #[inline(always)]
    fn scaled_onto(
        self,
        words: [i32; ROWS],
        scales: &[f32; ROWS],
        factor: f32,
        onto: [f32; ROWS],
    ) -> [f32; ROWS] {
        let mut sums = onto;
        for ((sum, word), scale) in sums.iter_mut().zip(words).zip(scales) {
            *sum = (word as f32).mul_add(scale * factor, *sum);
        }
        sums
    }

    #[inline(always)]
    fn lanes(self, floats: [f32; ROWS]) -> [f32; ROWS] {
        floats
    }
}
