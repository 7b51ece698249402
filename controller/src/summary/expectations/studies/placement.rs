//! Claims about placements: what the link does to answers of each node, what fewer bits and a policy do to
//! how often they are in time.

mod bits;

use std::collections::BTreeMap;

use hexloop_workloads::study::placement::{Weights, level_name, levels_ns, placements};
use hexloop_workloads::study::{Arm, RowRecord, TrialRecord};

use super::{Evidence, Judgement, TOLERANCE, judgement, told, trials_at, unjudged, with_numbers};
use crate::format::{count_to_f64, length, ns_to_ms};
use crate::summary::expectations::evidence::half_width;
use crate::summary::studies::Findings;
use crate::summary::studies::law;
use crate::summary::studies::placement::{answer_ns, first_token_ns, hits, trials_of};
pub(super) use bits::fewer_bits_more;
use hexloop_statistics::{mean_interval, ratio_of_sums};

/// Fewest pairs of trials that a claim is judged by: one slow trial among fewer moves a mean by more than is allowed.
const LEAST_PAIRS: usize = 12;

/// How far the time that a longer way adds may be from the round trip that it adds.
const GAP_TOLERANCE: f64 = 0.10;

/// How many more requests in a hundred may miss a service level and still count as no fewer hits.
const HIT_MARGIN: f64 = 0.10;

/// A mean and the ends of its 95 % interval, of at least [`LEAST_PAIRS`] values.
fn mean_of(values: &[f64]) -> Option<[f64; 3]> {
    mean_interval(values).filter(|_| values.len() >= LEAST_PAIRS)
}

/// Whether a ratio is 1 within a tolerance; `None` if its interval leaves that open.
fn is_one([_, low, high]: [f64; 3], tolerance: f64) -> Option<bool> {
    match () {
        () if low >= 1.0 - tolerance && high <= 1.0 + tolerance => Some(true),
        () if low > 1.0 + tolerance || high < 1.0 - tolerance => Some(false),
        () => None,
    }
}

/// Trials of an arm by round trip, rate and prompt.
type Sorted<'a> = BTreeMap<(u64, u64, u32), &'a TrialRecord>;

fn sorted<'a>(findings: &Findings<'a>, arm: &Arm) -> Sorted<'a> {
    let trials = trials_of(findings, arm).into_iter();
    let place = |trial: &TrialRecord| (trial.round_trip_ns, trial.rate_bps, trial.prompt);
    trials.map(|trial| (place(trial), trial)).collect()
}

/// The fixed placements at some places of the path.
fn arms_at<'a>(findings: &Findings<'a>, is: impl Fn(u32) -> bool) -> Vec<&'a Arm> {
    let arms = findings.plan.study.arms.iter();
    arms.filter(|arm| matches!(arm, Arm::Placed(placement) if is(placement.place)))
        .collect()
}

/// For each prompt, what a trial at the largest value of one link setting took over one at the smallest, with
/// the other setting the same.
fn over_ends<'a>(
    trials: &Sorted<'a>,
    varied: fn(&TrialRecord) -> u64,
    kept: fn(&TrialRecord) -> u64,
    took: impl Fn(&TrialRecord) -> Option<f64>,
) -> Vec<f64> {
    let mut groups: BTreeMap<(u64, u32), Vec<&TrialRecord>> = BTreeMap::new();
    for trial in trials.values() {
        let group = groups.entry((kept(trial), trial.prompt)).or_default();
        group.push(trial);
    }
    let ratio = |group: Vec<&'a TrialRecord>| {
        let least = group.iter().min_by_key(|trial| varied(trial))?;
        let most = group.iter().max_by_key(|trial| varied(trial))?;
        if varied(least) == varied(most) {
            return None;
        }
        Some(took(most)? / took(least)?)
    };
    groups.into_values().filter_map(ratio).collect()
}

fn round_trip(trial: &TrialRecord) -> u64 {
    trial.round_trip_ns
}

fn rate(trial: &TrialRecord) -> u64 {
    trial.rate_bps
}

/// Ratios that are to be 1.
fn flat(ratios: &[f64], what: &str) -> Judgement {
    let Some(ratio) = mean_of(ratios) else {
        let detail = format!("{what}: {} pairs of trials are too few", ratios.len());
        return unjudged(&[("pairs", length(ratios))], detail);
    };
    let detail = format!(
        "{what}: {} (95 %; within {:.0} % counts as the same)",
        told(ratio),
        TOLERANCE * 100.0
    );
    let numbers = [
        ("ratio", ratio[0]),
        ("ratio_low", ratio[1]),
        ("ratio_high", ratio[2]),
        ("pairs", count_to_f64(length(ratios))),
    ];
    let evidence = Evidence::ratio(length(ratios), "pairs of trials", ratio);
    with_numbers(is_one(ratio, TOLERANCE), &numbers, evidence, &detail)
}

