//! `hexloop trace show`: a trace as charts in the terminal, as SVG or as a page, or as rows.

mod overview;
mod page;
mod terminal;

use std::io::IsTerminal as _;
use std::path::Path;

use hexloop_traces::UNLIMITED_RATE_BPS;
use hexloop_traces::format::TraceReader;

use super::super::{Voice, print, print_json};
use super::unusable;
use crate::cli::trace_files::TraceShowArguments;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail, Outcome};
use crate::format::{bit_rate, count_to_f64, milliseconds, ns_to_s};
use crate::record::write_file;
use overview::Overview;

/// Rows that are printed as JSON unless a number is given.
const JSON_ROWS: usize = 20;

/// The points of a chart in a file.
const FILE_POINTS: usize = 900;

pub(super) fn show(arguments: &TraceShowArguments, voice: Voice) -> Outcome {
    let path = &arguments.trace;
    if let Some(rows) = arguments.rows {
        return show_rows(path, rows, voice);
    }
    if arguments.svg.is_some() || arguments.html.is_some() {
        let overview = read(path, FILE_POINTS)?;
        if let Some(output) = &arguments.svg {
            save(output, &page::svg(&overview))?;
        }
        if let Some(output) = &arguments.html {
            save(output, &page::html(&overview))?;
        }
        return Ok(ExitCode::Done);
    }
    if voice.json {
        return show_rows(path, JSON_ROWS, voice);
    }
    let output = std::io::stdout();
    let colour =
        output.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    let width = arguments.width.unwrap_or_else(|| {
        let size = console::Term::stdout().size_checked();
        size.map_or(80, |(_, columns)| usize::from(columns))
    });
    let width = width.clamp(terminal::NARROWEST, terminal::WIDEST);
    let overview = read(path, terminal::points(width))?;
    print(&terminal::draw(&overview, width, colour))?;
    Ok(ExitCode::Done)
}

fn open(path: &Path) -> Result<TraceReader, Failure> {
    TraceReader::open(path).map_err(|error| unusable(path, error))
}

fn read(path: &Path, points: usize) -> Result<Overview, Failure> {
    Overview::of(open(path)?, points).map_err(|error| unusable(path, error))
}

fn save(path: &Path, text: &str) -> Result<(), Failure> {
    write_file(path, text.as_bytes()).or_fail(ExitCode::Failed, || {
        format!("cannot write the charts to {}", path.display())
    })
}

fn show_rows(path: &Path, most: usize, voice: Voice) -> Outcome {
    let mut reader = open(path)?;
    let mut rows = Vec::new();
    let mut more = false;
    while let Some(row) = reader.next_row().map_err(|error| unusable(path, error))? {
        if rows.len() == most {
            more = true;
            break;
        }
        rows.push(row);
    }
    let metadata = reader.metadata();
    if voice.json {
        print_json(&serde_json::json!({ "metadata": metadata, "rows": rows }))?;
        return Ok(ExitCode::Done);
    }
    let mut text = format!(
        "{} ({:.3} s, made by {})\n",
        metadata.scenario,
        ns_to_s(metadata.duration_ns),
        metadata.generator
    );
    for note in &metadata.notes {
        let line = format!("  note: {note}\n");
        text.push_str(&line);
    }
    text.push_str("       t, s           down             up   delay down     delay up\n");
    for row in &rows {
        let line = format!(
            "{:11.6} {:>14} {:>14} {:>12} {:>12}  {}\n",
            ns_to_s(row.t_ns),
            rate(row.down.rate_bps),
            rate(row.up.rate_bps),
            milliseconds(row.down.delay_ns),
            milliseconds(row.up.delay_ns),
            row.diagnostics.event.as_deref().unwrap_or_default()
        );
        text.push_str(&line);
    }
    if more {
        text.push_str("  ... (a larger --rows shows more)\n");
    }
    print(&text)?;
    Ok(ExitCode::Done)
}

fn rate(bps: u64) -> String {
    if bps == UNLIMITED_RATE_BPS {
        "unlimited".to_owned()
    } else {
        bit_rate(count_to_f64(bps))
    }
}

#[cfg(test)]
mod tests;
