//! What scores say: how surprising a text is, which token they name, and how sure of that they are.

/// How surprising the tokens of a text are after those in front of them, all together, in millionths of a nat. `None`
/// where scores are not numbers.
pub(super) fn micronats(tokens: &[u32], scores: &[Vec<f32>]) -> Option<u64> {
    let mut nats = 0.0;
    for (scores, token) in scores.iter().zip(tokens.iter().skip(1)) {
        let index = usize::try_from(*token).ok()?;
        let own = f64::from(*scores.get(index)?);
        let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let highest = f64::from(highest);
        let sum = scores
            .iter()
            .map(|score| libm::exp(f64::from(*score) - highest));
        nats += libm::log(sum.sum::<f64>()) + highest - own;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "what is surprising is not negative, and far below the largest number of nats"
    )]
    (nats.is_finite() && nats >= 0.0).then_some((nats * 1e6) as u64)
}

/// The token with the highest score, the lowest of equals, and how far the next one is below, in millionths of the
/// largest magnitude. `None` where scores are not numbers.
pub(super) fn best(scores: &[f32]) -> Option<(u32, u64)> {
    let (mut first, mut second) = ((0_u32, f32::NEG_INFINITY), f32::NEG_INFINITY);
    let mut magnitude = 0.0_f32;
    for (token, score) in (0..).zip(scores) {
        if !score.is_finite() {
            return None;
        }
        magnitude = magnitude.max(score.abs());
        if *score > first.1 {
            second = first.1;
            first = (token, *score);
        } else {
            second = second.max(*score);
        }
    }
    let gap = f64::from(first.1) - f64::from(second);
    let share = gap / f64::from(magnitude.max(f32::MIN_POSITIVE));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most two million"
    )]
    share.is_finite().then_some((first.0, (share * 1e6) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_choice_of_four_is_worth_the_logarithm_of_four() {
        let scores = vec![vec![1.0; 4]; 3];
        let found = micronats(&[0, 1, 2, 3], &scores).unwrap();
        // 3 ln 4 = 4.158883.
        assert_eq!(found / 10, 415_888);
        assert_eq!(micronats(&[0, 1], &[vec![f32::NAN, 0.0]]), None);
    }

    #[test]
    fn the_lowest_of_equals_is_best_and_nothing_is_between_them() {
        assert_eq!(best(&[1.0, 4.0, 2.0]), Some((1, 500_000)));
        assert_eq!(best(&[1.0, 4.0, 4.0]), Some((1, 0)));
        assert_eq!(best(&[1.0, f32::NAN]), None);
    }
}
