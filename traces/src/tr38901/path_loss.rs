//! Path loss: clause 7.4.1, table 7.4.1-1.
//!
//! The formulas alone: shadowing is drawn elsewhere, walls and blockers are added to it, and
//! whether the geometry is one that the table speaks of is for [`super::validity`] to say.

use core::f64::consts::PI;

use super::{SPEED_OF_LIGHT_M_PER_S, Scenario};

/// Where the two antennas are, and what stands around them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Geometry {
    /// Horizontal distance.
    pub d2d_m: f64,
    /// Height of the base station's antenna.
    pub base_height_m: f64,
    /// Height of the user's antenna.
    pub user_height_m: f64,
    /// Average height of the buildings, `h` (`RMa`, `SMa`).
    pub building_height_m: f64,
    /// Average width of the streets, `W` (`RMa`, `SMa`).
    pub street_width_m: f64,
    /// Effective height of the surroundings, `h_E` of note 1 (`UMi`, `UMa`): 1 m, and in `UMa` for
    /// users above 13 m drawn from note 1's distribution ([`effective_environment_height_m`]).
    pub environment_height_m: f64,
}

impl Geometry {
    /// That geometry in the scenario's usual surroundings.
    #[must_use]
    pub const fn new(
        scenario: Scenario,
        d2d_m: f64,
        base_height_m: f64,
        user_height_m: f64,
    ) -> Geometry {
        let (building_height_m, street_width_m) = usual_surroundings_m(scenario);
        Geometry {
            d2d_m,
            base_height_m,
            user_height_m,
            building_height_m,
            street_width_m,
            environment_height_m: 1.0,
        }
    }

    /// Distance between the antennas, equation 7.4-1.
    #[must_use]
    pub fn d3d_m(&self) -> f64 {
        let height_m = self.base_height_m - self.user_height_m;
        libm::sqrt(self.d2d_m * self.d2d_m + height_m * height_m)
    }
}

/// Height of the buildings and width of the streets where nobody says otherwise: `RMa` 5 m and
/// 20 m, `SMa` 10 m and 10 m.
#[must_use]
pub const fn usual_surroundings_m(scenario: Scenario) -> (f64, f64) {
    match scenario {
        Scenario::Sma => (10.0, 10.0),
        _ => (5.0, 20.0),
    }
}

/// Path losses in line of sight and not, at one carrier.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PathLoss {
    scenario: Scenario,
    carrier_ghz: f64,
    light_m_per_s: f64,
    /// 20 log10(fc / 1 GHz), which nearly every formula has.
    carrier_db: f64,
    optional: bool,
}

impl PathLoss {
    /// The scenario's formulas at that carrier.
    #[must_use]
    pub fn new(scenario: Scenario, carrier_ghz: f64) -> PathLoss {
        PathLoss {
            scenario,
            carrier_ghz,
            light_m_per_s: SPEED_OF_LIGHT_M_PER_S,
            carrier_db: 20.0 * libm::log10(carrier_ghz),
            optional: false,
        }
    }

    /// Whose formulas.
    #[must_use]
    pub const fn scenario(&self) -> Scenario {
        self.scenario
    }

    /// The same with another speed of light in the breakpoints: 3.0e8 is that of note 1.
    #[must_use]
    pub const fn with_speed_of_light(self, light_m_per_s: f64) -> PathLoss {
        PathLoss {
            light_m_per_s,
            ..self
        }
    }

    /// The same with the optional NLOS formula of `UMi`, `UMa` and `InH`. The others have none and
    /// stay as they are.
    #[must_use]
    pub const fn with_optional_nlos(self) -> PathLoss {
        PathLoss {
            optional: true,
            ..self
        }
    }

    /// The breakpoint: d'BP of note 1 (`UMi`, `UMa`), dBP of note 5 (`RMa`, `SMa`), none indoors.
    #[must_use]
    pub fn breakpoint_m(&self, geometry: &Geometry) -> Option<f64> {
        let per_metre = self.carrier_ghz * 1e9 / self.light_m_per_s;
        match self.scenario {
            Scenario::Umi | Scenario::Uma => {
                let base = geometry.base_height_m - geometry.environment_height_m;
                let user = geometry.user_height_m - geometry.environment_height_m;
                Some(4.0 * base * user * per_metre)
            }
            Scenario::Rma | Scenario::Sma => {
                Some(2.0 * PI * geometry.base_height_m * geometry.user_height_m * per_metre)
            }
            _ => None,
        }
    }

    /// Path loss in line of sight.
    #[must_use]
    pub fn los_db(&self, geometry: &Geometry) -> f64 {
        let d3d_m = geometry.d3d_m();
        let distance = libm::log10(d3d_m);
        match self.scenario {
            Scenario::Umi => self.two_slopes_db(geometry, [32.4, 21.0, 9.5]),
            Scenario::Uma => self.two_slopes_db(geometry, [28.0, 22.0, 9.0]),
            Scenario::Rma | Scenario::Sma => {
                let breakpoint_m = self.breakpoint_m(geometry).unwrap_or(f64::INFINITY);
                if geometry.d2d_m <= breakpoint_m {
                    self.rural_near_db(geometry, d3d_m)
                } else {
                    self.rural_near_db(geometry, breakpoint_m)
                        + 40.0 * libm::log10(d3d_m / breakpoint_m)
                }
            }
            Scenario::InhOpen | Scenario::InhMixed => 32.4 + 17.3 * distance + self.carrier_db,
            Scenario::InfSl
            | Scenario::InfDl
            | Scenario::InfSh
            | Scenario::InfDh
            | Scenario::InfHh => 31.84 + 21.5 * distance + 0.95 * self.carrier_db,
        }
    }

