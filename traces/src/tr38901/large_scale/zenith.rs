//! Zenith spread of departure and offset of its angle: tables 7.5-7 to 7.5-12.
//!
//! Users indoors have the values without line of sight.

use crate::tr38901::path_loss::Geometry;
use crate::tr38901::{Condition, Scenario};

/// Mean of log10(ZSD / 1 degree).
pub(super) fn mean(
    scenario: Scenario,
    condition: Condition,
    table_ghz: f64,
    geometry: &Geometry,
) -> f64 {
    let km = geometry.d2d_m / 1000.0;
    let user_m = geometry.user_height_m;
    let raised = 0.01 * (user_m - 1.5);
    let los = condition == Condition::Los;
    match scenario {
        Scenario::Uma => (-2.1 * km - raised + if los { 0.75 } else { 0.9 }).max(-0.5),
        Scenario::Umi if los => {
            (-14.8 * km + 0.01 * (user_m - geometry.base_height_m).abs() + 0.83).max(-0.21)
        }
        Scenario::Umi => {
            (-3.1 * km + 0.01 * (user_m - geometry.base_height_m).max(0.0) + 0.2).max(-0.5)
        }
        Scenario::Rma if los => (-0.17 * km - raised + 0.22).max(-1.0),
        Scenario::Rma => (-0.19 * km - raised + 0.28).max(-1.0),
        Scenario::Sma => 0.14,
        Scenario::InhOpen | Scenario::InhMixed if los => {
            -1.43 * libm::log10(1.0 + table_ghz) + 2.228
        }
        Scenario::InhOpen | Scenario::InhMixed => 1.08,
        _ if los => 1.35,
        _ => 1.2,
    }
}

/// Standard deviation of log10(ZSD / 1 degree).
pub(super) fn sigma(scenario: Scenario, condition: Condition, table_ghz: f64) -> f64 {
    let los = condition == Condition::Los;
    match scenario {
        Scenario::Uma if los => 0.40,
        Scenario::Uma => 0.49,
        Scenario::Umi => 0.35,
        Scenario::Rma if los => 0.34,
        Scenario::Rma => 0.30,
        Scenario::Sma => 0.16,
        Scenario::InhOpen | Scenario::InhMixed if los => 0.13 * libm::log10(1.0 + table_ghz) + 0.30,
        Scenario::InhOpen | Scenario::InhMixed => 0.36,
        _ if los => 0.35,
        _ => 0.55,
    }
}

/// Offset of the zenith angle of departure in degrees.
pub(super) fn offset_deg(
    scenario: Scenario,
    condition: Condition,
    table_ghz: f64,
    geometry: &Geometry,
) -> f64 {
    if condition == Condition::Los {
        return 0.0;
    }
    match scenario {
        Scenario::Uma => {
            let carrier = libm::log10(table_ghz);
            let a = 0.208 * carrier - 0.782;
            let c = -0.13 * carrier + 2.03;
            let e = 7.66 * carrier - 5.96;
            let distance = libm::log10(geometry.d2d_m.max(25.0));
            e - libm::exp10(a * distance + c - 0.07 * (geometry.user_height_m - 1.5))
        }
        Scenario::Umi => -libm::exp10(-1.5 * libm::log10(geometry.d2d_m.max(10.0)) + 3.3),
        Scenario::Rma => {
            let angle =
                libm::atan2(35.0 - 3.5, geometry.d2d_m) - libm::atan2(35.0 - 1.5, geometry.d2d_m);
            angle.to_degrees()
        }
        Scenario::Sma => 3.5,
        _ => 0.0,
    }
}
