//! The command line: verbs, arguments and what they mean.

pub mod bench;
pub mod generate;
pub mod link;
pub mod meter;
pub mod trace;
pub mod trace_files;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand, ValueEnum};
use hexloop_topologies::Overrides;
use hexloop_workloads::engine::gguf::BlockType;

use crate::tell::tell;

const EXIT_CODES: &str = "Exit codes: 0 done, 1 the run failed, 2 usage, 3 invalid input, 4 preflight \
(privilege, kernel, hardware, space), 5 this machine is dirty, 6 the run's verdict is INVALID, \
7 an expectation did not hold (--strict), 130 interrupted.";

const ABOUT: &str = "Emulates a 6G edge in hardware in the loop and runs language models on it.";

/// Emulates a 6G edge in hardware in the loop and runs language models on it.
#[derive(Debug, Parser)]
#[command(name = "hexloop", version, about = ABOUT, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    /// Print one JSON document on standard output, and everything else on standard error.
    // A flag that is kept as text: `link` and `meter`, whose command has standard output, give it a
    // file.
    #[arg(
        id = "json",
        long = "json",
        global = true,
        num_args = 0,
        default_missing_value = "-"
    )]
    json: Option<String>,
    /// Print no progress.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

impl Cli {
    /// What `hexloop agent init` is parsed to. A first process lives as long as its node and a star has a
    /// thousand of them: each would keep the pages (a third of a megabyte) that the whole command line's
    /// description was built in.
    const fn first_process() -> Cli {
        Cli {
            json: None,
            quiet: false,
            verb: Verb::Agent {
                part: AgentPart::Init,
            },
        }
    }

    /// Whether one JSON document is wanted on standard output.
    #[must_use]
    pub const fn json(&self) -> bool {
        self.json.is_some()
    }

    /// Whether the verb may compute with a model in this process. A command of the user's gets the
    /// environment that it was given, without the limits of threads that this takes.
    #[must_use]
    pub const fn may_compute(&self) -> bool {
        !matches!(
            self.verb,
            Verb::Link(_)
                | Verb::Meter(_)
                | Verb::Agent {
                    part: AgentPart::Hold(_) | AgentPart::Inhabit(_)
                }
        )
    }
}

/// Whether what was not expected is a word, not an option.
fn is_word(error: &clap::Error) -> bool {
    let unexpected = error.get(ContextKind::InvalidArg);
    matches!(unexpected, Some(ContextValue::String(word)) if !word.starts_with('-'))
}

/// Parses the command line. What clap wants said has been said when there is none.
///
/// # Errors
/// The status to exit with: 0 after help, 2 after a mistake, and 125 where a mistake is in the
/// line of a command behind a link or a metered one, whose own status might be 2.
pub fn parse() -> Result<Cli, std::process::ExitCode> {
    if std::env::args_os().skip(1).eq(["agent", "init"]) {
        return Ok(Cli::first_process());
    }
    Cli::try_parse().map_err(|error| {
        // A reader that has gone away is no failure of ours.
        let _ = error.print();
        let mut words = std::env::args_os().skip(1);
        let verb = words.next().unwrap_or_default();
        let has_command = words.next().is_none_or(|word| {
            let verbs = ["apply", "confirm", "show", "clear"];
            !verbs.iter().any(|verb| word == *verb)
        });
        let is_stray = error.kind() == ErrorKind::UnknownArgument && is_word(&error);
        if verb == "link" && has_command && is_stray {
            tell(&"  tip: write `--` before the command: hexloop link [OPTIONS] -- COMMAND");
        }
        let is_theirs = verb == "meter" || (verb == "link" && has_command);
        let status = match is_theirs && error.use_stderr() {
            true => 125,
            false => u8::try_from(error.exit_code()).unwrap_or(2),
        };
        status.into()
    })
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run an experiment and write its run directory with report.html.
    Run(RunArguments),
    /// Check experiment files and tell every problem with file:line:column.
    Check(CheckArguments),
    /// Tell what a run would do, without doing it.
    Plan(ExperimentArguments),
    /// Find out by trying what this machine can do.
    Doctor,
    /// Run a command behind a shaped link, or shape a real interface.
    Link(Box<link::LinkArguments>),
    /// Meter the energy of any command, with the idle power before and after it.
    Meter(Box<meter::MeterArguments>),
    /// Measure how exact and fast this machine's links are.
    Bench {
        /// What to measure.
        #[command(subcommand)]
        subject: bench::BenchSubject,
    },
    /// Write the report of a run again, from its records alone.
    Report(ReportArguments),
    /// Undo what an earlier run that was killed has left behind.
    Undo,
    /// Print the JSON Schema of a document.
    Schema(SchemaArguments),
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Built-in and local models.
    Model {
        /// What to do with them.
        #[command(subcommand)]
        action: ModelAction,
    },
    /// Channel traces.
    Trace {
        /// What to do with them.
        #[command(subcommand)]
        action: TraceAction,
    },
    /// The agent that plays nodes.
    Agent {
        /// Which part of it.
        #[command(subcommand)]
        part: AgentPart,
    },
}