/// Answers of the node that asks take as long at the largest round trip as at the smallest, and at the
/// highest rate as at the lowest.
pub(super) fn device_flat(findings: &Findings<'_>) -> Judgement {
    let took = |trial: &TrialRecord| answer_ns(trial).map(count_to_f64);
    let (mut over_round_trips, mut over_rates) = (Vec::new(), Vec::new());
    for arm in arms_at(findings, |place| place == 0) {
        let trials = sorted(findings, arm);
        over_round_trips.extend(over_ends(&trials, round_trip, rate, took));
        over_rates.extend(over_ends(&trials, rate, round_trip, took));
    }
    let judged = [
        (
            "round_trip",
            flat(
                &over_round_trips,
                "at the longest round trip over the shortest",
            ),
        ),
        (
            "rate",
            flat(&over_rates, "at the highest rate over the lowest"),
        ),
    ];
    super::super::all_of(judged.into_iter())
}

/// The time between tokens from further nodes at the largest round trip is that at the smallest.
pub(super) fn token_time_flat(findings: &Findings<'_>) -> Judgement {
    let pace = |trial: &TrialRecord| law::median(trial.gaps_ns()).map(count_to_f64);
    let last = u32::try_from(findings.plan.hops.len()).unwrap_or(u32::MAX);
    let ratios = arms_at(findings, |place| place == last)
        .into_iter()
        .flat_map(|arm| over_ends(&sorted(findings, arm), round_trip, rate, pace));
    let ratios: Vec<f64> = ratios.collect();
    flat(
        &ratios,
        "time of a token at the longest round trip over the shortest",
    )
}

/// How long the first token took besides what its node computed for it: equally fast nodes do not take equally
/// long every time.
fn besides_computing_ns(trial: &TrialRecord) -> Option<f64> {
    let computed = count_to_f64(trial.placed?.first_busy_ns);
    Some(count_to_f64(first_token_ns(trial)?) - computed)
}

/// What the last node's first token comes later than that of the node before, computing apart, over what an empty
/// frame takes longer to it: a ratio of sums over all pairs, with an interval over the pairs.
pub(super) fn round_trip_is_added(findings: &Findings<'_>) -> Judgement {
    let last = u32::try_from(findings.plan.hops.len()).unwrap_or(u32::MAX);
    let Some(before) = last.checked_sub(1).filter(|before| *before > 0) else {
        let detail = "a path of three nodes is needed".to_owned();
        return unjudged(&[], detail);
    };
    // The round trip that each row adds, by what empty frames took.
    let added: BTreeMap<u64, f64> = findings
        .ways
        .iter()
        .filter_map(|way| {
            let [near, far] = [before, last].map(|place| {
                let place = usize::try_from(place).unwrap_or(usize::MAX);
                way.echo_ns.get(place).copied()
            });
            let added = count_to_f64(far?.saturating_sub(near?));
            Some((way.round_trip_ns, added))
        })
        .collect();
    // Round trip asked, and gap and added round trip, of each pair.
    let mut sorted_pairs = Vec::new();
    for placement in placements(&findings.plan.study.arms).filter(|arm| arm.place == last) {
        let mut nearer = placements(&findings.plan.study.arms);
        let nearer = nearer.find(|arm| arm.place == before && arm.weights == placement.weights);
        let Some(nearer) = nearer else { continue };
        let near = sorted(findings, &Arm::Placed(nearer.clone()));
        for (key, trial) in sorted(findings, &Arm::Placed(placement.clone())) {
            let gap = near
                .get(&key)
                .and_then(|near| Some(besides_computing_ns(trial)? - besides_computing_ns(near)?));
            if let (Some(gap), Some(added)) = (gap, added.get(&key.0)) {
                sorted_pairs.push((key.0, (gap, *added)));
            }
        }
    }
    let pairs: Vec<(f64, f64)> = sorted_pairs.iter().map(|(_, pair)| *pair).collect();
    let ratio = ratio_of_sums(&pairs).filter(|_| pairs.len() >= LEAST_PAIRS);
    let Some(ratio) = ratio else {
        let detail = format!("{} pairs of trials are too few", pairs.len());
        return unjudged(&[("pairs", length(&pairs))], detail);
    };
    let mut rows = Vec::new();
    for (round_trip_ns, added) in &added {
        let of_row = sorted_pairs
            .iter()
            .filter(|(asked, _)| asked == round_trip_ns);
        let gaps: Vec<f64> = of_row.map(|(_, (gap, _))| *gap).collect();
        let mean = gaps.iter().sum::<f64>() / count_to_f64(length(&gaps)).max(1.0);
        rows.push(format!(
            "{:.1} ms for {:.1} ms more at {} ms asked",
            mean / 1e6,
            added / 1e6,
            round_trip_ns / 1_000_000
        ));
    }
    let detail = format!(
        "computing apart, the first token comes later by the round trip that is added: {} (95 %; within {:.0} % \
         counts as that); {}",
        told(ratio),
        GAP_TOLERANCE * 100.0,
        rows.join(", ")
    );
    let numbers = [
        ("gap_over_round_trip", ratio[0]),
        ("gap_over_round_trip_low", ratio[1]),
        ("gap_over_round_trip_high", ratio[2]),
        ("pairs", count_to_f64(length(&pairs))),
    ];
    let evidence = Evidence::ratio(length(&pairs), "pairs of trials", ratio);
    with_numbers(is_one(ratio, GAP_TOLERANCE), &numbers, evidence, &detail)
}

