//! What stands around a user on the ground, by the satellite's elevation: TR 38.811 clauses
//! 6.6.1, 6.6.2 and 6.6.6.2.

use std::str::FromStr;
use std::sync::LazyLock;

/// Where the user is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// High buildings.
    DenseUrban,
    /// Buildings.
    Urban,
    /// Houses or fields.
    SuburbanRural,
}

/// The bands of TR 38.811's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Band {
    /// 2 to 4 GHz.
    S,
    /// 20 to 40 GHz.
    Ka,
}

/// The row of the tables for one elevation and band.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ByElevation {
    /// Probability of a line of sight.
    pub los_probability: f64,
    /// Standard deviation of the shadowing with a line of sight, in dB.
    pub sigma_los_db: f64,
    /// Standard deviation of the shadowing without one, in dB.
    pub sigma_nlos_db: f64,
    /// Loss by clutter without a line of sight, in dB.
    pub clutter_db: f64,
    /// Tropospheric scintillation at 20 GHz not exceeded in 99 % of the time, in dB.
    pub scintillation_db: f64,
}

static TABLE: LazyLock<Vec<(&'static str, [f64; 9])>> = LazyLock::new(|| {
    include_str!("../../data/ntn/tr38811_elevation.csv")
        .lines()
        .filter_map(|line| {
            let (environment, rest) = line.split_once(',')?;
            let numbers: Vec<f64> = rest
                .split(',')
                .map(str::parse)
                .collect::<Result<_, _>>()
                .ok()?;
            Some((environment, numbers.try_into().ok()?))
        })
        .collect()
});

impl Environment {
    /// All of them.
    pub const ALL: [Environment; 3] = [
        Environment::DenseUrban,
        Environment::Urban,
        Environment::SuburbanRural,
    ];

    /// Its name: `dense-urban`, `urban` or `suburban-rural`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Environment::DenseUrban => "dense-urban",
            Environment::Urban => "urban",
            Environment::SuburbanRural => "suburban-rural",
        }
    }

    /// The row for `elevation_deg`: that of the nearest angle in the tables (10 to 90 degrees in
    /// steps of 10), the higher one midway.
    #[must_use]
    pub fn at(self, elevation_deg: f64, band: Band) -> ByElevation {
        let nearest = (10.0 * libm::floor(elevation_deg / 10.0 + 0.5)).clamp(10.0, 90.0);
        self.row(nearest, band)
    }

    /// The same, linear between the angles of the tables: without steps along a pass, which the
    /// report does not ask for.
    #[must_use]
    pub fn between(self, elevation_deg: f64, band: Band) -> ByElevation {
        let place = elevation_deg.clamp(10.0, 90.0) / 10.0;
        let lower = libm::floor(place).min(8.0);
        let share = place - lower;
        let low = self.row(10.0 * lower, band);
        let high = self.row(10.0 * lower + 10.0, band);
        let mix = |low: f64, high: f64| low + (high - low) * share;
        ByElevation {
            los_probability: mix(low.los_probability, high.los_probability),
            sigma_los_db: mix(low.sigma_los_db, high.sigma_los_db),
            sigma_nlos_db: mix(low.sigma_nlos_db, high.sigma_nlos_db),
            clutter_db: mix(low.clutter_db, high.clutter_db),
            scintillation_db: mix(low.scintillation_db, high.scintillation_db),
        }
    }

    /// The row of an angle that stands in the tables; not-a-number of any other.
    fn row(self, angle_deg: f64, band: Band) -> ByElevation {
        let found = TABLE
            .iter()
            .find(|(name, row)| *name == self.name() && (row[0] - angle_deg).abs() < 0.5)
            .map_or([f64::NAN; 9], |(_, row)| *row);
        let [
            _,
            los_probability,
            s_los,
            s_nlos,
            s_clutter,
            ka_los,
            ka_nlos,
            ka_clutter,
            scintillation_db,
        ] = found;
        let (sigma_los_db, sigma_nlos_db, clutter_db) = match band {
            Band::S => (s_los, s_nlos, s_clutter),
            Band::Ka => (ka_los, ka_nlos, ka_clutter),
        };
        ByElevation {
            los_probability,
            sigma_los_db,
            sigma_nlos_db,
            clutter_db,
            scintillation_db,
        }
    }
}

impl FromStr for Environment {
    type Err = &'static str;

    /// Reads its name, in any case; the error says what there is.
    fn from_str(name: &str) -> Result<Environment, &'static str> {
        Environment::ALL
            .into_iter()
            .find(|environment| environment.name().eq_ignore_ascii_case(name))
            .ok_or("dense-urban, urban or suburban-rural")
    }
}

impl Band {
    /// The band whose tables are taken at `frequency_ghz`, and whether it lies outside of them.
    #[must_use]
    pub fn nearest(frequency_ghz: f64) -> (Band, bool) {
        if frequency_ghz < 13.0 {
            (Band::S, !(2.0..=4.0).contains(&frequency_ghz))
        } else {
            (Band::Ka, !(20.0..=40.0).contains(&frequency_ghz))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_complete() {
        assert_eq!(TABLE.len(), 27);
        for environment in Environment::ALL {
            assert_eq!(environment.name().parse(), Ok(environment));
            for step in 1..=9 {
                for band in [Band::S, Band::Ka] {
                    let row = environment.at(f64::from(step) * 10.0, band);
                    assert!(row.los_probability > 0.2 && row.clutter_db > 10.0);
                }
            }
        }
        assert!("forest".parse::<Environment>().is_err());
    }

    #[test]
    fn the_nearest_angle_is_taken_or_lines_are_drawn_between() {
        let at = |deg| Environment::Urban.at(deg, Band::Ka).clutter_db;
        assert!((at(14.9) - 44.3).abs() < 1e-12);
        assert!((at(15.0) - 39.9).abs() < 1e-12);
        assert!((at(-3.0) - 44.3).abs() < 1e-12);
        assert!((at(95.0) - 32.9).abs() < 1e-12);
        let between = |deg| Environment::Urban.between(deg, Band::Ka).clutter_db;
        assert!((between(15.0) - 42.1).abs() < 1e-9);
        assert!((between(90.0) - 32.9).abs() < 1e-9);
        assert!((between(5.0) - 44.3).abs() < 1e-9);
    }

    #[test]
    fn a_band_says_whether_its_tables_cover_the_frequency() {
        assert_eq!(Band::nearest(2.0), (Band::S, false));
        assert_eq!(Band::nearest(7.0), (Band::S, true));
        assert_eq!(Band::nearest(14.0), (Band::Ka, true));
        assert_eq!(Band::nearest(20.0), (Band::Ka, false));
    }
}
