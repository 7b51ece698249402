//! What could be set on this machine to keep others away from a run, what of it is allowed, and how to
//! allow the rest.

use std::collections::BTreeSet;
use std::path::Path;

use hexloop_proto::NoiseReport;

use super::{Check, Outcome};
use crate::cgroup::{CgroupVersion, Controllers};
use crate::configuration::Configuration;
use crate::isolation::{by_value, first_line, frequency, gpu, hugepages, interrupts, noise};
use crate::isolation::{online_cpus, ranges, topology};
use crate::node::{cpus_of, with_causes};
use crate::undo::Setting;

/// How long the doctor listens to the machine.
const LISTEN_NS: u64 = 500_000_000;

/// Why, and what to do, when nobody but root could set it.
const NEEDS_ROOT: &str = "run as root";

/// What is allowed here.
struct Allowance {
    is_root: bool,
    allowed: Configuration,
    trouble: Option<String>,
}

impl Allowance {
    fn find(is_root: bool) -> Allowance {
        let read = if is_root {
            Configuration::load().map_err(|error| with_causes(&error))
        } else {
            Ok(Configuration::nothing())
        };
        let (allowed, trouble) = match read {
            Ok(allowed) => (allowed, None),
            Err(trouble) => (Configuration::nothing(), Some(trouble)),
        };
        Allowance {
            is_root,
            allowed,
            trouble,
        }
    }

    /// A check of something that could be set, and is if settings of that class are allowed.
    fn check(&self, name: &str, class: &str, detail: &str) -> Check {
        if let Some(trouble) = &self.trouble {
            let detail = format!("{detail}; nothing may be set: {trouble}");
            return Check::new(name, Outcome::Limited, detail);
        }
        if !self.is_root {
            let detail = format!("{detail}; may not be set by this user");
            return Check::new(name, Outcome::Limited, detail).with_remedy(NEEDS_ROOT);
        }
        if self.allowed.host.settings.contains(class) {
            return Check::new(name, Outcome::Works, format!("{detail}; may be set"));
        }
        let path = self.allowed.path.display();
        let detail = format!("{detail}; could be set, and is not allowed");
        Check::new(name, Outcome::Limited, detail).with_remedy(format!(
            "who owns this machine adds \"{class}\" to `settings` in {path}"
        ))
    }
}

/// All of it, below a root.
pub(super) fn checks(root: &Path, is_root: bool) -> Vec<Check> {
    let allowance = Allowance::find(is_root);
    let online = online_cpus(root);
    let mut checks = vec![
        governor(root, &allowance, &online),
        boost(root, &allowance),
        movable_interrupts(root, &allowance, &online),
        huge_pages(root, &allowance),
        partition(&allowance),
        allowance.check(
            "real-time jobs",
            "realtime",
            "SCHED_FIFO, up to priority 19",
        ),
        numa(root),
        temperature(root),
    ];
    checks.extend(gpus(root, &allowance));
    checks.push(quiet(root));
    checks
}

fn nothing(name: &str, detail: &str) -> Check {
    Check::new(name, Outcome::Limited, detail)
}

fn governor(root: &Path, allowance: &Allowance, cpus: &[u32]) -> Check {
    let name = "governor";
    let read = |cpu: &u32| {
        let governor = Setting::Governor { cpu: *cpu }.read(root).ok()??;
        Some((*cpu, governor))
    };
    let now: std::collections::BTreeMap<u32, String> = cpus.iter().filter_map(read).collect();
    let Some(first) = now.keys().next() else {
        return nothing(
            name,
            "no cpufreq in this kernel, as in most virtual machines",
        );
    };
    let file = format!("sys/devices/system/cpu/cpu{first}/cpufreq/scaling_available_governors");
    let offered = first_line(&root.join(file)).unwrap_or_default();
    let detail = format!("{}, offered {offered}", by_value(&now));
    allowance.check(name, "governor", &detail)
}

fn boost(root: &Path, allowance: &Allowance) -> Check {
    let name = "boost";
    let Some((setting, on, _)) = frequency::boost_setting(root) else {
        return nothing(name, "no switch for it in this kernel");
    };
    let is_on = setting.read(root).ok().flatten().as_deref() == Some(on);
    allowance.check(name, "governor", if is_on { "on" } else { "off" })
}

fn movable_interrupts(root: &Path, allowance: &Allowance, online: &[u32]) -> Check {
    let name = "interrupts";
    let all = interrupts::list(root);
    if all.is_empty() {
        return nothing(name, "no /proc/irq");
    }
    let default = interrupts::default_cpus(root).unwrap_or_default();
    let detail = format!(
        "{} interrupts on CPUs {}, new ones on {}",
        all.len(),
        ranges(online),
        ranges(&default)
    );
    if online.len() < 2 {
        return nothing(name, &format!("{detail}; one CPU alone serves all"));
    }
    allowance.check(name, "irq", &detail)
}

fn huge_pages(root: &Path, allowance: &Allowance) -> Check {
    let name = "huge pages";
    let transparent = hugepages::transparent(root).unwrap_or_else(|| "none".to_owned());
    let sizes: Vec<String> = hugepages::sizes_kib(root)
        .iter()
        .map(|size| format!("{size} KiB"))
        .collect();
    if sizes.is_empty() {
        let detail = format!("none in this kernel; transparent ones: {transparent}");
        return nothing(name, &detail);
    }
    let detail = format!("{}; transparent ones: {transparent}", sizes.join(", "));
    allowance.check(name, "hugepages", &detail)
}

