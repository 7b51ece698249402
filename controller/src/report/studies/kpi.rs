//! Rows of the KPI tables: pass or fail, and by how much, at set rates and on the link's trace.

use std::fmt::{self, Write};

use super::number;
use crate::format::{grouped, significant};
use crate::report::html::{Table, escape};
use crate::summary::{KpiOnTrace, StudyKpi, StudySummary};

/// What both tables begin with.
const ROW_HEAD: [&str; 7] = [
    "Row of TS 22.261 clause 7.10",
    "Table",
    "",
    "Latency, ms",
    "Listed, Mbit/s",
    "Payload / latency",
    "Sent, B",
];

pub(super) fn section(page: &mut String, study: &StudySummary) -> fmt::Result {
    let is_on_trace = study.kpis.iter().any(|row| row.on_trace.is_some());
    let is_at_rates = study.kpis.iter().any(|row| !row.outcomes.is_empty());
    // Rows that are not tried are named once at least.
    if is_at_rates || !is_on_trace {
        at_rates(page, study)?;
    }
    if is_on_trace {
        on_trace(page, study)?;
    }
    Ok(())
}

fn named(row: &StudyKpi) -> Vec<String> {
    vec![
        escape(&row.use_case),
        escape(&row.table),
        escape(&row.direction),
        row.latency_ms
            .map_or_else(|| "-".to_owned(), |ms| ms.to_string()),
        number(row.listed_mbps),
        number(row.implied_mbps),
        row.payload_bytes.map_or_else(|| "-".to_owned(), grouped),
    ]
}

/// A row of which there is nothing but a reason, with so many columns of its table between.
fn not_tried(row: &StudyKpi, between: usize) -> Vec<String> {
    let why = row.not_tried.as_deref().unwrap_or("nothing was sent");
    let mut values = named(row);
    values.extend(std::iter::repeat_n("-".to_owned(), between));
    values.push(format!(
        "<span class=\"small\">not tried: {}</span>",
        escape(why)
    ));
    values
}

fn at_rates(page: &mut String, study: &StudySummary) -> fmt::Result {
    let own = [
        "At",
        "Link, Mbit/s",
        "Median, ms",
        "Longest",
        "In time",
        "Margin",
        "",
    ];
    let mut table = Table::new(&[&ROW_HEAD[..], &own[..]].concat(), 3);
    for row in &study.kpis {
        if row.outcomes.is_empty() {
            table.row(not_tried(row, own.len() - 1));
        }
        for outcome in &row.outcomes {
            let mut values = named(row);
            values.extend([
                format!("{} %", outcome.percent),
                significant(outcome.rate_mbps),
                significant(outcome.median_ms),
                significant(outcome.longest_ms),
                format!("{} of {}", outcome.in_time, outcome.sent),
                format!("{:+.1} %", outcome.margin * 100.0),
                escape(&outcome.verdict),
            ]);
            table.row(values);
        }
    }
    table.write(page)?;
    let scale = study.kpis.first().map_or(1, |row| row.scale);
    writeln!(
        page,
        "<p class=\"small\">Payloads and rates are 1:{scale} of the tables', so that latencies stay. Rates are in \
         percent of payload over latency, which is what the row needs, and not always what the table lists; headers \
         of TCP and IP take some 4 % of them. Margin is what the median leaves of the latency. So few transmissions \
         say nothing of reliabilities such as 99.9 %.</p>"
    )
}

fn on_trace(page: &mut String, study: &StudySummary) -> fmt::Result {
    let own = [
        "Median, ms",
        "Longest",
        "In time",
        "Margin",
        "The trace carries",
        "With 25 % to spare",
        "10 % short",
        "Between",
        "",
    ];
    let mut table = Table::new(&[&ROW_HEAD[..], &own[..]].concat(), 3);
    for row in &study.kpis {
        let Some(sent) = &row.on_trace else {
            table.row(not_tried(row, own.len() - 1));
            continue;
        };
        let mut values = named(row);
        values.extend([
            significant(sent.median_ms),
            significant(sent.longest_ms),
            format!("{} of {}", sent.in_time, sent.sent),
            format!("{:+.1} %", sent.margin * 100.0),
        ]);
        values.extend(by_trace(sent));
        values.push(escape(&sent.verdict));
        table.row(values);
    }
    let sent = study.kpis.iter().find_map(|row| row.on_trace.as_ref());
    let trace = sent.map_or("", |sent| sent.trace.as_str());
    writeln!(page, "<h3>On the trace {}</h3>", escape(trace))?;
    table.write(page)?;
    let scale = study.kpis.first().map_or(1, |row| row.scale);
    writeln!(
        page,
        "<p class=\"small\">Payloads are 1:{scale} of the tables'. The link followed its trace, which began anew for each \
         row. The trace carries: bits that it lets arrive within the latency, from when a transmission began, over those of \
         the payload's frame, the least, the median and the most of the row's transmissions. Of those that it carries with \
         25 % to spare, which headers of TCP and IP take some 4 % of, and of those that it is 10 % short of, how many were in \
         time. Margin is what the median leaves of the latency.</p>"
    )
}

/// What the trace says of a row's transmissions: a cell for what it carries, and one for each kind.
fn by_trace(sent: &KpiOnTrace) -> Vec<String> {
    let Some(by_trace) = &sent.by_trace else {
        return vec![
            "the trace is not recorded".to_owned(),
            "-".to_owned(),
            "-".to_owned(),
            "-".to_owned(),
        ];
    };
    let carried = by_trace.carried_over_needed.map(significant);
    let in_time = |in_time: u64, sent: u64| match sent {
        0 => "-".to_owned(),
        sent => format!("{in_time} of {sent}"),
    };
    vec![
        carried.join(", "),
        in_time(by_trace.enough_in_time, by_trace.enough),
        in_time(by_trace.short_in_time, by_trace.short),
        by_trace.between.to_string(),
    ]
}
