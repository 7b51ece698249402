//! Energy: by meter, above idle, per useful unit, per request.

use hexloop_proto::{IdlePower, Measurement, MeterCost, MeteringCost};
use hexloop_workloads::job::{Outcome, RequestRecord};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::compute::quantity;
use super::{Quality, Quantity};
use crate::energy::{Interval, RequestWork, attribute, calibrate, intervals};
use crate::format::{count_to_f64, rounded};
use crate::results::{PhaseResults, Results};

/// Length of the intervals that energy is attributed in: one refresh of a GPU's counter.
const INTERVAL_NS: u64 = 100_000_000;

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
    /// Power without jobs before the first phase, in watts.
    pub idle_before_w: Quantity,
    /// The same after the last phase.
    pub idle_after_w: Quantity,
    /// What is subtracted as idle, in watts: the mean of both.
    pub idle_w: Quantity,
    /// Half of the difference of both, and what the windows leave open, in watts.
    pub idle_uncertainty_w: Option<f64>,
    /// What reading the meters cost; null where there was nothing to read.
    pub overhead: Option<MeteringSummary>,
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

/// The energy of one phase beyond its gross value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobEnergy {
    /// What the edges of the counters' windows leave open of the gross value, in joules.
    pub uncertainty_j: Option<f64>,
    /// Gross less idle power times the length of the phase.
    pub above_idle_j: Quantity,
    /// Gross energy per request that was completed.
    pub j_per_request: Quantity,
    /// Gross energy per request that was completed by its deadline.
    pub j_per_good_request: Quantity,
    /// Gross energy per generated token.
    pub j_per_output_token: Quantity,
    /// Gross energy per prompt and generated token.
    pub j_per_token: Quantity,
    /// Generated tokens per joule.
    pub output_tokens_per_j: Quantity,
    /// Gross energy per request times its mean end-to-end latency, in joule seconds.
    pub energy_delay_product_j_s: Quantity,
    /// Every channel's energy, in the order of the run's meters.
    pub channels_j: Vec<Quantity>,
    /// Devices whose counter and integral could be compared: (integral - counter) / counter.
    pub counter_gaps: Vec<CounterGap>,
    /// Whether any of them is apart by more than 5 %.
    pub suspect: bool,
    /// How the metered energy splits among the requests.
    pub attribution: AttributionSummary,
}

/// A counter against the integral of instantaneous power of the same device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CounterGap {
    /// The device.
    pub device: String,
    /// (integral - counter) / counter.
    pub relative: f64,
}

/// Requests + idle + unattributed = meter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AttributionSummary {
    /// Sum of all requests, above idle, in joules.
    pub requests_j: Quantity,
    /// Idle power over the attributed intervals.
    pub idle_j: Quantity,
    /// Above idle, while no request was worked on.
    pub unattributed_j: Quantity,
    /// The meter over the attributed intervals.
    pub meter_j: Quantity,
    /// Energy above idle of the median request.
    pub request_p50_j: Quantity,
    /// Fitted energy per prompt token; null where both kinds of token count the same.
    pub prefill_j_per_token: Option<f64>,
    /// Fitted energy per generated token.
    pub decode_j_per_token: Option<f64>,
}

fn unavailable(why: &str) -> Quantity {
    super::compute::unavailable(why)
}

fn derived(value: f64, source: &str) -> Quantity {
    Quantity {
        value: Some(rounded(value, 9)),
        quality: Quality::Derived,
        source: Some(source.to_owned()),
        reason: None,
    }
}

/// The meters of a run; `None` where no agent told of them.
pub(super) fn meters(results: &Results) -> Option<MeterSummary> {
    let agent = results.agent.as_ref()?;
    let idle = |when: &str| results.idle.iter().find(|idle| idle.when == when);
    let (before, after) = (idle("before"), idle("after"));
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
        idle_before_w: power(before),
        idle_after_w: power(after),
        idle_w,
        idle_uncertainty_w,
        overhead: results.metering.as_ref().map(|cost| {
            let share =
                |part: u64, whole: u64| rounded(count_to_f64(part) / count_to_f64(whole.max(1)), 9);
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
        }),
    })
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
    let reading_ns = count_to_f64(nvml.read_p50_ns) * per_second;
    let states_ns = cost.state_p50_ns.map_or(0.0, count_to_f64) * STATES_PER_S;
    Some((reading_ns + states_ns) * 8.0 / gpus / 1e9)
}

