//! The command line of `hexloop bench`.

use clap::{Args, Subcommand, ValueEnum};

/// What to measure.
#[derive(Debug, Clone, Subcommand)]
pub enum BenchSubject {
    /// Links: how exact and fast they are on this machine, in namespaces of the bench's own.
    Link(BenchLinkArguments),
}

/// Arguments of `bench link`.
#[derive(Debug, Clone, Args)]
pub struct BenchLinkArguments {
    /// How much to measure: full takes about five minutes, smoke half a minute.
    #[arg(long, value_enum, default_value = "full")]
    pub preset: BenchPreset,
    /// Measure only this row, or those whose names begin so; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// List the rows with their targets, and measure nothing.
    #[arg(long)]
    pub list: bool,
    /// Fail with 7 when a target is missed.
    #[arg(long)]
    pub strict: bool,
}

/// How much to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchPreset {
    /// Whether everything works: a second per row, and small numbers of links.
    Smoke,
    /// What the targets are stated for.
    Full,
}
