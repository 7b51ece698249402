//! Claims about speculative decoding.

use std::collections::BTreeMap;

use hexloop_workloads::study::speculative::{Crossing, Drawing};
use hexloop_workloads::study::{Arm, TrialRecord};

use super::super::{Evidence, Judgement, all_of, unjudged};
use super::{RESOLUTION, told, with_numbers};
use crate::format::{count_to_f64, length, ns_to_ms};
use crate::summary::expectations::evidence::half_width;
use crate::summary::studies::Findings;
use crate::summary::studies::speculation::{Rounds, fixed, rate_ratio, rounds, tokens_per_s};

/// How far the tokens of a round may be from what acceptance predicts.
const TOLERANCE: f64 = 0.10;

/// Fewest prompts that an interval over prompts is taken from: they differ so much that one of fewer
/// comes out too narrow.
const LEAST_PROMPTS: u64 = 20;

/// What is left of a token rate that has collapsed, at most.
const COLLAPSED: f64 = 0.4;

/// What is left of one that has not, at least.
const KEPT: f64 = 0.6;

pub(super) fn rounds_follow_acceptance(findings: &Findings<'_>, seed: u64) -> Judgement {
    let rounds = rounds(findings, seed);
    if rounds.is_empty() {
        let detail = "no drafts of two tokens or more, or no held-out prompts".to_owned();
        return unjudged(&[], detail);
    }
    all_of(rounds.iter().map(|one| {
        let how = match one.drawing {
            Drawing::Greedy => "greedy",
            Drawing::Sampled => "sampled",
        };
        (format!("{how} {}", one.drafted), of_length(one))
    }))
}

fn of_length(rounds: &Rounds) -> Judgement {
    let Rounds {
        acceptance,
        over_expected,
        prompts: [prompts, held_out],
        ..
    } = *rounds;
    let [ratio, low, high] = over_expected;
    let inside = |value: f64| (value - 1.0).abs() <= TOLERANCE;
    let held = if prompts.min(held_out) < LEAST_PROMPTS {
        None
    } else if inside(low) && inside(high) {
        Some(true)
    } else {
        let outside = low > 1.0 + TOLERANCE || high < 1.0 - TOLERANCE;
        outside.then_some(false)
    };
    let correlation = rounds.correlation.unwrap_or(0.0);
    let detail = format!(
        "{} rounds of {prompts} prompts; acceptance {acceptance:.4} on {held_out} others, correlation \
         of neighbours {correlation:.3}; tokens per round over the prediction {} (95 %)",
        rounds.rounds,
        told(over_expected)
    );
    let numbers = [
        ("rounds", count_to_f64(rounds.rounds)),
        ("acceptance", acceptance),
        ("lag_one_correlation", correlation),
        ("tokens_over_prediction", ratio),
        ("tokens_over_prediction_low", low),
        ("tokens_over_prediction_high", high),
    ];
    let evidence = Evidence::ratio(prompts, "prompts", over_expected);
    with_numbers(held, &numbers, evidence, &detail)
}

/// Trials by what they were tried with: drafts of ids alone, of one length, at the highest rate.
fn by_length<'a>(
    findings: &Findings<'a>,
    (round_trip_ns, drawing): (u64, Drawing),
) -> BTreeMap<u32, Vec<&'a TrialRecord>> {
    let mut sorted: BTreeMap<u32, Vec<&TrialRecord>> = BTreeMap::new();
    let here = || {
        let trials = findings.trials.iter();
        trials.filter(move |trial| trial.round_trip_ns == round_trip_ns)
    };
    let highest = here().map(|trial| trial.rate_bps).max();
    for trial in here().filter(|trial| Some(trial.rate_bps) == highest) {
        if let Some((speculation, drafted)) = fixed(&trial.arm)
            && speculation.crossing == Crossing::Ids
            && speculation.drawing == drawing
        {
            sorted.entry(drafted).or_default().push(trial);
        }
    }
    sorted
}

pub(super) fn best_draft_grows(findings: &Findings<'_>) -> Judgement {
    let lengths_of = |drawing: &Drawing| {
        let arms = findings.plan.study.arms.iter();
        let of_ids = arms.filter_map(fixed).filter(|(speculation, _)| {
            speculation.drawing == *drawing && speculation.crossing == Crossing::Ids
        });
        of_ids.count()
    };
    let mut drawings = vec![Drawing::Greedy, Drawing::Sampled];
    drawings.retain(|drawing| lengths_of(drawing) > 1);
    if drawings.is_empty() {
        let detail = "two lengths of drafts of ids are needed".to_owned();
        return unjudged(&[], detail);
    }
    all_of(drawings.into_iter().map(|drawing| {
        let name = match drawing {
            Drawing::Greedy => "greedy",
            Drawing::Sampled => "sampled",
        };
        (name, best_draft_of(findings, drawing))
    }))
}

