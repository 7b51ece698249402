//! How hidden states are coded for a link (technique 20 of the surveys): which codings there are, and
//! how many bytes each makes of a frame of states. The same of keys and values is in [`kv`].

pub mod kv;

use std::fmt;

use serde::{Deserialize, Serialize};

/// Channels that share a scale in [`Coding::Int4`].
pub const INT4_GROUP: u32 = 32;

/// One in so many channels is kept by [`Coding::TopK`].
pub const TOP_K_SHARE: u64 = 8;

/// The widest state that [`Coding::TopK`] can name channels of.
pub const TOP_K_WIDEST: u32 = 1 << 16;

/// How hidden states cross a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Coding {
    /// 32-bit floating point: what the layers computed, bit for bit.
    #[default]
    F32,
    /// IEEE 754 half precision.
    F16,
    /// 8-bit integers: a scale for each channel, which the first frame of a request brings, times one
    /// for each token.
    Int8,
    /// 4-bit integers, with a scale for each token and group of [`INT4_GROUP`] channels.
    Int4,
    /// The largest eighth of each state's channels in half precision, the others are zero.
    TopK,
}

impl Coding {
    /// All of them, the most exact first.
    pub const ALL: [Coding; 5] = [
        Coding::F32,
        Coding::F16,
        Coding::Int8,
        Coding::Int4,
        Coding::TopK,
    ];

    /// Its name in files and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Coding::F32 => "f32",
            Coding::F16 => "f16",
            Coding::Int8 => "int8",
            Coding::Int4 => "int4",
            Coding::TopK => "top-k",
        }
    }

    /// The coding of that name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Coding> {
        Coding::ALL.into_iter().find(|coding| coding.name() == name)
    }

    /// Its number on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Coding::F32 => 0,
            Coding::F16 => 1,
            Coding::Int8 => 2,
            Coding::Int4 => 3,
            Coding::TopK => 4,
        }
    }

    /// The coding with that number on the wire.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Coding> {
        Coding::ALL
            .into_iter()
            .find(|coding| coding.number() == number)
    }

    /// Whether states arrive as they were sent, bit for bit.
    #[must_use]
    pub fn is_exact(self) -> bool {
        self == Coding::F32
    }

    /// Bytes of one state of so many channels, of which a frame holds one for each token.
    #[must_use]
    pub const fn token_bytes(self, width: u64) -> u64 {
        match self {
            Coding::F32 => 4 * width,
            Coding::F16 => 2 * width,
            Coding::Int8 => 4 + width,
            Coding::Int4 => 2 * width.div_ceil(INT4_GROUP as u64) + width.div_ceil(2),
            Coding::TopK => 4 * top_k(width),
        }
    }

    /// Bytes that the first frame of a request holds besides its states.
    #[must_use]
    pub const fn opening_bytes(self, width: u64) -> u64 {
        match self {
            Coding::Int8 => 2 * width,
            Coding::F32 | Coding::F16 | Coding::Int4 | Coding::TopK => 0,
        }
    }
}

/// Channels of a state that [`Coding::TopK`] keeps.
#[must_use]
pub const fn top_k(width: u64) -> u64 {
    width.div_ceil(TOP_K_SHARE)
}

impl fmt::Display for Coding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_lead_back_to_the_coding() {
        for coding in Coding::ALL {
            assert_eq!(Coding::by_name(coding.name()), Some(coding));
            assert_eq!(Coding::from_number(coding.number()), Some(coding));
        }
        assert_eq!(Coding::by_name("int2"), None);
        assert_eq!(Coding::from_number(5), None);
    }

    #[test]
    fn a_state_of_4096_channels_has_the_bytes_that_the_codings_promise() {
        let bytes = Coding::ALL.map(|coding| coding.token_bytes(4096));
        assert_eq!(bytes, [16384, 8192, 4100, 2304, 2048]);
    }
}
