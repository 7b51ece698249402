//! Claims about paths of several nodes: what a token takes with one request under way, how often tokens
//! come with several, and which division of the layers is best.

use std::collections::BTreeMap;

use hexloop_workloads::study::{Arm, HopBytes, TrialRecord, split};

use super::time_over_sum::judge_time_over_sum;
use super::{Evidence, Judgement, RESOLUTION, TOLERANCE, told, unjudged, with_numbers};
use crate::format::{count_to_f64, length};
use crate::summary::studies::Findings;
use crate::summary::studies::law;
use hexloop_statistics::mean_interval;

/// Fewest trials that a mean's interval is told from.
const LEAST_TRIALS: usize = 4;

/// How much longer than the slowest node or link some requests may take together. The first prompt has to reach it,
/// and the last token has to go on from it: a prompt is as many states as it has tokens, on each link before, which
/// for six answers of 16 tokens over two links is an eighth at 4 Mbit/s. And while prompts come, a link may be the
/// slowest, afterwards a node: neither is busy throughout, and only the busier of both counts, which is a tenth there.
/// The rest is for nodes that wait for a CPU of this machine. More requests and longer answers need less.
const FILLING: f64 = 0.35;

/// What an arm did at a setting.
struct Tried<'a> {
    arm: &'a Arm,
    trials: Vec<&'a TrialRecord>,
    /// The round trip of an empty frame over the path.
    echo_ns: u64,
    rate_bps: u64,
    /// Time between tokens with a full path, by the costs that were measured with one request.
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
            let at = (row.echo_ns, rate);
            let state_bytes = arm.coding().token_bytes(findings.width);
            let pipelined = split::pipelined_time_ns(arm, &findings.costs, at, state_bytes);
            let setting = settings.entry((row.round_trip_ns, rate)).or_default();
            setting.push(Tried {
                arm,
                trials,
                echo_ns: row.echo_ns,
                rate_bps: rate,
                pipelined_ns: count_to_f64(pipelined),
            });
        }
    }
    settings
}

/// How long a trial took, over what its nodes and links took for it.
fn over_sum(tried: &Tried<'_>, trial: &TrialRecord) -> Option<f64> {
    let took = trial.token_ns.last()?.checked_sub(trial.started_ns)?;
    let tokens = length(&trial.tokens);
    let parts = (trial.busy_ns.as_slice(), trial.hops.as_slice());
    let sum = split::request_time_ns(parts, tokens, (tried.echo_ns, tried.rate_bps));
    (sum > 0).then(|| count_to_f64(took) / count_to_f64(sum))
}

pub(super) fn latency_is_sum(findings: &Findings<'_>) -> Judgement {
    let settings = tried(findings);
    let alone = settings
        .values()
        .flatten()
        .filter(|tried| tried.arm.in_flight() == 1 && !tried.arm.is_whole());
    let over: Vec<f64> = alone
        .flat_map(|tried| {
            tried
                .trials
                .iter()
                .filter_map(|trial| over_sum(tried, trial))
        })
        .collect();
    let interval = mean_interval(&over).filter(|_| over.len() >= LEAST_TRIALS);
    let Some(ratio) = interval else {
        let detail = format!(
            "{} trials with one request under way are too few",
            over.len()
        );
        return unjudged(&[("trials", length(&over))], detail);
    };
    let compared = "the time of a request over the sum of what nodes and links took for it";
    judge_time_over_sum(&over, ratio, compared)
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

/// Whether requests together took as long as the slowest node or link, but for the filling of the path;
/// `None` if some did and others did not.
fn within_of_filling([_, least, most]: [f64; 3]) -> Option<bool> {
    let is_full = |ratio: f64| (1.0 - RESOLUTION..=1.0 + FILLING).contains(&ratio);
    match (is_full(least), is_full(most)) {
        (true, true) => Some(true),
        (false, false) => Some(false),
        _ => None,
    }
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

/// How long each group of requests took, over how long the slowest node or link was busy with it.
fn over_slowest(tried: &Tried<'_>) -> Vec<f64> {
    let spans = law::spans_ns(&tried.trials);
    let of_group = |(group, (begin, end, _)): (&u32, &(u64, u64, u64))| {
        let trials = tried.trials.iter().filter(|trial| trial.group == *group);
        let (mut busy_ns, mut hops) = (Vec::new(), Vec::new());
        for trial in trials {
            busy_ns.resize(busy_ns.len().max(trial.busy_ns.len()), 0_u64);
            hops.resize(hops.len().max(trial.hops.len()), HopBytes::default());
            for (all, own) in busy_ns.iter_mut().zip(&trial.busy_ns) {
                *all += own;
            }
            for (all, own) in hops.iter_mut().zip(&trial.hops) {
                all.up += own.up;
                all.down += own.down;
                all.frames_up += own.frames_up;
                all.frames_down += own.frames_down;
            }
        }
        let slowest = split::slowest_time_ns(&busy_ns, &hops, tried.rate_bps);
        (slowest > 0).then(|| count_to_f64(end - begin) / count_to_f64(slowest))
    };
    spans.iter().filter_map(of_group).collect()
}

pub(super) fn throughput_is_slowest(findings: &Findings<'_>) -> Judgement {
    let settings = tried(findings);
    let several = settings.values().flatten();
    let mut over: Vec<f64> = several
        .filter(|tried| tried.arm.in_flight() > 1)
        .flat_map(over_slowest)
        .collect();
    over.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (over.first(), over.last()) else {
        let detail = "no requests were under way together for long enough".to_owned();
        return unjudged(&[("groups", 0)], detail);
    };
    let count = count_to_f64(length(&over));
    let ratio = [over.iter().sum::<f64>() / count, *least, *most];
    // The path fills and empties once: that much longer, and never shorter.
    let held = within_of_filling(ratio);
    let detail = format!(
        "the time of requests together over that of the slowest node or link: {} (all of them)",
        told(ratio)
    );
    let numbers = [
        ("time_over_slowest", ratio[0]),
        ("time_over_slowest_least", ratio[1]),
        ("time_over_slowest_most", ratio[2]),
        ("groups", count),
    ];
    let effect = format!("one that takes {:.0} % longer", FILLING * 100.0);
    let evidence = Evidence::new(length(&over), "groups of requests", effect);
    with_numbers(held, &numbers, evidence, &detail)
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
        "the division whose slowest node is the fastest is best at {best} of {judged} settings; it brings {:.2} \
         times the tokens of the worst, {:.2} by the costs",
        mean(|gain| gain.0),
        mean(|gain| gain.1)
    );
    let numbers = [
        ("settings", count_to_f64(judged)),
        ("settings_with_that_division_best", count_to_f64(best)),
        ("gain", mean(|gain| gain.0)),
        ("gain_by_costs", mean(|gain| gain.1)),
    ];
    let effect = format!("{:.0} % more tokens of another", RESOLUTION * 100.0);
    let evidence = Evidence::new(judged, "settings", effect);
    let held = (judged > 0).then_some(best == judged);
    with_numbers(held, &numbers, evidence, &detail)
}

#[cfg(test)]
mod tests;
