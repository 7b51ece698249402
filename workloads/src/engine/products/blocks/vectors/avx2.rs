//! The operations on x86-64 with AVX2 and FMA, of which each is an instruction or two.

use std::arch::x86_64::{__m256, __m256i};

use pulp::x86::V3;
use pulp::{NullaryFnOnce, cast};

use super::super::lanes::{Lanes, ROWS};
use super::Vectors;

/// The right to use the instructions.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Avx2(V3);

impl Avx2 {
    /// `None` on a processor without them.
    pub(in super::super) fn try_new() -> Option<Avx2> {
        V3::try_new().map(Avx2)
    }

    /// Calls what is then compiled for them.
    pub(in super::super) fn vectorize<F: NullaryFnOnce>(self, call: F) -> F::Output {
        self.0.vectorize(call)
    }
}

#[expect(
    clippy::inline_always,
    reason = "else it is compiled without the vector units"
)]
impl Vectors for Avx2 {
    type Bytes = __m256i;
    type Shorts = __m256i;
    type Words = __m256i;
    type Floats = __m256;

    #[inline(always)]
    fn interleaved(self, rows: [&[u8; 32]; ROWS]) -> [Lanes; 8] {
        let avx2 = self.0.avx2;
        let mut lanes = [[0; ROWS]; 8];
        for half in 0..2 {
            // Sixteen bytes of a row, and of the fourth one after it.
            let mut pairs = [self.0.avx._mm256_setzero_si256(); 4];
            for row in 0..4 {
                let (low, high) = (rows[row].as_chunks().0, rows[row + 4].as_chunks().0);
                let (low, high): ([u8; 16], [u8; 16]) = (low[half], high[half]);
                pairs[row] = cast([low, high]);
            }
            let [first, second, third, fourth] = pairs;
            let low = [
                avx2._mm256_unpacklo_epi32(first, second),
                avx2._mm256_unpacklo_epi32(third, fourth),
            ];
            let high = [
                avx2._mm256_unpackhi_epi32(first, second),
                avx2._mm256_unpackhi_epi32(third, fourth),
            ];
            lanes[4 * half] = cast(avx2._mm256_unpacklo_epi64(low[0], low[1]));
            lanes[4 * half + 1] = cast(avx2._mm256_unpackhi_epi64(low[0], low[1]));
            lanes[4 * half + 2] = cast(avx2._mm256_unpacklo_epi64(high[0], high[1]));
            lanes[4 * half + 3] = cast(avx2._mm256_unpackhi_epi64(high[0], high[1]));
        }
        lanes
    }

    #[inline(always)]
    fn bytes(self, from: &Lanes) -> __m256i {
        cast(*from)
    }

    #[inline(always)]
    fn shorts(self, from: &Lanes) -> __m256i {
        cast(*from)
    }

    #[inline(always)]
    fn four(self, from: &[i8; 4]) -> __m256i {
        self.0.avx._mm256_set1_epi32(cast(*from))
    }

    #[inline(always)]
    fn integers(self, from: &[[i8; 4]; 8]) -> __m256i {
        cast(*from)
    }

    #[inline(always)]
    fn four_bits(self, from: &[u8; 32]) -> [__m256i; 2] {
        let avx2 = self.0.avx2;
        let (both, mask) = (cast(*from), self.0.avx._mm256_set1_epi8(0x0f));
        let high = avx2._mm256_srli_epi16::<4>(both);
        [
            avx2._mm256_and_si256(both, mask),
            avx2._mm256_and_si256(high, mask),
        ]
    }

    #[inline(always)]
    fn both(self, from: u32) -> __m256i {
        self.0.avx._mm256_set1_epi32(from.cast_signed())
    }

    #[inline(always)]
    fn two(self, from: &[i16; 2]) -> __m256i {
        self.0.avx._mm256_set1_epi32(cast(*from))
    }

    #[inline(always)]
    fn magnitudes(self, of: __m256i) -> __m256i {
        self.0.avx2._mm256_abs_epi8(of)
    }

    #[inline(always)]
    fn with_signs(self, integers: __m256i, signs: __m256i) -> __m256i {
        self.0.avx2._mm256_sign_epi8(integers, signs)
    }

    #[inline(always)]
    fn pair_sums(self, unsigned: __m256i, signed: __m256i) -> __m256i {
        self.0.avx2._mm256_maddubs_epi16(unsigned, signed)
    }

    #[inline(always)]
    fn plus_shorts(self, left: __m256i, right: __m256i) -> __m256i {
        self.0.avx2._mm256_add_epi16(left, right)
    }

    #[inline(always)]
    fn word_sums(self, left: __m256i, right: __m256i) -> __m256i {
        self.0.avx2._mm256_madd_epi16(left, right)
    }

    #[inline(always)]
    fn no_words(self) -> __m256i {
        self.0.avx._mm256_setzero_si256()
    }

    #[inline(always)]
    fn plus(self, left: __m256i, right: __m256i) -> __m256i {
        self.0.avx2._mm256_add_epi32(left, right)
    }

    #[inline(always)]
    fn sums_of_each(self, rows: [__m256i; ROWS]) -> __m256i {
        let avx2 = self.0.avx2;
        // Of four rows each, sums of the lower and of the upper half of their lanes.
        let mut fours = [self.no_words(); 2];
        for of in 0..2 {
            let first = avx2._mm256_hadd_epi32(rows[4 * of], rows[4 * of + 1]);
            let second = avx2._mm256_hadd_epi32(rows[4 * of + 2], rows[4 * of + 3]);
            fours[of] = avx2._mm256_hadd_epi32(first, second);
        }
        let lower = avx2._mm256_permute2x128_si256::<0x20>(fours[0], fours[1]);
        let upper = avx2._mm256_permute2x128_si256::<0x31>(fours[0], fours[1]);
        avx2._mm256_add_epi32(lower, upper)
    }

    #[inline(always)]
    fn no_floats(self) -> __m256 {
        self.0.avx._mm256_setzero_ps()
    }

    #[inline(always)]
    fn scaled_onto(
        self,
        words: __m256i,
        scales: &[f32; ROWS],
        factor: f32,
        onto: __m256,
    ) -> __m256 {
        let words = self.0.avx._mm256_cvtepi32_ps(words);
        let factor = self.0.avx._mm256_set1_ps(factor);
        let factors = self.0.avx._mm256_mul_ps(cast(*scales), factor);
        self.0.fma._mm256_fmadd_ps(words, factors, onto)
    }

    #[inline(always)]
    fn lanes(self, floats: __m256) -> [f32; ROWS] {
        cast(floats)
    }
}
