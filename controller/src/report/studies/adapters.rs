//! Tasks that share a backbone.

use std::fmt::{self, Write};

use super::{energy, number};
use crate::format::{grouped, significant};
use crate::report::html::{Table, escape};
use crate::summary::StudyAdapters;

pub(super) fn section(page: &mut String, tasks: &StudyAdapters) -> fmt::Result {
    deliveries(page, tasks)?;
    waves(page, tasks)?;
    if tasks.tasks.is_empty() {
        return Ok(());
    }
    let head = [
        "Nats a token",
        "Tokens",
        "Own adapter",
        "None",
        "Best of the others",
    ];
    let mut table = Table::new(&head, 1);
    for task in &tasks.tasks {
        table.row(vec![
            escape(&task.task),
            grouped(task.tokens),
            significant(task.own_nats),
            significant(task.backbone_nats),
            task.best_other_nats
                .map_or_else(|| "-".to_owned(), significant),
        ]);
    }
    table.write(page)?;
    writeln!(
        page,
        "<p class=\"small\">How surprising each task's text, which no adapter was trained on, is to the backbone with \
         an adapter beside it.</p>"
    )
}

fn deliveries(page: &mut String, tasks: &StudyAdapters) -> fmt::Result {
    let head = [
        "What came for a task",
        "Round trip, ms",
        "Rate, Mbit/s",
        "Times",
        "Parameters",
        "Bytes",
        "Served after, ms",
        "By the formula",
        "Loading",
    ];
    let mut table = Table::new(&head, 1);
    for one in &tasks.deliveries {
        table.row(vec![
            escape(&one.what),
            significant(one.round_trip_ms),
            significant(one.rate_mbps),
            grouped(one.deliveries),
            grouped(one.parameters),
            grouped(one.bytes),
            significant(one.median_ms),
            number(one.expected_ms),
            significant(one.load_ms),
        ]);
    }
    table.write(page)?;
    writeln!(
        page,
        "<p class=\"small\">From the first byte until the further node can serve the task; by the formula: the bytes \
         with the headers of packets at the rate, the round trip of an empty frame, and loading.</p>"
    )
}

fn waves(page: &mut String, tasks: &StudyAdapters) -> fmt::Result {
    let head = [
        "Waves",
        "Round trip, ms",
        "Rate, Mbit/s",
        "Times",
        "Requests",
        "In time",
        "A wave takes, ms",
        "Sequences a pass",
        "Changes of task",
    ];
    let mut table = Table::new(&head, 1);
    for name in energy::HEAD {
        table.named_column(name);
    }
    for one in &tasks.waves {
        let mut row = vec![
            escape(&one.arm),
            significant(one.round_trip_ms),
            significant(one.rate_mbps),
            grouped(one.waves),
            grouped(one.requests),
            format!("{:.1} %", one.in_budget_share * 100.0),
            significant(one.wave_ms),
            significant(one.sequences_per_pass),
            significant(one.switches_per_wave),
        ];
        row.extend(energy::columns(&one.energy));
        table.row(row);
    }
    table.write(page)?;
    writeln!(
        page,
        "<p class=\"small\">In time: all tokens within {} ms of the wave's beginning, with the weights of all tasks \
         in memory.{}</p>",
        significant(tasks.deadline_ms),
        energy::about(tasks.waves.iter().map(|one| &one.energy))
    )
}
