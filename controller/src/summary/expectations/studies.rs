//! Claims about studies.

mod adapters;
mod cnn;
mod codings;
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
mod traced;
mod u_shape;

use std::collections::{BTreeMap, BTreeSet};

use hexloop_topologies::plan::{Plan, StudyClaim};
use hexloop_workloads::study::kpi::hop_bytes as kpi_hop_bytes;
use hexloop_workloads::study::kv as contexts;
use hexloop_workloads::study::own::{cascade_bytes, early_exit_bytes};
use hexloop_workloads::study::placement::hop_bytes as placement_bytes;
use hexloop_workloads::study::retrieval as documents;
use hexloop_workloads::study::speculative::{self as drafts, Drawing};
use hexloop_workloads::study::tensor_parallel::hop_bytes as halves_bytes;
use hexloop_workloads::study::u_shape::hop_bytes as u_shape_bytes;
use hexloop_workloads::study::{Arm, HopBytes, RowRecord, TrialRecord, split};

use super::alike::{self, Answer};
use super::{Evidence, Judgement, judgement, told_of_devices, unjudged};
use crate::format::{count_to_f64, length, ns_to_ms};
use crate::results::Results;
use crate::summary::studies::Findings;
use crate::summary::studies::law;
use hexloop_statistics::{Agreement, mean_interval};

/// How far a measured quantity may be from what the law says.
const TOLERANCE: f64 = 0.15;

/// How much longer than the best arm another may take and still count as best: what medians of so
/// few trials tell apart.
const RESOLUTION: f64 = 0.03;

/// Rates on either side of the critical one that make a row bracket it.
const RATES_EACH_SIDE: usize = 3;

/// Fewest trials of a cell that a law is judged by.
const LEAST_TRIALS: usize = 2;

/// Judges a claim about a study.
pub(super) fn judge(
    plan: &Plan,
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
    let is_empty =
        findings.trials.is_empty() && findings.rounds.is_empty() && findings.adapters.is_empty();
    if is_empty || recorded.end.is_none() {
        return unjudged(&[], "it did not come to its end".to_owned());
    }
    match claim {
        StudyClaim::ArmsAgree => arms_agree(&findings, plan),
        StudyClaim::ArmBytesFollowFormula => bytes_follow_formula(&findings),
        StudyClaim::CutMovesNoBytes => cut_moves_no_bytes(&findings),
        StudyClaim::TokenTimeLinearInCut => linear_in_cut(&findings),
        StudyClaim::BestCutFlips => best_cut_flips(&findings, plan.seed),
        StudyClaim::NeverSplits => never_splits(&findings),
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
        detail.push_str(&told_of_devices(&agreement, &mut numbers));
        agreement.held()
    } else {
        Some(differing == 0)
    };
    let evidence = Evidence::equality(trials, "trials", "one token");
    judgement(held.filter(|_| comparable), &numbers, evidence, &detail)
}

fn bytes_follow_formula(findings: &Findings<'_>) -> Judgement {
    if !findings.rounds.is_empty() {
        return shared::bytes_follow_formula(findings);
    }
    if !findings.adapters.is_empty() {
        return adapters::bytes_follow_formula(findings);
    }
    let links = length(&findings.plan.hops);
    let (mut judged, mut differing, mut counted, mut formula) = (0, 0, 0, 0);
    for trial in findings.all_trials().filter(|trial| !trial.arm.is_whole()) {
        let expected = formula_bytes(findings, trial);
        let sum = |hops: &[HopBytes]| hops.iter().map(|hop| hop.up + hop.down).sum::<u64>();
        judged += 1;
        differing += u64::from(trial.hops != expected);
        counted += sum(&trial.hops);
        formula += sum(&expected);
    }
    let numbers = [
        ("trials", judged),
        ("differing_trials", differing),
        ("counted_bytes", counted),
        ("formula_bytes", formula),
    ];
    let detail = format!(
        "{judged} trials on {links} links: {counted} bytes counted, {formula} by the formula; \
         {differing} trials differ"
    );
    let evidence = Evidence::equality(judged, "trials", "one byte");
    judgement(
        (judged > 0).then_some(differing == 0),
        &numbers,
        evidence,
        &detail,
    )
}

