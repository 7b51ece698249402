//! How long something took over the sum of what its parts took: the law of paths and of halves.

use super::{Evidence, Judgement, told, with_numbers, within};
use crate::format::{count_to_f64, length};

/// Judges whether trials took what their parts add up to: `over` is each trial's time over that sum, `ratio` the mean
/// of those with the ends of its 95 % interval, and `compared` says in words what is compared.
pub(super) fn judge_time_over_sum(over: &[f64], ratio: [f64; 3], compared: &str) -> Judgement {
    let detail = format!("{compared}: {} (95 %)", told(ratio));
    let trials = length(over);
    let numbers = [
        ("time_over_sum", ratio[0]),
        ("time_over_sum_low", ratio[1]),
        ("time_over_sum_high", ratio[2]),
        ("trials", count_to_f64(trials)),
    ];
    let evidence = Evidence::ratio(trials, "trials", ratio);
    with_numbers(within(ratio), &numbers, evidence, &detail)
}
