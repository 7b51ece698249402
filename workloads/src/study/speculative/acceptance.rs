//! What a probability of acceptance predicts, and how far acceptances depend on each other.

use super::RoundRecord;

/// Tokens that a round of so many drafts brings if each is accepted with probability `a`, whatever
/// happened to those before: `(1 - a^(g+1)) / (1 - a)` (Leviathan et al. 2023, equation 1).
#[must_use]
pub fn tokens_per_round(a: f64, drafted: u32) -> f64 {
    // The sum of a^0 to a^g is the same, and has no gap at a = 1.
    let (mut sum, mut power) = (0.0, 1.0);
    for _ in 0..=drafted {
        sum += power;
        power *= a;
    }
    sum
}

/// The correlation of neighbouring values within each sequence. `None` without two pairs, or where
/// nothing varies.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of tokens are far below 2^53"
)]
pub fn lag_one_correlation(sequences: &[Vec<f64>]) -> Option<f64> {
    let windows = sequences.iter().flat_map(|values| values.windows(2));
    let pairs = windows.filter_map(|pair| Some((*pair.first()?, *pair.last()?)));
    let pairs: Vec<(f64, f64)> = pairs.collect();
    let count = pairs.len() as f64;
    let first = pairs.iter().map(|(one, _)| one).sum::<f64>() / count;
    let second = pairs.iter().map(|(_, other)| other).sum::<f64>() / count;
    let (mut together, mut of_first, mut of_second) = (0.0, 0.0, 0.0);
    for (one, other) in &pairs {
        let (one, other) = (one - first, other - second);
        together += one * other;
        of_first += one * one;
        of_second += other * other;
    }
    let scale = libm::sqrt(of_first * of_second);
    (pairs.len() > 1 && scale > 0.0).then(|| together / scale)
}

/// Rounds that drafted so many, and the tokens that they brought.
#[must_use]
pub fn full_rounds<'a>(
    rounds: impl IntoIterator<Item = &'a RoundRecord>,
    drafted: u32,
) -> (u64, u64) {
    let rounds = rounds.into_iter();
    let full = rounds.filter(|round| round.drafted == drafted);
    full.fold((0, 0), |(rounds, tokens), round| {
        (rounds + 1, tokens + u64::from(round.accepted) + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_brings_the_sum_of_the_powers() {
        assert!((tokens_per_round(0.5, 3) - 1.875).abs() < 1e-12);
        assert!((tokens_per_round(1.0, 3) - 4.0).abs() < 1e-12);
        assert!((tokens_per_round(0.0, 3) - 1.0).abs() < 1e-12);
        let a = 0.8_f64;
        let closed = (1.0 - a.powi(6)) / (1.0 - a);
        assert!((tokens_per_round(a, 5) - closed).abs() < 1e-12);
    }

    #[test]
    fn neighbours_that_are_alike_correlate_and_alternating_ones_do_not() {
        let alike = lag_one_correlation(&[vec![0.0, 0.0, 0.0, 1.0, 1.0, 1.0]]).unwrap();
        let alternating = lag_one_correlation(&[vec![0.0, 1.0, 0.0, 1.0]]).unwrap();
        assert!(alike > 0.5 && alternating < -0.9, "{alike} {alternating}");
        assert_eq!(lag_one_correlation(&[vec![0.5]]), None);
        assert_eq!(lag_one_correlation(&[vec![0.5, 0.5, 0.5]]), None);
    }

    #[test]
    fn rounds_that_were_cut_short_do_not_count() {
        let rounds = [(3, 1), (3, 3), (2, 2)];
        let rounds = rounds.map(|(drafted, accepted)| RoundRecord { drafted, accepted });
        assert_eq!(full_rounds(&rounds, 3), (2, 6));
    }
}
