//! Claims about techniques in which the device answers as long as it is sure enough.

use std::collections::{BTreeMap, BTreeSet};

use hexloop_workloads::study::TrialRecord;
use hexloop_workloads::study::own::{Decision, Family, Maker, Threshold, escaped};

use super::super::{Evidence, Judgement, judgement, unjudged};
use super::{RESOLUTION, with_numbers};
use crate::format::{count_to_f64, length, ns_to_ms};
use crate::summary::studies::Findings;
use crate::summary::studies::own::{Agreement, OwnArm, arms, references, tokens_in_outage};
use crate::summary::studies::rates_of;

/// Fewest tokens of an arm that its quality is judged by.
const LEAST_TOKENS: u64 = 30;

/// From which confidence on an exit is held to be sure.
const SURE_PPM: u32 = 900_000;

/// The arms of each family by their threshold.
fn by_family<'a>(findings: &Findings<'a>) -> BTreeMap<Family, Vec<OwnArm<'a>>> {
    let mut families: BTreeMap<Family, Vec<OwnArm<'a>>> = BTreeMap::new();
    for arm in arms(findings) {
        families.entry(arm.keeping.family).or_default().push(arm);
    }
    for arms in families.values_mut() {
        arms.sort_by_key(|arm| arm.keeping.threshold);
    }
    families
}

/// The surer the device must be, the more often its answers are the whole model's: no higher threshold
/// of a family has a lower agreement beyond both intervals, and the highest none lower than the lowest.
pub(super) fn quality_rises(findings: &Findings<'_>) -> Judgement {
    let references = references(findings);
    let families = by_family(findings);
    let several = families.into_iter().filter(|(_, arms)| arms.len() > 2);
    let judged = several.map(|(family, arms)| {
        let agreements: Vec<(String, Agreement)> = arms
            .iter()
            .map(|arm| {
                (
                    arm.keeping.threshold.name(),
                    arm.agreement(&references, |_| true),
                )
            })
            .collect();
        (family.name(), rising(&agreements))
    });
    let judged: Vec<(String, Judgement)> = judged.collect();
    if judged.is_empty() {
        let detail = "three thresholds of one cut or rule are needed".to_owned();
        return unjudged(&[], detail);
    }
    super::super::all_of(judged.into_iter())
}

fn rising(agreements: &[(String, Agreement)]) -> Judgement {
    let intervals: Option<Vec<[f64; 3]>> = agreements
        .iter()
        .map(|(_, agreement)| agreement.interval())
        .collect();
    let least = agreements
        .iter()
        .map(|(_, agreement)| agreement.compared)
        .min();
    let (Some(intervals), Some(least)) = (intervals, least) else {
        return unjudged(
            &[],
            "nothing can be compared with the whole model".to_owned(),
        );
    };
    let mut falls = 0_u64;
    for (index, earlier) in intervals.iter().enumerate() {
        let later = intervals.iter().skip(index + 1);
        falls += u64::try_from(later.filter(|later| later[2] < earlier[1]).count()).unwrap_or(0);
    }
    let ends = intervals.first().zip(intervals.last());
    let rises = ends.is_some_and(|(first, last)| last[0] >= first[0]);
    let detectable = intervals
        .windows(2)
        .map(|pair| pair.iter().map(|[_, low, high]| (high - low) / 2.0).sum())
        .fold(0.0, f64::max);
    let told: Vec<String> = agreements
        .iter()
        .zip(&intervals)
        .map(|((name, agreement), [share, low, high])| {
            let compared = agreement.compared;
            format!("{name}: {share:.3} ({low:.3} to {high:.3}, {compared} tokens)")
        })
        .collect();
    let detail = format!(
        "agreement with the whole model's token after the same text, 95 %: {}",
        told.join(", ")
    );
    let held = match falls == 0 && rises {
        true if least < LEAST_TOKENS => None,
        held => Some(held),
    };
    let numbers = [
        ("thresholds", count_to_f64(length(agreements))),
        ("least_tokens", count_to_f64(least)),
        ("falls", count_to_f64(falls)),
        (
            "agreement_at_the_lowest",
            intervals.first().map_or(0.0, |first| first[0]),
        ),
        (
            "agreement_at_the_highest",
            intervals.last().map_or(0.0, |last| last[0]),
        ),
        ("detectable_fall", detectable),
    ];
    let effect = format!("a fall of {detectable:.3} between neighbours");
    let evidence = Evidence::new(least, "tokens of a threshold at least", effect);
    with_numbers(held, &numbers, evidence, &detail)
}

