//! Claims about tensor-parallel pairs: the tokens of two halves, what each round trip costs them, how long a token
//! takes, and when they fall behind.

use std::collections::BTreeMap;

use hexloop_workloads::coding::Coding;
use hexloop_workloads::study::{Arm, TrialRecord};

use super::time_over_sum::judge_time_over_sum;
use super::{Evidence, Judgement, judgement, told, unjudged, with_numbers, within};
use crate::format::{count_to_f64, length};
use crate::summary::studies::Findings;
use crate::summary::studies::law;
use crate::summary::studies::tensor_parallel::{
    Chosen, exact_halves, is_first_alone, predicted_ns, rates,
};
use hexloop_statistics::{Agreement, TOKENS_OF_A_TIE, mean_interval};

/// Fewest values that a mean's interval is told from.
const LEAST_VALUES: usize = 4;

/// Every token of exact halves is that of the whole model, up to the first that differs; there two scores have to be
/// as good as each other.
pub(super) fn agree(findings: &Findings<'_>) -> Judgement {
    let trials = || findings.trials.iter().copied();
    let alone = trials().filter(|trial| is_first_alone(&trial.arm));
    let whole: BTreeMap<u32, &[u32]> = alone
        .map(|trial| (trial.prompt, trial.tokens.as_slice()))
        .collect();
    let (mut judged, mut close) = (0, 0_u64);
    let mut agreement = Agreement::default();
    for trial in trials().filter(|trial| exact_halves(&trial.arm)) {
        let Some(expected) = whole.get(&trial.prompt) else {
            continue;
        };
        judged += 1;
        let halves = trial.halves.as_ref();
        let ties = halves.map_or(&[][..], |halves| halves.ties.as_slice());
        close += length(ties);
        let place = |at| (trial.prompt, at);
        agreement.answer((&trial.tokens, expected), place, |at| ties.contains(&at));
    }
    let (places, excused) = (agreement.places(), agreement.ties());
    let differing = agreement.differing();
    let numbers = [
        ("trials", judged),
        ("places", u64::from(places)),
        ("ties", close),
        ("excused_places", u64::from(excused)),
        ("differing_trials", differing),
    ];
    let detail = format!(
        "{judged} trials, {places} places of prompts' answers against the whole model's; {close} tokens were as good as \
         another; at {excused} places trials went another way there, of one in {TOKENS_OF_A_TIE} at most, and \
         {differing} trials elsewhere"
    );
    let evidence = Evidence::equality(u64::from(places), "places", "another token elsewhere");
    judgement(agreement.held(), &numbers, evidence, &detail)
}

/// A mean with the ends of its 95 % interval; `None` of too few values.
fn mean_of(values: &[f64]) -> Option<[f64; 3]> {
    mean_interval(values).filter(|_| values.len() >= LEAST_VALUES)
}

fn too_few(values: &[f64], what: &str) -> Judgement {
    let detail = format!("{} {what} are too few", values.len());
    unjudged(&[("values", length(values))], detail)
}

/// Each prompt at each rate.
fn lines<'a>(findings: &'a Findings<'_>) -> impl Iterator<Item = Chosen> + 'a {
    let prompts = findings.plan.study.prompts;
    rates(findings).into_iter().flat_map(move |rate_bps| {
        (0..prompts).map(move |prompt| Chosen {
            rate_bps,
            prompt: Some(prompt),
        })
    })
}

pub(super) fn pay_round_trips(findings: &Findings<'_>) -> Judgement {
    let arms = &findings.plan.study.arms;
    // Two sums in each layer, half a round trip for each.
    let expected = f64::from(findings.kv_shape.layers);
    let over: Vec<f64> = match arms.iter().find(|arm| exact_halves(arm)) {
        Some(arm) => lines(findings)
            .filter_map(|chosen| chosen.line(findings, arm))
            .map(|(_, times)| times / expected)
            .collect(),
        None => Vec::new(),
    };
    let Some(ratio) = mean_of(&over) else {
        return too_few(&over, "prompts at rates with several round trips");
    };
    let detail = format!(
        "a token takes {:.3} round trips for each one of the link, {expected} by the layers: {} (95 %)",
        ratio[0] * expected,
        told(ratio)
    );
    let numbers = [
        ("round_trips", ratio[0] * expected),
        ("over_layers", ratio[0]),
        ("over_layers_low", ratio[1]),
        ("over_layers_high", ratio[2]),
        ("lines", count_to_f64(length(&over))),
    ];
    let evidence = Evidence::ratio(length(&over), "prompts at rates", ratio);
    with_numbers(within(ratio), &numbers, evidence, &detail)
}

