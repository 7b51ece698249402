//! Percentiles of a latency as the summary states them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::format::{count_to_f64, length, ns_to_ms, rounded};
use hexloop_statistics::{Bootstrap, Estimate, Percentiles};

/// One latency with the moment that places it in time (an offset from T0); no latency for a
/// request that never ended.
pub(super) type Sample = (u64, Option<u64>);

/// Percentiles in milliseconds. A request that never ended counts as longer than all that did.
/// A percentile that the number of requests cannot carry is null: p50 needs 7, p95 needs 90,
/// p99 needs 459 (MLPerf's early stopping at 99 % confidence).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Distribution {
    /// Number of requests (of gaps for `itl_ms`), those included that never ended.
    pub n: u64,
    /// How many of them ended and have a value.
    pub measured: u64,
    /// Arithmetic mean of the values.
    pub mean: Option<f64>,
    /// Smallest value.
    pub min: Option<f64>,
    /// Median.
    pub p50: Option<f64>,
    /// 95 % interval of the median.
    pub p50_interval: Option<PercentileInterval>,
    /// 95th percentile.
    pub p95: Option<f64>,
    /// Its 95 % interval.
    pub p95_interval: Option<PercentileInterval>,
    /// 99th percentile.
    pub p99: Option<f64>,
    /// Its 95 % interval.
    pub p99_interval: Option<PercentileInterval>,
    /// Largest value.
    pub max: Option<f64>,
}

/// A 95 % interval by block bootstrap, the block longer than an outage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PercentileInterval {
    /// Lower end.
    pub low: f64,
    /// Upper end; null when it lies among requests that never ended.
    pub high: Option<f64>,
}

fn interval(estimate: &Estimate<u64>) -> Option<PercentileInterval> {
    let low = ns_to_ms(estimate.low?);
    Some(PercentileInterval {
        low,
        high: estimate.high.map(ns_to_ms),
    })
}

impl Distribution {
    /// The distribution of samples in order of time.
    pub(super) fn of(samples: &[Sample], longest_outage_ns: u64, seed: u64) -> Distribution {
        let moments: Vec<u64> = samples.iter().map(|(at_ns, _)| *at_ns).collect();
        let values: Vec<Option<u64>> = samples.iter().map(|(_, value)| *value).collect();
        let bootstrap = Bootstrap {
            seed,
            block_requests: hexloop_statistics::requests_per_block(&moments, longest_outage_ns),
            resamples: Bootstrap::RESAMPLES,
        };
        let percentiles = Percentiles::of(&values, &bootstrap);
        let ended: Vec<u64> = values.into_iter().flatten().collect();
        let measured = length(&ended);
        let sum_ms: f64 = ended.iter().map(|value| ns_to_ms(*value)).sum();
        let ms = |estimate: &Option<Estimate<u64>>| estimate.map(|found| ns_to_ms(found.value));
        let ends = |estimate: &Option<Estimate<u64>>| estimate.as_ref().and_then(interval);
        Distribution {
            n: percentiles.n,
            measured,
            mean: (measured > 0).then(|| rounded(sum_ms / count_to_f64(measured), 6)),
            min: ended.iter().min().copied().map(ns_to_ms),
            p50: ms(&percentiles.p50),
            p50_interval: ends(&percentiles.p50),
            p95: ms(&percentiles.p95),
            p95_interval: ends(&percentiles.p95),
            p99: ms(&percentiles.p99),
            p99_interval: ends(&percentiles.p99),
            max: ended.iter().max().copied().map(ns_to_ms),
        }
    }
}
