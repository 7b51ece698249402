//! Probability of a line of sight: clause 7.4.2, table 7.4.2-1.

use std::str::FromStr;

use super::scenario::find;
use super::{Scenario, UnknownName};

/// What stands in a factory hall: table 7.2-4.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clutter {
    /// Share of the floor that is covered, `r`, from 0 to below 1.
    pub density: f64,
    /// Typical size of what covers it, `d_clutter`, in metres.
    pub size_m: f64,
    /// Effective height of it, `h_c`, in metres.
    pub height_m: f64,
}

impl Clutter {
    /// The clutter of a factory: sizes of table 7.2-4, densities and heights of the calibration,
    /// table 7.8-7. None in the other scenarios and in `InF-HH`, whose antennas are above it.
    #[must_use]
    pub const fn usual(scenario: Scenario) -> Option<Clutter> {
        let (density, size_m, height_m) = match scenario {
            Scenario::InfSl | Scenario::InfSh => (0.2, 10.0, 2.0),
            Scenario::InfDl | Scenario::InfDh => (0.6, 2.0, 6.0),
            _ => return None,
        };
        Some(Clutter {
            density,
            size_m,
            height_m,
        })
    }
}

/// Trees of a suburb: `r_vegetation` of table 7.4.2-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vegetation {
    /// 0 %.
    None,
    /// 10 %.
    Sparse,
    /// 20 %.
    Dense,
}

impl Vegetation {
    /// Every density.
    pub const ALL: [Vegetation; 3] = [Vegetation::None, Vegetation::Sparse, Vegetation::Dense];

    /// Its name in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Vegetation::None => "none",
            Vegetation::Sparse => "sparse",
            Vegetation::Dense => "dense",
        }
    }

    const fn density(self) -> f64 {
        match self {
            Vegetation::None => 0.0,
            Vegetation::Sparse => 0.1,
            Vegetation::Dense => 0.2,
        }
    }
}

impl FromStr for Vegetation {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Vegetation, UnknownName> {
        find("vegetation", name, &Vegetation::ALL, Vegetation::name)
    }
}

/// What the probability depends on beside the distance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LineOfSight {
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Umi,
    /// C'(hUT).
    Uma(f64),
    Rma,
    Mixed,
    Open,
    /// 1/k in 1/m, and the distance up to which there always is one.
    Exponential(f64, f64),
}

impl LineOfSight {
    /// The scenario's formula for antennas at these heights, in metres.
    ///
    /// Clutter counts in factories, vegetation in `SMa`. A factory's clutter that does not reach
    /// the user's antenna, and one of density 0, hide nothing.
    #[must_use]
    pub fn new(
        scenario: Scenario,
        base_height_m: f64,
        user_height_m: f64,
        clutter: Option<Clutter>,
        vegetation: Vegetation,
    ) -> LineOfSight {
        let kind = match scenario {
            Scenario::Umi => Kind::Umi,
            Scenario::Uma => {
                let above = ((user_height_m - 13.0) / 10.0).max(0.0);
                Kind::Uma(libm::pow(above, 1.5))
            }
            Scenario::Rma => Kind::Rma,
            Scenario::InhMixed => Kind::Mixed,
            Scenario::InhOpen => Kind::Open,
            Scenario::Sma => {
                let rise = base_height_m - user_height_m;
                Kind::Exponential(suburb_per_m(rise, user_height_m, vegetation), 10.0)
            }
            Scenario::InfHh => Kind::Exponential(0.0, 0.0),
            Scenario::InfSl | Scenario::InfDl => {
                Kind::Exponential(clutter.map_or(0.0, shade_per_m), 0.0)
            }
            Scenario::InfSh | Scenario::InfDh => {
                let rise = base_height_m - user_height_m;
                let per_m = clutter.map_or(0.0, |clutter| {
                    let share = (clutter.height_m - user_height_m).max(0.0) / rise;
                    shade_per_m(clutter) * share
                });
                Kind::Exponential(per_m, 0.0)
            }
        };
        LineOfSight { kind }
    }

    /// The probability at a horizontal distance: that outdoors, `d2D-out`, or in a hall or office
    /// `d2D`.
    #[must_use]
    pub fn probability(&self, d2d_m: f64) -> f64 {
        match self.kind {
            Kind::Umi if d2d_m > 18.0 => near_and_far(d2d_m, 36.0),
            Kind::Uma(raised) if d2d_m > 18.0 => {
                let hundreds = d2d_m / 100.0;
                let bump = 1.25 * hundreds * hundreds * hundreds * libm::exp(-d2d_m / 150.0);
                near_and_far(d2d_m, 63.0) * (1.0 + raised * bump)
            }
            Kind::Rma if d2d_m > 10.0 => libm::exp(-(d2d_m - 10.0) / 1000.0),
            Kind::Mixed if d2d_m >= 6.5 => libm::exp(-(d2d_m - 6.5) / 32.6) * 0.32,
            Kind::Mixed if d2d_m > 1.2 => libm::exp(-(d2d_m - 1.2) / 4.7),
            Kind::Open if d2d_m > 49.0 => libm::exp(-(d2d_m - 49.0) / 211.7) * 0.54,
            Kind::Open if d2d_m > 5.0 => libm::exp(-(d2d_m - 5.0) / 70.8),
            Kind::Exponential(per_m, always_m) if d2d_m > always_m => libm::exp(-d2d_m * per_m),
            _ => 1.0,
        }
    }
}

