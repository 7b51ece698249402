//! What happened when: the link's rate, asked and delivered, above the requests on the same
//! time axis, so that what the channel did to the tokens can be seen.

use std::fmt::{self, Write};

use hexloop_proto::LinkWindow;
use hexloop_topologies::plan::PhasePlan;
use hexloop_traces::Direction;
use hexloop_workloads::job::Outcome;

use super::Data;
use super::html::{Table, escape, legend};
use super::latency::placement_name;
use super::svg::{Axis, Chart};
use crate::format::{count_to_f64, length, ns_to_s};
use crate::results::PhaseResults;
use crate::summary::outages;
use crate::summary::rates::is_without_limit;

pub(super) const WIDTH: f64 = 960.0;

pub(super) fn section(page: &mut String, data: &Data<'_>) -> fmt::Result {
    if !data.summary.jobs.is_empty() {
        jobs(page, data)?;
    }
    changes(page, data)?;
    calibration(page, data)
}

fn jobs(page: &mut String, data: &Data<'_>) -> fmt::Result {
    writeln!(page, "<h2>The channel and the requests over time</h2>")?;
    writeln!(
        page,
        "<p>Every placement meets the same trace and the same request schedule, both from T0. Delivered is what the jobs sent and what arrived at the receiving interface; it cannot exceed what the trace allows (asked), and stays below it when the jobs send less.</p>"
    )?;
    legend(
        page,
        &[
            ("asked".to_owned(), "asked by the trace".to_owned()),
            ("fill s0".to_owned(), "delivered".to_owned()),
            (
                "outage".to_owned(),
                "outage: the trace allows no bit".to_owned(),
            ),
            ("tick".to_owned(), "token".to_owned()),
            (
                "cross".to_owned(),
                "request unfinished or failed".to_owned(),
            ),
        ],
    )?;
    for job in &data.summary.jobs {
        let plan = data
            .records
            .plan
            .phases
            .iter()
            .find(|phase| phase.name == job.phase);
        let recorded = data.records.results.phase(&job.phase);
        if let (Some(plan), Some(recorded)) = (plan, recorded) {
            writeln!(page, "<figure><h3>{}</h3>", placement_name(job))?;
            phase(page, data, plan, recorded)?;
            writeln!(page, "</figure>")?;
        }
    }
    Ok(())
}

/// Changes of links while they played; nothing where there were none.
fn changes(page: &mut String, data: &Data<'_>) -> fmt::Result {
    let changes = &data.summary.changes;
    if changes.is_empty() {
        return Ok(());
    }
    writeln!(page, "<h3>Changes of links</h3>")?;
    let head = [
        "Phase",
        "Link",
        "",
        "Change",
        "By",
        "Asked, s",
        "Achieved, s",
    ];
    let mut table = Table::new(&head, 5);
    for change in changes {
        table.row(vec![
            escape(&change.phase),
            escape(&change.link),
            escape(&change.directions.join(", ")),
            escape(&change.change),
            change.event.as_ref().map_or_else(
                || "hand".to_owned(),
                |event| format!("event {}", escape(event)),
            ),
            format!("{:.6}", change.asked_s),
            format!("{:.6}", change.achieved_s),
        ]);
    }
    table.write(page)?;
    writeln!(
        page,
        "<p class=\"small\">From the achieved moment on, what arrives is compared with what was asked for instead of the trace.</p>"
    )
}

pub(super) fn rates(windows: &[LinkWindow], link: &str, direction: Direction) -> Rates {
    let ours = windows
        .iter()
        .filter(|w| w.link == link && w.direction == direction);
    let mut rates = Rates::default();
    for window in ours {
        let start = ns_to_s(window.start_ns);
        let length = ns_to_s(window.length_ns.max(1));
        rates
            .asked
            .push((start, count_to_f64(window.trace_bytes) * 8e-6 / length));
        rates
            .delivered
            .push((start, count_to_f64(window.delivered_bytes) * 8e-6 / length));
        rates.limited.push(!is_without_limit(window));
        rates.end = rates.end.max(start + length);
    }
    rates
}

#[derive(Default)]
pub(super) struct Rates {
    pub(super) asked: Vec<(f64, f64)>,
    pub(super) delivered: Vec<(f64, f64)>,
    /// Whether the trace had a limit in each window.
    limited: Vec<bool>,
    pub(super) end: f64,
}

impl Rates {
    /// The highest of both; asked where the trace has no limit is none.
    pub(super) fn highest(&self) -> f64 {
        let limited = self.asked.iter().zip(&self.limited);
        let asked = limited.filter_map(|((_, value), limited)| limited.then_some(*value));
        asked.fold(highest(&self.delivered), f64::max)
    }
}

pub(super) fn highest(points: &[(f64, f64)]) -> f64 {
    points.iter().map(|(_, value)| *value).fold(0.0, f64::max)
}

