//! What MLPerf's LoadGen states of each scenario (LoadGen, `results.cc`; inference rules, section 3.1,
//! "Scenarios"): single-stream the 90th percentile of latency, multi-stream the 99th percentile of the
//! latency of a query, server its 99th percentile with the rate that was achieved, offline the
//! throughput. A percentile that too few queries carry (early stopping at 99 % confidence) is not
//! stated.

use std::collections::BTreeMap;

use hexloop_topologies::plan::LoadPlan;
use hexloop_workloads::job::Outcome;
use hexloop_workloads::load::Arrivals;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::format::{count_to_f64, length, ns_to_ms, ns_to_s, rounded};
use crate::results::PhaseResults;
use hexloop_statistics::{
    Origin, P99, Quantile, end_to_end_ns, needed_samples, quantile_of_sorted,
};

/// What LoadGen would state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScenarioSummary {
    /// `single-stream`, `multi-stream`, `server` or `offline`.
    pub scenario: String,
    /// What `value` is.
    pub metric: String,
    /// Its value; null where too few queries carry it, or queries failed.
    pub value: Option<f64>,
    /// Queries that ended.
    pub queries: u64,
    /// Queries that the metric needs; 0 for a throughput.
    pub needed: u64,
    /// Queries of which a sample did not complete: LoadGen's run would be invalid.
    pub incomplete: u64,
}

/// The 90th percentile.
const P90: Option<Quantile> = Quantile::from_per_mille(900);

pub(super) fn of(load: &LoadPlan, recorded: &PhaseResults, tokens: u64) -> Option<ScenarioSummary> {
    let arrivals = &load.load.arrivals;
    let (metric, quantile) = match arrivals {
        Arrivals::SingleStream => ("latency of a query, 90th percentile, ms", P90),
        Arrivals::MultiStream { .. } => ("latency of a query, 99th percentile, ms", Some(P99)),
        Arrivals::Server { .. } => (
            "latency from the scheduled time, 99th percentile, ms",
            Some(P99),
        ),
        Arrivals::Offline { .. } => ("tokens per second", None),
        _ => return None,
    };
    // The samples of a multi-stream query have one scheduled moment; elsewhere each is a query.
    let grouped = matches!(arrivals, Arrivals::MultiStream { .. });
    let mut queries: BTreeMap<(u64, u32), Option<u64>> = BTreeMap::new();
    let mut last_ns = 0;
    for record in recorded.requests.values() {
        let key = (record.scheduled_ns, if grouped { 0 } else { record.id });
        let latency = end_to_end_ns(record, Origin::Scheduled);
        let query = queries.entry(key).or_insert(Some(0));
        *query = query.zip(latency).map(|(one, other)| one.max(other));
        if record.outcome == Outcome::Completed {
            last_ns = last_ns.max(record.token_ns.last().copied().unwrap_or(0));
        }
    }
    let mut ended: Vec<u64> = queries.values().copied().flatten().collect();
    ended.sort_unstable();
    let incomplete = length(
        &queries
            .into_values()
            .filter(Option::is_none)
            .collect::<Vec<_>>(),
    );
    let needed = quantile.map_or(0, |quantile| needed_samples(quantile, 0));
    let value = match quantile {
        _ if incomplete > 0 || length(&ended) < needed => None,
        Some(quantile) => quantile_of_sorted(&ended, quantile).map(ns_to_ms),
        None if last_ns > 0 => Some(rounded(count_to_f64(tokens) / ns_to_s(last_ns), 6)),
        None => None,
    };
    Some(ScenarioSummary {
        scenario: arrivals.name().to_owned(),
        metric: metric.to_owned(),
        value,
        queries: length(&ended),
        needed,
        incomplete,
    })
}
