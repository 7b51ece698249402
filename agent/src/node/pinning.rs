//! Where a node may run and how much: asked, set, and read back.

use std::fs;
use std::io;

use hexloop_proto::CpuPinning;
use hexloop_topologies::plan::{CpuQuota, NodePlan};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::cgroup::{CgroupError, CgroupVersion, NodeCgroups, parse_cpu_list};

/// What went wrong while pinning.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PinningError {
    /// A control group refused.
    #[error("node {node}: its CPUs or its CPU quota cannot be set")]
    Cgroup {
        /// The node.
        node: String,
        /// The cause.
        #[source]
        source: CgroupError,
    },
    /// The affinity was refused.
    #[error("node {node}: cannot run on CPUs {cpus:?}; does this machine have them?")]
    Affinity {
        /// The node.
        node: String,
        /// The CPUs.
        cpus: Vec<u32>,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Pins a node's first process, and with it all that it will start.
pub(crate) fn pin(
    plan: &NodePlan,
    pid: u32,
    groups: &NodeCgroups,
) -> Result<CpuPinning, PinningError> {
    let cgroup = |source| PinningError::Cgroup {
        node: plan.name.clone(),
        source,
    };
    let cpuset = groups.set_cpus(&plan.cpus).map_err(cgroup)?;
    let quota = match plan.cpu_quota {
        Some(quota) => groups.set_quota(quota).map_err(cgroup)?,
        None => None,
    };
    groups.add(pid).map_err(cgroup)?;
    let (got_cpus, cpus_by) = match cpuset {
        Some((version, cpus)) => (cpus, format!("{} cpuset", version.name())),
        None => {
            set_affinity(pid, &plan.cpus).map_err(|source| PinningError::Affinity {
                node: plan.name.clone(),
                cpus: plan.cpus.clone(),
                source,
            })?;
            // CPUs that cannot be read back are none, which the verdict does not let pass.
            (cpus_of(pid).unwrap_or_default(), "affinity".to_owned())
        }
    };
    let quota_by = match (plan.cpu_quota, &quota) {
        (None, _) => "none",
        (Some(_), None) => "stop-continue",
        (Some(_), Some((CgroupVersion::V1, _))) => "cgroup-v1 cfs_quota",
        (Some(_), Some((CgroupVersion::V2, _))) => "cgroup-v2 cpu.max",
    };
    Ok(CpuPinning {
        asked_cpus: plan.cpus.clone(),
        got_cpus,
        cpus_by,
        asked_quota: plan.cpu_quota.map(share),
        got_quota: quota.map(|(_, quota)| share(quota)),
        got_period_us: quota.map(|(_, quota)| quota.period_us),
        quota_by: quota_by.to_owned(),
    })
}

/// CPU time per wall time.
#[expect(clippy::cast_precision_loss, reason = "microseconds far below 2^53")]
fn share(quota: CpuQuota) -> f64 {
    quota.quota_us as f64 / quota.period_us.max(1) as f64
}

/// Limits a process (0 for the calling thread) to these CPUs.
pub(crate) fn set_affinity(pid: u32, cpus: &[u32]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(usize::try_from(*cpu).map_err(io::Error::other)?)?;
    }
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    Ok(sched_setaffinity(Pid::from_raw(pid), &set)?)
}

/// The CPUs that a process may run on, as the kernel says.
pub(crate) fn cpus_of(pid: u32) -> io::Result<Vec<u32>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    Ok(parse_cpu_list(list.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hexloop_topologies::plan::NodeIsolation;
    use hexloop_workloads::device::ComputeSettings;
    use std::process::Command;

    #[test]
    fn without_control_groups_a_node_is_pinned_by_affinity_and_the_record_says_so() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let cpu = cpus_of(std::process::id()).unwrap()[0];
        let plan = NodePlan {
            name: "device".to_owned(),
            index: 0,
            cpus: vec![cpu],
            cpu_quota: Some(CpuQuota {
                quota_us: 1000,
                period_us: 4000,
            }),
            threads: 1,
            compute: ComputeSettings::default(),
            slowdown: None,
            congestion_control: None,
            isolation: NodeIsolation::default(),
        };
        let pinning = pin(&plan, child.id(), &NodeCgroups::default()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(pinning.got_cpus, [cpu]);
        assert_eq!(pinning.cpus_by, "affinity");
        assert_eq!(pinning.asked_quota, Some(0.25));
        assert_eq!(pinning.got_quota, None);
        assert_eq!(pinning.quota_by, "stop-continue");
    }

    #[test]
    fn a_cpu_that_does_not_exist_is_an_error_that_names_it() {
        let plan = NodePlan {
            name: "device".to_owned(),
            index: 0,
            cpus: vec![1023],
            cpu_quota: None,
            threads: 1,
            compute: ComputeSettings::default(),
            slowdown: None,
            congestion_control: None,
            isolation: NodeIsolation::default(),
        };
        let error = pin(&plan, std::process::id(), &NodeCgroups::default()).unwrap_err();
        assert!(error.to_string().contains("1023"), "{error}");
    }
}
