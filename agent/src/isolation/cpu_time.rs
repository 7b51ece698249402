//! Time of every CPU by what it was spent on, as `/proc/stat` counts it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use hexloop_proto::InterruptCpu;
use hexloop_topologies::plan::Plan;

/// Length of a tick of `/proc/stat`: USER_HZ is 100 on every Linux of today.
pub(crate) const TICK_NS: u64 = 10_000_000;

/// One CPU, in ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CpuTime {
    /// Everything, idle time included.
    pub(crate) all: u64,
    /// Everything but idle and waiting for disks.
    pub(crate) busy: u64,
    /// Hard and soft interrupts.
    pub(crate) interrupts: u64,
    /// What the host of a virtual machine had taken.
    pub(crate) steal: u64,
}

/// All CPUs at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CpuTimes {
    /// By number.
    pub(crate) cpus: BTreeMap<u32, CpuTime>,
    /// Tasks that could run.
    pub(crate) runnable: Option<u64>,
}

impl CpuTimes {
    /// Reads them below a root; none where there is no such file.
    pub(crate) fn read(root: &Path) -> CpuTimes {
        let text = fs::read_to_string(root.join("proc/stat")).unwrap_or_default();
        CpuTimes::parse(&text)
    }

    fn parse(text: &str) -> CpuTimes {
        let mut times = CpuTimes::default();
        for line in text.lines() {
            if let Some(number) = line.strip_prefix("procs_running ") {
                times.runnable = number.trim().parse().ok();
            }
            let Some((name, values)) = line.split_once(' ') else {
                continue;
            };
            // The line `cpu` is the sum of all.
            let Some(cpu) = name.strip_prefix("cpu").and_then(|name| name.parse().ok()) else {
                continue;
            };
            // user, nice, system, idle, iowait, irq, softirq, steal; guest time is in user's. A line
            // without one of them counts nothing: what was not read is not 0.
            let fields = values.split_ascii_whitespace().take(8);
            let Ok(fields) = fields.map(str::parse).collect::<Result<Vec<u64>, _>>() else {
                continue;
            };
            let Ok(fields) = <[u64; 8]>::try_from(fields) else {
                continue;
            };
            let [_, _, _, idle, iowait, irq, softirq, steal] = fields;
            let all = fields.iter().sum::<u64>();
            let time = CpuTime {
                all,
                busy: all - idle - iowait,
                interrupts: irq + softirq,
                steal,
            };
            times.cpus.insert(cpu, time);
        }
        times
    }

    /// What was spent on some CPUs since another moment; `None` if one of them was not counted.
    pub(crate) fn since(&self, before: &CpuTimes, cpus: &[u32]) -> Option<CpuTime> {
        let mut sum = CpuTime::default();
        for cpu in cpus {
            let (now, then) = (self.cpus.get(cpu)?, before.cpus.get(cpu)?);
            sum.all += now.all.saturating_sub(then.all);
            sum.busy += now.busy.saturating_sub(then.busy);
            sum.interrupts += now.interrupts.saturating_sub(then.interrupts);
            sum.steal += now.steal.saturating_sub(then.steal);
        }
        Some(sum)
    }

    /// What interrupts took from every node's CPUs since another moment.
    pub(crate) fn interrupts_since(&self, before: &CpuTimes, plan: &Plan) -> Vec<InterruptCpu> {
        let of_node = |node: &hexloop_topologies::plan::NodePlan| {
            let spent = self.since(before, &node.cpus);
            InterruptCpu {
                node: node.name.clone(),
                cpu_ns: spent.map(|spent| spent.interrupts * TICK_NS),
                resolution_ns: TICK_NS,
                why: spent
                    .is_none()
                    .then(|| "/proc/stat does not count these CPUs".to_owned()),
            }
        };
        plan.nodes.iter().map(of_node).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 10 1 5 100 2 3 4 5 0 0\n\
                          cpu1 0 0 0 50 0 0 0 0 0 0\nctxt 7\nprocs_running 3\n";
    const AFTER: &str = "cpu0 20 1 5 150 2 4 6 10 8 0\ncpu1 0 0 0 60 0 0 0 0 0 0\n";

    #[test]
    fn time_is_told_apart_by_what_it_was_spent_on() {
        let (before, after) = (CpuTimes::parse(BEFORE), CpuTimes::parse(AFTER));
        assert_eq!(before.runnable, Some(3));
        let spent = after.since(&before, &[0]).unwrap();
        let expected = CpuTime {
            all: 68,
            busy: 18,
            interrupts: 3,
            steal: 5,
        };
        assert_eq!(spent, expected);
        assert_eq!(after.since(&before, &[0, 1]).unwrap().all, 78);
        assert_eq!(after.since(&before, &[0, 2]), None);
        // A kernel that counts less, or a broken line, has not counted 0.
        for line in [
            "cpu0 20 1 5 150 2 4 6\n",
            "cpu0 20 1 5 150 2 4 x 10\n",
            "cpu0 \n",
        ] {
            assert_eq!(CpuTimes::parse(line).since(&before, &[0]), None, "{line}");
        }
    }
}
