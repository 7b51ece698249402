//! What products of blocks of small integers are made of: vectors of 32 bytes, of which each of eight rows has a lane.
//!
//! Sums of integers are exact, and those of floating-point numbers are made lane by lane in one order, so that every
//! implementation makes the same bits.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod plain;

#[cfg(target_arch = "x86_64")]
pub(super) use avx2::Avx2;
pub(super) use plain::Plain;

use super::lanes::{Lanes, ROWS};

/// Operations of vectors.
pub(super) trait Vectors: Copy {
    /// 32 integers of 8 bits, four of each row.
    type Bytes: Copy;
    /// 16 integers of 16 bits, two of each row.
    type Shorts: Copy;
    /// An integer of 32 bits of each row.
    type Words: Copy;
    /// A number of each row.
    type Floats: Copy;

    /// Of each row the first four bytes, of each row the next four, and so on.
    fn interleaved(self, rows: [&[u8; 32]; ROWS]) -> [Lanes; 8];

    fn bytes(self, from: &Lanes) -> Self::Bytes;

    fn shorts(self, from: &Lanes) -> Self::Shorts;

    /// The same four for each row.
    fn four(self, from: &[i8; 4]) -> Self::Bytes;

    /// 32 integers of one state.
    fn integers(self, from: &[[i8; 4]; 8]) -> Self::Bytes;

    /// The low four bits of each byte of a row, and the high ones.
    fn four_bits(self, from: &[u8; 32]) -> [Self::Bytes; 2];

    /// The same two for each lane, from their bits.
    fn both(self, from: u32) -> Self::Shorts;

    /// The same two for each row.
    fn two(self, from: &[i16; 2]) -> Self::Shorts;

    /// Magnitudes of signed integers, as unsigned ones.
    fn magnitudes(self, of: Self::Bytes) -> Self::Bytes;

    /// Integers with their signs changed where others are negative, and 0 where those are 0.
    fn with_signs(self, integers: Self::Bytes, signs: Self::Bytes) -> Self::Bytes;

    /// Sums of two neighbours' products, which must fit.
    fn pair_sums(self, unsigned: Self::Bytes, signed: Self::Bytes) -> Self::Shorts;

    /// Sums, which must fit.
    fn plus_shorts(self, left: Self::Shorts, right: Self::Shorts) -> Self::Shorts;

    /// Sums of two neighbours' products.
    fn word_sums(self, left: Self::Shorts, right: Self::Shorts) -> Self::Words;

    fn no_words(self) -> Self::Words;

    fn plus(self, left: Self::Words, right: Self::Words) -> Self::Words;

    /// Of each row the sum of all its words.
    fn sums_of_each(self, rows: [Self::Words; ROWS]) -> Self::Words;

    fn no_floats(self) -> Self::Floats;

    /// `words * (scales * factor) + onto`, the outer product and the sum rounded once.
    fn scaled_onto(
        self,
        words: Self::Words,
        scales: &[f32; ROWS],
        factor: f32,
        onto: Self::Floats,
    ) -> Self::Floats;

    fn lanes(self, floats: Self::Floats) -> [f32; ROWS];
}
