//! `hexloop trace stats`: what a trace amounts to, row by row.

use std::fmt::Write as _;
use std::path::Path;

use hexloop_traces::format::TraceReader;
use hexloop_traces::stats::long::{
    Crossing, DirectionStatistics, LongStatistics, Quantiles, long_statistics,
};
use hexloop_traces::{Gaps, TraceStatus, UNLIMITED_RATE_BPS};
use serde::Serialize;

use super::super::{Voice, print, print_json};
use super::unusable;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::format::{bit_rate, count_to_f64, grouped, milliseconds, ns_to_ms, ns_to_s};

#[derive(Serialize)]
struct Document {
    scenario: String,
    status: TraceStatus,
    duration_s: f64,
    outages_s: Vec<[f64; 2]>,
    /// `null` where rows are as regular to the end as they begin, or never are.
    gaps: Option<Gaps>,
    #[serde(flatten)]
    statistics: LongStatistics,
}

pub(super) fn stats(path: &Path, voice: Voice) -> Outcome {
    let reader = TraceReader::open(path).map_err(|error| unusable(path, error))?;
    let metadata = reader.metadata().clone();
    drop(reader);
    let statistics =
        long_statistics(|| TraceReader::open(path)).map_err(|error| unusable(path, error))?;
    let outages = statistics.outages_ns.iter();
    let document = Document {
        scenario: metadata.scenario,
        status: metadata.status,
        duration_s: ns_to_s(metadata.duration_ns),
        gaps: gaps(path, metadata.duration_ns)?,
        outages_s: outages.map(|outage| outage.map(ns_to_s)).collect(),
        statistics,
    };
    if voice.json {
        print_json(&document)?;
    } else {
        print(&text(&document))?;
    }
    Ok(ExitCode::Done)
}

/// What the rows leave out.
fn gaps(path: &Path, duration_ns: u64) -> Result<Option<Gaps>, Failure> {
    let mut reader = TraceReader::open(path).map_err(|error| unusable(path, error))?;
    let mut failed = None;
    let rows = std::iter::from_fn(|| match reader.next_row() {
        Ok(row) => row.map(|row| (row.t_ns, [row.down, row.up])),
        Err(error) => {
            failed = Some(error);
            None
        }
    });
    let gaps = Gaps::between(rows, duration_ns);
    match failed {
        Some(error) => Err(unusable(path, error)),
        None => Ok(gaps),
    }
}

/// As many outages are printed one by one.
const SHOWN_OUTAGES: usize = 10;

// Writing to a String cannot fail; the results of `write!` are dropped for that reason.
fn text(document: &Document) -> String {
    let statistics = &document.statistics;
    let mut text = format!(
        "{}: {} rows over {:.3} s\n  rows' SHA-256  {}\n",
        document.scenario,
        grouped(statistics.rows),
        document.duration_s,
        statistics.rows_sha256
    );
    if let Some(gaps) = &document.gaps {
        let _ = writeln!(text, "  {gaps}");
    }
    for direction in &statistics.directions {
        direction_text(direction, &mut text);
    }
    if let Some(sinr) = &statistics.sinr {
        let db = |cdb: i64| {
            let cdb = i32::try_from(cdb).unwrap_or_default();
            format!("{:.2}", f64::from(cdb) / 100.0)
        };
        let _ = writeln!(
            text,
            "  SINR      {} to {} dB, p5 {}, p50 {}, p95 {}; rises through its median {} times a \
             second",
            db(sinr.min_cdb),
            db(sinr.max_cdb),
            db(sinr.p5_cdb),
            db(sinr.p50_cdb),
            db(sinr.p95_cdb),
            frequency(&sinr.median_crossings)
        );
    }
    let coherence = statistics.coherence.time_ns.map_or_else(
        || "not known".to_owned(),
        |ns| format!("{:.3} ms", ns_to_ms(ns)),
    );
    let _ = writeln!(
        text,
        "  coherence {coherence}: {}",
        statistics.coherence.how
    );
    if let Some(changes) = statistics.cell_changes {
        let _ = writeln!(text, "  handovers {} changes of the cell", grouped(changes));
    }
    if !statistics.events.is_empty() {
        let events = statistics.events.iter();
        let events: Vec<String> = events
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        let _ = writeln!(text, "  events    {}", events.join(", "));
    }
    for [from, to] in document.outages_s.iter().take(SHOWN_OUTAGES) {
        let _ = writeln!(text, "  outage from {from:.3} s to {to:.3} s");
    }
    let others = document.outages_s.len().saturating_sub(SHOWN_OUTAGES);
    if others > 0 {
        let _ = writeln!(
            text,
            "  and {others} other outages (--json lists a thousand)"
        );
    }
    text
}

