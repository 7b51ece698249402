//! `hexloop trace`: channel traces.

mod eval;
mod export;
mod generate;
mod import;
mod list;
mod show;
mod stats;

use std::path::Path;

use hexloop_traces::TraceError;

use super::Voice;
use crate::cli::TraceAction;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};

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

/// The lines of a trace file before its rows.
const HEAD_LINES: usize = 2;

/// Why a trace file cannot be used: at file:line:column where it is text, and what to do about it.
fn unusable(path: &Path, error: TraceError) -> Failure {
    let source = match error {
        TraceError::InFile { source, .. } => *source,
        error => {
            let doing = format!("{} is not a trace", path.display());
            return Failure::new(ExitCode::InvalidInput, error).context(doing);
        }
    };
    let TraceError::Syntax {
        line,
        column,
        problem,
    } = source
    else {
        let failure = Failure::new(ExitCode::InvalidInput, source);
        return failure
            .context(format!("{} is not a trace", path.display()))
            .remedy("copy the file again, or make it again with `hexloop trace export`");
    };
    let message = format!("{}:{line}:{column}: {problem}", path.display());
    let remedy = if line <= HEAD_LINES {
        "a trace begins with its metadata and a header; `hexloop trace import` makes one of other \
         recordings"
    } else {
        "mend the row, or make the trace again with `hexloop trace gen` or `import`"
    };
    Failure::message(ExitCode::InvalidInput, message).remedy(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::trace_files::TraceShowArguments;

    /// What the verbs that read a trace say about a file with this content.
    fn told(name: &str, content: &[u8]) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        let voice = Voice {
            json: false,
            quiet: true,
        };
        let shown = TraceAction::Show(TraceShowArguments {
            trace: path.clone(),
            rows: None,
            width: Some(80),
            svg: None,
            html: None,
        });
        let stats = TraceAction::Stats { trace: path };
        let outcomes = [shown, stats].map(|action| trace(&action, voice));
        outcomes
            .into_iter()
            .map(|outcome| {
                let failure = outcome.unwrap_err();
                assert_eq!(failure.code, ExitCode::InvalidInput);
                assert!(failure.remedy.is_some(), "{failure}");
                failure.to_string()
            })
            .collect()
    }

    #[test]
    fn mistakes_in_a_trace_are_told_with_file_line_column_and_a_remedy() {
        let metadata = "# {\"schema\":2,\"scenario\":\"x\",\"status\":\"control\",\
                        \"duration_ns\":100,\"end\":\"hold\",\"seed\":null,\"generator\":\"x\"}\n";
        let header = "t_ns,down_rate_bps,up_rate_bps\n";
        for (text, expected) in [
            (String::new(), "bad.csv:1:1: "),
            ("t,rate\n1,2\n".to_owned(), "bad.csv:1:1: "),
            (metadata.to_owned(), "bad.csv:1:1: "),
            (
                format!("{metadata}t_ns,down_rate,up_rate_bps\n"),
                "bad.csv:2:6: unknown column",
            ),
            (
                format!("{metadata}t_ns,up_rate_bps\n0,1\n"),
                "bad.csv:2:1: ",
            ),
            (
                format!("{metadata}{header}0,NaN,1\n"),
                "bad.csv:3:3: down_rate_bps is `NaN`",
            ),
            (format!("{metadata}{header}0,1,-1\n"), "bad.csv:3:5: "),
            (
                format!("{metadata}{header}0,1,1\n5,1,1\n4,1,1\n"),
                "bad.csv:5:1: time goes back",
            ),
            (
                format!("{metadata}{header}0,1,1\n200,1,1\n"),
                "bad.csv:4:1: ",
            ),
        ] {
            for message in told("bad.csv", text.as_bytes()) {
                assert!(message.contains(expected), "{expected} is not in {message}");
            }
        }
    }

    #[test]
    fn what_is_left_of_a_columnar_file_is_no_trace() {
        for (name, content) in [
            ("cut.arrow", &b"ARROW1\0\0cut"[..]),
            ("cut.parquet", b"PAR1cut"),
        ] {
            for message in told(name, content) {
                assert!(message.contains(name), "{message}");
            }
        }
    }
}
