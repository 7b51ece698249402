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

    /// The formulas for antennas at these heights in these surroundings; the geometry's distance
    /// does not count.
    #[must_use]
    pub fn prepare(&self, geometry: &Geometry) -> Prepared {
        let carrier = self.carrier_db;
        let height_m = geometry.base_height_m - geometry.user_height_m;
        let breakpoint_m = self.breakpoint_m(geometry).unwrap_or(f64::INFINITY);
        let two_slopes = |at_1m: f64, slope: f64, back: f64| {
            // Behind the breakpoint the slope is 40 and the breakpoint takes something back.
            let bend = libm::log10(breakpoint_m * breakpoint_m + height_m * height_m);
            let far = Line::new(at_1m + carrier - back * bend, 40.0);
            (Line::new(at_1m + carrier, slope), far)
        };
        let (near, far) = match self.scenario {
            Scenario::Umi => two_slopes(32.4, 21.0, 9.5),
            Scenario::Uma => two_slopes(28.0, 22.0, 9.0),
            Scenario::Rma | Scenario::Sma => {
                let near = self.rural_near(geometry);
                let bend = libm::log10(breakpoint_m);
                let far = near.at(bend, breakpoint_m) - 40.0 * bend;
                (near, Line::new(far, 40.0))
            }
            Scenario::InhOpen | Scenario::InhMixed => {
                let line = Line::new(32.4 + carrier, 17.3);
                (line, line)
            }
            Scenario::InfSl
            | Scenario::InfDl
            | Scenario::InfSh
            | Scenario::InfDh
            | Scenario::InfHh => {
                let line = Line::new(31.84 + 0.95 * carrier, 21.5);
                (line, line)
            }
        };
        let (nlos, at_least_los) = self.nlos_lines(geometry);
        Prepared {
            square_m2: height_m * height_m,
            breakpoint_m,
            near,
            far,
            nlos,
            at_least_los,
        }
    }

    /// Path loss in line of sight.
    #[must_use]
    pub fn los_db(&self, geometry: &Geometry) -> f64 {
        self.prepare(geometry).los_db(geometry.d2d_m)
    }

    /// Path loss without line of sight. `None` in `InF-HH`, which always has it.
    #[must_use]
    pub fn nlos_db(&self, geometry: &Geometry) -> Option<f64> {
        self.prepare(geometry).nlos_db(geometry.d2d_m)
    }

    /// The lines of which the highest holds without line of sight, and whether the loss is at
    /// least that in line of sight. It is not in `SMa` and in the optional formulas of `UMi` and
    /// `UMa`, whose rows have no such maximum.
    fn nlos_lines(&self, geometry: &Geometry) -> ([Option<Line>; 2], bool) {
        let carrier = self.carrier_db;
        let above_m = geometry.user_height_m - 1.5;
        let sparse_low = Line::new(33.0 + carrier, 25.5);
        let (line, at_least_los) = match (self.scenario, self.optional) {
            (Scenario::InfHh, _) => return ([None; 2], true),
            (Scenario::Umi, true) => (Line::new(32.4 + carrier, 31.9), false),
            (Scenario::Uma, true) => (Line::new(32.4 + carrier, 30.0), false),
            (Scenario::Umi, false) => (
                Line::new(22.4 + 1.065 * carrier - 0.3 * above_m, 35.3),
                true,
            ),
            (Scenario::Uma, false) => (Line::new(13.54 + carrier - 0.6 * above_m, 39.08), true),
            (Scenario::Rma, _) => (self.rural_nlos(geometry), true),
            (Scenario::Sma, _) => (self.rural_nlos(geometry), false),
            (Scenario::InhOpen | Scenario::InhMixed, false) => {
                (Line::new(17.3 + 1.245 * carrier, 38.3), true)
            }
            (Scenario::InhOpen | Scenario::InhMixed, true) => {
                (Line::new(32.4 + carrier, 31.9), true)
            }
            (Scenario::InfSl, _) => (sparse_low, true),
            (Scenario::InfDl, _) => {
                let own = Line::new(18.6 + carrier, 35.7);
                return ([Some(own), Some(sparse_low)], true);
            }
            (Scenario::InfSh, _) => (Line::new(32.4 + carrier, 23.0), true),
            (Scenario::InfDh, _) => (Line::new(33.63 + carrier, 21.9), true),
        };
        ([Some(line), None], at_least_los)
    }

    /// PL1 of `RMa` and `SMa`.
    fn rural_near(&self, geometry: &Geometry) -> Line {
        let height = libm::pow(geometry.building_height_m, 1.72);
        let at_1m = 20.0 * libm::log10(40.0 * PI * self.carrier_ghz / 3.0);
        Line {
            at_1m: at_1m - (0.044 * height).min(14.77),
            slope: 20.0 + (0.03 * height).min(10.0),
            per_m: 0.002 * libm::log10(geometry.building_height_m),
        }
    }

    /// PL'NLOS of `RMa`, PLNLOS of `SMa`.
    fn rural_nlos(&self, geometry: &Geometry) -> Line {
        let base = libm::log10(geometry.base_height_m);
        let ratio = geometry.building_height_m / geometry.base_height_m;
        let user = libm::log10(11.75 * geometry.user_height_m);
        let slope = 43.42 - 3.1 * base;
        let at_1m = 161.04 - 7.1 * libm::log10(geometry.street_width_m)
            + 7.5 * libm::log10(geometry.building_height_m)
            - (24.37 - 3.7 * ratio * ratio) * base
            - 3.0 * slope
            + self.carrier_db
            - (3.2 * user * user - 4.97);
        Line::new(at_1m, slope)
    }
}

