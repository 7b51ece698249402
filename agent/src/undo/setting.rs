//! Settings of the kernel that are one file each, with the value that they had.
//!
//! Every file lies below the root of a file system, which is `/` but in tests: a note names another
//! one, so that what was set in a directory is never put back on the machine.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::place::NamespaceIdentity;
use crate::cgroup::parse_cpu_list;

/// A setting that the agent may change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "setting", rename_all = "kebab-case")]
pub enum Setting {
    /// The frequency governor of a CPU.
    Governor {
        /// The CPU.
        cpu: u32,
    },
    /// What a CPU prefers between speed and energy.
    EnergyPreference {
        /// The CPU.
        cpu: u32,
    },
    /// Whether any CPU may run above its nominal frequency: `0` or `1`.
    Boost,
    /// The same for Intel's driver, the other way round: `1` forbids it.
    NoTurbo,
    /// Pages of that size that are kept for who asks for them.
    Hugepages {
        /// The NUMA node; `None` stands for the whole machine.
        node: Option<u32>,
        /// Size of a page in KiB.
        size_kib: u32,
    },
    /// The CPUs that serve an interrupt, as a list.
    IrqAffinity {
        /// Number of the interrupt.
        irq: u32,
    },
    /// A kernel parameter.
    Sysctl {
        /// Its name with dots, such as `net.core.busy_poll`.
        name: String,
        /// The network namespace that it belongs to; `None` for one of the whole machine.
        namespace: Option<NamespaceIdentity>,
    },
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Setting::Governor { cpu } => write!(f, "governor of CPU {cpu}"),
            Setting::EnergyPreference { cpu } => write!(f, "energy preference of CPU {cpu}"),
            Setting::Boost => f.write_str("boost of the CPUs"),
            Setting::NoTurbo => f.write_str("no_turbo of the CPUs"),
            Setting::Hugepages { node, size_kib } => {
                write!(f, "number of {size_kib} KiB pages")?;
                node.map_or(Ok(()), |node| write!(f, " of NUMA node {node}"))
            }
            Setting::IrqAffinity { irq } => write!(f, "CPUs of interrupt {irq}"),
            Setting::Sysctl { name, .. } => write!(f, "kernel parameter {name}"),
        }
    }
}

impl Setting {
    /// Its word in the list of allowed settings of `agent.toml`.
    #[must_use]
    pub const fn class(&self) -> &'static str {
        match self {
            Setting::Governor { .. }
            | Setting::EnergyPreference { .. }
            | Setting::Boost
            | Setting::NoTurbo => "governor",
            Setting::Hugepages { .. } => "hugepages",
            Setting::IrqAffinity { .. } => "irq",
            Setting::Sysctl { .. } => "sysctl",
        }
    }

    /// Whether a boot sets it back by itself. Numbers of interrupts are given anew, pages are free
    /// again, and so is what a namespace holds; a governor is a policy that outlives them.
    pub(super) const fn ends_with_the_boot(&self) -> bool {
        !matches!(
            self,
            Setting::Governor { .. }
                | Setting::EnergyPreference { .. }
                | Setting::Boost
                | Setting::NoTurbo
        )
    }

    /// Its file below a root; `None` for a name that is no parameter's.
    fn path(&self, root: &Path) -> Option<PathBuf> {
        let cpus = root.join("sys/devices/system/cpu");
        match self {
            Setting::Governor { cpu } => {
                Some(cpus.join(format!("cpu{cpu}/cpufreq/scaling_governor")))
            }
            Setting::EnergyPreference { cpu } => {
                Some(cpus.join(format!("cpu{cpu}/cpufreq/energy_performance_preference")))
            }
            Setting::Boost => Some(cpus.join("cpufreq/boost")),
            Setting::NoTurbo => Some(cpus.join("intel_pstate/no_turbo")),
            Setting::Hugepages { node, size_kib } => {
                let pages = format!("hugepages-{size_kib}kB/nr_hugepages");
                Some(match node {
                    Some(node) => root
                        .join(format!("sys/devices/system/node/node{node}/hugepages"))
                        .join(pages),
                    None => root.join("sys/kernel/mm/hugepages").join(pages),
                })
            }
            Setting::IrqAffinity { irq } => {
                Some(root.join(format!("proc/irq/{irq}/smp_affinity_list")))
            }
            Setting::Sysctl { name, .. } => sysctl_path(root, name),
        }
    }

    fn in_its_namespace<T: Send>(
        &self,
        root: &Path,
        work: impl FnOnce(&Path) -> io::Result<T> + Send,
    ) -> io::Result<Option<T>> {
        let path = self.path(root).ok_or_else(|| {
            let message = format!("{self} is none that this program changes");
            io::Error::new(io::ErrorKind::PermissionDenied, message)
        })?;
        let Setting::Sysctl {
            namespace: Some(namespace),
            ..
        } = self
        else {
            return work(&path).map(Some);
        };
        let mut result = None;
        namespace.inside(|| {
            result = Some(work(&path)?);
            Ok(true)
        })?;
        Ok(result)
    }

    /// What it is now, below a root; `None` when its namespace is gone.
    ///
    /// # Errors
    /// It does not exist here, or may not be read.
    pub fn read(&self, root: &Path) -> io::Result<Option<String>> {
        self.in_its_namespace(root, |path| {
            let text = fs::read_to_string(path)?;
            Ok(text.lines().next().unwrap_or("").trim_end().to_owned())
        })
    }

    /// Sets it, and reads it back.
    ///
    /// # Errors
    /// It does not exist here, may not be written, or is not what was written.
    pub fn write(&self, root: &Path, value: &str) -> io::Result<()> {
        self.in_its_namespace(root, |path| {
            // In one call, with nothing cut off before: whoever is killed has written it or has not.
            let mut file = fs::OpenOptions::new().write(true).open(path)?;
            file.write_all(format!("{value}\n").as_bytes())
        })?;
        match self.read(root)? {
            Some(now) if !self.is_same(&now, value) => Err(io::Error::other(format!(
                "it reads `{now}` after `{value}` was written"
            ))),
            _ => Ok(()),
        }
    }

    /// Whether two texts mean the same: the kernel writes lists of CPUs its own way.
    pub(crate) fn is_same(&self, one: &str, other: &str) -> bool {
        match self {
            Setting::IrqAffinity { .. } => parse_cpu_list(one) == parse_cpu_list(other),
            _ => one == other,
        }
    }

    /// Whether what is there now may be what we set. The kernel may find room for fewer pages than
    /// were asked for.
    fn is_ours(&self, now: &str, old: &str, ours: &str) -> bool {
        if let (Setting::Hugepages { .. }, [Ok(now), Ok(old), Ok(ours)]) =
            (self, [now, old, ours].map(str::parse::<u64>))
        {
            return now == ours || (old < now && now < ours);
        }
        self.is_same(now, ours)
    }

    /// Puts the old value back, unless somebody else has changed it since.
    pub(super) fn restore(&self, root: &Path, old: &str, ours: &str) -> io::Result<bool> {
        let now = match self.read(root) {
            Ok(Some(now)) => now,
            Ok(None) => return Ok(true),
            // A CPU or an interface that was taken away took its settings along.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(error),
        };
        if self.is_ours(&now, old, ours) && !self.is_same(&now, old) {
            self.write(root, old)?;
        }
        Ok(true)
    }
}

