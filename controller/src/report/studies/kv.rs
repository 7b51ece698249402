//! Contexts that another node had: the time of the first token over the rate, and what codings lose.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use super::number;
use crate::format::{grouped, significant};
use crate::report::html::{Table, escape, legend};
use crate::report::latency::series_class;
use crate::report::svg::{Axis, Chart};
use crate::summary::{StudyContext, StudyDelivery, StudySummary};

pub(super) fn section(page: &mut String, study: &StudySummary) -> fmt::Result {
    let Some(context) = &study.context else {
        return Ok(());
    };
    costs(page, context)?;
    codings(page, context)?;
    regimes(page, context)?;
    charts(page, context)?;
    deliveries(page, context)
}

fn costs(page: &mut String, context: &StudyContext) -> fmt::Result {
    writeln!(
        page,
        "<p>A context has {} tokens. To compute its keys and values takes the first node {} ms and the second {} ms; from there to the first token takes the first node {} ms.</p>",
        context.tokens,
        significant(context.recompute_ms),
        significant(context.prefill_ms),
        significant(context.answer_ms)
    )
}

fn codings(page: &mut String, context: &StudyContext) -> fmt::Result {
    let head = [
        "Keys and values",
        "Bytes of a context",
        "Coded in, ms",
        "Decoded in, ms",
        "Held-out tokens",
        "Perplexity",
        "Over exact",
        "95 %",
        "Divergence, nats",
        "Same choice",
        "Largest delta of a score",
    ];
    let mut table = Table::new(&head, 1);
    for coding in &context.codings {
        let ratio = coding.perplexity_over_exact;
        table.row(vec![
            escape(&coding.coding),
            grouped(coding.bytes),
            significant(coding.encode_ms),
            significant(coding.decode_ms),
            grouped(coding.text_tokens),
            number(coding.perplexity),
            number(ratio.map(|[ratio, ..]| ratio)),
            ratio.map_or_else(
                || "-".to_owned(),
                |[_, low, high]| format!("{low:.4} to {high:.4}"),
            ),
            coding
                .divergence
                .map_or_else(|| "-".to_owned(), |nats| format!("{nats:.2e}")),
            coding
                .same_choice
                .map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0)),
            number(coding.largest_delta),
        ]);
    }
    table.write(page)
}

fn regimes(page: &mut String, context: &StudyContext) -> fmt::Result {
    let head = [
        "Keys and values are",
        "Round trip, ms",
        "Shipping pays from, Mbit/s",
        "Exact ones are best from, Mbit/s",
    ];
    let mut table = Table::new(&head, 1);
    let rate = |rate: Option<f64>| rate.map_or_else(|| "never".to_owned(), significant);
    for regimes in &context.regimes {
        table.row(vec![
            escape(&regimes.source),
            significant(regimes.round_trip_ms),
            rate(regimes.shipping_from_mbps),
            rate(regimes.exact_from_mbps),
        ]);
    }
    table.write(page)
}

/// The order in which arms were tried, so that colours stay.
fn series(context: &StudyContext, round_trip_ms: f64) -> Vec<(&str, Vec<&StudyDelivery>)> {
    let mut arms: Vec<(&str, Vec<&StudyDelivery>)> = Vec::new();
    for one in &context.deliveries {
        if one.round_trip_ms.total_cmp(&round_trip_ms).is_ne() {
            continue;
        }
        match arms.iter_mut().find(|(arm, _)| *arm == one.arm) {
            Some((_, cells)) => cells.push(one),
            None => arms.push((&one.arm, vec![one])),
        }
    }
    arms
}

fn charts(page: &mut String, context: &StudyContext) -> fmt::Result {
    let mut round_trips: BTreeMap<u64, f64> = BTreeMap::new();
    for one in &context.deliveries {
        round_trips.insert(one.round_trip_ms.to_bits(), one.round_trip_ms);
    }
    for round_trip_ms in round_trips.into_values() {
        let arms = series(context, round_trip_ms);
        let cells = || arms.iter().flat_map(|(_, cells)| cells.iter());
        let ends = |value: fn(&StudyDelivery) -> f64| {
            let values = || cells().map(|one| value(one));
            (
                values().fold(f64::MAX, f64::min),
                values().fold(0.0, f64::max),
            )
        };
        let (least_rate, most_rate) = ends(|one| one.rate_mbps);
        let (least, most) = ends(|one| one.first_token_ms);
        if arms.iter().all(|(_, cells)| cells.len() < 2) {
            continue;
        }
        let mut chart = Chart::new(
            (720.0, 320.0),
            Axis::log(least_rate, most_rate, "rate, Mbit/s"),
            Axis::log(least, most, "first token, ms"),
            "Time of the first token over the rate of the link, one line for each way a context comes",
        );
        let mut entries = Vec::new();
        for (index, (arm, cells)) in arms.iter().enumerate() {
            let class = series_class(index);
            let measured = cells.iter().map(|one| (one.rate_mbps, one.first_token_ms));
            let measured: Vec<(f64, f64)> = measured.collect();
            let expected = cells
                .iter()
                .filter_map(|one| Some((one.rate_mbps, one.expected_ms?)));
            let expected: Vec<(f64, f64)> = expected.collect();
            // Lines are what should be, crosses what was; an adaptive arm has no law but the least of the
            // others'.
            let line = if expected.is_empty() {
                &measured
            } else {
                &expected
            };
            chart.lines(line, &class);
            chart.crosses(&measured, &class);
            entries.push((class, escape(arm)));
        }
        writeln!(page, "<figure>")?;
        legend(page, &entries)?;
        page.push_str(&chart.render());
        writeln!(
            page,
            "<figcaption>Time of the first token over the rate of the link, at a round trip of {} ms: crosses are medians of the trials, lines what bytes and costs add up to; the line of an adaptive arm joins its crosses.</figcaption></figure>",
            significant(round_trip_ms)
        )?;
    }
    Ok(())
}

fn deliveries(page: &mut String, context: &StudyContext) -> fmt::Result {
    let head = [
        "The context comes as",
        "Round trip, ms",
        "Rate, Mbit/s",
        "Trials",
        "Context there, ms",
        "First token, ms",
        "By bytes and costs, ms",
        "Bytes down",
        "Rate as measured, Mbit/s",
        "Chosen",
    ];
    let mut table = Table::new(&head, 1);
    for one in &context.deliveries {
        let adaptive = one.measured_mbps.is_some();
        table.row(vec![
            escape(&one.arm),
            significant(one.round_trip_ms),
            significant(one.rate_mbps),
            grouped(one.trials),
            significant(one.context_ms),
            significant(one.first_token_ms),
            number(one.expected_ms),
            significant(one.down_bytes),
            number(one.measured_mbps),
            match adaptive {
                true => escape(&one.chosen.join(", ")),
                false => String::new(),
            },
        ]);
    }
    table.write(page)
}
