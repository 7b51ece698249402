//! How keys and values are coded for a link (technique 15 of the surveys): which codings there are, and
//! how many bytes each makes of the positions of a sequence.
//!
//! The integers follow what KIVI (arXiv 2402.02750) found about where outliers are: of keys in a few
//! channels, the same for all tokens, so that keys have a scale for each channel, over some positions; of
//! values in no fixed channel, so that values have a scale for each position.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Positions of a key's channel, and channels of a position's value, that share a scale in integers.
pub const SCALE_GROUP: u32 = 32;

/// Bytes of a scale, which is a bf16 number.
pub const SCALE_BYTES: u64 = 2;

/// How keys and values cross a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KvCoding {
    /// 32-bit floating point: what the layers computed in f32, bit for bit.
    #[default]
    F32,
    /// IEEE 754 half precision.
    F16,
    /// 8-bit integers with scales.
    Int8,
    /// 4-bit integers with scales.
    Int4,
}

/// What the keys and values of a model's sequence are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvShape {
    /// Layers.
    pub layers: u32,
    /// Key-value heads of each layer.
    pub kv_heads: u32,
    /// Width of a head.
    pub head_width: u32,
}

impl KvCoding {
    /// All of them, the most exact first.
    pub const ALL: [KvCoding; 4] = [KvCoding::F32, KvCoding::F16, KvCoding::Int8, KvCoding::Int4];

    /// Its name in files and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            KvCoding::F32 => "f32",
            KvCoding::F16 => "f16",
            KvCoding::Int8 => "int8",
            KvCoding::Int4 => "int4",
        }
    }

    /// The coding of that name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<KvCoding> {
        KvCoding::ALL
            .into_iter()
            .find(|coding| coding.name() == name)
    }

    /// Bits of a number.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            KvCoding::F32 => 32,
            KvCoding::F16 => 16,
            KvCoding::Int8 => 8,
            KvCoding::Int4 => 4,
        }
    }

    /// Whether numbers have scales.
    #[must_use]
    pub const fn has_scales(self) -> bool {
        matches!(self, KvCoding::Int8 | KvCoding::Int4)
    }

    /// Bytes of one head's key, or value, of one position, its scales apart; two 4-bit integers share a
    /// byte.
    #[must_use]
    pub const fn row_bytes(self, head_width: u32) -> u64 {
        (head_width as u64 * self.bits() as u64).div_ceil(8)
    }

    /// Bytes of one layer over so many positions: `2 H h b` for each position, `b` the bytes of a number,
    /// and of integers besides `2 H (h ceil(S/32) + S ceil(h/32))` of scales over all `S`.
    #[must_use]
    pub const fn layer_bytes(self, shape: KvShape, positions: u32) -> u64 {
        let (heads, width) = (shape.kv_heads as u64, shape.head_width as u64);
        let positions = positions as u64;
        let numbers = 2 * heads * positions * self.row_bytes(shape.head_width);
        if !self.has_scales() {
            return numbers;
        }
        let group = SCALE_GROUP as u64;
        let scales = width * positions.div_ceil(group) + positions * width.div_ceil(group);
        numbers + SCALE_BYTES * heads * scales
    }

    /// The same of all layers.
    #[must_use]
    pub const fn bytes(self, shape: KvShape, positions: u32) -> u64 {
        shape.layers as u64 * self.layer_bytes(shape, positions)
    }
}

impl fmt::Display for KvCoding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_the_coding() {
        for coding in KvCoding::ALL {
            assert_eq!(KvCoding::by_name(coding.name()), Some(coding));
        }
        assert_eq!(KvCoding::by_name("int2"), None);
    }

    #[test]
    fn a_token_of_llama_3_1_8b_has_the_bytes_that_are_published_and_integers_have_scales() {
        let shape = KvShape {
            layers: 32,
            kv_heads: 8,
            head_width: 128,
        };
        // 131072 bytes a token in half precision.
        assert_eq!(KvCoding::F16.bytes(shape, 1), 131_072);
        assert_eq!(KvCoding::F32.bytes(shape, 10), 2_621_440);
        // 64 positions: two groups for each channel of a key, four for each position's value.
        let scales = 32 * 8 * 2 * (128 * 2 + 64 * 4);
        assert_eq!(KvCoding::Int8.bytes(shape, 64), 64 * 65_536 + scales);
        assert_eq!(KvCoding::Int4.bytes(shape, 64), 64 * 32_768 + scales);
        // A group that is not full has scales like a full one, and an odd head ends in half a byte.
        let odd = KvShape {
            layers: 1,
            kv_heads: 1,
            head_width: 3,
        };
        assert_eq!(KvCoding::Int4.bytes(odd, 1), 2 * 2 + 2 * (3 + 1));
    }
}
