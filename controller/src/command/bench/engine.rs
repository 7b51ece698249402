//! `hexloop bench engine`: another process computes, this one meters the machine meanwhile.

mod peers;
mod roofline;
mod table;

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

use hexloop_agent::engine_cuda;
use hexloop_agent::process::SelfCommand;
use hexloop_agent::telemetry::power::PowerSampler;
use hexloop_agent::telemetry::sources::MeterSources;
use hexloop_proto::Measurement;
use hexloop_telemetry::Places;
use hexloop_workloads::clock::{self, MonotonicNs};
use hexloop_workloads::engine::bench::{BenchEvent, BenchPhase, BenchSpec, BenchWindow};
use hexloop_workloads::engine::{self, ComputeDevice};
use hexloop_workloads::job::thread_environment;
use serde::Serialize;

use peers::{Comparison, Peer};
use roofline::{Roofline, RowRoof};

use super::super::model::directory_of;
use super::super::{Voice, print, print_json};
use crate::cli::bench::BenchEngineArguments;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail, Outcome};
use crate::format::{count_to_f64, ns_to_s};
use crate::record::environment::Machine;
use crate::tell::tell;

/// Everything that was found.
#[derive(Debug, Serialize)]
pub(super) struct EngineDocument {
    schema_version: u32,
    tool_version: &'static str,
    machine: Machine,
    asked: BenchSpec,
    /// Hash of the model's weights; of their description, where they are random.
    weights_sha256: String,
    parameters: u64,
    /// Library, device and kernels.
    engine_path: String,
    load_s: f64,
    weight_bytes: u64,
    /// Power of the machine with the model loaded and nothing to do.
    idle_w: Measurement,
    rows: Vec<EngineRow>,
    /// What the rows of decoding could reach at most.
    roofline: Roofline,
    /// Why there are no rows of larger batches.
    no_room: Option<String>,
    /// How it compares with other programs; empty if that was not asked for.
    peers: Vec<Peer>,
}

/// What one window came to.
#[derive(Debug, Serialize)]
struct EngineRow {
    phase: BenchPhase,
    batch: u32,
    seconds: f64,
    passes: u64,
    tokens: u64,
    tokens_per_s: f64,
    cache_bytes: u64,
    /// Bytes of the weights times passes in a second: what decoding must at least read.
    weight_bytes_per_s: f64,
    /// Positions that a token of a sequence looks back on, on average; of decoding alone.
    positions_per_sequence: f64,
    /// What decoding so many sequences could reach.
    roofline: RowRoof,
    /// Gross.
    power_w: Measurement,
    /// Gross.
    j_per_token: Measurement,
    /// The idle power taken off.
    active_j_per_token: Measurement,
}

pub(super) fn engine(arguments: &BenchEngineArguments, voice: Voice) -> Outcome {
    let directory = directory_of(&arguments.model)?;
    let doing = || format!("{} is not a model that can be run", directory.display());
    let config = engine::verify(&directory).or_fail(ExitCode::InvalidInput, doing)?;
    let weights_sha256 = engine::weights_sha256(&directory).or_fail(ExitCode::Failed, doing)?;
    let most = u64::from(config.max_positions);
    let positions = u64::from(arguments.prompt_tokens) + u64::from(arguments.output_tokens);
    if positions > most {
        let message = format!(
            "{} tokens in and {} out are more than the {most} positions of {}",
            arguments.prompt_tokens, arguments.output_tokens, arguments.model
        );
        return Err(Failure::message(ExitCode::InvalidInput, message)
            .remedy("choose fewer with --prompt-tokens and --output-tokens"));
    }
    let spec = BenchSpec {
        model_directory: std::path::absolute(&directory).or_fail(ExitCode::InvalidInput, doing)?,
        device: arguments.device,
        precision: arguments.precision,
        threads: arguments.threads,
        prompt_tokens: arguments.prompt_tokens,
        output_tokens: arguments.output_tokens,
        batches: arguments.batches.clone(),
        window_ns: window_ns(arguments.window_s),
        ceilings: true,
    };
    let machine = Machine::look();
    let sampler = PowerSampler::start(&MeterSources::at(Places::from_environment()))
        .or_fail(ExitCode::Failed, || {
            "cannot start reading meters".to_owned()
        })?;
    let own = command(arguments)?;
    let mut child = Computing::start(&own, &spec, Stdio::inherit())?;
    let (mut document, mut ceilings) = (None, None);
    let mut idle_w = no_window();
    while let Some(event) = child.next()? {
        match event {
            BenchEvent::Ready {
                load_ns,
                weight_bytes,
                engine_path,
            } => {
                document = Some(EngineDocument {
                    schema_version: 1,
                    tool_version: env!("CARGO_PKG_VERSION"),
                    machine: machine.clone(),
                    asked: spec.clone(),
                    weights_sha256: weights_sha256.clone(),
                    parameters: config.parameters(),
                    engine_path,
                    load_s: ns_to_s(load_ns),
                    weight_bytes,
                    idle_w: no_window(),
                    rows: Vec::new(),
                    roofline: roofline::draw(None, &mut []),
                    no_room: None,
                    peers: Vec::new(),
                });
            }
            BenchEvent::Window(window) => {
                if !voice.quiet {
                    tell(&format_args!("{:?}, batch {}", window.phase, window.batch));
                }
                let document = document.as_mut().ok_or_else(out_of_order)?;
                let energy = energy_after(&sampler, window.start_ns, window.end_ns);
                if window.phase == BenchPhase::Idle {
                    idle_w = energy.scaled(1.0 / seconds_of(&window));
                    document.idle_w = idle_w.clone();
                } else {
                    let row = row(&window, &energy, &idle_w, document.weight_bytes);
                    document.rows.push(row);
                }
            }
            BenchEvent::Ceilings(found) => ceilings = Some(found),
            BenchEvent::NoRoom { batch, reason } => {
                let document = document.as_mut().ok_or_else(out_of_order)?;
                document.no_room = Some(format!("no room for {batch} sequences: {reason}"));
            }
            BenchEvent::Failed { reason } => {
                return Err(Failure::message(ExitCode::Failed, reason)
                    .context("the engine cannot be measured"));
            }
        }
    }
    sampler.finish();
    let mut document: EngineDocument = document.ok_or_else(out_of_order)?;
    document.roofline = roofline::draw(ceilings.as_ref(), &mut document.rows);
    if arguments.peers {
        let comparison = Comparison {
            own: &own,
            spec: &spec,
            python: arguments.peers_python.as_deref(),
            rounds: arguments.rounds,
            quiet: voice.quiet,
        };
        document.peers = comparison.run()?;
    }
    if voice.json {
        print_json(&document)?;
    } else {
        print(&table::table(&document))?;
    }
    Ok(ExitCode::Done)
}

