//! Drawing tokens: distributions, counted randomness, and the rule by which drafts are accepted so that
//! what comes out is distributed as the large model alone would have it.

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// What a draw is for: draws for different things at one position are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A drafted token.
    Draft,
    /// Whether a drafted token is accepted.
    Accept,
    /// A token of the large model's own.
    Own,
}

impl Purpose {
    const fn stream(self) -> u64 {
        match self {
            Purpose::Draft => 1,
            Purpose::Accept => 2,
            Purpose::Own => 3,
        }
    }
}

/// Randomness by number: the draw for a purpose at a position depends on nothing else than the seed,
/// whatever was drawn before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chance {
    seed: u64,
}

impl Chance {
    /// All draws of one request.
    #[must_use]
    pub const fn new(seed: u64) -> Chance {
        Chance { seed }
    }

    /// A uniform number of [0, 1).
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64 exactly")]
    pub fn unit(self, purpose: Purpose, position: u32) -> f64 {
        let mut random = ChaCha12Rng::seed_from_u64(self.seed);
        random.set_stream(purpose.stream());
        random.set_word_pos(u128::from(position) * 2);
        (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Probabilities of all tokens of a vocabulary, or weights in proportion to them.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    weights: Vec<f32>,
    total: f64,
}

impl Distribution {
    /// The distribution of some weights. `None` if one is negative or no number, or all are zero.
    #[must_use]
    pub fn of_weights(weights: Vec<f32>) -> Option<Distribution> {
        let sound = |weight: &f32| weight.is_finite() && *weight >= 0.0;
        let all_sound = weights.iter().all(sound);
        let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        (all_sound && total > 0.0).then_some(Distribution { weights, total })
    }

    /// The softmax of scores, at temperature 1. `None` if they are no numbers.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "probabilities are kept as f32"
    )]
    pub fn of_scores(scores: &[f32]) -> Option<Distribution> {
        let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if scores.iter().any(|score| score.is_nan()) || !most.is_finite() {
            return None;
        }
        let raised = scores
            .iter()
            .map(|score| libm::exp(f64::from(*score) - f64::from(most)));
        let raised: Vec<f64> = raised.collect();
        let sum: f64 = raised.iter().sum();
        let weights = raised.iter().map(|value| (value / sum) as f32).collect();
        Distribution::of_weights(weights)
    }

    /// The most probable tokens alone, in proportion as before; of equals, the lowest ids.
    #[must_use]
    pub fn top(&self, tokens: u32) -> Distribution {
        let mut weights = vec![0.0; self.weights.len()];
        for index in self.most_probable(tokens) {
            if let (Some(new), Some(old)) = (weights.get_mut(index), self.weights.get(index)) {
                *new = *old;
            }
        }
        Distribution::of_weights(weights).unwrap_or_else(|| self.clone())
    }

    /// The indices of the most probable tokens, of equals the lowest, in ascending order.
    #[must_use]
    pub fn most_probable(&self, tokens: u32) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.weights.len()).collect();
        let weight = |index: &usize| self.weights.get(*index).copied().unwrap_or(0.0);
        order.sort_by(|one, other| weight(other).total_cmp(&weight(one)));
        order.truncate(usize::try_from(tokens).unwrap_or(usize::MAX));
        order.sort_unstable();
        order
    }

    /// The weights.
    #[must_use]
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The probability of a token; 0 of one that is not of the vocabulary.
    #[must_use]
    pub fn probability(&self, token: u32) -> f64 {
        let index = usize::try_from(token).unwrap_or(usize::MAX);
        let weight = self.weights.get(index).copied().unwrap_or(0.0);
        f64::from(weight) / self.total
    }

    fn probabilities(&self) -> impl Iterator<Item = f64> + '_ {
        let total = self.total;
        let weights = self.weights.iter();
        weights.map(move |weight| f64::from(*weight) / total)
    }

    /// The token that a uniform number of [0, 1) stands for.
    #[must_use]
    pub fn draw(&self, unit: f64) -> u32 {
        let weights = self.weights.iter().map(|weight| f64::from(*weight));
        pick(weights, unit * self.total)
    }

    /// The sum of the smaller of both probabilities of each token: how likely a token drawn from one is
    /// accepted as one of the other.
    #[must_use]
    pub fn overlap(&self, other: &Distribution) -> f64 {
        let pairs = self.probabilities().zip(other.probabilities());
        pairs.map(|(one, other)| one.min(other)).sum()
    }

    /// A token from the positive part of this less another; from this where nothing is left of it.
    #[must_use]
    pub fn draw_beyond(&self, other: &Distribution, unit: f64) -> u32 {
        let left = || {
            let pairs = self.probabilities().zip(other.probabilities());
            pairs.map(|(mine, theirs)| (mine - theirs).max(0.0))
        };
        let total: f64 = left().sum();
        if total > 0.0 {
            pick(left(), unit * total)
        } else {
            self.draw(unit)
        }
    }
}

/// The first index whose running sum exceeds `at`; where rounding keeps all below, the last index with
/// any weight.
fn pick(weights: impl Iterator<Item = f64>, at: f64) -> u32 {
    let (mut sum, mut last) = (0.0, 0);
    for (index, weight) in (0_u32..).zip(weights) {
        if weight <= 0.0 {
            continue;
        }
        sum += weight;
        last = index;
        if at < sum {
            break;
        }
    }
    last
}

/// What becomes of a draft: how many of its first tokens are accepted, and the token after them. `None`
/// unless there is one distribution more than drafts.
///
/// `own` are the large model's distributions in front of each drafted token and behind the last,
/// `drafted` the tokens with the distributions that they were really drawn from, the first of which
/// stands at `position`.
///
/// The token that follows a rejected one is drawn from the positive part of `own` less the draft's,
/// which makes the result's distribution `own` exactly (Leviathan et al. 2023, appendix A.1).
#[must_use]
pub fn verify(
    own: &[Distribution],
    drafted: &[(u32, Distribution)],
    (chance, position): (Chance, u32),
) -> Option<(u32, u32)> {
    let (last, before) = own.split_last()?;
    if before.len() != drafted.len() {
        return None;
    }
    let mut at = position;
    for (own, (token, from)) in before.iter().zip(drafted) {
        let (p, q) = (own.probability(*token), from.probability(*token));
        // Accepted with probability p / q, without the quotient: q may be zero.
        if chance.unit(Purpose::Accept, at) * q >= p {
            let next = own.draw_beyond(from, chance.unit(Purpose::Own, at));
            return Some((at - position, next));
        }
        at += 1;
    }
    Some((at - position, last.draw(chance.unit(Purpose::Own, at))))
}

#[cfg(test)]
mod tests;