/// Of the tokens that an exit was sure of, at least as many are the whole model's as it said.
pub(super) fn sure_exits_agree(findings: &Findings<'_>) -> Judgement {
    let references = references(findings);
    let families = by_family(findings);
    let is_sure = |decision: &Decision| {
        decision.maker == Maker::Device
            && decision.confidence_ppm.is_some_and(|ppm| ppm >= SURE_PPM)
    };
    // Arms of one family keep much of the same: the one with the most of such tokens tells the most.
    let judged = families.into_iter().filter_map(|(family, arms)| {
        let exits = arms
            .iter()
            .filter(|_| matches!(family, Family::EarlyExit { .. }));
        let agreements = exits.map(|arm| arm.agreement(&references, is_sure));
        let most = agreements.max_by_key(|agreement| agreement.compared)?;
        Some((family.name(), sure(most)))
    });
    let judged: Vec<(String, Judgement)> = judged.collect();
    if judged.is_empty() {
        return unjudged(&[], "nothing exits early".to_owned());
    }
    super::super::all_of(judged.into_iter())
}

fn sure(agreement: Agreement) -> Judgement {
    let Some([share, low, high]) = agreement.interval() else {
        return unjudged(&[], "no exit was sure of any token".to_owned());
    };
    let asked = f64::from(SURE_PPM) / 1e6;
    let held = match () {
        () if low >= asked => Some(true),
        () if high < asked => Some(false),
        () => None,
    };
    let detail = format!(
        "{} tokens with a confidence of {asked} or more: {share:.3} are the whole model's ({low:.3} to \
         {high:.3}, 95 %)",
        agreement.compared
    );
    let numbers = [
        ("tokens", count_to_f64(agreement.compared)),
        ("agreement", share),
        ("agreement_low", low),
        ("agreement_high", high),
    ];
    let effect = format!("{:.3} less than that", share - low);
    let evidence = Evidence::new(agreement.compared, "tokens", effect);
    with_numbers(held, &numbers, evidence, &detail)
}

/// The slower the link, the more layers the device should have: at each threshold and round trip the best cut never
/// moves towards the edge as the rate falls, and has moved at the end. Whether it is between both on the way is told.
pub(super) fn best_cut_slides(findings: &Findings<'_>) -> Judgement {
    let mut by_threshold: BTreeMap<Threshold, Vec<(u32, OwnArm<'_>)>> = BTreeMap::new();
    for arm in arms(findings) {
        if let Family::EarlyExit { cut } = arm.keeping.family
            && arm.keeping.threshold != Threshold::REMOTE
        {
            let same = by_threshold.entry(arm.keeping.threshold).or_default();
            same.push((cut, arm));
        }
    }
    let judged = by_threshold
        .into_iter()
        .filter(|(_, arms)| arms.len() > 2)
        .flat_map(|(threshold, arms)| {
            let rows = findings.rows.iter();
            let of_row = move |round_trip_ns: u64| {
                let name = format!(
                    "{}, round trip {} ms",
                    threshold.name(),
                    ns_to_ms(round_trip_ns)
                );
                (name, slides(findings, round_trip_ns, &arms))
            };
            rows.map(|row| of_row(row.round_trip_ns))
                .collect::<Vec<_>>()
        });
    let judged: Vec<(String, Judgement)> = judged.collect();
    if judged.is_empty() {
        return unjudged(&[], "three cuts with one threshold are needed".to_owned());
    }
    super::super::all_of(judged.into_iter())
}

fn slides(findings: &Findings<'_>, round_trip_ns: u64, arms: &[(u32, OwnArm<'_>)]) -> Judgement {
    let ends = [
        arms.iter().map(|(cut, _)| *cut).min(),
        arms.iter().map(|(cut, _)| *cut).max(),
    ];
    let (mut told, mut bests) = (Vec::new(), Vec::new());
    let mut trials = 0;
    for rate_bps in rates_of(findings, round_trip_ns).into_iter().rev() {
        let at_rate = |trial: &&TrialRecord| {
            trial.round_trip_ns == round_trip_ns && trial.rate_bps == rate_bps
        };
        let times = arms.iter().filter_map(|(cut, arm)| {
            let of_rate: Vec<&TrialRecord> = arm.trials.iter().copied().filter(at_rate).collect();
            trials += length(&of_rate);
            Some((*cut, OwnArm::token_ns(&of_rate)?))
        });
        let times: Vec<(u32, f64)> = times.collect();
        let Some(best_ns) = times.iter().map(|(_, time)| *time).min_by(f64::total_cmp) else {
            continue;
        };
        // All that cannot be told from the best.
        let best: BTreeSet<u32> = times
            .iter()
            .filter(|(_, time)| *time <= best_ns * (1.0 + RESOLUTION))
            .map(|(cut, _)| *cut)
            .collect();
        let named: Vec<String> = best.iter().map(u32::to_string).collect();
        let rate = count_to_f64(rate_bps) / 1e6;
        told.push(format!(
            "{rate} Mbit/s: {} ({:.2} ms)",
            named.join(" or "),
            best_ns / 1e6
        ));
        bests.push(best);
    }
    // The smallest best cut at each rate that is not below the one before.
    let mut last = 0;
    let mut path = Vec::new();
    for best in &bests {
        if let Some(cut) = best.iter().find(|cut| **cut >= last) {
            last = *cut;
            path.push(*cut);
        }
    }
    let never_back = path.len() == bests.len();
    let moved = path.first() < path.last();
    let between = path.iter().filter(|cut| !ends.contains(&Some(**cut)));
    let between = u64::try_from(between.count()).unwrap_or(u64::MAX);
    let detail = format!(
        "best cuts from the fastest rate to the slowest: {}; in between at {between} of {} rates",
        told.join(", "),
        bests.len()
    );
    let numbers = [
        ("rates", length(&bests)),
        ("trials", trials),
        ("rates_without_a_step_back", length(&path)),
        ("rates_with_a_cut_in_between", between),
        (
            "best_cut_at_the_fastest_rate",
            path.first().copied().map_or(0, u64::from),
        ),
        (
            "best_cut_at_the_slowest_rate",
            path.last().copied().map_or(0, u64::from),
        ),
    ];
    let held = (bests.len() > 2).then_some(never_back && moved);
    let effect = format!("a cut that is faster by {:.0} %", RESOLUTION * 100.0);
    let evidence = Evidence::new(trials, "trials", effect);
    judgement(held, &numbers, evidence, &detail)
}

