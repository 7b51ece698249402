//! `report.html`: what a run found, on one page that needs neither network nor scripts.
//!
//! A pure function of the records, byte for byte: it reads no clock and no machine. Everything
//! that a user wrote is escaped. Charts are drawn here as SVG.

mod background;
mod bytes;
mod definitions;
mod energy;
pub(crate) mod html;
mod isolation;
mod latency;
mod loads;
mod resources;
mod setup;
mod studies;
pub(crate) mod svg;
mod timeline;
mod traffic;
mod training;
mod trust;

use std::fmt::{self, Write};

use crate::format::grouped;
use crate::record::RunRecords;
use crate::summary::{RunStatus, Summary};
use html::escape;

const STYLE: &str = include_str!("report/style.css");

/// What the sections are drawn from.
struct Data<'a> {
    records: &'a RunRecords,
    summary: &'a Summary,
}

/// The report of a run.
///
/// # Errors
/// Never: it is written to memory.
pub fn render(records: &RunRecords, summary: &Summary) -> Result<String, fmt::Error> {
    let data = Data { records, summary };
    let mut page = String::with_capacity(1 << 18);
    let is_stub = summary
        .meters
        .as_ref()
        .is_some_and(|meters| meters.source == "stub");
    let mark = if is_stub { " [STUB METERS]" } else { "" };
    let title = format!("{}{mark}", escape(&summary.experiment));
    writeln!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">"
    )?;
    writeln!(
        page,
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
    )?;
    writeln!(
        page,
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    )?;
    writeln!(
        page,
        "<title>{title} - hexloop report</title>\n<style>\n{STYLE}</style>\n</head>"
    )?;
    writeln!(page, "<body>\n<main>")?;
    head(&mut page, &data)?;
    trust::verdict_box(&mut page, &data)?;
    latency::section(&mut page, &data)?;
    traffic::section(&mut page, &data)?;
    studies::section(&mut page, &data)?;
    loads::section(&mut page, &data)?;
    background::section(&mut page, &data)?;
    timeline::section(&mut page, &data)?;
    bytes::section(&mut page, &data)?;
    resources::section(&mut page, &data)?;
    energy::section(&mut page, &data)?;
    trust::expectations(&mut page, &data)?;
    trust::checks(&mut page, &data)?;
    trust::end_to_end(&mut page, &data)?;
    setup::section(&mut page, &data)?;
    isolation::section(&mut page, &data)?;
    definitions::section(&mut page)?;
    setup::environment(&mut page, &data)?;
    writeln!(page, "</main>\n</body>\n</html>")?;
    Ok(page)
}

fn head(page: &mut String, data: &Data<'_>) -> fmt::Result {
    let summary = data.summary;
    let is_stub = summary
        .meters
        .as_ref()
        .is_some_and(|meters| meters.source == "stub");
    let mark = if is_stub { " [STUB METERS]" } else { "" };
    writeln!(
        page,
        "<header>\n<h1>{}{mark}</h1>",
        escape(&summary.experiment)
    )?;
    let requests: u64 = summary.jobs.iter().map(|job| job.requests).sum();
    let tokens: u64 = summary.jobs.iter().map(|job| job.output_tokens).sum();
    let placements = if summary.jobs.is_empty() {
        String::new()
    } else {
        format!(
            " {} requests and {} generated tokens under {} placements.",
            grouped(requests),
            grouped(tokens),
            summary.jobs.len(),
        )
    };
    writeln!(
        page,
        "<p class=\"sub\">Run <code>{}</code>, started {}, seed {}{}.{placements}</p>\n</header>",
        escape(&summary.run),
        escape(&summary.started),
        summary.seed,
        summary
            .preset
            .as_ref()
            .map_or_else(String::new, |preset| format!(", preset {}", escape(preset))),
    )?;
    if summary.status == RunStatus::Interrupted {
        let why = summary
            .failure
            .as_deref()
            .unwrap_or("it was stopped before its end");
        writeln!(
            page,
            "<div class=\"box interrupted\"><strong>This run did not come to its end:</strong> {}. What follows is what was recorded until then{}.</div>",
            escape(why),
            if data.records.torn {
                "; its last event was torn and left out"
            } else {
                ""
            },
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
