//! Energy: what was metered, what it amounts to, and what reading it cost.

use std::fmt::{self, Write};

use super::html::{Table, escape};
use super::latency::{placement_name, series_class};
use super::svg::{Axis, Chart};
use super::{Data, training};
use crate::energy::intervals;
use crate::format::{ns_to_s, significant};
use crate::summary::{JobSummary, MeterSummary, MeteringSummary, Quality, Quantity, RadioSummary};

/// Length of the steps of the chart of power.
const STEP_NS: u64 = 100_000_000;

pub(super) fn section(page: &mut String, data: &Data<'_>) -> fmt::Result {
    writeln!(page, "<h2>Energy</h2>")?;
    let Some(meters) = &data.summary.meters else {
        return writeln!(
            page,
            "<p>The agent never started, and nothing was metered.</p>"
        );
    };
    if meters.source == "stub" {
        writeln!(
            page,
            "<div class=\"box interrupted\"><strong>These are not measurements:</strong> a test's stub stood in for at least one meter.</div>"
        )?;
    }
    let mut table = Table::new(&["Of the machine", "Joules", "Source"], 3);
    table.row(row("whole run".to_owned(), &data.summary.energy_j, None));
    for job in &data.summary.jobs {
        let uncertainty = job.energy.uncertainty_j;
        table.row(row(placement_name(job), &job.energy_j, uncertainty));
    }
    table.write(page)?;
    if meters.channels.is_empty() {
        not_metered(page, meters)?;
        radio(page, &data.summary.jobs)?;
        return training::section(page, data);
    }
    power_charts(page, data)?;
    per_unit(page, &data.summary.jobs)?;
    attribution(page, &data.summary.jobs)?;
    channels(page, data, meters)?;
    not_metered(page, meters)?;
    radio(page, &data.summary.jobs)?;
    training::section(page, data)
}

fn quality(quality: Quality) -> &'static str {
    match quality {
        Quality::Measured => "measured",
        Quality::Derived => "derived",
        Quality::Estimated => "estimated",
        Quality::Unavailable => "unavailable",
    }
}

fn row(name: String, energy: &Quantity, uncertainty: Option<f64>) -> Vec<String> {
    match energy.value {
        Some(value) => {
            let source = energy.source.as_deref().unwrap_or_default();
            let open = uncertainty
                .map_or_else(String::new, |open| format!(" &#177; {}", significant(open)));
            vec![
                name,
                format!("{}{open}", significant(value)),
                format!("{}: {}", quality(energy.quality), escape(source)),
            ]
        }
        None => vec![name, unavailable(energy), "none".to_owned()],
    }
}

fn unavailable(energy: &Quantity) -> String {
    let reason = energy.reason.as_deref().unwrap_or("no reason was recorded");
    format!("Unavailable: {}", escape(reason))
}

/// The value, or the reason behind a short word.
pub(super) fn cell(quantity: &Quantity) -> String {
    match quantity.value {
        Some(value) => significant(value),
        None => {
            let reason = quantity
                .reason
                .as_deref()
                .unwrap_or("no reason was recorded");
            format!("<abbr title=\"{}\">unavailable</abbr>", escape(reason))
        }
    }
}

fn per_unit(page: &mut String, jobs: &[JobSummary]) -> fmt::Result {
    if jobs.is_empty() {
        return Ok(());
    }
    writeln!(page, "<h3>Per useful unit</h3>")?;
    let head = [
        "Placement",
        "Above idle, J",
        "J/request",
        "J/good request",
        "J/output token",
        "J/(in+out) token",
        "Output tokens/J",
        "Energy-delay product, J s",
    ];
    let mut table = Table::new(&head, 1);
    for job in jobs {
        let energy = &job.energy;
        table.row(vec![
            placement_name(job),
            cell(&energy.above_idle_j),
            cell(&energy.j_per_request),
            cell(&energy.j_per_good_request),
            cell(&energy.j_per_output_token),
            cell(&energy.j_per_token),
            cell(&energy.output_tokens_per_j),
            cell(&energy.energy_delay_product_j_s),
        ]);
    }
    table.write(page)?;
    writeln!(
        page,
        "<p class=\"note\">All but the first are of the gross energy of the machine. The energy-delay product is gross energy per request times mean end-to-end latency.</p>"
    )
}

