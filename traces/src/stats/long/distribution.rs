//! Values with their weights, in bounded memory.

use std::collections::BTreeMap;

use super::Quantiles;

/// So many different values are kept as they are.
const MOST_EXACT: usize = 100_000;

/// Values that do not fit any more are kept in classes of this many leading binary digits, which
/// are less than 0.1 % wide.
const DIGITS: u32 = 11;

/// A weighted distribution of whole numbers. It is exact up to 100000 different values; then they
/// are kept in classes that are less than 0.1 % wide, and are told by the lower end of theirs.
#[derive(Debug, Clone, Default)]
pub struct Distribution {
    weights: BTreeMap<u64, u64>,
    total: u64,
    coarse: bool,
    largest: u64,
    smallest: Option<u64>,
}

/// The lower end of a value's class.
const fn class(value: u64) -> u64 {
    let digits = u64::BITS - value.leading_zeros();
    if digits <= DIGITS {
        value
    } else {
        let drop = digits - DIGITS;
        value >> drop << drop
    }
}

impl Distribution {
    /// Of nothing.
    #[must_use]
    pub fn new() -> Distribution {
        Distribution::default()
    }

    /// Adds a value.
    pub fn add(&mut self, value: u64, weight: u64) {
        let key = if self.coarse { class(value) } else { value };
        *self.weights.entry(key).or_default() += weight;
        self.total += weight;
        self.largest = self.largest.max(value);
        self.smallest = Some(self.smallest.map_or(value, |smallest| smallest.min(value)));
        if !self.coarse && self.weights.len() > MOST_EXACT {
            self.coarse = true;
            let fine = std::mem::take(&mut self.weights);
            for (value, weight) in fine {
                *self.weights.entry(class(value)).or_default() += weight;
            }
        }
    }

    /// Whether nothing was added.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.smallest.is_none()
    }

    /// All weights together.
    #[must_use]
    pub const fn weight(&self) -> u64 {
        self.total
    }

    /// The weight of one value, or of its class.
    #[must_use]
    pub fn weight_of(&self, value: u64) -> u64 {
        self.weights.get(&value).copied().unwrap_or(0)
    }

    /// The smallest value that `ppm` / 10^6 of the weight is at or below; 0 of nothing.
    #[must_use]
    pub fn at(&self, ppm: u32) -> u64 {
        if ppm == 0 {
            return self.smallest.unwrap_or(0);
        }
        if ppm >= 1_000_000 {
            return self.largest;
        }
        let wanted = u128::from(self.total) * u128::from(ppm);
        let mut reached = 0_u128;
        for (&value, &weight) in &self.weights {
            reached += u128::from(weight) * 1_000_000;
            if reached >= wanted {
                return value;
            }
        }
        self.largest
    }

    pub(super) fn quantiles(&self) -> Quantiles {
        Quantiles {
            min: self.at(0),
            p5: self.at(50_000),
            p50: self.at(500_000),
            p95: self.at(950_000),
            p99: self.at(990_000),
            max: self.at(1_000_000),
            exact: !self.coarse,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(super) fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles_are_weighted_and_exact_for_few_values() {
        let mut distribution = Distribution::new();
        for (value, weight) in [(10, 4), (20, 1), (30, 95)] {
            distribution.add(value, weight);
        }
        let quantiles = distribution.quantiles();
        assert_eq!(
            (quantiles.min, quantiles.p5, quantiles.p50, quantiles.max),
            (10, 20, 30, 30)
        );
        assert!(quantiles.exact);
        assert_eq!(Distribution::new().at(500_000), 0);
    }

    proptest! {
        #[test]
        fn a_class_is_less_than_a_thousandth_wide(value: u64) {
            let low = class(value);
            prop_assert!(low <= value && value - low <= value / 1000);
        }
    }

    #[test]
    fn many_values_are_kept_in_classes_and_the_ends_stay_exact() {
        let mut distribution = Distribution::new();
        for value in 0..300_000_u64 {
            distribution.add(1_000_003 + value * 7, 1);
        }
        let quantiles = distribution.quantiles();
        assert!(!quantiles.exact && distribution.weights.len() < 5000);
        assert_eq!(
            (quantiles.min, quantiles.max),
            (1_000_003, 1_000_003 + 299_999 * 7)
        );
        let exact = 1_000_003 + 149_999 * 7;
        assert!(quantiles.p50 <= exact && exact - quantiles.p50 < exact / 1000);
    }
}
