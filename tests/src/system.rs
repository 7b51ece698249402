//! Snapshots of what a run could leave behind on a machine, and the difference between two.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use hexloop_agent::link::{BpfKind, BpfObject, bpf_objects};
use hexloop_workloads::clock;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::sandbox::within_ms;

/// One thing that exists on the machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trace {
    /// A process of ours: number, start in clock ticks since boot, and what it calls itself.
    Process(u32, u64, String),
    /// A network namespace that a process of ours or a mount holds: its inode.
    NetworkNamespace(u64),
    /// An interface of the namespace that this process is in.
    Interface(String),
    /// A program or a map in the kernel named `hx_...` that no other process holds: seen by root
    /// outside of any user namespace alone.
    Bpf(BpfObject),
    /// A control group named `hx...`.
    ControlGroup(PathBuf),
    /// A temporary directory, socket or file named `hx-...` or `hexloop...`.
    Temporary(PathBuf),
}

/// What existed at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    marker: String,
    traces: BTreeSet<Trace>,
}

/// Directories in which programs leave temporary files.
const TEMPORARY: [&str; 4] = ["/tmp", "/var/tmp", "/dev/shm", "/run"];

impl System {
    /// Looks at the machine. Processes count as ours when they run the binary under test or have
    /// `marker` in their arguments (give a command job an argument that nobody else has): another
    /// `hexloop` at work on the same machine disturbs nothing.
    #[must_use]
    pub fn look(marker: &str) -> System {
        let mut traces = BTreeSet::new();
        let processes = processes();
        let (ours, others): (Vec<_>, Vec<_>) = processes
            .into_iter()
            .partition(|process| process.is_ours(marker));
        for process in ours {
            let name = process.arguments.join(" ");
            traces.insert(Trace::Process(process.pid, process.start_ticks, name));
            traces.extend(process.namespaces.into_iter().map(Trace::NetworkNamespace));
        }
        traces.extend(mounted_namespaces().map(Trace::NetworkNamespace));
        let interfaces = names_in("/sys/class/net").into_iter();
        traces.extend(
            interfaces
                .filter(|name| name.starts_with("hx"))
                .map(Trace::Interface),
        );
        let held_by_others: BTreeSet<_> = others.iter().flat_map(|one| &one.bpf).collect();
        let objects = bpf_objects().unwrap_or_default().into_iter();
        let is_left = |one: &BpfObject| {
            one.name.starts_with("hx_") && !held_by_others.contains(&(one.kind, one.number))
        };
        traces.extend(objects.filter(is_left).map(Trace::Bpf));
        // One that is about to be gone has no program any more: whose it was nobody can tell.
        let others = others.into_iter().filter(|one| !one.executable.is_empty());
        let others = others.map(|process| process.pid).collect();
        control_groups(Path::new("/sys/fs/cgroup"), 8, &others, &mut traces);
        for directory in TEMPORARY {
            for name in names_in(directory) {
                // The tests' own sandboxes and lock are named hexloop-test...
                let is_ours = name.starts_with("hx-") || name.starts_with("hexloop");
                if is_ours && !name.starts_with("hexloop-test") {
                    traces.insert(Trace::Temporary(Path::new(directory).join(name)));
                }
            }
        }
        System {
            marker: marker.to_owned(),
            traces,
        }
    }

    /// What exists in this snapshot and did not in `before`.
    #[must_use]
    pub fn since(&self, before: &System) -> Vec<Trace> {
        self.traces.difference(&before.traces).cloned().collect()
    }

    /// What exists now and did not in this snapshot, once it is nothing or `limit_ms` have passed.
    #[must_use]
    pub fn left_over_within(&self, limit_ms: u64) -> Vec<Trace> {
        let mut left = Vec::new();
        within_ms(limit_ms, || {
            left = System::look(&self.marker).since(self);
            left.is_empty()
        });
        left
    }

    /// The processes of ours that were started since this snapshot and have one of `parts` in their
    /// arguments.
    #[must_use]
    pub fn new_processes(&self, parts: &[&str]) -> Vec<Pid> {
        let process = |one: &Trace| match one {
            Trace::Process(pid, _, name) if parts.iter().any(|part| name.contains(part)) => {
                Some(Pid::from_raw(i32::try_from(*pid).ok()?))
            }
            _ => None,
        };
        let ours = System::look(&self.marker).since(self);
        ours.iter().filter_map(process).collect()
    }

    /// Kills them.
    pub fn strike(&self, parts: &[&str]) {
        let victims = self.new_processes(parts);
        // All of them stand still before the first one dies: none may react to another one's end.
        for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
            for pid in &victims {
                // One that is gone already is as dead as the others.
                let _ = kill(*pid, signal);
            }
        }
    }

    /// Checks that the machine is as it was, within `limit_ms`.
    ///
    /// # Panics
    /// Something was left over; the message says what.
    #[track_caller]
    pub fn expect_clean_within(&self, limit_ms: u64) {
        let left = self.left_over_within(limit_ms);
        assert!(left.is_empty(), "left over after {limit_ms} ms: {left:#?}");
    }
}

/// Holds the machine for one test at a time, in this process and in others: snapshots of one test
/// must not see the processes of another.
///
/// # Panics
/// The lock file cannot be made.
#[must_use]
pub fn exclusive() -> Flock<fs::File> {
    // The user is part of the name: another user could not open the file for writing.
    let name = format!("hexloop-test-{}.lock", nix::unistd::geteuid());
    let path = std::env::temp_dir().join(name);
    let file = fs::File::options()
        .create(true)
        .append(true)
        .open(path)
        .expect("the lock file");
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| io::Error::from(error))
        .expect("the lock of the tests")
}

