//! `hexloop trace`: channel traces.

mod eval;
mod export;
mod generate;
mod import;
mod list;
mod show;
mod stats;

use super::Voice;
use crate::cli::TraceAction;
use crate::failure::Outcome;

pub(super) fn trace(action: &TraceAction, voice: Voice) -> Outcome {
    match action {
        TraceAction::Gen(arguments) => generate::generate(arguments, voice),
        TraceAction::List => list::list(voice),
        TraceAction::Import(arguments) => import::import(arguments, voice),
        TraceAction::Export(arguments) => export::export(arguments, voice),
        TraceAction::Eval(arguments) => eval::eval(arguments, voice),
        TraceAction::Show(arguments) => show::show(arguments, voice),
        TraceAction::Stats { trace } => stats::stats(trace, voice),
    }
}
