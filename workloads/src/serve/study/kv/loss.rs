//! What a coding of keys and values does to how a text goes on.

use crate::coding::kv::KvCoding;
use crate::study::kv::LossRecord;

/// Compares scores with those that raw keys and values lead to, over the tokens of a text, each of which
/// they are the scores of. `None` where scores are no numbers, or are not of every token.
pub(super) fn compare(
    (coding, prompt): (KvCoding, u32),
    (exact, coded): (&[Vec<f32>], &[Vec<f32>]),
    text: &[u32],
) -> Option<LossRecord> {
    if exact.len() != text.len() || coded.len() != text.len() {
        return None;
    }
    let mut record = LossRecord {
        coding,
        prompt,
        tokens: u32::try_from(text.len()).ok()?,
        surprise_nano: 0,
        divergence_nano: 0,
        same_choice: 0,
        largest_delta_micro: 0,
    };
    let (mut surprise, mut divergence, mut largest) = (0.0, 0.0, 0.0_f64);
    for ((exact, coded), token) in exact.iter().zip(coded).zip(text) {
        let (exact_logs, coded_logs) = (logarithms(exact)?, logarithms(coded)?);
        surprise -= coded_logs.get(usize::try_from(*token).ok()?)?;
        let pairs = exact_logs.iter().zip(&coded_logs);
        divergence += pairs
            .map(|(p, q)| libm::exp(*p) * (p - q))
            .sum::<f64>()
            .max(0.0);
        let deltas = exact.iter().zip(coded);
        let deltas = deltas.map(|(one, other)| (f64::from(*one) - f64::from(*other)).abs());
        largest = largest.max(deltas.fold(0.0, f64::max));
        record.same_choice += u32::from(choice(&exact_logs) == choice(&coded_logs));
    }
    record.surprise_nano = whole(surprise * 1e9);
    record.divergence_nano = whole(divergence * 1e9);
    record.largest_delta_micro = whole(largest * 1e6);
    Some(record)
}

/// The logarithms of the softmax of some scores.
fn logarithms(scores: &[f32]) -> Option<Vec<f64>> {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if scores.iter().any(|score| score.is_nan()) || !most.is_finite() {
        return None;
    }
    let above = |score: &f32| f64::from(*score) - f64::from(most);
    let sum: f64 = scores.iter().map(|score| libm::exp(above(score))).sum();
    let log = libm::log(sum);
    Some(scores.iter().map(|score| above(score) - log).collect())
}

fn choice(logarithms: &[f64]) -> Option<usize> {
    let places = logarithms.iter().enumerate();
    let best = places.max_by(|one, other| one.1.total_cmp(other.1));
    best.map(|(place, _)| place)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturating, and never negative"
)]
fn whole(value: f64) -> u64 {
    libm::round(value.max(0.0)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_scores_lose_nothing_and_others_what_the_formulas_say() {
        let of = |scores: &[f32]| vec![scores.to_vec()];
        let exact = of(&[0.0, libm::logf(3.0)]);
        let same = compare((KvCoding::F32, 0), (&exact, &exact), &[1]).unwrap();
        // -ln(3/4) = 0.287682072
        assert!(same.surprise_nano.abs_diff(287_682_072) < 100);
        assert_eq!(same.divergence_nano, 0);
        assert_eq!((same.same_choice, same.largest_delta_micro), (1, 0));
        let even = of(&[0.0, 0.0]);
        let other = compare((KvCoding::Int4, 0), (&exact, &even), &[1]).unwrap();
        // KL((1/4, 3/4) || (1/2, 1/2)) = ln 2 + 1/4 ln 1/4 + 3/4 ln 3/4 = 0.130812035
        assert_eq!(other.surprise_nano, 693_147_181);
        assert!(other.divergence_nano.abs_diff(130_812_035) < 100);
        assert_eq!(other.largest_delta_micro, 1_098_612);
        assert!(compare((KvCoding::Int4, 0), (&exact, &of(&[f32::NAN, 0.0])), &[1]).is_none());
        assert!(compare((KvCoding::Int4, 0), (&exact, &even), &[1, 0]).is_none());
    }
}