fn attribution(page: &mut String, jobs: &[JobSummary]) -> fmt::Result {
    let has_any = |job: &JobSummary| job.energy.attribution.meter_j.value.is_some();
    if !jobs.iter().any(has_any) {
        return Ok(());
    }
    writeln!(page, "<h3>Whose energy it was</h3>")?;
    let head = [
        "Placement",
        "Requests, J",
        "Idle, J",
        "Unattributed, J",
        "Meter, J",
        "Median request, J",
        "J/prompt token",
        "J/generated token",
    ];
    let mut table = Table::new(&head, 1);
    let fitted = |value: Option<f64>| value.map_or_else(|| "not fitted".to_owned(), significant);
    for job in jobs {
        let split = &job.energy.attribution;
        table.row(vec![
            placement_name(job),
            cell(&split.requests_j),
            cell(&split.idle_j),
            cell(&split.unattributed_j),
            cell(&split.meter_j),
            with_open(&split.request_p50_j, split.request_p50_uncertainty_j),
            fitted(split.prefill_j_per_token),
            fitted(split.decode_j_per_token),
        ]);
    }
    table.write(page)?;
    writeln!(
        page,
        "<p class=\"note\">{}. Energy above idle is split in intervals of 100 ms by the tokens that requests worked on; values per request are derived (requests.csv has each), and open by one refresh of the meter at their ends and by the idle power.</p>",
        invariant(jobs)
    )
}

/// The value and what is open of it.
fn with_open(quantity: &Quantity, open: Option<f64>) -> String {
    let open = open.map_or_else(String::new, |open| format!(" &#177; {}", significant(open)));
    cell(quantity) + &open
}

/// Whether requests, idle and unattributed energy add up to the meter: by how much they miss it at most.
fn invariant(jobs: &[JobSummary]) -> String {
    let misses = jobs.iter().filter_map(|job| {
        let split = &job.energy.attribution;
        let parts = split.requests_j.value? + split.idle_j.value? + split.unattributed_j.value?;
        Some((parts - split.meter_j.value?).abs())
    });
    let miss_j = misses.fold(0.0, f64::max);
    format!(
        "Requests + idle + unattributed = meter, to {} J at most",
        significant(miss_j)
    )
}

fn channels(page: &mut String, data: &Data<'_>, meters: &MeterSummary) -> fmt::Result {
    writeln!(page, "<h3>Meters</h3>")?;
    let mut table = Table::new(&["Device", "Covers", "Quantity", "Source"], 4);
    for job in &data.summary.jobs {
        table.named_column(&format!("{}, J", job.phase));
    }
    for (index, channel) in meters.channels.iter().enumerate() {
        let counted = if channel.counted { " (in the sum)" } else { "" };
        let mut row = vec![
            escape(&channel.device),
            format!("{}{counted}", escape(&channel.scope)),
            escape(&channel.quantity),
            escape(&channel.source),
        ];
        for job in &data.summary.jobs {
            let energy = job.energy.channels_j.get(index);
            row.push(energy.map_or_else(|| "-".to_owned(), cell));
        }
        table.row(row);
    }
    table.write(page)?;
    for job in &data.summary.jobs {
        for gap in &job.energy.counter_gaps {
            let verdict = if job.energy.suspect {
                "suspect"
            } else {
                "agrees"
            };
            writeln!(
                page,
                "<p>{}: {}: the integral of instantaneous power is {:+.2} % off its energy counter ({verdict}).</p>",
                escape(&job.phase),
                escape(&gap.device),
                gap.relative * 100.0,
            )?;
        }
    }
    let idle = |quantity: &Quantity| match quantity.value {
        Some(value) => format!("{} W", significant(value)),
        None => unavailable(quantity),
    };
    writeln!(
        page,
        "<p>Idle power before the phases: {}; after: {}.</p>",
        idle(&meters.idle_before_w),
        idle(&meters.idle_after_w)
    )?;
    idle_channels(page, meters)?;
    if let Some(cost) = &meters.overhead {
        writeln!(
            page,
            "<p>Metering: {} readings of all channels a second, {:.2} % of one CPU, {:.1} us per reading (p99 {:.1} us), {:.2} % late.</p>",
            significant(cost.rate_hz),
            cost.cpu_share * 100.0,
            cost.read_p50_us,
            cost.read_p99_us,
            cost.late_share * 100.0,
        )?;
        overhead(page, cost)?;
    }
    Ok(())
}

/// What every meter read before the phases, and how steady that was.
fn idle_channels(page: &mut String, meters: &MeterSummary) -> fmt::Result {
    if meters.idle_channels.is_empty() {
        return Ok(());
    }
    let percent = |variation: &Quantity| match variation.value {
        Some(share) => format!("{:.2} %", share * 100.0),
        None => cell(variation),
    };
    let head = [
        "Before the phases",
        "Covers",
        "Quantity",
        "Mean, W",
        "Varies by",
    ];
    let mut table = Table::new(&head, 3);
    for channel in &meters.idle_channels {
        table.row(vec![
            escape(&channel.device),
            escape(&channel.scope),
            escape(&channel.quantity),
            cell(&channel.mean_w),
            percent(&channel.variation),
        ]);
    }
    table.row(vec![
        "the machine".to_owned(),
        "all that is in the sum".to_owned(),
        String::new(),
        cell(&meters.idle_before_w),
        percent(&meters.idle_variation),
    ]);
    table.write(page)?;
    writeln!(
        page,
        "<p class=\"small\">It varies by the standard deviation of power over half seconds, over their mean.</p>"
    )
}

