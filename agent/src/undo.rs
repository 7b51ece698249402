//! The undoing of what was done: each action leaves a note of its opposite before it happens,
//! and carrying such a note out twice does no harm.
//!
//! [`Undo`] is the closed set of what the agent may change on a machine. What is changed anywhere
//! else is changed by nobody but us: every variant names what it undoes by identity, and refuses
//! what does not carry our mark.

mod gpu;
pub(crate) mod network;
mod place;
mod setting;

use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

use hexloop_workloads::clock::{self, MonotonicNs};
use serde::{Deserialize, Serialize};

use crate::cgroup;
use crate::failpoint;
use crate::process::ProcessIdentity;

pub use gpu::GpuSetting;
pub(crate) use gpu::nvml;
pub use network::{HANDLE, IngressKind, PRIORITIES};
pub use place::{InterfaceIdentity, NamespaceIdentity};
pub use setting::Setting;

/// What is to be done when an action has to be undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "undo", rename_all = "kebab-case")]
pub enum Undo {
    /// Kill a process, if it is still the same one.
    KillProcess {
        /// Process id.
        pid: u32,
        /// See [`ProcessIdentity::start_time_ticks`].
        start_time_ticks: u64,
    },
    /// Kill everything in a control group, its children included, and remove it.
    RemoveCgroup {
        /// Its directory; the last part of the name starts with `hx`.
        path: PathBuf,
    },
    /// Remove a directory and everything in it.
    RemoveDirectory {
        /// An absolute path.
        path: PathBuf,
    },
    /// Rename a directory; a number is appended if the new name is taken.
    RenameDirectory {
        /// An absolute path.
        from: PathBuf,
        /// An absolute path on the same file system.
        to: PathBuf,
    },
    /// Remove a file.
    RemoveFile {
        /// An absolute path.
        path: PathBuf,
    },
    /// Delete the root qdisc with [`HANDLE`] and everything below it.
    RemoveRootQdisc {
        /// On which interface.
        interface: InterfaceIdentity,
    },
    /// Delete the qdisc of arriving packets, unless somebody else's filters hang on it.
    RemoveIngress {
        /// On which interface.
        interface: InterfaceIdentity,
        /// Which of the two kinds.
        kind: IngressKind,
    },
    /// Delete the filters of one of our [`PRIORITIES`].
    RemoveFilters {
        /// On which interface.
        interface: InterfaceIdentity,
        /// The handle that they hang on.
        parent: u32,
        /// Their priority.
        priority: u16,
    },
    /// Delete a link, whatever it is called by now.
    RemoveLink {
        /// In which namespace.
        namespace: NamespaceIdentity,
        /// The name that it was made with, which starts with `hx`.
        name: String,
        /// Its kind, such as `ifb`.
        kind: String,
        /// The hardware address that it was made with, and nothing else was; earlier versions drew none,
        /// and knew it by its name alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<[u8; 6]>,
    },
    /// Take an address off an interface.
    RemoveAddress {
        /// Which interface.
        interface: InterfaceIdentity,
        /// The address.
        address: IpAddr,
        /// Length of its prefix.
        prefix: u8,
    },
    /// Set an offload of an interface back.
    RestoreOffload {
        /// Which interface.
        interface: InterfaceIdentity,
        /// The name that `ethtool -k` prints.
        feature: String,
        /// Whether it was on.
        on: bool,
    },
    /// Set a setting of the kernel back.
    RestoreSetting {
        /// Which one.
        setting: Setting,
        /// What it was.
        old: String,
        /// What we set; another value is somebody else's and stays.
        ours: String,
        /// The root of the file system that it was set in; `None` is the machine's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        root: Option<PathBuf>,
    },
    /// Set a setting of a GPU back.
    RestoreGpu {
        /// Unique id of the GPU.
        gpu: String,
        /// Which setting.
        setting: GpuSetting,
        /// What it was.
        old: u32,
        /// What we set; another value is somebody else's and stays.
        ours: u32,
    },
}

/// What could not be undone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UndoError {
    /// The note asks for something that no action of ours can have called for.
    #[error("{0} is refused: it is not a path that this program makes")]
    Refused(PathBuf),
    /// The note names something without the mark of what this program makes.
    #[error("{0} is refused: this program makes nothing of that name")]
    Foreign(String),
    /// The kernel refused.
    #[error("{action} failed")]
    Failed {
        /// What was tried.
        action: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It did not happen in time.
    #[error("{action} took too long")]
    TooLate {
        /// What was tried.
        action: String,
    },
}

impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Undo::KillProcess { pid, .. } => write!(f, "killing process {pid}"),
            Undo::RemoveCgroup { path } => write!(f, "removing control group {}", path.display()),
            Undo::RemoveDirectory { path } => write!(f, "removing directory {}", path.display()),
            Undo::RenameDirectory { from, to } => {
                write!(f, "renaming {} to {}", from.display(), to.display())
            }
            Undo::RemoveFile { path } => write!(f, "removing file {}", path.display()),
            Undo::RemoveRootQdisc { interface } => {
                write!(f, "deleting the root qdisc of {}", interface.name)
            }
            Undo::RemoveIngress { interface, kind } => {
                write!(f, "deleting qdisc {} of {}", kind.name(), interface.name)
            }
            Undo::RemoveFilters {
                interface,
                priority,
                ..
            } => {
                let name = &interface.name;
                write!(f, "deleting the filters of priority {priority} of {name}")
            }
            Undo::RemoveLink { name, kind, .. } => write!(f, "deleting {kind} link {name}"),
            Undo::RemoveAddress {
                interface,
                address,
                prefix,
            } => write!(f, "taking {address}/{prefix} off {}", interface.name),
            Undo::RestoreOffload {
                interface,
                feature,
                on,
            } => {
                let to = if *on { "on" } else { "off" };
                write!(f, "turning {feature} of {} {to}", interface.name)
            }
            Undo::RestoreSetting { setting, old, .. } => write!(f, "setting {setting} to {old}"),
            Undo::RestoreGpu {
                gpu, setting, old, ..
            } => write!(f, "setting the {setting} of {gpu} to {old}"),
        }
    }
}

impl Undo {
    /// The note that kills exactly this process.
    #[must_use]
    pub const fn kill(process: ProcessIdentity) -> Undo {
        Undo::KillProcess {
            pid: process.pid,
            start_time_ticks: process.start_time_ticks,
        }
    }

    /// Whether it means something only as long as the machine has not been rebooted.
    #[must_use]
    pub const fn ends_with_the_boot(&self) -> bool {
        match self {
            Undo::RemoveDirectory { .. }
            | Undo::RenameDirectory { .. }
            | Undo::RemoveFile { .. }
            | Undo::RestoreGpu { .. } => false,
            Undo::RestoreSetting { setting, .. } => setting.ends_with_the_boot(),
            Undo::KillProcess { .. }
            | Undo::RemoveCgroup { .. }
            | Undo::RemoveRootQdisc { .. }
            | Undo::RemoveIngress { .. }
            | Undo::RemoveFilters { .. }
            | Undo::RemoveLink { .. }
            | Undo::RemoveAddress { .. }
            | Undo::RestoreOffload { .. } => true,
        }
    }

    /// Whether trying again may help: a refusal of our own stays one.
    fn is_final(error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none()
    }

    /// Carries it out; what is undone already is a success. Tries again until the deadline.
    ///
    /// # Errors
    /// Refused, or not possible before the deadline.
    pub fn perform(&self, deadline: MonotonicNs) -> Result<(), UndoError> {
        self.check()?;
        loop {
            let attempt = failpoint::fallible("undo").and_then(|()| self.attempt(deadline));
            let source = match attempt {
                Ok(true) => return Ok(()),
                Ok(false) => None,
                Err(error) => Some(error),
            };
            let is_final = source.as_ref().is_some_and(Undo::is_final);
            if is_final || clock::now() >= deadline {
                let action = self.to_string();
                return Err(match source {
                    Some(source) => UndoError::Failed { action, source },
                    None => UndoError::TooLate { action },
                });
            }
            clock::sleep_until(clock::now() + 5_000_000);
        }
    }

    fn check(&self) -> Result<(), UndoError> {
        let paths: &[&PathBuf] = match self {
            Undo::RemoveLink { name, .. } if !name.starts_with("hx") => {
                return Err(UndoError::Foreign(name.clone()));
            }
            Undo::RemoveCgroup { path } => {
                let ours = path
                    .file_name()
                    .is_some_and(|name| name.as_encoded_bytes().starts_with(b"hx"));
                if !ours {
                    return Err(UndoError::Refused(path.clone()));
                }
                &[path]
            }
            Undo::RemoveDirectory { path } | Undo::RemoveFile { path } => &[path],
            Undo::RestoreSetting {
                root: Some(root), ..
            } => &[root],
            Undo::RenameDirectory { from, to } => &[from, to],
            _ => &[],
        };
        match paths.iter().find(|path| !is_plain_and_absolute(path)) {
            Some(path) => Err(UndoError::Refused((*path).clone())),
            None => Ok(()),
        }
    }

