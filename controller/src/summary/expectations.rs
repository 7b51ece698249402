//! Claims about the results, judged by the records.

mod alike;
mod evidence;
mod studies;

use std::collections::BTreeMap;
use std::fmt::Display;

use hexloop_topologies::plan::{Claim, ExpectationPlan, PhasePlan, Plan};
use hexloop_traces::{CapacityCurve, Direction, Trace, stats};
use hexloop_workloads::job::{Outcome, RequestRecord};
use hexloop_workloads::wire;

use self::alike::Answer;
use super::{
    CellSummary, ExpectationOutcome, ExpectationSummary, TrafficSummary, bytes, cells, traffic,
};
use crate::format::{count_to_f64, length, ns_to_ms, ns_to_s};
use crate::results::{PhaseResults, Results};
use hexloop_statistics::{Agreement, TOKENS_OF_A_TIE};

pub use evidence::Evidence;

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

struct Judgement {
    outcome: ExpectationOutcome,
    numbers: BTreeMap<String, f64>,
    /// Of each part; empty where nothing was judged.
    evidence: Vec<Evidence>,
    /// In words, with what the evidence says.
    detail: String,
}

/// What the evidence says of a claim; `None` if it leaves it open.
fn judgement(
    held: Option<bool>,
    numbers: &[(&str, u64)],
    evidence: Evidence,
    detail: &str,
) -> Judgement {
    let outcome = match held {
        Some(true) => ExpectationOutcome::Held,
        Some(false) => ExpectationOutcome::NotHeld,
        None => ExpectationOutcome::Undecided,
    };
    if evidence.sample_size == 0 {
        // In no case nothing shows.
        return Judgement {
            outcome,
            ..unjudged(numbers, detail.to_owned())
        };
    }
    Judgement {
        outcome,
        detail: format!("{detail} ({evidence})"),
        evidence: vec![evidence],
        ..unjudged(numbers, String::new())
    }
}

/// A claim that there are no cases of, or too few to judge it by.
fn unjudged(numbers: &[(&str, u64)], detail: String) -> Judgement {
    let numbers = numbers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), count_to_f64(*value)));
    Judgement {
        outcome: ExpectationOutcome::Undecided,
        numbers: numbers.collect(),
        evidence: Vec::new(),
        detail,
    }
}

/// Judges every claim of the plan.
pub(super) fn evaluate(
    plan: &Plan,
    traces: &BTreeMap<String, Trace>,
    results: &Results,
) -> Vec<ExpectationSummary> {
    let judge = |expectation: &ExpectationPlan| {
        let Judgement {
            outcome,
            numbers,
            evidence,
            detail,
        } = judge_claim(&expectation.claim, plan, traces, results);
        ExpectationSummary {
            name: expectation.name.clone(),
            claim: claim_in_words(&expectation.claim),
            outcome,
            numbers,
            evidence,
            detail,
        }
    };
    plan.expectations.iter().map(judge).collect()
}

fn claim_in_words(claim: &Claim) -> String {
    match claim {
        Claim::SameTokens { phases } => {
            format!(
                "every request gets the same tokens in {}",
                phases.join(", ")
            )
        }
        Claim::PayloadFormula { phase } => {
            format!("payload on the link in {phase} equals the formula, byte for byte")
        }
        Claim::StallsInOutage { phase } => {
            format!("no token of {phase} arrives during an outage of the link")
        }
        Claim::GoesOnInOutage { phase } => {
            format!("tokens of {phase} go on arriving during an outage of the link")
        }
        Claim::AllCompleted { phase } => format!("all requests of {phase} complete"),
        Claim::RateFollowsTrace { phase } => {
            format!("what {phase} delivers follows the trace: mean, course and steps")
        }
        Claim::RoundTripFollowsTrace { phase } => {
            format!("round trips of {phase} are those of the trace")
        }
        Claim::SharesFollowCell { phase } => {
            format!("what links of a cell get in {phase} is what its policy gives them")
        }
        Claim::Study { study, claim } => format!("in {study}, {}", claim.in_words()),
    }
}

