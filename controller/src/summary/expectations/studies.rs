//! Claims about studies.

mod adapters;
mod bytes;
mod cnn;
mod codings;
mod cuts;
mod first_token;
mod kpi;
mod kv;
mod leak;
mod multimodal;
mod own;
mod path;
mod placement;
mod retrieval;
mod shared;
mod speculative;
mod tensor_parallel;
mod time_over_sum;
mod traced;
mod u_shape;

use std::collections::{BTreeMap, BTreeSet};

use hexloop_topologies::plan::{Plan, StudyClaim};
use hexloop_traces::Trace;
use hexloop_workloads::study::speculative::Drawing;
use hexloop_workloads::study::{RowRecord, TrialRecord};

use super::alike::{self, Answer};
use super::{Evidence, Judgement, judgement, unjudged};
use crate::results::Results;
use crate::summary::studies::Findings;
use hexloop_statistics::Agreement;

/// How far a measured quantity may be from what the law says.
const TOLERANCE: f64 = 0.15;

/// How much longer than the best arm another may take and still count as best: what medians of so
/// few trials tell apart.
const RESOLUTION: f64 = 0.03;

/// Rates on either side of the critical one that make a row bracket it.
const RATES_EACH_SIDE: usize = 3;

/// Fewest trials of a cell that a law is judged by.
const LEAST_TRIALS: usize = 2;

/// Judges a claim that needs no trace.
#[cfg(test)]
fn judge(plan: &Plan, results: &Results, claim: (&str, StudyClaim)) -> Judgement {
    judge_with(plan, &BTreeMap::new(), results, claim)
}