/// What a trial puts on each link of its path by the formula of its technique.
fn formula_bytes(findings: &Findings<'_>, trial: &TrialRecord) -> Vec<HopBytes> {
    let prompt = u64::from(findings.plan.study.prompt_tokens);
    let output = length(&trial.tokens);
    match &trial.arm {
        Arm::Split { .. } => {
            let links = length(&findings.plan.hops);
            let coded = (trial.arm.coding(), findings.width);
            split::hop_bytes(links, (prompt, output), coded)
        }
        Arm::EarlyExit { .. } => vec![early_exit_bytes(trial, prompt, findings.state_bytes)],
        Arm::Cascade { .. } => vec![cascade_bytes(trial, prompt)],
        Arm::KeyValues { .. } => {
            let came = trial.transfer.iter();
            let bytes = came.map(|how| contexts::hop_bytes(how.delivery, findings.context()));
            bytes.collect()
        }
        Arm::Retrieval(_) => {
            let found = trial.retrieval.iter();
            let bytes = found.map(|record| documents::hop_bytes(prompt, output, record));
            bytes.collect()
        }
        Arm::Remote { .. } => vec![drafts::remote_bytes(prompt, output)],
        Arm::Kpi { .. } => kpi_bytes(findings, &trial.arm).into_iter().collect(),
        // Their requests are no trials.
        Arm::Shared { .. } | Arm::Adapters(_) => Vec::new(),
        Arm::Leaking(leaking) => vec![leaking.hop_bytes(prompt, findings.width)],
        Arm::Look(look) => {
            let looks = findings.looks.iter();
            let bytes = looks.map(|looks| look.hop_bytes(looks.shape));
            bytes.collect()
        }
        Arm::Convolutional(network) => vec![network.hop_bytes()],
        Arm::UShaped(_) => vec![u_shape_bytes((prompt, output), findings.state_bytes)],
        Arm::TensorParallel(halves) => {
            let coded = (halves.coding, findings.width);
            let layers = findings.kv_shape.layers;
            vec![halves_bytes(layers, (prompt, output), coded)]
        }
        Arm::Placed(fixed) => {
            let links = length(&findings.plan.hops);
            placement_bytes(fixed.place, links, (prompt, output))
        }
        Arm::Policy(_) => {
            let place = trial.placed.map_or(0, |placed| placed.place);
            let links = length(&findings.plan.hops);
            placement_bytes(place, links, (prompt, output))
        }
        Arm::Speculative(speculation) => {
            let crossing = (speculation.crossing, findings.vocabulary);
            vec![drafts::hop_bytes(prompt, &trial.rounds, crossing)]
        }
    }
}

fn kpi_bytes(findings: &Findings<'_>, arm: &Arm) -> Option<HopBytes> {
    let Arm::Kpi { row, .. } = *arm else {
        return None;
    };
    let spec = findings.plan.study.kpi.as_ref()?;
    let row = spec.rows().find(|(place, _)| *place == row)?.1;
    let payload_bytes = spec.flow(row).ok()?.payload_bytes;
    Some(kpi_hop_bytes(row.way, payload_bytes))
}

fn cut_moves_no_bytes(findings: &Findings<'_>) -> Judgement {
    let coding = findings.plan.study.coding();
    let trials = findings.trials.iter();
    let parted = trials.filter(|trial| !trial.arm.is_whole() && trial.arm.coding() == coding);
    let mut by_cut: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for trial in parted {
        let bytes = trial.hops.iter().map(|hop| hop.up + hop.down).sum();
        by_cut.entry(trial.arm.first_cut()).or_default().push(bytes);
    }
    let all = || by_cut.values().flatten().copied();
    let (least, most) = (all().min().unwrap_or(0), all().max().unwrap_or(0));
    let trials = u64::try_from(all().count()).unwrap_or(u64::MAX);
    let cuts = u64::try_from(by_cut.len()).unwrap_or(u64::MAX);
    let numbers = [
        ("trials", trials),
        ("cuts", cuts),
        ("least_bytes", least),
        ("most_bytes", most),
    ];
    let detail =
        format!("{trials} trials with {cuts} cuts put {least} to {most} bytes on the link");
    let evidence = Evidence::equality(trials, "trials", "one byte");
    judgement(
        (cuts > 1).then_some(least == most),
        &numbers,
        evidence,
        &detail,
    )
}

