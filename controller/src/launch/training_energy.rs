//! The energy of training a model: per step, and until text that it never saw had come down to given
//! perplexities.

use std::fs;
use std::path::Path;

use hexloop_agent::telemetry::power::PowerSampler;
use hexloop_agent::telemetry::sources::MeterSources;
use hexloop_proto::Measurement;
use hexloop_telemetry::Places;
use hexloop_workloads::clock::{self, MonotonicNs};
use hexloop_workloads::engine::train::TrainingProgress;
use serde::Serialize;

use crate::format::{count_to_f64, significant};

/// Where it is kept, beside the model's files.
pub(super) const FILE: &str = "energy.json";

/// Perplexities of held-out text that are looked for: e to the loss.
const TARGETS: [f64; 7] = [100.0, 50.0, 20.0, 10.0, 5.0, 3.0, 2.0];

/// Meters a training while it goes on.
pub(super) struct TrainingMeter {
    sampler: Result<PowerSampler, String>,
    steps: Vec<Step>,
}

/// The end of a step, and the loss on held-out text where it was looked at.
#[derive(Debug, Clone, Copy)]
struct Step {
    at: MonotonicNs,
    held_out_loss: Option<f64>,
}

/// What it came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct TrainingEnergy {
    /// Steps that were metered: all but the first, whose end is where metering begins.
    steps: u64,
    /// Energy of the machine over them, in joules: gross.
    energy_j: Measurement,
    /// What the edges of the window leave open, in joules.
    uncertainty_j: Option<f64>,
    /// The same per step.
    j_per_step: Measurement,
    /// Perplexity of held-out text when it was looked at last.
    held_out_perplexity: Option<f64>,
    /// Until held-out text had come down to a perplexity, which is looked at every few steps.
    to_perplexity: Vec<ToPerplexity>,
}

/// The energy until a perplexity was reached.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct ToPerplexity {
    perplexity: f64,
    steps: u64,
    energy_j: Measurement,
}

impl TrainingMeter {
    /// Looks for meters and reads them from now on.
    pub(super) fn begin() -> TrainingMeter {
        let sources = MeterSources::at(Places::from_environment());
        TrainingMeter {
            sampler: PowerSampler::start(&sources).map_err(|error| error.to_string()),
            steps: Vec::new(),
        }
    }

    /// A step has ended.
    pub(super) fn step(&mut self, progress: &TrainingProgress) {
        self.steps.push(Step {
            at: clock::now(),
            held_out_loss: progress.held_out_loss,
        });
    }

    /// Ends it.
    pub(super) fn finish(self) -> TrainingEnergy {
        let TrainingMeter { sampler, steps } = self;
        let energy = account(&steps, |from, to| match &sampler {
            Ok(sampler) => {
                let window = sampler.window(from, to);
                (window.energy_j, window.uncertainty_j)
            }
            Err(why) => (Measurement::Unavailable { why: why.clone() }, None),
        });
        if let Ok(sampler) = sampler {
            sampler.finish();
        }
        energy
    }
}

/// Energy per step and to each perplexity, by the energy of a window.
fn account(
    steps: &[Step],
    window: impl Fn(MonotonicNs, MonotonicNs) -> (Measurement, Option<f64>),
) -> TrainingEnergy {
    let ends = steps.first().zip(steps.last());
    let count = u64::try_from(steps.len().saturating_sub(1)).unwrap_or(u64::MAX);
    let Some((first, last)) = ends.filter(|_| count > 0) else {
        let why = "the training had fewer than two steps".to_owned();
        return TrainingEnergy {
            steps: 0,
            energy_j: Measurement::Unavailable { why: why.clone() },
            uncertainty_j: None,
            j_per_step: Measurement::Unavailable { why },
            held_out_perplexity: None,
            to_perplexity: Vec::new(),
        };
    };
    let (energy_j, uncertainty_j) = window(first.at, last.at);
    let reached = |perplexity: f64| {
        let is_there = |step: &Step| {
            step.held_out_loss
                .is_some_and(|loss| loss <= perplexity.ln())
        };
        // Counted from 0: that many steps came after the first.
        let after = steps.iter().position(is_there)?;
        Some(ToPerplexity {
            perplexity,
            steps: u64::try_from(after).unwrap_or(u64::MAX),
            energy_j: window(first.at, steps[after].at).0,
        })
    };
    let mut losses = steps.iter().rev().filter_map(|step| step.held_out_loss);
    TrainingEnergy {
        steps: count,
        j_per_step: energy_j.scaled(1.0 / count_to_f64(count)),
        energy_j,
        uncertainty_j,
        held_out_perplexity: losses.next().map(f64::exp),
        to_perplexity: TARGETS.into_iter().filter_map(reached).collect(),
    }
}

