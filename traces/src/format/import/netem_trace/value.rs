//! Bandwidths and durations as netem-trace writes them, with and without its `human` feature.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Bits per second: `"12Mbps"`, or whole Gbit/s and the bit/s beyond them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bandwidth(pub(super) u64);

/// Nanoseconds: `"100ms"`, `"1m 30s"`, or seconds and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Duration(pub(super) u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum BandwidthForm {
    Words(String),
    Parts { gbps: u64, bps: u64 },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum DurationForm {
    Words(String),
    Parts { secs: u64, nanos: u64 },
}

/// What is larger than this is a mistake in the unit: 1 Tbit/s.
const LARGEST_BPS: f64 = 1e12;

impl<'de> Deserialize<'de> for Bandwidth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bandwidth, D::Error> {
        let form = BandwidthForm::deserialize(deserializer).map_err(|_error| {
            D::Error::custom("expected a bandwidth such as \"12Mbps\" or {\"gbps\":0,\"bps\":1}")
        })?;
        match form {
            BandwidthForm::Words(words) => bandwidth(&words).map_err(D::Error::custom),
            BandwidthForm::Parts { gbps, bps } => gbps
                .checked_mul(1_000_000_000)
                .and_then(|whole| whole.checked_add(bps))
                .filter(|&bps| bps <= 1_000_000_000_000)
                .map(Bandwidth)
                .ok_or_else(|| D::Error::custom("a bandwidth of more than 1 Tbit/s")),
        }
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let form = DurationForm::deserialize(deserializer).map_err(|_error| {
            D::Error::custom("expected a duration such as \"100ms\" or {\"secs\":1,\"nanos\":0}")
        })?;
        match form {
            DurationForm::Words(words) => duration(&words).map_err(D::Error::custom),
            DurationForm::Parts { secs, nanos } => secs
                .checked_mul(1_000_000_000)
                .and_then(|whole| whole.checked_add(nanos))
                .map(Duration)
                .ok_or_else(|| D::Error::custom("a duration of more than 584 years")),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "within the bounds that were just checked"
)]
pub(super) fn bandwidth(words: &str) -> Result<Bandwidth, String> {
    let words = words.trim();
    let unit_at = words
        .find(|letter: char| letter.is_ascii_alphabetic())
        .unwrap_or(words.len());
    let (number, unit) = words.split_at(unit_at);
    let scale = match unit.to_ascii_lowercase().as_str() {
        "bps" => 1.0,
        "kbps" => 1e3,
        "mbps" => 1e6,
        "gbps" => 1e9,
        "tbps" => 1e12,
        _ => {
            return Err(format!(
                "`{words}` is no bandwidth; expected one such as 12Mbps"
            ));
        }
    };
    let value: f64 = number
        .trim()
        .parse()
        .map_err(|_error| format!("`{words}` is no bandwidth; expected one such as 12Mbps"))?;
    let bps = libm::round(value * scale);
    if (0.0..=LARGEST_BPS).contains(&bps) {
        Ok(Bandwidth(bps as u64))
    } else {
        Err(format!("`{words}` cannot be true; expected 0 to 1Tbps"))
    }
}

pub(super) fn duration(words: &str) -> Result<Duration, String> {
    let wrong = || format!("`{words}` is no duration; expected one such as 100ms or 1m 30s");
    let mut total = 0_u64;
    let mut rest = words.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let count: u64 = rest[..digits].parse().map_err(|_error| wrong())?;
        rest = rest[digits..].trim_start();
        let letters = rest
            .find(|letter: char| !letter.is_alphabetic())
            .unwrap_or(rest.len());
        let unit_ns: u64 = match &rest[..letters] {
            "ns" | "nsec" | "nanos" => 1,
            "us" | "usec" | "\u{b5}s" | "micros" => 1_000,
            "ms" | "msec" | "millis" => 1_000_000,
            "s" | "sec" | "secs" | "second" | "seconds" => 1_000_000_000,
            "m" | "min" | "mins" | "minute" | "minutes" => 60_000_000_000,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3_600_000_000_000,
            _ => return Err(wrong()),
        };
        total = count
            .checked_mul(unit_ns)
            .and_then(|ns| total.checked_add(ns))
            .ok_or_else(wrong)?;
        rest = rest[letters..].trim_start();
    }
    Ok(Duration(total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_read_in_both_forms() {
        assert_eq!(bandwidth("12Mbps"), Ok(Bandwidth(12_000_000)));
        assert_eq!(bandwidth("1.5 Gbps"), Ok(Bandwidth(1_500_000_000)));
        assert_eq!(duration("1m 30s"), Ok(Duration(90_000_000_000)));
        assert_eq!(duration("250us"), Ok(Duration(250_000)));
        let parts: Bandwidth = serde_json::from_str("{\"gbps\":1,\"bps\":5}").unwrap();
        assert_eq!(parts, Bandwidth(1_000_000_005));
        let parts: Duration = serde_json::from_str("{\"secs\":1,\"nanos\":5}").unwrap();
        assert_eq!(parts, Duration(1_000_000_005));
        for wrong in ["12", "Mbps", "12MB/s", "-1Mbps", "9Tbps"] {
            assert!(bandwidth(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "1", "ms", "1x", "99999999999999999999s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_words_make_a_reader_of_values_panic(words: String, near in "[0-9a-zA-Z .\u{b5}]{0,20}") {
            for words in [words.as_str(), near.as_str()] {
                let _ = bandwidth(words);
                let _ = duration(words);
            }
        }
    }
}
