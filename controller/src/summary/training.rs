//! The energy of training a model: gross and above idle, per step, and until text that it never saw
//! had come down to given perplexities. Pure.

use hexloop_proto::{IdlePower, Measurement};
use hexloop_workloads::clock::MonotonicNs;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Missing, Quantity, derived_from, quantity, subtracted, unavailable};
use crate::format::{count_to_f64, ns_to_s, rounded, significant};

/// Perplexities of held-out text that are looked for: e to the loss.
const TARGETS: [f64; 7] = [100.0, 50.0, 20.0, 10.0, 5.0, 3.0, 2.0];

/// The end of a step, and the loss on held-out text where it was looked at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Step {
    pub(crate) at: MonotonicNs,
    pub(crate) held_out_loss: Option<f64>,
}

/// What was metered beside the steps.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Surroundings {
    /// `hardware`, `stub`, or `none` where nothing was read.
    pub(crate) source: &'static str,
    /// Power of the machine before the training and after it, where it was measured.
    pub(crate) idle: [Option<IdlePower>; 2],
    /// What was looked for and cannot be read.
    pub(crate) unavailable: Vec<Missing>,
}

/// What training a model came to in energy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrainingEnergy {
    /// `hardware`, `stub` where a test put something in a meter's place, or `none`.
    pub source: String,
    /// Steps that were metered: all but the first, whose end is where metering begins. Looks at
    /// held-out text count into them.
    pub steps: u64,
    /// How long they took, in seconds.
    pub duration_s: f64,
    /// Energy of the machine over them, in joules: gross.
    pub energy_j: Quantity,
    /// What the edges of the window leave open of it, in joules.
    pub uncertainty_j: Option<f64>,
    /// Power of the machine before the training, in watts.
    pub idle_before_w: Quantity,
    /// The same after it.
    pub idle_after_w: Quantity,
    /// What is subtracted as idle, in watts: the mean of both.
    pub idle_w: Quantity,
    /// Half of the difference of both, and what their windows leave open, in watts.
    pub idle_uncertainty_w: Option<f64>,
    /// Gross energy less idle power times length, in joules.
    pub above_idle_j: Quantity,
    /// Gross energy per step, in joules.
    pub j_per_step: Quantity,
    /// Energy above idle per step, in joules.
    pub above_idle_j_per_step: Quantity,
    /// Perplexity of held-out text when it was looked at last.
    pub held_out_perplexity: Option<f64>,
    /// Until held-out text had come down to a perplexity, which is looked at every few steps.
    pub to_perplexity: Vec<ToPerplexity>,
    /// What was looked for and cannot be read.
    pub unavailable: Vec<Missing>,
}

/// The energy until held-out text had come down to a perplexity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToPerplexity {
    /// The perplexity.
    pub perplexity: f64,
    /// Steps until it was seen, of those that were metered.
    pub steps: u64,
    /// How long they took, in seconds.
    pub duration_s: f64,
    /// Energy of the machine, in joules: gross.
    pub energy_j: Quantity,
    /// What the edges of the window leave open of it, in joules.
    pub uncertainty_j: Option<f64>,
    /// Gross energy less idle power times length, in joules.
    pub above_idle_j: Quantity,
}