/// An experiment and what the command line changes in it.
#[derive(Debug, Clone, Args)]
pub struct ExperimentArguments {
    /// The experiment file.
    pub experiment: PathBuf,
    /// What the command line changes in it.
    #[command(flatten)]
    pub changes: ChangeArguments,
}

/// What the command line changes in an experiment.
#[derive(Debug, Clone, Args)]
pub struct ChangeArguments {
    /// Apply a preset of the file, such as smoke or full.
    #[arg(long)]
    pub preset: Option<String>,
    /// The seed that everything random follows from.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Change one value of the file, such as nodes.device.cpus=2; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub set: Vec<(String, String)>,
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("write KEY=VALUE, such as nodes.device.cpus=2".to_owned()),
    }
}

impl ChangeArguments {
    /// The same for the parser of experiment files.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        Overrides {
            preset: self.preset.clone(),
            seed: self.seed,
            set: self.set.clone(),
        }
    }
}

/// Arguments of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArguments {
    /// The experiment.
    #[command(flatten)]
    pub experiment: ExperimentArguments,
    /// Where run directories go.
    #[arg(long, default_value = "results", value_name = "DIR")]
    pub output: PathBuf,
    /// Capture the packets of each relayed link and direction into captures/ of the run directory,
    /// as pcapng with the times at which they came, were due and left.
    #[arg(long)]
    pub pcap: bool,
    /// Fail with 7 when an expectation does not hold.
    #[arg(long)]
    pub strict: bool,
    /// How the run is metered and shown.
    #[command(flatten)]
    pub metering: MeteringArguments,
}

/// How an agent meters, and where it shows that.
#[derive(Debug, Clone, Default, Args)]
pub struct MeteringArguments {
    /// Show metrics to Prometheus at http://ADDRESS/metrics; only on loopback, unless agent.toml
    /// says the same address.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics: Option<SocketAddr>,
    /// What is read, and how often.
    #[command(flatten)]
    pub sampling: SamplingArguments,
}

/// What is read beside this machine's own meters, and how often.
#[derive(Debug, Clone, Default, Args)]
pub struct SamplingArguments {
    /// Take lines of an external meter: NAME=unix:PATH or NAME=tcp:127.0.0.1:PORT, and with `run`
    /// and `meter` NAME=- for standard input. A line is `SECONDS_SINCE_1970 WATTS`, or `- WATTS` for now.
    #[arg(long = "meter", value_name = "NAME=WHERE")]
    pub meters: Vec<String>,
    /// Readings of energy and power per second, 1 to 1000.
    #[arg(long, value_name = "HZ", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub meter_rate: u32,
}

/// Arguments of `check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArguments {
    /// The experiment files.
    #[arg(required = true)]
    pub experiments: Vec<PathBuf>,
    /// What the command line changes in it.
    #[command(flatten)]
    pub changes: ChangeArguments,
}