fn partition(allowance: &Allowance) -> Check {
    let name = "cpuset partition";
    match Controllers::detect().cpuset {
        Some(controller) if controller.version == CgroupVersion::V2 => {
            let detail = format!(
                "control groups version 2 in {}",
                controller.parent.display()
            );
            allowance.check(name, "partition", &detail)
        }
        Some(_) => nothing(
            name,
            "control groups version 1 know none; nodes get CPU sets without",
        ),
        None => nothing(
            name,
            "no cpuset controller; nodes get their CPUs by affinity",
        ),
    }
}

fn numa(root: &Path) -> Check {
    let nodes = topology::numa_nodes(root);
    let detail = match nodes.len() {
        0 => "this kernel tells of no node: all memory is the same".to_owned(),
        1 => "one node: all memory is the same".to_owned(),
        _ => {
            let words = nodes
                .iter()
                .map(|node| format!("node {}: CPUs {}", node.number, ranges(&node.cpus)));
            words.collect::<Vec<_>>().join("; ")
        }
    };
    Check::new("NUMA", Outcome::Works, detail)
}

fn temperature(root: &Path) -> Check {
    let name = "temperature";
    let zones = std::fs::read_dir(root.join("sys/class/thermal"));
    let count = zones
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join("temp").exists())
        .count();
    match count {
        0 => nothing(
            name,
            "no thermal zone: `machine.cool_to` can wait for GPUs alone",
        ),
        _ => Check::new(name, Outcome::Works, format!("{count} thermal zones")),
    }
}

fn gpus(root: &Path, allowance: &Allowance) -> Vec<Check> {
    let name = "GPU settings";
    let found = match gpu::list(root) {
        Ok(found) if !found.is_empty() => found,
        Ok(_) => return vec![nothing(name, "no GPU")],
        Err(why) => return vec![nothing(name, &why)],
    };
    let describe = |gpu: &gpu::Gpu| {
        let place = gpu
            .numa_node
            .map_or_else(String::new, |node| format!(", NUMA node {node}"));
        let limits = gpu.power_limits_mw.map_or_else(
            || "power limit unknown".to_owned(),
            |(least, most)| format!("power limit {} to {} W", least.div_ceil(1000), most / 1000),
        );
        let detail = format!(
            "{}: {} ({}){place}, {limits}",
            gpu.number, gpu.uuid, gpu.name
        );
        allowance.check(name, "nvml", &detail)
    };
    found.iter().map(describe).collect()
}

fn quiet(root: &Path) -> Check {
    let name = "noise";
    let cpus: BTreeSet<u32> = cpus_of(std::process::id())
        .unwrap_or_default()
        .into_iter()
        .collect();
    let report = noise::listen(root, &cpus, LISTEN_NS);
    let detail = in_words(&report);
    match noise::complaint(&report) {
        None => Check::new(name, Outcome::Works, detail),
        Some(complaint) => Check::new(name, Outcome::Limited, format!("{detail}: {complaint}"))
            .with_remedy("end what else runs here; runs say what they found"),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "parts per million and microseconds"
)]
fn in_words(noise: &NoiseReport) -> String {
    let percent = |ppm: Option<u64>| match ppm {
        Some(ppm) => format!("{:.1} %", ppm as f64 / 10_000.0),
        None => "unknown".to_owned(),
    };
    let late = match noise.timer_lateness.p99_ns {
        Some(ns) => format!("{:.0} us", ns as f64 / 1e3),
        None => "unknown".to_owned(),
    };
    format!(
        "steal {}, CPUs busy {}, timers late by {late} (p99)",
        percent(noise.steal_ppm),
        percent(noise.busy_ppm)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolation::tests::machine;

    fn allowing(classes: &[&str]) -> Allowance {
        let mut allowed = Configuration::nothing();
        allowed.host.settings = classes.iter().map(|class| (*class).to_owned()).collect();
        Allowance {
            is_root: true,
            allowed,
            trouble: None,
        }
    }

    #[test]
    fn what_could_be_set_is_told_apart_from_what_may_be() {
        let root = machine();
        let check = governor(root.path(), &allowing(&[]), &[0, 1, 2, 3]);
        assert_eq!(check.outcome, Outcome::Limited);
        assert!(
            check
                .detail
                .contains("powersave, offered performance powersave")
        );
        let remedy = check.remedy.unwrap();
        assert!(
            remedy.contains("adds \"governor\" to `settings`"),
            "{remedy}"
        );
        let check = governor(root.path(), &allowing(&["governor"]), &[0, 1, 2, 3]);
        assert_eq!((check.outcome, check.remedy), (Outcome::Works, None));
        let check = movable_interrupts(root.path(), &allowing(&["irq"]), &[0, 1, 2, 3]);
        assert_eq!(
            check.detail,
            "3 interrupts on CPUs 0-3, new ones on 0-3; may be set"
        );
    }

    #[test]
    fn every_check_of_an_empty_machine_says_why_there_is_nothing() {
        let root = tempfile::tempdir().unwrap();
        for check in checks(root.path(), false) {
            assert!(!check.detail.is_empty(), "{check:?}");
            assert_ne!(check.outcome, Outcome::Missing, "{check:?}");
        }
    }
}
