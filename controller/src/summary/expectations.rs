//! Claims about the results, judged by the records.

mod alike;
mod calibration;
mod evidence;
mod following;
mod requests;
mod studies;

use std::collections::BTreeMap;
use std::fmt::Display;

use hexloop_topologies::plan::{Claim, ExpectationPlan, Plan};
use hexloop_traces::Trace;

use super::{ExpectationOutcome, ExpectationSummary, cells, traffic};
use crate::format::{count_to_f64, length};
use crate::results::Results;

pub use evidence::Evidence;
use following::{cell_claim, traffic_claim};
pub use requests::outages;
use requests::{all_completed, in_outages, payload_formula, same_tokens};

struct Judgement {
    outcome: ExpectationOutcome,
    numbers: BTreeMap<String, f64>,
    /// Of each part; empty where nothing was judged.
    evidence: Vec<Evidence>,
    /// In words, with what the evidence says.
    detail: String,
}

/// What the evidence says of a claim; `None` if it leaves it open, as no case at all does: nothing is held by none.
fn judgement(
    held: Option<bool>,
    numbers: &[(&str, u64)],
    evidence: Evidence,
    detail: &str,
) -> Judgement {
    let outcome = match held {
        Some(true) if evidence.sample_size > 0 => ExpectationOutcome::Held,
        Some(false) => ExpectationOutcome::NotHeld,
        Some(true) | None => ExpectationOutcome::Undecided,
    };
    if evidence.sample_size == 0 {
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
        Claim::ConstantRatesPass { phase } => {
            format!("what {phase} delivers at each constant rate that it fills is that rate")
        }
        Claim::IdlePowerStable => "power before the phases is steady".to_owned(),
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
        Claim::ConstantRatesPass { phase } => {
            let summaries = traffic::summaries(plan, traces, results);
            return calibration::constant_rates(phase, &summaries);
        }
        Claim::IdlePowerStable => return calibration::idle_power(results),
        Claim::Study { study, claim } => {
            return studies::judge_with(plan, traces, results, (study, *claim));
        }
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
        | Claim::ConstantRatesPass { .. }
        | Claim::IdlePowerStable
        | Claim::Study { .. } => all_completed(length(&phase.schedule(plan.seed)), recorded),
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

#[cfg(test)]
mod tests;
