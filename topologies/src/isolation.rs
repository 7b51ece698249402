//! What keeps others away from the nodes: what a plan asks for, and how it is read from a file.

use serde::{Deserialize, Serialize};

use crate::check::Reporter;
use crate::compute::is_uuid;
use crate::problem::quoted;
use crate::section::Section;

/// What is asked of the machine for the time of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MachinePlan {
    /// Frequency governor of the nodes' CPUs.
    pub governor: Option<String>,
    /// Energy preference of the nodes' CPUs.
    pub energy_preference: Option<String>,
    /// Whether CPUs may run above their nominal frequency.
    pub boost: Option<bool>,
    /// Whether interrupts are moved away from the nodes' CPUs.
    pub move_interrupts: bool,
    /// Huge pages to have free.
    pub hugepages: Option<HugepagesPlan>,
    /// How cool it is to be before the phases.
    pub cool: Option<CoolPlan>,
    /// Meters that it must have: `any`, `gpu`, `cpu`, `board`, or the name of an external one.
    pub meters: Vec<String>,
    /// How long it is listened to before anything is made; 0 leaves that out.
    pub noise_check_ns: u64,
}

/// Huge pages to have free when the run begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugepagesPlan {
    /// All of them together, in bytes.
    pub bytes: u64,
    /// Size of one, in KiB.
    pub size_kib: u32,
}

/// A temperature to wait for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoolPlan {
    /// In degrees Celsius.
    pub to_c: u32,
    /// The longest wait.
    pub limit_ns: u64,
}

/// What keeps others away from a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeIsolation {
    /// Takes its CPUs away from everybody else.
    pub partition: Option<Partition>,
    /// Whether its memory is that of its CPUs' NUMA nodes alone.
    pub local_memory: bool,
    /// Priority of its processes under SCHED_FIFO.
    pub realtime: Option<u8>,
    /// Its GPU.
    pub gpu: Option<GpuPlan>,
}

/// A kind of cpuset partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Partition {
    /// Its CPUs belong to nobody else.
    Root,
    /// The same, and the scheduler does not balance them.
    Isolated,
}

impl Partition {
    /// The word that the kernel knows.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Partition::Root => "root",
            Partition::Isolated => "isolated",
        }
    }
}

/// The GPU of a node, and what is set on it for the time of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GpuPlan {
    /// Its UUID or its number.
    pub gpu: String,
    /// Its power limit, in milliwatts.
    pub power_limit_mw: Option<u32>,
    /// The clock that it is locked to, in MHz.
    pub clock_mhz: Option<u32>,
    /// Whether its driver stays loaded.
    pub persistence: bool,
}

/// The section of the machine.
pub(crate) fn machine(reporter: &mut Reporter<'_>, file: &Section<'_>) -> MachinePlan {
    let section = file.table("machine");
    let hugepages = section.written("hugepages").map(|_| HugepagesPlan {
        bytes: section.size_bytes("hugepages"),
        size_kib: u32::try_from(section.size_bytes("hugepage_size") / 1024).unwrap_or(u32::MAX),
    });
    let cool = section.written("cool_to").map(|_| CoolPlan {
        to_c: section.integer_u32("cool_to"),
        limit_ns: section.time_ns("cool_limit"),
    });
    for (key, of, is_there) in [
        ("hugepage_size", "hugepages", hugepages.is_some()),
        ("cool_limit", "cool_to", cool.is_some()),
    ] {
        if let (Some(written), false) = (section.written(key), is_there) {
            let message = format!("`{key}` without `{of}` does nothing");
            let help = format!("add `{of}`, or take `{key}` out");
            reporter.report(&written.origin, message, Some(help));
        }
    }
    MachinePlan {
        governor: section.optional_text("governor"),
        energy_preference: section.optional_text("energy_preference"),
        boost: section.written("boost").map(|_| section.boolean("boost")),
        move_interrupts: section.boolean("move_interrupts"),
        hugepages,
        cool,
        meters: section.texts("meters"),
        noise_check_ns: section.time_ns("noise_check"),
    }
}

/// What a node's section says about it; /// what computes for it may have named its GPU.
pub(crate) fn node(
    reporter: &mut Reporter<'_>,
    section: &Section<'_>,
    computing_gpu: Option<String>,
) -> NodeIsolation {
    let partition = match section.optional_text("partition").as_deref() {
        Some("root") => Some(Partition::Root),
        Some(_) => Some(Partition::Isolated),
        None => None,
    };
    let whole = |key: &str| section.written(key).map(|_| section.integer_u32(key));
    let gpu = section.optional_text("gpu").or(computing_gpu);
    let gpu = gpu.map(|gpu| GpuPlan {
        gpu,
        power_limit_mw: whole("gpu_power_watts").map(|watts| watts.saturating_mul(1000)),
        clock_mhz: whole("gpu_clock_mhz"),
        persistence: section.boolean("gpu_persistence"),
    });
    match &gpu {
        Some(gpu) => gpu_name(reporter, section, &gpu.gpu),
        None => {
            for key in ["gpu_power_watts", "gpu_clock_mhz", "gpu_persistence"] {
                if let Some(written) = section.written(key) {
                    let message = format!("`{key}` without `gpu` does nothing");
                    let help = "name the node's GPU: `gpu = \"GPU-...\"` or `gpu = \"0\"`";
                    reporter.report(&written.origin, message, Some(help.to_owned()));
                }
            }
        }
    }
    NodeIsolation {
        partition,
        local_memory: section.text("memory") == "local",
        realtime: whole("realtime").and_then(|priority| u8::try_from(priority).ok()),
        gpu,
    }
}

fn gpu_name(reporter: &mut Reporter<'_>, section: &Section<'_>, gpu: &str) {
    let is_number = gpu.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number && !is_uuid(gpu) {
        let message = format!(
            "{} is neither the UUID nor the number of a GPU",
            quoted(gpu)
        );
        let help = "`nvidia-smi -L` and `hexloop doctor` list them".to_owned();
        reporter.report(section.place("gpu"), message, Some(help));
    }
}
