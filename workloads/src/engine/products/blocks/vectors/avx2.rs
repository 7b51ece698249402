//! The operations on x86-64 with AVX2 and FMA, of which each is an instruction or two.

use std::arch::x86_64::{__m128i, __m256, __m256i};

use pulp::x86::V3;
use pulp::{NullaryFnOnce, cast};

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
    type Eight = __m128i;
    type Sixteen = __m128i;
    type Words = __m256i;
    type Floats = __m256;

    #[inline(always)]
    fn bytes(self, from: &[u8; 32]) -> __m256i {
        cast(*from)
    }

    #[inline(always)]
    fn signed(self, from: &[i8; 32]) -> __m256i {
        cast(*from)
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
    fn low_halves(self, of: __m256i) -> __m256i {
        let mask = self.0.avx._mm256_set1_epi8(0x0f);
        self.0.avx2._mm256_and_si256(of, mask)
    }

    #[inline(always)]
    fn high_halves(self, of: __m256i) -> __m256i {
        self.low_halves(self.0.avx2._mm256_srli_epi16::<4>(of))
    }

    #[inline(always)]
    fn two_bits(self, of: __m256i, which: usize) -> __m256i {
        // What the shifts carry over from the neighbour is masked out.
        let shifted = match which {
            0 => self.0.avx2._mm256_slli_epi16::<4>(of),
            1 => self.0.avx2._mm256_slli_epi16::<2>(of),
            2 => of,
            _ => self.0.avx2._mm256_srli_epi16::<2>(of),
        };
        let mask = self.0.avx._mm256_set1_epi8(0x30);
        self.0.avx2._mm256_and_si256(shifted, mask)
    }

    #[inline(always)]
    fn either(self, one: __m256i, other: __m256i) -> __m256i {
        self.0.avx2._mm256_or_si256(one, other)
    }

    #[inline(always)]
    fn pair_sums(self, unsigned: __m256i, signed: __m256i) -> __m256i {
        self.0.avx2._mm256_maddubs_epi16(unsigned, signed)
    }

    #[inline(always)]
    fn eight(self, bytes: u64) -> __m128i {
        self.0.sse4_1._mm_cvtepu8_epi16(cast([bytes, 0]))
    }

    #[inline(always)]
    fn spread(self, eight: __m128i, lane: usize) -> __m256i {
        // Bytes 2 `lane` and 2 `lane` + 1, in this order.
        const BYTES: [i16; 8] = [
            0x0100, 0x0302, 0x0504, 0x0706, 0x0908, 0x0b0a, 0x0d0c, 0x0f0e,
        ];
        let twice = self.0.avx2._mm256_broadcastsi128_si256(eight);
        let bytes = self.0.avx._mm256_set1_epi16(BYTES[lane]);
        self.0.avx2._mm256_shuffle_epi8(twice, bytes)
    }

    #[inline(always)]
    fn doubled(self, bytes: u64) -> __m256i {
        let bytes: __m128i = cast([bytes, 0]);
        let twice = self.0.sse2._mm_unpacklo_epi8(bytes, bytes);
        self.0.avx2._mm256_cvtepu8_epi16(twice)
    }

    #[inline(always)]
    fn sixteen(self, from: &[u8; 16]) -> __m128i {
        cast(*from)
    }

    #[inline(always)]
    fn spread_pair(self, sixteen: __m128i, pair: usize) -> __m256i {
        // Eight times byte 2 `pair`, then eight times the next one.
        const FIRST: u64 = 0x0101_0101_0101_0101;
        let first = 2 * FIRST * (pair as u64);
        let spread = self
            .0
            .ssse3
            ._mm_shuffle_epi8(sixteen, cast([first, first + FIRST]));
        self.0.avx2._mm256_cvtepi8_epi16(spread)
    }

    #[inline(always)]
    fn widened(self, sixteen: __m128i) -> __m256i {
        self.0.avx2._mm256_cvtepi8_epi16(sixteen)
    }

    #[inline(always)]
    fn shorts(self, from: &[i16; 16]) -> __m256i {
        cast(*from)
    }

    #[inline(always)]
    fn ones(self) -> __m256i {
        self.0.avx._mm256_set1_epi16(1)
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
    fn no_floats(self) -> __m256 {
        self.0.avx._mm256_setzero_ps()
    }

    #[inline(always)]
    fn scaled_onto(self, words: __m256i, factor: f32, onto: __m256) -> __m256 {
        let words = self.0.avx._mm256_cvtepi32_ps(words);
        let factor = self.0.avx._mm256_set1_ps(factor);
        self.0.fma._mm256_fmadd_ps(words, factor, onto)
    }

    #[inline(always)]
    fn lanes(self, floats: __m256) -> [f32; 8] {
        cast(floats)
    }
}