/// The mean of the idle powers that there are, and how far it may be off.
fn subtracted(
    before: Option<&IdlePower>,
    after: Option<&IdlePower>,
    why: &str,
) -> (Quantity, Option<f64>) {
    let known: Vec<(f64, f64)> = [before, after]
        .into_iter()
        .flatten()
        .filter_map(|idle| {
            let value = quantity(&idle.power_w).value?;
            Some((value, idle.uncertainty_w.unwrap_or(0.0)))
        })
        .collect();
    match known.as_slice() {
        [] => (unavailable(why), None),
        [(only, open)] => (
            derived(*only, "one of two idle spans"),
            Some(rounded(*open, 9)),
        ),
        [(first, open), (last, other), ..] => {
            let spread = (first - last).abs() / 2.0 + open.max(*other);
            let mean = f64::midpoint(*first, *last);
            (
                derived(mean, "idle before and after"),
                Some(rounded(spread, 9)),
            )
        }
    }
}

/// What a phase's energy amounts to.
pub(super) fn job_energy(
    results: &Results,
    recorded: &PhaseResults,
    idle_w: Option<f64>,
    completed: u64,
    good: u64,
) -> JobEnergy {
    let end = recorded.end.as_ref();
    let gross = end.map(|end| quantity(&end.energy_j));
    let why = gross
        .as_ref()
        .and_then(|gross| gross.reason.clone())
        .unwrap_or_else(|| "the phase did not end".to_owned());
    let gross_j = gross.as_ref().and_then(|gross| gross.value);
    let records = || recorded.requests.values();
    let outputs: u64 = records().map(tokens).sum();
    let prompts: u64 = records()
        .filter(|record| !record.token_ns.is_empty())
        .map(|record| u64::from(record.prompt_tokens))
        .sum();
    let per = |count: u64, what: &str| match (gross_j, count) {
        (None, _) => unavailable(&why),
        (Some(_), 0) => unavailable(&format!("no {what}")),
        (Some(energy_j), _) => derived(energy_j / count_to_f64(count), "gross energy"),
    };
    let latency_s = mean_end_to_end_s(recorded);
    let j_per_request = per(completed, "request was completed");
    JobEnergy {
        uncertainty_j: end
            .and_then(|end| end.energy_uncertainty_j)
            .map(|value| rounded(value, 9)),
        above_idle_j: match (gross_j, idle_w, end) {
            (Some(energy_j), Some(idle_w), Some(end)) => {
                let idle_j = idle_w * count_to_f64(end.duration_ns) / 1e9;
                derived(
                    energy_j - idle_j,
                    "gross energy less idle power times length",
                )
            }
            (Some(_), None, _) => unavailable("the idle power was not measured"),
            _ => unavailable(&why),
        },
        energy_delay_product_j_s: match (j_per_request.value, latency_s) {
            (Some(energy_j), Some(latency_s)) => derived(
                energy_j * latency_s,
                "gross energy per request times mean latency",
            ),
            _ => unavailable(j_per_request.reason.as_deref().unwrap_or(&why)),
        },
        j_per_request,
        j_per_good_request: per(good, "request was completed by its deadline"),
        j_per_output_token: per(outputs, "token was generated"),
        j_per_token: per(outputs + prompts, "token was processed"),
        output_tokens_per_j: match gross_j {
            Some(energy_j) if energy_j > 0.0 => {
                derived(count_to_f64(outputs) / energy_j, "gross energy")
            }
            Some(_) => unavailable("no energy was used"),
            None => unavailable(&why),
        },
        channels_j: end.map_or_else(Vec::new, |end| {
            let channels = end.energy_by_channel.iter();
            channels
                .map(|channel| quantity(&channel.energy_j))
                .collect()
        }),
        suspect: gaps(results, recorded)
            .iter()
            .any(|gap| gap.relative.abs() > LARGEST_GAP),
        counter_gaps: gaps(results, recorded),
        attribution: attribution(results, recorded, idle_w, &why),
    }
}

