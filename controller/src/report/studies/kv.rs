//! Contexts that another node had: the time of the first token over the rate, and what codings lose.

use std::fmt::{self, Write};

use super::first_token::{self, FirstToken};
use super::number;
use crate::format::{grouped, significant};
use crate::report::html::{Table, escape};
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

fn charts(page: &mut String, context: &StudyContext) -> fmt::Result {
    let point = |one: &StudyDelivery| FirstToken {
        arm: one.arm.clone(),
        round_trip_ms: one.round_trip_ms,
        rate_mbps: one.rate_mbps,
        first_token_ms: one.first_token_ms,
        expected_ms: one.expected_ms,
    };
    let points: Vec<FirstToken> = context.deliveries.iter().map(point).collect();
    let besides = "; the line of an adaptive arm joins its crosses";
    first_token::charts(page, &points, ("each way a context comes", besides))
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