    /// One attempt; `Ok(false)` when it has to be tried again.
    fn attempt(&self, deadline: MonotonicNs) -> io::Result<bool> {
        match self {
            Undo::KillProcess {
                pid,
                start_time_ticks,
            } => {
                let process = ProcessIdentity {
                    pid: *pid,
                    start_time_ticks: *start_time_ticks,
                };
                process.kill_and_wait(deadline)
            }
            Undo::RemoveCgroup { path } => cgroup::kill_and_remove(path),
            Undo::RemoveDirectory { path } => match fs::remove_dir_all(path) {
                // Somebody who is about to end has put something into it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
                result => gone_is_fine(result),
            },
            Undo::RemoveFile { path } => gone_is_fine(fs::remove_file(path)),
            Undo::RenameDirectory { from, to } => rename_to_free_name(from, to),
            Undo::RemoveRootQdisc { interface } => {
                let work = || network::remove_root_qdisc(interface);
                interface.namespace.inside(work)
            }
            Undo::RemoveIngress { interface, kind } => {
                let work = || network::remove_ingress(interface, *kind);
                interface.namespace.inside(work)
            }
            Undo::RemoveFilters {
                interface,
                parent,
                priority,
            } => {
                let work = || network::remove_filters(interface, *parent, *priority);
                interface.namespace.inside(work)
            }
            Undo::RemoveLink {
                namespace,
                name,
                kind,
                address,
            } => namespace.inside(|| network::remove_link((name, kind), *address)),
            Undo::RemoveAddress {
                interface,
                address,
                prefix,
            } => {
                let work = || network::remove_address(interface, *address, *prefix);
                interface.namespace.inside(work)
            }
            Undo::RestoreOffload {
                interface,
                feature,
                on,
            } => {
                let work = || network::restore_offload(interface, feature, *on);
                interface.namespace.inside(work)
            }
            Undo::RestoreSetting {
                setting,
                old,
                ours,
                root,
            } => {
                let root = root.as_deref().unwrap_or(Path::new("/"));
                setting.restore(root, old, ours)
            }
            Undo::RestoreGpu {
                gpu,
                setting,
                old,
                ours,
            } => setting.restore(gpu, *old, *ours),
        }
    }
}

/// No `..`, and at least two levels below the root: nothing that this program makes is higher.
fn is_plain_and_absolute(path: &Path) -> bool {
    let mut components = path.components();
    components.next() == Some(Component::RootDir)
        && components.clone().count() >= 2
        && components.all(|component| matches!(component, Component::Normal(_)))
}

fn gone_is_fine(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn rename_to_free_name(from: &Path, to: &Path) -> io::Result<bool> {
    if !from.try_exists()? {
        return Ok(true);
    }
    let mut target = to.to_path_buf();
    for number in 2..=1000 {
        if !target.try_exists()? {
            return gone_is_fine(fs::rename(from, &target));
        }
        let mut name = to.as_os_str().to_owned();
        name.push(format!("-{number}"));
        target = PathBuf::from(name);
    }
    Err(io::Error::new(
        io::ErrorKind::AlreadyExists,
        "every name for it is taken",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn soon() -> MonotonicNs {
        clock::now() + 3_000_000_000
    }

    #[test]
    fn undoing_twice_does_no_harm() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("made");
        let file = root.path().join("file");
        fs::create_dir_all(directory.join("deeper")).unwrap();
        fs::write(&file, "text").unwrap();
        for _ in 0..2 {
            Undo::RemoveDirectory {
                path: directory.clone(),
            }
            .perform(soon())
            .unwrap();
            Undo::RemoveFile { path: file.clone() }
                .perform(soon())
                .unwrap();
            assert!(!directory.exists() && !file.exists());
        }
    }

    #[test]
    fn a_directory_is_renamed_and_never_over_another() {
        let root = tempfile::tempdir().unwrap();
        let from = root.path().join("run.partial");
        let to = root.path().join("run.interrupted");
        fs::create_dir(&to).unwrap();
        fs::create_dir(&from).unwrap();
        let undo = Undo::RenameDirectory {
            from: from.clone(),
            to,
        };
        undo.perform(soon()).unwrap();
        assert!(!from.exists());
        assert!(root.path().join("run.interrupted-2").is_dir());
        undo.perform(soon()).unwrap();
    }

    #[test]
    fn paths_that_we_never_make_are_refused() {
        for path in ["/", "/etc", "relative/path", "/tmp/../etc/passwd"] {
            let error = Undo::RemoveDirectory { path: path.into() }
                .perform(soon())
                .unwrap_err();
            assert!(matches!(error, UndoError::Refused(_)), "{path}: {error}");
        }
        let error = Undo::RemoveCgroup {
            path: "/sys/fs/cgroup/system.slice".into(),
        };
        assert!(matches!(error.perform(soon()), Err(UndoError::Refused(_))));
    }

    #[test]
    fn a_process_is_killed_by_identity() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let identity = ProcessIdentity::of(child.id()).unwrap();
        Undo::kill(identity).perform(soon()).unwrap();
        assert!(!identity.is_alive());
        child.wait().unwrap();
        Undo::kill(identity).perform(soon()).unwrap();
    }

    #[test]
    fn a_link_of_an_earlier_version_is_known_by_its_name_alone() {
        let text = r#"{"undo":"remove-link","namespace":{"inode":1,"cookie":null},"name":"hxi7","kind":"ifb"}"#;
        let note: Undo = serde_json::from_str(text).unwrap();
        assert!(matches!(note, Undo::RemoveLink { address: None, .. }));
        assert_eq!(serde_json::to_string(&note).unwrap(), text);
    }

    #[test]
    fn what_cannot_be_undone_is_an_error_that_says_what_was_tried() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("a-directory");
        fs::create_dir(&directory).unwrap();
        let error = Undo::RemoveFile { path: directory }.perform(0).unwrap_err();
        assert!(error.to_string().starts_with("removing file"), "{error}");
    }
}
