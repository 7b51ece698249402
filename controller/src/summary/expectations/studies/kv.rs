//! Claims about contexts whose keys and values another node has.

use std::collections::{BTreeMap, BTreeSet};

use hexloop_workloads::coding::kv::KvCoding;
use hexloop_workloads::study::TrialRecord;
use hexloop_workloads::study::kv::{Delivery, DeliveryCosts, Source};

use super::super::{Evidence, Judgement, judgement, unjudged};
use super::{LEAST_TRIALS, TOLERANCE, told, with_numbers};
use crate::format::{count_to_f64, length, ns_to_ms};
use crate::summary::ExpectationOutcome;
use crate::summary::studies::Findings;
use crate::summary::studies::kv::{DeliveryCell, loss};
use hexloop_statistics::{mean_interval, ratio_of_sums};

/// How much longer than the best fixed arm of each setting an adaptive one may take on average.
const ADAPTIVE_TOLERANCE: f64 = 0.10;

/// By how much the perplexity of the text that follows may rise.
const LOSS_TOLERANCE: f64 = 0.05;

/// What the best way is at some rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Regime {
    Recompute,
    Coded,
    Exact,
}

impl Regime {
    const fn of(delivery: Delivery) -> Option<Regime> {
        match delivery {
            Delivery::Recompute => Some(Regime::Recompute),
            Delivery::Ship(KvCoding::F32) => Some(Regime::Exact),
            Delivery::Ship(_) => Some(Regime::Coded),
            Delivery::Adaptive => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Regime::Recompute => "computed again",
            Regime::Coded => "coded",
            Regime::Exact => "exact",
        }
    }
}

/// The cells of one setting.
struct Setting<'a> {
    rate_bps: u64,
    cells: Vec<&'a DeliveryCell<'a>>,
}

