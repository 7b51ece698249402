//! Computes on NVIDIA GPUs for `hexloop`, which starts it: the tensor engine binds CUDA when it is
//! linked, so that `hexloop` itself must not.
//!
//! ```text
//! hexloop-engine-cuda probe    the GPUs it can compute on, as JSON
//! hexloop-engine-cuda job      a job of an experiment, told on standard input
//! hexloop-engine-cuda study    a part of a study, told on standard input
//! hexloop-engine-cuda bench    a measurement of `hexloop bench engine`, told on standard input
//! ```

use std::io::{self, BufReader};
use std::process::ExitCode;

use hexloop_workloads::engine::{bench, probe};
use hexloop_workloads::serve;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let part: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match part.as_slice() {
        ["probe"] => probe::run_probe(io::stdout().lock()).map_err(|error| error.to_string()),
        ["job"] => serve::run_job(BufReader::new(io::stdin()), io::stdout())
            .map_err(|error| error.to_string()),
        ["study"] => serve::run_study(BufReader::new(io::stdin()), io::stdout())
            .map_err(|error| error.to_string()),
        ["bench"] => bench::run_bench(io::stdin().lock(), io::stdout().lock())
            .map_err(|error| error.to_string()),
        _ => Err("it is started by hexloop, with probe, job, study or bench".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hexloop-engine-cuda: {error}");
            ExitCode::FAILURE
        }
    }
}