fn judge_claim(
    claim: &Claim,
    plan: &Plan,
    traces: &BTreeMap<String, Trace>,
    results: &Results,
) -> Judgement {
    let name = match claim {
        Claim::SameTokens { phases } => return same_tokens(phases, plan, results),
        Claim::RateFollowsTrace { phase } | Claim::RoundTripFollowsTrace { phase } => {
            let mut summaries = traffic::summaries(plan, traces, results);
            summaries.retain(|summary| &summary.phase == phase);
            return match summaries.as_slice() {
                [summary]
                    if summary.round_trips.is_some()
                        && results.was_changed(phase, &summary.link) =>
                {
                    let detail = "the link was changed while it played: its trace tells no times";
                    unjudged(&[], detail.to_owned())
                }
                [] => unjudged(&[], format!("phase {phase} was not played")),
                [summary] => traffic_claim(plan, summary),
                several => all_of(several.iter().map(|summary| {
                    let judgement = traffic_claim(plan, summary);
                    (summary.link.as_str(), judgement)
                })),
            };
        }
        Claim::SharesFollowCell { phase } => {
            let mut summaries = cells::summaries(plan, traces, results);
            summaries.retain(|summary| &summary.phase == phase);
            if summaries.is_empty() {
                let detail = format!("phase {phase} was not played, or fills no link of a cell");
                return unjudged(&[], detail);
            }
            return all_of(summaries.iter().map(|summary| {
                let name = summary.direction.as_str();
                (name, cell_claim(summary, results))
            }));
        }
        Claim::Study { study, claim } => return studies::judge(plan, results, (study, *claim)),
        Claim::PayloadFormula { phase }
        | Claim::StallsInOutage { phase }
        | Claim::GoesOnInOutage { phase }
        | Claim::AllCompleted { phase } => phase,
    };
    let planned = plan.phases.iter().find(|phase| &phase.name == name);
    let (Some(phase), Some(recorded)) = (planned, results.phase(name)) else {
        return unjudged(&[], format!("phase {name} was not played"));
    };
    let trace = plan
        .link(&phase.link)
        .and_then(|link| traces.get(&link.trace));
    match claim {
        Claim::PayloadFormula { .. } => payload_formula(plan, phase, recorded),
        Claim::StallsInOutage { .. } | Claim::GoesOnInOutage { .. }
            if results.was_changed(name, &phase.link) =>
        {
            let detail = "the link was changed while it played: its trace tells no outages";
            unjudged(&[], detail.to_owned())
        }
        Claim::StallsInOutage { .. } => in_outages(true, phase, recorded, trace),
        Claim::GoesOnInOutage { .. } => in_outages(false, phase, recorded, trace),
        Claim::AllCompleted { .. }
        | Claim::SameTokens { .. }
        | Claim::RateFollowsTrace { .. }
        | Claim::RoundTripFollowsTrace { .. }
        | Claim::SharesFollowCell { .. }
        | Claim::Study { .. } => all_completed(length(&phase.schedule(plan.seed)), recorded),
    }
}

/// Fewest filled windows and probes that a claim about traffic is judged by.
const LEAST_TRAFFIC_VALUES: u64 = 10;

/// How far what was delivered may be from what was asked, as a share of it.
const TRAFFIC_TOLERANCE: f64 = 0.05;

/// Least correlation of what was delivered with its trace.
const TRAFFIC_CORRELATION: f64 = 0.95;