/// What was looked for and cannot be read.
fn not_metered(page: &mut String, meters: &MeterSummary) -> fmt::Result {
    if meters.unavailable.is_empty() {
        return Ok(());
    }
    writeln!(page, "<h3>Not metered</h3>")?;
    let mut table = Table::new(&["Source", "Why"], 2);
    for missing in &meters.unavailable {
        table.row(vec![escape(&missing.source), escape(&missing.reason)]);
    }
    table.write(page)
}

/// What reading each meter cost, and what eight GPUs would cost.
fn overhead(page: &mut String, cost: &MeteringSummary) -> fmt::Result {
    let head = [
        "Meter",
        "Devices",
        "Channels",
        "us per reading, median",
        "p99",
    ];
    let mut table = Table::new(&head, 1);
    for meter in &cost.meters {
        table.row(vec![
            escape(&meter.meter),
            meter.devices.to_string(),
            meter.channels.to_string(),
            significant(meter.read_p50_us),
            significant(meter.read_p99_us),
        ]);
    }
    table.write(page)?;
    if let Some(share) = cost.eight_gpus_cpu_share {
        writeln!(
            page,
            "<p>Eight such GPUs would take {:.2} % of one CPU at this rate (computed from the means; clocks, temperature and processes five times a second{}).</p>",
            share * 100.0,
            cost.state_p50_us.map_or_else(String::new, |us| format!(
                ", {} us for all of these GPUs",
                significant(us)
            )),
        )?;
    }
    Ok(())
}

/// What radios used by published models: a section of its own, so that nobody takes it for metered.
fn radio(page: &mut String, jobs: &[JobSummary]) -> fmt::Result {
    let radios: Vec<(&JobSummary, &RadioSummary)> = jobs
        .iter()
        .filter_map(|job| Some((job, job.radio.as_ref()?)))
        .collect();
    let Some((_, first)) = radios.first() else {
        return Ok(());
    };
    writeln!(page, "<h3>Radio (estimated, not measured)</h3>")?;
    let head = [
        "Placement",
        "Link",
        "In use down, %",
        "In use up, %",
        "User equipment, J",
        "Base station, J",
    ];
    let mut table = Table::new(&head, 2);
    let percent = |share: Option<f64>| {
        share.map_or_else(|| "-".to_owned(), |share| significant(share * 100.0))
    };
    let bounds = |least: &Quantity, most: &Quantity| match (least.value, most.value) {
        (Some(least), Some(most)) => format!("{} to {}", significant(least), significant(most)),
        _ => cell(least),
    };
    for (job, radio) in &radios {
        table.row(vec![
            placement_name(job),
            escape(&radio.link),
            percent(radio.active_down),
            percent(radio.active_up),
            bounds(&radio.device_least_j, &radio.device_most_j),
            bounds(&radio.base_least_j, &radio.base_most_j),
        ]);
    }
    table.write(page)?;
    let model = first.device_least_j.source.as_deref().unwrap_or_default();
    writeln!(
        page,
        "<p class=\"note\">By published models, for the bytes of the record: {}. The lower bound has both sides asleep while nothing crosses the link, the upper bound awake. These figures are part of no other.</p>",
        escape(model)
    )
}

/// Power of the counted channels over each phase.
fn power_charts(page: &mut String, data: &Data<'_>) -> fmt::Result {
    let results = &data.records.results;
    let Some(agent) = &results.agent else {
        return Ok(());
    };
    let mut charts = Vec::new();
    let mut top_w: f64 = 0.0;
    for phase in &results.phases {
        let Some(found) = intervals(&agent.meters, &phase.meters, STEP_NS) else {
            continue;
        };
        let points: Vec<(f64, f64)> = found
            .iter()
            .map(|interval| {
                (
                    ns_to_s(interval.from_ns),
                    interval.energy_j / interval.seconds(),
                )
            })
            .collect();
        top_w = points.iter().map(|point| point.1).fold(top_w, f64::max);
        if let Some(last) = found.last() {
            charts.push((phase.name.clone(), points, ns_to_s(last.to_ns)));
        }
    }
    if charts.is_empty() {
        return Ok(());
    }
    writeln!(page, "<figure><div class=\"row\">")?;
    for (name, points, end) in charts {
        let x = Axis::linear(0.0, end, "time since T0, s");
        let y = Axis::linear(0.0, top_w.max(1e-3) * 1.05, "power, W");
        let description = format!("Power of the machine in {name}");
        let mut chart = Chart::new((330.0, 200.0), x, y, &description);
        if let Some(idle_w) = data
            .summary
            .meters
            .as_ref()
            .and_then(|meters| meters.idle_w.value)
        {
            chart.level(idle_w, "bound");
        }
        chart.steps(&points, end, &series_class(0));
        writeln!(page, "<div><h3>{}</h3>", escape(&name))?;
        page.push_str(&chart.render());
        writeln!(page, "</div>")?;
    }
    writeln!(
        page,
        "</div><figcaption>Power of all counted channels in steps of 100 ms; the line is idle power.</figcaption></figure>"
    )
}