/// Sums up the steps, by the gross energy of a window and what that leaves open.
pub(crate) fn training_energy(
    steps: &[Step],
    around: Surroundings,
    window: impl Fn(MonotonicNs, MonotonicNs) -> (Measurement, Option<f64>),
) -> TrainingEnergy {
    let ends = steps.first().zip(steps.last());
    let count = u64::try_from(steps.len().saturating_sub(1)).unwrap_or(u64::MAX);
    let (first, last) = ends.map_or((0, 0), |(first, last)| (first.at, last.at));
    let (energy, uncertainty_j) = if count == 0 {
        let why = "the training had fewer than two steps".to_owned();
        (Measurement::Unavailable { why }, None)
    } else {
        window(first, last)
    };
    let energy_j = quantity(&energy);
    let [before, after] = &around.idle;
    let why = energy_j
        .reason
        .clone()
        .unwrap_or_else(|| "idle power was not measured".to_owned());
    let power = |idle: &Option<IdlePower>| {
        idle.as_ref()
            .map_or_else(|| unavailable(&why), |idle| quantity(&idle.power_w))
    };
    let (idle_w, idle_uncertainty_w) = subtracted(before.as_ref(), after.as_ref(), &why);
    let subtracted_w = idle_w.value;
    let above_idle = |gross: &Quantity, length_ns: u64| match (gross.value, subtracted_w) {
        (Some(gross_j), Some(idle_w)) => derived_from(
            gross.quality,
            gross_j - idle_w * ns_to_s(length_ns),
            "gross energy less idle power times length",
        ),
        (Some(_), None) => unavailable("idle power was not measured"),
        (None, _) => unavailable(&why),
    };
    let per_step = |energy: &Quantity, what: &str| match energy.value {
        Some(energy_j) => derived_from(energy.quality, energy_j / count_to_f64(count), what),
        None => energy.clone(),
    };
    let reached = |perplexity: f64| {
        let is_there = |step: &Step| {
            step.held_out_loss
                .is_some_and(|loss| loss <= perplexity.ln())
        };
        // Counted from 0: that many steps came after the first.
        let after = steps.iter().position(is_there).filter(|after| *after > 0)?;
        let at = steps.get(after)?.at;
        let (energy, open_j) = window(first, at);
        let energy_j = quantity(&energy);
        Some(ToPerplexity {
            perplexity,
            steps: u64::try_from(after).unwrap_or(u64::MAX),
            duration_s: rounded(ns_to_s(at - first), 9),
            above_idle_j: above_idle(&energy_j, at - first),
            energy_j,
            uncertainty_j: open_j,
        })
    };
    let above_idle_j = above_idle(&energy_j, last - first);
    let mut losses = steps.iter().rev().filter_map(|step| step.held_out_loss);
    TrainingEnergy {
        source: around.source.to_owned(),
        steps: count,
        duration_s: rounded(ns_to_s(last - first), 9),
        j_per_step: per_step(&energy_j, "gross energy"),
        above_idle_j_per_step: per_step(&above_idle_j, "energy above idle"),
        energy_j,
        uncertainty_j,
        idle_before_w: power(before),
        idle_after_w: power(after),
        idle_w,
        idle_uncertainty_w,
        above_idle_j,
        held_out_perplexity: losses.next().map(f64::exp),
        to_perplexity: TARGETS.into_iter().filter_map(reached).collect(),
        unavailable: around.unavailable,
    }
}

/// A value with its unit, or why there is none.
fn words(quantity: &Quantity, unit: &str) -> String {
    match quantity.value {
        Some(value) => format!("{} {unit}", significant(value)),
        None => {
            let reason = quantity.reason.as_deref();
            format!(
                "Unavailable: {}",
                reason.unwrap_or("no reason was recorded")
            )
        }
    }
}

impl TrainingEnergy {
    /// The same in words, a line each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let stub = if self.source == "stub" { " [STUB]" } else { "" };
        let gross = format!(
            "energy of the training{stub}: {}",
            words(&self.energy_j, "J")
        );
        let perplexity = self.held_out_perplexity.map(|perplexity| {
            let perplexity = significant(perplexity);
            format!("perplexity of held-out text: {perplexity}")
        });
        let Some(source) = &self.energy_j.source else {
            return std::iter::once(gross).chain(perplexity).collect();
        };
        let above_idle = words(&self.above_idle_j, "J");
        let gross = format!("{gross}, above idle {above_idle}; by {source}");
        let mut lines: Vec<String> = std::iter::once(gross).chain(perplexity).collect();
        lines.push(format!("idle power: {}", words(&self.idle_w, "W")));
        lines.push(format!(
            "energy per step: {}, above idle {}",
            words(&self.j_per_step, "J"),
            words(&self.above_idle_j_per_step, "J")
        ));
        lines.extend(self.to_perplexity.iter().map(|to| {
            format!(
                "energy to perplexity {} of held-out text: {}, above idle {}, in {} steps",
                to.perplexity,
                words(&to.energy_j, "J"),
                words(&to.above_idle_j, "J"),
                to.steps
            )
        }));
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

