//! Which CPUs serve interrupts (`Documentation/core-api/irq/irq-affinity.rst` of the kernel), and
//! moving them away from those of the nodes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use hexloop_proto::AskedAndGot;
use hexloop_topologies::plan::MachinePlan;

use super::{IsolationError, Settling, first_line, online_cpus, ranges};
use crate::cgroup::parse_cpu_list;
use crate::change::{ChangeError, Changes};
use crate::undo::Setting;

/// Interrupts that are named one by one in the record.
const MOST_NAMED: usize = 16;

/// One interrupt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interrupt {
    /// Its number.
    pub(crate) number: u32,
    /// Who handles it; empty when nobody does.
    pub(crate) name: String,
    /// The CPUs that may serve it.
    pub(crate) cpus: Vec<u32>,
    /// Those that really do, where the kernel tells.
    pub(crate) effective: Option<Vec<u32>>,
}

impl Interrupt {
    fn serves(&self, cpus: &BTreeSet<u32>) -> bool {
        let serving = self.effective.as_ref().unwrap_or(&self.cpus);
        serving.iter().any(|cpu| cpus.contains(cpu))
    }

    fn may_serve(&self, cpus: &BTreeSet<u32>) -> bool {
        self.cpus.iter().any(|cpu| cpus.contains(cpu))
    }
}

/// All interrupts with a handler, by number.
pub(crate) fn list(root: &Path) -> Vec<Interrupt> {
    let Ok(entries) = fs::read_dir(root.join("proc/irq")) else {
        return Vec::new();
    };
    let mut found: Vec<Interrupt> = entries
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            let directory = entry.path();
            let list = |name: &str| Some(parse_cpu_list(&first_line(&directory.join(name))?));
            Some(Interrupt {
                number,
                name: handler(&directory),
                cpus: list("smp_affinity_list")?,
                effective: list("effective_affinity_list").filter(|cpus| !cpus.is_empty()),
            })
        })
        .collect();
    found.sort_by_key(|interrupt| interrupt.number);
    found
}

/// Handlers are directories beside the files.
fn handler(directory: &Path) -> String {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names.join(", ")
}

/// The CPUs that new interrupts get, from the mask of words of 32 bits in hexadecimal.
pub(crate) fn default_cpus(root: &Path) -> Option<Vec<u32>> {
    let mask = first_line(&root.join("proc/irq/default_smp_affinity"))?;
    let mut cpus = Vec::new();
    for (word, text) in (0_u32..).zip(mask.rsplit(',')) {
        let bits = u32::from_str_radix(text.trim(), 16).ok()?;
        cpus.extend(
            (0..32)
                .filter(|bit| bits & (1 << bit) != 0)
                .map(|bit| 32 * word + bit),
        );
    }
    Some(cpus)
}

fn counted(interrupts: &[Interrupt], cpus: &BTreeSet<u32>) -> String {
    let may = interrupts.iter().filter(|one| one.may_serve(cpus)).count();
    let serve = interrupts.iter().filter(|one| one.serves(cpus)).count();
    format!(
        "{may} of {} may be served there, {serve} are",
        interrupts.len()
    )
}

pub(super) fn settle(
    settling: &Settling<'_>,
    plan: &MachinePlan,
    cpus: &BTreeSet<u32>,
    changes: &mut Changes<'_>,
    settings: &mut Vec<AskedAndGot>,
) -> Result<(), IsolationError> {
    let default = default_cpus(settling.root);
    settings.push(AskedAndGot {
        what: "CPUs of new interrupts".to_owned(),
        got: default.as_ref().map(ranges),
        note: default
            .is_none()
            .then(|| "this kernel does not tell".to_owned()),
        ..AskedAndGot::default()
    });
    let before = list(settling.root);
    let what = format!("interrupts on CPUs {}", ranges(cpus));
    if !plan.move_interrupts {
        settings.push(AskedAndGot {
            what,
            got: Some(counted(&before, cpus)),
            ..AskedAndGot::default()
        });
        return Ok(());
    }
    let others = others(settling, cpus)?;
    let mut fixed = Vec::new();
    for interrupt in before.iter().filter(|one| one.may_serve(cpus)) {
        let rest: Vec<u32> = interrupt
            .cpus
            .iter()
            .copied()
            .filter(|cpu| !cpus.contains(cpu))
            .collect();
        let target = if rest.is_empty() { &others } else { &rest };
        let setting = Setting::IrqAffinity {
            irq: interrupt.number,
        };
        match changes.set(settling.allowed, setting, &ranges(target)) {
            Ok(()) => {}
            // Managed and per-CPU interrupts cannot be moved: the kernel answers EIO or EPERM.
            Err(ChangeError::Kernel { source, .. }) => {
                let why = std::error::Error::source(&source)
                    .map_or_else(|| source.to_string(), ToString::to_string);
                fixed.push((interrupt, why));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let after = list(settling.root);
    settings.push(AskedAndGot {
        what,
        asked: Some(format!("none; CPUs {} serve them", ranges(&others))),
        before: Some(counted(&before, cpus)),
        got: Some(counted(&after, cpus)),
        note: (!fixed.is_empty()).then(|| format!("{} cannot be moved", fixed.len())),
        held: fixed
            .is_empty()
            .then(|| !after.iter().any(|one| one.may_serve(cpus))),
    });
    for (interrupt, why) in fixed.into_iter().take(MOST_NAMED) {
        settings.push(AskedAndGot {
            what: format!("interrupt {} ({})", interrupt.number, interrupt.name),
            asked: Some(format!("not on CPUs {}", ranges(cpus))),
            before: Some(ranges(&interrupt.cpus)),
            got: Some(ranges(&interrupt.cpus)),
            note: Some(format!("it cannot be moved: {why}")),
            held: None,
        });
    }
    Ok(())
}

/// The CPUs that are nobody's, for the interrupts.
fn others(settling: &Settling<'_>, cpus: &BTreeSet<u32>) -> Result<Vec<u32>, IsolationError> {
    let online = online_cpus(settling.root);
    let others: Vec<u32> = online
        .into_iter()
        .filter(|cpu| !cpus.contains(cpu))
        .collect();
    if others.is_empty() {
        return Err(IsolationError::Missing {
            what: "CPU left that could serve interrupts: the nodes take all of them".to_owned(),
            remedy: "give nodes fewer CPUs, or take `move_interrupts` out",
        });
    }
    Ok(others)
}
