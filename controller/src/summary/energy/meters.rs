//! The meters of a run, what they show without work, and what reading them costs.

use hexloop_proto::{
    ChannelEnergy, IdlePower, Measurement, MeterChannel, MeterCost, MeteringCost, Unmetered,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::idle::{self, IdleChannelSummary};
use crate::energy::{idle_power, known_idle};
use crate::format::{count_to_f64, rounded};
use crate::results::Results;
use crate::summary::compute::{quantity, unavailable};
use crate::summary::{Quality, Quantity};

/// How far a counter and the integral of the same device may be apart before the phase's energy
/// is suspect.
pub const LARGEST_GAP: f64 = 0.05;

/// The meters of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MeterSummary {
    /// `hardware`, or `stub` where any channel was put in a device's place by a test.
    pub source: String,
    /// Every channel that was read.
    pub channels: Vec<MeterChannelSummary>,
    /// What was looked for and cannot be read.
    pub unavailable: Vec<Missing>,
    /// Power without jobs before the first phase, in watts.
    pub idle_before_w: Quantity,
    /// The same after the last phase.
    pub idle_after_w: Quantity,
    /// What is subtracted as idle, in watts: the mean of both.
    pub idle_w: Quantity,
    /// Half of the difference of both, and what the windows leave open, in watts.
    pub idle_uncertainty_w: Option<f64>,
    /// How steady power was in the idle span before the first phase: its standard deviation over half seconds,
    /// over their mean.
    #[serde(default = "not_recorded")]
    pub idle_variation: Quantity,
    /// The same of every meter, with its mean power; empty where the span was not metered.
    #[serde(default)]
    pub idle_channels: Vec<IdleChannelSummary>,
    /// What reading the meters cost; null where there was nothing to read.
    pub overhead: Option<MeteringSummary>,
}

fn not_recorded() -> Quantity {
    unavailable("this summary was written before steadiness was judged")
}

/// A source without anything to read, or something that a source withholds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Missing {
    /// The source, such as `RAPL (powercap)`.
    pub source: String,
    /// Why.
    pub reason: String,
}

pub(crate) fn missing(unmetered: &Unmetered) -> Missing {
    Missing {
        source: unmetered.source.clone(),
        reason: unmetered.why.clone(),
    }
}

/// One channel of a meter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MeterChannelSummary {
    /// The device.
    pub device: String,
    /// Which part of the machine it covers.
    pub scope: String,
    /// `energy counter`, `instantaneous power` or `average power`.
    pub quantity: String,
    /// Where it is read.
    pub source: String,
    /// Whether it is part of the machine's sum.
    pub counted: bool,
}

/// What reading the meters cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MeteringSummary {
    /// Readings per second that were asked for.
    pub rate_hz: f64,
    /// Readings that came more than a period late, over all.
    pub late_share: f64,
    /// CPU time of the sampling thread over its run time.
    pub cpu_share: f64,
    /// Median time of reading every channel once, in microseconds.
    pub read_p50_us: f64,
    /// 99th percentile of the same.
    pub read_p99_us: f64,
    /// Median time of reading the slow things of all GPUs once, in microseconds.
    pub state_p50_us: Option<f64>,
    /// By meter.
    pub meters: Vec<MeterCostSummary>,
    /// Share of one CPU that eight such GPUs would take at this rate, their slow things five times
    /// a second: computed from the median costs; null without a GPU.
    pub eight_gpus_cpu_share: Option<f64>,
}

/// What reading one meter cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MeterCostSummary {
    /// The meter.
    pub meter: String,
    /// Its devices.
    pub devices: u64,
    /// Its channels.
    pub channels: u64,
    /// Median time of reading all its channels, in microseconds.
    pub read_p50_us: f64,
    /// 99th percentile of the same.
    pub read_p99_us: f64,
}

/// A counter against the integral of instantaneous power of the same device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CounterGap {
    /// The device.
    pub device: String,
    /// (integral - counter) / counter.
    pub relative: f64,
}

impl CounterGap {
    /// Whether they are so far apart that neither is to be trusted.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.relative.abs() > LARGEST_GAP
    }
}

/// What follows from a quantity of this quality: of an estimate only an estimate can follow.
pub(crate) fn derived_from(of: Quality, value: f64, source: &str) -> Quantity {
    Quantity {
        value: Some(rounded(value, 9)),
        quality: match of {
            Quality::Estimated => Quality::Estimated,
            _ => Quality::Derived,
        },
        source: Some(source.to_owned()),
        reason: None,
    }
}

/// The meters of a run; `None` where no agent told of them.
pub(in crate::summary) fn meters(results: &Results) -> Option<MeterSummary> {
    let agent = results.agent.as_ref()?;
    let span = |when: &str| results.idle.iter().find(|idle| idle.when == when);
    let (before, after) = (span("before"), span("after"));
    let why = match &agent.energy_j {
        Measurement::Unavailable { why } if agent.meters.is_empty() => why.clone(),
        _ => "the run did not get that far".to_owned(),
    };
    let power = |idle: Option<&IdlePower>| {
        idle.map_or_else(|| unavailable(&why), |idle| quantity(&idle.power_w))
    };
    let (idle_w, idle_uncertainty_w) = subtracted(before, after, &why);
    let is_stub = agent.meters.iter().any(|channel| channel.stub);
    Some(MeterSummary {
        source: if is_stub { "stub" } else { "hardware" }.to_owned(),
        channels: agent
            .meters
            .iter()
            .map(|channel| MeterChannelSummary {
                device: channel.device.clone(),
                scope: channel.scope.clone(),
                quantity: channel.quantity.clone(),
                source: channel.source.clone(),
                counted: channel.counted,
            })
            .collect(),
        unavailable: agent.unmetered.iter().map(missing).collect(),
        idle_before_w: power(before),
        idle_after_w: power(after),
        idle_w,
        idle_uncertainty_w,
        idle_variation: idle::machine_variation(results),
        idle_channels: idle::channels(results),
        overhead: results.metering.as_ref().map(metering),
    })
}

