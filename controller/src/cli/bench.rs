//! The command line of `hexloop bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use hexloop_workloads::engine::{ComputeDevice, Precision};

/// What to measure.
#[derive(Debug, Clone, Subcommand)]
pub enum BenchSubject {
    /// Links: how exact and fast they are on this machine, in namespaces of the bench's own.
    Link(BenchLinkArguments),
    /// Engine: how fast and with how much energy a model reads prompts and makes tokens here.
    Engine(BenchEngineArguments),
}

/// Arguments of `bench link`.
#[derive(Debug, Clone, Args)]
pub struct BenchLinkArguments {
    /// How much to measure: full takes about eight minutes, smoke half a minute.
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

/// Arguments of `bench engine`.
#[derive(Debug, Clone, Args)]
pub struct BenchEngineArguments {
    /// A built-in model or a model's directory.
    #[arg(long, default_value = "tiny")]
    pub model: String,
    /// Where it computes: cpu, or cuda:0 for the first GPU that CUDA shows.
    #[arg(long, default_value = "cpu")]
    pub device: ComputeDevice,
    /// In which numbers: f32, f16, or bf16 (on GPUs). A GGUF file's blocks stay blocks in f32, and become
    /// numbers of any other.
    #[arg(long, default_value = "f32")]
    pub precision: Precision,
    /// Threads of the engine.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: u32,
    /// Tokens of a prompt.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub prompt_tokens: u32,
    /// Tokens that are made before a sequence begins again after its prompt.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub output_tokens: u32,
    /// Numbers of sequences that are answered side by side.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4, 8],
          value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub batches: Vec<u32>,
    /// The least length of every window, in seconds.
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    pub window_s: f64,
    /// The program that computes on NVIDIA GPUs; else the one beside this program, or on the PATH.
    #[arg(long, value_name = "FILE")]
    pub engine_cuda: Option<PathBuf>,
    /// Compare it with llama.cpp and PyTorch on the same model, threads and CPUs, in turns.
    #[arg(long)]
    pub peers: bool,
    /// A Python that has them (`tests/peers DIRECTORY` installs them); else `HEXLOOP_PEERS_PYTHON`.
    #[arg(long, value_name = "FILE", requires = "peers")]
    pub peers_python: Option<PathBuf>,
    /// How many turns each of them has.
    #[arg(long, default_value_t = 3, requires = "peers", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
}

/// A length of time that is more than nothing and less than an hour.
fn seconds(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_ignored| "not a number".to_owned())?;
    if value > 0.0 && value <= 3600.0 {
        Ok(value)
    } else {
        Err("more than 0 and at most 3600".to_owned())
    }
}
