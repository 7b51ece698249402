//! The scenarios that come with the program.

use super::{Scenario, ScenarioError};

/// A scenario that comes with the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BundledScenario {
    /// Its name.
    pub name: &'static str,
    /// Its file's text.
    pub text: &'static str,
}

macro_rules! bundled {
    ($($name:literal),* $(,)?) => {
        &[$(BundledScenario {
            name: $name,
            text: include_str!(concat!("../../scenarios/", $name, ".toml")),
        }),*]
    };
}

/// The scenarios that come with the program, channels first, then controls.
#[must_use]
pub const fn bundled_scenarios() -> &'static [BundledScenario] {
    bundled![
        "inh-fr3-office",
        "umi-fr3-street",
        "umi-fr2-vehicular-blockage",
        "subthz-hotspot",
        "subthz-xhaul-rain",
        "leo-600-backhaul",
        "uma-handover-drive",
        "rma-train",
        "inf-dh-robot",
        "tn-ntn-switch",
        "cell-edge",
        "imt2030-like",
        "ideal",
        "step",
        "sawtooth",
        "outage"
    ]
}

impl BundledScenario {
    /// The scenario, with settings of the command line put over it.
    ///
    /// # Errors
    /// What is wrong with the settings.
    pub fn scenario(&self, settings: &[(String, String)]) -> Result<Scenario, ScenarioError> {
        Scenario::parse_with(self.name, self.text, settings)
    }
}

impl Scenario {
    /// The bundled scenario of that name.
    #[must_use]
    pub fn bundled(name: &str) -> Option<Scenario> {
        let found = bundled_scenarios()
            .iter()
            .find(|known| known.name == name)?;
        found.scenario(&[]).ok()
    }
}

#[cfg(test)]
#[path = "bundled_tests.rs"]
mod tests;