/// Judges a claim about a study.
pub(super) fn judge_with(
    plan: &Plan,
    traces: &BTreeMap<String, Trace>,
    results: &Results,
    (name, claim): (&str, StudyClaim),
) -> Judgement {
    let study = plan.studies.iter().find(|study| study.name == name);
    let (Some(study), Some(model), Some(recorded)) =
        (study, plan.model.as_ref(), results.phase(name))
    else {
        return unjudged(&[], format!("study {name} was not played"));
    };
    let findings = Findings::of(study, model, recorded);
    let is_empty = findings.all_trials().next().is_none()
        && findings.rounds.is_empty()
        && findings.adapters.is_empty();
    if is_empty || recorded.end.is_none() {
        return unjudged(&[], "it did not come to its end".to_owned());
    }
    match claim {
        StudyClaim::ArmsAgree => arms_agree(&findings, plan),
        StudyClaim::ArmBytesFollowFormula => bytes::bytes_follow_formula(&findings),
        StudyClaim::CutMovesNoBytes => bytes::cut_moves_no_bytes(&findings),
        StudyClaim::TokenTimeLinearInCut => cuts::linear_in_cut(&findings),
        StudyClaim::BestCutFlips => cuts::best_cut_flips(&findings, plan.seed),
        StudyClaim::NeverSplits => cuts::never_splits(&findings),
        StudyClaim::LatencyIsSum => path::latency_is_sum(&findings),
        StudyClaim::ThroughputIsSlowest => path::throughput_is_slowest(&findings),
        StudyClaim::BestDivisionAsPredicted => path::best_division(&findings),
        StudyClaim::CodingsSaveLinkTime => codings::save_link_time(&findings),
        StudyClaim::RoundsFollowAcceptance => {
            speculative::rounds_follow_acceptance(&findings, plan.seed)
        }
        StudyClaim::BestDraftGrowsWithRoundTrip => speculative::best_draft_grows(&findings),
        StudyClaim::DistributionsCollapse => {
            speculative::distributions_collapse(&findings, plan.seed)
        }
        StudyClaim::QualityRisesWithThreshold => own::quality_rises(&findings),
        StudyClaim::SureExitsAgree => own::sure_exits_agree(&findings),
        StudyClaim::BestCutSlides => own::best_cut_slides(&findings),
        StudyClaim::DeviceAnswersInOutage => own::device_answers_in_outage(&findings),
        StudyClaim::UplinkFollowsEscalation => own::uplink_follows_escalation(&findings),
        StudyClaim::FirstTokenIsSum => first_token::is_sum(&findings),
        StudyClaim::RegimesAsPredicted => kv::regimes_as_predicted(&findings),
        StudyClaim::AdaptiveNearBest => kv::adaptive_near_best(&findings),
        StudyClaim::AdaptiveNearBestOnTraces => traced::adaptive_near_best(&findings, plan.seed),
        StudyClaim::LossGrowsAsBitsFall => kv::loss_grows(&findings),
        StudyClaim::ReuseSavesPrefill => retrieval::reuse_saves_prefill(&findings),
        StudyClaim::RecallIsHigh => retrieval::recall_is_high(&findings),
        StudyClaim::JointServesMore => shared::joint_serves_more(&findings, plan.seed),
        StudyClaim::AdmittedAreInTime => shared::admitted_are_in_time(&findings, plan.seed),
        StudyClaim::BatchSavesCpu => shared::batch_saves_cpu(&findings),
        StudyClaim::BatchSavesEnergy => shared::batch_saves_energy(&findings, (results, recorded)),
        StudyClaim::KpisHoldByRate => kpi::holds_by_rate(&findings),
        StudyClaim::KpisHoldByTrace => kpi::holds_by_trace((plan, traces), &findings, results),
        StudyClaim::CounterIsIntegratedPower => shared::counter_is_integral((results, recorded)),
        StudyClaim::DeviceFlatInLink => placement::device_flat(&findings),
        StudyClaim::RoundTripIsAdded => placement::round_trip_is_added(&findings),
        StudyClaim::TokenTimeFlatInRoundTrip => placement::token_time_flat(&findings),
        StudyClaim::FewerBitsHitNoLess => placement::fewer_bits(&findings),
        StudyClaim::FewerBitsHitMore => placement::fewer_bits_more(&findings),
        StudyClaim::PolicyHitsAsBest => placement::policy_hits(&findings),
        StudyClaim::OffloadFlips => placement::offload_flips(&findings, plan.seed),
        StudyClaim::UShapeDoublesStates => u_shape::doubles_states(&findings),
        StudyClaim::HalvesAgree => tensor_parallel::agree(&findings),
        StudyClaim::HalvesPayRoundTrips => tensor_parallel::pay_round_trips(&findings),
        StudyClaim::HalvesTakeSum => tensor_parallel::take_sum(&findings),
        StudyClaim::TensorParallelFallsFirst => tensor_parallel::falls_first(&findings),
        StudyClaim::CnnCutSlides => cnn::cut_slides(&findings),
        StudyClaim::AdapterBytesAreDelta => adapters::bytes_are_delta(&findings),
        StudyClaim::AdaptersAnswerAlike => adapters::answer_alike(&findings),
        StudyClaim::AdaptersMatter => adapters::matter(&findings),
        StudyClaim::ColdStartIsSum => adapters::cold_start_is_sum(&findings),
        StudyClaim::TogetherServesAsMany => adapters::together_serves_as_many(&findings, plan.seed),
        StudyClaim::LeakFallsWithDepth => leak::falls_with_depth(&findings),
        StudyClaim::MergingDividesUplink => multimodal::merging_divides(&findings),
        StudyClaim::TokensWinBelowRate => multimodal::tokens_win_below(&findings),
        StudyClaim::AnswersNameTheImage => multimodal::answers_name(&findings),
        StudyClaim::MergingKeepsAnswers => multimodal::merging_keeps(&findings),
    }
}

fn with_numbers(
    held: Option<bool>,
    numbers: &[(&str, f64)],
    evidence: Evidence,
    detail: &str,
) -> Judgement {
    let numbers = numbers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), *value));
    Judgement {
        numbers: numbers.collect(),
        ..judgement(held, &[], evidence, detail)
    }
}

