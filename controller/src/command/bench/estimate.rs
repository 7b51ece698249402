//! From values as they were seen to a number with its interval.

use hexloop_agent::bench::Seen;

use hexloop_statistics::{Quantile, interval_over_blocks, needed_samples, quantile_of_sorted};

/// Resamples of an interval.
const RESAMPLES: usize = 500;

/// Blocks that values in order of time are cut into.
const BLOCKS: usize = 20;

/// Values that an interval is computed from at most: of more, one of every so many is taken.
const MOST_VALUES: usize = 4000;

/// A number, with its 95 % interval where the values carry one.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Estimate {
    /// `None` where the values are too few for it.
    pub(super) value: Option<f64>,
    pub(super) interval: Option<(f64, f64)>,
    /// Values that it comes from; of two paths, those of the path with fewer.
    pub(super) count: usize,
}

/// The number and its interval. The same values and seed give the same.
pub(super) fn estimate(seen: &Seen, seed: u64) -> Estimate {
    match seen {
        Seen::Value(value) => Estimate {
            value: Some(*value),
            interval: None,
            count: 1,
        },
        Seen::Mean(values) => {
            let blocks = blocks(values, values.len());
            let statistic = |blocks: &[&Vec<f64>]| mean(blocks.iter().copied().flatten().copied());
            Estimate {
                value: mean(values.iter().copied()),
                interval: interval_over_blocks(&blocks, seed, RESAMPLES, statistic),
                count: values.len(),
            }
        }
        Seen::Quantile { per_mille, values } => of_quantile(*per_mille, values, seed),
        Seen::Difference { per_mille, blocks } => of_difference(*per_mille, blocks, seed),
        Seen::Ratio(blocks) => Estimate {
            value: ratio(blocks),
            interval: interval_over_blocks(blocks, seed, RESAMPLES, |blocks| {
                ratio(blocks.iter().copied())
            }),
            count: blocks.len(),
        },
    }
}

fn of_quantile(per_mille: u16, values: &[f64], seed: u64) -> Estimate {
    let Some(quantile) = stated(per_mille, values.len()) else {
        return Estimate {
            count: values.len(),
            ..Estimate::default()
        };
    };
    let blocks = blocks(values, MOST_VALUES);
    let statistic = |blocks: &[&Vec<f64>]| {
        at(
            quantile,
            blocks.iter().copied().flatten().copied().collect(),
        )
    };
    Estimate {
        value: at(quantile, values.to_vec()),
        interval: interval_over_blocks(&blocks, seed, RESAMPLES, statistic),
        count: values.len(),
    }
}

fn of_difference(per_mille: u16, blocks: &[[Vec<f64>; 2]], seed: u64) -> Estimate {
    let all = |path: usize| -> Vec<f64> {
        let values = blocks.iter().flat_map(|block| &block[path]);
        values.copied().collect()
    };
    let count = all(0).len().min(all(1).len());
    let Some(quantile) = stated(per_mille, count) else {
        return Estimate {
            count,
            ..Estimate::default()
        };
    };
    let difference = |blocks: &[&[Vec<f64>; 2]]| {
        let path = |path: usize| {
            let values = blocks.iter().flat_map(|block| &block[path]);
            at(quantile, values.copied().collect())
        };
        Some(path(1)? - path(0)?)
    };
    let step = (2 * count).div_ceil(MOST_VALUES).max(1);
    let thinned: Vec<[Vec<f64>; 2]> = blocks
        .iter()
        .map(|block| block.each_ref().map(|values| thinned(values, step)))
        .collect();
    Estimate {
        value: difference(&blocks.iter().collect::<Vec<_>>()),
        interval: interval_over_blocks(&thinned, seed, RESAMPLES, difference),
        count,
    }
}

/// The quantile, if so many values carry it.
fn stated(per_mille: u16, count: usize) -> Option<Quantile> {
    let quantile = Quantile::from_per_mille(per_mille)?;
    let needed = usize::try_from(needed_samples(quantile, 0)).unwrap_or(usize::MAX);
    (count >= needed).then_some(quantile)
}

fn at(quantile: Quantile, mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    quantile_of_sorted(&values, quantile)
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0_usize);
    for value in values {
        sum += value;
        count += 1;
    }
    (count > 0).then(|| sum / count as f64)
}

fn ratio<'a>(blocks: impl IntoIterator<Item = &'a [f64; 2]>) -> Option<f64> {
    let (mut above, mut below) = (0.0, 0.0);
    for block in blocks {
        above += block[0];
        below += block[1];
    }
    (below > 0.0).then(|| above / below)
}

