//! What products of blocks of small integers are made of: vectors of 32 bytes, and what is done with them.
//!
//! Sums of integers are exact, and those of floating-point numbers are made lane by lane in one order, so that every
//! implementation makes the same bits.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod plain;

#[cfg(target_arch = "x86_64")]
pub(super) use avx2::Avx2;
pub(super) use plain::Plain;

/// Operations of vectors.
pub(super) trait Vectors: Copy {
    /// 32 integers of 8 bits.
    type Bytes: Copy;
    /// 16 integers of 16 bits.
    type Shorts: Copy;
    /// 8 integers of 16 bits.
    type Eight: Copy;
    /// 16 integers of 8 bits.
    type Sixteen: Copy;
    /// 8 integers of 32 bits.
    type Words: Copy;
    /// 8 numbers.
    type Floats: Copy;

    fn bytes(self, from: &[u8; 32]) -> Self::Bytes;

    fn signed(self, from: &[i8; 32]) -> Self::Bytes;

    /// Magnitudes of signed integers, as unsigned ones.
    fn magnitudes(self, of: Self::Bytes) -> Self::Bytes;

    /// Integers with their signs changed where others are negative, and 0 where those are 0.
    fn with_signs(self, integers: Self::Bytes, signs: Self::Bytes) -> Self::Bytes;

    /// The low four bits of every byte.
    fn low_halves(self, of: Self::Bytes) -> Self::Bytes;

    /// The high four bits of every byte.
    fn high_halves(self, of: Self::Bytes) -> Self::Bytes;

    /// Some two bits of every byte, the lowest with 0, as its bits 4 and 5.
    fn two_bits(self, of: Self::Bytes, which: usize) -> Self::Bytes;

    /// Bits that are set in one or the other.
    fn either(self, one: Self::Bytes, other: Self::Bytes) -> Self::Bytes;

    /// Sums of two neighbours' products, which must fit.
    fn pair_sums(self, unsigned: Self::Bytes, signed: Self::Bytes) -> Self::Shorts;

    /// Eight unsigned bytes, the first in the lowest bits.
    fn eight(self, bytes: u64) -> Self::Eight;

    /// One of eight, everywhere.
    fn spread(self, eight: Self::Eight, lane: usize) -> Self::Shorts;

    /// Eight unsigned bytes, the first in the lowest bits, each twice.
    fn doubled(self, bytes: u64) -> Self::Shorts;

    fn sixteen(self, from: &[u8; 16]) -> Self::Sixteen;

    /// Two neighbours of sixteen signed integers, the first in the first eight places and the second in the others.
    fn spread_pair(self, sixteen: Self::Sixteen, pair: usize) -> Self::Shorts;

    /// Signed integers with more bits.
    fn widened(self, sixteen: Self::Sixteen) -> Self::Shorts;

    fn shorts(self, from: &[i16; 16]) -> Self::Shorts;

    /// 1 everywhere.
    fn ones(self) -> Self::Shorts;

    /// Sums of two neighbours' products.
    fn word_sums(self, left: Self::Shorts, right: Self::Shorts) -> Self::Words;

    fn no_words(self) -> Self::Words;

    fn plus(self, left: Self::Words, right: Self::Words) -> Self::Words;

    fn no_floats(self) -> Self::Floats;

    /// `words * factor + onto`, rounded once.
    fn scaled_onto(self, words: Self::Words, factor: f32, onto: Self::Floats) -> Self::Floats;

    fn lanes(self, floats: Self::Floats) -> [f32; 8];
}

/// The sum of eight lanes: halves first.
#[expect(
    clippy::inline_always,
    reason = "else it is compiled without the vector units"
)]
#[inline(always)]
pub(super) fn sum(lanes: [f32; 8]) -> f32 {
    let mut four = [0.0; 4];
    for at in 0..4 {
        four[at] = lanes[at] + lanes[at + 4];
    }
    (four[0] + four[2]) + (four[1] + four[3])
}

/// An f16 (IEEE 754 binary16) from its bits; the conversion of the library asks at every call what the processor has.
#[expect(
    clippy::inline_always,
    reason = "else it is compiled without the vector units"
)]
#[inline(always)]
pub(super) fn half(bits: u16) -> f32 {
    let bits = u32::from(bits);
    let (sign, rest) = ((bits & 0x8000) << 16, bits & 0x7fff);
    let size = if rest >= 0x7c00 {
        // Infinite, or no number.
        0x7f80_0000 | rest << 13
    } else {
        // The exponent is 112 less than it should be, which a product mends for subnormal numbers as well.
        (f32::from_bits(rest << 13) * f32::from_bits((127 + 112) << 23)).to_bits()
    };
    f32::from_bits(sign | size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_is_the_number_that_it_says() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (half(bits), half::f16::from_bits(bits).to_f32());
            let alike = ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan();
            assert!(alike, "{bits:04x}: {ours} {theirs}");
        }
    }
}
