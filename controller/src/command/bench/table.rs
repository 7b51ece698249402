//! The document as a table for terminals.

use std::fmt::Write as _;

use hexloop_agent::bench::TimerLateness;

use super::document::{Document, Judged, RowResult};
use crate::format::significant;

/// The table.
pub(super) fn table(document: &Document) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_table(&mut text, document);
    text
}

fn write_table(text: &mut String, document: &Document) -> std::fmt::Result {
    write_facts(text, document)?;
    for row in &document.rows {
        write_row(text, row)?;
    }
    if document.preset == "smoke" {
        writeln!(
            text,
            "\nPreset smoke shows that everything works; the targets are stated for `--preset full`."
        )?;
    }
    Ok(())
}

fn write_facts(text: &mut String, document: &Document) -> std::fmt::Result {
    let facts = &document.facts;
    if let Some(machine) = &facts.machine {
        let load = machine
            .load_average
            .map_or_else(|| "unknown".to_owned(), |load| format!("{:.2}", load[0]));
        writeln!(
            text,
            "{}; {}, {} CPUs; load average before: {load}",
            machine.kernel, machine.cpu_model, machine.cpus
        )?;
    }
    let timers = |timers: &Option<TimerLateness>| match timers {
        Some(late) => format!(
            "{} / {} / {} us",
            significant(late.p50_us),
            significant(late.p99_us),
            significant(late.max_us)
        ),
        None => "refused".to_owned(),
    };
    writeln!(
        text,
        "timers late p50 / p99 / max: ordinary {}, real time {}",
        timers(&facts.timers_ordinary),
        timers(&facts.timers_real_time)
    )?;
    for peer in facts.peers.iter().filter(|peer| !peer.installed) {
        writeln!(text, "{} is not installed here", peer.name)?;
    }
    Ok(())
}

fn write_row(text: &mut String, row: &RowResult) -> std::fmt::Result {
    writeln!(
        text,
        "\n{:11} {}: {}",
        row.outcome.name(),
        row.name,
        row.what
    )?;
    if let Some(why) = &row.why {
        writeln!(text, "            {why}")?;
    }
    if row.quantities.is_empty() {
        return Ok(());
    }
    writeln!(text, "            {}; {}", row.datapath, row.scale)?;
    for quantity in &row.quantities {
        write_quantity(text, quantity)?;
    }
    for note in &row.notes {
        writeln!(text, "            note: {note}")?;
    }
    Ok(())
}

fn write_quantity(text: &mut String, quantity: &Judged) -> std::fmt::Result {
    let value = match quantity.value {
        Some(value) => format!("{} {}", shown(value), quantity.unit),
        None => format!("too few values ({})", quantity.count),
    };
    let interval = match (quantity.low, quantity.high) {
        (Some(low), Some(high)) => format!("[{}, {}]", shown(low), shown(high)),
        _ => String::new(),
    };
    let target = match (&quantity.target, quantity.met) {
        (Some(target), Some(true)) => format!("{target}: met"),
        (Some(target), _) => format!("{target}: MISSED"),
        (None, _) => String::new(),
    };
    let line = format!("{:24} {value:24} {interval:22} {target}", quantity.name);
    writeln!(text, "            {}", line.trim_end())
}

/// Ratios near 1 need their decimals.
fn shown(value: f64) -> String {
    if (0.9..1.1).contains(&value) {
        format!("{value:.5}")
    } else {
        significant(value)
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::{Facts, Outcome};
    use super::*;
    use hexloop_agent::bench::{Measured, Quantity, ROWS, Seen};

    #[test]
    fn a_row_shows_value_target_and_outcome_and_one_without_result_its_reason() {
        let measured = Measured {
            quantities: vec![Quantity {
                name: "window_error",
                unit: "%",
                seen: Seen::Mean(vec![0.25; 40]),
            }],
            datapath: "relay, SCHED_FIFO 20 on CPU 1".to_owned(),
            scale: "10 s".to_owned(),
            spoilt: None,
            notes: vec!["something".to_owned()],
        };
        let rows = vec![
            RowResult::measured(&ROWS[0], &measured, true),
            RowResult::without(&ROWS[1], Outcome::Unavailable, "no htb here".to_owned()),
        ];
        let text = table(&Document::new(true, Facts::default(), rows));
        for expected in [
            "missed      relay-exact-10ms",
            "<= 0.1: MISSED",
            "0.25 %",
            "note: something",
            "unavailable relay-exact-1ms",
            "no htb here",
        ] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
    }
}
