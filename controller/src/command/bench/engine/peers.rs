//! How the engine compares with llama.cpp and PyTorch: the same model, threads and CPUs, taking turns in
//! one invocation, so that what the machine does besides meets all of them.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use hexloop_workloads::engine::bench::{BenchEvent, BenchPhase, BenchSpec};
use hexloop_workloads::engine::gguf::{BlockType, quantise};
use hexloop_workloads::engine::{ComputeDevice, Precision};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::Serialize;

use super::Computing;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail};
use crate::format::{count_to_f64, ns_to_s};
use crate::tell::tell;

/// The environment variable that names a Python with the peers.
const PYTHON: &str = "HEXLOOP_PEERS_PYTHON";

/// The peers, and what each of them runs.
const PEERS: [(&str, &str); 2] = [
    ("llama.cpp", include_str!("peers/llama_cpp.py")),
    ("PyTorch", include_str!("peers/pytorch.py")),
];

/// A peer, and how the engine compares with it.
#[derive(Debug, Serialize)]
pub(super) struct Peer {
    pub(super) name: &'static str,
    /// Its version and the instructions that its build uses; null if it could not be run.
    pub(super) build: Option<String>,
    /// Why there is no ratio.
    pub(super) unavailable: Option<String>,
    pub(super) rows: Vec<PeerRow>,
}

/// One sequence in one phase.
#[derive(Debug, Serialize)]
pub(super) struct PeerRow {
    pub(super) phase: BenchPhase,
    /// The engine's tokens per second in each round.
    pub(super) own_tokens_per_s: Vec<f64>,
    /// The peer's, in the same rounds.
    peer_tokens_per_s: Vec<f64>,
    /// The engine's over the peer's: the median of the rounds.
    pub(super) ratio: f64,
    /// The least of a round.
    pub(super) ratio_least: f64,
    /// The most.
    pub(super) ratio_most: f64,
}

/// What is compared.
#[derive(Debug)]
pub(super) struct Comparison<'a> {
    /// The engine's own program.
    pub(super) own: &'a [OsString],
    pub(super) spec: &'a BenchSpec,
    pub(super) python: Option<&'a Path>,
    pub(super) rounds: u32,
    pub(super) quiet: bool,
}

/// Tokens per second when reading a prompt and when making tokens, and what computed them.
struct Speeds {
    build: String,
    by_phase: Vec<(BenchPhase, f64)>,
}

impl Speeds {
    fn of(&self, phase: BenchPhase) -> Option<f64> {
        let mut phases = self.by_phase.iter();
        phases.find_map(|(one, speed)| (*one == phase).then_some(*speed))
    }
}

