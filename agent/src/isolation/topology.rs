//! NUMA nodes: which memory and which devices are near which CPUs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use hexloop_proto::AskedAndGot;
use hexloop_topologies::plan::Plan;

use super::{Settled, first_line, ranges};
use crate::cgroup::parse_cpu_list;

/// One NUMA node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NumaNode {
    /// Its number.
    pub(crate) number: u32,
    /// Its CPUs.
    pub(crate) cpus: Vec<u32>,
}

/// The NUMA nodes with CPUs, by number; none on a kernel that does not tell.
pub(crate) fn numa_nodes(root: &Path) -> Vec<NumaNode> {
    let Ok(entries) = fs::read_dir(root.join("sys/devices/system/node")) else {
        return Vec::new();
    };
    let mut nodes: Vec<NumaNode> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let number = name.strip_prefix("node")?.parse().ok()?;
            let cpus = parse_cpu_list(&first_line(&entry.path().join("cpulist"))?);
            Some(NumaNode { number, cpus })
        })
        .filter(|node| !node.cpus.is_empty())
        .collect();
    nodes.sort_by_key(|node| node.number);
    nodes
}

/// The NUMA nodes that some CPUs belong to.
pub(crate) fn nodes_of(nodes: &[NumaNode], cpus: &[u32]) -> Vec<u32> {
    let near = |node: &&NumaNode| node.cpus.iter().any(|cpu| cpus.contains(cpu));
    nodes.iter().filter(near).map(|node| node.number).collect()
}

/// The NUMA node of a device, by its place on the bus as NVML writes it; `None` where the firmware
/// does not say.
pub(crate) fn node_of_device(root: &Path, bus_id: &str) -> Option<u32> {
    // NVML writes the domain with eight digits, the kernel with four.
    let short = bus_id.get(bus_id.len().checked_sub(12)?..)?.to_lowercase();
    let path = root.join(format!("sys/bus/pci/devices/{short}/numa_node"));
    // -1 stands for no node.
    first_line(&path)?.parse().ok()
}

/// Which NUMA nodes the plan's CPUs are on.
pub(super) fn describe(root: &Path, plan: &Plan, settled: &mut Settled) {
    let nodes = numa_nodes(root);
    let words = match &nodes[..] {
        [] => "this kernel tells of none: all memory is the same".to_owned(),
        [only] => format!("one node ({}): all memory is the same", only.number),
        several => {
            let words = several
                .iter()
                .map(|node| format!("node {}: CPUs {}", node.number, ranges(&node.cpus)));
            words.collect::<Vec<_>>().join("; ")
        }
    };
    settled.settings.push(AskedAndGot {
        what: "NUMA".to_owned(),
        got: Some(words),
        ..AskedAndGot::default()
    });
    for node in plan.nodes.iter().filter(|_| nodes.len() > 1) {
        let on: BTreeSet<u32> = nodes_of(&nodes, &node.cpus).into_iter().collect();
        settled.settings.push(AskedAndGot {
            what: format!("NUMA nodes of the CPUs of {}", node.name),
            got: Some(ranges(&on)),
            ..AskedAndGot::default()
        });
        if on.len() > 1 {
            let list = ranges(&on);
            settled.warnings.push(format!(
                "the CPUs of node {} are on several NUMA nodes ({list}): its memory is near to some \
                 of them only",
                node.name
            ));
        }
    }
    let isolated = first_line(&root.join("sys/devices/system/cpu/isolated"));
    settled.settings.push(AskedAndGot {
        what: "CPUs isolated at boot".to_owned(),
        note: isolated
            .is_none()
            .then(|| "this kernel does not tell".to_owned()),
        got: isolated.map(|list| {
            if list.is_empty() {
                "none".to_owned()
            } else {
                list
            }
        }),
        ..AskedAndGot::default()
    });
}
