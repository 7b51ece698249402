//! Control groups of both versions: CPU quota, CPU sets, accounting, and the end of everything
//! inside. Which hierarchies exist is found by looking and trying, never assumed.

mod counters;
mod leave;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hexloop_topologies::plan::{CpuQuota, Partition};
use nix::sys::signal::Signal;
use nix::unistd::{AccessFlags, access};

use crate::failpoint;
use crate::process::ProcessIdentity;
use crate::undo::Undo;

pub use counters::MemoryPeak;
pub(crate) use leave::move_to_the_roots;

/// What went wrong with a control group.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}")]
pub struct CgroupError {
    /// What was being done.
    pub action: &'static str,
    /// To which file or directory.
    pub path: PathBuf,
    /// The cause.
    #[source]
    pub source: io::Error,
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> CgroupError + 'a {
    move |source| CgroupError {
        action,
        path: path.to_owned(),
        source,
    }
}

/// The version of a hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupVersion {
    /// One hierarchy per controller.
    V1,
    /// The unified hierarchy.
    V2,
}

impl CgroupVersion {
    /// `cgroup-v1` or `cgroup-v2`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            CgroupVersion::V1 => "cgroup-v1",
            CgroupVersion::V2 => "cgroup-v2",
        }
    }
}

/// A directory in which groups with one controller can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// The version of its hierarchy.
    pub version: CgroupVersion,
    /// The parent of the groups that are made.
    pub parent: PathBuf,
}

/// The controllers that this process may use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Controllers {
    /// CPU quota.
    pub cpu: Option<Controller>,
    /// CPU sets.
    pub cpuset: Option<Controller>,
    /// CPU time used.
    pub accounting: Option<Controller>,
    /// Memory used; nothing limits it.
    pub memory: Option<Controller>,
}

impl Controllers {
    /// Those of this machine.
    #[must_use]
    pub fn detect() -> Controllers {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Controllers::detect_in(Path::new("/"), &mountinfo, &own)
    }

    /// The same with the two files of `/proc/self` as text, and every mount point below `root`.
    #[must_use]
    pub fn detect_in(root: &Path, mountinfo: &str, own: &str) -> Controllers {
        let mounts: Vec<Mount<'_>> = mountinfo.lines().filter_map(Mount::parse).collect();
        let mut found = Controllers::default();
        let unified = mounts
            .iter()
            .find(|mount| mount.version == CgroupVersion::V2);
        if let Some(mount) = unified {
            let own = own
                .lines()
                .find_map(|line| line.strip_prefix("0::"))
                .unwrap_or("/");
            let own = mount.directory_of(root, own);
            let top = below(root, mount.point);
            let usable = |name| {
                own.ancestors()
                    .take_while(|directory| directory.starts_with(&top))
                    .find(|directory| offers(directory, name))
                    .map(|parent| Controller {
                        version: CgroupVersion::V2,
                        parent: parent.to_owned(),
                    })
            };
            found.cpu = usable("cpu");
            found.accounting = found.cpu.clone();
            // Both limits in one group: a second one elsewhere would not hold the processes.
            found.cpuset = usable("cpuset").filter(|set| {
                found
                    .cpu
                    .as_ref()
                    .is_none_or(|cpu| cpu.parent == set.parent)
            });
            found.memory = usable("memory").filter(|memory| {
                [&found.cpu, &found.cpuset]
                    .into_iter()
                    .flatten()
                    .all(|other| other.parent == memory.parent)
            });
        }
        let legacy = |name: &str| {
            let mount = mounts.iter().find(|mount| {
                mount.version == CgroupVersion::V1 && mount.options.split(',').any(|o| o == name)
            })?;
            let own = own.lines().find_map(|line| {
                let (_, rest) = line.split_once(':')?;
                let (names, path) = rest.split_once(':')?;
                names.split(',').any(|n| n == name).then_some(path)
            })?;
            let parent = mount.directory_of(root, own);
            access(&parent, AccessFlags::W_OK).ok()?;
            Some(Controller {
                version: CgroupVersion::V1,
                parent,
            })
        };
        found.cpu = found.cpu.or_else(|| legacy("cpu"));
        found.cpuset = found.cpuset.or_else(|| legacy("cpuset"));
        found.accounting = found.accounting.or_else(|| legacy("cpuacct"));
        found.memory = found.memory.or_else(|| legacy("memory"));
        found
    }
}