pub(super) fn take_sum(findings: &Findings<'_>) -> Judgement {
    let over = |trial: &&TrialRecord| {
        let row = findings
            .rows
            .iter()
            .find(|row| row.round_trip_ns == trial.round_trip_ns)?;
        let predicted = predicted_ns(findings, Coding::F32, (row.echo_ns, trial.rate_bps))?;
        let took = law::token_ns(&[*trial])?;
        Some(count_to_f64(took) / count_to_f64(predicted.max(1)))
    };
    let trials = findings.trials.iter().copied();
    let over: Vec<f64> = trials
        .filter(|trial| exact_halves(&trial.arm))
        .filter_map(|trial| over(&trial))
        .collect();
    let Some(ratio) = mean_of(&over) else {
        return too_few(&over, "trials whose halves' costs were measured");
    };
    let compared = "the time of a token over what both nodes compute and exchange for it";
    judge_time_over_sum(&over, ratio, compared)
}

/// The speed of halves over the first node alone, at the shortest round trip and the best rate.
fn speed_up(findings: &Findings<'_>) -> Option<f64> {
    let shortest = findings.rows.iter().map(|row| row.round_trip_ns).min()?;
    let trials = findings.trials.iter().copied();
    let halves = trials.filter(|trial| exact_halves(&trial.arm) && trial.round_trip_ns == shortest);
    let mut by_rate: BTreeMap<u64, Vec<&TrialRecord>> = BTreeMap::new();
    for trial in halves {
        by_rate.entry(trial.rate_bps).or_default().push(trial);
    }
    let (rate_bps, trials) = by_rate.into_iter().next_back()?;
    let chosen = Chosen {
        rate_bps,
        prompt: None,
    };
    Some(chosen.alone_ns(findings)? / count_to_f64(law::token_ns(&trials)?.max(1)))
}

pub(super) fn falls_first(findings: &Findings<'_>) -> Judgement {
    let arms = &findings.plan.study.arms;
    let splits = || arms.iter().filter(|arm| matches!(arm, Arm::Split { .. }));
    let halves = arms.iter().find(|arm| exact_halves(arm));
    let pair = |chosen: Chosen| {
        let own = chosen.behind_from_ns(findings, halves?)?;
        let of_splits = splits().filter_map(|arm| chosen.behind_from_ns(findings, arm));
        Some((own, of_splits.max_by(f64::total_cmp)?))
    };
    let pairs: Vec<(f64, f64)> = lines(findings).filter_map(pair).collect();
    let later: Vec<f64> = pairs.iter().map(|(own, split)| split - own).collect();
    let Some(difference) = mean_of(&later) else {
        return too_few(
            &later,
            "prompts at rates with halves, a split and one node alone",
        );
    };
    let mean = |of: fn(&(f64, f64)) -> f64| {
        pairs.iter().map(of).sum::<f64>() / count_to_f64(length(&pairs)) / 1e6
    };
    let (own_ms, split_ms) = (mean(|pair| pair.0), mean(|pair| pair.1));
    let told = |ms: f64| match ms > 0.0 {
        true => format!("from {ms:.3} ms on"),
        false => "at every round trip".to_owned(),
    };
    let [mean, low, high] = difference.map(|ns| ns / 1e6);
    let speed_up = speed_up(findings);
    let faster = match speed_up {
        Some(times) => format!("at the shortest round trip halves are {times:.3} times as fast"),
        None => "the shortest round trip has no trials of both to compare".to_owned(),
    };
    let detail = format!(
        "halves are slower than the first node alone {}, the best split {}: {mean:.3} ms later, {low:.3} to {high:.3} \
         (95 %); {faster}",
        told(own_ms),
        told(split_ms)
    );
    let mut numbers = vec![
        ("halves_behind_from_ms", own_ms),
        ("split_behind_from_ms", split_ms),
        ("later_ms", mean),
        ("later_ms_low", low),
        ("later_ms_high", high),
        ("lines", count_to_f64(length(&later))),
    ];
    numbers.extend(speed_up.map(|times| ("speed_up", times)));
    let held = match (low > 0.0, high < 0.0) {
        // A split that never wins does not fall.
        _ if split_ms <= 0.0 => None,
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    };
    let effect = format!("a difference of {:.3} ms", high - mean);
    let evidence = Evidence::new(length(&later), "prompts at rates", effect);
    with_numbers(held, &numbers, evidence, &detail)
}

#[cfg(test)]
mod tests;
