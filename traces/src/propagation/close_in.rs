//! Close-in path loss with a reference distance of 1 m and the parameters of NYUSIM.
//!
//! `PL = FSPL(f, 1 m) + 10 n log10(d / 1 m)` (S. Sun, T. S. Rappaport et al., "Investigation of
//! prediction accuracy, sensitivity, and parameter stability of large-scale propagation path loss
//! models", 2016). Exponent and shadowing were measured at 28 and 140 GHz and are linear between.

use std::str::FromStr;

use super::error::{PropagationError, within};

const MODEL: &str = "the close-in model with NYUSIM's parameters";
const LOWEST_GHZ: f64 = 28.0;
const HIGHEST_GHZ: f64 = 140.0;

/// Where the parameters were measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseInScenario {
    /// Urban microcell.
    UrbanMicro,
    /// Urban macrocell.
    UrbanMacro,
    /// Indoor hotspot.
    Indoor,
}

impl CloseInScenario {
    /// Its name in the table: `umi`, `uma` or `inh`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            CloseInScenario::UrbanMicro => "umi",
            CloseInScenario::UrbanMacro => "uma",
            CloseInScenario::Indoor => "inh",
        }
    }
}

impl FromStr for CloseInScenario {
    type Err = &'static str;

    /// Reads `umi`, `uma` or `inh`, in any case; the error says what there is.
    fn from_str(name: &str) -> Result<CloseInScenario, &'static str> {
        [
            CloseInScenario::UrbanMicro,
            CloseInScenario::UrbanMacro,
            CloseInScenario::Indoor,
        ]
        .into_iter()
        .find(|scenario| scenario.name().eq_ignore_ascii_case(name))
        .ok_or("umi, uma or inh")
    }
}

/// Exponent and shadowing of one scenario and state at one frequency.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CloseIn {
    /// Path loss exponent.
    pub exponent: f64,
    /// Standard deviation of the shadowing in dB.
    pub sigma_db: f64,
    /// Whether the frequency lies outside of the measured ones; the nearer end's parameters are
    /// taken, as NYUSIM does.
    pub extrapolated: bool,
    frequency_ghz: f64,
}

impl CloseIn {
    /// The frequencies in GHz between which the parameters are interpolated.
    pub const MEASURED_GHZ: [f64; 2] = [LOWEST_GHZ, HIGHEST_GHZ];

    /// The parameters of `scenario` with or without line of sight at `frequency_ghz`.
    ///
    /// # Errors
    ///
    /// A frequency outside of 28 to 140 GHz, unless `extrapolate`; one outside of 0.5 to 1000 GHz
    /// in any case.
    pub fn new(
        scenario: CloseInScenario,
        line_of_sight: bool,
        frequency_ghz: f64,
        extrapolate: bool,
    ) -> Result<CloseIn, PropagationError> {
        let range = if extrapolate {
            (0.5, 1000.0, "0.5 to 1000 GHz when extrapolated")
        } else {
            (
                LOWEST_GHZ,
                HIGHEST_GHZ,
                "28 to 140 GHz; outside of that only with --extrapolate",
            )
        };
        within(MODEL, "the frequency in GHz", frequency_ghz, range)?;
        let state = if line_of_sight { "LOS" } else { "NLOS" };
        let [exponent_low, exponent_high, sigma_low, sigma_high] = row(scenario, state);
        let place = ((frequency_ghz - LOWEST_GHZ) / (HIGHEST_GHZ - LOWEST_GHZ)).clamp(0.0, 1.0);
        let between = |low: f64, high: f64| low + (high - low) * place;
        Ok(CloseIn {
            exponent: between(exponent_low, exponent_high),
            sigma_db: between(sigma_low, sigma_high),
            extrapolated: !(LOWEST_GHZ..=HIGHEST_GHZ).contains(&frequency_ghz),
            frequency_ghz,
        })
    }