/// In an outage the device has its whole answer before the links are back, and the remote placement has
/// not a token.
pub(super) fn device_answers_in_outage(findings: &Findings<'_>) -> Judgement {
    let (mut own, mut whole, mut remote, mut stalled, mut fallback) =
        (0_u64, 0_u64, 0_u64, 0_u64, 0_u64);
    for arm in arms(findings) {
        for trial in &arm.out {
            let tokens = tokens_in_outage(trial);
            if arm.keeping.threshold == Threshold::REMOTE {
                remote += 1;
                stalled += u64::from(tokens == 0);
            } else {
                own += 1;
                whole += u64::from(tokens == length(&trial.tokens) && tokens > 0);
                let made = trial.decisions.iter();
                let left = made.filter(|made| matches!(made.maker, Maker::Fallback | Maker::Alone));
                fallback += u64::try_from(left.count()).unwrap_or(u64::MAX);
            }
        }
    }
    let numbers = [
        ("trials_of_the_device", own),
        ("whole_answers_in_the_outage", whole),
        ("trials_of_the_remote_placement", remote),
        ("stalled_in_the_outage", stalled),
        ("fallback_tokens", fallback),
    ];
    let detail = format!(
        "{whole} of {own} trials of the device had their whole answer in the outage, {fallback} of its \
         tokens for want of the edge's; {stalled} of {remote} trials of the remote placement had no token"
    );
    let held = (own > 0 && remote > 0).then_some(whole == own && stalled == remote);
    let evidence = Evidence::equality(own + remote, "trials", "another end");
    judgement(held, &numbers, evidence, &detail)
}

/// What the device sends is what one escalated request takes, as often as one was escalated.
pub(super) fn uplink_follows_escalation(findings: &Findings<'_>) -> Judgement {
    let (mut counted, mut escalated, mut trials) = (0_u64, 0_u64, 0_u64);
    let all = arms(findings);
    let cascades = || {
        let arms = all.iter();
        arms.filter(|arm| matches!(arm.keeping.family, Family::Cascade { .. }))
    };
    let up = |trial: &TrialRecord| trial.hops.iter().map(|hop| hop.up).sum::<u64>();
    let remote = cascades().filter(|arm| arm.keeping.threshold == Threshold::REMOTE);
    let each: BTreeSet<u64> = remote
        .flat_map(|arm| arm.trials.iter().map(|trial| up(trial)))
        .collect();
    let Some(each) = each.first().filter(|_| each.len() == 1) else {
        let detail = "the remote placement is to put the same on the link every time";
        let sizes = u64::try_from(each.len()).unwrap_or(u64::MAX);
        let held = (sizes > 0).then_some(false);
        let evidence = Evidence::new(sizes, "sizes", "one byte");
        return judgement(held, &[("different_sizes", sizes)], evidence, detail);
    };
    for arm in cascades() {
        for trial in arm.trials.iter().chain(&arm.out) {
            trials += 1;
            counted += up(trial);
            escalated += u64::from(escaped(trial));
        }
    }
    let formula = escalated * each;
    let numbers = [
        ("trials", trials),
        ("escalated", escalated),
        ("bytes_each", *each),
        ("counted_bytes", counted),
        ("formula_bytes", formula),
    ];
    let detail = format!(
        "{escalated} of {trials} requests were escalated, {each} bytes each: {counted} bytes counted, \
         {formula} by the share"
    );
    let evidence = Evidence::equality(trials, "requests", "one byte");
    judgement(Some(counted == formula), &numbers, evidence, &detail)
}

#[cfg(test)]
mod tests;