/// Whether groups below this directory of the unified hierarchy have the controller, turning it
/// on for them if need be.
fn offers(directory: &Path, controller: &str) -> bool {
    let has = |file: &str| {
        fs::read_to_string(directory.join(file))
            .is_ok_and(|text| text.split_ascii_whitespace().any(|name| name == controller))
    };
    if access(directory, AccessFlags::W_OK).is_err()
        || !has("cgroup.controllers")
        || !holds_groups(directory)
    {
        return false;
    }
    let control = "cgroup.subtree_control";
    has(control) || fs::write(directory.join(control), format!("+{controller}")).is_ok()
}

/// Whether groups below this directory can hold processes. Below one that holds some itself they
/// cannot: switched on there, the CPU controller makes it a threaded domain, whose groups take threads
/// alone (the kernel's cgroup-v2.rst, "Threads"). The root of all is exempt, and has no type.
fn holds_groups(directory: &Path) -> bool {
    match fs::read_to_string(directory.join("cgroup.type")) {
        Err(error) => error.kind() == io::ErrorKind::NotFound,
        Ok(kind) => kind.trim() == "domain" && processes_in(directory).is_empty(),
    }
}

fn below(root: &Path, absolute: &str) -> PathBuf {
    root.join(absolute.trim_start_matches('/'))
}

/// One line of `/proc/self/mountinfo` that is about control groups.
struct Mount<'a> {
    version: CgroupVersion,
    root: &'a str,
    point: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Mount<'a>> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let version = match after.next()? {
            "cgroup" => CgroupVersion::V1,
            "cgroup2" => CgroupVersion::V2,
            _ => return None,
        };
        Some(Mount {
            version,
            root,
            point,
            options: after.nth(1)?,
        })
    }

    /// Where the group of that path is in the file system.
    fn directory_of(&self, root: &Path, group: &str) -> PathBuf {
        let inside = group
            .strip_prefix(self.root.trim_end_matches('/'))
            .unwrap_or("/");
        let point = below(root, self.point);
        // A group outside of what is mounted is shown with `..`.
        if inside.contains("..") {
            point
        } else {
            point.join(inside.trim_start_matches('/'))
        }
    }
}

/// The control groups of one node: one directory per hierarchy.
#[derive(Debug, Clone, Default)]
pub struct NodeCgroups {
    cpu: Option<(CgroupVersion, PathBuf)>,
    cpuset: Option<(CgroupVersion, PathBuf)>,
    accounting: Option<(CgroupVersion, PathBuf)>,
    memory: Option<(CgroupVersion, PathBuf)>,
}

impl NodeCgroups {
    /// Makes a group of that name in each hierarchy. `record` is told of each before it is made.
    ///
    /// # Errors
    /// A directory could not be made, or `record` failed.
    pub fn create<E: From<CgroupError>>(
        controllers: &Controllers,
        name: &str,
        mut record: impl FnMut(Undo) -> Result<(), E>,
    ) -> Result<NodeCgroups, E> {
        let mut make = |controller: &Option<Controller>| match controller {
            None => Ok(None),
            Some(Controller { version, parent }) => {
                let path = parent.join(name);
                if !path.is_dir() {
                    record(Undo::RemoveCgroup { path: path.clone() })?;
                    failpoint::fallible("cgroup")
                        .and_then(|()| fs::create_dir(&path))
                        .map_err(failed("make the control group", &path))?;
                    failpoint::reach("cgroup-made");
                }
                Ok::<_, E>(Some((*version, path)))
            }
        };
        Ok(NodeCgroups {
            cpu: make(&controllers.cpu)?,
            cpuset: make(&controllers.cpuset)?,
            accounting: make(&controllers.accounting)?,
            memory: make(&controllers.memory)?,
        })
    }

    /// The directories, each once.
    #[must_use]
    pub fn directories(&self) -> Vec<PathBuf> {
        let all = [&self.cpu, &self.cpuset, &self.accounting, &self.memory];
        let mut paths: Vec<PathBuf> = all
            .into_iter()
            .flatten()
            .map(|(_, path)| path.clone())
            .collect();
        paths.sort();
        paths.dedup();
        paths
    }

