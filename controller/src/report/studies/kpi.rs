//! Rows of the KPI tables: pass or fail, and by how much.

use std::fmt::{self, Write};

use crate::format::{grouped, significant};
use crate::report::html::{Table, escape};
use crate::summary::StudySummary;

pub(super) fn section(page: &mut String, study: &StudySummary) -> fmt::Result {
    let head = [
        "Row of TS 22.261 clause 7.10",
        "Table",
        "",
        "Latency, ms",
        "Listed, Mbit/s",
        "Payload / latency",
        "Sent, B",
        "At",
        "Link, Mbit/s",
        "Median, ms",
        "Longest",
        "In time",
        "Margin",
        "",
    ];
    let mut table = Table::new(&head, 3);
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), significant);
    for row in &study.kpis {
        let named = || {
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
        };
        if row.outcomes.is_empty() {
            let why = row.not_tried.as_deref().unwrap_or("nothing was sent");
            let why = format!("<span class=\"small\">not tried: {}</span>", escape(why));
            let mut values = named();
            values.extend(["-"; 6].map(str::to_owned));
            values.push(why);
            table.row(values);
        }
        for outcome in &row.outcomes {
            let mut values = named();
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
