//! Changes of links at moments of a phase.

use hexloop_traces::{
    Direction, LinkChange, LossBounds, PlaybackChange, QueueLimit, SettingsChange, StateOverride,
};

use super::{links, undeclared};
use crate::check::Reporter;
use crate::experiment::{Link, PhaseSpan};
use crate::plan::TimelineEvent;
use crate::problem::{listed, quoted};
use crate::section::Section;

/// What a link is changed by, and the actions each key goes with.
const KEYS: [(&str, &[&str]); 15] = [
    ("to", &["jump"]),
    ("rate", &["override"]),
    ("delay", &["override"]),
    ("jitter", &["override"]),
    ("loss", &["override"]),
    ("loss_burst", &["override"]),
    ("duplication", &["override"]),
    ("corruption", &["override"]),
    ("queue", &["set", "override"]),
    ("discipline", &["set"]),
    ("queue_target", &["set"]),
    ("codel_interval", &["set"]),
    ("pie_update", &["set"]),
    ("ecn", &["set"]),
    ("reorder", &["set"]),
];

/// Reads the events, in the order of their moments.
pub(super) fn read(
    reporter: &mut Reporter<'_>,
    file: &Section<'_>,
    links: &[Link],
    phases: &[PhaseSpan],
) -> Vec<TimelineEvent> {
    let mut events = Vec::new();
    for section in file.array("events") {
        let link = super::phases::link(reporter, &section, links);
        let phase = phase(reporter, &section, phases);
        let (directions, change) = change_of(reporter, &section);
        events.push(TimelineEvent {
            name: section.text("name"),
            phase,
            at_ns: section.time_ns("at"),
            link: link.map(|link| link.name.clone()).unwrap_or_default(),
            directions,
            change,
        });
    }
    events.sort_by_key(|event| event.at_ns);
    events
}

/// What changes, and in which directions.
pub(crate) fn change_of(
    reporter: &mut Reporter<'_>,
    section: &Section<'_>,
) -> (Vec<Direction>, LinkChange) {
    let action = section.text("action");
    check_keys(reporter, section, &action);
    let directions = match section.text("direction").as_str() {
        "up" => vec![Direction::Up],
        "down" => vec![Direction::Down],
        _ => Direction::BOTH.to_vec(),
    };
    if let Some(written) = section.written("direction")
        && action == "set"
        && directions.len() == 1
    {
        let message = "settings are those of both directions".to_owned();
        let help = "leave `direction` out".to_owned();
        reporter.report(&written.origin, message, Some(help));
    }
    (directions, change(reporter, section, &action))
}

/// The phase that an event belongs to; one that lies beyond its end is reported.
fn phase(
    reporter: &mut Reporter<'_>,
    section: &Section<'_>,
    phases: &[PhaseSpan],
) -> Option<String> {
    let at_ns = section.time_ns("at");
    let name = section.optional_text("phase");
    if let (Some(name), Some(written)) = (&name, section.written("phase"))
        && !phases.iter().any(|phase| phase.name == *name)
    {
        let known = phases.iter().map(|phase| phase.name.as_str());
        undeclared(reporter, ("phase", name), &written.origin, known);
        return None;
    }
    let concerned = |phase: &&PhaseSpan| name.as_ref().is_none_or(|name| *name == phase.name);
    let longest = phases.iter().filter(concerned);
    let longest_ns = longest.map(|phase| phase.duration_ns).max().unwrap_or(0);
    if longest_ns > 0 && at_ns >= longest_ns {
        let message = format!(
            "the event comes at {}, when its phase is over",
            quoted(&section.text("at"))
        );
        let help = "let the phase last longer, or the event come earlier".to_owned();
        reporter.report(section.place("at"), message, Some(help));
    }
    name
}

fn check_keys(reporter: &mut Reporter<'_>, section: &Section<'_>, action: &str) {
    if section.sound("action").is_none() {
        return;
    }
    let mut missing = Vec::new();
    let mut any = false;
    for (key, actions) in KEYS {
        match section.written(key) {
            Some(written) if !actions.contains(&action) => {
                let message = format!("`{key}` means nothing for action `{action}`");
                let help = format!("it goes with action {}", listed(actions.iter().copied()));
                reporter.report(&written.origin, message, Some(help));
            }
            Some(_) => any = true,
            None if actions.contains(&action) => missing.push(key),
            None => {}
        }
    }
    if !any && !missing.is_empty() {
        let message = format!("action `{action}` says nothing about what changes");
        let help = format!("give it at least one of {}", listed(missing));
        reporter.report(section.origin, message, Some(help));
    }
}

fn change(reporter: &mut Reporter<'_>, section: &Section<'_>, action: &str) -> LinkChange {
    let play = match action {
        "set" => return LinkChange::Set(settings(reporter, section)),
        "pause" => PlaybackChange::Pause,
        "resume" => PlaybackChange::Resume,
        "jump" => PlaybackChange::Jump {
            to_ns: section.time_ns("to"),
        },
        "override" => PlaybackChange::Override(state(reporter, section)),
        _ => PlaybackChange::Override(StateOverride::NONE),
    };
    LinkChange::Play(play)
}

fn state(reporter: &mut Reporter<'_>, section: &Section<'_>) -> StateOverride {
    let queue_bytes = section.sound("queue").and_then(|written| {
        if let QueueLimit::Bytes(bytes) = section.queue_limit("queue") {
            return u32::try_from(bytes).ok();
        }
        let message = "a queue that stands in for the trace's is counted in bytes".to_owned();
        let help =
            "write it like \"300 kB\", or change the link's own with action `set`".to_owned();
        reporter.report(&written.origin, message, Some(help));
        None
    });
    let over = StateOverride {
        rate_bps: section.optional_rate_bps("rate"),
        delay_ns: section.optional_time_ns("delay"),
        jitter_ns: section
            .optional_time_ns("jitter")
            .and_then(|ns| u32::try_from(ns).ok()),
        loss_ppb: section.optional_share_ppb("loss"),
        loss_burst_milli: section
            .sound("loss_burst")
            .map(|_| section.integer_u32("loss_burst") * 1000),
        dup_ppb: section.optional_share_ppb("duplication"),
        corrupt_ppb: section.optional_share_ppb("corruption"),
        queue_bytes,
    };
    // What the trace has beside it is looked at once that is read.
    if let Some(written) = section.sound("loss_burst")
        && over.loss_ppb.is_some()
        && let Some(reason) = LossBounds::default().refuse(&over)
    {
        reporter.report(&written.origin, reason, None);
    }
    over
}

fn settings(reporter: &mut Reporter<'_>, section: &Section<'_>) -> SettingsChange {
    let discipline = section.sound("discipline").map(|_| {
        let name = section.text("discipline");
        links::discipline(reporter, section, &name)
    });
    if section.written("discipline").is_none() {
        for key in ["queue_target", "codel_interval", "pie_update"] {
            if let Some(written) = section.written(key) {
                let message = format!("`{key}` is given without its discipline");
                let help = "name the `discipline` that it goes with".to_owned();
                reporter.report(&written.origin, message, Some(help));
            }
        }
    }
    SettingsChange {
        queue: section.sound("queue").map(|_| section.queue_limit("queue")),
        discipline,
        ecn: section.sound("ecn").map(|_| section.boolean("ecn")),
        reorder: section.sound("reorder").map(|_| section.boolean("reorder")),
    }
}