    /// Limits the node to these CPUs. Returns the version and what was read back; `None` where
    /// there is no such controller.
    ///
    /// # Errors
    /// The kernel refused the CPUs.
    pub fn set_cpus(&self, cpus: &[u32]) -> Result<Option<(CgroupVersion, Vec<u32>)>, CgroupError> {
        let Some((version, path)) = &self.cpuset else {
            return Ok(None);
        };
        let effective = match version {
            CgroupVersion::V1 => {
                // A new group of version 1 has no memory nodes, and takes no process before it has.
                let parent = path.parent().unwrap_or(path);
                let memory = read(&parent.join("cpuset.mems"))?;
                write(&path.join("cpuset.mems"), memory.trim())?;
                "cpuset.cpus"
            }
            CgroupVersion::V2 => "cpuset.cpus.effective",
        };
        write(&path.join("cpuset.cpus"), &format_cpu_list(cpus))?;
        Ok(Some((
            *version,
            parse_cpu_list(&read(&path.join(effective))?),
        )))
    }

    /// Makes the node's CPUs a partition of their own. Returns what is read back, such as `isolated`
    /// or `isolated invalid (Parent is not a partition root)`; `None` without control groups of
    /// version 2 with CPU sets.
    ///
    /// # Errors
    /// The kernel refused to write or to tell it.
    pub fn set_partition(&self, partition: Partition) -> Result<Option<String>, CgroupError> {
        let Some((CgroupVersion::V2, path)) = &self.cpuset else {
            return Ok(None);
        };
        let file = path.join("cpuset.cpus.partition");
        write(&file, partition.name())?;
        Ok(Some(read(&file)?.trim().to_owned()))
    }

    /// Gives the node one of `parts` of the real-time budget of its parent group: without one, groups
    /// of version 1 let none of their processes be real-time (`CONFIG_RT_GROUP_SCHED`). Returns what
    /// is read back, in microseconds of each period; `None` where groups have no such budget.
    ///
    /// # Errors
    /// The kernel refused it.
    pub fn set_realtime_budget(&self, parts: u32) -> Result<Option<u64>, CgroupError> {
        let Some((CgroupVersion::V1, path)) = &self.cpu else {
            return Ok(None);
        };
        let file = path.join("cpu.rt_runtime_us");
        if !file.exists() {
            return Ok(None);
        }
        let parent = path.parent().unwrap_or(path).join("cpu.rt_runtime_us");
        let budget_us = read_number(&parent)? / u64::from(parts.max(1));
        write(&file, &budget_us.to_string())?;
        Ok(Some(read_number(&file)?))
    }

    /// Limits the node's memory to these NUMA nodes. Returns the version and what was read back;
    /// `None` where there is no such controller.
    ///
    /// # Errors
    /// The kernel refused the nodes.
    pub fn set_memory_nodes(
        &self,
        nodes: &[u32],
    ) -> Result<Option<(CgroupVersion, Vec<u32>)>, CgroupError> {
        let Some((version, path)) = &self.cpuset else {
            return Ok(None);
        };
        write(&path.join("cpuset.mems"), &format_cpu_list(nodes))?;
        let effective = match version {
            CgroupVersion::V1 => "cpuset.mems",
            CgroupVersion::V2 => "cpuset.mems.effective",
        };
        let got = parse_cpu_list(&read(&path.join(effective))?);
        Ok(Some((*version, got)))
    }

