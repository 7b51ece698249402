//! Phases without a model: what was delivered beside what the trace allowed, and round trips.

use std::fmt::{self, Write};

use super::Data;
use super::html::{Table, escape};
use crate::format::{grouped, significant};

pub(super) fn section(page: &mut String, data: &Data<'_>) -> fmt::Result {
    let traffic = &data.summary.traffic;
    if traffic.is_empty() {
        return Ok(());
    }
    writeln!(page, "<h2>Traffic without a model</h2>")?;
    let load = |load: bool| if load { "all CPUs burned" } else { "idle" }.to_owned();
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), significant);
    let head = [
        "Bulk TCP",
        "Link",
        "Load",
        "",
        "Windows",
        "Filled",
        "Delivered / trace",
        "Correlation",
        "Steps",
        "Late",
    ];
    let mut table = Table::new(&head, 4);
    let mut any = false;
    for (phase, one) in traffic
        .iter()
        .flat_map(|phase| phase.following.iter().map(move |one| (phase, one)))
    {
        any = true;
        table.row(vec![
            escape(&phase.phase),
            escape(&phase.link),
            load(phase.load),
            escape(&one.direction),
            grouped(one.windows),
            grouped(one.backlogged_windows),
            one.delivered_over_trace
                .map_or_else(|| "-".to_owned(), |share| format!("{share:.4}")),
            one.correlation
                .map_or_else(|| "-".to_owned(), |value| format!("{value:.4}")),
            grouped(one.steps),
            grouped(one.late_steps),
        ]);
    }
    if any {
        table.write(page)?;
        writeln!(
            page,
            "<p class=\"small\">Filled are windows in which the link's queue was never empty: only in those the link alone decides what arrives, and only those count. A step is a change of the trace by more than 10&nbsp;%; it is late if, a whole window later, what arrived was still nearer to the old rate.</p>"
        )?;
    }
    let head = [
        "Ping",
        "Link",
        "Load",
        "Sent",
        "Lost",
        "p50, ms",
        "p99",
        "largest",
        "asked p50",
        "error p50",
        "error p99",
    ];
    let mut table = Table::new(&head, 3);
    let mut any = false;
    for phase in traffic {
        let Some(trips) = &phase.round_trips else {
            continue;
        };
        any = true;
        table.row(vec![
            escape(&phase.phase),
            escape(&phase.link),
            load(phase.load),
            grouped(trips.sent),
            grouped(trips.lost),
            number(trips.p50_ms),
            number(trips.p99_ms),
            number(trips.max_ms),
            number(trips.asked_p50_ms),
            number(trips.error_p50_ms),
            number(trips.error_p99_ms),
        ]);
    }
    if any {
        table.write(page)?;
        writeln!(
            page,
            "<p class=\"small\">Round trips as the sending process saw them. Asked is what the trace gives at each packet's moment, both transmissions included. A 99th percentile needs 459 values.</p>"
        )?;
    }
    Ok(())
}
