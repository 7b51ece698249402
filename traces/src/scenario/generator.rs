//! From a scenario to rows, one by one.

use super::channel::{RadioRows, SatelliteRows, SwitchRows};
use super::event::EventLayer;
use super::{Control, Scenario, metadata, reach};
use crate::{Trace, TraceError, TraceMetadata, TraceRow};

/// Which of a scenario's traces: every seed and every user has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// The seed.
    pub seed: u64,
    /// The user, from 0.
    pub user: u32,
}

impl Default for Variant {
    /// Seed 1, user 0.
    fn default() -> Variant {
        Variant { seed: 1, user: 0 }
    }
}

/// Makes the rows of a trace when they are asked for.
#[derive(Debug, Clone)]
pub struct Generator {
    metadata: TraceMetadata,
    below: Below,
    events: EventLayer,
}

/// What lies below the scripted events.
#[derive(Debug, Clone)]
enum Below {
    Control {
        control: Control,
        next_ns: u64,
        step_ns: u64,
    },
    Radio(Box<RadioRows>),
    Satellite(Box<SatelliteRows>),
    Switch(Box<SwitchRows>),
}

impl Below {
    fn next(&mut self, duration_ns: u64) -> Result<Option<TraceRow>, TraceError> {
        match self {
            Below::Control {
                control,
                next_ns,
                step_ns,
            } => {
                if *next_ns >= duration_ns {
                    return Ok(None);
                }
                let (row, following_ns) = control.row(*next_ns, *step_ns);
                *next_ns = following_ns;
                Ok(Some(row))
            }
            Below::Radio(rows) => rows.next(duration_ns),
            Below::Satellite(rows) => rows.next(duration_ns),
            Below::Switch(rows) => rows.next(duration_ns),
        }
    }
}

impl Generator {
    pub(super) fn new(scenario: &Scenario, variant: Variant) -> Result<Generator, TraceError> {
        if let Some((path, problem)) = scenario.problems().into_iter().next() {
            return Err(TraceError::Generator {
                setting: "scenario",
                problem: format!("{path}: {problem}"),
            });
        }
        let beyond = reach::beyond(scenario, variant);
        let goes_on = scenario
            .channel
            .as_ref()
            .is_some_and(|channel| channel.extrapolate);
        if let Some(problem) = beyond.as_ref().filter(|_| !goes_on) {
            let remedy = "keep the user nearer, or `channel.extrapolate = true` goes on, and the trace \
                          says so";
            return Err(TraceError::Generator {
                setting: "mobility",
                problem: format!("{problem}; {remedy}"),
            });
        }
        let ground = |radio| RadioRows::new(scenario, radio, variant);
        let sky = |satellite| SatelliteRows::new(scenario, satellite, variant);
        let below = match (&scenario.control, &scenario.radio, &scenario.satellite) {
            (Some(control), ..) => Below::Control {
                control: control.clone(),
                next_ns: 0,
                step_ns: scenario.step.ns,
            },
            (None, Some(radio), None) => Below::Radio(Box::new(ground(radio)?)),
            (None, None, Some(satellite)) => Below::Satellite(Box::new(sky(satellite)?)),
            (None, Some(radio), Some(satellite)) => {
                let (ground, sky) = (ground(radio)?, sky(satellite)?);
                Below::Switch(Box::new(SwitchRows::new(
                    ground,
                    sky,
                    satellite,
                    scenario.step.as_seconds_f64(),
                )))
            }
            (None, None, None) => return Err(TraceError::Empty),
        };
        Ok(Generator {
            metadata: metadata::of(scenario, variant, beyond.as_deref()),
            below,
            events: EventLayer::new(scenario.events.clone(), scenario.duration.ns),
        })
    }

    /// What the trace says about itself.
    #[must_use]
    pub const fn metadata(&self) -> &TraceMetadata {
        &self.metadata
    }

    /// The next row, or none after the last one.
    ///
    /// # Errors
    /// A model that is asked for something outside of what it describes.
    pub fn next_row(&mut self) -> Result<Option<TraceRow>, TraceError> {
        let duration_ns = self.metadata.duration_ns;
        let below = &mut self.below;
        self.events.next(|| below.next(duration_ns))
    }

    /// All rows that are left, as a trace in memory.
    ///
    /// # Errors
    /// Those of [`Generator::next_row`].
    pub fn into_trace(mut self) -> Result<Trace, TraceError> {
        let mut rows = Vec::new();
        while let Some(row) = self.next_row()? {
            rows.push(row);
        }
        Trace::new(self.metadata, rows)
    }
}

impl Iterator for Generator {
    type Item = Result<TraceRow, TraceError>;

    fn next(&mut self) -> Option<Result<TraceRow, TraceError>> {
        self.next_row().transpose()
    }
}

#[cfg(test)]
#[path = "generator_tests.rs"]
mod tests;