    /// Limits the node's CPU time. Returns the version and what was read back.
    ///
    /// # Errors
    /// The kernel refused the quota.
    pub fn set_quota(
        &self,
        quota: CpuQuota,
    ) -> Result<Option<(CgroupVersion, CpuQuota)>, CgroupError> {
        let Some((version, path)) = &self.cpu else {
            return Ok(None);
        };
        let CpuQuota {
            quota_us,
            period_us,
        } = quota;
        let got = match version {
            CgroupVersion::V1 => {
                write(&path.join("cpu.cfs_period_us"), &period_us.to_string())?;
                write(&path.join("cpu.cfs_quota_us"), &quota_us.to_string())?;
                CpuQuota {
                    quota_us: read_number(&path.join("cpu.cfs_quota_us"))?,
                    period_us: read_number(&path.join("cpu.cfs_period_us"))?,
                }
            }
            CgroupVersion::V2 => {
                let file = path.join("cpu.max");
                write(&file, &format!("{quota_us} {period_us}"))?;
                let text = read(&file)?;
                let mut numbers = text.split_ascii_whitespace().map(str::parse);
                match (numbers.next(), numbers.next()) {
                    (Some(Ok(quota_us)), Some(Ok(period_us))) => CpuQuota {
                        quota_us,
                        period_us,
                    },
                    _ => {
                        return Err(failed("understand", &file)(
                            io::ErrorKind::InvalidData.into(),
                        ));
                    }
                }
            }
        };
        Ok(Some((*version, got)))
    }

    /// Moves a process, with what it will start, into the groups.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn add(&self, pid: u32) -> Result<(), CgroupError> {
        for directory in self.directories() {
            write(&directory.join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(())
    }

    /// CPU time that the node has used since its group was made, in nanoseconds.
    #[must_use]
    pub fn cpu_ns(&self) -> Option<u64> {
        match &self.accounting {
            Some((CgroupVersion::V1, path)) => read_number(&path.join("cpuacct.usage")).ok(),
            Some((CgroupVersion::V2, path)) => {
                Some(stat_field(&path.join("cpu.stat"), "usage_usec")? * 1000)
            }
            None => None,
        }
    }

    /// Periods in which the quota has held the node up.
    #[must_use]
    pub fn throttled_periods(&self) -> Option<u64> {
        let (_, path) = self.cpu.as_ref()?;
        stat_field(&path.join("cpu.stat"), "nr_throttled")
    }

    /// The processes inside; `None` where no group holds them.
    #[must_use]
    pub fn processes(&self) -> Option<Vec<u32>> {
        let directory = self.directories().into_iter().next()?;
        Some(processes_in(&directory))
    }
}

fn read(path: &Path) -> Result<String, CgroupError> {
    fs::read_to_string(path).map_err(failed("read", path))
}

fn read_number(path: &Path) -> Result<u64, CgroupError> {
    let text = read(path)?;
    text.trim()
        .parse()
        .map_err(|error| failed("understand", path)(io::Error::other(error)))
}

fn write(path: &Path, text: &str) -> Result<(), CgroupError> {
    fs::write(path, text).map_err(failed("write", path))
}

fn stat_field(path: &Path, field: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == field).then(|| value.trim().parse().ok()).flatten()
    })
}

fn processes_in(directory: &Path) -> Vec<u32> {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    // A process that our process-id namespace does not know is shown as 0.
    text.lines()
        .filter_map(|line| line.parse().ok())
        .filter(|pid| *pid != 0)
        .collect()
}

/// One attempt to kill everything in a group and remove it. `Ok(false)` when it has to be tried
/// again, because processes are still ending.
///
/// # Errors
/// Not allowed.
pub fn kill_and_remove(path: &Path) -> io::Result<bool> {
    let listing = match fs::read_dir(path) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    let kill = path.join("cgroup.kill");
    if !kill.exists() || fs::write(&kill, "1").is_err() {
        for pid in processes_in(path) {
            if let Ok(process) = ProcessIdentity::of(pid) {
                process.signal(Signal::SIGKILL)?;
            }
        }
    }
    let mut children_gone = true;
    for entry in listing {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            children_gone &= kill_and_remove(&entry.path())?;
        }
    }
    match fs::remove_dir(path) {
        Ok(()) => Ok(children_gone),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(false),
        Err(error) => Err(error),
    }
}

/// `0-2,5` and such, as the kernel writes it.
#[must_use]
pub fn parse_cpu_list(text: &str) -> Vec<u32> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) {
            // No machine has more; a damaged range must not fill the memory.
            cpus.extend(first..=last.min(first.saturating_add(8192)));
        }
    }
    cpus
}

/// The same list, every CPU by itself.
#[must_use]
pub fn format_cpu_list(cpus: &[u32]) -> String {
    let cpus: Vec<String> = cpus.iter().map(u32::to_string).collect();
    cpus.join(",")
}

#[cfg(test)]
mod tests;
