//! Latencies per placement: the table with percentiles and intervals, and the distributions.

use std::fmt::{self, Write};

use hexloop_workloads::job::Outcome;

use super::Data;
use super::html::{Table, escape, legend};
use super::svg::{Axis, Chart};
use crate::format::{count_to_f64, length, ns_to_ms, significant};
use crate::summary::{Distribution, JobSummary, PercentileInterval};
use hexloop_statistics::{P50, P95, P99, Quantile, needed_samples};

/// The class that gives a placement its colour and dash, by its number.
pub(super) fn series_class(index: usize) -> String {
    format!("s{} d{}", index % 4, index % 3)
}

pub(super) fn section(page: &mut String, data: &Data<'_>) -> fmt::Result {
    writeln!(page, "<h2>Latency per placement</h2>")?;
    if data.summary.jobs.is_empty() {
        return writeln!(page, "<p>No placement was played.</p>");
    }
    let mut requests = Table::new(
        &[
            "Placement",
            "Offered",
            "Completed",
            "Unfinished",
            "Failed",
            "Tokens",
        ],
        1,
    );
    for job in &data.summary.jobs {
        requests.row(vec![
            placement_name(job),
            job.requests.to_string(),
            job.completed.to_string(),
            job.unfinished.to_string(),
            job.failed.to_string(),
            job.output_tokens.to_string(),
        ]);
    }
    requests.write(page)?;
    let head = [
        "Latency in ms",
        "Placement",
        "n",
        "mean",
        "p50",
        "p95",
        "p99",
        "max",
    ];
    let mut table = Table::new(&head, 2);
    for (name, pick) in METRICS {
        for (index, job) in data.summary.jobs.iter().enumerate() {
            let distribution = pick(job);
            let first = if index == 0 {
                name.to_owned()
            } else {
                String::new()
            };
            table.row(row(first, placement_name(job), distribution));
        }
    }
    table.write(page)?;
    writeln!(
        page,
        "<p class=\"small\">Measured from the moment a request was scheduled, whether or not it could be sent then. In brackets: 95&nbsp;% interval by block bootstrap. A request that never ended counts as longer than all that did. A percentile that <var>n</var> cannot carry is not printed: p50 needs 7, p95 needs 90, p99 needs 459.</p>"
    )?;
    distributions(page, data)
}

type Pick = fn(&JobSummary) -> &Distribution;

const METRICS: [(&str, Pick); 5] = [
    ("TTFT", |job| &job.ttft_ms),
    ("TTFT from send", |job| &job.ttft_from_send_ms),
    ("TPOT", |job| &job.tpot_ms),
    ("ITL (pooled)", |job| &job.itl_ms),
    ("E2E", |job| &job.e2e_ms),
];

pub(super) fn placement_name(job: &JobSummary) -> String {
    let over = match job.transport.as_str() {
        "tcp" => "",
        _ => ", over QUIC",
    };
    match job.layers_on_device {
        Some(layers) => format!("{}{over} (k&nbsp;=&nbsp;{layers})", escape(&job.phase)),
        None => escape(&job.phase) + over,
    }
}

fn row(name: String, placement: String, distribution: &Distribution) -> Vec<String> {
    let mut row = cells(name, distribution);
    row.insert(1, placement);
    row
}

/// A name, and what there is to say of a distribution.
pub(super) fn cells(name: String, distribution: &Distribution) -> Vec<String> {
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), significant);
    let percentile =
        |quantile: Quantile, value: Option<f64>, interval: Option<PercentileInterval>| {
            let Some(value) = value else {
                let needed = needed_samples(quantile, 0);
                let why = if distribution.n < needed {
                    format!("needs {needed}")
                } else {
                    "never ended".to_owned()
                };
                return format!("<span class=\"null\">{why}</span>");
            };
            let interval = interval.map_or_else(String::new, |interval| {
                let high = interval
                    .high
                    .map_or_else(|| "never".to_owned(), significant);
                let low = significant(interval.low);
                format!(" <span class=\"interval\">[{low}, {high}]</span>")
            });
            format!("{}{interval}", significant(value))
        };
    vec![
        name,
        distribution.n.to_string(),
        number(distribution.mean),
        percentile(P50, distribution.p50, distribution.p50_interval),
        percentile(P95, distribution.p95, distribution.p95_interval),
        percentile(P99, distribution.p99, distribution.p99_interval),
        number(distribution.max),
    ]
}

/// The values of one metric in one phase, in order of size.
fn values(data: &Data<'_>, phase: &str, metric: usize) -> Vec<f64> {
    let Some(recorded) = data.records.results.phase(phase) else {
        return Vec::new();
    };
    let mut values = Vec::new();
    for record in recorded.requests.values() {
        let (Some(&first), Some(&last)) = (record.token_ns.first(), record.token_ns.last()) else {
            continue;
        };
        let completed = record.outcome == Outcome::Completed;
        let gaps = length(&record.token_ns) - 1;
        match metric {
            0 => values.push(ns_to_ms(first.saturating_sub(record.scheduled_ns))),
            1 if completed && gaps > 0 => {
                values.push(ns_to_ms(last.saturating_sub(first)) / count_to_f64(gaps));
            }
            2 if completed => values.push(ns_to_ms(last.saturating_sub(record.scheduled_ns))),
            _ => {}
        }
    }
    values.sort_by(f64::total_cmp);
    values
}

fn distributions(page: &mut String, data: &Data<'_>) -> fmt::Result {
    let entries: Vec<(String, String)> = data
        .summary
        .jobs
        .iter()
        .enumerate()
        .map(|(index, job)| (series_class(index), placement_name(job)))
        .collect();
    writeln!(page, "<figure>")?;
    legend(page, &entries)?;
    writeln!(page, "<div class=\"row\">")?;
    for (metric, name) in ["TTFT", "TPOT", "E2E"].into_iter().enumerate() {
        let series: Vec<Vec<f64>> = data
            .summary
            .jobs
            .iter()
            .map(|job| values(data, &job.phase, metric))
            .collect();
        let all = || {
            series
                .iter()
                .flatten()
                .copied()
                .filter(|value| *value > 0.0)
        };
        let low = all().fold(f64::INFINITY, f64::min);
        let high = all().fold(0.0, f64::max);
        writeln!(page, "<div><h3>{name}</h3>")?;
        if high > 0.0 {
            let x = if high / low > 30.0 {
                Axis::log(low, high, "ms (log)")
            } else {
                Axis::linear(0.0, high * 1.04, "ms")
            };
            let end = x.to;
            let y = Axis::linear(0.0, 1.0, "share of offered requests");
            let description = format!("Distribution of {name} per placement");
            let mut chart = Chart::new((330.0, 240.0), x, y, &description);
            for (index, values) in series.iter().enumerate() {
                let offered = data.summary.jobs.get(index).map_or(0, |job| job.requests);
                let count = count_to_f64(offered.max(length(values))).max(1.0);
                let mut points = vec![(0.0, 0.0)];
                let mut below = 0.0;
                for value in values {
                    below += 1.0;
                    points.push((*value, below / count));
                }
                if values.is_empty() {
                    continue;
                }
                chart.steps(&points, end, &series_class(index));
            }
            page.push_str(&chart.render());
        } else {
            writeln!(page, "<p class=\"small\">no values</p>")?;
        }
        writeln!(page, "</div>")?;
    }
    writeln!(
        page,
        "</div>\n<figcaption>Cumulative distributions: the share of all offered requests that were at most so slow. A curve that ends below 1 belongs to a placement with requests that never ended.</figcaption>\n</figure>"
    )
}
