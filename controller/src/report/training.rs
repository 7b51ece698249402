//! What training the model came to in energy, when it was trained: not part of the run.

use std::fmt::{self, Write};

use super::Data;
use super::energy::cell;
use super::html::{Table, escape};
use crate::format::significant;
use crate::record::environment::Known;
use crate::summary::TrainingEnergy;

pub(super) fn section(page: &mut String, data: &Data<'_>) -> fmt::Result {
    let Some(model) = &data.records.environment.model else {
        return Ok(());
    };
    writeln!(page, "<h3>Training of the model (before this run)</h3>")?;
    match &model.training {
        Known::Known(energy) => table(page, energy),
        Known::Unknown { why } => writeln!(page, "<p>Unavailable: {}.</p>", escape(why)),
    }
}

fn table(page: &mut String, energy: &TrainingEnergy) -> fmt::Result {
    if energy.source == "stub" {
        writeln!(
            page,
            "<div class=\"box interrupted\"><strong>These are not measurements:</strong> a test's stub stood in for at least one meter.</div>"
        )?;
    }
    let head = ["", "Steps", "Seconds", "Gross, J", "Above idle, J"];
    let mut table = Table::new(&head, 1);
    table.row(vec![
        "whole training".to_owned(),
        energy.steps.to_string(),
        significant(energy.duration_s),
        cell(&energy.energy_j),
        cell(&energy.above_idle_j),
    ]);
    table.row(vec![
        "per step".to_owned(),
        "1".to_owned(),
        "-".to_owned(),
        cell(&energy.j_per_step),
        cell(&energy.above_idle_j_per_step),
    ]);
    for to in &energy.to_perplexity {
        table.row(vec![
            format!("to perplexity {} of held-out text", to.perplexity),
            to.steps.to_string(),
            significant(to.duration_s),
            cell(&to.energy_j),
            cell(&to.above_idle_j),
        ]);
    }
    table.write(page)?;
    let source = match (&energy.energy_j.source, &energy.energy_j.reason) {
        (Some(source), _) => format!("By {}", escape(source)),
        (None, Some(reason)) => format!("Unavailable: {}", escape(reason)),
        (None, None) => "No reason was recorded".to_owned(),
    };
    let idle = match energy.idle_w.value {
        Some(watts) => format!(
            "; idle power {} W{}, measured before and after",
            significant(watts),
            energy
                .idle_uncertainty_w
                .map_or_else(String::new, |open| format!(" &#177; {}", significant(open)))
        ),
        None => String::new(),
    };
    let last = energy.held_out_perplexity.map_or_else(String::new, |last| {
        format!(
            " Held-out text was at perplexity {} in the end.",
            significant(last)
        )
    });
    writeln!(page, "<p class=\"note\">{source}{idle}.{last}</p>")
}