    /// Median path loss in dB at `distance_m` metres (in three dimensions), with the speed of
    /// light in m/s.
    ///
    /// # Errors
    ///
    /// A distance below the reference distance of 1 m, or one that is not finite.
    pub fn path_loss_db(
        &self,
        distance_m: f64,
        speed_of_light_m_s: f64,
    ) -> Result<f64, PropagationError> {
        let range = (1.0, 1e6, "1 m to 1000 km");
        within(MODEL, "the distance in m", distance_m, range)?;
        let reference = free_space_path_loss_db(self.frequency_ghz, 1.0, speed_of_light_m_s);
        Ok(reference + 10.0 * self.exponent * libm::log10(distance_m))
    }
}

/// Free-space path loss in dB over `distance_m` metres (Rec. ITU-R P.525).
#[must_use]
pub fn free_space_path_loss_db(
    frequency_ghz: f64,
    distance_m: f64,
    speed_of_light_m_s: f64,
) -> f64 {
    let wavelength_m = speed_of_light_m_s / (frequency_ghz * 1e9);
    20.0 * libm::log10(4.0 * core::f64::consts::PI * distance_m / wavelength_m)
}

/// The numbers of a row of the table; not-a-number if it lacks it, which a test excludes.
fn row(scenario: CloseInScenario, state: &str) -> [f64; 4] {
    include_str!("../../data/propagation/nyusim_close_in.csv")
        .lines()
        .find_map(|line| {
            let numbers = line
                .strip_prefix(scenario.name())?
                .strip_prefix(',')?
                .strip_prefix(state)?
                .strip_prefix(',')?;
            super::table::numbers(numbers).into_iter().next()
        })
        .unwrap_or([f64::NAN; 4])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tr38901::SPEED_OF_LIGHT_M_PER_S;

    const SCENARIOS: [CloseInScenario; 3] = [
        CloseInScenario::UrbanMicro,
        CloseInScenario::UrbanMacro,
        CloseInScenario::Indoor,
    ];

    fn loss(scenario: CloseInScenario, sight: bool, ghz: f64, distance_m: f64) -> f64 {
        CloseIn::new(scenario, sight, ghz, false)
            .unwrap()
            .path_loss_db(distance_m, SPEED_OF_LIGHT_M_PER_S)
            .unwrap()
    }

    #[test]
    fn every_scenario_and_state_has_its_row() {
        for scenario in SCENARIOS {
            assert_eq!(scenario.name().parse(), Ok(scenario));
            for state in ["LOS", "NLOS"] {
                assert!(row(scenario, state).iter().all(|value| value.is_finite()));
            }
        }
    }

    #[test]
    fn free_space_is_an_exponent_of_two() {
        let expected =
            20.0 * libm::log10(4.0 * core::f64::consts::PI * 100.0 * 28e9 / SPEED_OF_LIGHT_M_PER_S);
        let found = loss(CloseInScenario::UrbanMicro, true, 28.0, 100.0);
        assert!((found - expected).abs() < 1e-9);
        assert!((expected - 101.39).abs() < 0.01);
    }

    #[test]
    fn parameters_are_linear_between_the_measured_frequencies() {
        let middle = CloseIn::new(CloseInScenario::UrbanMicro, false, 84.0, false).unwrap();
        assert!((middle.exponent - 3.05).abs() < 1e-12);
        assert!((middle.sigma_db - 7.6).abs() < 1e-12);
        assert!(!middle.extrapolated);
        let indoor = loss(CloseInScenario::Indoor, true, 140.0, 10.0);
        let reference = free_space_path_loss_db(140.0, 1.0, SPEED_OF_LIGHT_M_PER_S);
        assert!((indoor - reference - 18.0).abs() < 1e-9);
    }

    #[test]
    fn outside_of_the_measured_frequencies_it_is_refused_or_marked() {
        for ghz in [27.9, 140.1, f64::NAN, -1.0] {
            assert!(CloseIn::new(CloseInScenario::Indoor, true, ghz, false).is_err());
        }
        let above = CloseIn::new(CloseInScenario::Indoor, true, 300.0, true).unwrap();
        assert!(above.extrapolated);
        assert!((above.exponent - 1.8).abs() < 1e-12);
        assert!(CloseIn::new(CloseInScenario::Indoor, true, f64::NAN, true).is_err());
        let error = above.path_loss_db(0.5, SPEED_OF_LIGHT_M_PER_S).unwrap_err();
        assert!(error.to_string().contains("1 m"), "{error}");
    }
}
