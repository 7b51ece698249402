//! Phases without a model: what was delivered beside what the trace allowed, and round trips, as
//! tables and over time.

use std::fmt::{self, Write};

use hexloop_traces::Direction;

use super::Data;
use super::html::{Table, escape, legend};
use super::svg::{Axis, Chart};
use super::timeline::{WIDTH, highest, rates};
use crate::format::{grouped, ns_to_ms, ns_to_s, significant};
use crate::summary::TrafficSummary;
use crate::summary::traffic::asked_round_trips;

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
        "Control",
        "",
        "Windows",
        "Filled",
        "Delivered / trace",
        "Correlation",
        "Steps",
        "Late",
    ];
    let mut table = Table::new(&head, 5);
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
            escape(&phase.congestion_control.join(", ")),
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
    constant_rates(page, data)?;
    cells(page, data)?;
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
            "<p class=\"small\">Round trips as the sending process saw them. Asked is what the trace gives at each packet's moment, both transmissions included; its error is what the trace's jitter does not excuse. A 99th percentile needs 459 values.</p>"
        )?;
    }
    charts(page, data)
}

/// Every rate that a trace keeps for a while, and the highest that passed.
fn constant_rates(page: &mut String, data: &Data<'_>) -> fmt::Result {
    let Some(all) = &data.summary.rates else {
        return Ok(());
    };
    let head = [
        "Constant rate",
        "Link",
        "",
        "Outcome",
        "Asked, Mbit/s",
        "Windows",
        "Filled",
        "Delivered, Mbit/s",
        "Most in a window",
        "Delivered / asked",
    ];
    let mut table = Table::new(&head, 4);
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), significant);
    for (phase, one) in data
        .summary
        .traffic
        .iter()
        .flat_map(|phase| phase.following.iter().map(move |one| (phase, one)))
    {
        for rate in &one.rates {
            let outcome = match (rate.passes, rate.asked_mbps) {
                (Some(true), _) => "<strong class=\"held\">passed</strong>",
                (Some(false), _) => "<strong class=\"not-held\">not delivered</strong>",
                (None, Some(_)) => "<strong class=\"undecided\">not filled</strong>",
                (None, None) => "no limit",
            };
            table.row(vec![
                escape(&phase.phase),
                escape(&phase.link),
                escape(&one.direction),
                outcome.to_owned(),
                number(rate.asked_mbps),
                grouped(rate.windows),
                grouped(rate.backlogged_windows),
                number(rate.delivered_mbps),
                number(rate.highest_mbps),
                rate.delivered_over_asked
                    .map_or_else(|| "-".to_owned(), |share| format!("{share:.4}")),
            ]);
        }
    }
    table.write(page)?;
    writeln!(
        page,
        "<p class=\"small\">Rates that a trace keeps for ten windows or more. One passes if, over ten filled windows or more, what arrived is within 5&nbsp;% of it. Of all: {}.</p>",
        escape(&all.in_words())
    )
}

/// What the links of shared cells got, beside what the cells' policies give them.
fn cells(page: &mut String, data: &Data<'_>) -> fmt::Result {
    let cells = &data.summary.cells;
    if cells.is_empty() {
        return Ok(());
    }
    let head = [
        "Shared cell",
        "Policy",
        "Phase",
        "",
        "Link",
        "Weight",
        "Windows",
        "All filled",
        "Delivered, kB",
        "Asked, kB",
        "Share",
        "Asked share",
        "Delivered / asked",
    ];
    let mut table = Table::new(&head, 5);
    let share =
        |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |share| format!("{share:.4}"));
    for (cell, user) in cells
        .iter()
        .flat_map(|cell| cell.users.iter().map(move |user| (cell, user)))
    {
        table.row(vec![
            escape(&cell.cell),
            escape(&cell.policy),
            escape(&cell.phase),
            escape(&cell.direction),
            escape(&user.link),
            user.weight
                .map_or_else(|| "-".to_owned(), |weight| weight.to_string()),
            grouped(cell.windows),
            grouped(cell.backlogged_windows),
            grouped(user.delivered_bytes / 1000),
            user.asked_bytes
                .map_or_else(|| "-".to_owned(), |bytes| grouped(bytes / 1000)),
            share(user.delivered_share),
            share(user.asked_share),
            share(user.delivered_over_asked),
        ]);
    }
    table.write(page)?;
    writeln!(
        page,
        "<p class=\"small\">Bytes and shares over the windows in which every filled link of the cell had something waiting. Asked is what the policy gives each link on the traces alone, replayed slot by slot.</p>"
    )
}

