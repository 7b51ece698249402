//! What decides how fast CPUs run: governor, energy preference, boost. Read always, set on request.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hexloop_proto::AskedAndGot;
use hexloop_topologies::plan::MachinePlan;

use super::{IsolationError, Settling, by_value, first_line, ranges};
use crate::change::Changes;
use crate::undo::Setting;

/// Why a machine has none of it.
const NO_CPUFREQ: &str = "no cpufreq in this kernel for these CPUs, as in most virtual machines";

const REMEDY: &str = "it has no frequency that could be set, as most virtual machines: take the \
                      key out of [machine]";

/// A setting that every CPU has for itself.
struct Kind {
    name: &'static str,
    /// The file beside it that lists what it can be.
    offers: &'static str,
    setting: fn(u32) -> Setting,
}

pub(super) fn settle(
    settling: &Settling<'_>,
    plan: &MachinePlan,
    cpus: &BTreeSet<u32>,
    changes: &mut Changes<'_>,
    settings: &mut Vec<AskedAndGot>,
) -> Result<(), IsolationError> {
    let kinds = [
        Kind {
            name: "governor",
            offers: "scaling_available_governors",
            setting: |cpu| Setting::Governor { cpu },
        },
        Kind {
            name: "energy preference",
            offers: "energy_performance_available_preferences",
            setting: |cpu| Setting::EnergyPreference { cpu },
        },
    ];
    let wishes = [plan.governor.as_ref(), plan.energy_preference.as_ref()];
    for (kind, asked) in kinds.into_iter().zip(wishes) {
        let Kind {
            name,
            offers,
            setting,
        } = kind;
        let what = format!("{name} of CPUs {}", ranges(cpus));
        let before = values(settling.root, cpus, setting);
        if let Some(asked) = asked {
            for cpu in cpus {
                check_offered(settling.root, (*cpu, name), offers, asked)?;
                changes.set(settling.allowed, setting(*cpu), asked)?;
            }
        }
        settings.push(report(settling.root, cpus, setting, what, asked, &before));
    }
    boost(settling, plan, changes, settings)
}

fn values(root: &Path, cpus: &BTreeSet<u32>, setting: fn(u32) -> Setting) -> BTreeMap<u32, String> {
    let read = |cpu: &u32| Some((*cpu, setting(*cpu).read(root).ok()??));
    cpus.iter().filter_map(read).collect()
}

fn report(
    root: &Path,
    cpus: &BTreeSet<u32>,
    setting: fn(u32) -> Setting,
    what: String,
    asked: Option<&String>,
    before: &BTreeMap<u32, String>,
) -> AskedAndGot {
    let got = values(root, cpus, setting);
    let words = |values: &BTreeMap<u32, String>| (!values.is_empty()).then(|| by_value(values));
    AskedAndGot {
        what,
        asked: asked.cloned(),
        before: words(before),
        got: words(&got),
        note: got.is_empty().then(|| NO_CPUFREQ.to_owned()),
        held: asked.map(|asked| !got.is_empty() && got.values().all(|value| value == asked)),
    }
}

fn check_offered(
    root: &Path,
    (cpu, name): (u32, &str),
    offers: &str,
    asked: &str,
) -> Result<(), IsolationError> {
    let directory = root.join(format!("sys/devices/system/cpu/cpu{cpu}/cpufreq"));
    let offered = first_line(&directory.join(offers)).ok_or_else(|| IsolationError::Missing {
        what: format!("{name} on CPU {cpu}"),
        remedy: REMEDY,
    })?;
    if offered.split_ascii_whitespace().any(|word| word == asked) {
        return Ok(());
    }
    Err(IsolationError::NotOffered {
        what: format!("the {name} of CPU {cpu}"),
        asked: asked.to_owned(),
        offered,
    })
}

/// The file that says whether CPUs may be boosted, and what it holds when they may.
pub(crate) fn boost_setting(root: &Path) -> Option<(Setting, &'static str, &'static str)> {
    [(Setting::Boost, "1", "0"), (Setting::NoTurbo, "0", "1")]
        .into_iter()
        .find(|(setting, ..)| setting.read(root).is_ok())
}

fn boost(
    settling: &Settling<'_>,
    plan: &MachinePlan,
    changes: &mut Changes<'_>,
    settings: &mut Vec<AskedAndGot>,
) -> Result<(), IsolationError> {
    let word = |on: bool| if on { "on" } else { "off" }.to_owned();
    let what = "boost above the nominal frequency".to_owned();
    let Some((setting, on, off)) = boost_setting(settling.root) else {
        if plan.boost.is_some() {
            let remedy = REMEDY;
            return Err(IsolationError::Missing { what, remedy });
        }
        settings.push(AskedAndGot {
            what,
            note: Some("no switch for it in this kernel".to_owned()),
            ..AskedAndGot::default()
        });
        return Ok(());
    };
    let read = || {
        let text = setting.read(settling.root).ok().flatten()?;
        Some(text == on)
    };
    let before = read();
    if let Some(asked) = plan.boost {
        changes.set(
            settling.allowed,
            setting.clone(),
            if asked { on } else { off },
        )?;
    }
    let got = read();
    settings.push(AskedAndGot {
        what,
        asked: plan.boost.map(word),
        before: before.map(word),
        got: got.map(word),
        note: None,
        held: plan.boost.map(|asked| got == Some(asked)),
    });
    Ok(())
}
