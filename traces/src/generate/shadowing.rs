//! Shadow fading along a walk: what houses, trees and cars do to the mean signal.
//!
//! A first-order autoregressive process whose correlation over a distance d is exp(-d / dcorr)
//! (TR 38.901, clause 7.4.4, equation 7.4-5, there after Gudmundson).

use rand_chacha::ChaCha12Rng;

use super::normal::Normal;

/// Shadow fading in dB, one value per step of the walk.
#[derive(Debug, Clone)]
pub struct Shadowing {
    normal: Normal,
    sigma_db: f64,
    correlation_m: f64,
    current: f64,
}

impl Shadowing {
    /// Shadowing with this standard deviation and correlation distance.
    #[must_use]
    pub fn new(random: ChaCha12Rng, sigma_db: f64, correlation_m: f64) -> Shadowing {
        let mut normal = Normal::new(random);
        let current = normal.next();
        Shadowing {
            normal,
            sigma_db,
            correlation_m,
            current,
        }
    }

    /// The value where the walk stands now.
    #[must_use]
    pub const fn current_db(&self) -> f64 {
        self.current * self.sigma_db
    }

    /// Walks on.
    pub fn advance(&mut self, distance_m: f64) {
        let kept = libm::exp(-distance_m.abs() / self.correlation_m);
        self.current = kept * self.current + libm::sqrt(1.0 - kept * kept) * self.normal.next();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Standard deviation, and correlation over `lag` steps.
    fn moments(values: &[f64], lag: usize) -> (f64, f64) {
        let n = f64::from(u32::try_from(values.len()).unwrap());
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
        let products = values
            .windows(lag + 1)
            .map(|w| (w[0] - mean) * (w[lag] - mean));
        (libm::sqrt(variance), products.sum::<f64>() / n / variance)
    }

    #[test]
    fn sigma_and_autocorrelation_are_those_asked_for() {
        let mut shadowing = Shadowing::new(crate::stream(3, "test"), 4.0, 10.0);
        let values: Vec<f64> = (0..400_000)
            .map(|_| {
                shadowing.advance(2.5);
                shadowing.current_db()
            })
            .collect();
        for (lag, over_correlation_distance) in [(2, 0.5), (4, 1.0), (8, 2.0)] {
            let (sigma, correlation) = moments(&values, lag);
            assert!((sigma / 4.0 - 1.0).abs() < 0.02, "{sigma}");
            let expected = libm::exp(-over_correlation_distance);
            assert!(
                (correlation - expected).abs() < 0.03,
                "{lag}: {correlation}"
            );
        }
    }

    #[test]
    fn someone_who_stands_still_sees_no_change() {
        let mut shadowing = Shadowing::new(crate::stream(3, "test"), 4.0, 10.0);
        let before = shadowing.current_db();
        shadowing.advance(0.0);
        assert_eq!(shadowing.current_db().to_bits(), before.to_bits());
    }
}