/// The claims about traffic phases: a bulk phase has directions, a ping phase round trips.
fn traffic_claim(plan: &Plan, summary: &TrafficSummary) -> Judgement {
    let mut numbers = BTreeMap::new();
    let (mut held, mut details) = (Some(true), Vec::new());
    // Of the direction with the fewest windows, or of the round trips.
    let mut evidence = None;
    for one in &summary.following {
        let direction = &one.direction;
        let mut number = |name: &str, value: f64| {
            numbers.insert(format!("{name}_{direction}"), value);
        };
        number("backlogged_windows", count_to_f64(one.backlogged_windows));
        number("late_steps", count_to_f64(one.late_steps));
        let Some(share) = one.delivered_over_trace else {
            let detail = format!("nothing was measured {direction}");
            return Judgement {
                numbers,
                ..unjudged(&[], detail)
            };
        };
        number("delivered_over_trace", share);
        let mut detail = format!(
            "{direction}: {share:.4} of the trace in {} of {} windows, {} of {} steps late",
            one.backlogged_windows, one.windows, one.late_steps, one.steps
        );
        if let Some(correlation) = one.correlation {
            number("correlation", correlation);
            detail = format!("{detail}, correlation {correlation:.4}");
        }
        details.push(detail);
        if one.backlogged_windows < LEAST_TRAFFIC_VALUES {
            held = held.and(None);
        } else {
            let follows = (share - 1.0).abs() <= TRAFFIC_TOLERANCE
                && one
                    .correlation
                    .is_none_or(|value| value > TRAFFIC_CORRELATION)
                && one.late_steps == 0;
            held = held.map(|held| held && follows);
        }
        let effect = format!(
            "{:.0} % more or less than the trace's, a correlation of {TRAFFIC_CORRELATION} or less or one late step",
            TRAFFIC_TOLERANCE * 100.0
        );
        let of_one = Evidence::new(one.backlogged_windows, "windows in a direction", effect);
        let least = evidence.take().filter(|least: &Evidence| {
            // The direction that tells least.
            least.sample_size <= of_one.sample_size
        });
        evidence = Some(least.unwrap_or(of_one));
    }
    if let Some(trips) = &summary.round_trips {
        let come_back = trips.sent - trips.lost;
        let medians = (trips.p50_ms, trips.asked_p50_ms, trips.error_p50_ms);
        let (Some(median), Some(asked), Some(error)) = medians else {
            return unjudged(&[], "no packet came back".to_owned());
        };
        let share = count_to_f64(plan.verdict.delay_error_ppm) / 1e6;
        let bound = ns_to_ms(plan.verdict.delay_error_ns).max(asked * share);
        let values = [
            ("p50_ms", median),
            ("asked_p50_ms", asked),
            ("error_p50_ms", error),
        ];
        numbers.extend(values.map(|(name, value)| (name.to_owned(), value)));
        let sent = trips.sent;
        details.push(format!(
            "median {median:.3} ms of {asked:.3} asked, median error {error:.3} of {bound:.3} ms \
             allowed, {come_back} of {sent} packets came back"
        ));
        held = (come_back >= LEAST_TRAFFIC_VALUES).then_some(error <= bound);
        let effect = format!("a median error of more than {bound:.3} ms");
        evidence = Some(Evidence::new(come_back, "packets", effect));
    }
    let details = details.join("; ");
    let judged = match evidence {
        Some(evidence) => judgement(held, &[], evidence, &details),
        None => unjudged(&[], "nothing was measured".to_owned()),
    };
    Judgement { numbers, ..judged }
}

