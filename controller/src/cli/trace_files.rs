//! Arguments of the verbs of `hexloop trace` that take and give files.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use hexloop_traces::format::import::{self, GapPolicy};
use hexloop_traces::units::{ByteSize, TimeSpan};
use hexloop_traces::{Direction, EndPolicy};

/// Arguments of `trace import`.
#[derive(Debug, Clone, Args)]
#[command(after_help = formats())]
pub struct TraceImportArguments {
    /// The recordings. Of a format with one direction a file, the first is the downlink's unless
    /// the names say otherwise.
    #[arg(value_name = "FILE", required_unless_present = "mahimahi_down")]
    pub recordings: Vec<PathBuf>,
    /// Their format; by default told by their content, where only one fits.
    #[arg(
        long,
        hide_possible_values = true,
        value_parser = PossibleValuesParser::new(import::IMPORTERS.iter().map(|importer| importer.name))
    )]
    pub format: Option<String>,
    /// Mahimahi's packet delivery file of the downlink: `--format mahimahi FILE`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["recordings", "format"])]
    pub mahimahi_down: Option<PathBuf>,
    /// The same of the uplink; without it the uplink is not limited.
    #[arg(long, value_name = "FILE", requires = "mahimahi_down")]
    pub mahimahi_up: Option<PathBuf>,
    /// One-way delay of each direction, where the recording holds none.
    #[arg(long, default_value = "0 ms")]
    pub delay: TimeSpan,
    /// Queue in front of the bottleneck; by default that of the link that plays the trace.
    #[arg(long)]
    pub queue: Option<ByteSize>,
    /// The direction of a recording that holds one and does not say which.
    #[arg(long, value_enum, default_value = "down")]
    pub direction: DirectionArgument,
    /// What becomes of longer times without samples.
    #[arg(long, value_enum, default_value = "refuse")]
    pub gaps: GapsArgument,
    /// The longest time without samples in which the last one holds; by default three times the
    /// usual distance between samples.
    #[arg(long, value_name = "TIME")]
    pub longest_hold: Option<TimeSpan>,
    /// Make rows of this length: the mean rate, the longest delay; outages keep their edges.
    #[arg(long, value_name = "TIME")]
    pub step: Option<TimeSpan>,
    /// What follows the end of the trace; by default what the format says.
    #[arg(long, value_enum)]
    pub end: Option<EndArgument>,
    /// The trace's name; by default that of the first file.
    #[arg(long)]
    pub name: Option<String>,
    /// The recording's licence, which the trace will tell.
    #[arg(long)]
    pub licence: Option<String>,
    /// Import only rows whose column has this value, or set one of the format's own choices; may
    /// be repeated.
    #[arg(long, value_name = "COLUMN=VALUE", value_parser = super::key_and_value)]
    pub select: Vec<(String, String)>,
    /// What a column of a table is, such as time=ts:s, down=thr:Mbit/s or rtt=ping:ms; may be
    /// repeated.
    #[arg(long, value_name = "ROLE=NAME:UNIT", value_parser = super::key_and_value)]
    pub column: Vec<(String, String)>,
    /// The scenario in which recorded positions are played: a bundled one or a scenario file.
    #[arg(long, value_name = "SCENARIO|FILE")]
    pub around: Option<String>,
    /// A setting of that scenario, or of the carrier on which recorded ratios (snr) are played,
    /// such as radio.bandwidth="20 MHz"; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = super::key_and_value)]
    pub settings: Vec<(String, String)>,
    /// The file to write: .csv, .arrow or .parquet.
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
}

/// The formats, for the end of the help.
fn formats() -> String {
    let mut text = "Formats:\n".to_owned();
    for importer in import::IMPORTERS {
        let line = format!("  {:14} {}\n", importer.name, importer.about);
        text.push_str(&line);
    }
    text
}

/// Arguments of `trace export`.
#[derive(Debug, Clone, Args)]
pub struct TraceExportArguments {
    /// The trace file.
    pub trace: PathBuf,
    /// The format; by default the one that the output's name ends with.
    #[arg(long, value_enum)]
    pub format: Option<ExportFormat>,
    /// The direction to write, in formats that hold one.
    #[arg(long, value_enum, default_value = "down")]
    pub direction: DirectionArgument,
    /// Make rows of this length first: the mean rate, the longest delay; outages keep their edges.
    #[arg(long, value_name = "TIME")]
    pub step: Option<TimeSpan>,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
}

/// What a trace can be exported to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// Mahimahi's packet delivery file, of one direction.
    Mahimahi,
    /// TheaterQ's simple form, of one direction.
    Theaterq,
    /// TheaterQ's extended form, of one direction.
    TheaterqExtended,
    /// Commented CSV.
    Csv,
    /// Parquet, for archives.
    Parquet,
    /// Arrow IPC, which is mapped for playback.
    Arrow,
    /// A shell script for htb and netem, of one direction; you run it.
    Netem,
}

/// Arguments of `trace show`.
#[derive(Debug, Clone, Args)]
pub struct TraceShowArguments {
    /// The trace file.
    pub trace: PathBuf,
    /// Print so many rows instead of charts.
    #[arg(long)]
    pub rows: Option<usize>,
    /// Characters a line has; by default those of the terminal.
    #[arg(long)]
    pub width: Option<usize>,
    /// Write the charts into this SVG file.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Write a page with the charts and what the trace says about itself.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DirectionArgument {
    /// Downlink.
    Down,
    /// Uplink.
    Up,
}

impl From<DirectionArgument> for Direction {
    fn from(argument: DirectionArgument) -> Direction {
        match argument {
            DirectionArgument::Down => Direction::Down,
            DirectionArgument::Up => Direction::Up,
        }
    }
}

/// What becomes of time without samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GapsArgument {
    /// Fail and name the gap.
    Refuse,
    /// The last sample holds.
    Hold,
    /// Nothing is carried.
    Outage,
}

impl From<GapsArgument> for GapPolicy {
    fn from(argument: GapsArgument) -> GapPolicy {
        match argument {
            GapsArgument::Refuse => GapPolicy::Refuse,
            GapsArgument::Hold => GapPolicy::Hold,
            GapsArgument::Outage => GapPolicy::Outage,
        }
    }
}

/// What follows the end of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EndArgument {
    /// It starts again.
    Loop,
    /// The last row holds.
    Hold,
    /// Every limit is lifted.
    Clear,
}

impl From<EndArgument> for EndPolicy {
    fn from(argument: EndArgument) -> EndPolicy {
        match argument {
            EndArgument::Loop => EndPolicy::Loop,
            EndArgument::Hold => EndPolicy::Hold,
            EndArgument::Clear => EndPolicy::Clear,
        }
    }
}
