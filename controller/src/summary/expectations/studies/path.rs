//! Claims about paths of several nodes: what a token takes with one request under way, how often tokens
//! come with several, and which division of the layers is best.

use std::collections::BTreeMap;

use hexloop_workloads::study::{Arm, NodeCosts, TrialRecord, split};

use super::{Judgement, RESOLUTION, TOLERANCE, judgement, told, with_numbers, within};
use crate::format::{count_to_f64, length};
use crate::summary::studies::Findings;
use crate::summary::studies::law;

/// Fewest trials that a mean's interval is told from.
const LEAST_TRIALS: usize = 4;

/// What an arm did at a setting, and what the law says of it.
struct Tried<'a> {
    arm: &'a Arm,
    trials: Vec<&'a TrialRecord>,
    token_ns: f64,
    pipelined_ns: f64,
}

/// Every arm at every setting.
fn tried<'a>(findings: &Findings<'a>) -> BTreeMap<(u64, u64), Vec<Tried<'a>>> {
    let mut settings: BTreeMap<(u64, u64), Vec<Tried<'a>>> = BTreeMap::new();
    let arms = &findings.plan.study.arms;
    for (row, arm) in findings
        .rows
        .iter()
        .flat_map(|row| arms.iter().map(move |arm| (row, arm)))
    {
        for (rate, trials) in findings.by_rate(row.round_trip_ns, arm) {
            let law = |of: fn(&Arm, &[NodeCosts], (u64, u64), u64) -> u64| {
                let setting = (row.echo_ns, rate);
                count_to_f64(of(arm, &findings.costs, setting, findings.state_bytes))
            };
            let setting = settings.entry((row.round_trip_ns, rate)).or_default();
            setting.push(Tried {
                arm,
                trials,
                token_ns: law(split::token_time_ns),
                pipelined_ns: law(split::pipelined_time_ns),
            });
        }
    }
    settings
}

pub(super) fn latency_is_sum(findings: &Findings<'_>) -> Judgement {
    let settings = tried(findings);
    let alone = settings.values().flatten().filter(|tried| {
        tried.arm.in_flight() == 1 && !tried.arm.is_whole() && tried.token_ns > 0.0
    });
    let over: Vec<f64> = alone
        .flat_map(|tried| {
            let times = tried
                .trials
                .iter()
                .filter_map(|trial| law::token_ns(&[trial]));
            times.map(|time| count_to_f64(time) / tried.token_ns)
        })
        .collect();
    if over.len() < LEAST_TRIALS {
        let detail = format!(
            "{} trials with one request under way are too few",
            over.len()
        );
        return judgement(None, &[("trials", length(&over))], detail);
    }
    let count = count_to_f64(length(&over));
    let mean = over.iter().sum::<f64>() / count;
    let squares = over.iter().map(|ratio| (ratio - mean) * (ratio - mean));
    let half = 1.96 * (squares.sum::<f64>() / (count - 1.0) / count).sqrt();
    let ratio = [mean, mean - half, mean + half];
    let detail = format!(
        "the time of a token over the sum of what nodes and links take: {} (95 % of {} trials; a \
         deviation of {:.1} % would show)",
        told(ratio),
        over.len(),
        half * 100.0
    );
    let numbers = [
        ("time_over_sum", ratio[0]),
        ("time_over_sum_low", ratio[1]),
        ("time_over_sum_high", ratio[2]),
        ("trials", count),
    ];
    with_numbers(within(ratio), &numbers, detail)
}

/// Time between tokens of a group of requests while the path is full: over the middle half of them, so
/// that neither prompts nor the last requests count. `None` of too few tokens.
fn pace_ns(trials: &[&TrialRecord]) -> Option<f64> {
    let tokens = trials
        .iter()
        .flat_map(|trial| trial.token_ns.iter().copied());
    let mut moments: Vec<u64> = tokens.collect();
    moments.sort_unstable();
    let (from, to) = (moments.len() / 4, moments.len() * 3 / 4);
    let (first, last) = (moments.get(from)?, moments.get(to)?);
    let steps = u64::try_from(to - from).ok().filter(|steps| *steps > 3)?;
    Some(count_to_f64(last - first) / count_to_f64(steps))
}