fn linear_in_cut(findings: &Findings<'_>) -> Judgement {
    let slopes = law::slopes(findings);
    let [device, edge] = findings.costs.as_slice() else {
        return unjudged(&[], "costs of two nodes are needed".to_owned());
    };
    let asked = count_to_f64(device.layer_ns) - count_to_f64(edge.layer_ns);
    let values: Vec<f64> = slopes.iter().map(|(slope, _)| *slope).collect();
    let slope = mean_interval(&values).filter(|_| asked.abs() >= 1.0);
    let Some([mean, low, high]) = slope else {
        return unjudged(&[], "too few settings, or layers cost the same".to_owned());
    };
    let count = count_to_f64(length(&slopes));
    let ratio = [mean / asked, low / asked, high / asked];
    let bend = slopes.iter().map(|(_, bend)| bend).sum::<f64>() / count;
    let held = within(ratio).map(|held| held && bend <= TOLERANCE);
    let detail = format!(
        "slope {:.3} ms per layer, {:.3} by the costs: {} (95 %), on average at most {:.1} % off the \
         line",
        mean / 1e6,
        asked / 1e6,
        told(ratio),
        bend * 100.0
    );
    let numbers = [
        ("slope_over_costs", ratio[0]),
        ("slope_over_costs_low", ratio[1]),
        ("slope_over_costs_high", ratio[2]),
        ("settings", count),
        ("mean_distance_from_line", bend),
    ];
    let evidence = Evidence::ratio(length(&slopes), "settings", ratio);
    with_numbers(held, &numbers, evidence, &detail)
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

fn best_cut_flips(findings: &Findings<'_>, seed: u64) -> Judgement {
    let rows = findings.rows.iter();
    let bracketing: Vec<&&RowRecord> = rows.filter(|row| brackets(findings, row)).collect();
    if bracketing.is_empty() {
        let detail = format!(
            "no round trip has {RATES_EACH_SIDE} rates on either side of its critical one: splitting \
             saves too little on these nodes, or the grid is too small"
        );
        let rows = length(&findings.rows);
        let evidence = Evidence::new(rows, "round trips", "one that has");
        return judgement(Some(false), &[("bracketing_rows", 0)], evidence, &detail);
    }
    super::all_of(bracketing.into_iter().map(|row| {
        let name = format!("round trip {} ms", ns_to_ms(row.round_trip_ns));
        (name, flip_of_row(findings, row, seed))
    }))
}

fn flip_of_row(findings: &Findings<'_>, row: &RowRecord, seed: u64) -> Judgement {
    let Some(flip) = law::flip(findings, row, seed) else {
        let detail = "what the trials took does not cross at any rate";
        let evidence = Evidence::new(
            trials_at(findings, row.round_trip_ns),
            "trials",
            "a crossing",
        );
        return judgement(Some(false), &[], evidence, detail);
    };
    let (Some(over), Some(critical)) = (flip.over_critical, findings.critical_rate_bps(row)) else {
        return unjudged(&[], "there is no interval".to_owned());
    };
    let times = law::times_by_rate(findings, row);
    let critical = count_to_f64(critical);
    let (mut judged, mut corners) = (0_u64, 0_u64);
    for (rate, times) in &times {
        let over = count_to_f64(*rate) / critical;
        if (over - 1.0).abs() <= TOLERANCE {
            continue;
        }
        judged += 1;
        corners += u64::from(is_best(times, over < 1.0, findings));
    }
    let held = match within(over) {
        Some(held) if fewest_of_row(findings, row) >= LEAST_TRIALS => {
            Some(held && corners == judged)
        }
        _ => None,
    };
    let detail = format!(
        "flips at {:.3} Mbit/s, {:.3} by the formula: {} (95 %); the end that the formula names \
         is best at {corners} of {judged} rates",
        flip.rate_bps / 1e6,
        critical / 1e6,
        told(over)
    );
    let numbers = [
        ("flip_over_critical", over[0]),
        ("flip_over_critical_low", over[1]),
        ("flip_over_critical_high", over[2]),
        ("rates", count_to_f64(judged)),
        ("rates_with_that_end_best", count_to_f64(corners)),
    ];
    let evidence = Evidence::ratio(trials_at(findings, row.round_trip_ns), "trials", over);
    with_numbers(held, &numbers, evidence, &detail)
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

/// Whether one end of the range of cuts is the best arm of a setting, as far as that can be told.
fn is_best(times: &[(&Arm, u64)], whole: bool, findings: &Findings<'_>) -> bool {
    let Some([least, all]) = law::corner_arms(findings) else {
        return false;
    };
    let named = if whole { all } else { least };
    let best = times.iter().map(|(_, time)| *time).min().unwrap_or(0);
    let of_named = times.iter().find(|(arm, _)| *arm == named);
    of_named.is_some_and(|(_, time)| count_to_f64(*time) <= count_to_f64(best) * (1.0 + RESOLUTION))
}

fn never_splits(findings: &Findings<'_>) -> Judgement {
    let rows = findings.rows.iter();
    let without: Vec<&&RowRecord> = rows
        .filter(|row| findings.critical_rate_bps(row).is_none())
        .collect();
    let (mut settings, mut whole_best) = (0_u64, 0_u64);
    for row in &without {
        for times in law::times_by_rate(findings, row).values() {
            settings += 1;
            whole_best += u64::from(is_best(times, true, findings));
        }
    }
    let numbers = [
        ("rows", length(&without)),
        ("settings", settings),
        ("settings_with_all_on_the_first_best", whole_best),
    ];
    if without.is_empty() {
        let detail = "every round trip has a critical rate: none is long enough";
        let rows = length(&findings.rows);
        let evidence = Evidence::new(rows, "round trips", "one without a critical rate");
        return judgement(Some(false), &numbers, evidence, detail);
    }
    let detail = format!(
        "{} round trips without a critical rate: all layers on the first node are best at {whole_best} \
         of {settings} rates",
        without.len()
    );
    let trials: u64 = without
        .iter()
        .map(|row| trials_at(findings, row.round_trip_ns))
        .sum();
    let effect = format!("another cut that is faster by {:.0} %", RESOLUTION * 100.0);
    judgement(
        (settings > 0).then_some(whole_best == settings),
        &numbers,
        Evidence::new(trials, "trials", effect),
        &detail,
    )
}

#[cfg(test)]
mod tests;
