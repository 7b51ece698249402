//! Claims about how traffic follows the traces of links, and the shares of cells.

use std::collections::BTreeMap;

use hexloop_topologies::plan::Plan;

use super::{Evidence, Judgement, judgement, unjudged};
use crate::format::{count_to_f64, ns_to_ms};
use crate::results::Results;
use crate::summary::{CellSummary, TrafficSummary};

/// Fewest filled windows and probes that a claim about traffic is judged by.
const LEAST_TRAFFIC_VALUES: u64 = 10;

/// How far what was delivered may be from what was asked, as a share of it.
const TRAFFIC_TOLERANCE: f64 = 0.05;

/// Least correlation of what was delivered with its trace.
const TRAFFIC_CORRELATION: f64 = 0.95;

/// Whether two things hold: what refutes one of them refutes both, whatever the other leaves open.
const fn both(one: Option<bool>, other: Option<bool>) -> Option<bool> {
    match (one, other) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

/// The claims about traffic phases: a bulk phase has directions, a ping phase round trips.
pub(super) fn traffic_claim(plan: &Plan, summary: &TrafficSummary) -> Judgement {
    let mut numbers = BTreeMap::new();
    let (mut held, mut details) = (Some(true), Vec::new());
    // Of the direction with the fewest windows, or of the round trips.
    let mut evidence = None;
    for one in &summary.following {
        let direction = &one.direction;
        let mut number = |name: &str, value: f64| {
            numbers.insert(format!("{name}_{direction}"), value);
        };
        number("backlogged_windows", count_to_f64(one.backlogged_windows));
        number("late_steps", count_to_f64(one.late_steps));
        let Some(share) = one.delivered_over_trace else {
            details.push(format!("nothing was measured {direction}"));
            held = both(held, None);
            continue;
        };
        number("delivered_over_trace", share);
        let mut detail = format!(
            "{direction}: {share:.4} of the trace in {} of {} windows, {} of {} steps late",
            one.backlogged_windows, one.windows, one.late_steps, one.steps
        );
        if let Some(correlation) = one.correlation {
            number("correlation", correlation);
            detail = format!("{detail}, correlation {correlation:.4}");
        }
        details.push(detail);
        let follows = (share - 1.0).abs() <= TRAFFIC_TOLERANCE
            && one
                .correlation
                .is_none_or(|value| value > TRAFFIC_CORRELATION)
            && one.late_steps == 0;
        let is_told = one.backlogged_windows >= LEAST_TRAFFIC_VALUES;
        held = both(held, is_told.then_some(follows));
        let effect = format!(
            "{:.0} % more or less than the trace's, a correlation of {TRAFFIC_CORRELATION} or less or one late step",
            TRAFFIC_TOLERANCE * 100.0
        );
        let of_one = Evidence::new(one.backlogged_windows, "windows in a direction", effect);
        let least = evidence.take().filter(|least: &Evidence| {
            // The direction that tells least.
            least.sample_size <= of_one.sample_size
        });
        evidence = Some(least.unwrap_or(of_one));
    }
    if let Some(trips) = &summary.round_trips {
        let come_back = trips.sent - trips.lost;
        let medians = (trips.p50_ms, trips.asked_p50_ms, trips.error_p50_ms);
        let (Some(median), Some(asked), Some(error)) = medians else {
            return unjudged(&[], "no packet came back".to_owned());
        };
        let share = count_to_f64(plan.verdict.delay_error_ppm) / 1e6;
        let bound = ns_to_ms(plan.verdict.delay_error_ns).max(asked * share);
        let values = [
            ("p50_ms", median),
            ("asked_p50_ms", asked),
            ("error_p50_ms", error),
        ];
        numbers.extend(values.map(|(name, value)| (name.to_owned(), value)));
        let sent = trips.sent;
        details.push(format!(
            "median {median:.3} ms of {asked:.3} asked, median error {error:.3} of {bound:.3} ms \
             allowed, {come_back} of {sent} packets came back"
        ));
        held = (come_back >= LEAST_TRAFFIC_VALUES).then_some(error <= bound);
        let effect = format!("a median error of more than {bound:.3} ms");
        evidence = Some(Evidence::new(come_back, "packets", effect));
    }
    let details = details.join("; ");
    let judged = match evidence {
        Some(evidence) => judgement(held, &[], evidence, &details),
        None => unjudged(&[], details),
    };
    Judgement { numbers, ..judged }
}

/// The claim about what links of a cell got.
pub(super) fn cell_claim(summary: &CellSummary, results: &Results) -> Judgement {
    let users = &summary.users;
    if users
        .iter()
        .any(|user| results.was_changed(&summary.phase, &user.link))
    {
        let detail = "a link of the cell was changed while it played: its trace tells no share";
        return unjudged(&[], detail.to_owned());
    }
    let mut numbers = BTreeMap::from([(
        "backlogged_windows".to_owned(),
        count_to_f64(summary.backlogged_windows),
    )]);
    let (mut held, mut details) = (Some(true), Vec::new());
    for user in users {
        let link = &user.link;
        let (Some(got), Some(asked), Some(ratio)) = (
            user.delivered_share,
            user.asked_share,
            user.delivered_over_asked,
        ) else {
            held = both(held, None);
            details.push(format!("{link}: nothing was measured"));
            continue;
        };
        numbers.insert(format!("delivered_share_{link}"), got);
        numbers.insert(format!("asked_share_{link}"), asked);
        numbers.insert(format!("delivered_over_asked_{link}"), ratio);
        details.push(format!(
            "{link} got {got:.4} of the bytes, {asked:.4} asked"
        ));
        held = both(held, Some((ratio - 1.0).abs() <= TRAFFIC_TOLERANCE));
    }
    if summary.backlogged_windows < LEAST_TRAFFIC_VALUES {
        held = None;
    }
    let (cell, policy) = (&summary.cell, &summary.policy);
    let (backlogged, windows) = (summary.backlogged_windows, summary.windows);
    let detail = format!(
        "cell {cell} ({policy}): {}, in {backlogged} of {windows} windows",
        details.join(", ")
    );
    let effect = format!(
        "{:.0} % more or less on a link than asked",
        TRAFFIC_TOLERANCE * 100.0
    );
    let evidence = Evidence::new(backlogged, "windows", effect);
    Judgement {
        numbers,
        ..judgement(held, &[], evidence, &detail)
    }
}
