//! `hexloop doctor`: what this machine can do, found out by trying.

mod datapath;

use std::fs;
use std::path::Path;

use hexloop_agent::guardian::{self, Condition};
use hexloop_agent::probe::{self, Check};
use serde::Serialize;

use super::run::preflight::{NEEDED_BYTES, free_bytes};
use super::{Voice, print, print_json};
use crate::exit_code::ExitCode;
use crate::failure::Outcome;
use crate::paths::Paths;
use crate::record::environment::{Known, Machine};

/// One thing that was tried.
#[derive(Debug, Serialize)]
struct Finding {
    name: String,
    state: State,
    detail: String,
    remedy: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    /// It works.
    Good,
    /// It does not, and runs do without.
    Missing,
    /// It does not, and runs need it.
    Bad,
}

impl From<Check> for Finding {
    fn from(check: Check) -> Finding {
        Finding {
            name: check.name,
            state: match check.outcome {
                probe::Outcome::Works => State::Good,
                probe::Outcome::Limited => State::Missing,
                probe::Outcome::Missing => State::Bad,
            },
            detail: check.detail,
            remedy: check.remedy,
        }
    }
}

impl Finding {
    fn with_remedy(self, remedy: &str) -> Finding {
        Finding {
            remedy: Some(remedy.to_owned()),
            ..self
        }
    }
}

fn good(name: &str, detail: impl Into<String>) -> Finding {
    Finding {
        name: name.to_owned(),
        state: State::Good,
        detail: detail.into(),
        remedy: None,
    }
}

fn missing(name: &str, detail: impl Into<String>) -> Finding {
    Finding {
        name: name.to_owned(),
        state: State::Missing,
        detail: detail.into(),
        remedy: None,
    }
}

fn bad(name: &str, detail: impl Into<String>, remedy: impl Into<String>) -> Finding {
    let remedy = Some(remedy.into());
    Finding {
        name: name.to_owned(),
        state: State::Bad,
        detail: detail.into(),
        remedy,
    }
}

pub(super) fn doctor(voice: Voice) -> Outcome {
    let machine = Machine::look();
    let mut findings = vec![
        good(
            "kernel",
            format!("{} ({})", machine.kernel, machine.architecture),
        ),
        good(
            "processor",
            format!("{}, {} CPUs usable", machine.cpu_model, machine.cpus),
        ),
    ];
    // This process has no thread yet, so it may enter a user namespace itself: nothing that
    // follows needs the user's own one.
    findings.extend(probe::machine().into_iter().map(Finding::from));
    findings.extend(datapath::findings());
    findings.push(match &machine.gpu {
        Known::Known(driver) => good("GPU", driver.as_str()),
        Known::Unknown { why } => missing("GPU", why.as_str()),
    });
    findings.push(good("clock source", machine.clock_source.as_str()));
    findings.extend(directories());
    let healthy = findings.iter().all(|finding| finding.state != State::Bad);
    if voice.json {
        print_json(&findings)?;
    } else {
        let names = findings.iter().map(|finding| finding.name.len());
        let width = names.max().unwrap_or(0);
        for finding in &findings {
            let mark = match finding.state {
                State::Good => "ok     ",
                State::Missing => "without",
                State::Bad => "BAD    ",
            };
            print(&format!(
                "{mark} {:width$} {}\n",
                finding.name, finding.detail
            ))?;
            if let Some(remedy) = &finding.remedy {
                print(&format!("        {:width$} remedy: {remedy}\n", ""))?;
            }
        }
    }
    let is_dirty = |finding: &Finding| finding.name == LEFTOVERS && finding.state == State::Bad;
    Ok(if healthy {
        ExitCode::Done
    } else if findings.iter().any(is_dirty) {
        ExitCode::Dirty
    } else {
        ExitCode::Preflight
    })
}

fn directories() -> Vec<Finding> {
    let paths = match Paths::of_this_user() {
        Ok(paths) => paths,
        Err(failure) => return vec![bad("state directory", failure.to_string(), "set HOME")],
    };
    let mut findings = vec![writable("state directory", &paths.state)];
    findings.push(match paths.models() {
        Ok(models) => writable("model cache", &models),
        Err(failure) => bad(
            "model cache",
            failure.error.to_string(),
            failure.remedy.unwrap_or_default(),
        ),
    });
    findings.push(space(&paths.state));
    findings.push(leftovers(&paths.state));
    findings
}

/// What the finding of [`leftovers`] is called.
const LEFTOVERS: &str = "leftovers";

/// What earlier runs have left, or those that are under way will undo.
fn leftovers(state: &Path) -> Finding {
    let name = LEFTOVERS;
    let conditions = match guardian::conditions(state) {
        Ok(conditions) => conditions,
        Err(error) => {
            let remedy = error.remedy().unwrap_or("make it readable");
            return bad(name, format!("{:#}", anyhow::Error::new(error)), remedy);
        }
    };
    let of = |which: Condition| {
        let of_it = conditions
            .iter()
            .filter(move |(_, condition)| *condition == which);
        of_it.map(|(path, _)| path)
    };
    let unreadable: Vec<String> = of(Condition::Unreadable)
        .map(|path| guardian::unreadable(path))
        .collect();
    if !unreadable.is_empty() {
        let detail = format!("this machine is dirty: {}", unreadable.join("; "));
        return bad(name, detail, "until then runs are refused");
    }
    match (
        of(Condition::Abandoned).count(),
        of(Condition::InUse).count(),
    ) {
        (0, 0) => good(name, "none"),
        (0, count) => good(name, format!("none; {count} ledgers of what is under way")),
        (count, _) => missing(name, format!("{count} ledgers whose owner is gone"))
            .with_remedy("`hexloop undo`, or the next run, undoes what they note"),
    }
}

/// The directory, or the nearest parent that exists.
fn existing(directory: &Path) -> &Path {
    let mut ancestors = directory.ancestors();
    ancestors
        .find(|path| path.is_dir())
        .unwrap_or(Path::new("/"))
}

fn space(directory: &Path) -> Finding {
    let name = "disk space";
    match free_bytes(existing(directory)) {
        Ok(free) => {
            let (free_mb, needed_mb) = (free / 1_000_000, NEEDED_BYTES / 1_000_000);
            let detail = format!("{free_mb} MB left at {}", directory.display());
            if free >= NEEDED_BYTES {
                good(name, detail)
            } else {
                bad(name, detail, format!("free {needed_mb} MB"))
            }
        }
        Err(error) => missing(name, format!("{}: {error}", directory.display())),
    }
}

/// Writes a file into the directory, or the nearest parent that exists.
fn writable(name: &str, directory: &Path) -> Finding {
    let existing = existing(directory);
    let probe = existing.join(format!(".hx-doctor-{}", std::process::id()));
    let tried = fs::write(&probe, b"x").and_then(|()| fs::remove_file(&probe));
    match tried {
        Ok(()) => good(name, directory.display().to_string()),
        Err(error) => bad(
            name,
            format!("{}: {error}", existing.display()),
            "make it writable, or set HEXLOOP_STATE_DIRECTORY and HEXLOOP_CACHE_DIRECTORY",
        ),
    }
}
