//! What the machine's CPUs do while a phase plays: load, steal, frequency.

use std::path::{Path, PathBuf};

use hexloop_proto::{CoreSample, CoreUse};
use hexloop_telemetry::{CpuCounters, core_frequency_hz};
use hexloop_workloads::clock::MonotonicNs;

/// Follows them from a moment on.
#[derive(Debug)]
pub struct CoreWatch {
    root: PathBuf,
    t0: MonotonicNs,
    first: Look,
    last: Look,
    /// Per core, the sum of the frequencies seen and their number.
    frequencies: Vec<(u32, u64, u64)>,
    without_frequency: Option<String>,
}

#[derive(Debug, Clone, Default)]
struct Look {
    at: MonotonicNs,
    counters: CpuCounters,
    /// Why there are no counters.
    trouble: Option<String>,
}

impl Look {
    fn now(root: &Path, at: MonotonicNs) -> Look {
        match CpuCounters::read(root) {
            Ok(counters) => Look {
                at,
                counters,
                trouble: None,
            },
            Err(trouble) => Look {
                at,
                counters: CpuCounters::default(),
                trouble: Some(trouble.to_string()),
            },
        }
    }
}

impl CoreWatch {
    /// Begins at `t0`, on the machine whose file system has this root.
    #[must_use]
    pub fn begin(root: &Path, t0: MonotonicNs) -> CoreWatch {
        let first = Look::now(root, t0);
        CoreWatch {
            root: root.to_path_buf(),
            t0,
            last: first.clone(),
            first,
            frequencies: Vec::new(),
            without_frequency: None,
        }
    }

    /// What they did since the last look; to be called about once a second.
    pub fn look(&mut self, at: MonotonicNs) -> CoreSample {
        let now = Look::now(&self.root, at);
        let before = std::mem::replace(&mut self.last, now.clone());
        let mut sample = self.between(&before, &now);
        for core in &mut sample.cores {
            match core_frequency_hz(&self.root, core.cpu) {
                Ok(hertz) => {
                    core.frequency_hz = Some(hertz);
                    match self.frequencies.iter_mut().find(|seen| seen.0 == core.cpu) {
                        Some((_, sum, count)) => (*sum, *count) = (*sum + hertz, *count + 1),
                        None => self.frequencies.push((core.cpu, hertz, 1)),
                    }
                }
                Err(trouble) => self.without_frequency = Some(trouble.to_string()),
            }
        }
        sample.without_frequency.clone_from(&self.without_frequency);
        sample
    }

    /// What they did since the beginning, until the last look.
    #[must_use]
    pub fn whole(&self) -> CoreSample {
        let mut sample = self.between(&self.first, &self.last);
        for core in &mut sample.cores {
            let seen = self.frequencies.iter().find(|seen| seen.0 == core.cpu);
            core.frequency_hz = seen.map(|(_, sum, count)| sum / (*count).max(1));
        }
        sample.without_frequency.clone_from(&self.without_frequency);
        sample
    }

    fn between(&self, before: &Look, now: &Look) -> CoreSample {
        let cores = now.counters.cores.iter().filter_map(|core| {
            let mut earlier = before.counters.cores.iter();
            let since = core.since(earlier.find(|one| one.cpu == core.cpu)?);
            Some(CoreUse {
                cpu: core.cpu,
                busy_ns: since.busy_ns(),
                steal_ns: since.steal_ns,
                frequency_hz: None,
            })
        });
        CoreSample {
            at_ns: now.at.saturating_sub(self.t0),
            span_ns: now.at.saturating_sub(before.at),
            cores: cores.collect(),
            context_switches: now
                .counters
                .context_switches
                .saturating_sub(before.counters.context_switches),
            without_frequency: None,
            without_cores: now.trouble.clone().or_else(|| before.trouble.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_machine_that_does_not_count_its_cpus_says_so() {
        let root = tempfile::tempdir().unwrap();
        let mut watch = CoreWatch::begin(root.path(), 10);
        let sample = watch.look(1_000_000_010);
        assert!(sample.cores.is_empty());
        let why = sample.without_cores.unwrap();
        assert!(why.contains("proc/stat"), "{why}");
        assert_eq!(watch.whole().without_cores.as_deref(), Some(why.as_str()));
    }

    #[test]
    fn load_steal_and_frequency_are_those_of_the_span() {
        let root = tempfile::tempdir().unwrap();
        let stat = |user: u64, steal: u64, switches: u64| {
            let text = format!("cpu1 {user} 0 0 5 0 0 0 {steal} 0 0\nctxt {switches}\n");
            fs::write(root.path().join("proc/stat"), text).unwrap();
        };
        fs::create_dir(root.path().join("proc")).unwrap();
        stat(100, 7, 1_000);
        let mut watch = CoreWatch::begin(root.path(), 10);
        stat(150, 9, 1_400);
        let sample = watch.look(1_000_000_010);
        assert_eq!(
            (sample.at_ns, sample.span_ns),
            (1_000_000_000, 1_000_000_000)
        );
        assert_eq!(sample.context_switches, 400);
        assert_eq!(sample.cores[0].busy_ns, 500_000_000);
        assert_eq!(sample.cores[0].steal_ns, 20_000_000);
        assert_eq!(sample.cores[0].frequency_hz, None);
        assert!(sample.without_frequency.unwrap().contains("no cpufreq"));
        let cpufreq = root.path().join("sys/devices/system/cpu/cpu1/cpufreq");
        fs::create_dir_all(&cpufreq).unwrap();
        for (kilohertz, user) in [(2_000_000, 160), (3_000_000, 170)] {
            fs::write(cpufreq.join("scaling_cur_freq"), kilohertz.to_string()).unwrap();
            stat(user, 9, 1_400);
            watch.look(2_000_000_010);
        }
        let whole = watch.whole();
        assert_eq!(whole.cores[0].busy_ns, 700_000_000);
        assert_eq!(whole.cores[0].frequency_hz, Some(2_500_000_000));
        assert_eq!(whole.span_ns, 2_000_000_000);
    }
}