    /// Path loss without line of sight. `None` in `InF-HH`, which always has it.
    ///
    /// It is never less than that in line of sight, except in `SMa` and in the optional formulas
    /// of `UMi` and `UMa`, whose rows have no such maximum.
    #[must_use]
    pub fn nlos_db(&self, geometry: &Geometry) -> Option<f64> {
        let distance = libm::log10(geometry.d3d_m());
        let carrier = self.carrier_db;
        let own = match (self.scenario, self.optional) {
            (Scenario::InfHh, _) => return None,
            (Scenario::Umi, true) => return Some(32.4 + carrier + 31.9 * distance),
            (Scenario::Uma, true) => return Some(32.4 + carrier + 30.0 * distance),
            (Scenario::Sma, _) => return Some(self.rural_nlos_db(geometry, distance)),
            (Scenario::Umi, false) => {
                35.3 * distance + 22.4 + 1.065 * carrier - 0.3 * (geometry.user_height_m - 1.5)
            }
            (Scenario::Uma, false) => {
                13.54 + 39.08 * distance + carrier - 0.6 * (geometry.user_height_m - 1.5)
            }
            (Scenario::Rma, _) => self.rural_nlos_db(geometry, distance),
            (Scenario::InhOpen | Scenario::InhMixed, false) => {
                38.3 * distance + 17.3 + 1.245 * carrier
            }
            (Scenario::InhOpen | Scenario::InhMixed, true) => 32.4 + carrier + 31.9 * distance,
            (Scenario::InfSl, _) => sparse_low_db(distance, carrier),
            (Scenario::InfDl, _) => {
                (18.6 + 35.7 * distance + carrier).max(sparse_low_db(distance, carrier))
            }
            (Scenario::InfSh, _) => 32.4 + 23.0 * distance + carrier,
            (Scenario::InfDh, _) => 33.63 + 21.9 * distance + carrier,
        };
        Some(own.max(self.los_db(geometry)))
    }

    /// `UMi` and `UMa` in line of sight; of the three numbers, the first is at 1 m, the second the
    /// slope before the breakpoint, the third what the breakpoint takes back behind it.
    fn two_slopes_db(&self, geometry: &Geometry, [at_1m, slope, back]: [f64; 3]) -> f64 {
        let distance = libm::log10(geometry.d3d_m());
        let breakpoint_m = self.breakpoint_m(geometry).unwrap_or(f64::INFINITY);
        if geometry.d2d_m <= breakpoint_m {
            return at_1m + slope * distance + self.carrier_db;
        }
        let height_m = geometry.base_height_m - geometry.user_height_m;
        let bend = libm::log10(breakpoint_m * breakpoint_m + height_m * height_m);
        at_1m + 40.0 * distance + self.carrier_db - back * bend
    }

    /// PL1 of `RMa` and `SMa`.
    fn rural_near_db(&self, geometry: &Geometry, d3d_m: f64) -> f64 {
        let height = libm::pow(geometry.building_height_m, 1.72);
        20.0 * libm::log10(40.0 * PI * d3d_m * self.carrier_ghz / 3.0)
            + (0.03 * height).min(10.0) * libm::log10(d3d_m)
            - (0.044 * height).min(14.77)
            + 0.002 * libm::log10(geometry.building_height_m) * d3d_m
    }

    /// PL'NLOS of `RMa`, PLNLOS of `SMa`.
    fn rural_nlos_db(&self, geometry: &Geometry, distance: f64) -> f64 {
        let base = libm::log10(geometry.base_height_m);
        let ratio = geometry.building_height_m / geometry.base_height_m;
        let user = libm::log10(11.75 * geometry.user_height_m);
        161.04 - 7.1 * libm::log10(geometry.street_width_m)
            + 7.5 * libm::log10(geometry.building_height_m)
            - (24.37 - 3.7 * ratio * ratio) * base
            + (43.42 - 3.1 * base) * (distance - 3.0)
            + self.carrier_db
            - (3.2 * user * user - 4.97)
    }
}

/// NLOS of `InF-SL`, which also bounds `InF-DL`.
fn sparse_low_db(distance: f64, carrier_db: f64) -> f64 {
    33.0 + 25.5 * distance + carrier_db
}

/// The effective height of the surroundings in `UMa` for a user, note 1 of table 7.4.1-1, from two
/// numbers drawn uniformly from [0, 1): 1 m with probability 1 / (1 + C(d2D, hUT)), else one of
/// 12, 15, ... up to hUT - 1.5 m.
#[must_use]
pub fn effective_environment_height_m(d2d_m: f64, user_height_m: f64, draws: [f64; 2]) -> f64 {
    let c = if d2d_m <= 18.0 || user_height_m < 13.0 {
        0.0
    } else {
        let hundreds = d2d_m / 100.0;
        let g = 1.25 * hundreds * hundreds * hundreds * libm::exp(-d2d_m / 150.0);
        g * libm::pow((user_height_m - 13.0) / 10.0, 1.5)
    };
    if draws[0] < 1.0 / (1.0 + c) {
        return 1.0;
    }
    let steps = libm::floor((user_height_m - 1.5 - 12.0) / 3.0).max(0.0) + 1.0;
    12.0 + 3.0 * libm::floor(draws[1] * steps).min(steps - 1.0)
}

#[cfg(test)]
#[path = "path_loss_tests.rs"]
mod tests;
