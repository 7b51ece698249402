//! Arguments of `hexloop meter`: the energy of any command.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use hexloop_traces::units::TimeSpan;

use super::SamplingArguments;

const AFTER_HELP: &str = "\
Everything that this machine can meter is read while the command runs, and before and after it \
without it: energy of the whole machine and of each meter, gross and above idle, each with what it \
leaves open; what cannot be metered is named with the reason. `hexloop doctor` lists the meters. \
As root the command runs as whoever called sudo.
Exit status: that of the command; 125 if metering failed, 126 if the command cannot be run, 127 if \
it was not found, 128 + N if signal N ended it, 130 if a signal came before it was run.

Examples:
  hexloop meter -- python3 train.py
  hexloop meter --idle 20 --json energy.json --csv readings -- ./bench
  plug-reader | hexloop meter --meter plug=- -- make -j8";

/// Arguments of `meter`.
#[derive(Debug, Clone, Args)]
#[command(after_help = AFTER_HELP)]
pub struct MeterArguments {
    /// What is read, and how often.
    #[command(flatten)]
    pub sampling: SamplingArguments,
    /// How long idle power is metered before and after the command, in seconds (or such as 500ms);
    /// 0 leaves it out.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub idle: TimeSpan,
    /// Write the summary as JSON into this file.
    // The same name and type as the flag of all other verbs: here the command has standard output.
    #[arg(id = "json", long = "json", value_name = "FILE")]
    pub json: Option<String>,
    /// Write every reading into DIR: power.csv, and gpu.csv where there is a GPU.
    #[arg(long, value_name = "DIR")]
    pub csv: Option<PathBuf>,
    /// The command and its arguments, after --.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// The longest idle span.
const LONGEST_NS: u64 = 3_600_000_000_000;

fn seconds(text: &str) -> Result<TimeSpan, String> {
    let is_number = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let text = if is_number {
        format!("{text} s")
    } else {
        text.to_owned()
    };
    let span: TimeSpan = text.parse().map_err(|error| format!("{error}"))?;
    if span.ns > LONGEST_NS {
        return Err("an hour at most".to_owned());
    }
    Ok(span)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Verb};

    #[test]
    fn idle_spans_are_seconds_and_what_follows_the_dashes_is_the_command_s() {
        let line = [
            "hexloop", "meter", "--idle", "0.5", "--json", "out.json", "--meter", "plug=-", "--",
            "make", "--json",
        ];
        let Verb::Meter(arguments) = Cli::try_parse_from(line).unwrap().verb else {
            panic!("another verb");
        };
        assert_eq!(arguments.idle.ns, 500_000_000);
        assert_eq!(arguments.json.as_deref(), Some("out.json"));
        assert_eq!(arguments.sampling.meters, ["plug=-"]);
        assert_eq!(arguments.command, ["make", "--json"]);
        assert_eq!(seconds("250ms").unwrap().ns, 250_000_000);
        for wrong in ["2h", "1e3", "-1", ""] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