/// In a round trip with rates on either side of it, the first token comes from the second node as early as from
/// the first at the rate that costs and round trip say.
pub(super) fn offload_flips(findings: &Findings<'_>, seed: u64) -> Judgement {
    let rows = findings
        .rows
        .iter()
        .filter(|row| super::brackets(findings, row));
    let judged: Vec<(String, Judgement)> = rows
        .map(|row| {
            let name = format!("round trip {} ms", ns_to_ms(row.round_trip_ns));
            (name, flip_of_row(findings, row, seed))
        })
        .collect();
    if judged.is_empty() {
        let detail = format!(
            "no round trip has {} rates on either side of the rate at which offloading flips",
            super::RATES_EACH_SIDE
        );
        let rows = length(&findings.rows);
        let evidence = Evidence::new(rows, "round trips", "one that has");
        return judgement(Some(false), &[("bracketing_rows", 0)], evidence, &detail);
    }
    super::super::all_of(judged.into_iter())
}

fn flip_of_row(findings: &Findings<'_>, row: &RowRecord, seed: u64) -> Judgement {
    let flip = law::flip(findings, row, seed);
    let (Some(flip), Some(critical)) = (flip, findings.critical_rate_bps(row)) else {
        let detail = "the first tokens of both nodes do not cross at any rate";
        let evidence = Evidence::new(
            trials_at(findings, row.round_trip_ns),
            "trials",
            "a crossing",
        );
        return judgement(Some(false), &[], evidence, detail);
    };
    let Some(over) = flip.over_critical else {
        return unjudged(&[], "there is no interval".to_owned());
    };
    let detail = format!(
        "the first token flips at {:.4} Mbit/s, {:.4} by the costs: {} (95 % of trials drawn again, {} rates)",
        flip.rate_bps / 1e6,
        count_to_f64(critical) / 1e6,
        told(over),
        row.rates_bps.len()
    );
    let numbers = [
        ("flip_over_critical", over[0]),
        ("flip_over_critical_low", over[1]),
        ("flip_over_critical_high", over[2]),
        ("rates", count_to_f64(length(&row.rates_bps))),
    ];
    let enough = super::fewest_of_row(findings, row) >= super::LEAST_TRIALS;
    let held = super::within(over).filter(|_| enough);
    let evidence = Evidence::ratio(trials_at(findings, row.round_trip_ns), "trials", over);
    with_numbers(held, &numbers, evidence, &detail)
}

/// Pairs of trials, of which either may be in time.
#[derive(Default)]
pub(super) struct Compared {
    pairs: u64,
    only_this: u64,
    only_other: u64,
    this: u64,
}

impl Compared {
    fn of(this: &Sorted<'_>, other: &Sorted<'_>, level_ns: u64) -> Compared {
        let mut compared = Compared::default();
        for (key, trial) in this {
            let Some(other) = other.get(key) else {
                continue;
            };
            compared.add(hits(trial, level_ns), hits(other, level_ns));
        }
        compared
    }

    /// Counts one more pair: whether this one was in time, and the other.
    pub(super) fn add(&mut self, this: bool, other: bool) {
        self.pairs += 1;
        self.this += u64::from(this);
        self.only_this += u64::from(this && !other);
        self.only_other += u64::from(other && !this);
    }

    /// The share of pairs in which this one was in time.
    fn share(&self) -> f64 {
        count_to_f64(self.this) / count_to_f64(self.pairs.max(1))
    }