fn rate(bps: u64) -> String {
    if bps == UNLIMITED_RATE_BPS {
        "unlimited".to_owned()
    } else {
        bit_rate(count_to_f64(bps))
    }
}

fn spread(quantiles: &Quantiles, show: fn(u64) -> String) -> String {
    format!(
        "{} to {}, p5 {}, p50 {}, p95 {}, p99 {}",
        show(quantiles.min),
        show(quantiles.max),
        show(quantiles.p5),
        show(quantiles.p50),
        show(quantiles.p95),
        show(quantiles.p99)
    )
}

/// Three digits of a frequency.
fn frequency(crossing: &Crossing) -> String {
    format!("{:.3}", crossing.per_second)
}

fn direction_text(direction: &DirectionStatistics, text: &mut String) {
    let name = direction.direction.name();
    let variation = direction
        .rate_variation
        .map_or_else(|| "-".to_owned(), |variation| format!("{variation:.3}"));
    let _ = writeln!(
        text,
        "  {name:4} rate mean {}, coefficient of variation {variation}; {} bytes\n            {}",
        bit_rate(direction.rate_mean_bps),
        grouped(direction.bytes),
        spread(&direction.rate_bps, rate)
    );
    let lags = direction.rate_autocorrelation.iter().map(|lag| {
        let seconds = lag.lag_ns / 1_000_000_000;
        let value = lag
            .correlation
            .map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
        format!("{value} at {seconds} s")
    });
    let lags: Vec<String> = lags.collect();
    let _ = writeln!(
        text,
        "            autocorrelation {}; rises through its median {} and a tenth of it {} times a \
         second",
        lags.join(", "),
        frequency(&direction.median_crossings),
        frequency(&direction.fade_crossings)
    );
    let _ = writeln!(
        text,
        "  {name:4} delay {}; loss {:.4} %",
        spread(&direction.delay_ns, milliseconds),
        direction.loss_mean * 100.0
    );
    let runs = &direction.outage_runs;
    if runs.count > 0 {
        let _ = writeln!(
            text,
            "  {name:4} out for {:.3} % of the time, {} times: median {}, p90 {}, longest {}",
            direction.outage_share * 100.0,
            grouped(runs.count),
            milliseconds(runs.median_ns),
            milliseconds(runs.p90_ns),
            milliseconds(runs.max_ns)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hexloop_traces::format::write_file;
    use hexloop_traces::generate::control::{self, Link};

    #[test]
    fn the_figures_of_a_trace_are_told_in_words() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trace.parquet");
        let steps = [
            (1_000_000_000, 8_000_000),
            (500_000_000, 0),
            (1_000_000_000, 4_000_000),
        ];
        let trace = control::step(Link::new(0, 5_000_000, 0), &steps).unwrap();
        write_file(&path, &trace).unwrap();
        let statistics = long_statistics(|| TraceReader::open(&path)).unwrap();
        let document = Document {
            scenario: "x".to_owned(),
            status: TraceStatus::Control,
            duration_s: 2.5,
            outages_s: vec![[1.0, 1.5]],
            gaps: Some(Gaps {
                count: 2,
                total_ns: 3_000_000_000,
                longest_at_ns: 500_000_000,
                longest_ns: 2_000_000_000,
                step_ns: 1_000_000,
            }),
            statistics,
        };
        let text = text(&document);
        for part in [
            "3 rows over 2.500 s",
            "2 gaps in rows that are otherwise 0.001 s apart",
            "the longest 2 s from 0.5 s on",
            "rate mean 4.80 Mbit/s",
            "out for 20.000 % of the time, 1 times: median 500.000 ms",
            "outage from 1.000 s to 1.500 s",
            "- at 5 s",
            "delay 5.000 ms to 5.000 ms",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
    }
}
