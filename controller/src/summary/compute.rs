//! From plan and results to the summary: pure, so that it can be computed again at any time.

use std::collections::BTreeMap;

use hexloop_proto::{LateHistogram, Measurement};
use hexloop_topologies::plan::{LinkPlan, PhasePlan, Plan};
use hexloop_traces::{Direction, Trace};
use hexloop_workloads::job::{Outcome, Placement, RequestRecord};
use sha2::{Digest, Sha256};

use super::distribution::{Distribution, Sample};
use super::{
    ChangeSummary, JobSummary, Lateness, LinkSummary, NodeSummary, Quality, Quantity, RunStatus,
    SUMMARY_SCHEMA, Summary, background, bytes, captures, cells, energy, expectations, loads,
    machine, radio, rates, studies, traffic, usage,
};
use crate::format::{length, ns_to_ms, ns_to_s, ratio, rounded};
use crate::results::{PhaseResults, Results};
use crate::verdict::{self, Grain};
use hexloop_statistics::{
    Origin, end_to_end_ns, goodput, inter_token_gaps_ns, send_lateness_ns,
    time_per_output_token_ns, time_to_first_token_ns,
};

/// What a summary needs besides plan and results.
#[derive(Debug, Clone, PartialEq)]
pub struct RunFacts {
    /// Version of the program that made the run.
    pub tool_version: String,
    /// SHA-256 of plan.json.
    pub plan_sha256: String,
    /// When the run began, in UTC.
    pub started: String,
    /// Name of the run.
    pub run: String,
    /// Where it lies.
    pub run_dir: String,
}

/// Computes the summary of a run from its plan, its traces and its results.
#[must_use]
pub fn summarise(
    facts: &RunFacts,
    plan: &Plan,
    traces: &BTreeMap<String, Trace>,
    results: &Results,
) -> Summary {
    let links = plan.links.iter().flat_map(|link| {
        Direction::BOTH
            .into_iter()
            .map(move |direction| link_summary(plan, link, direction, results))
    });
    let meters = energy::meters(results);
    let idle_w = meters.as_ref().and_then(|meters| meters.idle_w.value);
    let jobs = plan.phases.iter().filter_map(|phase| {
        let recorded = results.phase(&phase.name)?;
        let trace = traces.get(&link_trace(plan, phase));
        Some(job_summary(plan, phase, (results, recorded, idle_w), trace))
    });
    let traffic = traffic::summaries(plan, traces, results);
    let status = if results.is_complete() {
        RunStatus::Complete
    } else {
        RunStatus::Interrupted
    };
    Summary {
        schema_version: SUMMARY_SCHEMA,
        tool_version: facts.tool_version.clone(),
        experiment: plan.experiment.clone(),
        preset: plan.preset.clone(),
        seed: plan.seed,
        plan_sha256: facts.plan_sha256.clone(),
        started: facts.started.clone(),
        run: facts.run.clone(),
        run_dir: facts.run_dir.clone(),
        status,
        failure: results.failure.as_ref().map(|(message, _)| message.clone()),
        verdict: verdict::judge(plan, results),
        links: links.collect(),
        changes: results.phases.iter().flat_map(changes).collect(),
        captures: captures::captures(results),
        rates: rates::summary(&traffic),
        traffic,
        cells: cells::summaries(plan, traces, results),
        jobs: jobs.collect(),
        studies: studies::summaries(plan, traces, results),
        loads: loads::summaries(plan, traces, results, idle_w),
        background: background::summaries(plan, results),
        nodes: results.nodes.iter().map(node_summary).collect(),
        machine: machine::machine(results),
        expectations: expectations::evaluate(plan, traces, results),
        energy_j: run_energy(results),
        meters,
        warnings: warnings(plan, results),
        leftovers: results.taken_down.clone().unwrap_or_default(),
    }
}

/// Energy of the whole run: what its end says, else why there was none at its start.
fn run_energy(results: &Results) -> Quantity {
    let at_start = results.agent.as_ref().map(|up| &up.energy_j);
    let known = results.energy_j.as_ref().or(at_start);
    known.map_or_else(|| unavailable("the agent never started"), quantity)
}

/// What was warned of while the run went on, and which programs failed before they were stopped.
fn warnings(plan: &Plan, results: &Results) -> Vec<String> {
    let mut warnings = results.warnings.clone();
    for (name, duration_ns) in plan.phase_spans() {
        let ends = results.phase(name).map(|phase| &phase.command_exits);
        let failed = ends
            .into_iter()
            .flatten()
            .filter(|end| end.failed(duration_ns));
        warnings.extend(failed.map(|end| {
            let (command, status) = (&end.exit.command, &end.exit.status);
            format!("program {command} failed in phase {name} with {status}")
        }));
    }
    warnings
}

