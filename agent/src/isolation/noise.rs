//! How quiet the machine is before a run: what the host takes, what others do on the nodes' CPUs,
//! whether heat holds them down, and how late an ordinary thread wakes up there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use hexloop_proto::NoiseReport;
use hexloop_workloads::clock::{self, MonotonicNs};

use super::cpu_time::CpuTimes;
use super::{first_line, online_cpus};
use crate::link::histogram::NanosecondHistogram;
use crate::node::set_affinity;

/// How often each of the sleeping threads wakes up.
const PERIOD_NS: u64 = 1_000_000;

/// CPUs that are listened to with a thread of their own.
const MOST_SLEEPERS: usize = 64;

/// Above these a machine is called noisy. They are chosen, not derived: a machine that does nothing
/// else stays far below, one that compiles beside the run is far above. That of timers is the bound
/// of the shaper's own lateness.
pub(crate) const NOISY_STEAL_PPM: u64 = 10_000;
pub(crate) const NOISY_BUSY_PPM: u64 = 100_000;
pub(crate) const NOISY_TIMER_NS: u64 = 1_000_000;

/// Listens for a while; `cpus` are those of the nodes.
pub(crate) fn listen(root: &Path, cpus: &BTreeSet<u32>, span_ns: u64) -> NoiseReport {
    let list: Vec<u32> = cpus.iter().copied().collect();
    let (before, heat_before) = (CpuTimes::read(root), throttle_count(root, &list));
    let began = clock::now();
    let lateness = sleepers(&list, began, span_ns);
    let after = CpuTimes::read(root);
    let heat_after = throttle_count(root, &list);
    let mut report = NoiseReport {
        span_ns: clock::now().saturating_sub(began),
        machine_cpus: u64::try_from(online_cpus(root).len()).unwrap_or(0),
        load_average: load_average(root),
        runnable: after.runnable,
        frequency_khz: frequency_khz(root, &list),
        ..NoiseReport::default()
    };
    match after.since(&before, &list).filter(|spent| spent.all > 0) {
        Some(spent) => {
            let share = |part: u64| part.saturating_mul(1_000_000) / spent.all;
            report.steal_ppm = Some(share(spent.steal));
            report.busy_ppm = Some(share(spent.busy));
        }
        None => report.lacks(
            "steal and others' work",
            "/proc/stat does not count these CPUs",
        ),
    }
    match heat_before.zip(heat_after) {
        Some((then, now)) => report.throttle_events = Some(now.saturating_sub(then)),
        None => report.lacks("throttling by heat", "this kernel does not count it"),
    }
    if report.frequency_khz.is_none() {
        report.lacks("frequency", "no cpufreq, as in most virtual machines");
    }
    match lateness {
        Ok(histogram) => report.timer_lateness = histogram.summary(),
        Err(why) => report.lacks("lateness of timers", &why),
    }
    report.cpus = list;
    report
}

trait Lacks {
    fn lacks(&mut self, what: &str, why: &str);
}

impl Lacks for NoiseReport {
    fn lacks(&mut self, what: &str, why: &str) {
        self.unavailable.push(format!("{what}: {why}"));
    }
}

/// One thread on each CPU sleeps until moments that were fixed before, and sees when it wakes up.
fn sleepers(cpus: &[u32], began: MonotonicNs, span_ns: u64) -> Result<NanosecondHistogram, String> {
    let sleeper = |cpu: u32| {
        move || -> std::io::Result<Vec<u64>> {
            set_affinity(0, &[cpu])?;
            let wakings = (1..=span_ns / PERIOD_NS).map(|tick| {
                let due = began + tick * PERIOD_NS;
                clock::sleep_until(due);
                clock::now().saturating_sub(due)
            });
            Ok(wakings.collect())
        }
    };
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for cpu in cpus.iter().take(MOST_SLEEPERS) {
            let builder = std::thread::Builder::new().name("hx-noise".to_owned());
            let started = builder.spawn_scoped(scope, sleeper(*cpu));
            threads.push((*cpu, started.map_err(|error| error.to_string())?));
        }
        let mut histogram = NanosecondHistogram::new();
        for (cpu, thread) in threads {
            let late = thread
                .join()
                .map_err(|_panic| "the thread panicked".to_owned())?;
            let late = late.map_err(|error| format!("CPU {cpu}: {error}"))?;
            late.into_iter().for_each(|ns| histogram.record(ns));
        }
        Ok(histogram)
    })
}

fn load_average(root: &Path) -> Option<f64> {
    let line = first_line(&root.join("proc/loadavg"))?;
    line.split(' ').next()?.parse().ok()
}

/// How often heat has held these CPUs down since the boot; `None` where nothing counts it.
fn throttle_count(root: &Path, cpus: &[u32]) -> Option<u64> {
    let counts = cpus.iter().filter_map(|cpu| {
        let directory = format!("sys/devices/system/cpu/cpu{cpu}/thermal_throttle");
        let path = root.join(directory).join("core_throttle_count");
        first_line(&path)?.parse::<u64>().ok()
    });
    counts.fold(None, |sum, count| Some(sum.unwrap_or(0) + count))
}

fn frequency_khz(root: &Path, cpus: &[u32]) -> Option<(u64, u64)> {
    let read = |cpu: &u32| -> Option<u64> {
        let path = format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq");
        let text = fs::read_to_string(root.join(path)).ok()?;
        text.trim().parse().ok()
    };
    let all: Vec<u64> = cpus.iter().filter_map(read).collect();
    Some((*all.iter().min()?, *all.iter().max()?))
}

/// What makes a machine noisy, in words; `None` if nothing does.
#[expect(
    clippy::cast_precision_loss,
    reason = "parts per million and milliseconds"
)]
pub(crate) fn complaint(noise: &NoiseReport) -> Option<String> {
    let percent = |ppm: u64| ppm as f64 / 10_000.0;
    let mut found = Vec::new();
    if let Some(ppm) = noise.steal_ppm.filter(|ppm| *ppm > NOISY_STEAL_PPM) {
        found.push(format!(
            "its host took {:.1} % of the nodes' CPUs",
            percent(ppm)
        ));
    }
    if let Some(ppm) = noise.busy_ppm.filter(|ppm| *ppm > NOISY_BUSY_PPM) {
        found.push(format!(
            "others used {:.1} % of the nodes' CPUs",
            percent(ppm)
        ));
    }
    if let Some(late) = noise
        .timer_lateness
        .p99_ns
        .filter(|late| *late > NOISY_TIMER_NS)
    {
        found.push(format!(
            "timers were {:.2} ms late (p99)",
            late as f64 / 1e6
        ));
    }
    if let Some(count) = noise.throttle_events.filter(|count| *count > 0) {
        found.push(format!("heat held them down {count} times"));
    }
    (!found.is_empty()).then(|| {
        format!(
            "the machine was not quiet before the run: {}; figures may be those of its other work",
            found.join(", ")
        )
    })
}
