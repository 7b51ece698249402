//! `environment.json`: on what machine, with what program and what model the run was made.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use hexloop_workloads::engine::train::exits::ExitAgreement;
use serde::{Deserialize, Serialize};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use super::end_to_end::EndToEnd;
use crate::format::utc;
use crate::summary::TrainingEnergy;

/// The environment of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Version of this document.
    pub schema_version: u32,
    /// Name of the run.
    pub run: String,
    /// When it began, in UTC.
    pub started: String,
    /// Version of the program.
    pub tool_version: String,
    /// The command that makes this run again.
    pub command: String,
    /// The seed.
    pub seed: u64,
    /// The machine.
    pub machine: Machine,
    /// The working directory's state, or why there is none.
    pub git: Known<GitState>,
    /// The model that was served; `None` where there was none.
    pub model: Option<ModelOrigin>,
    /// The second, smaller model, likewise.
    #[serde(default)]
    pub draft_model: Option<ModelOrigin>,
    /// The latest end-to-end calibration of this machine when the run began.
    #[serde(default)]
    pub end_to_end: Option<EndToEnd>,
    /// What shaped the packets of each link; known once the links exist.
    #[serde(default)]
    pub datapaths: BTreeMap<String, String>,
}

/// A fact, or why it is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Known<T> {
    /// The fact.
    Known(T),
    /// Why it is not known.
    Unknown {
        /// In words.
        why: String,
    },
}

/// The machine that a run was made on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Kernel release and version.
    pub kernel: String,
    /// Processor architecture.
    pub architecture: String,
    /// Name of the CPU.
    pub cpu_model: String,
    /// CPUs that this process may use.
    pub cpus: u64,
    /// Memory in bytes; null where the system does not say.
    pub memory_bytes: Option<u64>,
    /// Load average over 1, 5 and 15 minutes when the run began; null likewise.
    pub load_average: Option<[f64; 3]>,
    /// The kernel's clock source.
    pub clock_source: String,
    /// Which control groups there are: `v2`, `v1`, `hybrid` or `none`.
    pub cgroups: String,
    /// The NVIDIA driver, or why there is none.
    pub gpu: Known<String>,
}

/// The state of the working directory's repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitState {
    /// The commit.
    pub commit: String,
    /// Whether files differ from it.
    pub dirty: bool,
}

/// Where the weights come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelOrigin {
    /// Recipe or directory.
    pub origin: String,
    /// SHA-256 of the weights.
    pub weights_sha256: String,
    /// Decoder layers.
    pub layers: u32,
    /// Width of the hidden state.
    pub width: u32,
    /// Number of weights.
    pub parameters: u64,
    /// Kernels that the engine uses.
    pub engine: String,
    /// How many tokens of every prompt are the chat template's, where the model has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template_tokens: Option<u32>,
    /// What training it came to in energy, or why that is not known.
    #[serde(default = "not_recorded")]
    pub training: Known<TrainingEnergy>,
    /// How its early exits agree with its last layer, where a study uses them and their training told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exits: Vec<ExitAgreement>,
}

fn not_recorded() -> Known<TrainingEnergy> {
    Known::Unknown {
        why: "an earlier version did not record it".to_owned(),
    }
}

fn first_line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().next().map(|line| line.trim().to_owned())
}

impl Machine {
    /// Looks at this machine.
    #[must_use]
    pub fn look() -> Machine {
        let wanted = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        let system = System::new_with_specifics(wanted).ok();
        let cpu_model = system
            .as_ref()
            .and_then(|system| system.cpus().first())
            .map(|cpu| cpu.brand().trim().to_owned())
            .filter(|brand| !brand.is_empty());
        let load = System::load_average().ok();
        let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let hybrid = Path::new("/sys/fs/cgroup/unified/cgroup.controllers").exists();
        let v1 = Path::new("/sys/fs/cgroup/cpu").exists();
        let cgroups = match (unified, hybrid, v1) {
            (true, ..) => "v2",
            (_, true, _) => "hybrid",
            (_, _, true) => "v1",
            _ => "none",
        };
        let gpu = match first_line("/proc/driver/nvidia/version") {
            Some(version) => Known::Known(version),
            None => Known::Unknown {
                why: "no NVIDIA driver is loaded".to_owned(),
            },
        };
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Machine {
            kernel: System::kernel_long_version().unwrap_or_else(|error| error.to_string()),
            architecture: std::env::consts::ARCH.to_owned(),
            cpu_model: cpu_model.unwrap_or_else(|| "unknown".to_owned()),
            cpus: u64::try_from(cpus).unwrap_or(1),
            memory_bytes: system.map(|system| system.total_memory()),
            load_average: load.map(|load| [load.one, load.five, load.fifteen]),
            clock_source: first_line(
                "/sys/devices/system/clocksource/clocksource0/current_clocksource",
            )
            .unwrap_or_else(|| "unknown".to_owned()),
            cgroups: cgroups.to_owned(),
            gpu,
        }
    }
}

impl GitState {
    /// Asks git about a directory.
    #[must_use]
    pub fn of(directory: &Path) -> Known<GitState> {
        let git = |arguments: &[&str]| {
            let output = Command::new("git")
                .arg("-C")
                .arg(directory)
                .args(arguments)
                .env("GIT_OPTIONAL_LOCKS", "0")
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .output()
                .map_err(|error| format!("git cannot be started: {error}"))?;
            if output.status.success() {
                Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
            } else {
                Err("the working directory is in no git repository with a commit".to_owned())
            }
        };
        let state = git(&["rev-parse", "HEAD"]).and_then(|commit| {
            let changes = git(&["status", "--porcelain"])?;
            Ok(GitState {
                commit,
                dirty: !changes.is_empty(),
            })
        });
        match state {
            Ok(state) => Known::Known(state),
            Err(why) => Known::Unknown { why },
        }
    }
}

/// What identifies a run in its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunIdentity {
    /// Name of the run.
    pub run: String,
    /// When it began, in nanoseconds since 1970.
    pub started_wall_clock_ns: u64,
    /// The command that makes it again.
    pub command: String,
    /// The seed.
    pub seed: u64,
}

impl Environment {
    /// Looks at the machine and the working directory.
    #[must_use]
    pub fn look(identity: RunIdentity, model: Option<ModelOrigin>) -> Environment {
        Environment {
            schema_version: super::read::ENVIRONMENT_SCHEMA,
            run: identity.run,
            started: utc(identity.started_wall_clock_ns),
            tool_version: crate::VERSION.to_owned(),
            command: identity.command,
            seed: identity.seed,
            machine: Machine::look(),
            git: GitState::of(Path::new(".")),
            model,
            draft_model: None,
            end_to_end: None,
            datapaths: BTreeMap::new(),
        }
    }
}
