//! What a judgement rests on.

use std::fmt::{self, Display};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::format::count_to_f64;

/// How much a claim, or a part of one, was judged by, and the smallest effect that so much shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// The part of the claim, such as one arm or one round trip; null where it has but one.
    pub part: Option<String>,
    /// How many cases were judged.
    pub sample_size: u64,
    /// What a case is, in the plural.
    pub sample_of: String,
    /// What would have been found in so many cases, had it been there: a noun phrase.
    pub smallest_effect: String,
}

impl Evidence {
    pub(super) fn new(
        sample_size: u64,
        sample_of: &str,
        smallest_effect: impl Into<String>,
    ) -> Evidence {
        Evidence {
            part: None,
            sample_size,
            sample_of: sample_of.to_owned(),
            smallest_effect: smallest_effect.into(),
        }
    }

    /// Of counts that have to be equal in every case: `one` of what is counted.
    pub(super) fn equality(sample_size: u64, sample_of: &str, one: &str) -> Evidence {
        let share = share_of_deviations(sample_size) * 100.0;
        let effect =
            format!("{one} in one of them, and at 95 % deviations in {share:.2} % of all such,");
        Evidence::new(sample_size, sample_of, effect)
    }

    /// Of a ratio that has an interval: half of its width.
    pub(super) fn ratio(sample_size: u64, sample_of: &str, interval: [f64; 3]) -> Evidence {
        let effect = format!("a deviation of {:.1} %", half_width(interval) * 100.0);
        Evidence::new(sample_size, sample_of, effect)
    }

    /// The same as evidence of a part of a claim.
    pub(super) fn within(self, part: &str) -> Evidence {
        let part = match self.part {
            Some(inner) => format!("{part}, {inner}"),
            None => part.to_owned(),
        };
        Evidence {
            part: Some(part),
            ..self
        }
    }
}

impl Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Evidence {
            sample_size,
            sample_of,
            smallest_effect,
            ..
        } = self;
        write!(f, "{sample_size} {sample_of}; {smallest_effect} would show")
    }
}

/// Half of the width of an interval that follows its value.
pub(super) fn half_width([_, low, high]: [f64; 3]) -> f64 {
    (high - low) / 2.0
}

/// The share of deviating cases at which so many cases hold at least one in nineteen of twenty runs: the largest `q` with
/// `(1-q)^n > 0.05`, for many cases the rule of three's `3/n`.
fn share_of_deviations(cases: u64) -> f64 {
    1.0 - 0.05_f64.powf(1.0 / count_to_f64(cases.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_deviations_is_that_of_the_rule_of_three() {
        for (cases, share) in [(1, 0.95), (3, 0.632), (300, 0.009_94), (30_000, 0.000_1)] {
            let found = share_of_deviations(cases);
            assert!((found - share).abs() < 1e-3 * share.max(0.01), "{found}");
        }
        let evidence = Evidence::equality(300, "trials", "one byte");
        assert_eq!(
            evidence.to_string(),
            "300 trials; one byte in one of them, and at 95 % deviations in 0.99 % of all such, would show"
        );
    }

    #[test]
    fn parts_of_parts_are_named_from_the_outside_in() {
        let evidence = Evidence::ratio(12, "pairs", [1.0, 0.98, 1.04]);
        assert_eq!(
            evidence.to_string(),
            "12 pairs; a deviation of 3.0 % would show"
        );
        let part = evidence.within("rate").within("device").part;
        assert_eq!(part.as_deref(), Some("device, rate"));
    }
}