fn sysctl_path(root: &Path, name: &str) -> Option<PathBuf> {
    let is_plain = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'/'))
            && !part.starts_with('/')
            && !part.contains("//")
    };
    // A dot within a part, as in the name of a VLAN's interface, is written as a slash there.
    let parts: Vec<&str> = name.split('.').collect();
    (parts.len() >= 2 && parts.iter().all(|part| is_plain(part))).then(|| {
        let mut path = root.join("proc/sys");
        path.extend(parts.iter().map(|part| part.replace('/', ".")));
        path
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_parameters_lead_to_a_file() {
        let path = |name| sysctl_path(Path::new("/"), name);
        assert_eq!(
            path("net.ipv4.conf.eth0/7.rp_filter"),
            Some(PathBuf::from("/proc/sys/net/ipv4/conf/eth0.7/rp_filter"))
        );
        for name in [
            "",
            "net",
            "net..x",
            "../etc/passwd",
            "net./etc.x",
            "a.b c",
            "net.//.x",
        ] {
            assert_eq!(path(name), None, "{name}");
        }
    }

    #[test]
    fn a_setting_that_this_machine_lacks_needs_no_undoing() {
        let governor = Setting::Governor { cpu: 65_535 };
        let here = Path::new("/");
        assert!(governor.restore(here, "powersave", "performance").unwrap());
    }

    fn put(root: &Path, setting: &Setting, text: &str) {
        let path = setting.path(root).unwrap();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn pages_that_the_kernel_found_room_for_are_given_back_and_those_of_others_are_not() {
        let root = tempfile::tempdir().unwrap();
        let pages = Setting::Hugepages {
            node: Some(0),
            size_kib: 2048,
        };
        let now = || pages.read(root.path()).unwrap().unwrap();
        for (found, afterwards) in [("24", "8"), ("12", "8"), ("30", "30"), ("4", "4")] {
            put(root.path(), &pages, found);
            assert!(pages.restore(root.path(), "8", "24").unwrap());
            assert_eq!(now(), afterwards, "after {found}");
        }
    }

    #[test]
    fn a_list_of_cpus_is_the_same_however_it_is_written() {
        let root = tempfile::tempdir().unwrap();
        let interrupt = Setting::IrqAffinity { irq: 9 };
        put(root.path(), &interrupt, "0-1\n");
        assert!(interrupt.restore(root.path(), "0-3", "0,1").unwrap());
        assert_eq!(interrupt.read(root.path()).unwrap().unwrap(), "0-3");
    }
}
