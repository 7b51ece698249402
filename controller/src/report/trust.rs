//! Whether to believe the run: verdict, expectations, every bound.

use std::fmt::{self, Write};

use super::Data;
use super::html::{Table, escape};
use crate::record::end_to_end;
use crate::verdict::VerdictOutcome;

pub(super) fn verdict_box(page: &mut String, data: &Data<'_>) -> fmt::Result {
    let verdict = &data.summary.verdict;
    let judged = verdict
        .checks
        .iter()
        .filter(|check| check.held.is_some())
        .count();
    match verdict.outcome {
        VerdictOutcome::Valid => writeln!(
            page,
            "<div class=\"box valid\"><strong class=\"verdict\">VALID</strong> &ensp;The emulation kept to all of its {judged} bounds, so the results below are about the system under test."
        )?,
        VerdictOutcome::Invalid => {
            writeln!(
                page,
                "<div class=\"box invalid\"><strong class=\"verdict\">INVALID</strong> &ensp;The emulation was not good enough to believe the results below:\n<ul>"
            )?;
            for reason in &verdict.reasons {
                writeln!(
                    page,
                    "<li><code>{}</code> {}: {}</li>",
                    reason.code.name(),
                    escape(&reason.subject),
                    escape(&reason.message)
                )?;
            }
            writeln!(page, "</ul>")?;
        }
    }
    for note in &verdict.notes {
        writeln!(page, "<p><strong>Note:</strong> {}</p>", escape(note))?;
    }
    writeln!(page, "</div>")?;
    if !data.summary.warnings.is_empty() || !data.summary.leftovers.is_empty() {
        writeln!(page, "<div class=\"box\"><strong>Warnings</strong><ul>")?;
        for warning in &data.summary.warnings {
            writeln!(page, "<li>{}</li>", escape(warning))?;
        }
        for leftover in &data.summary.leftovers {
            writeln!(page, "<li>not taken down: {}</li>", escape(leftover))?;
        }
        writeln!(page, "</ul></div>")?;
    }
    Ok(())
}

pub(super) fn expectations(page: &mut String, data: &Data<'_>) -> fmt::Result {
    let expectations = &data.summary.expectations;
    if expectations.is_empty() {
        return Ok(());
    }
    writeln!(page, "<h2>Expectations</h2>")?;
    writeln!(
        page,
        "<p>Claims that the experiment file makes about its results, judged by the records. <em>Undecided</em> means that the records hold no case to judge by.</p>"
    )?;
    let mut table = Table::new(&["Expectation", "Claim", "Outcome", "Numbers"], 4);
    for expectation in expectations {
        let outcome = expectation.outcome.name();
        table.row(vec![
            escape(&expectation.name),
            escape(&expectation.claim),
            format!("<strong class=\"{outcome}\">{outcome}</strong>"),
            escape(&expectation.detail),
        ]);
    }
    table.write(page)
}

/// The latest end-to-end calibration of this machine, as the run found it when it began.
pub(super) fn end_to_end(page: &mut String, data: &Data<'_>) -> fmt::Result {
    let environment = &data.records.environment;
    writeln!(page, "<h3>End-to-end calibration of this machine</h3>")?;
    let Some(found) = &environment.end_to_end else {
        return writeln!(
            page,
            "<p>None yet: <code>hexloop run topologies/{}.toml</code></p>",
            end_to_end::EXPERIMENT
        );
    };
    let place = if found.is_of(&environment.machine) {
        "on this machine and kernel".to_owned()
    } else {
        format!(
            "on another machine or kernel than this run: {}, {} usable CPUs, kernel {}",
            escape(&found.cpu_model),
            found.cpus,
            escape(&found.kernel)
        )
    };
    writeln!(
        page,
        "<p>Run <code>{}</code> of {}{}, {place}: verdict {}, {} of {} claims held{}.</p>",
        escape(&found.run),
        escape(&found.started),
        found
            .preset
            .as_ref()
            .map_or_else(String::new, |preset| format!(
                " (preset {})",
                escape(preset)
            )),
        escape(&found.verdict),
        found.held,
        found.held + crate::format::length(&found.others),
        found
            .rates
            .as_ref()
            .map_or_else(String::new, |rates| format!("; {}", escape(rates)))
    )?;
    if !found.others.is_empty() {
        writeln!(page, "<ul>")?;
        for claim in &found.others {
            writeln!(page, "<li>{}</li>", escape(claim))?;
        }
        writeln!(page, "</ul>")?;
    }
    Ok(())
}

pub(super) fn checks(page: &mut String, data: &Data<'_>) -> fmt::Result {
    writeln!(page, "<h2>Verdict in numbers</h2>")?;
    writeln!(
        page,
        "<p>Bytes and arrival times are taken at the receiving interface, never from the shaper's own books. A saturating flow in each direction precedes the jobs; while they run, only windows count in which the link's queue was never empty.</p>"
    )?;
    let mut table = Table::new(&["About", "Quantity", "Measured", "Bound", ""], 5);
    for check in &data.summary.verdict.checks {
        let (class, word) = match check.held {
            Some(true) => ("held", "kept"),
            Some(false) => ("not-held", "broken"),
            None => ("undecided", "not judged"),
        };
        table.row(vec![
            escape(&check.subject),
            escape(&check.quantity),
            escape(&check.measured),
            escape(&check.bound),
            format!("<strong class=\"{class}\">{word}</strong>"),
        ]);
    }
    table.write(page)
}
