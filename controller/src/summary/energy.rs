//! Energy: by meter, above idle, per useful unit, per request.

pub(super) mod idle;
mod meters;

use hexloop_workloads::job::{Outcome, RequestRecord};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::compute::{quantity, unavailable};
use super::{Quality, Quantity};
use crate::energy::{INTERVAL_NS, idle_power, known_idle, request_energies};
use crate::format::{count_to_f64, length, ns_to_s, rounded};
use crate::results::{PhaseResults, Results};

pub use idle::IdleChannelSummary;
pub(super) use meters::meters;
pub use meters::{
    CounterGap, LARGEST_GAP, MeterChannelSummary, MeterCostSummary, MeterSummary, MeteringSummary,
    Missing,
};
pub(crate) use meters::{derived_from, gaps_between, metering, missing, subtracted};

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
    /// Energy above idle of the median request; that of each stands in requests.csv.
    pub request_p50_j: Quantity,
    /// What is open of it, in joules: which side of the request's ends a refresh of the meter lies
    /// on, and idle power meanwhile.
    pub request_p50_uncertainty_j: Option<f64>,
    /// Length of the intervals whose energy is split, in seconds.
    pub interval_s: f64,
    /// Fitted energy per prompt token; null where both kinds of token count the same.
    pub prefill_j_per_token: Option<f64>,
    /// Fitted energy per generated token.
    pub decode_j_per_token: Option<f64>,
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
    let quality = gross
        .as_ref()
        .map_or(Quality::Unavailable, |gross| gross.quality);
    let derived = |value: f64, source: &str| derived_from(quality, value, source);
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
        suspect: gaps(results, recorded).iter().any(CounterGap::is_suspect),
        counter_gaps: gaps(results, recorded),
        attribution: attribution(results, recorded, quality, &why),
    }
}

fn tokens(record: &RequestRecord) -> u64 {
    // A server's answer has moments without numbers.
    length(&record.tokens).max(length(&record.token_ns))
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
    match (&results.agent, &recorded.end) {
        (Some(agent), Some(end)) => gaps_between(&agent.meters, &end.energy_by_channel),
        _ => Vec::new(),
    }
}

fn attribution(
    results: &Results,
    recorded: &PhaseResults,
    quality: Quality,
    without: &str,
) -> AttributionSummary {
    let interval_s = ns_to_s(INTERVAL_NS);
    let idle = idle_power(&known_idle(&results.idle));
    let found = match request_energies(results, recorded, idle) {
        Ok(found) => found,
        Err(why) => {
            // Where nothing was metered, the reason of that says more.
            let why = if quality == Quality::Unavailable {
                without
            } else {
                why
            };
            return AttributionSummary {
                requests_j: unavailable(why),
                idle_j: unavailable(why),
                unattributed_j: unavailable(why),
                meter_j: unavailable(why),
                request_p50_j: unavailable(why),
                request_p50_uncertainty_j: None,
                interval_s,
                prefill_j_per_token: None,
                decode_j_per_token: None,
            };
        }
    };
    let (split, coefficients) = (&found.split, found.coefficients);
    let each = split.requests_j.iter().map(|one| one.1);
    let mut each: Vec<(f64, Option<f64>)> = each.zip(found.uncertainty_j).collect();
    each.sort_by(|one, other| one.0.total_cmp(&other.0));
    let source = if coefficients.fitted {
        "intervals of 100 ms, work weighted by fitted energy per token"
    } else {
        "intervals of 100 ms, all tokens weighted alike"
    };
    let derived = |value: f64| derived_from(quality, value, source);
    let median = each.get(each.len() / 2);
    let fitted = |value: f64| coefficients.fitted.then(|| rounded(value, 9));
    AttributionSummary {
        requests_j: derived(each.iter().map(|one| one.0).sum()),
        idle_j: derived(split.idle_j),
        unattributed_j: derived(split.unattributed_j),
        meter_j: derived(split.meter_j),
        request_p50_j: median.map_or_else(
            || unavailable("no request was worked on"),
            |one| derived(one.0),
        ),
        request_p50_uncertainty_j: median.and_then(|one| Some(rounded(one.1?, 9))),
        interval_s,
        prefill_j_per_token: fitted(coefficients.prefill_j),
        decode_j_per_token: fitted(coefficients.decode_j),
    }
}