/// at_1m + slope log10(d3D / 1 m) + per_m d3D.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Line {
    at_1m: f64,
    slope: f64,
    per_m: f64,
}

impl Line {
    const fn new(at_1m: f64, slope: f64) -> Line {
        Line {
            at_1m,
            slope,
            per_m: 0.0,
        }
    }

    fn at(&self, log10_m: f64, d3d_m: f64) -> f64 {
        self.at_1m + self.slope * log10_m + self.per_m * d3d_m
    }
}

/// Path losses over distance, for antennas that keep their heights: one logarithm a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prepared {
    /// The square of the antennas' difference in height.
    square_m2: f64,
    breakpoint_m: f64,
    near: Line,
    far: Line,
    nlos: [Option<Line>; 2],
    at_least_los: bool,
}

impl Prepared {
    /// log10 of d3D, and d3D itself.
    fn distance(&self, d2d_m: f64) -> (f64, f64) {
        let square_m2 = d2d_m * d2d_m + self.square_m2;
        (0.5 * libm::log10(square_m2), libm::sqrt(square_m2))
    }

    fn los_at(&self, d2d_m: f64, (log10_m, d3d_m): (f64, f64)) -> f64 {
        let line = if d2d_m <= self.breakpoint_m {
            &self.near
        } else {
            &self.far
        };
        line.at(log10_m, d3d_m)
    }

    /// Path loss in line of sight at a horizontal distance.
    #[must_use]
    pub fn los_db(&self, d2d_m: f64) -> f64 {
        self.los_at(d2d_m, self.distance(d2d_m))
    }

    /// Path loss without line of sight at a horizontal distance. `None` in `InF-HH`.
    #[must_use]
    pub fn nlos_db(&self, d2d_m: f64) -> Option<f64> {
        self.both_db(d2d_m).1
    }

    /// Both at once.
    #[must_use]
    pub fn both_db(&self, d2d_m: f64) -> (f64, Option<f64>) {
        let distance = self.distance(d2d_m);
        let los_db = self.los_at(d2d_m, distance);
        let [Some(line), other] = self.nlos else {
            return (los_db, None);
        };
        let mut nlos_db = line.at(distance.0, distance.1);
        if let Some(other) = other {
            nlos_db = nlos_db.max(other.at(distance.0, distance.1));
        }
        if self.at_least_los {
            nlos_db = nlos_db.max(los_db);
        }
        (los_db, Some(nlos_db))
    }
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
