//! How each relayed link is to work: as its experiment asks, else what suits what is done to its
//! packets.

use crate::experiment::Link;
use crate::plan::RelayModePlan;
use crate::problem::{Problem, quoted};
use crate::resolve::ResolvedExperiment;

/// The mode of a link. One that is asked for and cannot be is a problem.
pub(super) fn of_link(
    resolved: &ResolvedExperiment,
    link: &Link,
    problems: &mut Vec<Problem>,
) -> RelayModePlan {
    let acts = acts_on_packets(resolved, link);
    let (Some(asked), Some(why)) = (link.mode, acts) else {
        return match (link.mode, acts) {
            (Some(asked), _) => asked,
            (None, Some(_)) => RelayModePlan::Exact,
            (None, None) => RelayModePlan::LowLatency,
        };
    };
    if asked != RelayModePlan::Exact {
        let (mode, name) = (asked.name(), quoted(&link.name));
        let message = format!("link {name} cannot be relayed in mode `{mode}`: {why}");
        let help = "this mode passes packets on as they come: choose mode `exact` or `auto`";
        let path = ["links", &link.name, "mode"];
        let document = &resolved.experiment.document;
        problems.push(document.problem(&path, message, Some(help.to_owned())));
    }
    asked
}

/// What acts on the packets of a link one by one, in words; `None` if nothing does.
fn acts_on_packets(resolved: &ResolvedExperiment, link: &Link) -> Option<&'static str> {
    let experiment = &resolved.experiment;
    let trace = resolved.traces.get(&link.trace);
    let changed = experiment
        .events
        .iter()
        .any(|event| event.link == link.name);
    if link.cell.is_some() {
        Some("its cell decides about every packet")
    } else if trace.is_none_or(|resolved| !resolved.trace.is_transparent()) {
        Some("its trace limits, delays or harms packets")
    } else if changed {
        Some("an event changes it while it plays")
    } else if experiment.faults.is_any() {
        Some("a fault is injected")
    } else {
        None
    }
}