impl Comparison<'_> {
    /// Runs the engine and each peer in turn, so many times.
    pub(super) fn run(&self) -> Result<Vec<Peer>, Failure> {
        let named = self.python.map(Path::to_owned);
        let python = named.or_else(|| std::env::var_os(PYTHON).map(PathBuf::from));
        let Some(python) = python else {
            let why = format!(
                "no Python with the peers is named: `tests/peers DIRECTORY` installs them, then \
                 --peers-python or {PYTHON}"
            );
            return Ok(PEERS.map(|(name, _)| unavailable(name, &why)).into());
        };
        let whole = pin(self.spec.threads)?;
        let compared = self.compare(&python);
        let restored = sched_setaffinity(Pid::from_raw(0), &whole);
        restored.or_fail(ExitCode::Failed, || "cannot go back to all CPUs".to_owned())?;
        compared
    }

    fn compare(&self, python: &Path) -> Result<Vec<Peer>, Failure> {
        let file = self.gguf()?;
        let mut own = Vec::new();
        let mut theirs: Vec<(&str, Vec<Result<Speeds, String>>)> =
            PEERS.map(|(name, _)| (name, Vec::new())).into();
        for round in 0..self.rounds {
            if !self.quiet {
                tell(&format_args!(
                    "with peers, round {} of {}",
                    round + 1,
                    self.rounds
                ));
            }
            let spec = BenchSpec {
                batches: vec![1],
                ceilings: false,
                ..self.spec.clone()
            };
            own.push(speeds(Computing::start(
                self.own,
                &spec,
                Stdio::inherit(),
            )?)?);
            for ((name, script), (_, results)) in PEERS.iter().zip(&mut theirs) {
                let directory = match self.model_for(name, file.as_ref()) {
                    Ok(directory) => directory,
                    Err(why) => {
                        results.push(Err(why));
                        continue;
                    }
                };
                let spec = BenchSpec {
                    model_directory: directory,
                    ..spec.clone()
                };
                let command = [python.as_os_str(), "-c".as_ref(), script.as_ref()];
                results.push(speeds_of_peer(&command.map(OsStr::to_owned), &spec));
            }
        }
        let peers = theirs.into_iter();
        Ok(peers
            .map(|(name, theirs)| peer(name, &own, theirs))
            .collect())
    }

    /// The model's directory as a peer reads it; why it cannot if not.
    fn model_for(&self, name: &str, file: Option<&tempfile::TempDir>) -> Result<PathBuf, String> {
        if self.spec.device != ComputeDevice::Cpu || self.spec.precision != Precision::F32 {
            return Err(
                "peers are compared on CPUs, in f32 or in the blocks of a GGUF file".into(),
            );
        }
        match (name, file) {
            ("PyTorch", None) => Err("it is compared with models in safetensors files".to_owned()),
            ("llama.cpp", Some(file)) => Ok(file.path().join("model")),
            _ => Ok(self.spec.model_directory.clone()),
        }
    }

    /// The model as llama.cpp reads it, unless it is a GGUF file already.
    fn gguf(&self) -> Result<Option<tempfile::TempDir>, Failure> {
        let doing = || "cannot write the model for llama.cpp".to_owned();
        let directory = &self.spec.model_directory;
        let mut entries = std::fs::read_dir(directory).or_fail(ExitCode::Failed, doing)?;
        let is_gguf = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.is_ok_and(|entry| entry.path().extension() == Some("gguf".as_ref()))
        };
        if entries.any(is_gguf) {
            return Ok(None);
        }
        let made = tempfile::tempdir().or_fail(ExitCode::Failed, doing)?;
        quantise(directory, BlockType::F32, &made.path().join("model"))
            .or_fail(ExitCode::Failed, doing)?;
        Ok(Some(made))
    }
}

/// Keeps this process, and those that it starts, to as many CPUs as there are threads: the first that it
/// may use. Returns those that it might use before.
fn pin(threads: u32) -> Result<CpuSet, Failure> {
    let this = Pid::from_raw(0);
    let doing = || "cannot pin the engine and its peers".to_owned();
    let whole = sched_getaffinity(this).or_fail(ExitCode::Failed, doing)?;
    let mut some = CpuSet::new();
    let allowed = (0..CpuSet::count()).filter(|cpu| whole.is_set(*cpu).unwrap_or(false));
    let wanted = usize::try_from(threads).unwrap_or(usize::MAX);
    for cpu in allowed.take(wanted) {
        some.set(cpu).or_fail(ExitCode::Failed, doing)?;
    }
    sched_setaffinity(this, &some).or_fail(ExitCode::Failed, doing)?;
    Ok(whole)
}

fn unavailable(name: &'static str, why: &str) -> Peer {
    Peer {
        name,
        build: None,
        unavailable: Some(why.to_owned()),
        rows: Vec::new(),
    }
}

/// Has a peer measure. What it says besides is shown where it fails: its last line.
fn speeds_of_peer(command: &[OsString], spec: &BenchSpec) -> Result<Speeds, String> {
    let said = tempfile::tempfile().map_err(|error| error.to_string())?;
    let also = said.try_clone().map_err(|error| error.to_string())?;
    let measured = Computing::start(command, spec, also.into()).and_then(speeds);
    measured.map_err(|failure| {
        let last = last_line(said).unwrap_or_default();
        format!("{failure} ({last})")
    })
}

