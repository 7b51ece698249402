//! The claim that fewer bits raise how often answers are in time, at deadlines at which that has to show.

use hexloop_workloads::study::placement::Weights;
use hexloop_workloads::study::{Arm, TrialRecord};

use super::super::{Evidence, Judgement, judgement, unjudged, with_numbers};
use super::{Compared, HIT_MARGIN, arms_at, sorted};
use crate::format::count_to_f64;
use crate::summary::studies::Findings;
use crate::summary::studies::placement::hits;

/// How many percent longer than fewer bits the widest weights should take at a setting, so that a deadline between
/// both tells them apart. Where the link says how fast tokens come, they take as long.
const LEAST_GAIN_PERCENT: u64 = 20;

/// The deadline in the middle between what costs say of both; `None` where they say that fewer bits gain little.
fn deadline_ns(fewer: &TrialRecord, widest: &TrialRecord) -> Option<u64> {
    let (fewer, widest) = (fewer.placed?.predicted_ns, widest.placed?.predicted_ns);
    let gains = widest.saturating_mul(100) >= fewer.saturating_mul(100 + LEAST_GAIN_PERCENT);
    gains.then_some(fewer / 2 + widest / 2)
}

/// On the node after the one that asks, weights of fewer bits are in time more often than the widest, at the deadline
/// of each setting that costs, measured with prompts that no trial asks, put in the middle between both.
pub(in crate::summary::expectations::studies) fn fewer_bits_more(
    findings: &Findings<'_>,
) -> Judgement {
    let arms = arms_at(findings, |place| place == 1);
    let by_weights = arms.into_iter().filter_map(|arm| match arm {
        Arm::Placed(placement) => Some((placement.weights, arm)),
        _ => None,
    });
    let mut by_weights: Vec<(Weights, &Arm)> = by_weights.collect();
    by_weights.sort_by_key(|(weights, _)| *weights);
    let Some(((_, widest), fewer)) = by_weights
        .split_first()
        .filter(|(_, fewer)| !fewer.is_empty())
    else {
        return unjudged(&[], "there is one kind of weights".to_owned());
    };
    let of_widest = sorted(findings, widest);
    super::super::super::all_of(fewer.iter().map(|(weights, arm)| {
        let mut compared = Compared::default();
        let mut met = 0;
        for (key, trial) in &sorted(findings, arm) {
            let Some(other) = of_widest.get(key) else {
                continue;
            };
            met += 1;
            if let Some(level_ns) = deadline_ns(trial, other) {
                compared.add(hits(trial, level_ns), hits(other, level_ns));
            }
        }
        (weights.name(), judged(&compared, met, widest))
    }))
}

/// What those pairs of trials show that have a deadline between them, of so many that met at a setting.
fn judged(compared: &Compared, met: u64, widest: &Arm) -> Judgement {
    if compared.pairs == 0 {
        let detail = format!(
            "by the costs answers of {} take at no setting {LEAST_GAIN_PERCENT} % longer",
            widest.name()
        );
        if met == 0 {
            return unjudged(&[], "no trials of both have ended".to_owned());
        }
        let effect = format!("answers that take {LEAST_GAIN_PERCENT} % longer");
        let evidence = Evidence::new(met, "pairs of trials", effect);
        return judgement(Some(false), &[("pairs", 0)], evidence, &detail);
    }
    let [difference, low, high] = compared.difference();
    let held = match () {
        () if low > HIT_MARGIN => Some(true),
        () if high <= HIT_MARGIN => Some(false),
        () => None,
    };
    let share = compared.share();
    let detail = format!(
        "against {}, at deadlines in the middle between what costs say of both: {:.1} % of {} in time, {:+.1} points \
         ({:+.1} to {:+.1}, 95 %; more than {:.0} are claimed)",
        widest.name(),
        share * 100.0,
        compared.pairs,
        difference * 100.0,
        low * 100.0,
        high * 100.0,
        HIT_MARGIN * 100.0
    );
    let numbers = [
        ("pairs", count_to_f64(compared.pairs)),
        ("hit_share", share),
        ("difference", difference),
        ("difference_low", low),
        ("difference_high", high),
    ];
    let effect = format!("a difference of {:.1} points", (high - low) * 50.0);
    let evidence = Evidence::new(compared.pairs, "pairs of trials", effect);
    with_numbers(held, &numbers, evidence, &detail)
}
