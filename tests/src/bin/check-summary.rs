//! Checks the summary of a run: `check-summary [--times-too] SUMMARY.json`. Prints what it found; exit
//! code 1 and what does not hold otherwise; expectations that only times decide must hold with
//! `--times-too`. The plan and the events are read from the run directory.

#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use anyhow::Context as _;
use hexloop_tests::summary::{check, times_not_held};
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

fn checked() -> anyhow::Result<Result<Vec<String>, Vec<String>>> {
    let mut arguments = env::args_os().skip(1).peekable();
    let times_too = arguments.next_if(|first| first == "--times-too").is_some();
    let path = arguments
        .next()
        .context("usage: check-summary [--times-too] SUMMARY.json")?;
    let path = Path::new(&path);
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
    let times = times_not_held(&summary, &plan);
    Ok(match check(&summary, &plan, &events) {
        Ok(found) if times.is_empty() || !times_too => Ok(found),
        Ok(_) => Err(times),
        Err(problems) if times_too => Err(problems.into_iter().chain(times).collect()),
        problems => problems,
    })
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn read_json(path: &Path) -> anyhow::Result<Value> {
    serde_json::from_str(&read(path)?).with_context(|| format!("{} is no JSON", path.display()))
}