/// The last line of what a program has written to a file.
fn last_line(mut said: File) -> std::io::Result<String> {
    said.rewind()?;
    let mut bytes = Vec::new();
    said.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().last().unwrap_or("it said nothing").to_owned())
}

/// Keeps what a program tells until it has measured.
fn speeds(mut child: Computing) -> Result<Speeds, Failure> {
    let mut speeds = Speeds {
        build: String::new(),
        by_phase: Vec::new(),
    };
    while let Some(event) = child.next()? {
        match event {
            BenchEvent::Ready { engine_path, .. } => speeds.build = engine_path,
            BenchEvent::Window(window) if window.phase != BenchPhase::Idle => {
                let seconds = ns_to_s(window.end_ns.saturating_sub(window.start_ns));
                let speed = count_to_f64(window.tokens) / seconds;
                speeds.by_phase.push((window.phase, speed));
            }
            BenchEvent::Window(_) | BenchEvent::Ceilings(_) => {}
            BenchEvent::NoRoom { reason, .. } | BenchEvent::Failed { reason } => {
                return Err(Failure::message(ExitCode::Failed, reason));
            }
        }
    }
    Ok(speeds)
}

fn peer(name: &'static str, own: &[Speeds], theirs: Vec<Result<Speeds, String>>) -> Peer {
    let theirs: Result<Vec<Speeds>, String> = theirs.into_iter().collect();
    let theirs = match theirs {
        Ok(theirs) => theirs,
        Err(why) => return unavailable(name, &why),
    };
    let phases = [BenchPhase::Prefill, BenchPhase::Decode];
    Peer {
        name,
        build: theirs.first().map(|speeds| speeds.build.clone()),
        unavailable: None,
        rows: phases
            .into_iter()
            .filter_map(|phase| row(phase, own, &theirs))
            .collect(),
    }
}

/// The ratios of each round; `None` where a round has no such window.
fn row(phase: BenchPhase, own: &[Speeds], theirs: &[Speeds]) -> Option<PeerRow> {
    let of = |all: &[Speeds]| -> Option<Vec<f64>> {
        all.iter().map(|speeds| speeds.of(phase)).collect()
    };
    let (own, theirs) = (of(own)?, of(theirs)?);
    let ratios = own.iter().zip(&theirs).map(|(own, theirs)| own / theirs);
    let mut ratios: Vec<f64> = ratios.collect();
    ratios.sort_by(f64::total_cmp);
    Some(PeerRow {
        phase,
        ratio: *ratios.get(ratios.len() / 2)?,
        ratio_least: *ratios.first()?,
        ratio_most: *ratios.last()?,
        own_tokens_per_s: own,
        peer_tokens_per_s: theirs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(build: &str, prefill: f64, decode: f64) -> Speeds {
        Speeds {
            build: build.to_owned(),
            by_phase: vec![(BenchPhase::Prefill, prefill), (BenchPhase::Decode, decode)],
        }
    }

    #[test]
    fn the_ratio_is_the_median_of_the_rounds_and_its_ends_are_kept() {
        let own = [10.0, 20.0, 60.0].map(|speed| measured("own", speed, 1.0));
        let theirs = [20.0, 20.0, 20.0].map(|speed| Ok(measured("peer 1.0", speed, 2.0)));
        let peer = peer("peer", &own, theirs.into());
        assert_eq!(peer.build.as_deref(), Some("peer 1.0"));
        let [prefill, decode] = peer.rows.as_slice() else {
            panic!("two phases: {:?}", peer.rows)
        };
        let of = |row: &PeerRow| [row.ratio_least, row.ratio, row.ratio_most];
        assert_eq!((of(prefill), of(decode)), ([0.5, 1.0, 3.0], [0.5; 3]));
    }

    #[test]
    fn a_peer_that_fails_in_a_round_has_no_ratio_and_says_why() {
        let own = [measured("own", 1.0, 1.0)];
        let peer = peer("peer", &own, vec![Err("no module named torch".to_owned())]);
        assert_eq!(peer.unavailable.as_deref(), Some("no module named torch"));
        assert!(peer.rows.is_empty());
    }
}