fn phase(
    page: &mut String,
    data: &Data<'_>,
    plan: &PhasePlan,
    recorded: &PhaseResults,
) -> fmt::Result {
    let end = ns_to_s(plan.duration_ns);
    let link = data.records.plan.link(&plan.link);
    let trace = link.and_then(|link| data.records.traces.get(&link.trace));
    let outages: Vec<(f64, f64)> = trace
        .map(|trace| outages(trace, plan.duration_ns))
        .unwrap_or_default()
        .into_iter()
        .map(|(from, to)| (ns_to_s(from), ns_to_s(to)))
        .collect();
    for direction in Direction::BOTH {
        let rates = rates(&recorded.windows, &plan.link, direction);
        if rates.asked.is_empty() {
            continue;
        }
        let name = direction.name();
        let top = rates.highest().max(0.01);
        let x = Axis::linear(0.0, end, "");
        let y = Axis::log(1e-3, top, &format!("{name}, Mbit/s"));
        let description = format!(
            "Rate of {} {name} over time, asked and delivered",
            plan.link
        );
        let mut chart = Chart::new((WIDTH, 140.0), x, y, &description);
        for (index, (from, to)) in outages.iter().enumerate() {
            chart.band(*from, *to, "outage");
            if index == 0 {
                chart.note(*from, "outage");
            }
        }
        chart.filled_steps(&rates.delivered, rates.end, "s0");
        chart.steps(&rates.delivered, rates.end, "s0 thin");
        chart.steps(&rates.asked, rates.end, "asked");
        page.push_str(&chart.render());
    }
    requests(page, plan, recorded, &outages, end)?;
    writeln!(
        page,
        "<figcaption>{}: rate of the link in both directions (log scale, 0 on the base line) and, below, one row per request from its scheduled time to its last token. {}</figcaption>",
        escape(&plan.name),
        stall_sentence(recorded, &outages),
    )
}

fn requests(
    page: &mut String,
    plan: &PhasePlan,
    recorded: &PhaseResults,
    outages: &[(f64, f64)],
    end: f64,
) -> fmt::Result {
    if recorded.requests.is_empty() {
        return writeln!(page, "<p class=\"small\">No request was recorded.</p>");
    }
    let count = count_to_f64(u64::try_from(recorded.requests.len()).unwrap_or(u64::MAX));
    let row_pixels = (320.0 / count).clamp(2.0, 9.0);
    let height = row_pixels * count + 44.0 + 12.0;
    let x = Axis::linear(0.0, end, "time since T0, s");
    let y = Axis::linear(0.0, count, "requests");
    let description = format!("Requests of {} and their tokens over time", plan.name);
    let mut chart = Chart::new((WIDTH, height.max(90.0)), x, y, &description).without_y_numbers();
    for (from, to) in outages {
        chart.band(*from, *to, "outage");
    }
    let (mut lives, mut tokens, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    let mut row = count - 0.5;
    for record in recorded.requests.values() {
        let last = match record.outcome {
            Outcome::Completed => record.token_ns.last().copied().unwrap_or(record.sent_ns),
            Outcome::Unfinished | Outcome::Failed { .. } => {
                let deadline = record.scheduled_ns + plan.requests.deadline_ns;
                let last = deadline.min(plan.duration_ns);
                ends.push((ns_to_s(last), row));
                last
            }
        };
        lives.push((ns_to_s(record.scheduled_ns), ns_to_s(last), row));
        tokens.extend(record.token_ns.iter().map(|at| (ns_to_s(*at), row)));
        row -= 1.0;
    }
    chart.strokes(&lives, "life");
    chart.marks(&tokens, (row_pixels - 1.0).max(1.5), "s1 thin");
    chart.crosses(&ends, "bad");
    page.push_str(&chart.render());
    Ok(())
}

/// How tokens came inside and outside of the outages.
fn stall_sentence(recorded: &PhaseResults, outages: &[(f64, f64)]) -> String {
    let total: f64 = outages.iter().map(|(from, to)| to - from).sum();
    if total <= 0.0 {
        return "The link had no outage in this phase.".to_owned();
    }
    let times = recorded
        .requests
        .values()
        .flat_map(|record| &record.token_ns);
    let inside = times
        .filter(|at| {
            outages
                .iter()
                .any(|(from, to)| (*from..*to).contains(&ns_to_s(**at)))
        })
        .count();
    let mut longest_gap_ns = 0;
    for record in recorded.requests.values() {
        for pair in record.token_ns.windows(2) {
            longest_gap_ns = longest_gap_ns.max(pair[1].saturating_sub(pair[0]));
        }
    }
    format!(
        "{inside} tokens arrived within the {total:.2} s of outage; the longest gap between two tokens of a request was {:.2} s.",
        ns_to_s(longest_gap_ns)
    )
}

fn calibration(page: &mut String, data: &Data<'_>) -> fmt::Result {
    let windows = &data.records.results.calibration_windows;
    if windows.is_empty() {
        return Ok(());
    }
    writeln!(page, "<figure><h3>Calibration</h3><div class=\"row\">")?;
    for link in &data.records.plan.links {
        for direction in Direction::BOTH {
            let rates = rates(windows, &link.name, direction);
            let Some((start, _)) = rates.asked.first().copied() else {
                continue;
            };
            let top = rates.highest() * 1.08;
            let x = Axis::linear(start, rates.end, "time, s");
            let y = Axis::linear(0.0, top, "Mbit/s");
            let name = format!("{} {}", link.name, direction.name());
            let mut chart = Chart::new((460.0, 200.0), x, y, &format!("Calibration of {name}"));
            chart.filled_steps(&rates.delivered, rates.end, "s0");
            chart.steps(&rates.asked, rates.end, "asked");
            writeln!(page, "<div><h3>{}</h3>", escape(&name))?;
            page.push_str(&chart.render());
            writeln!(page, "</div>")?;
        }
    }
    writeln!(
        page,
        "</div><figcaption>The saturating flows before the phases ({} windows): with the queue never empty, delivered must follow asked.</figcaption></figure>",
        length(windows)
    )
}
