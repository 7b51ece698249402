//! Percentiles of sizes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::format::{count_to_f64, length, rounded};
use hexloop_statistics::{P50, P95, P99, Quantile, needed_samples, quantile_of_sorted};

/// Sizes in bytes; a percentile that the number of values cannot carry is null, as for latencies.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sizes {
    /// Number of values.
    pub n: u64,
    /// Arithmetic mean.
    pub mean: Option<f64>,
    /// Median.
    pub p50: Option<u64>,
    /// 95th percentile.
    pub p95: Option<u64>,
    /// 99th percentile.
    pub p99: Option<u64>,
    /// Largest value.
    pub max: Option<u64>,
}

impl Sizes {
    pub(super) fn of(values: impl Iterator<Item = u64>) -> Sizes {
        let mut values: Vec<u64> = values.collect();
        values.sort_unstable();
        let n = length(&values);
        let sum: f64 = values.iter().map(|value| count_to_f64(*value)).sum();
        let at = |quantile: Quantile| {
            let value = quantile_of_sorted(&values, quantile);
            value.filter(|_| n >= needed_samples(quantile, 0))
        };
        Sizes {
            n,
            mean: (n > 0).then(|| rounded(sum / count_to_f64(n), 3)),
            p50: at(P50),
            p95: at(P95),
            p99: at(P99),
            max: values.last().copied(),
        }
    }
}
