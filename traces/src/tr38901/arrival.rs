//! Absolute time of arrival: clause 7.6.9.

use super::{SPEED_OF_LIGHT_M_PER_S, Scenario};

/// The distribution of what a path without a line of sight takes longer than the straight way:
/// table 7.6.9-1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExcessDelay {
    /// Mean of log10(excess / 1 s).
    pub mu_lg: f64,
    /// Its standard deviation.
    pub sigma_lg: f64,
    /// The distance in metres over which its autocorrelation falls to 1/e.
    pub correlation_distance_m: f64,
    /// It is never more than this, in seconds: the largest dimension of the hall there and back.
    pub most_s: f64,
}

impl ExcessDelay {
    /// That of a scenario. Factories with both antennas above the clutter always have a line of
    /// sight.
    #[must_use]
    pub const fn of(scenario: Scenario) -> Option<ExcessDelay> {
        let (mu_lg, sigma_lg, correlation_distance_m) = match scenario {
            Scenario::InhOpen | Scenario::InhMixed => (-8.6, 0.1, 10.0),
            Scenario::InfSl | Scenario::InfDl => (-7.5, 0.4, 6.0),
            Scenario::InfSh | Scenario::InfDh => (-7.5, 0.4, 11.0),
            Scenario::Umi => (-7.5, 0.5, 15.0),
            Scenario::Uma => (-7.4, 0.2, 50.0),
            Scenario::Rma => (-8.33, 0.26, 50.0),
            Scenario::Sma => (-7.702, 0.4, 50.0),
            Scenario::InfHh => return None,
        };
        // Length of the office of table 7.2-2, and of the halls of table 7.8-7.
        let largest_m = match scenario {
            Scenario::InhOpen | Scenario::InhMixed | Scenario::InfSl | Scenario::InfDh => 120.0,
            Scenario::InfDl | Scenario::InfSh => 300.0,
            _ => f64::INFINITY,
        };
        Some(ExcessDelay {
            mu_lg,
            sigma_lg,
            correlation_distance_m,
            most_s: 2.0 * largest_m / SPEED_OF_LIGHT_M_PER_S,
        })
    }

    /// The excess delay in seconds that belongs to a standard normal number.
    #[must_use]
    pub fn seconds(&self, normal: f64) -> f64 {
        libm::exp10(self.mu_lg + self.sigma_lg * normal).min(self.most_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_those_of_the_table() {
        let table = include_str!("../../data/tr38901/table-7.6.9-1.csv");
        let of_name = |name: &str| -> Vec<Scenario> {
            match name {
                "InH" => vec![Scenario::InhOpen, Scenario::InhMixed],
                "InF-SL, InF-DL" => vec![Scenario::InfSl, Scenario::InfDl],
                "InF-SH, InF-DH" => vec![Scenario::InfSh, Scenario::InfDh],
                "UMi" => vec![Scenario::Umi],
                "UMa" => vec![Scenario::Uma],
                "RMa" => vec![Scenario::Rma],
                "SMa" => vec![Scenario::Sma],
                other => panic!("{other}"),
            }
        };
        let mut compared = 0;
        for line in table.lines().skip(1) {
            let mut fields = line.rsplitn(4, ',');
            let [distance, sigma, mu]: [f64; 3] =
                [(); 3].map(|()| fields.next().unwrap().parse().unwrap());
            for scenario in of_name(fields.next().unwrap().trim_matches('"')) {
                let found = ExcessDelay::of(scenario).unwrap();
                let got = [found.mu_lg, found.sigma_lg, found.correlation_distance_m];
                for (got, expected) in got.into_iter().zip([mu, sigma, distance]) {
                    assert!((got - expected).abs() < 1e-12, "{scenario}: {got}");
                }
                compared += 1;
            }
        }
        assert_eq!(compared, 10);
        assert_eq!(ExcessDelay::of(Scenario::InfHh), None);
    }

    #[test]
    fn halls_bound_the_excess_delay_and_streets_do_not() {
        let hall = ExcessDelay::of(Scenario::InfSl).unwrap();
        assert!((hall.seconds(0.0) - 31.623e-9).abs() < 1e-12);
        assert!((hall.seconds(9.0) - 240.0 / 299_792_458.0).abs() < 1e-15);
        let street = ExcessDelay::of(Scenario::Umi).unwrap();
        assert!(street.seconds(9.0) > 0.5e-3);
    }
}
