//! Percentiles that the number of samples can carry, and none else.
//!
//! A percentile is by *nearest rank*: of `n` sorted values the one at rank `ceil(q n)`, so it is
//! always a value that was measured. It is stated only from as many samples on as MLPerf's
//! LoadGen asks for (early stopping, confidence 0.99, tolerance 0): so many that, were more than
//! a share `1 - q` of all requests beyond the bound, seeing none of them in the sample would have
//! a probability of at most 1 %.

use serde::{Deserialize, Serialize};

use super::bootstrap::Bootstrap;

/// 1 - confidence of the rule of early stopping.
const ALLOWED_CHANCE: f64 = 0.01;

/// A quantile in parts per thousand, so that ranks are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantile {
    per_mille: u16,
}

/// The median.
pub const P50: Quantile = Quantile { per_mille: 500 };
/// The 95th percentile.
pub const P95: Quantile = Quantile { per_mille: 950 };
/// The 99th percentile.
pub const P99: Quantile = Quantile { per_mille: 990 };

impl Quantile {
    /// A quantile strictly between 0 and 1.
    #[must_use]
    pub const fn from_per_mille(per_mille: u16) -> Option<Quantile> {
        if per_mille > 0 && per_mille < 1000 {
            Some(Quantile { per_mille })
        } else {
            None
        }
    }

    /// The quantile as a fraction of 1.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.per_mille) / 1000.0
    }

    /// Index (from 0) of the nearest rank among `count` sorted values.
    fn index(self, count: usize) -> usize {
        let rank = (count * usize::from(self.per_mille)).div_ceil(1000);
        rank.saturating_sub(1)
    }
}

/// The fewest samples from which the quantile may be stated when `over` of them lie beyond it:
/// the least `n` with `sum_{i=0}^{over} C(n, i) (1-q)^i q^(n-i) <= 0.01`.
#[must_use]
pub fn needed_samples(quantile: Quantile, over: u32) -> u64 {
    let enough = |n: u64| chance_of_at_most(over, n, quantile) <= ALLOWED_CHANCE;
    let mut most = u64::from(over) + 1;
    while !enough(most) {
        most *= 2;
    }
    let mut least = u64::from(over) + 1;
    while least < most {
        let middle = least + (most - least) / 2;
        if enough(middle) {
            most = middle;
        } else {
            least = middle + 1;
        }
    }
    least
}

/// The probability that at most `over` of `n` samples lie beyond the quantile.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn chance_of_at_most(over: u32, n: u64, quantile: Quantile) -> f64 {
    let within = quantile.as_f64();
    let odds = (1.0 - within) / within;
    let mut term = (n as f64 * within.ln()).exp();
    let mut sum = term;
    for i in 0..u64::from(over) {
        term *= odds * n.saturating_sub(i) as f64 / (i + 1) as f64;
        sum += term;
    }
    sum
}

/// The value at a quantile's nearest rank; `None` without values.
#[must_use]
pub fn quantile_of_sorted<T: Copy>(sorted: &[T], quantile: Quantile) -> Option<T> {
    sorted.get(quantile.index(sorted.len())).copied()
}

/// A percentile with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate<T> {
    /// The value.
    pub value: T,
    /// Lower end of the interval; `None` when the samples are too few for two blocks.
    pub low: Option<T>,
    /// Upper end; `None` also when it lies among requests that never ended.
    pub high: Option<T>,
}

/// The percentiles of a metric over requests, each only where the samples carry it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentiles<T> {
    /// How many requests, those included that never ended.
    pub n: u64,
    /// Median, from 7 samples on.
    pub p50: Option<Estimate<T>>,
    /// 95th percentile, from 90 samples on.
    pub p95: Option<Estimate<T>>,
    /// 99th percentile, from 459 samples on.
    pub p99: Option<Estimate<T>>,
}

