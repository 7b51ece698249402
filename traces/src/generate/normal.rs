//! Normally distributed numbers that are the same on every machine.

use rand_chacha::ChaCha12Rng;
use rand_core::Rng as _;

/// A sequence of independent standard normal numbers.
#[derive(Debug, Clone)]
pub(super) struct Normal {
    random: ChaCha12Rng,
    spare: Option<f64>,
}

impl Normal {
    pub(super) const fn new(random: ChaCha12Rng) -> Normal {
        Normal {
            random,
            spare: None,
        }
    }

    /// The next number (Box and Muller, 1958: two uniform numbers give two normal ones).
    pub(super) fn next(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let radius = libm::sqrt(-2.0 * libm::log(self.uniform()));
        let angle = 2.0 * std::f64::consts::PI * self.uniform();
        self.spare = Some(radius * libm::sin(angle));
        radius * libm::cos(angle)
    }

    /// Uniform in (0, 1], in steps of 2^-53.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
    fn uniform(&mut self) -> f64 {
        ((self.random.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_have_the_moments_of_a_standard_normal_distribution() {
        let mut normal = Normal::new(crate::stream(1, "test"));
        let n = 200_000;
        let (mut sum, mut squares, mut fourth) = (0.0, 0.0, 0.0);
        for _ in 0..n {
            let x = normal.next();
            sum += x;
            squares += x * x;
            fourth += x * x * x * x;
        }
        let n = f64::from(n);
        assert!((sum / n).abs() < 0.01);
        assert!((squares / n - 1.0).abs() < 0.02);
        assert!((fourth / n - 3.0).abs() < 0.1);
    }
}