/// Arguments of `report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArguments {
    /// The run directory; one that ends in .interrupted will do.
    pub run: PathBuf,
    /// Where the report goes; by default RUN/report.html.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Arguments of `schema`.
#[derive(Debug, Clone, Args)]
pub struct SchemaArguments {
    /// Which document.
    #[arg(value_enum, default_value = "experiment")]
    pub document: SchemaDocument,
}

/// Documents with a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaDocument {
    /// Experiment files.
    Experiment,
    /// summary.json of a run.
    Summary,
}

/// What to do with models.
#[derive(Debug, Clone, Subcommand)]
pub enum ModelAction {
    /// Train a built-in model and keep it in the user's cache.
    Train {
        /// Name of the recipe; `hexloop model list` tells which there are.
        #[arg(default_value = "tiny")]
        recipe: String,
        /// Write its Hugging Face files into this new directory instead.
        #[arg(long, value_name = "DIR")]
        output: Option<PathBuf>,
        /// Train it again even if it is there.
        #[arg(long)]
        again: bool,
    },
    /// Check a model and tell its shape and hash.
    Info {
        /// A recipe's name, or a directory with config.json, tokenizer.json and the weights
        /// (model.safetensors, the files of model.safetensors.index.json, or one GGUF file).
        model: String,
    },
    /// Store a checkpoint's weights in fewer bits, as a GGUF file that llama.cpp reads too.
    Quantize {
        /// A recipe's name, or a directory with config.json, tokenizer.json and safetensors.
        model: String,
        /// How its matrices are stored: F32, F16, Q8_0, Q6_K, Q4_K or Q4_0.
        #[arg(long = "type", value_name = "TYPE", default_value = "Q8_0")]
        block_type: BlockType,
        /// The directory to make.
        #[arg(long, value_name = "DIR")]
        output: PathBuf,
    },
    /// Make a model's directory of a GGUF file.
    Import {
        /// The GGUF file.
        file: PathBuf,
        /// The model's tokenizer.json, instead of what the file says.
        #[arg(long, value_name = "FILE")]
        tokenizer: Option<PathBuf>,
        /// The directory to make.
        #[arg(long, value_name = "DIR")]
        output: PathBuf,
    },
    /// Make a model of any config.json with weights that were never trained, to measure how fast and
    /// with how much energy its shape computes.
    Random {
        /// The config.json, as it is published with a checkpoint.
        config: PathBuf,
        /// What the weights are drawn from.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The directory to make.
        #[arg(long, value_name = "DIR")]
        output: PathBuf,
    },
    /// Train early exits of a checkpoint, as `topologies/e05-cascade-early-exit.toml` takes them, on a text.
    Exits(ModelExitsArguments),
    /// List the built-in models.
    List,
}

/// How early exits are trained.
#[derive(Debug, Clone, Args)]
pub struct ModelExitsArguments {
    /// A directory with config.json, tokenizer.json and the weights; a recipe's name with --output alone.
    pub model: String,
    /// The text to learn from, in UTF-8: the more like what the model will be asked, the better. A tenth
    /// at its end is held out.
    #[arg(long, value_name = "FILE")]
    pub text: PathBuf,
    /// The layers that an exit follows, counted from 1, such as 8,16,24; all but the last unless given.
    #[arg(long, value_name = "LAYERS", value_delimiter = ',')]
    pub layers: Vec<u32>,
    /// Optimiser steps.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: u32,
    /// Tokens of a sequence; four of them make a step.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pub sequence: u32,
    /// Write exits.safetensors and exits.json into this directory instead of the model's.
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
}

/// What to do with traces.
#[derive(Debug, Clone, Subcommand)]
pub enum TraceAction {
    /// Generate traces of a scenario.
    #[command(visible_alias = "generate")]
    Gen(generate::TraceGenArguments),
    /// List the bundled scenarios.
    List,
    /// Make a trace from recordings in another format.
    Import(Box<trace_files::TraceImportArguments>),
    /// Write a trace in another format.
    Export(trace_files::TraceExportArguments),
    /// Evaluate one channel model for every row of a table.
    Eval(trace::TraceEvalArguments),
    /// Draw a trace in the terminal, as SVG or as a page.
    Show(trace_files::TraceShowArguments),
    /// Tell rates, delays and outages of a trace.
    Stats {
        /// The trace file.
        trace: PathBuf,
    },
}