impl TrainingEnergy {
    /// Keeps it beside the model's files.
    pub(super) fn keep(&self, directory: &Path) -> std::io::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(directory.join(FILE), text + "\n")
    }

    /// The same in words, a line each.
    pub(super) fn lines(&self) -> Vec<String> {
        let words = |measurement: &Measurement| match measurement {
            Measurement::Measured { value, .. } | Measurement::Derived { value, .. } => {
                format!("{} J", significant(*value))
            }
            Measurement::Estimated { value, .. } => {
                format!("{} J (estimated)", significant(*value))
            }
            Measurement::Unavailable { why } => format!("Unavailable: {why}"),
        };
        let mut lines = vec![format!("energy of the training: {}", words(&self.energy_j))];
        if let Some(perplexity) = self.held_out_perplexity {
            let perplexity = significant(perplexity);
            lines.push(format!("perplexity of held-out text: {perplexity}"));
        }
        if !matches!(self.energy_j, Measurement::Unavailable { .. }) {
            lines.push(format!("energy per step: {}", words(&self.j_per_step)));
            lines.extend(self.to_perplexity.iter().map(|to| {
                let energy = words(&to.energy_j);
                format!(
                    "energy to perplexity {} of held-out text: {energy} in {} steps",
                    to.perplexity, to.steps
                )
            }));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 W, and a held-out loss that falls from ln 64 by ln 2 every 20 steps of a second and is
    /// looked at after every tenth step.
    fn steps() -> Vec<Step> {
        let step = |number: u32| {
            let halvings = f64::from(number / 20);
            let loss = (6.0 - halvings) * 2.0_f64.ln();
            Step {
                at: u64::from(number) * 1_000_000_000,
                held_out_loss: (number + 1).is_multiple_of(10).then_some(loss),
            }
        };
        (0..101).map(step).collect()
    }

    fn at_100_w(from: MonotonicNs, to: MonotonicNs) -> (Measurement, Option<f64>) {
        let value = count_to_f64(to - from) / 1e7;
        let source = "a test".to_owned();
        (Measurement::Measured { value, source }, Some(1.0))
    }

    #[test]
    fn energy_is_told_per_step_and_to_each_perplexity_that_was_reached() {
        let energy = account(&steps(), at_100_w);
        assert_eq!(energy.steps, 100);
        assert!(
            matches!(energy.j_per_step, Measurement::Derived { value, .. } if (value - 100.0).abs() < 1e-9)
        );
        let reached: Vec<f64> = energy
            .to_perplexity
            .iter()
            .map(|to| to.perplexity)
            .collect();
        // The last look is after step 100, at 4.
        assert_eq!(reached, [100.0, 50.0, 20.0, 10.0, 5.0]);
        assert!((energy.held_out_perplexity.unwrap() - 4.0).abs() < 1e-9);
        // 64 is below 100 at once: at the first look, after ten steps.
        assert_eq!(energy.to_perplexity[0].steps, 9);
        let Measurement::Measured { value, .. } = energy.to_perplexity[0].energy_j else {
            panic!("{energy:?}");
        };
        assert!((value - 900.0).abs() < 1e-9, "{value}");
    }

    #[test]
    fn without_a_meter_the_reason_stands_where_the_number_would() {
        let nothing = |_, _| {
            let why = "no sensor".to_owned();
            (Measurement::Unavailable { why }, None)
        };
        let energy = account(&steps(), nothing);
        assert_eq!(
            energy.lines(),
            [
                "energy of the training: Unavailable: no sensor",
                "perplexity of held-out text: 4.00"
            ]
        );
        assert_eq!(account(&steps()[..1], at_100_w).steps, 0);
    }
}