fn tokens(record: &RequestRecord) -> u64 {
    u64::try_from(record.tokens.len()).unwrap_or(u64::MAX)
}

fn mean_end_to_end_s(recorded: &PhaseResults) -> Option<f64> {
    let lengths: Vec<f64> = recorded
        .requests
        .values()
        .filter(|record| record.outcome == Outcome::Completed)
        .filter_map(|record| {
            let last_ns = record.token_ns.last()?;
            Some(count_to_f64(last_ns.saturating_sub(record.scheduled_ns)) / 1e9)
        })
        .collect();
    let count = u64::try_from(lengths.len())
        .ok()
        .filter(|count| *count > 0)?;
    Some(lengths.iter().sum::<f64>() / count_to_f64(count))
}

/// Counters against integrals of the same device and scope.
fn gaps(results: &Results, recorded: &PhaseResults) -> Vec<CounterGap> {
    let (Some(agent), Some(end)) = (&results.agent, &recorded.end) else {
        return Vec::new();
    };
    let pairs = agent.meters.iter().zip(&end.energy_by_channel);
    let value = |one: &hexloop_proto::ChannelEnergy| quantity(&one.energy_j).value;
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

fn attribution(
    results: &Results,
    recorded: &PhaseResults,
    idle_w: Option<f64>,
    why: &str,
) -> AttributionSummary {
    let none = |why: &str| AttributionSummary {
        requests_j: unavailable(why),
        idle_j: unavailable(why),
        unattributed_j: unavailable(why),
        meter_j: unavailable(why),
        request_p50_j: unavailable(why),
        prefill_j_per_token: None,
        decode_j_per_token: None,
    };
    let Some(channels) = results.agent.as_ref().map(|agent| &agent.meters) else {
        return none(why);
    };
    if !channels.iter().any(|channel| channel.counted) {
        return none(why);
    }
    let Some(idle_w) = idle_w else {
        return none("the idle power was not measured");
    };
    let Some(spans): Option<Vec<Interval>> = intervals(channels, &recorded.meters, INTERVAL_NS)
    else {
        return none("a counted channel has no readings throughout the phase");
    };
    let work: Vec<RequestWork> = recorded
        .requests
        .values()
        .filter(|record| !record.token_ns.is_empty())
        .map(|record| RequestWork {
            id: record.id,
            sent_ns: record.sent_ns,
            prompt_tokens: record.prompt_tokens,
            token_ns: record.token_ns.clone(),
        })
        .collect();
    let coefficients = calibrate(&spans, idle_w, &work);
    let split = attribute(&spans, idle_w, &work, coefficients);
    let mut each: Vec<f64> = split.requests_j.iter().map(|one| one.1).collect();
    each.sort_by(f64::total_cmp);
    let source = if coefficients.fitted {
        "intervals of 100 ms, work weighted by fitted energy per token"
    } else {
        "intervals of 100 ms, all tokens weighted alike"
    };
    AttributionSummary {
        requests_j: derived(each.iter().sum(), source),
        idle_j: derived(split.idle_j, source),
        unattributed_j: derived(split.unattributed_j, source),
        meter_j: derived(split.meter_j, source),
        request_p50_j: each.get(each.len() / 2).map_or_else(
            || unavailable("no request was worked on"),
            |one| derived(*one, source),
        ),
        prefill_j_per_token: coefficients
            .fitted
            .then(|| rounded(coefficients.prefill_j, 9)),
        decode_j_per_token: coefficients
            .fitted
            .then(|| rounded(coefficients.decode_j, 9)),
    }
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
            read_p50_ns: 100_000,
            read_p99_ns: 0,
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