/// The settings of each round trip and source, by rising rate. What is computed again comes from no source,
/// and is compared with all.
fn settings<'a>(cells: &'a [DeliveryCell<'a>]) -> BTreeMap<(u64, Source), Vec<Setting<'a>>> {
    let mut rows: BTreeMap<(u64, Source), BTreeMap<u64, Vec<&DeliveryCell<'_>>>> = BTreeMap::new();
    let sources: BTreeSet<Source> = cells.iter().map(|cell| cell.source).collect();
    for cell in cells {
        let of_all = cell.delivery == Delivery::Recompute;
        for source in &sources {
            if of_all || *source == cell.source {
                let row = rows.entry((cell.round_trip_ns, *source)).or_default();
                row.entry(cell.rate_bps).or_default().push(cell);
            }
        }
    }
    let settings = |rates: BTreeMap<u64, Vec<&'a DeliveryCell<'a>>>| {
        let setting = |(rate_bps, cells)| Setting { rate_bps, cells };
        rates.into_iter().map(setting).collect()
    };
    rows.into_iter()
        .map(|(row, rates)| (row, settings(rates)))
        .collect()
}

fn best<'a>(
    setting: &Setting<'a>,
    time: fn(&DeliveryCell<'_>) -> u64,
) -> Option<&'a DeliveryCell<'a>> {
    let fixed = setting.cells.iter().copied();
    let fixed = fixed.filter(|cell| cell.delivery != Delivery::Adaptive);
    fixed.min_by_key(|cell| time(cell))
}

fn fewest(cells: &[DeliveryCell<'_>]) -> usize {
    cells
        .iter()
        .map(|cell| cell.trials.len())
        .min()
        .unwrap_or(0)
}

fn no_costs() -> Judgement {
    unjudged(&[], "no costs were measured".to_owned())
}

/// The time of the first token over what it should be by costs, sizes and the rate, of each arm at each setting; `None`
/// where no costs were measured.
pub(super) fn over_expected(findings: &Findings<'_>) -> Option<Vec<f64>> {
    let costs = findings.delivery_costs()?;
    let cells = findings.delivery_cells();
    let ratios = cells.iter().filter_map(|cell| {
        let rows = &mut findings.rows.iter();
        let row = rows.find(|row| row.round_trip_ns == cell.round_trip_ns)?;
        let at = findings.circumstances(row, cell.source);
        let expected = costs.first_token_ns(cell.delivery, &at, cell.rate_bps)?;
        Some(count_to_f64(cell.first_token_ns) / count_to_f64(expected.max(1)))
    });
    Some(ratios.collect())
}

/// At each rate the way that costs and sizes name has the context there first, or hardly later than the first;
/// and each of the three regimes occurs. A way that is slower than that only by chance, as its prompts differ,
/// decides nothing.
pub(super) fn regimes_as_predicted(findings: &Findings<'_>) -> Judgement {
    let Some(costs) = findings.delivery_costs() else {
        return no_costs();
    };
    let cells = findings.delivery_cells();
    let rows = settings(&cells);
    let enough = fewest(&cells) >= LEAST_TRIALS;
    let judged = rows.iter().map(|((round_trip_ns, source), settings)| {
        let name = format!(
            "round trip {} ms, {}",
            ns_to_ms(*round_trip_ns),
            source.name()
        );
        let judged = regimes_of_row(findings, &costs, (*round_trip_ns, *source), settings);
        let judged = match enough {
            true => judged,
            false => Judgement {
                outcome: ExpectationOutcome::Undecided,
                detail: format!("too few trials: {}", judged.detail),
                ..judged
            },
        };
        (name, judged)
    });
    super::super::all_of(judged)
}

fn regimes_of_row(
    findings: &Findings<'_>,
    costs: &DeliveryCosts,
    (round_trip_ns, source): (u64, Source),
    settings: &[Setting<'_>],
) -> Judgement {
    let rows = &mut findings.rows.iter();
    let Some(row) = rows.find(|row| row.round_trip_ns == round_trip_ns) else {
        return unjudged(&[], "its round trip was not measured".to_owned());
    };
    let offered = findings.plan.study.deliveries();
    let at = findings.circumstances(row, source);
    let cells = settings.iter().flat_map(|setting| &setting.cells);
    let trials: u64 = cells.map(|cell| length(&cell.trials)).sum();
    let Some(critical) = costs.regimes_bps(&offered, &at) else {
        let detail = "costs and sizes leave no room for three regimes: what is coded costs too little, or \
                      what is computed again";
        let evidence = Evidence::new(trials, "trials", "room for three regimes");
        return judgement(Some(false), &[], evidence, detail);
    };
    let (mut near, mut far, mut worst) = (0_u64, 0_u64, 0.0_f64);
    let (mut found, mut told) = (BTreeSet::new(), Vec::new());
    for setting in settings {
        let named = costs.fastest(&offered, &at, setting.rate_bps);
        let of_named = setting
            .cells
            .iter()
            .find(|cell| Some(cell.delivery) == named);
        let (Some(best), Some(of_named)) = (best(setting, |cell| cell.context_ns), of_named) else {
            continue;
        };
        let over = count_to_f64(of_named.context_ns) / count_to_f64(best.context_ns.max(1));
        worst = worst.max(over - 1.0);
        near += u64::from(over <= 1.0 + TOLERANCE);
        far += u64::from(surely_over(of_named, best, 1.0 + TOLERANCE));
        found.extend(Regime::of(best.delivery));
        told.push(format!(
            "{:.3} Mbit/s {} ({:.0} ms), by costs {}",
            count_to_f64(setting.rate_bps) / 1e6,
            best.delivery.name(),
            ns_to_ms(best.context_ns),
            of_named.delivery.name()
        ));
    }
    let count = length(settings);
    let names: Vec<&str> = found.iter().map(|regime| regime.name()).collect();
    let detail = format!(
        "until the context is there, the best: {}; regimes {}, which should change at {:.3} and {:.3} Mbit/s; what costs name is within \
         {:.0} % of the best at {near} of {count} rates, at most {:.1} % slower, surely farther (95 % of the \
         prompts) at {far}",
        told.join(", "),
        names.join(", "),
        count_to_f64(critical[0]) / 1e6,
        count_to_f64(critical[1]) / 1e6,
        TOLERANCE * 100.0,
        worst * 100.0
    );
    let numbers = [
        ("rates", count_to_f64(count)),
        ("rates_with_the_named_one_best", count_to_f64(near)),
        ("rates_with_the_named_one_surely_slower", count_to_f64(far)),
        ("regimes", count_to_f64(length(&names))),
        ("largest_excess", worst),
        ("shipping_from_bps", count_to_f64(critical[0])),
        ("exact_from_bps", count_to_f64(critical[1])),
    ];
    let held = match () {
        () if count == 0 => None,
        () if near == count => Some(found.len() == 3),
        () if far > 0 => Some(false),
        () => None,
    };
    let effect = format!(
        "a way named by the costs that is surely more than {:.0} % slower than the best",
        TOLERANCE * 100.0
    );
    let evidence = Evidence::new(trials, "trials", effect);
    with_numbers(held, &numbers, evidence, &detail)
}

/// Whether all of the interval of the ratio of two ways' times, paired by prompt, is above this.
fn surely_over(one: &DeliveryCell<'_>, other: &DeliveryCell<'_>, ratio: f64) -> bool {
    let time = |trial: &TrialRecord| {
        let context_ns = trial.transfer?.context_ns;
        Some(count_to_f64(context_ns.saturating_sub(trial.started_ns)))
    };
    let pairs = one.trials.iter().filter_map(|trial| {
        let prompt = &mut other.trials.iter();
        let beside = prompt.find(|beside| beside.prompt == trial.prompt)?;
        Some((time(trial)?, time(beside)?))
    });
    let pairs: Vec<(f64, f64)> = pairs.collect();
    ratio_of_sums(&pairs).is_some_and(|[_, low, _]| low > ratio)
}

/// An adaptive arm takes on average over all settings hardly longer than the best fixed arm of each.
pub(super) fn adaptive_near_best(findings: &Findings<'_>) -> Judgement {
    let cells = findings.delivery_cells();
    let rows = settings(&cells);
    let mut ratios = Vec::new();
    let mut of_fixed: BTreeMap<Delivery, Vec<f64>> = BTreeMap::new();
    for setting in rows.values().flatten() {
        let Some(best) = best(setting, |cell| cell.first_token_ns) else {
            continue;
        };
        for cell in &setting.cells {
            let over = count_to_f64(cell.first_token_ns) / count_to_f64(best.first_token_ns.max(1));
            match cell.delivery {
                Delivery::Adaptive => ratios.push(over),
                fixed => of_fixed.entry(fixed).or_default().push(over),
            }
        }
    }
    let Some(ratio) = mean_interval(&ratios) else {
        return unjudged(&[], "two settings of an adaptive arm are needed".to_owned());
    };
    let mean = |values: &Vec<f64>| values.iter().sum::<f64>() / count_to_f64(length(values).max(1));
    let means = of_fixed.iter().map(|(fixed, values)| (fixed, mean(values)));
    let fixed = means.min_by(|one, other| one.1.total_cmp(&other.1));
    let worst = ratios.iter().copied().fold(0.0, f64::max);
    let most = 1.0 + ADAPTIVE_TOLERANCE;
    let held = match () {
        () if ratio[2] <= most => Some(true),
        () if ratio[1] > most => Some(false),
        () => None,
    };
    let (name, of_fixed) = fixed.map_or(("none", 0.0), |(fixed, mean)| (fixed.name(), mean));
    let detail = format!(
        "{} of what the best fixed arm of each setting takes (95 %), {worst:.3} at the worst; the best \
         arm that stays fixed over all settings is {name}, {:.2} on average",
        told(ratio),
        of_fixed
    );
    let numbers = [
        ("adaptive_over_best", ratio[0]),
        ("adaptive_over_best_low", ratio[1]),
        ("adaptive_over_best_high", ratio[2]),
        ("adaptive_over_best_at_the_worst", worst),
        ("settings", count_to_f64(length(&ratios))),
        ("best_fixed_over_best", of_fixed),
    ];
    let evidence = Evidence::ratio(length(&ratios), "settings", ratio);
    with_numbers(held, &numbers, evidence, &detail)
}

/// The fewer bits, the farther what follows is from what exact keys and values lead to, and the text that
/// really follows is hardly more surprising.
pub(super) fn loss_grows(findings: &Findings<'_>) -> Judgement {
    let losses = KvCoding::ALL
        .into_iter()
        .filter_map(|coding| Some((coding, loss(findings, coding)?)));
    let losses: Vec<_> = losses.collect();
    let falls: Vec<_> = losses
        .windows(2)
        .filter(|pair| match pair {
            [(_, more), (_, fewer)] => fewer.divergence < more.divergence,
            _ => false,
        })
        .collect();
    let falls = length(&falls);
    let exact_loses = losses
        .iter()
        .any(|(coding, lost)| *coding == KvCoding::F32 && lost.divergence > 0.0);
    let ratios = losses.iter().map(|(_, lost)| lost.over_exact);
    let Some(ratios) = ratios.collect::<Option<Vec<[f64; 3]>>>() else {
        let detail = "two held-out prompts, and exact keys and values beside each, are needed";
        return unjudged(&[], detail.to_owned());
    };
    if losses.len() < 2 {
        return unjudged(&[], "two codings are needed".to_owned());
    }
    let most = 1.0 + LOSS_TOLERANCE;
    let bounded = match () {
        () if ratios.iter().all(|[_, _, high]| *high <= most) => Some(true),
        () if ratios.iter().any(|[_, low, _]| *low > most) => Some(false),
        () => None,
    };
    let held = match falls == 0 && !exact_loses {
        true => bounded,
        false => Some(false),
    };
    let prompts = losses
        .iter()
        .map(|(_, lost)| lost.prompts)
        .min()
        .unwrap_or(0);
    let told: Vec<String> = losses
        .iter()
        .zip(&ratios)
        .map(|((coding, lost), ratio)| {
            format!(
                "{coding}: divergence {:.2e} nats, perplexity {} of {:.3}",
                lost.divergence,
                told(*ratio),
                lost.perplexity / ratio[0]
            )
        })
        .collect();
    let detectable = ratios.iter().map(|[_, low, high]| (high - low) / 2.0);
    let detectable = detectable.fold(0.0, f64::max);
    let detail = format!(
        "{} (95 %, {} tokens)",
        told.join("; "),
        losses.first().map_or(0, |(_, lost)| lost.tokens)
    );
    let largest = ratios.iter().map(|[ratio, ..]| *ratio).fold(0.0, f64::max);
    let numbers = [
        ("codings", count_to_f64(length(&losses))),
        ("prompts", count_to_f64(prompts)),
        ("falls", count_to_f64(falls)),
        ("largest_perplexity_over_exact", largest),
        (
            "largest_divergence",
            losses
                .iter()
                .map(|(_, lost)| lost.divergence)
                .fold(0.0, f64::max),
        ),
        ("detectable", detectable),
    ];
    let effect = format!(
        "a rise of the perplexity of {:.2} % or any fall of the divergence",
        detectable * 100.0
    );
    let evidence = Evidence::new(prompts, "prompts", effect);
    with_numbers(held, &numbers, evidence, &detail)
}

#[cfg(test)]
mod tests;
