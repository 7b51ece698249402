//! The claim about the control: the best cut of a network whose layers get narrower slides.

use hexloop_workloads::study::{Arm, TrialRecord};

use super::{Evidence, Judgement, RESOLUTION, trials_at, unjudged, with_numbers};
use crate::format::{count_to_f64, length, ns_to_ms};
use crate::summary::studies::placement::answer_ns;
use crate::summary::studies::{Findings, law, rates_of};

/// Fewest rates that a slide is told from.
const LEAST_RATES: usize = 3;

/// In each round trip the cut that the law names is as good as the best at every rate, never moves towards the
/// edge as the rate falls, has moved at the end and is between both ends on the way.
pub(super) fn cut_slides(findings: &Findings<'_>) -> Judgement {
    let rows = findings.rows.iter().map(|row| {
        let name = format!("round trip {} ms", ns_to_ms(row.round_trip_ns));
        (name, slides(findings, (row.round_trip_ns, row.echo_ns)))
    });
    let rows: Vec<(String, Judgement)> = rows.collect();
    if rows.is_empty() {
        return unjudged(&[], "nothing was tried".to_owned());
    }
    super::super::all_of(rows.into_iter())
}

fn slides(findings: &Findings<'_>, (round_trip_ns, echo_ns): (u64, u64)) -> Judgement {
    let arms = findings.plan.study.arms.iter();
    let networks = arms.filter_map(|arm| match arm {
        Arm::Convolutional(network) => Some((arm, *network)),
        _ => None,
    });
    let networks: Vec<_> = networks.collect();
    let (mut named, mut told, mut agreeing) = (Vec::new(), Vec::new(), 0_u64);
    for rate_bps in rates_of(findings, round_trip_ns).into_iter().rev() {
        let at = (echo_ns, rate_bps);
        let by_law = networks
            .iter()
            .min_by_key(|(_, network)| network.image_ns(at));
        let took = |arm: &Arm| {
            let at_rate = |trial: &&&TrialRecord| {
                trial.arm == *arm
                    && trial.round_trip_ns == round_trip_ns
                    && trial.rate_bps == rate_bps
            };
            let trials = findings.trials.iter().filter(at_rate);
            law::median(trials.filter_map(|trial| answer_ns(trial))).map(count_to_f64)
        };
        let best = networks
            .iter()
            .filter_map(|(arm, network)| Some((network.cut, took(arm)?)))
            .min_by(|one, other| one.1.total_cmp(&other.1));
        let (Some((arm, network)), Some(best)) = (by_law, best) else {
            continue;
        };
        let Some(of_named) = took(arm) else { continue };
        agreeing += u64::from(of_named <= best.1 * (1.0 + RESOLUTION));
        told.push(format!(
            "{} Mbit/s: {} by the law ({:.1} ms), {} by the trials ({:.1} ms)",
            count_to_f64(rate_bps) / 1e6,
            network.cut,
            of_named / 1e6,
            best.0,
            best.1 / 1e6
        ));
        named.push(network.cut);
    }
    let ends = networks.first().zip(networks.last());
    let between = named
        .iter()
        .any(|cut| ends.is_some_and(|((_, first), (_, last))| first.cut < *cut && *cut < last.cut));
    let slides = named.is_sorted() && named.first() < named.last() && between;
    let rates = length(&named);
    let detail = format!(
        "best cuts from the fastest rate to the slowest: {}; at {agreeing} of {rates} rates the law's is the best or \
         within {:.0} % of it",
        told.join(", "),
        RESOLUTION * 100.0
    );
    let numbers = [
        ("rates", count_to_f64(rates)),
        ("rates_as_the_law_says", count_to_f64(agreeing)),
        (
            "cut_at_the_fastest_rate",
            named.first().copied().map_or(0.0, f64::from),
        ),
        (
            "cut_at_the_slowest_rate",
            named.last().copied().map_or(0.0, f64::from),
        ),
    ];
    let held = (named.len() >= LEAST_RATES).then_some(slides && agreeing == rates);
    let effect = format!("another cut that is faster by {:.0} %", RESOLUTION * 100.0);
    let trials = trials_at(findings, round_trip_ns);
    let evidence = Evidence::new(trials, "trials", effect);
    with_numbers(held, &numbers, evidence, &detail)
}

#[cfg(test)]
mod tests;
