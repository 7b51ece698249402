//! Links, and what they are set to beside their trace.

use std::collections::BTreeMap;

use hexloop_traces::{LinkSettings, QueueDiscipline, Service};

use super::{cells, kernel, undeclared};
use crate::check::Reporter;
use crate::experiment::{Cell, Link, Node, TraceSource};
use crate::plan::{DatapathChoice, RelayModePlan};
use crate::problem::{listed, quoted};
use crate::section::Section;

/// Most links of one experiment: what one machine can hold in namespaces.
const MOST_LINKS: usize = 4000;

/// A slot of the service `opportunities` unless one is given: mahimahi's.
const USUAL_SLOT_NS: u64 = 1_000_000;

/// Reads the links.
pub(super) fn read(
    reporter: &mut Reporter<'_>,
    file: &Section<'_>,
    (nodes, cells): (&[Node], &[Cell]),
    traces: &BTreeMap<String, TraceSource>,
) -> Vec<Link> {
    let sections = file.array("links");
    if sections.is_empty() && file.written("links").is_some() {
        reporter.report(file.place("links"), "there is no link".to_owned(), None);
    }
    if sections.len() > MOST_LINKS {
        let message = format!("there are {} links; at most {MOST_LINKS}", sections.len());
        reporter.report(file.place("links"), message, None);
    }
    let mut links = Vec::new();
    for section in sections {
        let ends = section.list("between");
        for (end, origin) in &ends {
            if !nodes.iter().any(|node| node.name == *end) {
                let known = nodes.iter().map(|node| node.name.as_str());
                undeclared(reporter, ("node", end), origin, known);
            }
        }
        match ends.as_slice() {
            [(first, _), (second, origin)] if first == second => {
                let message = format!("the link joins {} to itself", quoted(first));
                let help = "a link joins two different nodes".to_owned();
                reporter.report(origin, message, Some(help));
            }
            [_, _, (_, origin), ..] => {
                let message = format!("a link has two ends, not {}", ends.len());
                let help = "declare one link for each pair of nodes".to_owned();
                reporter.report(origin, message, Some(help));
            }
            _ => {}
        }
        let trace = section.text("trace");
        if let (Some(written), false) = (section.written("trace"), traces.contains_key(&trace)) {
            let known = file.map("traces").into_iter().map(|(name, _)| name);
            let known: Vec<&str> = known.collect();
            undeclared(
                reporter,
                ("trace", &trace),
                &written.origin,
                known.iter().copied(),
            );
        }
        let mut ends = ends.into_iter().map(|(end, _)| end.to_owned());
        let datapath = match section.text("datapath").as_str() {
            "relay" => DatapathChoice::Relay,
            "tc" => DatapathChoice::Tc,
            "edt" => DatapathChoice::Edt,
            _ => DatapathChoice::Auto,
        };
        let settings = settings(reporter, &section);
        kernel::check(reporter, &section, datapath, &settings);
        links.push(Link {
            name: section.text("name"),
            between: [
                ends.next().unwrap_or_default(),
                ends.next().unwrap_or_default(),
            ],
            trace,
            datapath,
            mode: mode(reporter, &section),
            cell: cells::seat(reporter, &section, cells),
            mtu: section.integer_u32("mtu"),
            calibrate: section.boolean("calibrate"),
            settings,
        });
    }
    links
}

/// The mode that a link asks for; one that its own keys rule out is reported.
fn mode(reporter: &mut Reporter<'_>, section: &Section<'_>) -> Option<RelayModePlan> {
    let mode = match section.text("mode").as_str() {
        "low-latency" => RelayModePlan::LowLatency,
        "exact" => RelayModePlan::Exact,
        "bulk" => RelayModePlan::Bulk,
        _ => return None,
    };
    let datapath = section.text("datapath");
    if datapath == "tc" || datapath == "edt" {
        let message = format!("`mode` means nothing for datapath `{datapath}`");
        let help = "it is the relay's: take it out, or choose datapath `relay` or `auto`";
        reporter.report(section.place("mode"), message, Some(help.to_owned()));
    } else if mode != RelayModePlan::Exact && section.written("cell").is_some() {
        let message = format!(
            "a link of a cell cannot be relayed in mode `{}`",
            mode.name()
        );
        let help = "a cell decides about every packet: choose mode `exact` or `auto`";
        reporter.report(section.place("mode"), message, Some(help.to_owned()));
    }
    Some(mode)
}

fn settings(reporter: &mut Reporter<'_>, section: &Section<'_>) -> LinkSettings {
    let name = section.text("discipline");
    let discipline = discipline(reporter, section, &name);
    let ecn = section.boolean("ecn");
    if ecn {
        only_with(reporter, section, "ecn", &name, &["codel", "pie"]);
    }
    let service = match (section.text("service").as_str(), section.written("slot")) {
        ("opportunities", slot) => Service::Opportunities {
            slot_ns: slot.map_or(USUAL_SLOT_NS, |_| section.time_ns("slot")),
        },
        (_, Some(slot)) => {
            let message = "`slot` means nothing for service `fluid`".to_owned();
            let help = "only service `opportunities` serves in slots".to_owned();
            reporter.report(&slot.origin, message, Some(help));
            Service::Fluid
        }
        (_, None) => Service::Fluid,
    };
    LinkSettings {
        queue: section.queue_limit("queue"),
        discipline,
        ecn,
        service,
        reorder: section.boolean("reorder"),
    }
}

/// The discipline of that name with its parameters; those of another one are reported.
pub(super) fn discipline(
    reporter: &mut Reporter<'_>,
    section: &Section<'_>,
    name: &str,
) -> QueueDiscipline {
    let parameters: [(&str, &[&str]); 3] = [
        ("queue_target", &["codel", "pie"]),
        ("codel_interval", &["codel"]),
        ("pie_update", &["pie"]),
    ];
    for (key, of) in parameters {
        only_with(reporter, section, key, name, of);
    }
    let mut discipline = match name {
        "codel" => QueueDiscipline::CODEL,
        "pie" => QueueDiscipline::PIE,
        "drop-head" => QueueDiscipline::DropHead,
        _ => QueueDiscipline::DropTail,
    };
    let set = |place: &mut u64, key: &str| {
        if section.sound(key).is_some() {
            *place = section.time_ns(key);
        }
    };
    match &mut discipline {
        QueueDiscipline::Codel {
            target_ns,
            interval_ns,
        } => {
            set(target_ns, "queue_target");
            set(interval_ns, "codel_interval");
        }
        QueueDiscipline::Pie {
            target_ns,
            update_ns,
        } => {
            set(target_ns, "queue_target");
            set(update_ns, "pie_update");
        }
        QueueDiscipline::DropTail | QueueDiscipline::DropHead => {}
    }
    discipline
}

/// Reports a key that was written though the discipline has no use for it.
pub(super) fn only_with(
    reporter: &mut Reporter<'_>,
    section: &Section<'_>,
    key: &str,
    discipline: &str,
    of: &[&str],
) {
    // A discipline that does not exist was reported, and says nothing about the rest.
    let known = section.written("discipline").is_none() || section.sound("discipline").is_some();
    if let Some(written) = section.written(key)
        && known
        && !of.contains(&discipline)
    {
        let message = format!("`{key}` means nothing for discipline `{discipline}`");
        let help = format!("it goes with discipline {}", listed(of.iter().copied()));
        reporter.report(&written.origin, message, Some(help));
    }
}
