//! Intervals for percentiles of samples that hang together.
//!
//! Latencies inside one outage are one cluster: resampling single requests would count each of
//! them as independent evidence and give intervals that are far too narrow. The moving-block
//! bootstrap (Künsch 1989) resamples runs of consecutive requests instead, each longer than an
//! outage, and the interval is that of Efron's percentile method.

use hexloop_traces::rng;
use rand_chacha::ChaCha12Rng;
use rand_core::Rng;

use super::percentile::{Quantile, quantile_of_sorted, sort_unended_last};

/// How intervals are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bootstrap {
    /// The seed of the resampling.
    pub seed: u64,
    /// Length of a block in consecutive requests; see [`requests_per_block`].
    pub block_requests: usize,
    /// Number of resamples; [`Bootstrap::RESAMPLES`] unless there is a reason.
    pub resamples: usize,
}

/// Lower and upper end; an end that lies among requests that never ended is `None`.
type Ends<T> = (Option<T>, Option<T>);

impl Bootstrap {
    /// Enough for the ends of a 95 % interval to be steady.
    pub const RESAMPLES: usize = 2000;

    /// The 95 % interval of each quantile of samples in order of time. `None` throughout when
    /// they are fewer than two blocks.
    #[must_use]
    pub fn intervals<T: Copy + Ord>(
        &self,
        samples: &[Option<T>],
        quantiles: &[Quantile],
    ) -> Vec<Option<Ends<T>>> {
        let block = self.block_requests.max(1);
        if samples.len() < 2 * block || self.resamples == 0 {
            return vec![None; quantiles.len()];
        }
        let mut random = rng::stream(self.seed, "bootstrap");
        let mut values = vec![Vec::with_capacity(self.resamples); quantiles.len()];
        let mut resample = Vec::with_capacity(samples.len() + block);
        for _ in 0..self.resamples {
            resample.clear();
            while resample.len() < samples.len() {
                let start = below(&mut random, samples.len() - block + 1);
                resample.extend_from_slice(&samples[start..start + block]);
            }
            resample.truncate(samples.len());
            sort_unended_last(&mut resample);
            for (values, quantile) in values.iter_mut().zip(quantiles) {
                values.push(quantile_of_sorted(&resample, *quantile).flatten());
            }
        }
        values
            .into_iter()
            .map(|values| Some(ends(values)))
            .collect()
    }
}

fn ends<T: Copy + Ord>(mut values: Vec<Option<T>>) -> Ends<T> {
    sort_unended_last(&mut values);
    let at = |per_mille| {
        let quantile = Quantile::from_per_mille(per_mille)?;
        quantile_of_sorted(&values, quantile).flatten()
    };
    (at(25), at(975))
}

/// A uniform index below `count`, by Lemire's multiplication (its bias is below `count / 2^64`).
pub fn below(random: &mut ChaCha12Rng, count: usize) -> usize {
    let product = u128::from(random.next_u64()) * count as u128;
    usize::try_from(product >> 64).unwrap_or(0)
}

/// How many requests make a block longer than `longer_than_ns`: one more than were ever due
/// within such a span. `due_ns` is in order.
#[must_use]
pub fn requests_per_block(due_ns: &[u64], longer_than_ns: u64) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (index, due) in due_ns.iter().enumerate() {
        while due - due_ns[first] > longer_than_ns {
            first += 1;
        }
        most = most.max(index - first + 1);
    }
    most + 1
}

#[cfg(test)]
mod tests {
    use super::super::percentile::P50;
    use super::*;

    /// Independent uniform values below 1000.
    fn uniform(count: usize) -> Vec<Option<u64>> {
        let mut random = rng::stream(3, "test samples");
        (0..count)
            .map(|_| u64::try_from(below(&mut random, 1000)).ok())
            .collect()
    }

    fn interval(samples: &[Option<u64>], block_requests: usize) -> Ends<u64> {
        let bootstrap = Bootstrap {
            seed: 5,
            block_requests,
            resamples: Bootstrap::RESAMPLES,
        };
        bootstrap.intervals(samples, &[P50])[0].unwrap()
    }

    #[test]
    fn the_same_seed_gives_the_same_interval() {
        let samples = uniform(200);
        assert_eq!(interval(&samples, 5), interval(&samples, 5));
    }

    #[test]
    fn the_interval_of_a_median_has_the_width_of_theory() {
        // The median of n uniform values has standard error 1 / (2 sqrt(n)): +-1.96 of it.
        let (low, high) = interval(&uniform(400), 1);
        let width = high.unwrap() - low.unwrap();
        assert!((70..130).contains(&width), "{low:?} {high:?}");
    }

    #[test]
    fn clustered_samples_get_wider_intervals_from_blocks_than_from_single_requests() {
        // 20 clusters of 20 equal values: there are 20 independent values, not 400.
        let clusters = uniform(20);
        let samples: Vec<Option<u64>> = clusters.iter().flat_map(|one| [*one; 20]).collect();
        let width = |(low, high): Ends<u64>| high.unwrap() - low.unwrap();
        let (single, block) = (width(interval(&samples, 1)), width(interval(&samples, 20)));
        assert!(block > 2 * single, "{block} {single}");
    }

    #[test]
    fn fewer_samples_than_two_blocks_have_no_interval() {
        let bootstrap = Bootstrap {
            seed: 5,
            block_requests: 10,
            resamples: 100,
        };
        assert_eq!(bootstrap.intervals(&uniform(19), &[P50]), [None]);
        assert!(bootstrap.intervals(&uniform(20), &[P50])[0].is_some());
    }

    #[test]
    fn an_interval_that_reaches_requests_that_never_ended_has_no_upper_end() {
        let mut samples = uniform(100);
        samples[..49].fill(None);
        let (low, high) = interval(&samples, 5);
        assert!(low.is_some());
        assert_eq!(high, None);
    }

    #[test]
    fn a_block_is_longer_than_the_span_wherever_requests_are_densest() {
        assert_eq!(requests_per_block(&[0, 10, 11, 12, 30], 2), 4);
        assert_eq!(requests_per_block(&[0, 10, 20], 0), 2);
        assert_eq!(requests_per_block(&[], 5), 1);
    }
}
