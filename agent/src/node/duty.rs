//! CPU quota without control groups: the node's processes are stopped for a part of each period.
//!
//! A share is enforced as time, so a node gets `quota / (period x CPUs)` of each period on all
//! its CPUs; a process that uses fewer CPUs than the node has gets less than with a control
//! group. The record calls it `stop-continue`, and nothing can be read back.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use hexloop_topologies::plan::NodePlan;
use hexloop_workloads::clock;
use nix::sys::signal::Signal;

use crate::sys::pidfd;
use crate::telemetry::node::descendants;

/// How often new processes are looked for.
const LOOK_EVERY_NS: u64 = 20_000_000;

/// A thread that stops and continues the processes of a node until it is dropped.
#[derive(Debug)]
pub(crate) struct DutyCycle {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How long the node runs in each period, in nanoseconds; `None` when it is not held up at all.
fn running_ns(plan: &NodePlan) -> Option<(u64, u64)> {
    let quota = plan.cpu_quota?;
    let cpus = u64::try_from(plan.cpus.len()).unwrap_or(1).max(1);
    let period_ns = quota.period_us * 1000;
    let running_ns = quota.quota_us * 1000 / cpus;
    (running_ns < period_ns).then_some((running_ns, period_ns))
}

impl DutyCycle {
    /// Starts to hold up everything below the node's first process.
    pub(crate) fn start(plan: &NodePlan, first_process: u32) -> io::Result<Option<DutyCycle>> {
        let Some((running_ns, period_ns)) = running_ns(plan) else {
            return Ok(None);
        };
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = std::thread::Builder::new()
            .name(format!("hx-duty-{}", plan.index))
            .spawn(move || cycle(first_process, running_ns, period_ns, &ended))?;
        Ok(Some(DutyCycle {
            end,
            thread: Some(thread),
        }))
    }
}

impl Drop for DutyCycle {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there was printed when it happened.
            let _ = thread.join();
        }
    }
}

fn cycle(first_process: u32, running_ns: u64, period_ns: u64, end: &AtomicBool) {
    let mut held: BTreeMap<u32, OwnedFd> = BTreeMap::new();
    let mut next_look = 0;
    let mut period = clock::now();
    while !end.load(Ordering::Relaxed) {
        if period >= next_look {
            let processes = descendants(first_process);
            held.retain(|pid, _| processes.contains(pid));
            for pid in processes {
                if let std::collections::btree_map::Entry::Vacant(entry) = held.entry(pid)
                    && let Ok(handle) = pidfd::open(pid)
                {
                    entry.insert(handle);
                }
            }
            next_look = period + LOOK_EVERY_NS;
        }
        signal_all(&held, Signal::SIGCONT);
        clock::sleep_until(period + running_ns);
        signal_all(&held, Signal::SIGSTOP);
        // A period that was missed is not made up for.
        period = (period + period_ns).max(clock::now().saturating_sub(period_ns));
        clock::sleep_until(period);
    }
    signal_all(&held, Signal::SIGCONT);
}

fn signal_all(processes: &BTreeMap<u32, OwnedFd>, signal: Signal) {
    for handle in processes.values() {
        // A process that is gone needs no signal.
        let _ = pidfd::send_signal(handle, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hexloop_topologies::plan::{CpuQuota, NodeIsolation};
    use hexloop_workloads::device::ComputeSettings;

    fn plan(quota_us: u64, cpus: Vec<u32>) -> NodePlan {
        let cpu_quota = Some(CpuQuota {
            quota_us,
            period_us: 4000,
        });
        NodePlan {
            name: "device".to_owned(),
            index: 0,
            cpus,
            cpu_quota,
            threads: 1,
            compute: ComputeSettings::default(),
            slowdown: None,
            congestion_control: None,
            isolation: NodeIsolation::default(),
        }
    }

    #[test]
    fn the_share_of_each_period_is_the_quota_over_all_cpus() {
        assert_eq!(
            running_ns(&plan(1000, vec![0])),
            Some((1_000_000, 4_000_000))
        );
        assert_eq!(
            running_ns(&plan(1000, vec![0, 1])),
            Some((500_000, 4_000_000))
        );
        assert_eq!(running_ns(&plan(8000, vec![0, 1])), None);
    }
}