/// Changes of links in a phase.
fn changes(phase: &PhaseResults) -> impl Iterator<Item = ChangeSummary> {
    phase.changes.iter().map(|made| {
        let control = &made.changed.control;
        let directions = control.directions.iter();
        let asked_s = ns_to_s(made.asked_ns.unsigned_abs());
        ChangeSummary {
            phase: phase.name.clone(),
            event: made.changed.asked_by.clone(),
            link: control.link.clone(),
            directions: directions.map(|d| d.name().to_owned()).collect(),
            change: control.change.to_string(),
            asked_s: if made.asked_ns < 0 { -asked_s } else { asked_s },
            achieved_s: ns_to_s(made.changed.at_ns),
        }
    })
}

fn link_trace(plan: &Plan, phase: &PhasePlan) -> String {
    plan.link(&phase.link)
        .map(|link| link.trace.clone())
        .unwrap_or_default()
}

pub(crate) fn unavailable(why: &str) -> Quantity {
    Quantity {
        value: None,
        quality: Quality::Unavailable,
        source: None,
        reason: Some(why.to_owned()),
    }
}

pub(crate) fn quantity(measurement: &Measurement) -> Quantity {
    let known = |value: f64, source: &str, quality| Quantity {
        value: Some(value),
        quality,
        source: Some(source.to_owned()),
        reason: None,
    };
    match measurement {
        Measurement::Measured { value, source } => known(*value, source, Quality::Measured),
        Measurement::Derived { value, source } => known(*value, source, Quality::Derived),
        Measurement::Estimated { value, source } => known(*value, source, Quality::Estimated),
        Measurement::Unavailable { why } => unavailable(why),
    }
}

fn lateness(late: &LateHistogram) -> Lateness {
    let us = |ns: u64| rounded(ns_to_ms(ns) * 1e3, 3);
    Lateness {
        n: late.count,
        p50: late.p50_ns.map(us),
        p99: late.p99_ns.map(us),
        max: late.max_ns.map(us),
    }
}

fn link_summary(
    plan: &Plan,
    link: &LinkPlan,
    direction: Direction,
    results: &Results,
) -> LinkSummary {
    let calibration = results
        .calibrations
        .iter()
        .find(|found| found.link == link.name && found.direction == direction);
    let windows = || results.phases.iter().flat_map(|phase| &phase.windows);
    let grain = Grain::of(plan, link);
    let run = verdict::backlogged_totals(windows(), &link.name, direction, grain);
    let ours = || windows().filter(|w| w.link == link.name && w.direction == direction);
    LinkSummary {
        link: link.name.clone(),
        direction: direction.name().to_owned(),
        trace: link.trace.clone(),
        datapath: results
            .links
            .get(&link.name)
            .map(|facts| facts.datapath.clone()),
        mode: results
            .links
            .get(&link.name)
            .and_then(|facts| facts.mode.clone()),
        delivered_over_trace: calibration
            .and_then(|found| ratio(found.delivered_bytes, found.trace_bytes)),
        backlogged_windows: calibration.map_or(0, |found| found.backlogged_windows),
        run_delivered_over_trace: ratio(run.delivered_bytes, run.trace_bytes),
        run_backlogged_windows: run.windows,
        lateness_us: calibration
            .map(|found| lateness(&found.lateness))
            .unwrap_or_default(),
        delay_error_us: calibration
            .map(|found| lateness(&found.delay_error))
            .unwrap_or_default(),
        asked_delay_us: calibration.map(|found| rounded(ns_to_ms(found.asked_delay_ns) * 1e3, 3)),
        probes_lost: calibration.map(|found| found.probes_lost),
        dropped_packets: ours().map(|window| window.dropped_packets).sum(),
        lost_packets: ours().map(|window| window.lost_packets).sum(),
    }
}

fn node_summary(up: &hexloop_proto::NodeUp) -> NodeSummary {
    let pinning = &up.pinning;
    NodeSummary {
        node: up.node.clone(),
        asked_cpus: pinning.asked_cpus.clone(),
        got_cpus: pinning.got_cpus.clone(),
        cpus_by: pinning.cpus_by.clone(),
        asked_quota: pinning.asked_quota,
        got_quota: pinning.got_quota,
        got_period_us: pinning.got_period_us,
        quota_by: pinning.quota_by.clone(),
        congestion_control: up.congestion_control.clone(),
    }
}

/// The requests of a phase in order of time, from which its latencies are taken.
pub(super) struct Latencies<'a> {
    pub(super) records: Vec<&'a RequestRecord>,
    pub(super) longest_outage_ns: u64,
    pub(super) seed: u64,
}

/// The longest outage of a trace within a phase, in nanoseconds.
pub(super) fn longest_outage_ns(trace: Option<&Trace>, duration_ns: u64) -> u64 {
    let outages = trace.map(|trace| expectations::outages(trace, duration_ns));
    let lengths = outages.into_iter().flatten();
    lengths.map(|(start, end)| end - start).max().unwrap_or(0)
}

