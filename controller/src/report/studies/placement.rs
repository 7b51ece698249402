//! Answers on one node or another: what they cost, how often they were in time, what crossed the links.

use std::fmt::{self, Write};

use super::energy;
use crate::format::{grouped, significant};
use crate::report::html::{Table, escape};
use crate::summary::StudySummary;

pub(super) fn section(page: &mut String, study: &StudySummary) -> fmt::Result {
    if study.placed.is_empty() {
        return Ok(());
    }
    costs(page, study)?;
    in_time(page, study)?;
    work(page, study)
}

fn costs(page: &mut String, study: &StudySummary) -> fmt::Result {
    let head = [
        "Costs of an answer",
        "Weights",
        "First token, ms",
        "Further token, ms",
        "Requests",
    ];
    let mut table = Table::new(&head, 2);
    for costs in &study.place_costs {
        table.row(vec![
            escape(&costs.node),
            escape(&costs.weights),
            significant(costs.first_token_ms),
            significant(costs.token_ms),
            grouped(u64::from(costs.requests)),
        ]);
    }
    table.write(page)?;
    writeln!(
        page,
        "<p class=\"small\">Computing alone, the node's slowdown included: medians of requests that no trial \
         asks. Predictions and policies follow from these, the round trips of empty frames and the rate.</p>"
    )
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn in_time(page: &mut String, study: &StudySummary) -> fmt::Result {
    let levels = study.placed.first().map_or(&[][..], |placed| &placed.hits);
    let head = [
        "Answered by",
        "Requests",
        "First token, ms",
        "Token, ms",
        "Answer, ms",
        "Over predicted, middle half",
    ];
    let mut table = Table::new(&head, 1);
    for hits in levels {
        table.named_column(&format!("In {} ms, 95 %", significant(hits.level_ms)));
    }
    table.named_column("Chosen");
    for placed in &study.placed {
        let predicted = placed.answer_over_predicted.map_or_else(
            || "-".to_owned(),
            |[middle, low, high]| {
                let [middle, low, high] = [middle, low, high].map(significant);
                format!("{middle}, {low} to {high}")
            },
        );
        let mut row = vec![
            escape(&placed.arm),
            grouped(placed.requests),
            significant(placed.first_token_ms),
            significant(placed.token_ms),
            significant(placed.answer_ms),
            predicted,
        ];
        row.extend(placed.hits.iter().map(|hits| {
            let [share, low, high] = hits.answer.map(percent);
            format!("{share} ({low} to {high})")
        }));
        let chosen = placed.chosen.iter();
        let chosen: Vec<String> = chosen
            .map(|(name, count)| format!("{} {count}", escape(name)))
            .collect();
        row.push(match chosen.is_empty() {
            true => "-".to_owned(),
            false => chosen.join(", "),
        });
        table.row(row);
    }
    table.write(page)?;
    writeln!(
        page,
        "<p class=\"small\">Over all settings of the links. In time is a request whose whole answer was there. A \
         policy's row counts where it put them.</p>"
    )
}

fn work(page: &mut String, study: &StudySummary) -> fmt::Result {
    let mut table = Table::new(&["Answered by"], 1);
    for node in &study.path {
        table.named_column(&format!("{node} busy, ms"));
    }
    for link in &study.links {
        if link.direction == "up" {
            table.named_column(&format!("Bytes on {}", link.link));
        }
    }
    for name in energy::HEAD {
        table.named_column(name);
    }
    for placed in &study.placed {
        let mut row = vec![escape(&placed.arm)];
        row.extend(placed.busy_ms.iter().map(|ms| significant(*ms)));
        row.extend(placed.link_bytes.iter().map(|bytes| significant(*bytes)));
        row.extend(energy::columns(&placed.energy));
        table.row(row);
    }
    table.write(page)?;
    writeln!(
        page,
        "<p class=\"small\">Means of a request; the node's slowdown is in its time, headers of frames are in the \
         bytes.{}</p>",
        energy::about(study.placed.iter().map(|placed| &placed.energy))
    )
}
