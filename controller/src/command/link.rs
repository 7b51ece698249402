//! `hexloop link`: a command behind a shaped link, or a real interface.

mod interface;

use std::process::ExitCode as Status;

use super::Voice;
use crate::cli::link::LinkArguments;
use crate::exit_code::ExitCode;
use crate::failure::Failure;

/// What the process exits with when the link itself fails, as env(1) does.
pub(crate) const OWN_FAILURE: u8 = 125;

/// Does what `hexloop link` asks and returns the status to exit with.
pub(crate) fn link(arguments: &LinkArguments, voice: Voice) -> Status {
    let outcome = match &arguments.interface {
        Some(action) => interface::interface(action, voice).map(Status::from),
        None => Err(behind(arguments)),
    };
    outcome.unwrap_or_else(|failure| {
        eprintln!("{failure}");
        match &arguments.interface {
            Some(_) => failure.code.into(),
            None => Status::from(OWN_FAILURE),
        }
    })
}

fn behind(_arguments: &LinkArguments) -> Failure {
    Failure::message(
        ExitCode::Preflight,
        "this version cannot put a command behind a link yet",
    )
}
