//! What a node used over a phase, counted by the kernel: throttling, memory, pressure, context
//! switches. Each figure with its source, or why there is none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use hexloop_proto::{Measurement, NodeCounters};
use hexloop_telemetry::{Pressure, Trouble};

use super::node::NodeMeter;
use crate::cgroup::MemoryPeak;

/// Resources that pressure is told of.
const RESOURCES: [&str; 3] = ["cpu", "memory", "io"];

/// A count from the beginning of a phase on.
#[derive(Debug)]
pub struct NodeCounting {
    throttled_periods: Option<u64>,
    throttled_ns: Result<u64, Trouble>,
    pressure: [Result<Pressure, Trouble>; 3],
    peak: MemoryPeak,
    switches: ContextSwitches,
}

impl NodeCounting {
    /// Begins now.
    #[must_use]
    pub fn begin(meter: &NodeMeter) -> NodeCounting {
        let groups = meter.groups();
        let mut switches = ContextSwitches::default();
        switches.look(&meter.processes());
        NodeCounting {
            throttled_periods: groups.throttled_periods(),
            throttled_ns: groups.throttled_ns(),
            pressure: RESOURCES.map(|resource| groups.pressure(resource)),
            peak: groups.memory_peak(),
            switches: switches.starting_here(),
        }
    }

    /// Looks at what is gone when its thread ends; to be called about once a second.
    pub fn look(&mut self, meter: &NodeMeter) {
        self.switches.look(&meter.processes());
    }

    /// What has been counted since it began.
    #[must_use]
    pub fn finish(mut self, meter: &NodeMeter) -> NodeCounters {
        self.look(meter);
        let groups = meter.groups();
        let stat = "cpu.stat of the control group";
        let throttled_ns = between(&self.throttled_ns, groups.throttled_ns());
        let after = RESOURCES.map(|resource| groups.pressure(resource));
        let mut pressure = self.pressure.iter().zip(after).map(|(before, after)| {
            let stalled =
                after.and_then(|after| Ok(after.since(before.as_ref().map_err(Trouble::clone)?)));
            stalled.map(|stalled| stalled.some_ns)
        });
        let mut next_pressure = || {
            let nothing = Err(Trouble::NotSupported {
                source_name: "nothing".to_owned(),
                what: "pressure".to_owned(),
            });
            seconds(
                pressure.next().unwrap_or(nothing),
                "PSI of the control group, some",
            )
        };
        NodeCounters {
            throttled_periods: match groups.throttled_periods().zip(self.throttled_periods) {
                Some((now, before)) => measured(float(now.saturating_sub(before)), stat),
                None => unavailable(&Trouble::NotSupported {
                    source_name: "no control group".to_owned(),
                    what: "throttling of this node".to_owned(),
                }),
            },
            throttled_s: seconds(throttled_ns, stat),
            cpu_pressure_s: next_pressure(),
            memory_pressure_s: next_pressure(),
            io_pressure_s: next_pressure(),
            memory_peak_bytes: match self.peak.read() {
                Ok((bytes, source)) => measured(float(bytes), source),
                Err(trouble) => unavailable(&trouble),
            },
            voluntary_switches: self.switches.told(|switches| switches.0),
            involuntary_switches: self.switches.told(|switches| switches.1),
        }
    }
}

fn between(before: &Result<u64, Trouble>, after: Result<u64, Trouble>) -> Result<u64, Trouble> {
    let before = before.as_ref().map_err(Trouble::clone)?;
    Ok(after?.saturating_sub(*before))
}

#[expect(clippy::cast_precision_loss, reason = "counts of a phase")]
const fn float(value: u64) -> f64 {
    value as f64
}

fn measured(value: f64, source: &str) -> Measurement {
    Measurement::Measured {
        value,
        source: source.to_owned(),
    }
}

fn unavailable(trouble: &Trouble) -> Measurement {
    Measurement::Unavailable {
        why: trouble.to_string(),
    }
}

fn seconds(nanoseconds: Result<u64, Trouble>, source: &str) -> Measurement {
    match nanoseconds {
        Ok(nanoseconds) => measured(float(nanoseconds) / 1e9, source),
        Err(trouble) => unavailable(&trouble),
    }
}

/// Context switches of threads: voluntary (they waited) and involuntary (they were displaced).
/// What a thread did after the last look at it is not in the sum.
#[derive(Debug, Default)]
struct ContextSwitches {
    by_thread: BTreeMap<(u32, u32), (u64, u64)>,
    before: (u64, u64),
}

