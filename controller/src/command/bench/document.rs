//! What the bench found, as one document.

use std::env;

use hexloop_agent::bench::{Measured, Row, TimerLateness, timer_lateness};
use hexloop_workloads::clock;
use serde::Serialize;

use super::estimate::estimate;
use super::target::{self, Bound};
use crate::format::{rounded, utc};
use crate::record::environment::Machine;

/// Version of the document.
const SCHEMA: u32 = 1;

/// Seed of the intervals.
const SEED: u64 = 1;

/// Wake-ups that are looked at beforehand.
const WAKE_UPS: (u64, u64) = (200, 1000);

/// Other emulators that people compare with, and the program that shows each is installed.
const PEERS: [(&str, &str); 2] = [("mahimahi", "mm-link"), ("rattan", "rattan")];

/// Everything that was found.
#[derive(Debug, Serialize)]
pub(super) struct Document {
    schema_version: u32,
    tool_version: &'static str,
    /// `full` or `smoke`; targets are stated for the full scale.
    pub(super) preset: &'static str,
    #[serde(flatten)]
    pub(super) facts: Facts,
    pub(super) rows: Vec<RowResult>,
}

/// What the results depend on, read before anything was measured.
#[derive(Debug, Default, Serialize)]
pub(super) struct Facts {
    started: String,
    root: bool,
    /// Kernel, CPU, load average before.
    pub(super) machine: Option<Machine>,
    /// How late a sleeping thread of ordinary scheduling wakes; null where it cannot be told.
    pub(super) timers_ordinary: Option<TimerLateness>,
    /// The same of a real-time thread; null where that is refused.
    pub(super) timers_real_time: Option<TimerLateness>,
    /// Other emulators, and whether they are here; the bench does not measure them.
    pub(super) peers: Vec<Peer>,
}

/// Another emulator.
#[derive(Debug, Serialize)]
pub(super) struct Peer {
    pub(super) name: &'static str,
    pub(super) installed: bool,
}

/// How a row came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Outcome {
    /// Every target was met.
    Met,
    /// At least one was not.
    Missed,
    /// It was measured, and nothing is aimed at on this scale.
    Measured,
    /// It was measured, but what was to be known cannot be told from it.
    Spoilt,
    /// This machine or kernel cannot do it.
    Unavailable,
    /// Something failed.
    Failed,
}

impl Outcome {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Outcome::Met => "met",
            Outcome::Missed => "missed",
            Outcome::Measured => "measured",
            Outcome::Spoilt => "spoilt",
            Outcome::Unavailable => "unavailable",
            Outcome::Failed => "FAILED",
        }
    }
}

/// One row.
#[derive(Debug, Serialize)]
pub(super) struct RowResult {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) outcome: Outcome,
    /// Why there is no result, or none that says anything.
    pub(super) why: Option<String>,
    pub(super) datapath: String,
    pub(super) scale: String,
    pub(super) quantities: Vec<Judged>,
    pub(super) notes: Vec<String>,
    seconds: f64,
    /// Share of the machine's CPU time that was not idle meanwhile, the bench's own included.
    busy_percent: Option<f64>,
    /// Share that the host gave to others.
    steal_percent: Option<f64>,
}

/// One quantity with its target.
#[derive(Debug, Serialize)]
pub(super) struct Judged {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    /// Null where the values are too few for it.
    pub(super) value: Option<f64>,
    /// Ends of the 95 % interval (block bootstrap); null where there are too few blocks.
    pub(super) low: Option<f64>,
    pub(super) high: Option<f64>,
    /// Values that it comes from.
    pub(super) count: usize,
    /// What is aimed at, such as `<= 0.1`; null where nothing is.
    pub(super) target: Option<String>,
    /// Whether it was met.
    pub(super) met: Option<bool>,
}

impl Judged {
    /// What is aimed at and was not found.
    fn unknown(name: &'static str, bound: Bound) -> Judged {
        Judged {
            name,
            unit: "",
            value: None,
            low: None,
            high: None,
            count: 0,
            target: Some(bound.to_string()),
            met: Some(false),
        }
    }
}

impl Document {
    pub(super) fn new(full: bool, facts: Facts, rows: Vec<RowResult>) -> Document {
        Document {
            schema_version: SCHEMA,
            tool_version: crate::VERSION,
            preset: if full { "full" } else { "smoke" },
            facts,
            rows,
        }
    }
}

impl Facts {
    /// Looks at the machine.
    pub(super) fn look(root: bool, full: bool) -> Facts {
        let wake_ups = if full { WAKE_UPS.1 } else { WAKE_UPS.0 };
        Facts {
            started: utc(clock::wall_clock_ns()),
            root,
            machine: Some(Machine::look()),
            timers_ordinary: timer_lateness(false, wake_ups),
            timers_real_time: timer_lateness(true, wake_ups),
            peers: PEERS
                .map(|(name, program)| Peer {
                    name,
                    installed: is_installed(program),
                })
                .into(),
        }
    }
}

fn is_installed(program: &str) -> bool {
    let directories = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&directories).any(|directory| directory.join(program).is_file())
}

impl RowResult {
    /// A row without a result.
    pub(super) fn without(row: &Row, outcome: Outcome, why: String) -> RowResult {
        RowResult {
            name: row.name,
            what: row.what,
            outcome,
            why: Some(why),
            datapath: String::new(),
            scale: String::new(),
            quantities: Vec::new(),
            notes: Vec::new(),
            seconds: 0.0,
            busy_percent: None,
            steal_percent: None,
        }
    }

