//! What loads on programs that serve found: the same latencies as of our own jobs, by the same
//! formulas, and the shape of the traffic as 3GPP's SA4 describes that of media and AI services.

mod scenario;
mod sizes;

use std::collections::BTreeMap;

use hexloop_topologies::plan::{LoadPlan, Plan};
use hexloop_traces::{Direction, Trace};
use hexloop_workloads::job::{Outcome, RequestRecord};
use hexloop_workloads::load::ExchangeRecord;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::compute::{Latencies, longest_outage_ns};
use super::distribution::Distribution;
use super::{JobEnergy, Quantity, energy, quantity, unavailable};
use crate::format::{count_to_f64, length, ns_to_s, ratio, rounded};
use crate::results::{PhaseResults, Results};
use hexloop_statistics::{
    Origin, end_to_end_ns, goodput, send_lateness_ns, time_to_first_token_ns,
};

pub use scenario::ScenarioSummary;
pub use sizes::Sizes;

/// One load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoadSummary {
    /// Name of the phase.
    pub phase: String,
    /// The node that asked.
    pub node: String,
    /// The node that the server listened on.
    pub server: String,
    /// The link between them.
    pub link: String,
    /// The model that was asked for.
    pub model: String,
    /// `completions` or `chat`.
    pub api: String,
    /// How requests came.
    pub arrivals: String,
    /// What they asked.
    pub mix: String,
    /// Requests that were to be sent: those of the schedule, and the turns that followed.
    pub requests: u64,
    /// Requests whose stream came to its end by their deadline.
    pub completed: u64,
    /// Requests that were given up at their deadline or the end of the phase.
    pub unfinished: u64,
    /// Requests that failed.
    pub failed: u64,
    /// How exchanges ended: `completed`, `timeout`, `phase-over`, `http-status`, `closed-mid-stream`, ...
    pub endings: BTreeMap<String, u64>,
    /// Requests completed within their deadline over those offered.
    pub goodput_over_offered: Option<f64>,
    /// Tokens generated: as the server counted where it did, else events that carried text.
    pub output_tokens: u64,
    /// Requests whose tokens the server counted.
    pub counted_by_server: u64,
    /// Tokens of prompts; null unless the server counted those of every request that completed.
    pub prompt_tokens: Option<u64>,
    /// Time to the first byte of the answer, from the scheduled time.
    pub first_byte_ms: Distribution,
    /// Time to the first event that carried text, from the scheduled time.
    pub ttft_ms: Distribution,
    /// The same from the moment of sending.
    pub ttft_from_send_ms: Distribution,
    /// (E2E - TTFT) / (tokens - 1), of completed requests with at least two tokens.
    pub tpot_ms: Distribution,
    /// Gaps between events that carried text, all requests pooled.
    pub itl_ms: Distribution,
    /// From the scheduled time to the last event that carried text, of completed requests: the time to
    /// the last token.
    pub e2e_ms: Distribution,
    /// How late the load generator began to send.
    pub send_lateness_ms: Distribution,
    /// Bytes of HTTP that were written to sockets.
    pub http_bytes_up: u64,
    /// Bytes of HTTP that were read from them.
    pub http_bytes_down: u64,
    /// The first over the second.
    pub uplink_over_downlink: Option<f64>,
    /// Bytes of each request: a burst up.
    pub burst_bytes_up: Sizes,
    /// Bytes of each burst of the answers: what came with less than 2 ms between one read and the next.
    pub burst_bytes_down: Sizes,
    /// Bytes that arrived at the server's interface, Ethernet headers included.
    pub link_wire_bytes_up: Option<u64>,
    /// The same at the asking node's.
    pub link_wire_bytes_down: Option<u64>,
    /// Completed requests per second, from T0 to the last end.
    pub requests_per_s: Option<f64>,
    /// Tokens of completed requests per second, from T0 to the last end.
    pub tokens_per_s: Option<f64>,
    /// What MLPerf's LoadGen would state of its scenario; null for other arrivals.
    pub scenario: Option<ScenarioSummary>,
    /// CPU time of each node's processes, in seconds.
    pub cpu_s: BTreeMap<String, f64>,
    /// Highest resident memory of each node, in bytes.
    pub memory_peak_bytes: BTreeMap<String, u64>,
    /// Length of the phase in seconds.
    pub duration_s: Option<f64>,
    /// Energy of the machine over the phase: gross.
    pub energy_j: Quantity,
    /// What it amounts to.
    pub energy: JobEnergy,
}

pub(super) fn summaries(
    plan: &Plan,
    traces: &BTreeMap<String, Trace>,
    results: &Results,
    idle_w: Option<f64>,
) -> Vec<LoadSummary> {
    let played = plan.loads.iter().filter_map(|load| {
        let recorded = results.phase(&load.name)?;
        let link = plan.link(&load.link);
        let trace = link.and_then(|link| traces.get(&link.trace));
        Some(summary(plan, load, (results, recorded, idle_w), trace))
    });
    played.collect()
}

/// Tokens of an answer: as the server counted, else events that carried text.
fn output_tokens(record: &RequestRecord, exchange: Option<&ExchangeRecord>) -> u64 {
    let counted = exchange.and_then(|exchange| exchange.output_tokens);
    counted.map_or_else(|| length(&record.token_ns), u64::from)
}

/// (E2E - TTFT) / (tokens - 1), rounded to the nearest nanosecond.
fn time_per_token_ns(record: &RequestRecord, tokens: u64) -> Option<u64> {
    let span = end_to_end_ns(record, Origin::Sent)? - time_to_first_token_ns(record, Origin::Sent)?;
    let gaps = tokens.checked_sub(1).filter(|gaps| *gaps > 0)?;
    Some((span + gaps / 2) / gaps)
}