/// Parts of the agent.
#[derive(Debug, Clone, Subcommand)]
pub enum AgentPart {
    /// Serve controllers on a unix socket.
    Serve(AgentServeArguments),
    /// Try what an agent needs of this machine and print how it came out; started by `run`.
    #[command(hide = true)]
    Probe,
    /// The first process of a node; started by the agent.
    #[command(hide = true)]
    Init,
    /// A job; started in a node.
    #[command(hide = true)]
    Job,
    /// The process that computes for `bench engine`.
    #[command(hide = true)]
    Bench,
    /// Makes the namespaces of a command behind a link; started by `link`.
    #[command(hide = true)]
    Hold(link::HoldArguments),
    /// The first process around a command behind a link; started by `link`.
    #[command(hide = true)]
    Inhabit(link::InhabitArguments),
    /// Change a link of a run under way: pause, resume, jump, override, clear or set.
    Control(AgentControlArguments),
    /// Traffic without a model; started in a node.
    #[command(hide = true)]
    Traffic,
    /// A process of a study; started in a node.
    #[command(hide = true)]
    Study,
    /// Load for a server that is no part of this program; started in a node.
    #[command(hide = true)]
    Load,
    /// The process that holds a real interface in a shape; started by `link apply`.
    #[command(hide = true)]
    Keep {
        /// Where ledgers are kept.
        #[arg(long)]
        state_directory: PathBuf,
    },
    /// The process that undoes what its owner leaves behind; started by its owner.
    #[command(hide = true)]
    Guard {
        /// The ledger.
        #[arg(long)]
        ledger: PathBuf,
    },
}

/// Arguments of `agent control`.
#[derive(Debug, Clone, Args)]
pub struct AgentControlArguments {
    /// The agent's socket; `run` tells it.
    #[arg(long)]
    pub socket: PathBuf,
    /// What to do.
    #[arg(value_parser = ["pause", "resume", "jump", "override", "clear", "set"])]
    pub action: String,
    /// The link.
    pub link: String,
    /// The keys of an experiment file's `[[events]]`, such as rate="20 Mbit/s", to="5 s",
    /// discipline=codel or direction=up.
    #[arg(value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub settings: Vec<(String, String)>,
}

/// Arguments of `agent serve`.
#[derive(Debug, Clone, Args)]
pub struct AgentServeArguments {
    /// The socket to listen on; its directory gets mode 0700.
    #[arg(long)]
    pub socket: PathBuf,
    /// Where the undo ledger is kept; by default /var/lib/hexloop or the user's state directory.
    #[arg(long)]
    pub state_directory: Option<PathBuf>,
    /// End when standard input ends: its owner holds the other end.
    #[arg(long)]
    pub lease_on_stdin: bool,
    /// How it meters, and where it shows that.
    #[command(flatten)]
    pub metering: MeteringArguments,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_value_may_hold_an_equals_sign_and_a_key_may_not_be_empty() {
        assert_eq!(
            key_and_value("a.b=c=d"),
            Ok(("a.b".to_owned(), "c=d".to_owned()))
        );
        assert!(key_and_value("=x").is_err() && key_and_value("x").is_err());
    }

    #[test]
    fn the_help_begins_with_what_this_is() {
        let help = Cli::command().render_help().to_string();
        assert!(help.starts_with(ABOUT), "{help}");
    }

    #[test]
    fn json_and_quiet_may_follow_any_verb() {
        let cli = Cli::try_parse_from(["hexloop", "run", "x.toml", "--json", "--quiet"]).unwrap();
        assert!(cli.json() && cli.quiet);
    }
}
