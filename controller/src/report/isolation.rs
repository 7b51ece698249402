//! What kept others away from the run: settings asked and got, and how quiet the machine was.

use std::fmt::{self, Write};

use super::Data;
use super::html::{Table, escape, facts};
use crate::format::trimmed;

pub(super) fn section(page: &mut String, data: &Data<'_>) -> fmt::Result {
    let machine = &data.summary.machine;
    if machine.settings.is_empty() && machine.noise.is_none() {
        return Ok(());
    }
    writeln!(page, "<h3>Others on this machine</h3>")?;
    let mut rows = noise(data);
    if let Some(cooling) = &machine.cooling {
        let after = cooling.after_c.map_or_else(
            || cooling.reason.clone().unwrap_or_default(),
            |after| {
                format!(
                    "{after} C after {} s, at most {} C asked, by {}",
                    trimmed(cooling.waited_s, 1),
                    cooling.asked_c,
                    cooling.source
                )
            },
        );
        rows.push(("Cooling down", escape(&after)));
    }
    facts(page, &rows)?;
    interrupts(page, data)?;
    let head = ["Setting", "Asked", "Before", "Got", "", "Note"];
    let mut table = Table::new(&head, 6);
    let text = |value: &Option<String>| value.as_deref().map_or_else(String::new, escape);
    for setting in &machine.settings {
        let held = match (setting.held, &setting.asked) {
            (Some(true), _) => "<strong class=\"held\">as asked</strong>",
            (Some(false), _) => "<strong class=\"not-held\">not as asked</strong>",
            (None, Some(_)) => "<strong class=\"undecided\">not judged</strong>",
            (None, None) => "",
        };
        table.row(vec![
            escape(&setting.what),
            text(&setting.asked),
            text(&setting.before),
            text(&setting.got),
            held.to_owned(),
            text(&setting.note),
        ]);
    }
    table.write(page)
}

fn noise(data: &Data<'_>) -> Vec<(&'static str, String)> {
    let Some(noise) = &data.summary.machine.noise else {
        return vec![("Before the run", "nobody listened".to_owned())];
    };
    let percent = |share: f64| format!("{} %", trimmed(share * 100.0, 2));
    let mut words = Vec::new();
    if let Some(steal) = noise.steal {
        words.push(format!(
            "the host took {} of the nodes' CPUs",
            percent(steal)
        ));
    }
    if let Some(busy) = noise.busy {
        words.push(format!("they were busy for {} of the time", percent(busy)));
    }
    if let Some(load) = noise.load_average {
        words.push(format!("load average {}", trimmed(load, 2)));
    }
    if let Some(runnable) = noise.runnable {
        words.push(format!("{runnable} tasks could run"));
    }
    if let Some(count) = noise.throttle_events {
        words.push(format!("heat held them down {count} times"));
    }
    if let Some((least, most)) = noise.frequency_mhz {
        words.push(format!("{} to {} MHz", trimmed(least, 0), trimmed(most, 0)));
    }
    let late = &noise.timer_lateness_us;
    let microseconds = |value: Option<f64>| {
        value.map_or_else(
            || "-".to_owned(),
            |value| format!("{} us", trimmed(value, 1)),
        )
    };
    let timers = format!(
        "p50 {}, p99 {}, at most {} (n = {})",
        microseconds(late.p50),
        microseconds(late.p99),
        microseconds(late.max),
        late.n
    );
    let listened = format!("{} s before the run", trimmed(noise.listened_s, 2));
    let mut rows = vec![
        (
            "Noise",
            escape(&format!("{listened}: {}", words.join("; "))),
        ),
        ("Lateness of timers", escape(&timers)),
    ];
    for reason in &noise.unavailable {
        rows.push(("Unavailable", escape(reason)));
    }
    rows
}

fn interrupts(page: &mut String, data: &Data<'_>) -> fmt::Result {
    let interrupts = &data.summary.machine.interrupts;
    if interrupts.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["Phase", "Node", "CPU time of interrupts, s"], 2);
    for taken in interrupts {
        let seconds = taken
            .cpu_s
            .map_or_else(|| "unavailable".to_owned(), |seconds| trimmed(seconds, 2));
        table.row(vec![escape(&taken.phase), escape(&taken.node), seconds]);
    }
    table.write(page)?;
    writeln!(
        page,
        "<p class=\"small\">Hard and soft interrupts as /proc/stat counts them, in steps of 10 ms on each CPU, idle time that they ended included: what the nodes could not use, at most.</p>"
    )
}
