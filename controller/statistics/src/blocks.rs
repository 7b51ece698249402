//! Intervals for whatever can be computed from blocks of values.
//!
//! Neighbouring values hang together: one stall makes a whole cluster late. Resampling whole
//! blocks of consecutive values (Carlstein 1986) keeps such clusters together; blocks of two paths
//! that alternated are resampled as pairs, so that what disturbed both cancels in the difference.

use hexloop_traces::rng;

use super::bootstrap::below;

/// Fewest blocks that give an interval.
pub const FEWEST_BLOCKS: usize = 5;

/// The 95 % interval (Efron's percentile method) of a statistic of the blocks; `None` when they are
/// fewer than [`FEWEST_BLOCKS`], or when the statistic has no value for some resample.
#[must_use]
pub fn interval_over_blocks<T>(
    blocks: &[T],
    seed: u64,
    resamples: usize,
    statistic: impl Fn(&[&T]) -> Option<f64>,
) -> Option<(f64, f64)> {
    if blocks.len() < FEWEST_BLOCKS || resamples == 0 {
        return None;
    }
    let mut random = rng::stream(seed, "bootstrap of blocks");
    let mut values = Vec::with_capacity(resamples);
    for _ in 0..resamples {
        let drawn: Vec<&T> = (0..blocks.len())
            .map(|_| &blocks[below(&mut random, blocks.len())])
            .collect();
        values.push(statistic(&drawn)?);
    }
    values.sort_by(f64::total_cmp);
    let at = |per_mille: usize| {
        let rank = (values.len() * per_mille).div_ceil(1000).max(1);
        values.get(rank - 1).copied()
    };
    Some((at(25)?, at(975)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn mean(blocks: &[&f64]) -> Option<f64> {
        Some(blocks.iter().copied().sum::<f64>() / blocks.len() as f64)
    }

    #[test]
    fn the_interval_of_a_mean_has_the_width_of_theory() {
        // 400 values spread evenly over [0, 1): standard error sqrt(1/12/400) = 0.0144.
        let values: Vec<f64> = (0..400).map(|value| f64::from(value) / 400.0).collect();
        let (low, high) = interval_over_blocks(&values, 1, 2000, mean).unwrap();
        let width = high - low;
        assert!((0.045..0.068).contains(&width), "{low} {high}");
        assert!(low < 0.49875 && high > 0.49875);
    }

    #[test]
    fn the_same_seed_gives_the_same_interval_and_too_few_blocks_give_none() {
        let values = [1.0, 5.0, 2.0, 9.0, 4.0];
        let first = interval_over_blocks(&values, 3, 100, mean);
        assert_eq!(first, interval_over_blocks(&values, 3, 100, mean));
        assert!(first.is_some());
        assert_eq!(interval_over_blocks(&values[..4], 3, 100, mean), None);
    }

    #[test]
    fn what_disturbs_both_paths_of_a_pair_cancels_in_their_difference() {
        let pairs: Vec<[f64; 2]> = (0..20)
            .map(|pair| [f64::from(pair * 100), f64::from(pair * 100) + 7.0])
            .collect();
        let difference = |drawn: &[&[f64; 2]]| {
            let sum: f64 = drawn.iter().map(|pair| pair[1] - pair[0]).sum();
            mean(&[&sum]).map(|sum| sum / 20.0)
        };
        let (low, high) = interval_over_blocks(&pairs, 1, 200, difference).unwrap();
        assert!((low - 7.0).abs() < 1e-9 && (high - 7.0).abs() < 1e-9);
    }
}