fn best_draft_of(findings: &Findings<'_>, drawing: Drawing) -> Judgement {
    let mut round_trips: Vec<u64> = findings.rows.iter().map(|row| row.round_trip_ns).collect();
    round_trips.sort_unstable();
    let (mut least, mut grows, mut details) = (0, true, Vec::new());
    let (mut rows, mut trials, mut numbers) = (0_u64, 0, Vec::new());
    for round_trip_ns in round_trips {
        let sorted = by_length(findings, (round_trip_ns, drawing));
        let rates = sorted.iter();
        let rates: Vec<(u32, f64)> = rates
            .filter_map(|(drafted, trials)| Some((*drafted, tokens_per_s(trials)?)))
            .collect();
        let best = rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
        let as_good = rates
            .iter()
            .filter(|(_, rate)| *rate >= best * (1.0 - RESOLUTION));
        let as_good: Vec<u32> = as_good.map(|(drafted, _)| *drafted).collect();
        if rates.len() < 2 {
            continue;
        }
        rows += 1;
        trials += sorted.values().map(|trials| length(trials)).sum::<u64>();
        // The shortest of the best that is not shorter than before: if there is none, it has shrunk.
        let next = as_good.iter().copied().find(|drafted| *drafted >= least);
        grows &= next.is_some();
        least = next.unwrap_or(least);
        let told: Vec<String> = as_good.iter().map(u32::to_string).collect();
        details.push(format!(
            "{} at {} ms",
            told.join(" or "),
            ns_to_ms(round_trip_ns)
        ));
        let first = as_good.first().copied().unwrap_or(0);
        numbers.push((
            format!("best_at_{}_ms", ns_to_ms(round_trip_ns)),
            f64::from(first),
        ));
    }
    let detail = format!("best drafts {}", details.join(", "));
    let effect = format!("{:.0} % more tokens per second", RESOLUTION * 100.0);
    let evidence = Evidence::new(trials, "trials", effect);
    let named: Vec<(&str, f64)> = numbers
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    with_numbers((rows > 1).then_some(grows), &named, evidence, &detail)
}

pub(super) fn distributions_collapse(findings: &Findings<'_>, seed: u64) -> Judgement {
    let shortest = findings.rows.iter().map(|row| row.round_trip_ns).min();
    let here = || {
        let trials = findings.trials.iter().copied();
        trials.filter(move |trial| Some(trial.round_trip_ns) == shortest)
    };
    let rates = || here().map(|trial| trial.rate_bps);
    let (Some(low), Some(high)) = (rates().min(), rates().max()) else {
        return unjudged(&[], "nothing was tried".to_owned());
    };
    let asks = |arm: &Arm| match arm {
        Arm::Speculative(speculation) => match speculation.crossing {
            Crossing::Ids => Some(false),
            Crossing::Distributions(_) => Some(true),
            Crossing::TopK(_) => None,
        },
        _ => None,
    };
    let arms = findings.plan.study.arms.iter();
    let judged: Vec<(&Arm, bool)> = arms.filter_map(|arm| Some((arm, asks(arm)?))).collect();
    let both = [true, false].map(|asked| judged.iter().any(|(_, collapses)| *collapses == asked));
    if low == high || both.contains(&false) {
        let detail = "two rates, and arms with ids and with distributions are needed".to_owned();
        return unjudged(&[], detail);
    }
    all_of(judged.into_iter().map(|(arm, collapses)| {
        let of = |rate| -> Vec<&TrialRecord> {
            let trials = here().filter(|trial| trial.arm == *arm && trial.rate_bps == rate);
            trials.collect()
        };
        (
            arm.name(),
            left_of_rate((of(low), of(high)), collapses, seed),
        )
    }))
}

fn left_of_rate(
    (low, high): (Vec<&TrialRecord>, Vec<&TrialRecord>),
    collapses: bool,
    seed: u64,
) -> Judgement {
    let Some(left) = rate_ratio((&low, &high), seed) else {
        return unjudged(&[], "no tokens at one of the rates".to_owned());
    };
    let [ratio, least, most] = left;
    let trials = length(&low) + length(&high);
    let held = match collapses {
        true if most <= COLLAPSED => Some(true),
        true if least > COLLAPSED => Some(false),
        false if least >= KEPT => Some(true),
        false if most < KEPT => Some(false),
        _ => None,
    };
    let held = held.filter(|_| length(&low).min(length(&high)) >= 2);
    let asked = match collapses {
        true => format!("at most {COLLAPSED}"),
        false => format!("at least {KEPT}"),
    };
    let detail = format!(
        "{} of the token rate is left, {asked} asked (95 %)",
        told(left)
    );
    let numbers = [
        ("rate_left", ratio),
        ("rate_left_low", least),
        ("rate_left_high", most),
    ];
    let effect = format!("a difference of {:.3} in what is left", half_width(left));
    let evidence = Evidence::new(trials, "trials", effect);
    with_numbers(held, &numbers, evidence, &detail)
}

#[cfg(test)]
mod tests;
