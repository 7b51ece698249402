//! What keeps others away from a run: settings of the machine that are asked for, made and read back,
//! and how quiet and cool it is before.
//!
//! Nothing is set that the machine's own `agent.toml` does not allow, and everything is noted for the
//! undoing before it is made. Files are those below a root, which tests put elsewhere.

pub(crate) mod cooling;
pub(crate) mod cpu_time;
mod engine;
mod error;
pub(crate) mod frequency;
pub(crate) mod gpu;
pub(crate) mod hugepages;
pub(crate) mod interrupts;
pub(crate) mod meters;
pub(crate) mod node;
pub(crate) mod noise;
pub(crate) mod topology;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use hexloop_proto::AskedAndGot;
use hexloop_telemetry::Places;
use hexloop_topologies::plan::Plan;

use crate::cgroup::parse_cpu_list;
use crate::change::Changes;
use crate::configuration::Configuration;
use crate::guardian::Guardian;
use crate::ledger::UndoId;
use crate::undo::Undo;

pub use error::IsolationError;

/// What is near to what on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nearness {
    /// The CPUs of each NUMA node; empty on a kernel that does not tell.
    pub numa_nodes: Vec<(u32, Vec<u32>)>,
    /// The GPUs whose NUMA node the firmware tells: number, UUID, NUMA node.
    pub gpus: Vec<(u32, String, u32)>,
}

/// Looks at the NUMA nodes, and at the GPUs if they matter.
#[must_use]
pub fn nearness(with_gpus: bool) -> Nearness {
    let root = Places::from_environment().root;
    // Without a GPU that can be found, its node fails where it is asked for, with the reason.
    let gpus = match with_gpus {
        true => gpu::list(&root).unwrap_or_default(),
        false => Vec::new(),
    };
    Nearness {
        numa_nodes: topology::numa_nodes(&root)
            .into_iter()
            .map(|node| (node.number, node.cpus))
            .collect(),
        gpus: gpus
            .into_iter()
            .filter_map(|gpu| Some((gpu.number, gpu.uuid, gpu.numa_node?)))
            .collect(),
    }
}

/// What settings are made with.
pub(crate) struct Settling<'a> {
    /// The root of the file system that holds `sys` and `proc`.
    pub(crate) root: &'a Path,
    /// What the owner of the machine allows.
    pub(crate) allowed: &'a Configuration,
    /// Whether this process may be let by the kernel.
    pub(crate) is_root: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// Asked and got, in words.
    pub(crate) settings: Vec<AskedAndGot>,
    /// UUIDs of the nodes' GPUs, by node.
    pub(crate) gpus: BTreeMap<String, String>,
    /// The program that computes on GPUs, where a node does.
    pub(crate) engine_cuda: Option<PathBuf>,
    /// What the reader should know.
    pub(crate) warnings: Vec<String>,
}

impl Settling<'_> {
    /// Makes the settings of the machine that a plan asks for, and reads those that it does not.
    /// `made` gets the notes of what was made, also after an error.
    ///
    /// # Errors
    /// A setting is not allowed, not offered, or not what was set. Then the rest is not made.
    pub(crate) fn settle(
        &self,
        plan: &Plan,
        guardian: &Guardian,
        made: &mut Vec<(UndoId, Undo)>,
    ) -> Result<Settled, IsolationError> {
        self.check_privilege(plan)?;
        let mut changes = Changes::new(guardian)?.below(self.root);
        let outcome = self.make(plan, &mut changes);
        made.extend(changes.into_made());
        outcome
    }

    fn make(&self, plan: &Plan, changes: &mut Changes<'_>) -> Result<Settled, IsolationError> {
        let cpus: BTreeSet<u32> = plan
            .nodes
            .iter()
            .flat_map(|node| node.cpus.clone())
            .collect();
        let mut settled = Settled::default();
        frequency::settle(self, &plan.machine, &cpus, changes, &mut settled.settings)?;
        interrupts::settle(self, &plan.machine, &cpus, changes, &mut settled.settings)?;
        hugepages::settle(self, &plan.machine, &cpus, changes, &mut settled.settings)?;
        topology::describe(self.root, plan, &mut settled);
        gpu::settle(self, plan, changes, &mut settled)?;
        engine::settle(plan, &mut settled)?;
        Ok(settled)
    }

    /// The kernel lets nobody but root make these settings: found out before any is made.
    fn check_privilege(&self, plan: &Plan) -> Result<(), IsolationError> {
        if self.is_root {
            return Ok(());
        }
        let machine = &plan.machine;
        let isolation = || plan.nodes.iter().map(|node| &node.isolation);
        let asked = [
            ("machine.governor", machine.governor.is_some()),
            (
                "machine.energy_preference",
                machine.energy_preference.is_some(),
            ),
            ("machine.boost", machine.boost.is_some()),
            ("machine.move_interrupts", machine.move_interrupts),
            ("machine.hugepages", machine.hugepages.is_some()),
            (
                "partition",
                isolation().any(|node| node.partition.is_some()),
            ),
            ("realtime", isolation().any(|node| node.realtime.is_some())),
        ];
        match asked.into_iter().find(|(_, is_asked)| *is_asked) {
            Some((key, _)) => Err(IsolationError::NeedsRoot { key }),
            None => Ok(()),
        }
    }

    /// An error unless the owner of the machine allows settings of that class.
    pub(crate) fn check_allowed(
        &self,
        class: &'static str,
        what: impl FnOnce() -> String,
    ) -> Result<(), IsolationError> {
        if self.allowed.host.settings.contains(class) {
            return Ok(());
        }
        Err(crate::change::ChangeError::NotAllowed {
            what: what(),
            class,
            path: self.allowed.path.clone(),
        }
        .into())
    }
}

/// The first line of a file, without its end; `None` where there is no such file.
pub(crate) fn first_line(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().next().map(|line| line.trim().to_owned())
}

/// The CPUs that are switched on; none where the kernel does not list them.
pub(crate) fn online_cpus(root: &Path) -> Vec<u32> {
    let list = first_line(&root.join("sys/devices/system/cpu/online"));
    parse_cpu_list(&list.unwrap_or_default())
}

/// Numbers as the kernel lists them: `0-2,5`.
#[must_use]
pub(crate) fn ranges<'a>(numbers: impl IntoIterator<Item = &'a u32>) -> String {
    let sorted: BTreeSet<u32> = numbers.into_iter().copied().collect();
    let mut found: Vec<(u32, u32)> = Vec::new();
    for number in sorted {
        match found.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            _ => found.push((number, number)),
        }
    }
    let words = found.into_iter().map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    });
    words.collect::<Vec<_>>().join(",")
}

/// The same value of several CPUs in words: `powersave`, or `powersave on 0-1; performance on 2`.
pub(crate) fn by_value(values: &BTreeMap<u32, String>) -> String {
    let mut cpus: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for (cpu, value) in values {
        cpus.entry(value).or_default().push(*cpu);
    }
    if let (1, Some(value)) = (cpus.len(), cpus.keys().next()) {
        return (*value).to_owned();
    }
    let words = cpus
        .iter()
        .map(|(value, cpus)| format!("{value} on {}", ranges(cpus)));
    words.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
pub(crate) mod tests;
