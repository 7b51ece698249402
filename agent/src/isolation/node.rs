//! What keeps others away from one node: partition, memory, and what its processes are started with.

use std::fs;
use std::path::Path;

use hexloop_proto::AskedAndGot;
use hexloop_topologies::plan::NodePlan;
use serde::{Deserialize, Serialize};

use super::topology::{nodes_of, numa_nodes};
use super::{IsolationError, Settling, ranges};
use crate::cgroup::{CgroupError, NodeCgroups};
use crate::engine_cuda;
use crate::process::fields_after_name;
use crate::telemetry::node::descendants;

/// Kernel's number of `SCHED_FIFO` in `/proc/PID/stat`.
const FIFO: &str = "1";

/// What processes of a node are started with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Surroundings {
    /// Priority under SCHED_FIFO.
    pub(crate) realtime: Option<u8>,
    /// NUMA nodes that their memory is bound to; empty where nothing is bound.
    pub(crate) memory_nodes: Vec<u32>,
    /// Further variables.
    pub(crate) environment: Vec<(String, String)>,
}

/// Sets a node's partition and memory, and says what its processes are to be started with. So many
/// nodes of the plan are real-time: they share what there is for that.
///
/// # Errors
/// Not allowed, or the kernel refused.
pub(crate) fn settle(
    settling: &Settling<'_>,
    plan: &NodePlan,
    groups: &NodeCgroups,
    gpu: Option<&str>,
    realtime_nodes: u32,
) -> Result<(Vec<AskedAndGot>, Surroundings), NodeSettingError> {
    let mut settings = Vec::new();
    let mut surroundings = Surroundings::default();
    let asked = &plan.isolation;
    if let Some(partition) = asked.partition {
        let what = format!("cpuset partition of {}", plan.name);
        settling.check_allowed("partition", || format!("set the {what}"))?;
        let got = groups.set_partition(partition)?;
        settings.push(AskedAndGot {
            what,
            asked: Some(partition.name().to_owned()),
            note: got.is_none().then(|| {
                "a partition needs the cpuset controller of control groups version 2".to_owned()
            }),
            held: Some(got.as_deref() == Some(partition.name())),
            got,
            before: None,
        });
    }
    if asked.local_memory {
        let near = local_memory(settling.root, plan, groups, &mut settings)?;
        surroundings.memory_nodes = near;
    }
    if let Some(priority) = asked.realtime {
        settling.check_allowed("realtime", || {
            format!("run processes of {} under SCHED_FIFO {priority}", plan.name)
        })?;
        if let Some(budget_us) = groups.set_realtime_budget(realtime_nodes)? {
            settings.push(AskedAndGot {
                what: format!("real-time budget of {}", plan.name),
                got: Some(format!("{budget_us} us of each period on each CPU")),
                note: Some("what the control group's parent has, shared out".to_owned()),
                ..AskedAndGot::default()
            });
        }
        surroundings.realtime = Some(priority);
    }
    if let Some(uuid) = gpu {
        surroundings.environment = [(engine_cuda::VISIBLE_VARIABLE, uuid), engine_cuda::ORDER]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
    }
    Ok((settings, surroundings))
}

/// Returns the NUMA nodes that processes have to bind their memory to themselves: none where a
/// control group does it, or where there is only one.
fn local_memory(
    root: &Path,
    plan: &NodePlan,
    groups: &NodeCgroups,
    settings: &mut Vec<AskedAndGot>,
) -> Result<Vec<u32>, CgroupError> {
    let what = format!("memory of {}", plan.name);
    let numa = numa_nodes(root);
    if numa.len() < 2 {
        settings.push(AskedAndGot {
            what,
            asked: Some("local".to_owned()),
            got: Some("all of it".to_owned()),
            note: Some("this machine has one NUMA node: all memory is local".to_owned()),
            held: Some(true),
            before: None,
        });
        return Ok(Vec::new());
    }
    let near = nodes_of(&numa, &plan.cpus);
    let asked = format!("NUMA nodes {}", ranges(&near));
    let set = groups.set_memory_nodes(&near)?;
    settings.push(match &set {
        Some((version, got)) => AskedAndGot {
            what,
            asked: Some(asked),
            got: Some(format!("NUMA nodes {}", ranges(got))),
            note: Some(format!("by {} cpuset.mems", version.name())),
            held: Some(*got == near),
            before: None,
        },
        None => AskedAndGot {
            what,
            asked: Some(asked),
            got: None,
            note: Some("by set_mempolicy of each process; read back once they run".to_owned()),
            held: None,
            before: None,
        },
    });
    Ok(if set.is_some() { Vec::new() } else { near })
}

/// What processes below a node's first one really have of what they were started with.
pub(crate) fn read_back(
    node: &str,
    first_process: u32,
    surroundings: &Surroundings,
) -> Vec<AskedAndGot> {
    let mut settings = Vec::new();
    if let Some(priority) = surroundings.realtime {
        let (have, all) = threads_at(first_process, priority);
        settings.push(AskedAndGot {
            what: format!("SCHED_FIFO of the processes of {node}"),
            asked: Some(priority.to_string()),
            got: Some(format!("{priority} in {have} of {all} threads")),
            held: Some(have > 0 && have == all),
            ..AskedAndGot::default()
        });
    }
    if !surroundings.memory_nodes.is_empty() {
        let wanted = format!("bind:{}", ranges(&surroundings.memory_nodes));
        let processes = descendants(first_process);
        let policies: Vec<String> = processes.iter().filter_map(|pid| policy(*pid)).collect();
        settings.push(AskedAndGot {
            what: format!("memory policy of the processes of {node}"),
            asked: Some(wanted.clone()),
            got: policies.first().cloned(),
            note: policies
                .is_empty()
                .then(|| "/proc/PID/numa_maps tells nothing here".to_owned()),
            held: (!policies.is_empty()).then(|| policies.iter().all(|policy| *policy == wanted)),
            ..AskedAndGot::default()
        });
    }
    settings
}

/// Threads of all processes below a node's first one that have this priority, and all of them.
pub(crate) fn threads_at(first_process: u32, priority: u8) -> (usize, usize) {
    let (mut have, mut all) = (0, 0);
    let wanted = priority.to_string();
    for pid in descendants(first_process) {
        let threads = fs::read_dir(format!("/proc/{pid}/task"));
        for thread in threads.into_iter().flatten().flatten() {
            let Ok(stat) = fs::read_to_string(thread.path().join("stat")) else {
                continue;
            };
            // Fields 40 and 41 of proc(5): real-time priority and policy.
            let Some(mut fields) = fields_after_name(&stat) else {
                continue;
            };
            all += 1;
            let is_so = fields.nth(40 - 3) == Some(wanted.as_str()) && fields.next() == Some(FIFO);
            have += usize::from(is_so);
        }
    }
    (have, all)
}

/// The policy of a process's memory: the second word of each line of numa_maps.
fn policy(pid: u32) -> Option<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/numa_maps")).ok()?;
    let line = maps.lines().next()?;
    line.split(' ').nth(1).map(str::to_owned)
}

/// Why a node's settings could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeSettingError {
    /// Not allowed.
    #[error(transparent)]
    Isolation(#[from] IsolationError),
    /// A control group refused.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
}
