//! Speculative decoding: how likely drafts are accepted, what they brought, and tokens per second over the
//! round trip.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};

use super::{energy, number};
use crate::format::{grouped, significant};
use crate::report::html::{Table, escape, legend};
use crate::report::latency::series_class;
use crate::report::svg::{Axis, Chart};
use crate::summary::{StudySpeculation, StudySummary};

pub(super) fn section(page: &mut String, study: &StudySummary) -> fmt::Result {
    acceptance(page, study)?;
    charts(page, study)?;
    arms(page, study)
}

fn acceptance(page: &mut String, study: &StudySummary) -> fmt::Result {
    let head = [
        "Acceptance on held-out prompts",
        "Prompts",
        "Tokens",
        "Mean",
        "Correlation of neighbours",
    ];
    let mut table = Table::new(&head, 1);
    for one in &study.acceptance {
        table.row(vec![
            escape(&one.drawing),
            grouped(one.prompts),
            grouped(one.tokens),
            significant(one.acceptance),
            number(one.lag_one_correlation),
        ]);
    }
    table.write(page)
}

/// One chart for each way to choose tokens, of drafts of ids at the highest rate: tokens per second over
/// the round trip, a line for each length, and one for the baseline.
fn charts(page: &mut String, study: &StudySummary) -> fmt::Result {
    let drawings: BTreeSet<&str> = study
        .speculation
        .iter()
        .map(|one| one.drawing.as_str())
        .collect();
    for drawing in drawings {
        let highest = study.speculation.iter().map(|one| one.rate_mbps);
        let highest = highest.fold(0.0, f64::max);
        let drawn = study.speculation.iter().filter(|one| {
            let crosses = one.crossing.as_deref().unwrap_or("ids");
            one.drawing == drawing && one.rate_mbps >= highest && crosses == "ids"
        });
        let mut series: BTreeMap<(u32, &str), Vec<(f64, f64)>> = BTreeMap::new();
        for one in drawn {
            let Some(rate) = one.tokens_per_s else {
                continue;
            };
            let points = series.entry((order(one), one.arm.as_str())).or_default();
            points.push((one.round_trip_ms, rate));
        }
        let longest = series.values().map(Vec::len).max().unwrap_or(0);
        if longest < 2 {
            continue;
        }
        chart(page, (drawing, highest), &series)?;
    }
    Ok(())
}

/// The baseline first, then by length, what adapts last.
fn order(one: &StudySpeculation) -> u32 {
    match (&one.crossing, one.drafted) {
        (None, _) => 0,
        (Some(_), Some(drafted)) => drafted,
        (Some(_), None) => u32::MAX,
    }
}

fn chart(
    page: &mut String,
    (drawing, rate_mbps): (&str, f64),
    series: &BTreeMap<(u32, &str), Vec<(f64, f64)>>,
) -> fmt::Result {
    let points = || series.values().flatten();
    let least = points()
        .map(|(round_trip, _)| *round_trip)
        .fold(f64::MAX, f64::min);
    let most = points()
        .map(|(round_trip, _)| *round_trip)
        .fold(0.0, f64::max);
    let fastest = points().map(|(_, rate)| *rate).fold(0.0, f64::max);
    let mut chart = Chart::new(
        (720.0, 300.0),
        Axis::log(least, most, "round trip, ms"),
        Axis::linear(0.0, fastest * 1.05, "tokens per second"),
        "Tokens per second over the round trip, one line for each length of drafts",
    );
    let mut entries = Vec::new();
    for (index, ((_, arm), points)) in series.iter().enumerate() {
        let class = series_class(index);
        chart.lines(points, &class);
        chart.marks(points, 6.0, &class);
        entries.push((class, escape(arm)));
    }
    writeln!(page, "<figure>")?;
    legend(page, &entries)?;
    page.push_str(&chart.render());
    writeln!(
        page,
        "<figcaption>Tokens per second of {} arms over the round trip, at {} Mbit/s; remote is the baseline: the large model alone, whose tokens stream back.</figcaption>\n</figure>",
        escape(drawing),
        significant(rate_mbps)
    )
}

fn arms(page: &mut String, study: &StudySummary) -> fmt::Result {
    let head = [
        "Arm",
        "Round trip, ms",
        "Rate, Mbit/s",
        "Rounds",
        "Accepted per round",
        "Tokens per round",
        "By acceptance",
        "Tokens/s",
        "Drafting node busy",
        "Verifying node busy",
        "Bytes up per token",
        "Bytes down per token",
    ];
    let mut table = Table::new(&head, 1);
    for name in energy::HEAD {
        table.named_column(name);
    }
    for one in &study.speculation {
        let busy = |node: usize| {
            let share = one.busy.get(node);
            share.map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", share * 100.0))
        };
        let mut row = vec![
            escape(&one.arm),
            significant(one.round_trip_ms),
            significant(one.rate_mbps),
            one.rounds.map_or_else(|| "-".to_owned(), grouped),
            number(one.accepted_per_round),
            number(one.tokens_per_round),
            number(one.expected_tokens_per_round),
            number(one.tokens_per_s),
            busy(0),
            busy(1),
            significant(one.up_bytes_per_token),
            significant(one.down_bytes_per_token),
        ];
        row.extend(energy::columns(&one.energy));
        table.row(row);
    }
    table.write(page)?;
    writeln!(
        page,
        "<p class=\"small\">g is how many tokens are drafted at a time; then what crosses the link with each. Tokens per round are those of drafts of full length; by acceptance they should be (1 - a^(g+1)) / (1 - a), a the mean on held-out prompts. Busy is the share of the time in which the node computed, its slowdown included.{}</p>",
        energy::about(study.speculation.iter().map(|one| &one.energy))
    )
}
