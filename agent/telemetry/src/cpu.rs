//! What the CPUs of a machine do: time per core and mode, steal, context switches, frequency.

use std::fs;
use std::path::Path;

use crate::Trouble;

/// Clock ticks of `/proc/stat` per second: USER_HZ, 100 on every Linux of today.
const TICK_NS: u64 = 1_000_000_000 / 100;

/// Time of one core since the machine started, in nanoseconds, as `/proc/stat` counts it
/// (proc_stat(5)). Time of guests is within `user_ns` and `nice_ns`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CoreTimes {
    /// Which core.
    pub cpu: u32,
    /// Programs.
    pub user_ns: u64,
    /// Programs of low priority.
    pub nice_ns: u64,
    /// The kernel.
    pub system_ns: u64,
    /// Nothing to do.
    pub idle_ns: u64,
    /// Nothing to do while something waits for a disk.
    pub iowait_ns: u64,
    /// Interrupts, hard and soft.
    pub interrupt_ns: u64,
    /// The hypervisor let another machine run.
    pub steal_ns: u64,
}

impl CoreTimes {
    /// Each mode by OpenTelemetry's name for `cpu.mode`, in nanoseconds.
    #[must_use]
    pub const fn by_mode(&self) -> [(&'static str, u64); 7] {
        [
            ("user", self.user_ns),
            ("nice", self.nice_ns),
            ("system", self.system_ns),
            ("idle", self.idle_ns),
            ("iowait", self.iowait_ns),
            ("interrupt", self.interrupt_ns),
            ("steal", self.steal_ns),
        ]
    }

    /// Time in which it worked for this machine.
    #[must_use]
    pub const fn busy_ns(&self) -> u64 {
        self.user_ns + self.nice_ns + self.system_ns + self.interrupt_ns
    }

    /// What has passed since `before`; counters of the kernel may step back a little.
    #[must_use]
    pub const fn since(&self, before: &CoreTimes) -> CoreTimes {
        CoreTimes {
            cpu: self.cpu,
            user_ns: self.user_ns.saturating_sub(before.user_ns),
            nice_ns: self.nice_ns.saturating_sub(before.nice_ns),
            system_ns: self.system_ns.saturating_sub(before.system_ns),
            idle_ns: self.idle_ns.saturating_sub(before.idle_ns),
            iowait_ns: self.iowait_ns.saturating_sub(before.iowait_ns),
            interrupt_ns: self.interrupt_ns.saturating_sub(before.interrupt_ns),
            steal_ns: self.steal_ns.saturating_sub(before.steal_ns),
        }
    }
}

/// All cores at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuCounters {
    /// Every core that is there.
    pub cores: Vec<CoreTimes>,
    /// Context switches of the whole machine since it started.
    pub context_switches: u64,
}

impl CpuCounters {
    /// Those of the machine whose file system has this root.
    ///
    /// # Errors
    /// `proc/stat` cannot be read, or holds no core.
    pub fn read(root: &Path) -> Result<CpuCounters, Trouble> {
        let path = root.join("proc/stat");
        let failed = |reason: String| Trouble::Failed {
            what: path.display().to_string(),
            reason,
        };
        let text = fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?;
        let counters = parse(&text);
        if counters.cores.is_empty() {
            return Err(failed("it has no line of a core".to_owned()));
        }
        Ok(counters)
    }
}

fn parse(text: &str) -> CpuCounters {
    let mut counters = CpuCounters::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(name) = words.next() else { continue };
        let mut next_ns = || {
            let ticks: u64 = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
            ticks.saturating_mul(TICK_NS)
        };
        if name == "ctxt" {
            counters.context_switches = next_ns() / TICK_NS;
        } else if let Some(Ok(cpu)) = name.strip_prefix("cpu").map(str::parse::<u32>) {
            let (user_ns, nice_ns, system_ns) = (next_ns(), next_ns(), next_ns());
            let (idle_ns, iowait_ns) = (next_ns(), next_ns());
            let interrupt_ns = next_ns() + next_ns();
            counters.cores.push(CoreTimes {
                cpu,
                user_ns,
                nice_ns,
                system_ns,
                idle_ns,
                iowait_ns,
                interrupt_ns,
                steal_ns: next_ns(),
            });
        }
    }
    counters
}

/// How fast a core runs now, in hertz, as cpufreq tells it.
///
/// # Errors
/// There is no cpufreq, as in most virtual machines, or it cannot be read.
pub fn core_frequency_hz(root: &Path, cpu: u32) -> Result<u64, Trouble> {
    let path = root.join(format!(
        "sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq"
    ));
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Trouble::NotSupported {
                source_name: "this kernel".to_owned(),
                what: "the frequency of cores (no cpufreq)".to_owned(),
            });
        }
        Err(error) => {
            return Err(Trouble::Failed {
                what: path.display().to_string(),
                reason: error.to_string(),
            });
        }
    };
    let kilohertz: u64 = text
        .trim()
        .parse()
        .map_err(|error: std::num::ParseIntError| Trouble::Failed {
            what: path.display().to_string(),
            reason: error.to_string(),
        })?;
    Ok(kilohertz.saturating_mul(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  30 2 6 400 4 2 2 8 0 0\n\
                        cpu0 10 1 2 200 3 1 1 5 0 0\n\
                        cpu2 20 1 4 200 1 1 1 3 0 0\n\
                        intr 17 1 2\nctxt 4711\nbtime 1\n";

    #[test]
    fn cores_are_read_one_by_one_and_steal_is_not_work() {
        let counters = parse(STAT);
        assert_eq!(counters.context_switches, 4711);
        let cpus: Vec<u32> = counters.cores.iter().map(|core| core.cpu).collect();
        assert_eq!(cpus, [0, 2]);
        let core = counters.cores[0];
        assert_eq!(core.busy_ns(), (10 + 1 + 2 + 2) * TICK_NS);
        assert_eq!(core.steal_ns, 5 * TICK_NS);
        assert_eq!(core.interrupt_ns, 2 * TICK_NS);
        let all: u64 = core.by_mode().iter().map(|mode| mode.1).sum();
        assert_eq!(all, 223 * TICK_NS);
        let since = core.since(&CoreTimes {
            steal_ns: 2 * TICK_NS,
            idle_ns: u64::MAX,
            ..CoreTimes::default()
        });
        assert_eq!((since.steal_ns, since.idle_ns), (3 * TICK_NS, 0));
    }

    #[test]
    fn a_machine_without_cpufreq_has_no_frequency_rather_than_none() {
        let root = tempfile::tempdir().unwrap();
        let why = core_frequency_hz(root.path(), 0).unwrap_err().to_string();
        assert!(why.contains("no cpufreq"), "{why}");
        let directory = root.path().join("sys/devices/system/cpu/cpu0/cpufreq");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("scaling_cur_freq"), "2400000\n").unwrap();
        assert_eq!(core_frequency_hz(root.path(), 0), Ok(2_400_000_000));
        assert!(CpuCounters::read(root.path()).is_err());
    }
}
