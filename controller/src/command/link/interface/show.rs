//! `hexloop link show`: what the kernel says of an interface, and what the ledgers do.

use std::path::Path;

use hexloop_agent::guardian::HeldLink;
use hexloop_agent::hold::{self, EndedLink, Followed, HoldError, Seen, SteeredDirection};
use hexloop_proto::LateHistogram;
use hexloop_traces::units::TimeSpan;
use hexloop_workloads::clock;
use serde::Serialize;

use super::super::super::undo::check_understood;
use super::super::super::{Voice, print, print_json};
use super::{called, held, refused};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::format::{milliseconds, share_percent};
use crate::verdict::{StatedBounds, Verdict, judge_interface};

/// An interface, as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    /// As it was called when it was shaped.
    interface: String,
    /// What it is called by now, if something else.
    called_now: Option<String>,
    /// Whether it is down, so that nothing passes; `null` when it cannot be looked at.
    is_down: Option<bool>,
    /// `held`, `unconfirmed`, `abandoned` or `not held`.
    state: &'static str,
    shape: Option<String>,
    since_unix_ns: Option<u64>,
    /// How much is left of the lease.
    left_ns: Option<u64>,
    /// What will be undone at its end.
    undone_at_the_end: Vec<String>,
    /// What the kernel says; `null` when the interface cannot be looked at.
    kernel: Option<Vec<Seen>>,
    /// How well its trace is followed, or was until its end; `null` when its holder does not say.
    followed: Option<Followed>,
    /// What that amounts to by the rules for runs; `null` where too little has happened to judge it.
    verdict: Option<Verdict>,
    /// How it was held before.
    ended: Option<EndedLink>,
}

/// Held by processes that are gone.
const ABANDONED: &str = "abandoned";

pub(super) fn show(state: &Path, interface: Option<&str>, voice: Voice) -> Outcome {
    let found = held(state, None)?;
    let shown: Vec<Shown> = match interface {
        None => {
            let shown = found.iter().map(|link| of_held(link, state));
            shown.collect::<Result<_, _>>()?
        }
        Some(name) => vec![match called(&found, name).first() {
            Some(link) => of_held(link, state)?,
            None => not_held(state, name)?,
        }],
    };
    if voice.json {
        print_json(&shown)?;
    } else {
        if shown.is_empty() {
            print(if nix::unistd::geteuid().is_root() {
                "nothing is shaped\n"
            } else {
                "nothing is shaped that this user may know of: `sudo hexloop link show` tells all\n"
            })?;
        }
        for one in &shown {
            print(&in_words(one))?;
        }
        if interface.is_none() {
            print(&ended_lately(state, &shown))?;
        }
    }
    // What they hold, if anything, is not among these.
    check_understood(state)?;
    Ok(ExitCode::Done)
}

/// How long ago the end of a shaping may be for `show` to tell it unasked, in nanoseconds: a day.
const LATELY_NS: u64 = 86_400_000_000_000;

/// The ends that nobody asked for by name: whoever wonders why nothing is shaped reads them.
fn ended_lately(state: &Path, shown: &[Shown]) -> String {
    let since_unix_ns = clock::wall_clock_ns().saturating_sub(LATELY_NS);
    let is_held = |ended: &EndedLink| shown.iter().any(|one| one.interface == ended.interface);
    let ends = hold::last_ends(state).into_iter();
    ends.filter(|ended| ended.at_unix_ns >= since_unix_ns && !is_held(ended))
        .map(|ended| format!("{}: not held\n{}\n", ended.interface, end_in_words(&ended)))
        .collect()
}

fn end_in_words(ended: &EndedLink) -> String {
    let ago = whole_seconds(clock::wall_clock_ns().saturating_sub(ended.at_unix_ns));
    format!("  ended {ago} ago: {}", ended.why)
}

/// What there is to say of the rest of a lease.
fn rest_in_words(state: &str, left_ns: u64) -> String {
    match (state, left_ns) {
        (ABANDONED, 0) => "the lease is over: run `hexloop undo`".to_owned(),
        (ABANDONED, _) => "nobody is left who would end it: run `hexloop undo`".to_owned(),
        _ => format!("for another {}", whole_seconds(left_ns)),
    }
}

