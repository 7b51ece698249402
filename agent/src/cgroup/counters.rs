//! What the kernel counts of a node's control groups: throttling, memory, pressure.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use hexloop_telemetry::{Pressure, Trouble};

use super::{CgroupVersion, NodeCgroups, read_number, stat_field};

/// Follows the highest memory of a group, from a moment on where the kernel can forget what came
/// before.
#[derive(Debug)]
pub struct MemoryPeak {
    kind: PeakKind,
}

#[derive(Debug)]
enum PeakKind {
    /// Version 1: the file itself was set back.
    V1(std::path::PathBuf, bool),
    /// Version 2: a descriptor has a peak of its own once it was written to (Linux 6.12).
    V2(File, bool),
    Without(Trouble),
}

impl MemoryPeak {
    /// The highest memory in bytes, and how that was found.
    ///
    /// # Errors
    /// Nobody counts it.
    pub fn read(&mut self) -> Result<(u64, &'static str), Trouble> {
        let failed = |what: &str, reason: String| Trouble::Failed {
            what: what.to_owned(),
            reason,
        };
        match &mut self.kind {
            PeakKind::V1(path, was_reset) => {
                let bytes = read_number(path)
                    .map_err(|error| failed("the peak of memory", error.source.to_string()))?;
                let source = if *was_reset {
                    "cgroup-v1 memory.max_usage_in_bytes, page cache included"
                } else {
                    "cgroup-v1 memory.max_usage_in_bytes since the node was made"
                };
                Ok((bytes, source))
            }
            PeakKind::V2(file, was_reset) => {
                let mut text = String::new();
                file.seek(SeekFrom::Start(0))
                    .and_then(|_| file.read_to_string(&mut text))
                    .map_err(|error| failed("memory.peak", error.to_string()))?;
                let bytes = text
                    .trim()
                    .parse()
                    .map_err(|error| failed("memory.peak", format!("{error}")))?;
                let source = if *was_reset {
                    "cgroup-v2 memory.peak, page cache included"
                } else {
                    "cgroup-v2 memory.peak since the node was made"
                };
                Ok((bytes, source))
            }
            PeakKind::Without(trouble) => Err(trouble.clone()),
        }
    }
}

fn unsupported(source_name: &str, what: &str) -> Trouble {
    Trouble::NotSupported {
        source_name: source_name.to_owned(),
        what: what.to_owned(),
    }
}

impl NodeCgroups {
    /// Time in which the quota has held the node up, in nanoseconds.
    ///
    /// # Errors
    /// No group limits its CPU time, or the kernel does not say.
    pub fn throttled_ns(&self) -> Result<u64, Trouble> {
        let without = || unsupported("no control group", "throttling of this node");
        let (version, path) = self.cpu.as_ref().ok_or_else(without)?;
        let stat = path.join("cpu.stat");
        let value = match version {
            CgroupVersion::V1 => stat_field(&stat, "throttled_time"),
            CgroupVersion::V2 => stat_field(&stat, "throttled_usec").map(|us| us * 1_000),
        };
        value.ok_or_else(|| unsupported(version.name(), "the time of throttling in cpu.stat"))
    }

    /// Begins to follow the highest memory.
    #[must_use]
    pub fn memory_peak(&self) -> MemoryPeak {
        let kind = match &self.memory {
            None => PeakKind::Without(unsupported(
                "no memory controller",
                "the peak of memory of this node",
            )),
            Some((CgroupVersion::V1, path)) => {
                let file = path.join("memory.max_usage_in_bytes");
                let was_reset = fs::write(&file, "0").is_ok();
                PeakKind::V1(file, was_reset)
            }
            Some((CgroupVersion::V2, path)) => v2_peak(&path.join("memory.peak")),
        };
        MemoryPeak { kind }
    }

