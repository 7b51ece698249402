//! Seeded random numbers for first weights and for the order of the text.

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};

/// A random stream that belongs to one purpose.
pub(crate) struct Noise(ChaCha12Rng);

impl Noise {
    /// The stream that seed and purpose determine.
    pub(crate) fn new(seed: u64, purpose: &str) -> Noise {
        let mut hasher = Sha256::new();
        hasher.update(b"hexloop training v1\0");
        hasher.update(seed.to_le_bytes());
        hasher.update(purpose.as_bytes());
        Noise(ChaCha12Rng::from_seed(hasher.finalize().into()))
    }

    /// Uniform in (0, 1].
    fn uniform(&mut self) -> f64 {
        f64::from(self.0.next_u32() >> 1).mul_add(1.0, 1.0) / f64::from(1_u32 << 31)
    }

    /// Normal numbers of mean 0, by Box and Muller 1958.
    pub(crate) fn normal(&mut self, count: usize, deviation: f64) -> Vec<f32> {
        let mut values = Vec::with_capacity(count + 1);
        while values.len() < count {
            let radius = deviation * (-2.0 * libm::log(self.uniform())).sqrt();
            let angle = 2.0 * std::f64::consts::PI * self.uniform();
            for value in [radius * libm::cos(angle), radius * libm::sin(angle)] {
                #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
                values.push(value as f32);
            }
        }
        values.truncate(count);
        values
    }

    /// Numbers that are drawn evenly from all.
    pub(crate) fn numbers(&mut self, count: usize) -> Vec<usize> {
        let draw = |_| usize::try_from(self.0.next_u64() >> 33).unwrap_or(0);
        (0..count).map(draw).collect()
    }

    /// The numbers below `count` in random order, by Fisher and Yates.
    pub(crate) fn shuffled(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            let bound = u128::try_from(last + 1).unwrap_or(u128::MAX);
            let other = (u128::from(self.0.next_u64()) * bound) >> 64;
            order.swap(last, usize::try_from(other).unwrap_or(0));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_numbers_have_the_asked_mean_and_deviation() {
        let values = Noise::new(1, "test").normal(100_001, 2.0);
        let count = 100_001.0;
        let mean = values.iter().copied().map(f64::from).sum::<f64>() / count;
        let square = values
            .iter()
            .map(|value| f64::from(*value).powi(2))
            .sum::<f64>()
            / count;
        // Four standard errors: 2 / sqrt(n), and sqrt(2 / n) of the variance 4.
        assert!(mean.abs() < 0.026, "{mean}");
        assert!((square - 4.0).abs() < 0.072, "{square}");
    }

    #[test]
    fn a_shuffle_is_a_permutation_that_the_seed_determines() {
        let order = Noise::new(1, "order").shuffled(100);
        assert_eq!(order, Noise::new(1, "order").shuffled(100));
        assert_ne!(order, Noise::new(2, "order").shuffled(100));
        let mut sorted = order;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    }
}
