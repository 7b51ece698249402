//! `hexloop trace list`: the bundled scenarios.

use std::fmt::Write as _;

use hexloop_traces::TraceStatus;
use hexloop_traces::scenario::bundled_scenarios;
use serde::Serialize;

use crate::command::{Voice, print, print_json};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};

#[derive(Debug, Serialize)]
struct Listed {
    name: &'static str,
    about: String,
    carrier: Option<String>,
    bandwidth: Option<String>,
    status: TraceStatus,
}

/// All of them, in the order of the program.
fn listed() -> Result<Vec<Listed>, Failure> {
    let one = |bundled: &hexloop_traces::scenario::BundledScenario| {
        let scenario = bundled
            .scenario(&[])
            .map_err(|error| Failure::new(ExitCode::Failed, error))?;
        Ok(Listed {
            name: bundled.name,
            carrier: scenario.carrier().map(|carrier| carrier.to_string()),
            bandwidth: scenario.bandwidth().map(|bandwidth| bandwidth.to_string()),
            status: scenario.status(),
            about: scenario.about,
        })
    };
    bundled_scenarios().iter().map(one).collect()
}

pub(super) fn list(voice: Voice) -> Outcome {
    let scenarios = listed()?;
    if voice.json {
        print_json(&scenarios)?;
        return Ok(ExitCode::Done);
    }
    let mut text = String::new();
    for scenario in &scenarios {
        let status = match scenario.status {
            TraceStatus::Checked => "checked",
            TraceStatus::Simplified => "simplified",
            TraceStatus::Recorded => "recorded",
            TraceStatus::Control => "control",
        };
        let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<28} {:>9} {:>9}  {status:<10} {}",
            scenario.name,
            or_none(&scenario.carrier),
            or_none(&scenario.bandwidth),
            scenario.about
        );
    }
    print(&text)?;
    Ok(ExitCode::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bundled_scenario_is_listed_with_its_line() {
        let scenarios = listed().unwrap();
        assert_eq!(scenarios.len(), bundled_scenarios().len());
        for scenario in scenarios {
            assert!(!scenario.about.is_empty() && !scenario.about.contains('\n'));
        }
    }
}
