//! Quantities as people write them: `100 Mbit/s`, `20 ms`, `300 kB`, `1 %`.
//!
//! Every type parses what it prints. A bare number is refused: the unit is part of the value.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

mod radio;

pub use radio::{Frequency, Length, PowerLevel, Ratio, SpectralEfficiency, Speed};

/// A quantity that could not be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}; write it like {examples}")]
pub struct QuantityError {
    /// What was written.
    pub text: String,
    /// What was expected: "a data rate", "a time span".
    pub what: &'static str,
    /// How it may be written.
    pub examples: &'static str,
}

/// Splits `1.5 Mbit/s` into its number, as an exact decimal fraction, and its unit.
fn split(text: &str) -> Option<(Decimal, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((Decimal::parse(number)?, unit.trim()))
}

/// A non-negative decimal number kept exactly: `digits / 10^scale`.
#[derive(Clone, Copy)]
struct Decimal {
    digits: u128,
    scale: u32,
}

impl Decimal {
    fn parse(text: &str) -> Option<Decimal> {
        let mut digits: u128 = 0;
        let mut scale = 0;
        let mut seen_point = false;
        let mut seen_digit = false;
        for c in text.chars() {
            match c {
                '_' if seen_digit => {}
                '.' if !seen_point => seen_point = true,
                _ => {
                    let digit = c.to_digit(10)?;
                    seen_digit = true;
                    digits = digits.checked_mul(10)?.checked_add(u128::from(digit))?;
                    scale += u32::from(seen_point);
                }
            }
        }
        (seen_digit && scale <= 18).then_some(Decimal { digits, scale })
    }

    /// The number times `factor`, if that is a whole number below 2^64.
    fn times(self, factor: u128) -> Option<u64> {
        let product = self.digits.checked_mul(factor)?;
        let divisor = 10_u128.pow(self.scale);
        (product % divisor == 0)
            .then(|| u64::try_from(product / divisor).ok())
            .flatten()
    }
}

/// Writes `value` with the largest unit that divides it exactly.
fn write_exact(f: &mut fmt::Formatter<'_>, value: u64, units: &[(u64, &str)]) -> fmt::Result {
    for (size, unit) in units {
        if value != 0 && value.is_multiple_of(*size) {
            return write!(f, "{} {unit}", value / size);
        }
    }
    let smallest = units.last().map_or("", |(_, unit)| unit);
    write!(f, "{value} {smallest}")
}

macro_rules! text_serde {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

use text_serde;

/// A data rate in bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BitRate {
    /// Bits per second.
    pub bps: u64,
}

impl FromStr for BitRate {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<BitRate, QuantityError> {
        let parse = || {
            let (number, unit) = split(text)?;
            let factor = match unit {
                "bit/s" | "bps" => 1,
                "kbit/s" | "kbps" => 1_000,
                "Mbit/s" | "Mbps" => 1_000_000,
                "Gbit/s" | "Gbps" => 1_000_000_000,
                "Tbit/s" | "Tbps" => 1_000_000_000_000,
                _ => return None,
            };
            number.times(factor)
        };
        parse()
            .map(|bps| BitRate { bps })
            .ok_or_else(|| QuantityError {
                text: text.to_owned(),
                what: "a data rate",
                examples: "`100 Mbit/s` (units: bit/s, kbit/s, Mbit/s, Gbit/s, Tbit/s)",
            })
    }
}

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [
            (1_000_000_000, "Gbit/s"),
            (1_000_000, "Mbit/s"),
            (1_000, "kbit/s"),
            (1, "bit/s"),
        ];
        write_exact(f, self.bps, &units)
    }
}

text_serde!(BitRate);

/// A span of time in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeSpan {
    /// Nanoseconds.
    pub ns: u64,
}

impl TimeSpan {
    /// A span of whole milliseconds.
    #[must_use]
    pub const fn from_millis(ms: u64) -> TimeSpan {
        TimeSpan {
            ns: ms.saturating_mul(1_000_000),
        }
    }

    /// The span in seconds, for printing.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "for printing only")]
    pub fn as_seconds_f64(self) -> f64 {
        self.ns as f64 / 1e9
    }
}

impl FromStr for TimeSpan {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<TimeSpan, QuantityError> {
        let parse = || {
            let (number, unit) = split(text)?;
            let factor = match unit {
                "ns" => 1,
                "us" | "µs" | "μs" => 1_000,
                "ms" => 1_000_000,
                "s" => 1_000_000_000,
                "min" => 60_000_000_000,
                "h" => 3_600_000_000_000,
                _ => return None,
            };
            number.times(factor)
        };
        parse()
            .map(|ns| TimeSpan { ns })
            .ok_or_else(|| QuantityError {
                text: text.to_owned(),
                what: "a time span",
                examples: "`20 ms` (units: ns, us, ms, s, min, h)",
            })
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_exact(
            f,
            self.ns,
            &[
                (1_000_000_000, "s"),
                (1_000_000, "ms"),
                (1_000, "us"),
                (1, "ns"),
            ],
        )
    }
}

