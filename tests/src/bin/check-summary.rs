//! Checks the summary of a run: `check-summary SUMMARY.json`. Prints what it found; exit code 1
//! and what does not hold otherwise. The plan and the events are read from the run directory.

#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use anyhow::Context as _;
use serde_json::Value;

fn main() -> ExitCode {
    match check() {
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

fn check() -> anyhow::Result<Result<Vec<String>, Vec<String>>> {
    let path = env::args_os()
        .nth(1)
        .context("usage: check-summary SUMMARY.json")?;
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
    Ok(hexloop_tests::summary::check(&summary, &plan, &events))
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn read_json(path: &Path) -> anyhow::Result<Value> {
    serde_json::from_str(&read(path)?).with_context(|| format!("{} is no JSON", path.display()))
}
