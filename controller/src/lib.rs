//! Plans, launches, collects, stores and reports: the command line `hexloop`, as a library so
//! that tests can call its parts.

pub mod cli;
pub mod command;
pub mod energy;
pub mod exit_code;
pub mod failure;
pub mod format;
pub(crate) mod launch;
pub mod paths;
pub mod record;
pub mod report;
pub mod results;
pub mod summary;
mod tell;
pub mod verdict;

#[cfg(test)]
mod fixture;

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The revision that this program was built from, where whoever built it said so
/// (`HEXLOOP_REVISION=$(git rev-parse --short HEAD) cargo build`).
pub const REVISION: Option<&str> = option_env!("HEXLOOP_REVISION");

/// The command line, from its arguments to its exit code.
///
/// Nothing here may start a thread: an agent may have to enter a user namespace first.
#[must_use]
pub fn main() -> std::process::ExitCode {
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    // The tensor library reads its number of threads from the environment, once. Training has its
    // own two; a job is started with what its node has.
    if cli.may_compute()
        && let Err(error) = hexloop_workloads::engine::threads::bound_this_process(1)
    {
        tell::tell(&format_args!("error: {error}"));
        return exit_code::ExitCode::Failed.into();
    }
    command::dispatch(&cli)
}
