//! Checks the document of `hexloop bench link --json`: `check-bench BENCH.json`. Prints the rows;
//! exit code 1 and what does not hold otherwise.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::{env, fs};

use anyhow::Context as _;

fn main() -> ExitCode {
    match check() {
        Ok(Ok(rows)) => {
            println!("{}", rows.join("\n"));
            ExitCode::SUCCESS
        }
        Ok(Err(problems)) => {
            eprintln!("does not hold:\n{}", problems.join("\n"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("check-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check() -> anyhow::Result<Result<Vec<String>, Vec<String>>> {
    let path = env::args_os()
        .nth(1)
        .context("usage: check-bench BENCH.json")?;
    let text = fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.to_string_lossy()))?;
    let document = serde_json::from_str(&text).context("the document is no JSON")?;
    Ok(hexloop_tests::bench::check(&document))
}
