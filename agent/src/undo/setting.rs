//! Settings of the kernel that are one file each, with the value that they had.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::place::NamespaceIdentity;

/// A setting that the agent may change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "setting", rename_all = "kebab-case")]
pub enum Setting {
    /// The frequency governor of a CPU.
    Governor {
        /// The CPU.
        cpu: u32,
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
            Setting::Governor { .. } => "governor",
            Setting::IrqAffinity { .. } => "irq",
            Setting::Sysctl { .. } => "sysctl",
        }
    }

    /// Whether a boot sets it back by itself. Numbers of interrupts are given anew, and so is
    /// what a namespace holds; a governor is a policy that outlives them.
    pub(super) const fn ends_with_the_boot(&self) -> bool {
        !matches!(self, Setting::Governor { .. })
    }

    /// Its file; `None` for a name that is no parameter's.
    fn path(&self) -> Option<PathBuf> {
        match self {
            Setting::Governor { cpu } => Some(PathBuf::from(format!(
                "/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"
            ))),
            Setting::IrqAffinity { irq } => {
                Some(PathBuf::from(format!("/proc/irq/{irq}/smp_affinity_list")))
            }
            Setting::Sysctl { name, .. } => sysctl_path(name),
        }
    }

    fn in_its_namespace<T: Send>(
        &self,
        work: impl FnOnce(&Path) -> io::Result<T> + Send,
    ) -> io::Result<Option<T>> {
        let path = self.path().ok_or_else(|| {
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

    /// What it is now; `None` when its namespace is gone.
    ///
    /// # Errors
    /// It does not exist here, or may not be read.
    pub fn read(&self) -> io::Result<Option<String>> {
        self.in_its_namespace(|path| Ok(fs::read_to_string(path)?.trim_end().to_owned()))
    }

    /// Sets it, and reads it back.
    ///
    /// # Errors
    /// It does not exist here, may not be written, or is not what was written.
    pub fn write(&self, value: &str) -> io::Result<()> {
        self.in_its_namespace(|path| fs::write(path, value))?;
        match self.read()? {
            Some(now) if now != value => Err(io::Error::other(format!(
                "it reads `{now}` after `{value}` was written"
            ))),
            _ => Ok(()),
        }
    }

    /// Puts the old value back, unless somebody else has changed it since.
    pub(super) fn restore(&self, old: &str, ours: &str) -> io::Result<bool> {
        let now = match self.read() {
            Ok(Some(now)) => now,
            Ok(None) => return Ok(true),
            // A CPU or an interface that was taken away took its settings along.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(error),
        };
        if now == ours && now != old {
            self.write(old)?;
        }
        Ok(true)
    }
}

fn sysctl_path(name: &str) -> Option<PathBuf> {
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
        let mut path = PathBuf::from("/proc/sys");
        path.extend(parts.iter().map(|part| part.replace('/', ".")));
        path
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_parameters_lead_to_a_file() {
        let path = |name| sysctl_path(name);
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
        assert!(governor.restore("powersave", "performance").unwrap());
    }
}
