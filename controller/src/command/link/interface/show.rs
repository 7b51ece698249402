//! `hexloop link show`: what the kernel says of an interface, and what the ledgers do.

use std::path::Path;

use hexloop_agent::guardian::HeldLink;
use hexloop_agent::hold::{self, EndedLink, Seen};
use hexloop_traces::units::TimeSpan;
use hexloop_workloads::clock;
use serde::Serialize;

use super::super::super::{Voice, print, print_json};
use super::{held, refused};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};

/// An interface, as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    interface: String,
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
    /// How it was held before.
    ended: Option<EndedLink>,
}

pub(super) fn show(state: &Path, interface: Option<&str>, voice: Voice) -> Outcome {
    let found = held(state, None)?;
    let shown: Vec<Shown> = match interface {
        None => found.iter().map(of_held).collect(),
        Some(name) => {
            let ours = found.iter().find(|link| link.held.interface.name == name);
            vec![match ours {
                Some(link) => of_held(link),
                None => not_held(state, name)?,
            }]
        }
    };
    if voice.json {
        print_json(&shown)?;
    } else if shown.is_empty() {
        print("nothing is shaped\n")?;
    } else {
        for one in &shown {
            print(&in_words(one))?;
        }
    }
    Ok(ExitCode::Done)
}

fn of_held(link: &HeldLink) -> Shown {
    let held = &link.held;
    let state = match (link.is_alive, held.confirmed) {
        (false, _) => "abandoned",
        (true, false) => "unconfirmed",
        (true, true) => "held",
    };
    Shown {
        interface: held.interface.name.clone(),
        state,
        shape: Some(held.shape.clone()),
        since_unix_ns: Some(held.since_unix_ns),
        left_ns: Some(held.until_boot_ns.saturating_sub(clock::since_boot_ns())),
        undone_at_the_end: link.outstanding.clone(),
        kernel: hold::seen(&held.interface.name).ok(),
        ended: None,
    }
}

fn not_held(state: &Path, name: &str) -> Result<Shown, Failure> {
    Ok(Shown {
        interface: name.to_owned(),
        state: "not held",
        shape: None,
        since_unix_ns: None,
        left_ns: None,
        undone_at_the_end: Vec::new(),
        kernel: Some(hold::seen(name).map_err(refused)?),
        ended: hold::last_end(state, name),
    })
}

fn in_words(shown: &Shown) -> String {
    let mut lines = vec![format!("{}: {}", shown.interface, shown.state)];
    let span = |ns: u64| TimeSpan {
        ns: ns / 1_000_000_000 * 1_000_000_000,
    };
    if let Some(shape) = &shown.shape {
        lines.push(format!("  shape: {shape}"));
    }
    if let (Some(since), Some(left)) = (shown.since_unix_ns, shown.left_ns) {
        let ago = span(clock::wall_clock_ns().saturating_sub(since));
        lines.push(format!("  since {ago} ago, for another {}", span(left)));
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
    if let Some(ended) = &shown.ended {
        let ago = span(clock::wall_clock_ns().saturating_sub(ended.at_unix_ns));
        lines.push(format!("  ended {ago} ago: {}", ended.why));
    }
    lines.join("\n") + "\n"
}