/// Cuts values in order of time into blocks, thinned to at most so many in all.
fn blocks(values: &[f64], most: usize) -> Vec<Vec<f64>> {
    let length = values.len().div_ceil(BLOCKS).max(1);
    let step = values.len().div_ceil(most.max(1)).max(1);
    let thin = |block: &[f64]| thinned(block, step);
    values.chunks(length).map(thin).collect()
}

/// One of every `step` values, each time at another place: values along a trace that repeats have a
/// period, and every so-manieth of them may always be of the same part of it. The places are those of
/// Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3, section 6.4).
fn thinned(values: &[f64], step: usize) -> Vec<f64> {
    let one_of = |(number, chunk): (u32, &[f64])| {
        let place = usize::try_from(number.wrapping_mul(0x9e37_79b9)).unwrap_or(0);
        // The leading bits of the product, as a share of the chunk.
        chunk.get(((place >> 16) * chunk.len()) >> 16).copied()
    };
    (0..).zip(values.chunks(step)).filter_map(one_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: Option<f64>, expected: f64) -> bool {
        found.is_some_and(|found| (found - expected).abs() < 1e-9)
    }

    fn counting(count: u32) -> Vec<f64> {
        (1..=count).map(f64::from).collect()
    }

    #[test]
    fn a_mean_lies_in_its_interval_and_a_lone_stall_widens_it() {
        let calm = estimate(&Seen::Mean(vec![1.0; 1000]), 1);
        assert!(close(calm.value, 1.0));
        assert_eq!(calm.interval, Some((1.0, 1.0)));
        let mut values = vec![0.0; 1000];
        values[500..510].fill(100.0);
        let stalled = estimate(&Seen::Mean(values), 1);
        assert!(close(stalled.value, 1.0));
        let (low, high) = stalled.interval.unwrap();
        assert!(low < 0.5 && high > 2.0, "{low} {high}");
    }

    #[test]
    fn a_percentile_is_stated_only_from_enough_values() {
        let p99 = |count| {
            let values = counting(count);
            let seen = Seen::Quantile {
                per_mille: 990,
                values,
            };
            estimate(&seen, 1)
        };
        assert_eq!(p99(458).value, None);
        assert_eq!(p99(458).count, 458);
        assert!(close(p99(1000).value, 990.0));
        assert!(p99(1000).interval.is_some());
    }

    #[test]
    fn the_difference_of_two_paths_is_that_of_their_quantiles() {
        let block = |shift: f64| {
            let bare = counting(100);
            let shaped = bare.iter().map(|value| value + shift).collect();
            [bare, shaped]
        };
        let seen = Seen::Difference {
            per_mille: 500,
            blocks: vec![block(7.0); 10],
        };
        let found = estimate(&seen, 1);
        assert!(close(found.value, 7.0), "{found:?}");
        let (low, high) = found.interval.unwrap();
        assert!((low - 7.0).abs() < 1.0 && (high - 7.0).abs() < 1.0);
        assert_eq!(found.count, 1000);
    }

    #[test]
    fn a_ratio_is_that_of_the_sums_and_nothing_over_nothing_is_no_number() {
        let blocks = vec![[1.0, 1.0], [9.0, 3.0]];
        let found = estimate(&Seen::Ratio(blocks), 1);
        assert!(close(found.value, 2.5));
        assert_eq!(found.interval, None);
        assert_eq!(estimate(&Seen::Ratio(vec![[0.0, 0.0]]), 1).value, None);
        assert_eq!(estimate(&Seen::Mean(Vec::new()), 1).value, None);
    }

    #[test]
    fn the_interval_of_values_that_repeat_is_of_all_of_their_period() {
        // One of five is large. 40000 values are thinned to 4000, so that every tenth always was.
        let values: Vec<f64> = (0..40_000_u32)
            .map(|number| if number.is_multiple_of(5) { 100.0 } else { 1.0 })
            .collect();
        let per_mille = 500;
        let quantile = Seen::Quantile {
            per_mille,
            values: values.clone(),
        };
        assert_eq!(estimate(&quantile, 1).interval, Some((1.0, 1.0)));
        let block = [vec![0.0; values.len()], values];
        let difference = Seen::Difference {
            per_mille,
            blocks: vec![block; 10],
        };
        assert_eq!(estimate(&difference, 1).interval, Some((1.0, 1.0)));
    }

    #[test]
    fn few_values_are_all_taken() {
        assert_eq!(thinned(&counting(7), 1), counting(7));
        let thin = thinned(&counting(7), 3);
        assert!(
            thin[0] <= 3.0 && thin[1] > 3.0 && thin[1] <= 6.0,
            "{thin:?}"
        );
        assert!(close(thin.get(2).copied(), 7.0), "{thin:?}");
    }
}