/// A text that no other process on this machine has in its arguments.
#[must_use]
pub fn marker() -> String {
    format!("hexloop-marker-{}-{}", std::process::id(), clock::now())
}

#[derive(Debug)]
struct Process {
    pid: u32,
    start_ticks: u64,
    executable: String,
    arguments: Vec<String>,
    namespaces: BTreeSet<u64>,
    /// Kinds and numbers of the programs and maps that it holds by descriptor.
    bpf: BTreeSet<(BpfKind, u32)>,
    is_zombie: bool,
}

impl Process {
    fn is_ours(&self, marker: &str) -> bool {
        let marked = !marker.is_empty() && self.arguments.iter().any(|one| one.contains(marker));
        let runs_ours = self.executable == "hexloop-under-test";
        let is_this = self.pid == std::process::id();
        !self.is_zombie && !is_this && (runs_ours || marked)
    }
}

/// All processes; those that end while they are read are left out.
fn processes() -> Vec<Process> {
    let numbers = names_in("/proc")
        .into_iter()
        .filter_map(|name| name.parse().ok());
    numbers.filter_map(process).collect()
}

fn process(pid: u32) -> Option<Process> {
    let directory = PathBuf::from(format!("/proc/{pid}"));
    let stat = fs::read_to_string(directory.join("stat")).ok()?;
    // The name is in parentheses and may hold anything; the fields after it are numbers.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let start_ticks = fields.get(19)?.parse().ok()?;
    let arguments = fs::read(directory.join("cmdline")).ok()?;
    let arguments: Vec<String> = arguments
        .split(|byte| *byte == 0)
        .filter(|argument| !argument.is_empty())
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect();
    let executable = fs::read_link(directory.join("exe")).ok();
    let executable = executable
        .as_deref()
        .and_then(Path::file_name)
        .map(|name| {
            name.to_string_lossy()
                .trim_end_matches(" (deleted)")
                .to_owned()
        })
        .unwrap_or_default();
    let mut namespaces = BTreeSet::new();
    namespaces.extend(
        fs::metadata(directory.join("ns/net"))
            .ok()
            .map(|file| file.ino()),
    );
    let mut bpf = BTreeSet::new();
    // A descriptor holds a namespace as well as a process in it does.
    for entry in fs::read_dir(directory.join("fd"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let target = fs::read_link(entry.path()).ok();
        let Some(target) = target.as_deref().and_then(Path::to_str) else {
            continue;
        };
        let inode = target.strip_prefix("net:[");
        let inode = inode.and_then(|rest| rest.strip_suffix(']'));
        namespaces.extend(inode.and_then(|inode| inode.parse::<u64>().ok()));
        let (kind, field) = match target {
            "anon_inode:bpf-prog" => (BpfKind::Program, "prog_id:"),
            "anon_inode:bpf-map" => (BpfKind::Map, "map_id:"),
            _ => continue,
        };
        let told = fs::read_to_string(directory.join("fdinfo").join(entry.file_name()));
        let told = told.unwrap_or_default();
        let number = told.lines().find_map(|line| line.strip_prefix(field));
        bpf.extend(number.and_then(|number| Some((kind, number.trim().parse().ok()?))));
    }
    let is_zombie = fields.first() == Some(&"Z");
    Some(Process {
        pid,
        start_ticks,
        executable,
        arguments,
        namespaces,
        bpf,
        is_zombie,
    })
}

fn names_in(directory: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Network namespaces that a mount keeps, as `ip netns` makes them.
fn mounted_namespaces() -> impl Iterator<Item = u64> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let inodes: Vec<u64> = mounts
        .split_ascii_whitespace()
        .filter_map(|field| field.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok())
        .collect();
    inodes.into_iter()
}

/// Control groups named `hx...`, but for those that somebody else's processes are in.
fn control_groups(
    directory: &Path,
    depth: u32,
    others: &BTreeSet<u32>,
    traces: &mut BTreeSet<Trace>,
) {
    if depth == 0 {
        return;
    }
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b"hx") {
            let inside = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
            let mut inside = inside.lines().filter_map(|pid| pid.parse().ok());
            if !inside.any(|pid| others.contains(&pid)) {
                traces.insert(Trace::ControlGroup(path.clone()));
            }
        }
        control_groups(&path, depth - 1, others, traces);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_marked_process_is_seen_while_it_lives_and_not_after() {
        let marker = marker();
        let before = System::look(&marker);
        let mut child = Command::new("sh")
            .args(["-c", "read -r line", &marker])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let is_child = |one: &Trace| matches!(one, Trace::Process(pid, ..) if *pid == child.id());
        let seen = System::look(&marker).since(&before);
        assert!(seen.iter().any(is_child), "{seen:?}");
        drop(child.stdin.take());
        child.wait().unwrap();
        let is_ours =
            |one: &Trace| matches!(one, Trace::Process(_, _, name) if name.contains(&marker));
        assert!(!System::look(&marker).since(&before).iter().any(is_ours));
    }

    #[test]
    fn this_process_is_no_leftover_of_itself() {
        let is_this =
            |one: &Trace| matches!(one, Trace::Process(pid, ..) if *pid == std::process::id());
        assert!(!System::look("").traces.iter().any(is_this));
    }
}
