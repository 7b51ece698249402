//! `hexloop link apply`, `show` and `clear`: a real interface.

use super::super::Voice;
use crate::cli::link::InterfaceAction;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};

pub(super) fn interface(action: &InterfaceAction, _voice: Voice) -> Outcome {
    let (verb, interface) = match action {
        InterfaceAction::Apply(arguments) => ("apply", &arguments.interface.interface),
        InterfaceAction::Show(arguments) => ("show", &arguments.interface),
        InterfaceAction::Clear(arguments) => ("clear", &arguments.interface),
    };
    let message = format!("this version cannot {verb} shaping on interface {interface} yet");
    Err(Failure::message(ExitCode::Preflight, message))
}