fn out_of_order() -> Failure {
    Failure::message(
        ExitCode::Failed,
        "the process that computes ended before it had told what was asked",
    )
}

fn no_window() -> Measurement {
    Measurement::Unavailable {
        why: "the engine was not measured idle".to_owned(),
    }
}

fn window_ns(seconds: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the command line allows more than 0 and at most an hour"
    )]
    let ns = (seconds * 1e9) as u64;
    ns.max(1)
}

/// The energy of a window, once the meters have been read after its end.
fn energy_after(sampler: &PowerSampler, from: MonotonicNs, to: MonotonicNs) -> Measurement {
    /// The slowest counters are renewed ten times a second.
    const LATER_NS: u64 = 250_000_000;
    if sampler.can_sum() {
        clock::sleep_until(to + LATER_NS);
    }
    sampler.window(from, to).energy_j
}

fn seconds_of(window: &BenchWindow) -> f64 {
    ns_to_s(window.end_ns - window.start_ns)
}

fn row(
    window: &BenchWindow,
    energy: &Measurement,
    idle_w: &Measurement,
    weight_bytes: u64,
) -> EngineRow {
    let seconds = seconds_of(window);
    let (tokens, passes) = (count_to_f64(window.tokens), count_to_f64(window.passes));
    EngineRow {
        phase: window.phase,
        batch: window.batch,
        seconds,
        passes: window.passes,
        tokens: window.tokens,
        tokens_per_s: tokens / seconds,
        cache_bytes: window.cache_bytes,
        weight_bytes_per_s: count_to_f64(weight_bytes) * passes / seconds,
        positions_per_sequence: count_to_f64(window.positions) / tokens.max(1.0),
        roofline: RowRoof::unavailable("the roofline is drawn over decoding alone"),
        power_w: energy.scaled(1.0 / seconds),
        j_per_token: energy.scaled(1.0 / tokens),
        active_j_per_token: match (energy.value(), idle_w.value()) {
            (Some(gross_j), Some(idle_w)) => Measurement::Derived {
                value: (gross_j - idle_w * seconds) / tokens,
                source: "gross energy less idle power times the window's length".to_owned(),
            },
            (None, _) => energy.clone(),
            (_, None) => idle_w.clone(),
        },
    }
}

/// The program that computes, and its arguments.
fn command(arguments: &BenchEngineArguments) -> Result<Vec<OsString>, Failure> {
    if arguments.device == ComputeDevice::Cpu {
        let mut own = vec![OsString::from("/proc/self/exe")];
        own.extend(SelfCommand::hexloop().arguments_of_part("bench"));
        return Ok(own);
    }
    let program = match &arguments.engine_cuda {
        Some(program) => program.clone(),
        None => engine_cuda::find()
            .or_fail(ExitCode::Preflight, || "cannot compute on a GPU".to_owned())?,
    };
    Ok(vec![program.into_os_string(), OsString::from("bench")])
}

/// The process that computes. It ends with this value.
#[derive(Debug)]
struct Computing {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Computing {
    fn start(command: &[OsString], spec: &BenchSpec, errors: Stdio) -> Result<Computing, Failure> {
        let name = command.first().cloned().unwrap_or_default();
        let starting = || format!("cannot start {}", name.display());
        let mut child = Command::new(&name)
            .args(command.iter().skip(1))
            .envs(thread_environment(spec.threads))
            .env(engine_cuda::ORDER.0, engine_cuda::ORDER.1)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .or_fail(ExitCode::Preflight, starting)?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (Some(mut input), Some(output)) = (input, output) else {
            return Err(Failure::message(ExitCode::Failed, starting()));
        };
        let started = Computing {
            child,
            output: BufReader::new(output),
        };
        let line = serde_json::to_string(spec).or_fail(ExitCode::Failed, starting)? + "\n";
        // Where it has ended already, its output says why.
        let _ = input.write_all(line.as_bytes());
        Ok(started)
    }

    /// What it tells next; `None` when it has ended well.
    fn next(&mut self) -> Result<Option<BenchEvent>, Failure> {
        let doing = || "cannot read what the engine tells".to_owned();
        let mut line = String::new();
        let read = self.output.read_line(&mut line);
        if read.or_fail(ExitCode::Failed, doing)? > 0 {
            let event = serde_json::from_str(&line).or_fail(ExitCode::Failed, doing)?;
            return Ok(Some(event));
        }
        let status = self.child.wait().or_fail(ExitCode::Failed, doing)?;
        if status.success() {
            return Ok(None);
        }
        let message = format!("the process that computes ended with {status}");
        Err(Failure::message(ExitCode::Failed, message))
    }
}

impl Drop for Computing {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
