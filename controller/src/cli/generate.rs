//! Arguments of `trace gen`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use hexloop_traces::format::FileFormat;
use hexloop_traces::units::TimeSpan;

/// Arguments of `trace gen`.
#[derive(Debug, Clone, Args)]
pub struct TraceGenArguments {
    /// A bundled scenario (`hexloop trace list`), or a scenario file.
    #[arg(value_name = "SCENARIO|FILE")]
    pub scenario: String,
    /// The seed.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Several seeds, from the first to before the last, such as `1..6`; one file each.
    #[arg(long, value_name = "A..B", conflicts_with = "seed")]
    pub seeds: Option<SeedRange>,
    /// So many users, each with its own way and channel; one file each.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub users: u32,
    /// Length, instead of the scenario's.
    #[arg(long)]
    pub duration: Option<TimeSpan>,
    /// Time between rows, instead of the scenario's.
    #[arg(long)]
    pub step: Option<TimeSpan>,
    /// Version of TR 38.901 to take the tables of, 19.4 or 16.1, instead of the scenario's.
    #[arg(long, value_name = "VERSION")]
    pub spec: Option<String>,
    /// Another setting of the scenario, such as `radio.carrier="15 GHz"`; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    pub settings: Vec<(String, String)>,
    /// The file to write, or the directory for several; by default standard output.
    #[arg(long, value_name = "FILE|DIR")]
    pub output: Option<PathBuf>,
    /// The format of the files; by default the one that the output's name ends with, in a
    /// directory CSV.
    #[arg(long, value_enum, requires = "output")]
    pub format: Option<TraceFormat>,
    /// Most threads; by default one per CPU. Their number changes no byte of the traces.
    #[arg(long, value_name = "N")]
    pub threads: Option<std::num::NonZeroUsize>,
}

/// The formats that hold a trace with all that it says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TraceFormat {
    /// Commented CSV.
    Csv,
    /// Arrow IPC, which is mapped for playback.
    Arrow,
    /// Parquet, for archives.
    Parquet,
}

impl From<TraceFormat> for FileFormat {
    fn from(format: TraceFormat) -> FileFormat {
        match format {
            TraceFormat::Csv => FileFormat::Csv,
            TraceFormat::Arrow => FileFormat::Arrow,
            TraceFormat::Parquet => FileFormat::Parquet,
        }
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .filter(|(key, _)| !key.is_empty())
        .ok_or_else(|| "expected KEY=VALUE, such as radio.carrier=\"15 GHz\"".to_owned())
}

/// Seeds from `first` to before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeedRange {
    /// The first seed.
    pub first: u64,
    /// The one after the last.
    pub end: u64,
}

impl FromStr for SeedRange {
    type Err = String;

    fn from_str(text: &str) -> Result<SeedRange, String> {
        let parse = || {
            let (first, end) = text.split_once("..")?;
            let (first, end) = (first.parse().ok()?, end.parse().ok()?);
            (first < end).then_some(SeedRange { first, end })
        };
        parse()
            .ok_or_else(|| "expected A..B with A below B, such as 1..6 for five seeds".to_owned())
    }
}