    /// A row that was measured, judged by its targets.
    pub(super) fn measured(row: &Row, measured: &Measured, full: bool) -> RowResult {
        let mut quantities: Vec<Judged> = measured
            .quantities
            .iter()
            .map(|quantity| {
                let estimate = estimate(&quantity.seen, SEED);
                let bound = target::bound(row.name, quantity.name, full);
                let (low, high) = estimate.interval.unzip();
                Judged {
                    name: quantity.name,
                    unit: quantity.unit,
                    value: estimate.value.map(short),
                    low: low.map(short),
                    high: high.map(short),
                    count: estimate.count,
                    target: bound.as_ref().map(Bound::to_string),
                    // What could not be stated does not meet a target.
                    met: bound.map(|bound| estimate.value.is_some_and(|value| bound.holds(value))),
                }
            })
            .collect();
        // A target of which nothing was found is not met either.
        for (name, bound) in target::bounds(row.name, full) {
            if quantities.iter().all(|quantity| quantity.name != name) {
                quantities.push(Judged::unknown(name, bound));
            }
        }
        let mut judged = quantities
            .iter()
            .filter_map(|quantity| quantity.met)
            .peekable();
        let outcome = if measured.spoilt.is_some() {
            Outcome::Spoilt
        } else if judged.peek().is_none() {
            Outcome::Measured
        } else if judged.all(|met| met) {
            Outcome::Met
        } else {
            Outcome::Missed
        };
        RowResult {
            outcome,
            why: measured.spoilt.clone(),
            datapath: measured.datapath.clone(),
            scale: measured.scale.clone(),
            quantities,
            notes: measured.notes.clone(),
            ..RowResult::without(row, outcome, String::new())
        }
    }

    /// Adds how long it took and what share of the CPUs was not idle, or stolen, in percent.
    pub(super) fn beside(self, seconds: f64, others: Option<(f64, f64)>) -> RowResult {
        RowResult {
            seconds: rounded(seconds, 3),
            busy_percent: others.map(|(busy, _)| rounded(busy, 1)),
            steal_percent: others.map(|(_, steal)| rounded(steal, 1)),
            ..self
        }
    }
}

/// Six decimals, which is more than any value here carries.
fn short(value: f64) -> f64 {
    rounded(value, 6)
}

/// Names and targets of rows.
pub(super) fn listed(rows: &[&Row]) -> Vec<serde_json::Value> {
    rows.iter()
        .map(|row| {
            let targets = target::described(row.name);
            serde_json::json!({"name": row.name, "what": row.what, "targets": targets})
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hexloop_agent::bench::{Quantity, ROWS, Seen};

    fn row(values: Vec<f64>) -> RowResult {
        let exact = ROWS
            .iter()
            .find(|row| row.name == "relay-exact-10ms")
            .unwrap();
        let measured = Measured {
            quantities: vec![
                Quantity {
                    name: "window_error",
                    unit: "%",
                    seen: Seen::Mean(values),
                },
                Quantity {
                    name: "something_else",
                    unit: "",
                    seen: Seen::Value(7.0),
                },
            ],
            ..Measured::default()
        };
        RowResult::measured(exact, &measured, true)
    }

    #[test]
    fn a_row_is_judged_by_its_targets_alone() {
        let met = row(vec![0.05; 100]);
        assert_eq!(met.outcome, Outcome::Met);
        assert_eq!(met.quantities[0].target.as_deref(), Some("<= 0.1"));
        assert_eq!(met.quantities[1].met, None);
        assert_eq!(row(vec![0.2; 100]).outcome, Outcome::Missed);
    }

    #[test]
    fn a_target_of_which_nothing_was_found_is_not_met() {
        let star = ROWS.iter().find(|row| row.name == "star-1000").unwrap();
        let mut measured = Measured::default();
        for name in ["up", "down", "left"] {
            let seen = Seen::Value(0.0);
            measured.quantities.push(Quantity {
                name,
                unit: "",
                seen,
            });
        }
        let result = RowResult::measured(star, &measured, true);
        assert_eq!(result.outcome, Outcome::Missed);
        let last = result.quantities.last().unwrap();
        assert_eq!((last.name, last.met), ("memory_per_node", Some(false)));
        assert_eq!(
            RowResult::measured(star, &measured, false).outcome,
            Outcome::Met
        );
    }

    #[test]
    fn what_says_nothing_about_the_link_is_neither_met_nor_missed() {
        let exact = ROWS
            .iter()
            .find(|row| row.name == "relay-exact-10ms")
            .unwrap();
        let mut measured = Measured {
            spoilt: Some("the sender was held up".to_owned()),
            ..Measured::default()
        };
        measured.quantities.push(Quantity {
            name: "window_error",
            unit: "%",
            seen: Seen::Value(0.01),
        });
        let result = RowResult::measured(exact, &measured, true);
        assert_eq!(result.outcome, Outcome::Spoilt);
        assert_eq!(result.why.as_deref(), Some("the sender was held up"));
        assert_eq!(result.quantities.len(), 1);
    }

    #[test]
    fn what_could_not_be_stated_does_not_meet_its_target() {
        let empty = row(Vec::new());
        assert_eq!(empty.outcome, Outcome::Missed);
        assert_eq!(empty.quantities[0].value, None);
    }

    #[test]
    fn a_program_that_nobody_has_is_not_installed() {
        assert!(!is_installed("hexloop-no-such-program"));
    }
}
