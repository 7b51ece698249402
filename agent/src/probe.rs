//! What this machine can do, found by trying it in namespaces that are gone afterwards.

mod engine;
mod external;
mod isolation;

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use serde::{Deserialize, Serialize};

use hexloop_telemetry::{MachineMeters, Places};
use hexloop_workloads::clock;

use crate::cgroup::{Controller, Controllers, NodeCgroups};
use crate::namespace::NetworkNamespace;
use crate::node::with_causes;
use crate::privilege::{self, Privilege};

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It works.
    Works,
    /// It works in a lesser form, or runs do without.
    Limited,
    /// It does not work, and runs need it.
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
    /// A check without a remedy.
    #[must_use]
    pub fn new(name: &str, outcome: Outcome, detail: impl Into<String>) -> Check {
        Check {
            name: name.to_owned(),
            outcome,
            detail: detail.into(),
            remedy: None,
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_remedy(self, remedy: impl Into<String>) -> Check {
        Check {
            remedy: Some(remedy.into()),
            ..self
        }
    }
}

/// Tries what an agent cannot do without. To be called before this process has any thread: it
/// may have to enter a user namespace, as the agent does.
#[must_use]
pub fn needed() -> Vec<Check> {
    match privilege::acquire() {
        Ok(privilege) => vec![
            Check::new("privilege", Outcome::Works, privilege.name()),
            network_namespace(),
            process_namespace(),
            packet_socket(),
        ],
        Err(error) => {
            let check = Check::new("privilege", Outcome::Missing, with_causes(&error));
            vec![check.with_remedy(error.remedy())]
        }
    }
}

/// Tries everything that a run makes use of: what is [`needed`], and what runs do without.
#[must_use]
pub fn machine() -> Vec<Check> {
    let mut checks = needed();
    checks.extend(stand_ins());
    checks.extend([realtime(), cgroups()]);
    // In a user namespace of its own a process is root to itself alone.
    let is_root = checks
        .iter()
        .any(|check| check.name == "privilege" && check.detail == Privilege::Root.name());
    checks.extend(isolation::checks(&Places::from_environment().root, is_root));
    checks.extend(energy());
    checks.extend(external::checks(is_root));
    checks.push(engine::check());
    checks
}

/// What stands in this machine's place: all that follows of sensors and settings is of that.
fn stand_ins() -> Option<Check> {
    let variables = [Places::ROOT_VARIABLE, Places::NVML_VARIABLE];
    let set = variables.iter().filter_map(|name| {
        let value = std::env::var_os(name)?;
        Some(format!("{name}={}", value.display()))
    });
    let set: Vec<String> = set.collect();
    let detail = format!(
        "{}: sensors, settings and GPUs are not this machine's",
        set.join(", ")
    );
    (!set.is_empty()).then(|| Check::new("stand-ins", Outcome::Limited, detail))
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
    let name = "process namespaces";
    let tried = std::thread::scope(|scope| {
        let attempt = || unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS);
        scope
            .spawn(attempt)
            .join()
            .unwrap_or(Err(nix::Error::EINVAL))
    });
    match tried {
        Ok(()) => Check::new(name, Outcome::Works, "made one, and one for mounts"),
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
    let name = "real-time threads";
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
    let name = "control groups";
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

/// Every source of energy and power: what it offers, or why it is not there.
fn energy() -> Vec<Check> {
    let mut meters = MachineMeters::find(&Places::from_environment());
    let mut checks: Vec<Check> = meters
        .findings()
        .iter()
        .map(|finding| match &finding.outcome {
            Ok(channels) => Check::new(finding.source, Outcome::Works, channels.join("; ")),
            Err(trouble) => Check::new(finding.source, Outcome::Limited, trouble.to_string()),
        })
        .collect();
    checks.push(match meters.why_nothing() {
        Some(_) => Check::new("energy", Outcome::Limited, "no source can be summed up")
            .with_remedy(
                "runs work without; the report says that energy was not measured. A wall meter can \
                 stand in: `--meter NAME=WHERE`, or [meters.NAME] of agent.toml",
            ),
        None => Check::new("energy", Outcome::Works, reading_cost(&mut meters)),
    });
    checks
}

/// Readings that the cost is measured over.
const COSTED_READS: u32 = 50;

/// What reading every channel once costs, by meter and in all, and what share of a CPU a hundred
/// readings a second take.
fn reading_cost(meters: &mut MachineMeters) -> String {
    let mut readings = Vec::new();
    let mut by_meter_ns = vec![0; meters.meters().len()];
    let began_ns = clock::now();
    let mut before_ns = began_ns;
    for _ in 0..COSTED_READS {
        meters.read_each(&mut readings, |place, is_before| {
            let now_ns = clock::now();
            if is_before {
                before_ns = now_ns;
            } else if let Some(sum_ns) = by_meter_ns.get_mut(place) {
                *sum_ns += now_ns.saturating_sub(before_ns);
            }
        });
    }
    let each_ns = clock::now().saturating_sub(began_ns) / u64::from(COSTED_READS);
    let failed = readings.iter().filter(|reading| reading.is_err()).count();
    let stub = if meters.has_stub() {
        "; STUB, not this machine"
    } else {
        ""
    };
    let parts = meters.meters().into_iter().zip(&by_meter_ns);
    let parts: Vec<String> = parts
        .map(|((name, _), sum_ns)| {
            let each_us = sum_ns / u64::from(COSTED_READS) / 1_000;
            format!("{name} {each_us} us")
        })
        .collect();
    let gpus = eight_gpus(meters, &by_meter_ns).unwrap_or_default();
    format!(
        "{} channels, {failed} of them without a value, {} us per reading of all ({}), {}.{} % of a CPU \
         at 100 Hz{gpus}{stub}",
        readings.len(),
        each_ns / 1_000,
        parts.join(", "),
        each_ns / 100_000,
        each_ns / 10_000 % 10,
    )
}

/// Looks at the slow things about GPUs that their cost is measured over.
const COSTED_LOOKS: u32 = 10;

/// What eight GPUs would cost, computed from those that are here: energy and power a hundred times a
/// second, clocks, temperature and processes five times.
fn eight_gpus(meters: &mut MachineMeters, by_meter_ns: &[u64]) -> Option<String> {
    let place = meters
        .meters()
        .iter()
        .position(|(name, _)| name == "NVML")?;
    let began_ns = clock::now();
    let mut gpus = 0;
    for _ in 0..COSTED_LOOKS {
        gpus = meters.gpu_states().len();
    }
    let look_ns = clock::now().saturating_sub(began_ns) / u64::from(COSTED_LOOKS);
    let reading_ns = by_meter_ns.get(place)? / u64::from(COSTED_READS);
    let gpus = u64::try_from(gpus).ok().filter(|gpus| *gpus > 0)?;
    let per_second_ns = (reading_ns * 100 + look_ns * 5) * 8 / gpus;
    Some(format!(
        "; clocks, temperature and processes {} us per look; eight such GPUs {}.{} % of a CPU with five \
         looks a second",
        look_ns / 1_000,
        per_second_ns / 10_000_000,
        per_second_ns / 1_000_000 % 10,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_limited_says_so_in_words() {
        for check in energy().into_iter().chain([cgroups(), realtime()]) {
            assert!(!check.detail.is_empty(), "{check:?}");
            assert_ne!(check.outcome, Outcome::Missing, "{check:?}");
        }
    }

    #[test]
    fn a_check_crosses_a_pipe_unchanged() {
        let check = Check::new("packet sockets", Outcome::Missing, "EPERM").with_remedy("sudo");
        let text = serde_json::to_string(&check).unwrap();
        assert!(text.contains(r#""outcome":"missing""#), "{text}");
        assert_eq!(serde_json::from_str::<Check>(&text).unwrap(), check);
    }
}
