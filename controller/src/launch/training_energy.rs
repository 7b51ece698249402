//! Meters a training: idle before it, every step, idle after it. What it came to is kept beside the
//! model's files, whence the records of runs take it.

use std::fs;
use std::path::Path;

use hexloop_agent::telemetry::power::PowerSampler;
use hexloop_agent::telemetry::sources::MeterSources;
use hexloop_proto::{IdlePower, Measurement};
use hexloop_telemetry::Places;
use hexloop_workloads::clock;
use hexloop_workloads::engine::train::TrainingProgress;

use crate::record::environment::Known;
use crate::summary::{Step, Surroundings, TrainingEnergy, missing, training_energy};

/// Where it is kept, beside the model's files.
const FILE: &str = "energy.json";

/// How long idle power is measured before the training and after it: as around the phases of a run.
const IDLE_NS: u64 = 3_000_000_000;

/// Meters a training while it goes on.
pub(super) struct TrainingMeter {
    sampler: Result<PowerSampler, String>,
    before: Option<IdlePower>,
    steps: Vec<Step>,
}

/// Power of the machine from now on; takes no time where no meter can be summed up.
fn idle(sampler: &Result<PowerSampler, String>, when: &str) -> Option<IdlePower> {
    let sampler = sampler.as_ref().ok().filter(|sampler| sampler.can_sum())?;
    let from = clock::now();
    clock::sleep_until(from + IDLE_NS);
    let power = sampler.window(from, from + IDLE_NS).power;
    Some(power.idle(when, IDLE_NS))
}

impl TrainingMeter {
    /// Looks for meters, reads them from now on, and measures idle power where there are some.
    pub(super) fn begin() -> TrainingMeter {
        let sources = MeterSources::at(Places::from_environment());
        let sampler = PowerSampler::start(&sources).map_err(|error| error.to_string());
        TrainingMeter {
            before: idle(&sampler, "before"),
            sampler,
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

    /// Measures idle power once more, and ends it.
    pub(super) fn finish(self) -> TrainingEnergy {
        let TrainingMeter {
            sampler,
            before,
            steps,
        } = self;
        let after = before.as_ref().and_then(|_| idle(&sampler, "after"));
        let idle = [before, after];
        let energy = match &sampler {
            Ok(sampler) => {
                let channels = sampler.channels();
                let around = Surroundings {
                    source: if channels.is_empty() {
                        "none"
                    } else if channels.iter().any(|channel| channel.stub) {
                        "stub"
                    } else {
                        "hardware"
                    },
                    idle,
                    unavailable: sampler.unmetered().iter().map(missing).collect(),
                };
                training_energy(&steps, around, |from, to| {
                    let window = sampler.window(from, to);
                    (window.energy_j, window.uncertainty_j)
                })
            }
            Err(why) => {
                let around = Surroundings {
                    source: "none",
                    idle,
                    unavailable: Vec::new(),
                };
                training_energy(&steps, around, |_, _| {
                    (Measurement::Unavailable { why: why.clone() }, None)
                })
            }
        };
        if let Ok(sampler) = sampler {
            sampler.finish();
        }
        energy
    }
}

/// Keeps it beside the model's files.
pub(super) fn keep(energy: &TrainingEnergy, directory: &Path) -> std::io::Result<()> {
    let text = serde_json::to_string_pretty(energy)?;
    fs::write(directory.join(FILE), text + "\n")
}

/// What training the model of a directory came to, or why that is not known.
pub(crate) fn kept(directory: &Path) -> Known<TrainingEnergy> {
    let path = directory.join(FILE);
    let read = fs::read_to_string(&path).map_err(|error| error.to_string());
    let parsed = read.and_then(|text| {
        serde_json::from_str(&text).map_err(|error| format!("of another version: {error}"))
    });
    match parsed {
        Ok(energy) => Known::Known(energy),
        Err(why) => Known::Unknown {
            why: format!("no {FILE} beside the model's files ({why})"),
        },
    }
}
