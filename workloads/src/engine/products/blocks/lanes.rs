//! Blocks of eight rows that are multiplied beside each other, a lane each.

/// Rows that are multiplied beside each other.
pub(super) const ROWS: usize = 8;

/// Of each row four bytes, or two integers of 16 bits, the first in the lowest bits.
pub(super) type Lanes = [u32; ROWS];

/// The 32 bytes from one of a block's bytes on, of each row.
#[expect(
    clippy::inline_always,
    reason = "else it is compiled without the vector units"
)]
#[inline(always)]
pub(super) fn bytes_at<const BYTES: usize>(
    blocks: [&[u8; BYTES]; ROWS],
    first: usize,
) -> [&[u8; 32]; ROWS] {
    let mut bytes = [&[0; 32]; ROWS];
    for row in 0..ROWS {
        if let Some(some) = blocks[row][first..].first_chunk() {
            bytes[row] = some;
        }
    }
    bytes
}

/// The four bytes from one of a block's bytes on, of each row.
#[expect(
    clippy::inline_always,
    reason = "else it is compiled without the vector units"
)]
#[inline(always)]
pub(super) fn four_at<const BYTES: usize>(blocks: [&[u8; BYTES]; ROWS], first: usize) -> Lanes {
    let mut lanes = [0; ROWS];
    for row in 0..ROWS {
        if let Some(four) = blocks[row][first..].first_chunk() {
            lanes[row] = u32::from_le_bytes(*four);
        }
    }
    lanes
}

/// The f16 in each lane's low bits.
#[expect(
    clippy::inline_always,
    reason = "else it is compiled without the vector units"
)]
#[inline(always)]
pub(super) fn halves(lanes: Lanes) -> [f32; ROWS] {
    let mut numbers = [0.0; ROWS];
    for row in 0..ROWS {
        numbers[row] = half(lanes[row]);
    }
    numbers
}

/// Each lane's bits so many places lower; lowest bits of a byte go into the one before it.
#[expect(
    clippy::inline_always,
    reason = "else it is compiled without the vector units"
)]
#[inline(always)]
pub(super) fn shifted(lanes: Lanes, places: usize) -> Lanes {
    let mut shifted = lanes;
    for lane in &mut shifted {
        *lane >>= places;
    }
    shifted
}

/// Of every byte the bits that are set in a mask.
#[expect(
    clippy::inline_always,
    reason = "else it is compiled without the vector units"
)]
#[inline(always)]
pub(super) fn masked(lanes: Lanes, mask: u8) -> Lanes {
    let mut masked = lanes;
    for lane in &mut masked {
        *lane &= u32::from_le_bytes([mask; 4]);
    }
    masked
}

/// Bits that are set in one or the other.
#[expect(
    clippy::inline_always,
    reason = "else it is compiled without the vector units"
)]
#[inline(always)]
pub(super) fn either(one: Lanes, other: Lanes) -> Lanes {
    let mut either = one;
    for row in 0..ROWS {
        either[row] |= other[row];
    }
    either
}

/// An f16 (IEEE 754 binary16) from its bits, the lowest sixteen; the conversion of the library asks at every call what the processor has.
#[expect(
    clippy::inline_always,
    reason = "else it is compiled without the vector units"
)]
#[inline(always)]
fn half(bits: u32) -> f32 {
    let (sign, rest) = ((bits & 0x8000) << 16, bits & 0x7fff);
    // The exponent is 112 less than it should be, which a product mends for subnormal numbers as well.
    let size = (f32::from_bits(rest << 13) * f32::from_bits((127 + 112) << 23)).to_bits();
    // That of what is infinite or no number is the highest one. No branch, so that eight are made at a time.
    let highest = u32::from(rest >= 0x7c00) * 0x7f80_0000;
    f32::from_bits(sign | size | highest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_is_the_number_that_it_says() {
        for bits in 0..=u16::MAX {
            let ours = half(u32::from(bits) | 0xabcd_0000);
            let theirs = half::f16::from_bits(bits).to_f32();
            let alike = ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan();
            assert!(alike, "{bits:04x}: {ours} {theirs}");
        }
    }
}