/// The paces of an arm's groups at a setting.
fn paces_ns(tried: &Tried<'_>) -> Vec<f64> {
    let mut groups: BTreeMap<u32, Vec<&TrialRecord>> = BTreeMap::new();
    for trial in &tried.trials {
        groups.entry(trial.group).or_default().push(trial);
    }
    groups
        .values()
        .filter_map(|trials| pace_ns(trials))
        .collect()
}

pub(super) fn throughput_is_slowest(findings: &Findings<'_>) -> Judgement {
    let settings = tried(findings);
    let several = settings
        .values()
        .flatten()
        .filter(|tried| tried.arm.in_flight() > 1 && tried.pipelined_ns > 0.0);
    let mut over: Vec<f64> = several
        .flat_map(|tried| {
            paces_ns(tried)
                .into_iter()
                .map(|pace| pace / tried.pipelined_ns)
        })
        .collect();
    over.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (over.first(), over.last()) else {
        let detail = "no requests were under way together for long enough".to_owned();
        return judgement(None, &[("groups", 0)], detail);
    };
    let count = count_to_f64(length(&over));
    let ratio = [over.iter().sum::<f64>() / count, *least, *most];
    let detail = format!(
        "the time between tokens over that of the slowest node or link: {} (all of {} groups)",
        told(ratio),
        over.len()
    );
    let numbers = [
        ("time_over_slowest", ratio[0]),
        ("time_over_slowest_least", ratio[1]),
        ("time_over_slowest_most", ratio[2]),
        ("groups", count),
    ];
    with_numbers(within(ratio), &numbers, detail)
}

pub(super) fn best_division(findings: &Findings<'_>) -> Judgement {
    let (mut judged, mut best, mut gains) = (0_u64, 0_u64, Vec::new());
    for setting in tried(findings).into_values() {
        let several: Vec<(f64, f64)> = setting
            .iter()
            .filter(|tried| tried.arm.in_flight() > 1)
            .filter_map(|tried| {
                let paces = paces_ns(tried);
                let count = count_to_f64(length(&paces));
                (!paces.is_empty()).then(|| (tried.pipelined_ns, paces.iter().sum::<f64>() / count))
            })
            .collect();
        let named = several.iter().min_by(|a, b| a.0.total_cmp(&b.0));
        let worst = several.iter().max_by(|a, b| a.0.total_cmp(&b.0));
        let (Some(named), Some(worst)) = (named, worst) else {
            continue;
        };
        // Where the law sees hardly a difference, nobody can tell.
        if worst.0 < named.0 * (1.0 + TOLERANCE) {
            continue;
        }
        judged += 1;
        let is_best = several
            .iter()
            .all(|(_, pace)| named.1 <= pace * (1.0 + RESOLUTION));
        best += u64::from(is_best);
        gains.push((worst.1 / named.1, worst.0 / named.0));
    }
    let count = count_to_f64(judged.max(1));
    let mean = |of: fn(&(f64, f64)) -> f64| gains.iter().map(of).sum::<f64>() / count;
    let detail = format!(
        "the division whose slowest node is the fastest is best at {best} of {judged} settings; it brings \
         {:.2} times the tokens of the worst, {:.2} by the costs",
        mean(|gain| gain.0),
        mean(|gain| gain.1)
    );
    let numbers = [
        ("settings", count_to_f64(judged)),
        ("settings_with_that_division_best", count_to_f64(best)),
        ("gain", mean(|gain| gain.0)),
        ("gain_by_costs", mean(|gain| gain.1)),
    ];
    with_numbers((judged > 0).then_some(best == judged), &numbers, detail)
}

#[cfg(test)]
mod tests;