fn summary(
    plan: &Plan,
    load: &LoadPlan,
    (results, recorded, idle_w): (&Results, &PhaseResults, Option<f64>),
    trace: Option<&Trace>,
) -> LoadSummary {
    let records = || recorded.requests.values();
    let exchange = |record: &RequestRecord| recorded.exchanges.get(&record.id);
    let count = |is: fn(&Outcome) -> bool| -> u64 {
        records().map(|record| u64::from(is(&record.outcome))).sum()
    };
    let completed = count(|outcome| *outcome == Outcome::Completed);
    let scheduled = load
        .schedule(plan.seed)
        .map_or(0, |schedule| length(&schedule));
    let requests = scheduled.max(length(&records().collect::<Vec<_>>()));
    let good = goodput(records(), load.load.deadline_ns, requests);
    let mut endings: BTreeMap<String, u64> = BTreeMap::new();
    for exchange in recorded.exchanges.values() {
        *endings
            .entry(exchange.ending.name().to_owned())
            .or_default() += 1;
    }
    let mut in_time: Vec<&RequestRecord> = records().collect();
    in_time.sort_by_key(|record| (record.scheduled_ns, record.id));
    let latencies = Latencies {
        records: in_time,
        longest_outage_ns: longest_outage_ns(trace, load.duration_ns),
        seed: plan.seed,
    };
    let since_scheduled = |record: &RequestRecord, moment: Option<u64>| {
        moment.map(|moment| moment.saturating_sub(record.scheduled_ns))
    };
    let end = recorded.end.as_ref();
    let wire = |direction: Direction| {
        let mut links = end?.links.iter();
        let found = links.find(|it| it.link == load.link && it.direction == direction);
        found.map(|counters| counters.wire_bytes)
    };
    let jobs = end.map(|end| end.jobs.as_slice()).unwrap_or_default();
    let [up, down] = [
        records().map(|record| record.payload.up).sum::<u64>(),
        records().map(|record| record.payload.down).sum(),
    ];
    let bursts = recorded.exchanges.values().flat_map(|it| &it.bursts);
    let done = || records().filter(|record| record.outcome == Outcome::Completed);
    let prompts: Option<Vec<u64>> = done()
        .map(|record| exchange(record)?.prompt_tokens.map(u64::from))
        .collect();
    let last_ns = done().filter_map(|record| record.token_ns.last()).max();
    let per_s = |count: u64| {
        let span_s = ns_to_s(*last_ns?);
        (span_s > 0.0).then(|| rounded(count_to_f64(count) / span_s, 6))
    };
    let done_tokens = done()
        .map(|record| output_tokens(record, exchange(record)))
        .sum();
    LoadSummary {
        phase: load.name.clone(),
        node: load.node.clone(),
        server: load.server.clone(),
        link: load.link.clone(),
        model: load.load.model.clone(),
        api: load
            .load
            .api
            .path()
            .trim_start_matches('/')
            .replace("/completions", ""),
        arrivals: load.load.arrivals.name().to_owned(),
        mix: load.load.mix.name().to_owned(),
        requests,
        completed,
        unfinished: count(|outcome| *outcome == Outcome::Unfinished),
        failed: count(|outcome| matches!(outcome, Outcome::Failed { .. })),
        endings,
        goodput_over_offered: good.share().map(|share| rounded(share, 9)),
        output_tokens: records()
            .map(|record| output_tokens(record, exchange(record)))
            .sum(),
        counted_by_server: length(
            &recorded
                .exchanges
                .values()
                .filter_map(|it| it.output_tokens)
                .collect::<Vec<_>>(),
        ),
        prompt_tokens: prompts
            .filter(|_| completed > 0)
            .map(|all| all.iter().sum()),
        first_byte_ms: latencies.per_request(|record| {
            since_scheduled(record, exchange(record).and_then(|it| it.first_byte_ns))
        }),
        ttft_ms: latencies.per_request(|r| time_to_first_token_ns(r, Origin::Scheduled)),
        ttft_from_send_ms: latencies.per_request(|r| time_to_first_token_ns(r, Origin::Sent)),
        tpot_ms: latencies.per_request(|r| time_per_token_ns(r, output_tokens(r, exchange(r)))),
        itl_ms: latencies.pooled_gaps(),
        e2e_ms: latencies.per_request(|r| end_to_end_ns(r, Origin::Scheduled)),
        send_lateness_ms: latencies.per_request(|r| Some(send_lateness_ns(r))),
        http_bytes_up: up,
        http_bytes_down: down,
        uplink_over_downlink: ratio(up, down),
        burst_bytes_up: Sizes::of(
            records()
                .map(|record| record.payload.up)
                .filter(|bytes| *bytes > 0),
        ),
        burst_bytes_down: Sizes::of(bursts.map(|bytes| u64::from(*bytes))),
        link_wire_bytes_up: wire(Direction::Up),
        link_wire_bytes_down: wire(Direction::Down),
        requests_per_s: per_s(completed),
        tokens_per_s: per_s(done_tokens),
        scenario: scenario::of(load, recorded, done_tokens),
        cpu_s: jobs
            .iter()
            .map(|job| (job.node.clone(), ns_to_s(job.cpu_ns)))
            .collect(),
        memory_peak_bytes: jobs
            .iter()
            .map(|job| (job.node.clone(), job.memory_peak_bytes))
            .collect(),
        duration_s: end.map(|end| ns_to_s(end.duration_ns)),
        energy_j: end.map_or_else(
            || unavailable("the phase did not end"),
            |end| quantity(&end.energy_j),
        ),
        energy: energy::job_energy(results, recorded, idle_w, completed, good.good),
    }
}

#[cfg(test)]
mod tests;
