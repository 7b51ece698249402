//! `hexloop doctor`: what this machine can do, found out by trying.

mod datapath;

use std::fs;
use std::path::Path;

use hexloop_agent::cgroup::Controllers;
use hexloop_agent::namespace::NetworkNamespace;
use hexloop_agent::telemetry::energy::EnergyMeter;
use serde::Serialize;

use super::{Voice, print, print_json};
use crate::exit_code::ExitCode;
use crate::failure::Outcome;
use crate::paths::Paths;
use crate::record::environment::{Known, Machine};

/// One thing that was tried.
#[derive(Debug, Serialize)]
struct Finding {
    name: &'static str,
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

fn good(name: &'static str, detail: impl Into<String>) -> Finding {
    Finding {
        name,
        state: State::Good,
        detail: detail.into(),
        remedy: None,
    }
}

fn missing(name: &'static str, detail: impl Into<String>) -> Finding {
    Finding {
        name,
        state: State::Missing,
        detail: detail.into(),
        remedy: None,
    }
}

fn bad(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Finding {
    let remedy = Some(remedy.into());
    Finding {
        name,
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
    findings.push(privilege());
    findings.extend(datapath::findings());
    findings.push(control_groups());
    findings.push(energy());
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
        for finding in &findings {
            let mark = match finding.state {
                State::Good => "ok     ",
                State::Missing => "without",
                State::Bad => "BAD    ",
            };
            print(&format!("{mark} {:16} {}\n", finding.name, finding.detail))?;
            if let Some(remedy) = &finding.remedy {
                print(&format!("        {:16} remedy: {remedy}\n", ""))?;
            }
        }
    }
    Ok(if healthy {
        ExitCode::Done
    } else {
        ExitCode::Preflight
    })
}

/// Makes a network namespace, as root or in a user namespace of a process of its own.
fn privilege() -> Finding {
    // This process has no thread yet, so it may enter a user namespace itself: nothing that
    // follows needs the user's own one.
    match hexloop_agent::privilege::acquire() {
        Ok(privilege) => match NetworkNamespace::create() {
            Ok(_) => good("namespaces", format!("made one as {}", privilege.name())),
            Err(error) => bad(
                "namespaces",
                error.to_string(),
                hexloop_agent::privilege::remedy(),
            ),
        },
        Err(error) => bad(
            "namespaces",
            error.to_string(),
            hexloop_agent::privilege::remedy(),
        ),
    }
}

fn control_groups() -> Finding {
    let controllers = Controllers::detect();
    let name = |controller: Option<&hexloop_agent::cgroup::Controller>| {
        controller.map_or_else(|| "none".to_owned(), |found| format!("{:?}", found.version))
    };
    let detail = format!(
        "cpu {}, cpuset {}",
        name(controllers.cpu.as_ref()),
        name(controllers.cpuset.as_ref())
    );
    if controllers.cpu.is_some() {
        good("control groups", detail)
    } else {
        missing(
            "control groups",
            format!("{detail}: shares by stopping and continuing"),
        )
    }
}

fn energy() -> Finding {
    match EnergyMeter::new().describe() {
        Ok(source) => good("energy", source),
        Err(why) => missing("energy", why),
    }
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
    let leftovers = fs::read_dir(paths.state.join("ledgers"))
        .map(|entries| entries.filter_map(Result::ok).count())
        .unwrap_or(0);
    findings.push(match leftovers {
        0 => good("leftovers", "none"),
        count => missing(
            "leftovers",
            format!("{count} ledgers: runs under way, or `hexloop undo`"),
        ),
    });
    findings
}

/// Writes a file into the directory, or the nearest parent that exists.
fn writable(name: &'static str, directory: &Path) -> Finding {
    let existing = directory
        .ancestors()
        .find(|path| path.is_dir())
        .unwrap_or(Path::new("/"));
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
