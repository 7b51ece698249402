//! Claims about the requests of phases: their tokens, their bytes, and what an outage does to them.

use hexloop_topologies::plan::{PhasePlan, Plan};
use hexloop_traces::{CapacityCurve, Direction, Trace, stats};
use hexloop_workloads::job::{Outcome, RequestRecord};
use hexloop_workloads::wire;

use super::alike::{self, Answer};
use super::{Evidence, Judgement, judgement, unjudged};
use crate::format::{length, ns_to_s};
use crate::results::{PhaseResults, Results};
use crate::summary::bytes;
use hexloop_statistics::Agreement;

/// Besides delay and jitter, what a token needs from the link's end to the record.
const ARRIVAL_ALLOWANCE_NS: u64 = 5_000_000;

/// Stretches of time in which neither direction of the link carries a bit, up to `until_ns`.
#[must_use]
pub fn outages(trace: &Trace, until_ns: u64) -> Vec<(u64, u64)> {
    let [down, up] =
        Direction::BOTH.map(|direction| stats::outages_until(trace, direction, until_ns));
    let both = |&(start, end): &(u64, u64)| {
        let shared = up
            .iter()
            .map(move |other| (start.max(other.0), end.min(other.1)));
        shared.filter(|(start, end)| start < end)
    };
    down.iter().flat_map(both).collect()
}

fn completed(phase: &PhaseResults, id: u32) -> Option<&RequestRecord> {
    let record = phase.requests.get(&id);
    record.filter(|record| record.outcome == Outcome::Completed)
}

pub(super) fn same_tokens(phases: &[String], plan: &Plan, results: &Results) -> Judgement {
    let recorded: Option<Vec<&PhaseResults>> =
        phases.iter().map(|name| results.phase(name)).collect();
    let Some((first, others)) = recorded.as_deref().and_then(<[_]>::split_first) else {
        return unjudged(&[], "not all of these phases were played".to_owned());
    };
    let (mut compared, mut differing, mut tokens) = (0, 0, 0);
    let mut agreement = Agreement::default();
    for id in first.requests.keys() {
        let mine = completed(first, *id);
        let theirs = others.iter().map(|phase| completed(phase, *id));
        let all: Option<Vec<&RequestRecord>> = std::iter::once(mine).chain(theirs).collect();
        let Some(all) = all else {
            continue;
        };
        compared += 1;
        tokens += mine.map_or(0, |record| length(&record.tokens));
        let answers = all.iter().map(|record| Answer {
            tokens: &record.tokens,
            ties: &record.ties,
        });
        let answers: Vec<Answer<'_>> = answers.collect();
        differing += u64::from(alike::compare(&mut agreement, id, &answers) > 0);
    }
    let mut numbers = vec![
        ("requests", compared),
        ("tokens", tokens),
        ("differing_requests", differing),
    ];
    let mut detail = format!(
        "{compared} requests with {tokens} tokens completed in all of these phases; {differing} differ"
    );
    let named = plan
        .phases
        .iter()
        .filter(|phase| phases.contains(&phase.name));
    let nodes = named.flat_map(|phase| [phase.device.as_str(), phase.edge.as_str()]);
    let held = if alike::on_several_devices(plan, nodes) {
        detail.push_str(&alike::told_of_devices(&agreement, &mut numbers));
        agreement.held()
    } else {
        Some(differing == 0)
    };
    let evidence = Evidence::equality(compared, "requests", "one token");
    let held = held.filter(|_| compared > 0);
    judgement(held, &numbers, evidence, &detail)
}

