//! What this machine can do, found by trying it in namespaces that are gone afterwards.

use std::fs;
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use nix::sys::statvfs::statvfs;
use serde::{Deserialize, Serialize};

use crate::cgroup::{Controller, Controllers, NodeCgroups};
use crate::namespace::NetworkNamespace;
use crate::node::with_causes;
use crate::privilege;
use crate::telemetry::energy::EnergyMeter;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It works.
    Works,
    /// It works in a lesser form.
    Limited,
    /// It does not work.
    Missing,
}

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was tried, such as `user namespaces`.
    pub name: String,
    /// How it came out.
    pub outcome: Outcome,
    /// What was seen.
    pub detail: String,
    /// What to do about it, if anything can be done.
    pub remedy: Option<String>,
}

impl Check {
    fn new(name: &str, outcome: Outcome, detail: impl Into<String>) -> Check {
        Check {
            name: name.to_owned(),
            outcome,
            detail: detail.into(),
            remedy: None,
        }
    }

    fn with_remedy(self, remedy: impl Into<String>) -> Check {
        Check {
            remedy: Some(remedy.into()),
            ..self
        }
    }
}

/// Space below which a run may fail: records, calibration and the model.
const WANTED_BYTES: u64 = 1 << 30;

/// Tries everything that a run on one machine needs. To be called before this process has any
/// thread: it may have to enter a user namespace, as an agent would.
#[must_use]
pub fn machine(state_directory: &Path) -> Vec<Check> {
    let mut checks = vec![state(state_directory), space(state_directory)];
    match privilege::acquire() {
        Ok(privilege) => {
            checks.push(Check::new("privilege", Outcome::Works, privilege.name()));
            checks.push(network_namespace());
            checks.push(process_namespace());
            checks.push(packet_socket());
            checks.push(realtime());
        }
        Err(error) => {
            let check = Check::new("privilege", Outcome::Missing, with_causes(&error));
            checks.push(check.with_remedy(privilege::remedy()));
        }
    }
    checks.push(cgroups());
    checks.push(energy());
    checks
}

fn network_namespace() -> Check {
    let name = "network namespaces";
    match NetworkNamespace::create() {
        Ok(_) => Check::new(name, Outcome::Works, "made one"),
        Err(error) => Check::new(name, Outcome::Missing, with_causes(&error))
            .with_remedy("run as root, or build a kernel with CONFIG_NET_NS"),
    }
}

fn process_namespace() -> Check {
    let name = "process-id namespaces";
    let tried = std::thread::scope(|scope| {
        let attempt = || unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS);
        scope
            .spawn(attempt)
            .join()
            .unwrap_or(Err(nix::Error::EINVAL))
    });
    match tried {
        Ok(()) => Check::new(name, Outcome::Works, "made one"),
        Err(error) => Check::new(name, Outcome::Missing, error.to_string())
            .with_remedy("run as root, or build a kernel with CONFIG_PID_NS"),
    }
}

fn packet_socket() -> Check {
    let name = "packet sockets";
    let open = || {
        socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            None::<SockProtocol>,
        )
    };
    let tried = NetworkNamespace::create().and_then(|namespace| namespace.run(open));
    match tried {
        Ok(Ok(_)) => Check::new(name, Outcome::Works, "opened one"),
        Ok(Err(error)) => Check::new(name, Outcome::Missing, error.to_string())
            .with_remedy("load or build in af_packet (CONFIG_PACKET)"),
        Err(error) => Check::new(name, Outcome::Missing, with_causes(&error)),
    }
}

fn realtime() -> Check {
    let name = "real-time scheduling";
    let attempt = || crate::sys::realtime::become_fifo(1);
    let tried = std::thread::scope(|scope| scope.spawn(attempt).join());
    match tried {
        Ok(Ok(())) => Check::new(name, Outcome::Works, "SCHED_FIFO"),
        Ok(Err(error)) => Check::new(name, Outcome::Limited, error.to_string())
            .with_remedy("run as root, or allow it with `ulimit -r 20`; the relay runs without"),
        Err(_) => Check::new(name, Outcome::Limited, "the attempt ended badly"),
    }
}

fn cgroups() -> Check {
    let name = "CPU control";
    let controllers = Controllers::detect();
    let Some(Controller { version, parent }) = &controllers.cpu else {
        return Check::new(
            name,
            Outcome::Limited,
            "no CPU controller that this user may use",
        )
        .with_remedy(
            "run as root for exact CPU quotas; without them nodes are stopped and continued",
        );
    };
    let group = format!("hx-probe-{}", std::process::id());
    let made = NodeCgroups::create(&controllers, &group, |_| {
        Ok::<_, crate::cgroup::CgroupError>(())
    });
    let removed = made.map(|groups| {
        groups
            .directories()
            .iter()
            .all(|path| crate::cgroup::kill_and_remove(path).unwrap_or(false))
    });
    match removed {
        Ok(true) => {
            let set = if controllers.cpuset.is_some() {
                "cpuset too"
            } else {
                "CPUs by affinity"
            };
            let place = parent.display();
            Check::new(
                name,
                Outcome::Works,
                format!("{} in {place}, {set}", version.name()),
            )
        }
        Ok(false) => Check::new(name, Outcome::Limited, "a group was made but not removed"),
        Err(error) => Check::new(name, Outcome::Limited, with_causes(&error)),
    }
}

fn energy() -> Check {
    match EnergyMeter::new().describe() {
        Ok(source) => Check::new("energy", Outcome::Works, source),
        Err(why) => Check::new("energy", Outcome::Limited, why)
            .with_remedy("runs work without; the report says that energy was not measured"),
    }
}

fn state(directory: &Path) -> Check {
    let name = "state directory";
    let tried = fs::create_dir_all(directory).and_then(|()| {
        let file = directory.join(format!(".hx-probe-{}", std::process::id()));
        fs::write(&file, b"x").and_then(|()| fs::remove_file(&file))
    });
    match tried {
        Ok(()) => Check::new(name, Outcome::Works, directory.display().to_string()),
        Err(error) => {
            let detail = format!("{}: {error}", directory.display());
            Check::new(name, Outcome::Missing, detail).with_remedy("make it writable for this user")
        }
    }
}

fn space(directory: &Path) -> Check {
    let name = "disk space";
    match statvfs(directory) {
        Ok(space) => {
            let free = space
                .blocks_available()
                .saturating_mul(space.fragment_size());
            let detail = format!("{} MB free at {}", free / 1_000_000, directory.display());
            if free >= WANTED_BYTES {
                Check::new(name, Outcome::Works, detail)
            } else {
                Check::new(name, Outcome::Limited, detail).with_remedy("free 1 GB")
            }
        }
        Err(error) => Check::new(name, Outcome::Limited, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_that_cannot_be_written_is_missing_with_a_remedy() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(state(&root.path().join("new")).outcome, Outcome::Works);
        assert!(root.path().join("new").read_dir().unwrap().next().is_none());
        let file = root.path().join("file");
        fs::write(&file, "x").unwrap();
        let check = state(&file.join("below"));
        assert_eq!(check.outcome, Outcome::Missing);
        assert!(check.remedy.is_some());
    }

    #[test]
    fn what_is_limited_or_missing_says_so_in_words() {
        for check in [cgroups(), energy(), space(Path::new("/tmp"))] {
            assert!(!check.detail.is_empty(), "{check:?}");
        }
    }
}
