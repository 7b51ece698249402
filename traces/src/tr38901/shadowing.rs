//! Standard deviation of the shadowing: table 7.4.1-1, and for users indoors table 7.5-6.

use super::path_loss::{Geometry, PathLoss};
use super::{Condition, Scenario};

/// Standard deviation in dB; `None` where the scenario has no such condition.
///
/// `RMa` and `SMa` in line of sight have 4 dB up to the breakpoint and 6 dB behind it.
#[must_use]
pub fn sigma_db(condition: Condition, model: &PathLoss, geometry: &Geometry) -> Option<f64> {
    let scenario = model.scenario();
    Some(match (scenario, condition) {
        (Scenario::Umi | Scenario::Uma, Condition::Los) => 4.0,
        (Scenario::Umi, Condition::Nlos) => 7.82,
        (Scenario::Uma, Condition::Nlos) => 6.0,
        (Scenario::Umi | Scenario::Uma, Condition::O2i) => 7.0,
        (Scenario::Rma | Scenario::Sma, Condition::Los) => {
            let breakpoint_m = model.breakpoint_m(geometry).unwrap_or(f64::INFINITY);
            if geometry.d2d_m < breakpoint_m {
                4.0
            } else {
                6.0
            }
        }
        (Scenario::Rma | Scenario::Sma, _) => 8.0,
        (Scenario::InhOpen | Scenario::InhMixed, Condition::Los) => 3.0,
        (Scenario::InhOpen | Scenario::InhMixed, Condition::Nlos) => 8.03,
        (Scenario::InfHh, Condition::Nlos) => return None,
        (_, Condition::Los) => 4.3,
        (Scenario::InfSl, Condition::Nlos) => 5.7,
        (Scenario::InfDl, Condition::Nlos) => 7.2,
        (Scenario::InfSh, Condition::Nlos) => 5.9,
        (Scenario::InfDh, Condition::Nlos) => 4.0,
        (_, Condition::O2i) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(scenario: Scenario, condition: Condition, d2d_m: f64) -> Option<f64> {
        let (base_m, user_m) = scenario.usual_heights_m();
        let geometry = Geometry::new(scenario, d2d_m, base_m, user_m);
        sigma_db(condition, &PathLoss::new(scenario, 3.5), &geometry)
    }

    #[test]
    fn rural_and_suburban_shadowing_widens_at_the_breakpoint() {
        for scenario in [Scenario::Rma, Scenario::Sma] {
            // 2 pi 35 1.5 3.5e9 / c = 3851.1 m.
            assert_eq!(of(scenario, Condition::Los, 3851.0), Some(4.0));
            assert_eq!(of(scenario, Condition::Los, 3852.0), Some(6.0));
            assert_eq!(of(scenario, Condition::Nlos, 100.0), Some(8.0));
            assert_eq!(of(scenario, Condition::O2i, 100.0), Some(8.0));
        }
    }

    #[test]
    fn indoor_scenarios_have_no_users_behind_walls_and_a_high_factory_always_sees() {
        for scenario in Scenario::ALL {
            let o2i = of(scenario, Condition::O2i, 50.0);
            assert_eq!(o2i.is_some(), scenario.is_outdoor(), "{scenario}");
            let nlos = of(scenario, Condition::Nlos, 50.0);
            assert_eq!(nlos.is_none(), scenario == Scenario::InfHh);
        }
    }
}