/// What reading the meters cost.
pub(crate) fn metering(cost: &MeteringCost) -> MeteringSummary {
    let share = |part: u64, whole: u64| rounded(count_to_f64(part) / count_to_f64(whole.max(1)), 9);
    MeteringSummary {
        rate_hz: rounded(1e9 / count_to_f64(cost.period_ns.max(1)), 3),
        late_share: share(cost.late, cost.reads),
        cpu_share: share(cost.cpu_ns, cost.wall_ns),
        read_p50_us: count_to_f64(cost.read_p50_ns) / 1e3,
        read_p99_us: count_to_f64(cost.read_p99_ns) / 1e3,
        state_p50_us: cost.state_p50_ns.map(|ns| count_to_f64(ns) / 1e3),
        meters: cost.meters.iter().map(meter_cost).collect(),
        eight_gpus_cpu_share: eight_gpus(cost).map(|share| rounded(share, 9)),
    }
}

fn meter_cost(cost: &MeterCost) -> MeterCostSummary {
    MeterCostSummary {
        meter: cost.meter.clone(),
        devices: cost.devices,
        channels: cost.channels,
        read_p50_us: count_to_f64(cost.read_p50_ns) / 1e3,
        read_p99_us: count_to_f64(cost.read_p99_ns) / 1e3,
    }
}

/// Looks at the slow things about GPUs per second.
const STATES_PER_S: f64 = 5.0;

/// The share of one CPU that eight GPUs would take: calls to the driver come one after the other, so
/// that their times add up.
fn eight_gpus(cost: &MeteringCost) -> Option<f64> {
    let nvml = cost.meters.iter().find(|meter| meter.meter == "NVML")?;
    let gpus = count_to_f64(nvml.devices.max(1));
    let per_second = 1e9 / count_to_f64(cost.period_ns.max(1));
    let reading_ns = count_to_f64(nvml.read_mean_ns) * per_second;
    let states_ns = cost.state_p50_ns.map_or(0.0, count_to_f64) * STATES_PER_S;
    Some((reading_ns + states_ns) * 8.0 / gpus / 1e9)
}

/// The mean of the idle powers that there are, and how far it may be off.
pub(crate) fn subtracted(
    before: Option<&IdlePower>,
    after: Option<&IdlePower>,
    why: &str,
) -> (Quantity, Option<f64>) {
    let spans = before.into_iter().chain(after);
    let known = known_idle(spans.clone());
    let Some((mean_w, open_w)) = idle_power(&known) else {
        return (unavailable(why), None);
    };
    let source = match known.len() {
        1 => "one of two idle spans",
        _ => "idle before and after",
    };
    let is_estimated = spans
        .into_iter()
        .any(|idle| matches!(idle.power_w, Measurement::Estimated { .. }));
    let quality = if is_estimated {
        Quality::Estimated
    } else {
        Quality::Derived
    };
    let idle_w = derived_from(quality, mean_w, source);
    (idle_w, Some(rounded(open_w, 9)))
}

/// Counters against integrals of the same device and scope.
pub(crate) fn gaps_between(
    channels: &[MeterChannel],
    energies: &[ChannelEnergy],
) -> Vec<CounterGap> {
    let pairs = channels.iter().zip(energies);
    let value = |one: &ChannelEnergy| quantity(&one.energy_j).value;
    pairs
        .clone()
        .filter(|(channel, _)| channel.is_counter())
        .filter_map(|(counter, counted)| {
            let (_, integral) = pairs.clone().find(|(channel, _)| {
                channel.device == counter.device
                    && channel.scope == counter.scope
                    && channel.quantity == "instantaneous power"
            })?;
            let counter_j = value(counted).filter(|energy_j| *energy_j > 0.0)?;
            Some(CounterGap {
                device: counter.device.clone(),
                relative: rounded((value(integral)? - counter_j) / counter_j, 9),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_gpus_cost_what_their_calls_take_one_after_the_other() {
        let nvml = MeterCost {
            meter: "NVML".to_owned(),
            channels: 6,
            devices: 2,
            read_p50_ns: 1_000,
            read_p99_ns: 0,
            read_mean_ns: 100_000,
        };
        let mut cost = MeteringCost {
            period_ns: 10_000_000,
            state_p50_ns: Some(2_000_000),
            meters: vec![nvml],
            ..MeteringCost::default()
        };
        // Each: 100 x 50 us and 5 x 1 ms a second; eight of them 80 ms.
        let share = eight_gpus(&cost).unwrap();
        assert!((share - 0.08).abs() < 1e-12, "{share}");
        cost.meters.clear();
        assert_eq!(eight_gpus(&cost), None);
    }
}