impl Latencies<'_> {
    pub(super) fn per_request(
        &self,
        metric: impl Fn(&RequestRecord) -> Option<u64>,
    ) -> Distribution {
        let samples = self
            .records
            .iter()
            .map(|record| (record.scheduled_ns, metric(record)));
        self.distribution(&samples.collect::<Vec<Sample>>())
    }

    /// All gaps of all requests, in order of the token that ends them.
    pub(super) fn pooled_gaps(&self) -> Distribution {
        let mut samples: Vec<Sample> = Vec::new();
        for record in &self.records {
            let ends = record.token_ns.iter().skip(1).copied();
            samples.extend(ends.zip(inter_token_gaps_ns(record).map(Some)));
        }
        samples.sort_unstable();
        self.distribution(&samples)
    }

    fn distribution(&self, samples: &[Sample]) -> Distribution {
        Distribution::of(samples, self.longest_outage_ns, self.seed)
    }
}

fn job_summary(
    plan: &Plan,
    phase: &PhasePlan,
    (results, recorded, idle_w): (&Results, &PhaseResults, Option<f64>),
    trace: Option<&Trace>,
) -> JobSummary {
    let mut tokens_hash = Sha256::new();
    let (mut completed, mut unfinished, mut failed, mut output_tokens) = (0, 0, 0, 0);
    for record in recorded.requests.values() {
        output_tokens += length(&record.tokens);
        match &record.outcome {
            Outcome::Completed => {
                completed += 1;
                tokens_hash.update(record.id.to_le_bytes());
                for token in &record.tokens {
                    tokens_hash.update(token.to_le_bytes());
                }
            }
            Outcome::Unfinished => unfinished += 1,
            Outcome::Failed { .. } => failed += 1,
        }
    }
    let requests = length(&phase.schedule(plan.seed));
    let records = recorded.requests.values();
    let good = goodput(records, phase.requests.deadline_ns, requests);
    let mut in_time: Vec<&RequestRecord> = recorded.requests.values().collect();
    in_time.sort_by_key(|record| (record.scheduled_ns, record.id));
    let latencies = Latencies {
        records: in_time,
        longest_outage_ns: longest_outage_ns(trace, phase.duration_ns),
        seed: plan.seed,
    };
    let end = recorded.end.as_ref();
    let payload = end.and_then(|end| bytes::phase_payload(phase, end));
    let wire = |direction: Direction| {
        end?.links
            .iter()
            .find(|counters| counters.link == phase.link && counters.direction == direction)
            .map(|counters| counters.wire_bytes)
    };
    let account = |direction| match phase.placement {
        Placement::Device => None,
        Placement::Edge | Placement::Split { .. } => {
            bytes::account(phase, plan.model.as_ref()?, recorded, direction)
        }
    };
    let (placement, layers_on_device) = match phase.placement {
        Placement::Device => ("device", None),
        Placement::Edge => ("edge", None),
        Placement::Split { layers_on_device } => ("split", Some(layers_on_device)),
    };
    let jobs = end.map(|end| end.jobs.as_slice()).unwrap_or_default();
    JobSummary {
        phase: phase.name.clone(),
        placement: placement.to_owned(),
        transport: phase.transport.name().to_owned(),
        layers_on_device,
        requests,
        completed,
        unfinished,
        failed,
        goodput_over_offered: good.share().map(|share| rounded(share, 9)),
        output_tokens,
        tokens_sha256: hexloop_workloads::recipe::hexadecimal(&tokens_hash.finalize()),
        ttft_ms: latencies.per_request(|r| time_to_first_token_ns(r, Origin::Scheduled)),
        ttft_from_send_ms: latencies.per_request(|r| time_to_first_token_ns(r, Origin::Sent)),
        tpot_ms: latencies.per_request(time_per_output_token_ns),
        itl_ms: latencies.pooled_gaps(),
        e2e_ms: latencies.per_request(|r| end_to_end_ns(r, Origin::Scheduled)),
        send_lateness_ms: latencies.per_request(|r| Some(send_lateness_ns(r))),
        link_payload_bytes_up: payload.map(|payload| payload.up),
        link_payload_bytes_down: payload.map(|payload| payload.down),
        link_wire_bytes_up: wire(Direction::Up),
        link_wire_bytes_down: wire(Direction::Down),
        wire_up: account(Direction::Up),
        wire_down: account(Direction::Down),
        cpu_s: jobs
            .iter()
            .map(|job| (job.node.clone(), ns_to_s(job.cpu_ns)))
            .collect(),
        memory_peak_bytes: jobs
            .iter()
            .map(|job| (job.node.clone(), job.memory_peak_bytes))
            .collect(),
        counters: usage::counters(jobs),
        cores: usage::cores(recorded),
        without_cores: usage::without_cores(recorded),
        radio: radio::radio(plan, phase, recorded, trace),
        duration_s: end.map(|end| ns_to_s(end.duration_ns)),
        energy_j: end.map_or_else(
            || unavailable("the phase did not end"),
            |end| quantity(&end.energy_j),
        ),
        energy: energy::job_energy(results, recorded, idle_w, completed, good.good),
    }
}