fn arms_agree(findings: &Findings<'_>, plan: &Plan) -> Judgement {
    if !findings.rounds.is_empty() {
        return shared::answers_agree(findings);
    }
    // Arms that answer something else are compared among themselves.
    let mut by_prompt: BTreeMap<(u32, u32), Vec<Answer<'_>>> = BTreeMap::new();
    // Tokens that are drawn differ from arm to arm; they agree in their distribution alone. What a
    // coding loses may change tokens.
    let greedy =
        |trial: &&TrialRecord| trial.arm.drawing() == Drawing::Greedy && trial.arm.is_exact();
    let judged = || findings.all_trials().filter(greedy);
    for trial in judged() {
        let answers = by_prompt.entry((trial.prompt, trial.arm.answers()));
        answers.or_default().push(Answer {
            tokens: &trial.tokens,
            ties: &trial.ties,
        });
    }
    let mut agreement = Agreement::default();
    let compared = by_prompt.iter().map(|(prompt, answers)| {
        // Those that go another way than the first of its prompt.
        alike::compare(&mut agreement, prompt, answers)
    });
    let differing: u64 = compared.sum();
    let trials = u64::try_from(judged().count()).unwrap_or(u64::MAX);
    let tokens: usize = judged().map(|trial| trial.tokens.len()).sum();
    let comparable = !by_prompt.is_empty() && by_prompt.values().all(|answers| answers.len() > 1);
    let mut numbers = vec![
        ("trials", trials),
        ("differing_trials", differing),
        ("tokens", u64::try_from(tokens).unwrap_or(u64::MAX)),
    ];
    let prompts: BTreeSet<u32> = by_prompt.keys().map(|(prompt, _)| *prompt).collect();
    let prompts = prompts.len();
    let mut detail =
        format!("{trials} trials of {prompts} prompts, {tokens} tokens; {differing} differ");
    let path = findings.plan.path.iter().map(String::as_str);
    let held = if alike::on_several_devices(plan, path) {
        detail.push_str(&alike::told_of_devices(&agreement, &mut numbers));
        agreement.held()
    } else {
        Some(differing == 0)
    };
    let evidence = Evidence::equality(trials, "trials", "one token");
    judgement(held.filter(|_| comparable), &numbers, evidence, &detail)
}

/// Whether a ratio is 1 within the tolerance; `None` if its interval leaves that open.
fn within([_, low, high]: [f64; 3]) -> Option<bool> {
    let inside = |value: f64| (value - 1.0).abs() <= TOLERANCE;
    if inside(low) && inside(high) {
        return Some(true);
    }
    // An interval that reaches over one of the bounds decides nothing.
    let outside = low > 1.0 + TOLERANCE || high < 1.0 - TOLERANCE;
    outside.then_some(false)
}

fn told([ratio, low, high]: [f64; 3]) -> String {
    format!("{ratio:.3}, {low:.3} to {high:.3}")
}

/// Whether a row has enough rates on either side of its critical one.
fn brackets(findings: &Findings<'_>, row: &RowRecord) -> bool {
    findings.critical_rate_bps(row).is_some_and(|critical| {
        let count = |is: fn(u64, u64) -> bool| {
            let rates = row.rates_bps.iter();
            rates.filter(|rate| is(**rate, critical)).count()
        };
        count(|rate, critical| rate < critical) >= RATES_EACH_SIDE
            && count(|rate, critical| rate > critical) >= RATES_EACH_SIDE
    })
}

/// How many trials a round trip has.
fn trials_at(findings: &Findings<'_>, round_trip_ns: u64) -> u64 {
    let trials = findings.trials.iter();
    let of_row = trials.filter(|trial| trial.round_trip_ns == round_trip_ns);
    u64::try_from(of_row.count()).unwrap_or(u64::MAX)
}

/// Trials of the arm and rate of a row that has the fewest.
fn fewest_of_row(findings: &Findings<'_>, row: &RowRecord) -> usize {
    let mut counts = BTreeMap::new();
    let of_row = |trial: &&&TrialRecord| trial.round_trip_ns == row.round_trip_ns;
    for trial in findings.trials.iter().filter(of_row) {
        *counts
            .entry((trial.rate_bps, trial.arm.name()))
            .or_insert(0) += 1;
    }
    counts.into_values().min().unwrap_or(0)
}

#[cfg(test)]
mod tests;
