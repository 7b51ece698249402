//! Layer 3 filtering of measurements: TS 38.331 clause 5.5.3.2.

/// F_n = (1 - a) F_(n-1) + a M_n, with a = 1 / 2^(k / 4) for a measurement every 200 ms.
///
/// For another period the coefficient is changed so that the time characteristics stay, as the
/// clause demands of the user equipment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerThreeFilter {
    /// Weight of a new measurement.
    weight: f64,
}

/// The period for which the coefficient is defined, in seconds.
const REFERENCE_PERIOD_S: f64 = 0.2;

impl LayerThreeFilter {
    /// The filter with coefficient `k` for measurements `period_s` apart. `k` 0 does not filter.
    #[must_use]
    pub fn new(k: u32, period_s: f64) -> LayerThreeFilter {
        let kept = 1.0 - libm::exp2(-f64::from(k) / 4.0);
        LayerThreeFilter {
            weight: if k == 0 {
                1.0
            } else {
                1.0 - libm::pow(kept, period_s / REFERENCE_PERIOD_S)
            },
        }
    }

    /// Takes a measurement in; the first one is taken as it is.
    pub fn update(&self, filtered: &mut Option<f64>, measured: f64) {
        *filtered = Some(match *filtered {
            None => measured,
            Some(before) => before + self.weight * (measured - before),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_follows_a_step_alike_whatever_the_period() {
        let after_one_second = |period_s: f64, count: u32| {
            let filter = LayerThreeFilter::new(4, period_s);
            let mut filtered = None;
            filter.update(&mut filtered, 0.0);
            for _ in 0..count {
                filter.update(&mut filtered, 1.0);
            }
            filtered.unwrap()
        };
        // k = 4: a = 1/2, so five measurements of 200 ms leave 1/32.
        assert!((after_one_second(0.2, 5) - 31.0 / 32.0).abs() < 1e-12);
        assert!((after_one_second(0.01, 100) - 31.0 / 32.0).abs() < 1e-9);
        let mut filtered = Some(3.0);
        LayerThreeFilter::new(0, 0.04).update(&mut filtered, -7.0);
        assert_eq!(filtered, Some(-7.0));
    }
}