impl<T: Copy + Ord> Percentiles<T> {
    /// The percentiles of samples in order of time.
    ///
    /// A request that never ended is `None` and counts as longer than all that did: leaving it
    /// out would make the worst outage look best. A percentile that falls on such a request is
    /// `None`.
    #[must_use]
    pub fn of(samples: &[Option<T>], bootstrap: &Bootstrap) -> Percentiles<T> {
        let mut sorted = samples.to_vec();
        sort_unended_last(&mut sorted);
        let quantiles = [P50, P95, P99];
        let intervals = bootstrap.intervals(samples, &quantiles);
        let mut estimates = quantiles.iter().zip(intervals).map(|(quantile, interval)| {
            let enough = sorted.len() as u64 >= needed_samples(*quantile, 0);
            let value = quantile_of_sorted(&sorted, *quantile).flatten();
            let (low, high) = interval.unwrap_or((None, None));
            value
                .filter(|_| enough)
                .map(|value| Estimate { value, low, high })
        });
        let mut next = || estimates.next().flatten();
        Percentiles {
            n: samples.len() as u64,
            p50: next(),
            p95: next(),
            p99: next(),
        }
    }

    /// The same in another unit.
    #[must_use]
    pub fn map<U>(&self, convert: impl Fn(T) -> U) -> Percentiles<U> {
        let estimate = |estimate: &Option<Estimate<T>>| {
            estimate.map(|estimate| Estimate {
                value: convert(estimate.value),
                low: estimate.low.map(&convert),
                high: estimate.high.map(&convert),
            })
        };
        Percentiles {
            n: self.n,
            p50: estimate(&self.p50),
            p95: estimate(&self.p95),
            p99: estimate(&self.p99),
        }
    }
}

/// Sorts with `None` after every value.
pub(super) fn sort_unended_last<T: Copy + Ord>(samples: &mut [Option<T>]) {
    samples.sort_unstable_by_key(|sample| (sample.is_none(), *sample));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Energy-and-benchmarking reference, section 2.2: recomputed there, and 64 and 662 are
    /// MLPerf's own.
    const TABLE: [(u16, [u64; 6]); 5] = [
        (500, [7, 11, 14, 22, 35, 128]),
        (900, [44, 64, 81, 127, 197, 681]),
        (950, [90, 130, 165, 259, 398, 1372]),
        (990, [459, 662, 838, 1307, 2010, 6898]),
        (999, [4603, 6636, 8403, 13_105, 20_140, 69_058]),
    ];

    #[test]
    fn the_samples_needed_are_those_of_mlperfs_early_stopping() {
        for (per_mille, row) in TABLE {
            let quantile = Quantile::from_per_mille(per_mille).unwrap();
            let computed = [0, 1, 2, 5, 10, 50].map(|over| needed_samples(quantile, over));
            assert_eq!(computed, row, "{per_mille}");
        }
    }

    #[test]
    fn a_percentile_is_the_value_at_the_nearest_rank() {
        let sorted: Vec<u64> = (1..=100).collect();
        let at = |quantile| quantile_of_sorted(&sorted, quantile);
        assert_eq!((at(P50), at(P95), at(P99)), (Some(50), Some(95), Some(99)));
        assert_eq!(quantile_of_sorted(&[1, 2, 3], P50), Some(2));
        assert_eq!(quantile_of_sorted(&[9], P99), Some(9));
        assert_eq!(quantile_of_sorted::<u64>(&[], P50), None);
    }

    fn of(samples: &[Option<u64>]) -> Percentiles<u64> {
        Percentiles::of(
            samples,
            &Bootstrap {
                seed: 1,
                block_requests: 3,
                resamples: 200,
            },
        )
    }

    #[test]
    fn no_percentile_is_stated_that_the_samples_cannot_carry() {
        let samples: Vec<Option<u64>> = (0..459).map(Some).collect();
        let stated = |n: usize| {
            let percentiles = of(&samples[..n]);
            assert_eq!(percentiles.n, n as u64);
            [percentiles.p50, percentiles.p95, percentiles.p99].map(|one| one.is_some())
        };
        assert_eq!(stated(0), [false; 3]);
        assert_eq!(stated(6), [false; 3]);
        assert_eq!(stated(7), [true, false, false]);
        assert_eq!(stated(89), [true, false, false]);
        assert_eq!(stated(90), [true, true, false]);
        assert_eq!(stated(458), [true, true, false]);
        assert_eq!(stated(459), [true, true, true]);
    }

    #[test]
    fn requests_that_never_ended_count_as_the_longest() {
        let mut samples: Vec<Option<u64>> = (1..=100).map(Some).collect();
        samples[..4].fill(None);
        assert_eq!(of(&samples).p95.unwrap().value, 99);
        samples[..6].fill(None);
        let percentiles = of(&samples);
        assert_eq!((percentiles.n, percentiles.p95), (100, None));
        assert_eq!(percentiles.p50.unwrap().value, 56);
    }
}
