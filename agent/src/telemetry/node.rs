//! CPU time, memory and TCP counters of one node.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use hexloop_proto::TcpCounters;

use crate::cgroup::NodeCgroups;
use crate::process::fields_after_name;

/// Clock ticks of `/proc/PID/stat` per second: USER_HZ, 100 on every Linux of today.
const TICKS_PER_SECOND: u64 = 100;

/// What a node has used up to now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeUsage {
    /// CPU time of its processes, in nanoseconds.
    pub cpu_ns: u64,
    /// Resident memory of its processes, in bytes; pages that several share count in each.
    pub memory_bytes: u64,
    /// Periods in which the quota held it up.
    pub throttled_periods: Option<u64>,
}

/// Reads what one node uses.
#[derive(Debug, Clone)]
pub struct NodeMeter {
    first_process: u32,
    groups: NodeCgroups,
}

impl NodeMeter {
    /// A meter for the node with this first process and these control groups.
    #[must_use]
    pub const fn new(first_process: u32, groups: NodeCgroups) -> NodeMeter {
        NodeMeter {
            first_process,
            groups,
        }
    }

    /// The node's first process, as the host sees it.
    #[must_use]
    pub const fn first_process(&self) -> u32 {
        self.first_process
    }

    /// Its control groups.
    #[must_use]
    pub const fn groups(&self) -> &NodeCgroups {
        &self.groups
    }

    /// Its processes.
    #[must_use]
    pub fn processes(&self) -> BTreeSet<u32> {
        let mut processes = self
            .groups
            .processes()
            .map_or_else(|| descendants(self.first_process), BTreeSet::from_iter);
        processes.insert(self.first_process);
        processes
    }

    /// Reads it now.
    #[must_use]
    pub fn read(&self) -> NodeUsage {
        let processes = self.processes();
        let memory_bytes = processes
            .iter()
            .filter_map(|pid| resident_bytes(*pid))
            .sum();
        let cpu_ns = self
            .groups
            .cpu_ns()
            .unwrap_or_else(|| processes.iter().filter_map(|pid| cpu_ns(*pid)).sum());
        NodeUsage {
            cpu_ns,
            memory_bytes,
            throttled_periods: self.groups.throttled_periods(),
        }
    }

    /// TCP counters of its network namespace.
    ///
    /// # Errors
    /// Its first process is gone, or the kernel does not tell.
    pub fn tcp(&self) -> io::Result<TcpCounters> {
        let path = format!("/proc/{}/net/snmp", self.first_process);
        fs::read_to_string(path).map(|text| parse_snmp(&text))
    }
}

/// What happened between two readings.
#[must_use]
pub const fn tcp_between(before: TcpCounters, after: TcpCounters) -> TcpCounters {
    TcpCounters {
        segments_out: after.segments_out.saturating_sub(before.segments_out),
        segments_retransmitted: after
            .segments_retransmitted
            .saturating_sub(before.segments_retransmitted),
    }
}

/// All processes below one, orphans included when it is the first of its process-id namespace.
#[must_use]
pub(crate) fn descendants(pid: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut open = vec![pid];
    while let Some(parent) = open.pop() {
        for child in children(parent) {
            if found.insert(child) {
                open.push(child);
            }
        }
    }
    found
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let mut children = Vec::new();
    for thread in threads.flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(text) => {
                children.extend(
                    text.split_ascii_whitespace()
                        .filter_map(|n| n.parse::<u32>().ok()),
                );
            }
            // A kernel without CONFIG_PROC_CHILDREN.
            Err(_) => return children_by_search(pid),
        }
    }
    children
}

fn children_by_search(parent: u32) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent_field = fields_after_name(&stat).and_then(|mut fields| fields.nth(1));
        parent_field.and_then(|field| field.parse().ok()) == Some(parent)
    })
    .collect()
}

fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let text = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = text.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// CPU time of a process and of those of its children that ended, to a hundredth of a second.
fn cpu_ns(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // utime, stime, cutime, cstime: fields 14 to 17 of the file.
    let ticks: u64 = fields_after_name(&stat)?
        .skip(14 - 3)
        .take(4)
        .filter_map(|f| f.parse::<u64>().ok())
        .sum();
    Some(ticks * (1_000_000_000 / TICKS_PER_SECOND))
}

/// The `Tcp` lines of `/proc/net/snmp`: names in one, values in the next.
fn parse_snmp(text: &str) -> TcpCounters {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp:"));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else {
        return TcpCounters::default();
    };
    let value = |wanted: &str| {
        let mut pairs = names
            .split_ascii_whitespace()
            .zip(values.split_ascii_whitespace());
        pairs
            .find(|(name, _)| *name == wanted)
            .and_then(|(_, v)| v.parse().ok())
            .unwrap_or(0)
    };
    TcpCounters {
        segments_out: value("OutSegs"),
        segments_retransmitted: value("RetransSegs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn tcp_counters_are_found_by_name() {
        let text = "Ip: Forwarding\nIp: 1\nTcp: RtoMin InSegs OutSegs RetransSegs InErrs\n\
                    Tcp: 200 5 17 3 0\nUdp: x\n";
        let counters = TcpCounters {
            segments_out: 17,
            segments_retransmitted: 3,
        };
        assert_eq!(parse_snmp(text), counters);
        assert_eq!(parse_snmp(""), TcpCounters::default());
    }

    #[test]
    fn children_and_their_children_are_found_both_ways() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 60 & echo started; wait"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = shell.stdout.take().unwrap();
        io::BufRead::read_line(&mut io::BufReader::new(output), &mut line).unwrap();
        assert!(descendants(std::process::id()).contains(&shell.id()));
        let below = descendants(shell.id());
        assert_eq!(below.len(), 1);
        assert_eq!(
            children_by_search(shell.id()),
            below.iter().copied().collect::<Vec<_>>()
        );
        let sleeper = *below.first().unwrap();
        assert!(resident_bytes(sleeper).unwrap() > 0);
        assert!(cpu_ns(sleeper).is_some());
        for pid in [sleeper, shell.id()] {
            let process = crate::process::ProcessIdentity::of(pid).unwrap();
            process.signal(nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        shell.wait().unwrap();
    }
}