const fn whole_seconds(ns: u64) -> TimeSpan {
    TimeSpan {
        ns: ns / 1_000_000_000 * 1_000_000_000,
    }
}

/// What was followed, in the agent's words and by the rules for runs.
fn judged(interface: &str, followed: Option<&Followed>) -> Result<Option<Verdict>, Failure> {
    let Some(followed) = followed else {
        return Ok(None);
    };
    Ok(judge_interface(interface, followed, &StatedBounds::read()?))
}

fn of_held(link: &HeldLink, state_directory: &Path) -> Result<Shown, Failure> {
    let held = &link.held;
    let name = &held.interface.name;
    // What cannot be asked is shown without it.
    let now = hold::interface_now(&held.interface).ok().flatten();
    let followed = hold::followed(link, state_directory);
    let state = match (link.is_alive, held.confirmed) {
        (false, _) => ABANDONED,
        (true, false) => "unconfirmed",
        (true, true) => "held",
    };
    Ok(Shown {
        verdict: judged(name, followed.as_ref())?,
        followed,
        interface: name.clone(),
        called_now: now
            .as_ref()
            .map(|now| now.name.clone())
            .filter(|now| now != name),
        is_down: now.as_ref().map(|now| now.is_down),
        state,
        shape: Some(held.shape.clone()),
        since_unix_ns: Some(held.since_unix_ns),
        left_ns: Some(held.until_boot_ns.saturating_sub(clock::since_boot_ns())),
        undone_at_the_end: link.outstanding.clone(),
        kernel: now.and_then(|now| hold::seen(&now.name).ok()),
        ended: None,
    })
}

fn not_held(state: &Path, name: &str) -> Result<Shown, Failure> {
    let mut ended = hold::last_end(state, name);
    let followed = ended.as_mut().and_then(|ended| ended.followed.take());
    let kernel = match hold::seen(name) {
        // It is gone, and how it was held before is told all the same.
        Err(HoldError::NoInterface(_)) if ended.is_some() => None,
        seen => Some(seen.map_err(refused)?),
    };
    Ok(Shown {
        verdict: judged(name, followed.as_ref())?,
        followed,
        interface: name.to_owned(),
        called_now: None,
        is_down: None,
        state: "not held",
        shape: None,
        since_unix_ns: None,
        left_ns: None,
        undone_at_the_end: Vec::new(),
        kernel,
        ended,
    })
}

fn in_words(shown: &Shown) -> String {
    let mut lines = vec![format!("{}: {}", shown.interface, shown.state)];
    if let Some(name) = &shown.called_now {
        lines.push(format!("  called {name} by now"));
    }
    if shown.is_down == Some(true) {
        lines.push("  the interface is down: nothing passes".to_owned());
    }
    if let Some(shape) = &shown.shape {
        lines.push(format!("  shape: {shape}"));
    }
    if let (Some(since), Some(left)) = (shown.since_unix_ns, shown.left_ns) {
        let ago = whole_seconds(clock::wall_clock_ns().saturating_sub(since));
        lines.push(format!(
            "  since {ago} ago, {}",
            rest_in_words(shown.state, left)
        ));
    }
    for undo in &shown.undone_at_the_end {
        lines.push(format!("  at the end: {undo}"));
    }
    for object in shown.kernel.iter().flatten() {
        let Seen {
            what,
            handle,
            parent,
            sent_bytes,
            backlog_bytes,
            drops,
        } = object;
        let mut line = format!("  kernel: {what} ({handle} below {parent})");
        for (name, value) in [
            ("sent", sent_bytes),
            ("waiting", backlog_bytes),
            ("dropped", drops),
        ] {
            if let Some(value) = value {
                line = format!("{line}, {name} {value}");
            }
        }
        lines.push(line);
    }
    if let Some(followed) = shown.followed.as_ref() {
        lines.extend(followed_in_words(followed, shown.verdict.as_ref()));
    }
    if let Some(ended) = &shown.ended {
        lines.push(end_in_words(ended));
    }
    lines.join("\n") + "\n"
}