impl ContextSwitches {
    fn look(&mut self, processes: &BTreeSet<u32>) {
        for pid in processes {
            let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
                continue;
            };
            for thread in threads.flatten() {
                let number = thread
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse().ok());
                let status = fs::read_to_string(thread.path().join("status"));
                if let (Some(number), Ok(status)) = (number, status)
                    && let Some(switches) = parse_switches(&status)
                {
                    self.by_thread.insert((*pid, number), switches);
                }
            }
        }
    }

    fn total(&self) -> (u64, u64) {
        let all = self.by_thread.values();
        all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// What was counted up to now does not count.
    fn starting_here(mut self) -> ContextSwitches {
        self.before = self.total();
        self
    }

    fn told(&self, which: impl Fn((u64, u64)) -> u64) -> Measurement {
        if self.by_thread.is_empty() {
            return unavailable(&Trouble::Failed {
                what: "/proc/PID/task/TID/status".to_owned(),
                reason: "no thread of the node was seen".to_owned(),
            });
        }
        let since = which(self.total()).saturating_sub(which(self.before));
        measured(float(since), "/proc/PID/task/TID/status, one look a second")
    }
}

fn parse_switches(status: &str) -> Option<(u64, u64)> {
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse().ok()
    };
    Some((
        value("voluntary_ctxt_switches:")?,
        value("nonvoluntary_ctxt_switches:")?,
    ))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::cgroup::{CgroupError, Controllers, NodeCgroups, kill_and_remove};
    use hexloop_topologies::plan::CpuQuota;
    use hexloop_workloads::clock;

    #[test]
    fn switches_are_read_by_name() {
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t545\n";
        assert_eq!(parse_switches(status), Some((150, 545)));
        assert_eq!(parse_switches("Name:\tx\n"), None);
    }

    #[test]
    #[ignore = "needs root, cpuset"]
    fn a_group_of_version_2_tells_throttling_memory_and_pressure_of_what_ran_in_it() {
        let name = format!("hx-test-counting-{}", std::process::id());
        let controllers = Controllers::detect();
        let groups =
            NodeCgroups::create(&controllers, &name, |_| Ok::<_, CgroupError>(())).unwrap();
        let quota = CpuQuota {
            quota_us: 1_000,
            period_us: 10_000,
        };
        groups.set_quota(quota).unwrap().unwrap();
        let directories = groups.directories();
        let counts = "read go; i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
        let mut child = Command::new("/bin/sh")
            .args(["-c", counts])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        groups.add(child.id()).unwrap();
        let meter = NodeMeter::new(child.id(), groups);
        let counting = NodeCounting::begin(&meter);
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        assert!(child.wait().unwrap().success());
        let counters = counting.finish(&meter);
        for directory in directories {
            assert!(kill_and_remove(&directory).unwrap());
        }
        for (figure, least, part) in [
            (&counters.throttled_periods, 1.0, "cpu.stat"),
            (&counters.throttled_s, 0.001, "cpu.stat"),
            (&counters.memory_peak_bytes, 4_096.0, "memory.peak"),
            (&counters.cpu_pressure_s, 0.0, "PSI of the control group"),
            (&counters.memory_pressure_s, 0.0, "PSI of the control group"),
            (&counters.io_pressure_s, 0.0, "PSI of the control group"),
        ] {
            let Measurement::Measured { value, source } = figure else {
                panic!("{counters:#?}");
            };
            assert!(*value >= least && source.contains(part), "{counters:#?}");
        }
    }

    #[test]
    fn a_thread_that_waits_is_seen_to_switch_and_what_came_before_is_not_counted() {
        let meter = NodeMeter::new(std::process::id(), NodeCgroups::default());
        let counting = NodeCounting::begin(&meter);
        let all_before = counting.switches.before;
        for _ in 0..20 {
            clock::sleep_until(clock::now() + 1_000_000);
        }
        let counters = counting.finish(&meter);
        let Measurement::Measured { value, source } = &counters.voluntary_switches else {
            panic!("{counters:?}");
        };
        assert!(*value >= 20.0, "{value}");
        assert!(source.contains("one look a second"));
        assert!(all_before.0 > 0, "this process ran before");
        let Measurement::Unavailable { why } = &counters.cpu_pressure_s else {
            panic!("{counters:?}");
        };
        assert!(why.starts_with("no control group"), "{why}");
    }
}