text_serde!(TimeSpan);

/// An amount of data in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize {
    /// Bytes.
    pub bytes: u64,
}

impl FromStr for ByteSize {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<ByteSize, QuantityError> {
        let parse = || {
            let (number, unit) = split(text)?;
            let factor = match unit {
                "B" => 1,
                "kB" => 1_000,
                "MB" => 1_000_000,
                "GB" => 1_000_000_000,
                "KiB" => 1 << 10,
                "MiB" => 1 << 20,
                "GiB" => 1 << 30,
                _ => return None,
            };
            number.times(factor)
        };
        parse()
            .map(|bytes| ByteSize { bytes })
            .ok_or_else(|| QuantityError {
                text: text.to_owned(),
                what: "an amount of data",
                examples: "`300 kB` (units: B, kB, MB, GB, KiB, MiB, GiB)",
            })
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_exact(
            f,
            self.bytes,
            &[
                (1_000_000_000, "GB"),
                (1_000_000, "MB"),
                (1_000, "kB"),
                (1, "B"),
            ],
        )
    }
}

text_serde!(ByteSize);

/// A share between 0 and 1, kept in parts per 10^9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share {
    ppb: u32,
}

impl Share {
    /// Everything.
    pub const ONE: Share = Share { ppb: 1_000_000_000 };

    /// So many parts per 10^9; more than 10^9 count as everything.
    #[must_use]
    pub const fn from_ppb(ppb: u32) -> Share {
        if ppb > Share::ONE.ppb {
            Share::ONE
        } else {
            Share { ppb }
        }
    }

    /// Parts per 10^9, 0 to 10^9.
    #[must_use]
    pub const fn ppb(self) -> u32 {
        self.ppb
    }

    /// The share as a fraction of 1.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.ppb) / 1e9
    }
}

impl FromStr for Share {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Share, QuantityError> {
        let parse = || {
            let (number, unit) = split(text)?;
            let factor = match unit {
                "%" => 10_000_000,
                "ppm" => 1_000,
                "ppb" => 1,
                _ => return None,
            };
            let ppb = u32::try_from(number.times(factor)?).ok()?;
            (ppb <= Share::ONE.ppb).then_some(Share { ppb })
        };
        parse().ok_or_else(|| QuantityError {
            text: text.to_owned(),
            what: "a share from 0 % to 100 %",
            examples: "`1 %` (units: %, ppm, ppb)",
        })
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_exact(
            f,
            u64::from(self.ppb),
            &[(10_000_000, "%"), (1_000, "ppm"), (1, "ppb")],
        )
    }
}

text_serde!(Share);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantities_are_read_as_people_write_them() {
        assert_eq!("100 Mbit/s".parse::<BitRate>().unwrap().bps, 100_000_000);
        assert_eq!("1.5Gbit/s".parse::<BitRate>().unwrap().bps, 1_500_000_000);
        assert_eq!("62.5 us".parse::<TimeSpan>().unwrap().ns, 62_500);
        assert_eq!("300 kB".parse::<ByteSize>().unwrap().bytes, 300_000);
        assert_eq!("0.1 %".parse::<Share>().unwrap().ppb(), 1_000_000);
    }

    #[test]
    fn a_number_without_unit_or_with_the_wrong_one_is_refused_with_examples() {
        for text in [
            "100",
            "100 ms",
            "Mbit/s",
            "-1 Mbit/s",
            "1e3 Mbit/s",
            "0.1 bit/s",
            "1..2 Mbit/s",
        ] {
            let error = text.parse::<BitRate>().unwrap_err();
            assert!(error.to_string().contains("100 Mbit/s"), "{error}");
        }
        assert!("101 %".parse::<Share>().is_err());
        assert!("0.1 ns".parse::<TimeSpan>().is_err());
    }

    proptest! {
        #[test]
        fn every_quantity_reads_back_what_it_prints(value: u64, ppb in 0_u32..=1_000_000_000) {
            prop_assert_eq!(BitRate { bps: value }.to_string().parse(), Ok(BitRate { bps: value }));
            prop_assert_eq!(TimeSpan { ns: value }.to_string().parse(), Ok(TimeSpan { ns: value }));
            let size = ByteSize { bytes: value };
            prop_assert_eq!(size.to_string().parse(), Ok(size));
            prop_assert_eq!(Share { ppb }.to_string().parse(), Ok(Share { ppb }));
        }
    }
}
