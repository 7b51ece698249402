//! From outdoors to indoors: clause 7.4.3.

use std::str::FromStr;

use super::scenario::find;
use super::{Scenario, SpecVersion, UnknownName};

/// A kind of building, table 7.4.3-2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Building {
    /// Standard glass and concrete.
    LowLoss,
    /// Infrared-reflecting glass and concrete.
    HighLoss,
    /// Standard glass and plywood, new in Release 19.
    LowLossA,
}

/// A material of an outer wall, table 7.4.3-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Material {
    Glass,
    IrrGlass,
    Concrete,
    Plywood,
}

impl Material {
    /// Penetration loss in dB.
    fn loss_db(self, carrier_ghz: f64, spec: SpecVersion) -> f64 {
        let (at_zero, per_ghz) = match (self, spec) {
            (Material::Glass, _) => (2.0, 0.2),
            (Material::IrrGlass, SpecVersion::V16_1) => (23.0, 0.3),
            (Material::IrrGlass, SpecVersion::V19_4) => (25.4, 0.11),
            (Material::Concrete, _) => (5.0, 4.0),
            (Material::Plywood, _) => (1.03, 0.17),
        };
        at_zero + per_ghz * carrier_ghz
    }
}

impl FromStr for Building {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Building, UnknownName> {
        find("model of buildings", name, &Building::ALL, Building::name)
    }
}

impl Building {
    /// Every kind.
    pub const ALL: [Building; 3] = [Building::LowLoss, Building::HighLoss, Building::LowLossA];

    /// Its name in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Building::LowLoss => "low",
            Building::HighLoss => "high",
            Building::LowLossA => "low-a",
        }
    }

    /// Loss through the outer wall in dB, `PL_tw` of equation 7.4-3.
    #[must_use]
    pub fn wall_loss_db(self, carrier_ghz: f64, spec: SpecVersion) -> f64 {
        let parts = match self {
            Building::LowLoss => [(0.3, Material::Glass), (0.7, Material::Concrete)],
            Building::HighLoss => [(0.7, Material::IrrGlass), (0.3, Material::Concrete)],
            Building::LowLossA => [(0.3, Material::Glass), (0.7, Material::Plywood)],
        };
        let through: f64 = parts
            .iter()
            .map(|(share, material)| {
                share * libm::exp10(-material.loss_db(carrier_ghz, spec) / 10.0)
            })
            .sum();
        5.0 - 10.0 * libm::log10(through)
    }

    /// Standard deviation of the penetration loss in dB.
    #[must_use]
    pub const fn sigma_db(self) -> f64 {
        match self {
            Building::LowLoss | Building::LowLossA => 4.4,
            Building::HighLoss => 6.5,
        }
    }
}

/// Loss inside the building in dB per metre of `d2D-in`.
pub const INDOOR_DB_PER_M: f64 = 0.5;

/// Loss through the wall in dB of the model for one frequency below 6 GHz, table 7.4.3-3, which is
/// that of TR 36.873; its shadowing is 7 dB and the wall's standard deviation 0.
pub const LEGACY_WALL_LOSS_DB: f64 = 20.0;

/// The farthest that a user can be indoors, in metres: the smaller of two uniform numbers up to it
/// (clause 7.4.3.1: 25 m, in `RMa` 10 m).
#[must_use]
pub const fn farthest_indoors_m(scenario: Scenario) -> f64 {
    match scenario {
        Scenario::Rma => 10.0,
        _ => 25.0,
    }
}

/// Loss through a car's body, clause 7.4.3.2: mean and standard deviation in dB. The standard
/// gives it from 0.6 to 60 GHz.
#[must_use]
pub const fn car_loss_db(metallized_windows: bool) -> (f64, f64) {
    if metallized_windows {
        (20.0, 5.0)
    } else {
        (9.0, 5.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_losses_are_those_of_the_closed_forms() {
        // Computed apart from this code.
        for (building, carrier_ghz, spec, expected) in [
            (
                Building::LowLoss,
                3.5,
                SpecVersion::V19_4,
                12.69750345954387,
            ),
            (
                Building::HighLoss,
                3.5,
                SpecVersion::V19_4,
                27.499288920143755,
            ),
            (
                Building::HighLoss,
                3.5,
                SpecVersion::V16_1,
                26.849786400945717,
            ),
            (
                Building::LowLossA,
                3.5,
                SpecVersion::V19_4,
                6.920515218871589,
            ),
            (
                Building::LowLoss,
                28.0,
                SpecVersion::V19_4,
                17.828787452687028,
            ),
            (
                Building::HighLoss,
                28.0,
                SpecVersion::V19_4,
                35.029019597240406,
            ),
            (
                Building::HighLoss,
                28.0,
                SpecVersion::V16_1,
                37.94901959473109,
            ),
            (
                Building::LowLossA,
                28.0,
                SpecVersion::V19_4,
                11.258435371366945,
            ),
            (
                Building::LowLoss,
                100.0,
                SpecVersion::V19_4,
                32.228787452803374,
            ),
            (
                Building::HighLoss,
                100.0,
                SpecVersion::V19_4,
                42.94901959985743,
            ),
            (
                Building::HighLoss,
                100.0,
                SpecVersion::V16_1,
                59.54901959985743,
            ),
            (
                Building::LowLossA,
                100.0,
                SpecVersion::V19_4,
                23.89048458219767,
            ),
        ] {
            let got = building.wall_loss_db(carrier_ghz, spec);
            assert!(
                (got - expected).abs() <= 1e-12,
                "{building:?} {carrier_ghz}: {got}"
            );
        }
    }
}