/// The common part of `UMi` and `UMa`.
fn near_and_far(d2d_m: f64, fall_m: f64) -> f64 {
    let near = 18.0 / d2d_m;
    near + libm::exp(-d2d_m / fall_m) * (1.0 - near)
}

/// 1/k of `InF-SL` and `InF-DL`.
fn shade_per_m(clutter: Clutter) -> f64 {
    -libm::log(1.0 - clutter.density) / clutter.size_m
}

/// The sum of 1/k of commerce, homes and vegetation of `SMa`.
fn suburb_per_m(rise_m: f64, user_height_m: f64, vegetation: Vegetation) -> f64 {
    const SIZE_M: f64 = 30.0;
    let shade =
        |density: f64, above_m: f64| -libm::log(1.0 - density) / SIZE_M * (above_m / rise_m);
    shade(0.02, 20.0 - user_height_m)
        + shade(0.18, (8.0 - user_height_m).max(0.0))
        + shade(vegetation.density(), 15.0 - user_height_m)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(scenario: Scenario, base_m: f64, user_m: f64, d2d_m: f64) -> f64 {
        let clutter = Clutter::usual(scenario);
        LineOfSight::new(scenario, base_m, user_m, clutter, Vegetation::Sparse).probability(d2d_m)
    }

    #[test]
    fn probabilities_are_those_of_the_closed_forms() {
        // Computed apart from this code with 40 digits.
        for (scenario, base_m, user_m, d2d_m, expected) in [
            (Scenario::Umi, 10.0, 1.5, 80.0, 0.3089852179969693),
            (Scenario::Umi, 10.0, 1.5, 18.0, 1.0),
            (Scenario::Umi, 10.0, 1.5, 500.0, 0.03600089579622861),
            (Scenario::Uma, 25.0, 1.5, 200.0, 0.12804773002754427),
            (Scenario::Uma, 25.0, 22.5, 200.0, 0.4405822426070137),
            (Scenario::Rma, 35.0, 1.5, 1000.0, 0.3715766910220457),
            (Scenario::InhMixed, 3.0, 1.0, 3.0, 0.6818274060977494),
            (Scenario::InhMixed, 3.0, 1.0, 6.5, 0.32),
            (Scenario::InhMixed, 3.0, 1.0, 30.0, 0.1556269971280959),
            (Scenario::InhOpen, 3.0, 1.0, 20.0, 0.8090743951319385),
            (Scenario::InhOpen, 3.0, 1.0, 49.0, 0.5371548168153397),
            (Scenario::InhOpen, 3.0, 1.0, 100.0, 0.4243939689072336),
            (Scenario::InfSl, 1.5, 1.5, 40.0, 0.4096),
            (Scenario::InfDl, 1.5, 1.5, 5.0, 0.10119288512538814),
            (Scenario::InfSh, 8.0, 1.5, 60.0, 0.9021365979865271),
            (Scenario::InfDh, 8.0, 1.5, 60.0, 5.43365584e-09),
            (Scenario::InfHh, 8.0, 8.0, 100.0, 1.0),
            (Scenario::Sma, 35.0, 1.5, 300.0, 0.39803776051778383),
            (Scenario::Sma, 35.0, 9.0, 300.0, 0.7199218287727571),
        ] {
            let got = of(scenario, base_m, user_m, d2d_m);
            assert!(
                (got - expected).abs() <= 1e-12,
                "{scenario} {d2d_m}: {got}, {expected}"
            );
        }
    }

    #[test]
    fn every_scenario_begins_with_certainty_and_falls() {
        for scenario in Scenario::ALL {
            let (base_m, user_m) = scenario.usual_heights_m();
            assert!((of(scenario, base_m, user_m, 0.0) - 1.0).abs() <= 0.0);
            let mut last = 1.0;
            for step in 1..200 {
                let probability = of(scenario, base_m, user_m, 5.0 * f64::from(step));
                assert!(probability <= last && probability > 0.0, "{scenario}");
                last = probability;
            }
        }
    }

    #[test]
    fn clutter_that_hides_nothing_leaves_the_line_of_sight() {
        let flat = Clutter {
            density: 0.6,
            size_m: 2.0,
            height_m: 1.0,
        };
        let bare = Clutter {
            density: 0.0,
            size_m: 2.0,
            height_m: 6.0,
        };
        for clutter in [flat, bare] {
            let model =
                LineOfSight::new(Scenario::InfDh, 8.0, 1.5, Some(clutter), Vegetation::None);
            assert!((model.probability(100.0) - 1.0).abs() <= 0.0);
        }
    }
}
