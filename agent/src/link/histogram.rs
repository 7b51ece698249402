//! Histograms of lateness and delay error, as they travel in the record.

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2Serializer};
use hexloop_proto::LateHistogram;

/// The highest value that is told apart: one hour.
const HIGHEST_NS: u64 = 3_600_000_000_000;

/// Fewest values that carry a 99th percentile: with n of them the chance that all lie below it
/// is 0.99^n, under 1 % from 459 on.
const FEWEST_FOR_P99: u64 = 459;

/// A histogram of nanoseconds: 3 significant digits up to one hour. It takes memory (from 16 KiB on) as the
/// values that come are larger: a thousand links that are idle keep almost none.
#[derive(Debug, Clone)]
pub(crate) struct NanosecondHistogram(Histogram<u64>);

impl NanosecondHistogram {
    /// An empty one.
    pub(crate) fn new() -> NanosecondHistogram {
        #[expect(
            clippy::unwrap_used,
            reason = "three digits are valid, which the tests show"
        )]
        let histogram = Histogram::new(3).unwrap();
        NanosecondHistogram(histogram)
    }

    /// Counts a value; more than an hour counts as an hour.
    pub(crate) fn record(&mut self, ns: u64) {
        self.record_many(ns, 1);
    }

    /// Counts a value so many times.
    pub(crate) fn record_many(&mut self, ns: u64, count: u64) {
        // The library takes a value that was counted no times for the largest.
        if count > 0 {
            // Fails for no value up to an hour: there the histogram grows.
            let _ = self.0.record_n(ns.min(HIGHEST_NS), count);
        }
    }

    /// The value that this share of all is at or below; `None` without values.
    pub(crate) fn at_share(&self, share: f64) -> Option<u64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(share))
    }

    /// The mean of all; `None` without values.
    pub(crate) fn mean(&self) -> Option<u64> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a mean of values from 1 to an hour"
        )]
        let mean = self.0.mean().round() as u64;
        (!self.0.is_empty()).then_some(mean)
    }

    /// How it travels.
    pub(crate) fn summary(&self) -> LateHistogram {
        let count = self.0.len();
        let quantile = |share: f64| self.0.value_at_quantile(share);
        let mut bytes = Vec::new();
        // Writing to memory cannot fail.
        let _ = V2Serializer::new().serialize(&self.0, &mut bytes);
        LateHistogram {
            count,
            p50_ns: (count > 0).then(|| quantile(0.5)),
            p99_ns: (count >= FEWEST_FOR_P99).then(|| quantile(0.99)),
            max_ns: (count > 0).then(|| self.0.max()),
            v2_base64: base64(&bytes),
        }
    }
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let group = u32::from_be_bytes(group);
        for place in 0..4 {
            if place > chunk.len() {
                text.push('=');
                continue;
            }
            let index = group >> (18 - 6 * place) & 63;
            let symbol = usize::try_from(index).map_or(b'A', |index| ALPHABET[index]);
            text.push(char::from(symbol));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_matches_the_vectors_of_rfc_4648() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn no_percentile_is_given_that_the_count_cannot_carry() {
        let mut histogram = NanosecondHistogram::new();
        assert_eq!(histogram.summary().p50_ns, None);
        for value in 0..458 {
            histogram.record(value);
        }
        assert_eq!(histogram.summary().p99_ns, None);
        histogram.record(u64::MAX);
        let summary = histogram.summary();
        assert!(summary.p99_ns.is_some());
        assert_eq!(summary.count, 459);
    }

    #[test]
    fn whatever_comes_is_counted_and_more_than_an_hour_as_an_hour() {
        let mut histogram = NanosecondHistogram::new();
        let values = [0, 1, 2_047, 2_048, 65_000, 10_000_000, HIGHEST_NS, u64::MAX];
        for value in values {
            histogram.record(value);
        }
        histogram.record_many(5, 0);
        let summary = histogram.summary();
        assert_eq!(summary.count, 8);
        let largest = summary.max_ns.unwrap();
        assert!(
            largest.abs_diff(HIGHEST_NS) <= HIGHEST_NS / 1000,
            "{largest}"
        );
        let median = histogram.at_share(0.5).unwrap();
        assert_eq!(median, 2_049, "values from 2048 on are told apart to 2 ns");
    }
}
