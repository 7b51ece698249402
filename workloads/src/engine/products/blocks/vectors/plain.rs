//! The operations in plain arithmetic, for processors of which nothing else is known.

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
    type Eight = [i16; 8];
    type Sixteen = [i8; 16];
    type Words = [i32; 8];
    type Floats = [f32; 8];

    #[inline(always)]
    fn bytes(self, from: &[u8; 32]) -> [u8; 32] {
        *from
    }

    #[inline(always)]
    fn signed(self, from: &[i8; 32]) -> [u8; 32] {
        from.map(i8::cast_unsigned)
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
    fn low_halves(self, of: [u8; 32]) -> [u8; 32] {
        of.map(|byte| byte & 0x0f)
    }

    #[inline(always)]
    fn high_halves(self, of: [u8; 32]) -> [u8; 32] {
        of.map(|byte| byte >> 4)
    }

    #[inline(always)]
    fn two_bits(self, of: [u8; 32], which: usize) -> [u8; 32] {
        of.map(|byte| (byte >> (2 * which) & 3) << 4)
    }

    #[inline(always)]
    fn either(self, one: [u8; 32], other: [u8; 32]) -> [u8; 32] {
        let mut bits = one;
        for (byte, other) in bits.iter_mut().zip(other) {
            *byte |= other;
        }
        bits
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
    fn eight(self, bytes: u64) -> [i16; 8] {
        bytes.to_le_bytes().map(i16::from)
    }

    #[inline(always)]
    fn spread(self, eight: [i16; 8], lane: usize) -> [i16; 16] {
        [eight[lane]; 16]
    }

    #[inline(always)]
    fn doubled(self, bytes: u64) -> [i16; 16] {
        let bytes = bytes.to_le_bytes();
        let mut doubled = [0; 16];
        for (lane, short) in doubled.iter_mut().enumerate() {
            *short = i16::from(bytes[lane / 2]);
        }
        doubled
    }

    #[inline(always)]
    fn sixteen(self, from: &[u8; 16]) -> [i8; 16] {
        from.map(u8::cast_signed)
    }

    #[inline(always)]
    fn spread_pair(self, sixteen: [i8; 16], pair: usize) -> [i16; 16] {
        let mut spread = [0; 16];
        for (lane, short) in spread.iter_mut().enumerate() {
            *short = i16::from(sixteen[2 * pair + lane / 8]);
        }
        spread
    }

    #[inline(always)]
    fn widened(self, sixteen: [i8; 16]) -> [i16; 16] {
        sixteen.map(i16::from)
    }

    #[inline(always)]
    fn shorts(self, from: &[i16; 16]) -> [i16; 16] {
        *from
    }

    #[inline(always)]
    fn ones(self) -> [i16; 16] {
        [1; 16]
    }

    #[inline(always)]
    fn word_sums(self, left: [i16; 16], right: [i16; 16]) -> [i32; 8] {
        let product = |at: usize| i32::from(left[at]) * i32::from(right[at]);
        let mut sums = [0; 8];
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum = product(2 * lane) + product(2 * lane + 1);
        }
        sums
    }

    #[inline(always)]
    fn no_words(self) -> [i32; 8] {
        [0; 8]
    }

    #[inline(always)]
    fn plus(self, left: [i32; 8], right: [i32; 8]) -> [i32; 8] {
        let mut sums = left;
        for (sum, word) in sums.iter_mut().zip(right) {
            *sum += word;
        }
        sums
    }

    #[inline(always)]
    fn no_floats(self) -> [f32; 8] {
        [0.0; 8]
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "as the processors' conversion rounds"
    )]
    #[inline(always)]
    fn scaled_onto(self, words: [i32; 8], factor: f32, onto: [f32; 8]) -> [f32; 8] {
        let mut sums = onto;
        for (sum, word) in sums.iter_mut().zip(words) {
            *sum = (word as f32).mul_add(factor, *sum);
        }
        sums
    }

    #[inline(always)]
    fn lanes(self, floats: [f32; 8]) -> [f32; 8] {
        floats
    }
}