/// The claim about what links of a cell got.
fn cell_claim(summary: &CellSummary, results: &Results) -> Judgement {
    let users = &summary.users;
    if users
        .iter()
        .any(|user| results.was_changed(&summary.phase, &user.link))
    {
        let detail = "a link of the cell was changed while it played: its trace tells no share";
        return unjudged(&[], detail.to_owned());
    }
    let mut numbers = BTreeMap::from([(
        "backlogged_windows".to_owned(),
        count_to_f64(summary.backlogged_windows),
    )]);
    let (mut held, mut details) = (Some(true), Vec::new());
    for user in users {
        let link = &user.link;
        let (Some(got), Some(asked), Some(ratio)) = (
            user.delivered_share,
            user.asked_share,
            user.delivered_over_asked,
        ) else {
            held = None;
            details.push(format!("{link}: nothing was measured"));
            continue;
        };
        numbers.insert(format!("delivered_share_{link}"), got);
        numbers.insert(format!("asked_share_{link}"), asked);
        numbers.insert(format!("delivered_over_asked_{link}"), ratio);
        details.push(format!(
            "{link} got {got:.4} of the bytes, {asked:.4} asked"
        ));
        held = held.map(|held| held && (ratio - 1.0).abs() <= TRAFFIC_TOLERANCE);
    }
    if summary.backlogged_windows < LEAST_TRAFFIC_VALUES {
        held = None;
    }
    let (cell, policy) = (&summary.cell, &summary.policy);
    let (backlogged, windows) = (summary.backlogged_windows, summary.windows);
    let detail = format!(
        "cell {cell} ({policy}): {}, in {backlogged} of {windows} windows",
        details.join(", ")
    );
    let effect = format!(
        "{:.0} % more or less on a link than asked",
        TRAFFIC_TOLERANCE * 100.0
    );
    let evidence = Evidence::new(backlogged, "windows", effect);
    Judgement {
        numbers,
        ..judgement(held, &[], evidence, &detail)
    }
}

/// Several judgements as one, which holds if all do; the numbers of each end in its name.
fn all_of(judgements: impl Iterator<Item = (impl Display, Judgement)>) -> Judgement {
    let (mut numbers, mut evidence, mut details) = (BTreeMap::new(), Vec::new(), Vec::new());
    let mut outcome = ExpectationOutcome::Held;
    for (name, one) in judgements {
        let named = one.numbers.into_iter();
        numbers.extend(named.map(|(number, value)| (format!("{number}_{name}"), value)));
        let part = name.to_string();
        evidence.extend(one.evidence.into_iter().map(|one| one.within(&part)));
        details.push(format!("{name}: {}", one.detail));
        outcome = match (outcome, one.outcome) {
            (ExpectationOutcome::NotHeld, _) | (_, ExpectationOutcome::NotHeld) => {
                ExpectationOutcome::NotHeld
            }
            (ExpectationOutcome::Held, found) => found,
            (undecided, _) => undecided,
        };
    }
    Judgement {
        outcome,
        numbers,
        evidence,
        detail: details.join("; "),
    }
}

fn completed(phase: &PhaseResults, id: u32) -> Option<&RequestRecord> {
    let record = phase.requests.get(&id);
    record.filter(|record| record.outcome == Outcome::Completed)
}

fn same_tokens(phases: &[String], plan: &Plan, results: &Results) -> Judgement {
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
        detail.push_str(&told_of_devices(&agreement, &mut numbers));
        agreement.held()
    } else {
        Some(differing == 0)
    };
    let evidence = Evidence::equality(compared, "requests", "one token");
    let held = held.filter(|_| compared > 0);
    judgement(held, &numbers, evidence, &detail)
}

/// What is told of answers that are made on several devices, in words; its numbers are put behind those that there are.
fn told_of_devices<P: Ord + Clone>(
    agreement: &Agreement<P>,
    numbers: &mut Vec<(&str, u64)>,
) -> String {
    let (places, ties) = (agreement.places(), agreement.ties());
    let elsewhere = agreement.differing();
    numbers.extend([
        ("places", u64::from(places)),
        ("ties", u64::from(ties)),
        ("differing", elsewhere),
    ]);
    format!(
        "; nodes compute on several devices, and of {places} places another token came at {ties} where it is about as good, \
         of one in {TOKENS_OF_A_TIE} at most, and {elsewhere} times elsewhere"
    )
}

fn payload_formula(plan: &Plan, phase: &PhasePlan, recorded: &PhaseResults) -> Judgement {
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

fn all_completed(offered: u64, recorded: &PhaseResults) -> Judgement {
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

fn in_outages(
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

#[cfg(test)]
mod tests;
