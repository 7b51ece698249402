//! Where the report's formulas hold: the ranges of table 7.4.1-1 and its notes.

use super::path_loss::Geometry;
use super::{Condition, Scenario};

/// A quantity outside the range that the report gives for it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{quantity} is {value}; TR 38.901 gives {scenario} {expected}")]
pub struct OutOfRange {
    /// What it is, with its unit, such as `fc_ghz`.
    pub quantity: &'static str,
    /// How much it is.
    pub value: f64,
    /// The scenario.
    pub scenario: Scenario,
    /// What the report says.
    pub expected: String,
}

/// Collects what lies outside.
struct Check {
    scenario: Scenario,
    found: Vec<OutOfRange>,
}

impl Check {
    fn range(&mut self, quantity: &'static str, value: f64, [low, high]: [f64; 2]) {
        if !(low..=high).contains(&value) {
            self.found.push(OutOfRange {
                quantity,
                value,
                scenario: self.scenario,
                expected: format!("{low} to {high}"),
            });
        }
    }
}

/// The carriers of a scenario in GHz, note 2 of table 7.4.1-1.
#[must_use]
pub const fn carriers_ghz(scenario: Scenario) -> [f64; 2] {
    match scenario {
        Scenario::Rma => [0.5, 30.0],
        _ => [0.5, 100.0],
    }
}

/// What the report does not cover of that carrier.
#[must_use]
pub fn carrier(scenario: Scenario, carrier_ghz: f64) -> Vec<OutOfRange> {
    let mut check = Check {
        scenario,
        found: Vec::new(),
    };
    check.range("fc_ghz", carrier_ghz, carriers_ghz(scenario));
    check.found
}

/// What table 7.4.1-1 does not cover of antennas at these heights in metres.
#[must_use]
pub fn heights(scenario: Scenario, base_height_m: f64, user_height_m: f64) -> Vec<OutOfRange> {
    let mut check = Check {
        scenario,
        found: Vec::new(),
    };
    match scenario {
        Scenario::Umi | Scenario::Uma => check.range("h_ut_m", user_height_m, [1.5, 22.5]),
        Scenario::Rma => {
            check.range("h_bs_m", base_height_m, [10.0, 150.0]);
            check.range("h_ut_m", user_height_m, [1.0, 10.0]);
        }
        Scenario::Sma => {
            check.range("h_bs_m", base_height_m, [25.0, 35.0]);
            check.range("h_ut_m", user_height_m, [1.0, 14.0]);
        }
        _ => {}
    }
    check.found
}

/// Where the formulas of a scenario begin, in metres: over ground outdoors, in space indoors.
#[must_use]
pub const fn nearest_m(scenario: Scenario) -> f64 {
    if scenario.is_outdoor() { 10.0 } else { 1.0 }
}

/// What table 7.4.1-1 does not cover of a distance.
#[must_use]
pub fn distance(scenario: Scenario, state: Condition, geometry: &Geometry) -> Vec<OutOfRange> {
    let mut check = Check {
        scenario,
        found: Vec::new(),
    };
    let farthest_m = match scenario {
        Scenario::Umi | Scenario::Uma | Scenario::Sma => 5000.0,
        Scenario::Rma if state == Condition::Los => 10_000.0,
        Scenario::Rma => 5000.0,
        Scenario::InhOpen | Scenario::InhMixed => 150.0,
        _ => 600.0,
    };
    let range = [nearest_m(scenario), farthest_m];
    if scenario.is_outdoor() {
        check.range("d2d_m", geometry.d2d_m, range);
    } else {
        check.range("d3d_m", geometry.d3d_m(), range);
    }
    check.found
}

/// What table 7.4.1-1 does not cover of that link.
#[must_use]
pub fn path_loss(
    scenario: Scenario,
    state: Condition,
    carrier_ghz: f64,
    geometry: &Geometry,
) -> Vec<OutOfRange> {
    let mut check = Check {
        scenario,
        found: carrier(scenario, carrier_ghz),
    };
    let (base_height_m, user_height_m) = (geometry.base_height_m, geometry.user_height_m);
    check
        .found
        .extend(heights(scenario, base_height_m, user_height_m));
    check.found.extend(distance(scenario, state, geometry));
    if scenario == Scenario::Rma {
        check.range("building_height_m", geometry.building_height_m, [5.0, 50.0]);
        check.range("street_width_m", geometry.street_width_m, [5.0, 50.0]);
    }
    check.found
}