pub(super) fn payload_formula(
    plan: &Plan,
    phase: &PhasePlan,
    recorded: &PhaseResults,
) -> Judgement {
    let Some(model) = &plan.model else {
        return unjudged(&[], "the plan has no model".to_owned());
    };
    let completed: Vec<&RequestRecord> = recorded
        .requests
        .values()
        .filter(|r| r.outcome == Outcome::Completed)
        .collect();
    let (mut differing, mut counted, mut formula) = (0, 0, 0);
    for record in &completed {
        let expected = bytes::request_formula(phase, model, record);
        differing += u64::from(expected != record.payload);
        counted += record.payload.up + record.payload.down;
        formula += expected.up + expected.down;
    }
    let mut held = (!completed.is_empty()).then_some(differing == 0);
    let mut numbers = vec![
        ("requests", length(&completed)),
        ("differing_requests", differing),
        ("counted_bytes", counted),
        ("formula_bytes", formula),
    ];
    let mut detail = format!(
        "{} completed requests: {counted} bytes counted, {formula} by the formula, {differing} requests differ",
        completed.len()
    );
    // With every request complete, both ends' totals must be these bytes and whole handshakes.
    if completed.len() == recorded.requests.len()
        && let Some(end) = &recorded.end
    {
        let handshake = wire::handshake_payload();
        let mut requests = wire::PayloadBytes::default();
        for record in &completed {
            requests.add(record.payload);
        }
        for job in &end.jobs {
            let Some(totals) = &job.totals else { continue };
            let extra_up = totals.payload.up.checked_sub(requests.up);
            let extra_down = totals.payload.down.checked_sub(requests.down);
            let connections = extra_up.map_or(0, |extra| extra / handshake.up);
            let whole = extra_up == Some(connections * handshake.up)
                && extra_down == Some(connections * handshake.down);
            if !whole {
                held = Some(false);
                let node = &job.node;
                detail.push_str("; the totals of ");
                detail.push_str(node);
                detail.push_str(" are not these bytes and whole handshakes");
            }
            numbers.push(("connections", connections));
        }
    }
    let evidence = Evidence::equality(length(&completed), "requests", "one byte");
    judgement(held, &numbers, evidence, &detail)
}

pub(super) fn all_completed(offered: u64, recorded: &PhaseResults) -> Judgement {
    let completed = recorded
        .requests
        .values()
        .filter(|r| r.outcome == Outcome::Completed)
        .count();
    let completed = u64::try_from(completed).unwrap_or(u64::MAX);
    let held = (recorded.end.is_some() && offered > 0).then_some(completed == offered);
    let numbers = [("offered", offered), ("completed", completed)];
    let evidence = Evidence::equality(offered, "requests", "one that is not completed");
    let detail = format!("{completed} of {offered} requests completed");
    judgement(held, &numbers, evidence, &detail)
}

pub(super) fn in_outages(
    must_stall: bool,
    phase: &PhasePlan,
    recorded: &PhaseResults,
    trace: Option<&Trace>,
) -> Judgement {
    let Some(trace) = trace else {
        return unjudged(&[], "the link's trace is not recorded".to_owned());
    };
    let down = CapacityCurve::new(trace, Direction::Down);
    let (mut under_way, mut tokens, mut outage_ns) = (0, 0, 0);
    for (start, end) in outages(trace, phase.duration_ns) {
        // What was on the air when the outage began still arrives.
        let before = down.state_at(start.saturating_sub(1));
        let last_arrival =
            start + before.delay_ns + u64::from(before.jitter_ns) + ARRIVAL_ALLOWANCE_NS;
        if last_arrival >= end {
            continue;
        }
        outage_ns += end - last_arrival;
        for record in recorded.requests.values() {
            let ended = match record.outcome {
                Outcome::Completed => record.token_ns.last().copied().unwrap_or(0),
                Outcome::Unfinished | Outcome::Failed { .. } => phase.duration_ns,
            };
            under_way += u64::from(record.sent_ns < end && ended > last_arrival);
            let inside = record
                .token_ns
                .iter()
                .filter(|&&at| at > last_arrival && at < end);
            tokens += u64::try_from(inside.count()).unwrap_or(0);
        }
    }
    let numbers = [
        ("requests_under_way", under_way),
        ("tokens_in_outage", tokens),
        ("outage_ns", outage_ns),
    ];
    let seconds = ns_to_s(outage_ns);
    if outage_ns == 0 {
        return unjudged(&numbers, "the link had no outage in this phase".to_owned());
    }
    if under_way == 0 {
        let detail = format!("no request was under way in {seconds:.3} s of outage");
        return unjudged(&numbers, detail);
    }
    let detail = format!(
        "{tokens} tokens arrived in {seconds:.3} s of outage while {under_way} requests were under way"
    );
    let evidence = match must_stall {
        true => Evidence::equality(under_way, "requests under way", "one token"),
        false => Evidence::new(under_way, "requests under way", "a stall of all of them"),
    };
    judgement(
        Some((tokens == 0) == must_stall),
        &numbers,
        evidence,
        &detail,
    )
}