    /// By how much this one's share of hits is larger, and the ends of its 95 % interval (Agresti and Min
    /// 2005: half a pair more of each kind, so that pairs that all agree leave something open).
    pub(super) fn difference(&self) -> [f64; 3] {
        let pairs = count_to_f64(self.pairs) + 2.0;
        let (this, other) = (
            count_to_f64(self.only_this) + 0.5,
            count_to_f64(self.only_other) + 0.5,
        );
        let difference = (this - other) / pairs;
        let variance = ((this + other) / pairs - difference * difference) / pairs;
        let half = 1.96 * variance.sqrt();
        [difference, difference - half, difference + half]
    }

    /// Whether it hits no less often by a difference and its interval, but for a margin.
    fn hits_no_less(&self, [_, low, high]: [f64; 3]) -> Option<bool> {
        match () {
            () if self.pairs == 0 => None,
            () if low >= -HIT_MARGIN => Some(true),
            () if high < -HIT_MARGIN => Some(false),
            () => None,
        }
    }

    fn judged(&self, detail: &str) -> Judgement {
        self.judged_by(self.difference(), detail)
    }

    /// The same by another interval of the difference.
    pub(super) fn judged_by(&self, interval: [f64; 3], detail: &str) -> Judgement {
        let [difference, low, high] = interval;
        let share = self.share();
        let detail = format!(
            "{detail}: {:.1} % of {} in time, {:+.1} points ({:+.1} to {:+.1}, 95 %; {:.0} fewer count as no \
             fewer)",
            share * 100.0,
            self.pairs,
            difference * 100.0,
            low * 100.0,
            high * 100.0,
            HIT_MARGIN * 100.0
        );
        let numbers = [
            ("pairs", count_to_f64(self.pairs)),
            ("hit_share", share),
            ("difference", difference),
            ("difference_low", low),
            ("difference_high", high),
        ];
        let effect = format!("a difference of {:.1} points", half_width(interval) * 100.0);
        let evidence = Evidence::new(self.pairs, "pairs of trials", effect);
        with_numbers(self.hits_no_less(interval), &numbers, evidence, &detail)
    }
}

/// On the node after the one that asks, weights of fewer bits hit each service level no less often than those
/// of the most.
pub(super) fn fewer_bits(findings: &Findings<'_>) -> Judgement {
    let arms = arms_at(findings, |place| place == 1);
    let weights = |arm: &Arm| match arm {
        Arm::Placed(placement) => Some(placement.weights),
        _ => None,
    };
    let Some(widest) = arms.iter().min_by_key(|arm| weights(arm)) else {
        return unjudged(&[], "nothing is answered there".to_owned());
    };
    let full = sorted(findings, widest);
    let mut judged = Vec::new();
    for arm in arms.iter().filter(|arm| weights(arm) != weights(widest)) {
        let fewer = sorted(findings, arm);
        for level_ns in levels_ns(&findings.plan.study.arms) {
            let compared = Compared::of(&fewer, &full, level_ns);
            let bits = weights(arm).map_or("", Weights::name);
            let name = format!("{bits} {}", level_name(level_ns));
            let detail = format!("against {}", widest.name());
            judged.push((name, compared.judged(&detail)));
        }
    }
    if judged.is_empty() {
        return unjudged(&[], "there is one kind of weights".to_owned());
    }
    super::super::all_of(judged.into_iter())
}

/// At each service level its policy hits no less often than the fixed placement that hits most often there.
pub(super) fn policy_hits(findings: &Findings<'_>) -> Judgement {
    let fixed = arms_at(findings, |_| true);
    let mut judged = Vec::new();
    for arm in &findings.plan.study.arms {
        let Arm::Policy(policy) = arm else { continue };
        let level_ns = policy.deadline_ns;
        let of_policy = sorted(findings, arm);
        let count = |arm: &&&Arm| {
            let trials = trials_of(findings, arm);
            let hitting = trials.iter().filter(|trial| hits(trial, level_ns));
            hitting.count()
        };
        // Of several that are as good the last is named; which one does not matter.
        let Some(best) = fixed.iter().max_by_key(count) else {
            continue;
        };
        let compared = Compared::of(&of_policy, &sorted(findings, best), level_ns);
        let detail = format!("against {}, the best there", best.name());
        judged.push((level_name(level_ns), compared.judged(&detail)));
    }
    if judged.is_empty() {
        return unjudged(&[], "no policy was tried".to_owned());
    }
    super::super::all_of(judged.into_iter())
}

#[cfg(test)]
mod tests;