/// What was delivered, and the round trips, over time.
fn charts(page: &mut String, data: &Data<'_>) -> fmt::Result {
    legend(
        page,
        &[
            ("asked".to_owned(), "asked by the trace".to_owned()),
            ("fill s0".to_owned(), "delivered".to_owned()),
            ("tick".to_owned(), "round trip".to_owned()),
        ],
    )?;
    for phase in &data.summary.traffic {
        writeln!(page, "<figure><h3>{}</h3>", escape(&phase.phase))?;
        for one in &phase.following {
            rate_chart(page, data, phase, &one.direction);
        }
        if phase.round_trips.is_some() {
            round_trip_chart(page, data, phase);
        }
        writeln!(page, "</figure>")?;
    }
    Ok(())
}

fn rate_chart(page: &mut String, data: &Data<'_>, phase: &TrafficSummary, direction: &str) {
    let Some(recorded) = data.records.results.phase(&phase.phase) else {
        return;
    };
    let found = Direction::BOTH
        .into_iter()
        .find(|one| one.name() == direction);
    let Some(rates) = found.map(|one| rates(&recorded.windows, &phase.link, one)) else {
        return;
    };
    if rates.asked.is_empty() {
        return;
    }
    let top = rates.highest() * 1.08;
    let x = Axis::linear(0.0, rates.end, "time since T0, s");
    let y = Axis::linear(0.0, top, &format!("{direction}, Mbit/s"));
    let description = format!(
        "Rate of {} {direction} in {}, asked and delivered",
        phase.link, phase.phase
    );
    let mut chart = Chart::new((WIDTH, 170.0), x, y, &description);
    chart.filled_steps(&rates.delivered, rates.end, "s0");
    chart.steps(&rates.asked, rates.end, "asked");
    page.push_str(&chart.render());
}

fn round_trip_chart(page: &mut String, data: &Data<'_>, phase: &TrafficSummary) {
    let records = data.records;
    let plan = records
        .plan
        .traffic
        .iter()
        .find(|one| one.name == phase.phase);
    let (Some(plan), Some(recorded)) = (plan, records.results.phase(&phase.phase)) else {
        return;
    };
    let link = records.plan.link(&phase.link);
    let trace = link.and_then(|link| records.traces.get(&link.trace));
    let probes = || {
        recorded
            .traffic_of(&phase.link)
            .flat_map(|record| &record.probes)
    };
    let measured: Vec<(f64, f64)> = probes()
        .filter_map(|probe| Some((ns_to_s(probe.sent_ns), ns_to_ms(probe.round_trip_ns?))))
        .collect();
    let asked: Vec<(f64, f64)> = probes()
        .zip(asked_round_trips(plan, (recorded, &phase.link), trace))
        .filter_map(|(probe, asked)| Some((ns_to_s(probe.sent_ns), ns_to_ms(asked?.asked_ns))))
        .collect();
    let end = ns_to_s(plan.duration_ns);
    let top = highest(&measured).max(highest(&asked)) * 1.08;
    let x = Axis::linear(0.0, end, "time since T0, s");
    let y = Axis::linear(0.0, top, "round trip, ms");
    let description = format!("Round trips over {} in {}", phase.link, phase.phase);
    let mut chart = Chart::new((WIDTH, 170.0), x, y, &description);
    chart.marks(&measured, 5.0, "s1 thin");
    chart.steps(&asked, end, "asked");
    page.push_str(&chart.render());
}
