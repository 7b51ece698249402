//! The command line `hexloop`.

use std::process::ExitCode;

use clap::Parser as _;
use hexloop::cli::Cli;
use hexloop::command::dispatch;

fn main() -> ExitCode {
    // Nothing here may start a thread: an agent may have to enter a user namespace first.
    match dispatch(&Cli::parse()) {
        Ok(code) => code.into(),
        Err(failure) => {
            eprintln!("{failure}");
            failure.code.into()
        }
    }
}