    fn measured(value: f64) -> Measurement {
        let source = "a test".to_owned();
        Measurement::Measured { value, source }
    }

    fn at_100_w(from: MonotonicNs, to: MonotonicNs) -> (Measurement, Option<f64>) {
        (measured(count_to_f64(to - from) / 1e7), Some(1.0))
    }

    fn around(idle_w: [Option<f64>; 2]) -> Surroundings {
        let idle = |when: &str, power_w: Option<f64>| {
            power_w.map(|power_w| IdlePower {
                when: when.to_owned(),
                span_ns: 3_000_000_000,
                power_w: measured(power_w),
                uncertainty_w: Some(0.5),
                channels_w: Vec::new(),
                readings: None,
            })
        };
        Surroundings {
            source: "hardware",
            idle: [idle("before", idle_w[0]), idle("after", idle_w[1])],
            unavailable: Vec::new(),
        }
    }

    fn near(quantity: &Quantity, expected: f64) -> bool {
        quantity
            .value
            .is_some_and(|value| (value - expected).abs() < 1e-6)
    }

    #[test]
    fn energy_is_told_gross_and_above_idle_per_step_and_to_each_perplexity_that_was_reached() {
        let energy = training_energy(&steps(), around([Some(38.0), Some(42.0)]), at_100_w);
        assert_eq!(energy.steps, 100);
        assert!(near(&energy.energy_j, 10_000.0) && near(&energy.j_per_step, 100.0));
        assert!(near(&energy.idle_w, 40.0), "{:?}", energy.idle_w);
        assert_eq!(energy.idle_uncertainty_w, Some(2.5));
        assert!(near(&energy.above_idle_j, 6_000.0));
        assert!(near(&energy.above_idle_j_per_step, 60.0));
        assert_eq!(energy.energy_j.source.as_deref(), Some("a test"));
        let reached: Vec<f64> = energy
            .to_perplexity
            .iter()
            .map(|to| to.perplexity)
            .collect();
        // The last look is after step 100, at 4.
        assert_eq!(reached, [100.0, 50.0, 20.0, 10.0, 5.0]);
        assert!((energy.held_out_perplexity.unwrap() - 4.0).abs() < 1e-9);
        // 64 is below 100 at once: at the first look, after ten steps.
        let first = &energy.to_perplexity[0];
        assert_eq!(first.steps, 9);
        assert!(near(&first.energy_j, 900.0) && near(&first.above_idle_j, 540.0));
        let lines = energy.lines();
        assert_eq!(
            lines[0],
            "energy of the training: 10000 J, above idle 6000 J; by a test"
        );
        assert!(
            lines.contains(
                &"energy to perplexity 100 of held-out text: 900 J, above idle 540 J, in 9 steps"
                    .to_owned()
            ),
            "{lines:#?}"
        );
    }

    #[test]
    fn without_idle_power_the_gross_energy_stands_alone() {
        let energy = training_energy(&steps(), around([None, None]), at_100_w);
        assert!(near(&energy.energy_j, 10_000.0));
        for without in [&energy.above_idle_j, &energy.above_idle_j_per_step] {
            assert_eq!(without.value, None);
            let reason = without.reason.as_deref();
            assert_eq!(reason, Some("idle power was not measured"));
        }
    }

    #[test]
    fn without_a_meter_the_reason_stands_where_the_number_would() {
        let nothing = |_, _| {
            let why = "no sensor".to_owned();
            (Measurement::Unavailable { why }, None)
        };
        let energy = training_energy(&steps(), around([None, None]), nothing);
        assert_eq!(energy.j_per_step.reason.as_deref(), Some("no sensor"));
        assert_eq!(
            energy.lines(),
            [
                "energy of the training: Unavailable: no sensor",
                "perplexity of held-out text: 4.00"
            ]
        );
        let one = training_energy(&steps()[..1], around([None, None]), at_100_w);
        assert_eq!((one.steps, one.energy_j.value), (0, None));
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let energy = training_energy(&steps(), around([Some(40.0), None]), at_100_w);
        let text = serde_json::to_string(&energy).unwrap();
        let read: TrainingEnergy = serde_json::from_str(&text).unwrap();
        assert_eq!(read, energy);
    }
}
