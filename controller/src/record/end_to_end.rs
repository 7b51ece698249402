//! The latest end-to-end calibration of this machine: what the bundled experiment
//! `e00-calibration` found, kept with the user's state so that every later run can cite it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::environment::Machine;
use super::write_file;
use crate::summary::{ExpectationOutcome, RatesSummary, Summary};

/// The experiment that calibrates.
pub const EXPERIMENT: &str = "e00-calibration";

/// What a calibration found, and on what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndToEnd {
    /// Its run.
    pub run: String,
    /// When it began, in UTC.
    pub started: String,
    /// Version of the program.
    pub tool_version: String,
    /// Name of the CPU.
    pub cpu_model: String,
    /// CPUs that it could use.
    pub cpus: u64,
    /// Kernel release and version.
    pub kernel: String,
    /// The preset it was run with, if any.
    #[serde(default)]
    pub preset: Option<String>,
    /// Its verdict: `VALID` or `INVALID`.
    pub verdict: String,
    /// Claims that held.
    pub held: u64,
    /// Claims that did not, or that could not be decided, each with its numbers in words.
    pub others: Vec<String>,
    /// The highest constant rate that passed, and what crossed without a limit, in words; `None` where no trace kept
    /// a rate.
    #[serde(default)]
    pub rates: Option<String>,
}

impl EndToEnd {
    /// What a run of the calibrating experiment found; `None` for any other run.
    #[must_use]
    pub fn of(summary: &Summary, machine: &Machine) -> Option<EndToEnd> {
        if summary.experiment != EXPERIMENT {
            return None;
        }
        let (held, others): (Vec<_>, Vec<_>) = summary
            .expectations
            .iter()
            .partition(|claim| claim.outcome == ExpectationOutcome::Held);
        let verdict = if summary.verdict.is_valid() {
            "VALID"
        } else {
            "INVALID"
        };
        let in_words = |claim: &crate::summary::ExpectationSummary| {
            format!("{} {}: {}", claim.outcome.name(), claim.name, claim.detail)
        };
        Some(EndToEnd {
            run: summary.run.clone(),
            started: summary.started.clone(),
            tool_version: summary.tool_version.clone(),
            cpu_model: machine.cpu_model.clone(),
            cpus: machine.cpus,
            kernel: machine.kernel.clone(),
            preset: summary.preset.clone(),
            verdict: verdict.to_owned(),
            held: crate::format::length(&held),
            others: others.into_iter().map(in_words).collect(),
            rates: summary.rates.as_ref().map(RatesSummary::in_words),
        })
    }

    /// The one that is kept of this machine; `None` if there is none that can be read.
    #[must_use]
    pub fn kept(state: &Path, machine: &Machine) -> Option<EndToEnd> {
        let place = place(state, &machine.cpu_model, machine.cpus);
        serde_json::from_slice(&fs::read(place).ok()?).ok()
    }

    /// Keeps it instead of an earlier one.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn keep(&self, state: &Path) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        let place = place(state, &self.cpu_model, self.cpus);
        write_file(&place, text.as_bytes()).map_err(io::Error::other)
    }

    /// Whether this machine and kernel are those it was made on.
    #[must_use]
    pub fn is_of(&self, machine: &Machine) -> bool {
        self.cpu_model == machine.cpu_model
            && self.cpus == machine.cpus
            && self.kernel == machine.kernel
    }
}

/// Machines that share a state directory, as those with one home do, have a file each.
fn place(state: &Path, cpu_model: &str, cpus: u64) -> PathBuf {
    let kept_of = |letter: char| match letter {
        letter if letter.is_ascii_alphanumeric() => letter.to_ascii_lowercase(),
        _ => '-',
    };
    let machine: String = cpu_model.chars().map(kept_of).take(80).collect();
    state.join(format!("{EXPERIMENT}-{machine}-{cpus}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn only_the_calibrating_experiment_is_kept_and_the_latest_is_cited() {
        let records = fixture::records();
        let mut summary = records.summary(Path::new("here"));
        let machine = &records.environment.machine;
        assert_eq!(EndToEnd::of(&summary, machine), None);
        summary.experiment = EXPERIMENT.to_owned();
        let mut found = EndToEnd::of(&summary, machine).unwrap();
        let claims = crate::format::length(&summary.expectations);
        assert_eq!(found.held + crate::format::length(&found.others), claims);
        assert!(found.is_of(machine));
        let state = tempfile::tempdir().unwrap();
        assert_eq!(EndToEnd::kept(state.path(), machine), None);
        found.keep(state.path()).unwrap();
        found.run = "later".to_owned();
        found.keep(state.path()).unwrap();
        let mut other = found.clone();
        other.cpus += 2;
        other.run = "elsewhere".to_owned();
        other.keep(state.path()).unwrap();
        let kept = EndToEnd::kept(state.path(), machine);
        assert_eq!(
            kept,
            Some(found.clone()),
            "another machine replaces nothing"
        );
        found.kernel = "another".to_owned();
        assert!(!found.is_of(machine));
    }
}
