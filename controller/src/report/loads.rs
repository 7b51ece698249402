//! Loads on programs that serve: latencies, how exchanges ended, and the shape of the traffic.

use std::fmt::{self, Write};

use super::Data;
use super::html::{Table, escape, facts};
use super::latency;
use crate::format::{grouped, significant};
use crate::summary::{Distribution, LoadSummary, Sizes};

pub(super) fn section(page: &mut String, data: &Data<'_>) -> fmt::Result {
    for load in &data.summary.loads {
        writeln!(page, "<h2>Load {}</h2>", escape(&load.phase))?;
        writeln!(
            page,
            "<p>{} requests ({}, {}) from {} to model <code>{}</code> on {}: {} completed, {} unfinished, {} failed; {} of {} answers were counted in tokens by the server, the others by events that carried text.</p>",
            grouped(load.requests),
            escape(&load.arrivals),
            escape(&load.mix),
            escape(&load.node),
            escape(&load.model),
            escape(&load.server),
            grouped(load.completed),
            grouped(load.unfinished),
            grouped(load.failed),
            grouped(load.counted_by_server),
            grouped(load.requests),
        )?;
        latencies(page, load)?;
        endings(page, load)?;
        sizes(page, load)?;
        rates(page, load)?;
    }
    Ok(())
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), significant)
}

fn latencies(page: &mut String, load: &LoadSummary) -> fmt::Result {
    let head = ["Latency in ms", "n", "mean", "p50", "p95", "p99", "max"];
    let mut table = Table::new(&head, 1);
    let rows: [(&str, &Distribution); 7] = [
        ("first byte", &load.first_byte_ms),
        ("TTFT", &load.ttft_ms),
        ("TTFT from send", &load.ttft_from_send_ms),
        ("TPOT", &load.tpot_ms),
        ("ITL (pooled)", &load.itl_ms),
        ("E2E (last token)", &load.e2e_ms),
        ("send lateness", &load.send_lateness_ms),
    ];
    for (name, distribution) in rows {
        table.row(latency::cells(name.to_owned(), distribution));
    }
    table.write(page)
}

fn endings(page: &mut String, load: &LoadSummary) -> fmt::Result {
    let mut table = Table::new(&["Exchanges ended", "Number"], 1);
    for (name, count) in &load.endings {
        table.row(vec![escape(name), grouped(*count)]);
    }
    table.write(page)
}

fn sizes(page: &mut String, load: &LoadSummary) -> fmt::Result {
    let head = ["Bursts in bytes", "n", "mean", "p50", "p95", "p99", "max"];
    let mut table = Table::new(&head, 1);
    let rows: [(&str, &Sizes); 2] = [
        ("up (a request)", &load.burst_bytes_up),
        ("down (reads less than 2 ms apart)", &load.burst_bytes_down),
    ];
    for (name, sizes) in rows {
        let count = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), grouped);
        table.row(vec![
            name.to_owned(),
            grouped(sizes.n),
            number(sizes.mean),
            count(sizes.p50),
            count(sizes.p95),
            count(sizes.p99),
            count(sizes.max),
        ]);
    }
    table.write(page)
}

fn rates(page: &mut String, load: &LoadSummary) -> fmt::Result {
    let bytes = format!(
        "{} up, {} down: {} up per byte down",
        grouped(load.http_bytes_up),
        grouped(load.http_bytes_down),
        number(load.uplink_over_downlink)
    );
    let rates = format!(
        "{} requests/s, {} tokens/s",
        number(load.requests_per_s),
        number(load.tokens_per_s)
    );
    let mut rows = vec![("Bytes of HTTP", bytes), ("Completed", rates)];
    if let Some(scenario) = &load.scenario {
        let value = match (scenario.value, scenario.incomplete) {
            (Some(value), _) => significant(value),
            (None, 0) => format!(
                "needs {} queries, had {}",
                scenario.needed, scenario.queries
            ),
            (None, incomplete) => format!("{incomplete} queries did not complete"),
        };
        let told = format!("{}: {value}", escape(&scenario.metric));
        rows.push(("As MLPerf states it", told));
    }
    facts(page, &rows)
}