    /// How long the node's processes have stood still for want of `cpu`, `memory` or `io`.
    ///
    /// # Errors
    /// The kernel keeps no pressure, or none per group.
    pub fn pressure(&self, resource: &str) -> Result<Pressure, Trouble> {
        let groups = [&self.cpu, &self.memory, &self.cpuset, &self.accounting];
        let unified = groups
            .into_iter()
            .flatten()
            .find(|(version, _)| *version == CgroupVersion::V2);
        match unified {
            Some((_, path)) => Pressure::read(&path.join(format!("{resource}.pressure"))),
            None if groups.iter().any(|group| group.is_some()) => {
                Err(unsupported("cgroup-v1", "pressure per group"))
            }
            None => Err(unsupported("no control group", "pressure of this node")),
        }
    }
}

fn v2_peak(path: &Path) -> PeakKind {
    let reset = OpenOptions::new().read(true).write(true).open(path);
    if let Ok(mut file) = reset
        && file.write_all(b"reset").is_ok()
    {
        return PeakKind::V2(file, true);
    }
    match File::open(path) {
        Ok(file) => PeakKind::V2(file, false),
        Err(_) => PeakKind::Without(unsupported("this kernel", "memory.peak (Linux 5.19)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(version: CgroupVersion, files: &[(&str, &str)]) -> (tempfile::TempDir, NodeCgroups) {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(root.path().join(name), text).unwrap();
        }
        let group = Some((version, root.path().to_path_buf()));
        let groups = NodeCgroups {
            cpu: group.clone(),
            memory: group,
            ..NodeCgroups::default()
        };
        (root, groups)
    }

    #[test]
    fn version_2_tells_throttling_peak_and_pressure() {
        let (root, groups) = groups(
            CgroupVersion::V2,
            &[
                (
                    "cpu.stat",
                    "usage_usec 9\nnr_throttled 3\nthrottled_usec 7\n",
                ),
                ("memory.peak", "4096\n"),
                (
                    "cpu.pressure",
                    "some avg10=0.00 total=5\nfull avg10=0.00 total=2\n",
                ),
            ],
        );
        assert_eq!(groups.throttled_ns(), Ok(7_000));
        let pressure = groups.pressure("cpu").unwrap();
        assert_eq!((pressure.some_ns, pressure.full_ns), (5_000, Some(2_000)));
        assert!(groups.pressure("io").is_err());
        // A plain file keeps what is written to it: what stands there then is no number.
        let mut peak = groups.memory_peak();
        fs::write(root.path().join("memory.peak"), "8192\n").unwrap();
        let (bytes, source) = peak.read().unwrap();
        assert_eq!(
            (bytes, source),
            (8_192, "cgroup-v2 memory.peak, page cache included")
        );
    }

    #[test]
    fn version_1_tells_throttling_and_peak_and_says_that_it_has_no_pressure() {
        let (root, groups) = groups(
            CgroupVersion::V1,
            &[
                (
                    "cpu.stat",
                    "nr_periods 1\nnr_throttled 3\nthrottled_time 77\n",
                ),
                ("memory.max_usage_in_bytes", "9999\n"),
            ],
        );
        assert_eq!(groups.throttled_ns(), Ok(77));
        let mut peak = groups.memory_peak();
        assert_eq!(peak.read().unwrap().0, 0, "set back");
        fs::write(root.path().join("memory.max_usage_in_bytes"), "123\n").unwrap();
        assert_eq!(peak.read().unwrap().0, 123);
        let why = groups.pressure("cpu").unwrap_err().to_string();
        assert_eq!(why, "cgroup-v1 does not support pressure per group");
    }

    #[test]
    fn a_node_without_groups_has_reasons_and_no_numbers() {
        let groups = NodeCgroups::default();
        assert!(groups.throttled_ns().is_err());
        assert!(groups.memory_peak().read().is_err());
        let why = groups.pressure("memory").unwrap_err().to_string();
        assert!(why.starts_with("no control group"), "{why}");
    }
}
