//! Checks the summary of a run: `check-summary [--times-too] [--decided] [--within-s SECONDS] SUMMARY.json`. Prints
//! what it found; exit code 1 and what does not hold otherwise. Expectations that only times decide must hold with
//! `--times-too`; with `--decided` what bytes, tokens, equalities and laws decide may not be left undecided (with both,
//! nothing may); with `--within-s` the run must have ended within so many seconds of its agent's start. The plan and
//! the events are read from the run directory.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use anyhow::{Context as _, bail};
use hexloop_tests::summary::{check, overrun, times_not_held, undecided};
use serde_json::Value;

fn main() -> ExitCode {
    match checked() {
        Ok(Ok(found)) => {
            println!("{}", found.join("\n"));
            ExitCode::SUCCESS
        }
        Ok(Err(problems)) => {
            eprintln!("does not hold:\n{}", problems.join("\n"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("check-summary: {error:#}");
            ExitCode::FAILURE
        }
    }
}

const USAGE: &str =
    "usage: check-summary [--times-too] [--decided] [--within-s SECONDS] SUMMARY.json";

/// What is asked for beside what must hold of every run.
#[derive(Default)]
struct Asked {
    times_too: bool,
    decided: bool,
    within_s: Option<u64>,
    summary: PathBuf,
}

fn asked(mut arguments: impl Iterator<Item = OsString>) -> anyhow::Result<Asked> {
    let mut asked = Asked::default();
    while let Some(argument) = arguments.next() {
        if argument == "--times-too" {
            asked.times_too = true;
        } else if argument == "--decided" {
            asked.decided = true;
        } else if argument == "--within-s" {
            let seconds = arguments.next().context(USAGE)?;
            let seconds = seconds.to_str().and_then(|text| text.parse().ok());
            asked.within_s = Some(seconds.context("--within-s takes whole seconds")?);
        } else if arguments.next().is_none() {
            asked.summary = PathBuf::from(argument);
            return Ok(asked);
        } else {
            break;
        }
    }
    bail!(USAGE)
}

fn checked() -> anyhow::Result<Result<Vec<String>, Vec<String>>> {
    let asked = asked(env::args_os().skip(1))?;
    let path = asked.summary.as_path();
    let summary = read_json(path)?;
    let run = summary["run_dir"]
        .as_str()
        .context("the summary names no run_dir")?;
    // A relative run directory is relative to where the summary lies.
    let run = path.parent().unwrap_or(Path::new("")).join(run);
    let plan = read_json(&run.join("plan.json"))?;
    let events = read(&run.join("events.ndjson"))?;
    let events: Result<Vec<Value>, _> = events.lines().map(serde_json::from_str).collect();
    let events = events.context("events.ndjson holds a line that is no JSON")?;
    let mut further = Vec::new();
    if asked.times_too {
        further.extend(times_not_held(&summary, &plan));
    }
    if asked.decided {
        further.extend(undecided(&summary, &plan, asked.times_too));
    }
    if let Some(within_s) = asked.within_s {
        further.extend(overrun(&events, within_s));
    }
    Ok(match check(&summary, &plan, &events) {
        Ok(found) if further.is_empty() => Ok(found),
        Ok(_) => Err(further),
        Err(problems) => Err(problems.into_iter().chain(further).collect()),
    })
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn read_json(path: &Path) -> anyhow::Result<Value> {
    serde_json::from_str(&read(path)?).with_context(|| format!("{} is no JSON", path.display()))
}
