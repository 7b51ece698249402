//! Huge pages: reserved on request on the NUMA nodes of the nodes' CPUs; the mode of transparent ones
//! is read (`Documentation/admin-guide/mm/hugetlbpage.rst` and `transhuge.rst` of the kernel).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use hexloop_proto::AskedAndGot;
use hexloop_topologies::plan::{HugepagesPlan, MachinePlan};

use super::topology::{NumaNode, numa_nodes};
use super::{IsolationError, Settling, first_line};
use crate::change::{ChangeError, Changes};
use crate::undo::Setting;

/// The mode in force stands in brackets: `always [madvise] never`.
pub(crate) fn transparent(root: &Path) -> Option<String> {
    let modes = first_line(&root.join("sys/kernel/mm/transparent_hugepage/enabled"))?;
    let (_, rest) = modes.split_once('[')?;
    rest.split_once(']').map(|(mode, _)| mode.to_owned())
}

/// Sizes of pages that this machine has, in KiB.
pub(crate) fn sizes_kib(root: &Path) -> Vec<u32> {
    let entries = fs::read_dir(root.join("sys/kernel/mm/hugepages"));
    let mut sizes: Vec<u32> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let size = name.strip_prefix("hugepages-")?.strip_suffix("kB")?;
            size.parse().ok()
        })
        .collect();
    sizes.sort_unstable();
    sizes
}

/// Pages of a NUMA node, or of the machine, that nobody uses.
fn free_pages(root: &Path, node: Option<u32>, size_kib: u32) -> u64 {
    let pages = format!("hugepages-{size_kib}kB/free_hugepages");
    let path = match node {
        Some(node) => root.join(format!("sys/devices/system/node/node{node}/hugepages")),
        None => root.join("sys/kernel/mm/hugepages"),
    };
    let text = first_line(&path.join(pages));
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

pub(super) fn settle(
    settling: &Settling<'_>,
    plan: &MachinePlan,
    cpus: &BTreeSet<u32>,
    changes: &mut Changes<'_>,
    settings: &mut Vec<AskedAndGot>,
) -> Result<(), IsolationError> {
    let mode = transparent(settling.root);
    settings.push(AskedAndGot {
        what: "transparent huge pages".to_owned(),
        note: mode.is_none().then(|| "this kernel has none".to_owned()),
        got: mode,
        ..AskedAndGot::default()
    });
    let Some(asked) = &plan.hugepages else {
        return Ok(());
    };
    let sizes = sizes_kib(settling.root);
    if sizes.is_empty() {
        return Err(IsolationError::Missing {
            what: "huge pages".to_owned(),
            remedy: "take `hugepages` out, or use a kernel with CONFIG_HUGETLBFS",
        });
    }
    if !sizes.contains(&asked.size_kib) {
        let sizes: Vec<String> = sizes.iter().map(|size| format!("{size} KiB")).collect();
        return Err(IsolationError::NotOffered {
            what: "the size of a huge page".to_owned(),
            asked: format!("{} KiB", asked.size_kib),
            offered: sizes.join(", "),
        });
    }
    let near: Vec<NumaNode> = numa_nodes(settling.root)
        .into_iter()
        .filter(|node| node.cpus.iter().any(|cpu| cpus.contains(cpu)))
        .collect();
    let places: Vec<Option<u32>> = match near.len() {
        0 => vec![None],
        _ => near.iter().map(|node| Some(node.number)).collect(),
    };
    let pages = asked.bytes.div_ceil(u64::from(asked.size_kib) * 1024);
    let count = u64::try_from(places.len()).unwrap_or(1);
    for (index, place) in (0_u64..).zip(places) {
        // What does not divide evenly goes to the first ones.
        let wanted = pages / count + u64::from(index < pages % count);
        settings.push(reserve(settling, asked, (place, wanted), changes)?);
    }
    Ok(())
}

fn reserve(
    settling: &Settling<'_>,
    asked: &HugepagesPlan,
    (node, wanted): (Option<u32>, u64),
    changes: &mut Changes<'_>,
) -> Result<AskedAndGot, IsolationError> {
    let size_kib = asked.size_kib;
    let setting = Setting::Hugepages { node, size_kib };
    let number = || {
        let text = setting.read(settling.root).ok().flatten();
        text.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0)
    };
    let (free, all) = (free_pages(settling.root, node, size_kib), number());
    let short = wanted.saturating_sub(free);
    if short > 0 {
        let value = (all + short).to_string();
        if let Err(error) = changes.set(settling.allowed, setting.clone(), &value) {
            // The kernel has found room for some of them, which are given back with the rest.
            if matches!(error, ChangeError::Kernel { .. }) && number() < all + short {
                let got = number().saturating_sub(all) + free;
                return Err(IsolationError::FewPages {
                    asked: wanted,
                    got,
                    size_kib,
                });
            }
            return Err(error.into());
        }
    }
    let got = number();
    Ok(AskedAndGot {
        what: setting.to_string(),
        asked: Some(format!("{wanted} free")),
        before: Some(format!("{all}, {free} of them free")),
        got: Some(got.to_string()),
        note: None,
        held: Some(got >= all + short),
    })
}