/// How well a trace is followed; nothing where there is nothing to follow.
fn followed_in_words(followed: &Followed, verdict: Option<&Verdict>) -> Vec<String> {
    let Some(scheduling) = &followed.scheduling else {
        return Vec::new();
    };
    let late = lateness_in_words(&followed.lateness);
    let left_out = followed.rows_left_out;
    let mut lines = vec![format!("  rows: {late}, {left_out} left out; {scheduling}")];
    for steered in &followed.directions {
        let SteeredDirection {
            direction,
            largest_error_bytes,
            trace_bytes,
            sent_bytes,
            ..
        } = steered;
        let name = direction.name();
        let error = match trace_bytes {
            0 => "packets hardly waited".to_owned(),
            trace => {
                let share = share_percent(sent_bytes.abs_diff(*trace), *trace);
                format!(
                    "{share} off the trace while packets waited ({sent_bytes} of {trace} bytes)"
                )
            }
        };
        lines.push(format!(
            "  {name}: {error}, never further than {largest_error_bytes} bytes from it"
        ));
    }
    lines.push(match verdict {
        None => "  verdict: none, too little has happened to judge it by".to_owned(),
        Some(verdict) if verdict.is_valid() => "  verdict: VALID".to_owned(),
        Some(verdict) => {
            let reasons = verdict.reasons.iter();
            let reasons = reasons.map(|reason| format!("{}: {}", reason.subject, reason.message));
            let reasons: Vec<String> = reasons.collect();
            format!("  verdict: INVALID, {}", reasons.join("; "))
        }
    });
    lines
}

fn lateness_in_words(late: &LateHistogram) -> String {
    let quantiles = [
        ("p50", late.p50_ns),
        ("p99", late.p99_ns),
        ("at most", late.max_ns),
    ];
    let words: Vec<String> = quantiles
        .into_iter()
        .filter_map(|(name, ns)| Some(format!("{name} {}", milliseconds(ns?))))
        .collect();
    if words.is_empty() {
        return "none has come yet".to_owned();
    }
    format!("late by {} (n = {})", words.join(", "), late.count)
}

#[cfg(test)]
mod tests {
    use hexloop_traces::Direction;

    use super::*;
    use crate::fixture::{MS, late};

    fn followed() -> Followed {
        Followed {
            since_unix_ns: 1,
            at_boot_ns: 2,
            scheduling: Some("SCHED_FIFO 20 on any CPU".to_owned()),
            lateness: late(100, MS / 10, 0, 5 * MS),
            rows_left_out: 3,
            directions: vec![SteeredDirection {
                direction: Direction::Up,
                classes: 1,
                largest_error_bytes: 4500,
                backlogged_ns: 10_000 * MS,
                trace_bytes: 1_000_000,
                sent_bytes: 980_000,
            }],
        }
    }

    #[test]
    fn how_a_trace_is_followed_is_told_in_figures_and_by_the_verdict() {
        let followed = followed();
        let verdict = judged("eth1", Some(&followed)).unwrap();
        let lines = followed_in_words(&followed, verdict.as_ref());
        assert_eq!(
            lines[0],
            "  rows: late by p50 0.100 ms, at most 5.000 ms (n = 100), 3 left out; \
             SCHED_FIFO 20 on any CPU"
        );
        assert_eq!(
            lines[1],
            "  up: 2.000 % off the trace while packets waited (980000 of 1000000 bytes), never \
             further than 4500 bytes from it"
        );
        assert!(lines[2].starts_with("  verdict: INVALID, eth1 up: "));
    }

    #[test]
    fn of_an_abandoned_shaping_it_is_told_who_can_end_it() {
        let over = rest_in_words(ABANDONED, 0);
        assert_eq!(over, "the lease is over: run `hexloop undo`");
        assert!(rest_in_words(ABANDONED, 7).ends_with("run `hexloop undo`"));
        assert_eq!(rest_in_words("held", 7_000_000_001), "for another 7 s");
    }

    #[test]
    fn where_nothing_changes_nothing_is_told_and_where_nothing_came_yet_that() {
        let mut followed = followed();
        followed.lateness = late(0, 0, 0, 0);
        followed.directions.clear();
        let verdict = judged("eth1", Some(&followed)).unwrap();
        let lines = followed_in_words(&followed, verdict.as_ref());
        assert!(lines[0].contains("none has come yet"), "{lines:?}");
        assert!(lines[1].contains("too little"), "{lines:?}");
        followed.scheduling = None;
        assert!(followed_in_words(&followed, verdict.as_ref()).is_empty());
    }
}
