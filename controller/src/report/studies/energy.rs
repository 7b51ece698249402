//! What arms of a study used: columns that several tables have, and what is known of nodes alone.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use crate::format::significant;
use crate::report::html::{Table, escape};
use crate::summary::{Quantity, StudyEnergy, StudySummary};

/// Heads of [`columns`].
pub(super) const HEAD: [&str; 3] = ["J/request", "Above idle, J/request", "J/token"];

/// An energy, where it is known.
pub(super) fn joules(energy: &Quantity) -> String {
    let known = energy.value.map(significant);
    known.unwrap_or_else(|| "Unavailable".to_owned())
}

/// What an arm used, in the order of [`HEAD`].
pub(super) const fn all(energy: &StudyEnergy) -> [&Quantity; 3] {
    [
        &energy.j_per_request,
        &energy.above_idle_j_per_request,
        &energy.j_per_token,
    ]
}

/// The same as text.
pub(super) fn columns(energy: &StudyEnergy) -> [String; 3] {
    all(energy).map(joules)
}

/// What those columns are.
pub(super) const ABOUT: &str = " J is the gross energy of the machine, which all its nodes share, while requests were \
                                under way; above idle, less its power without jobs.";

/// What those columns are, and each reason why there are none, as sentences.
pub(super) fn about<'a>(energies: impl Iterator<Item = &'a StudyEnergy>) -> String {
    ABOUT.to_owned() + &reasons(energies.flat_map(all))
}

/// Why there are energies that are not known, as sentences.
pub(super) fn reasons<'a>(energies: impl Iterator<Item = &'a Quantity>) -> String {
    let reasons: BTreeSet<&str> = energies
        .filter_map(|energy| energy.reason.as_deref())
        .collect();
    let sentences = reasons
        .into_iter()
        .map(|reason| format!(" Unavailable: {}.", escape(reason)));
    sentences.collect()
}

/// An arm at a setting of the links.
fn at(arm: &str, round_trip_ms: f64, rate_mbps: f64) -> String {
    let [round_trip, rate] = [round_trip_ms, rate_mbps].map(significant);
    format!("{arm}, {round_trip} ms, {rate} Mbit/s")
}

/// Every arm of a study wherever it was tried, in words that are no markup, with what it used.
fn arms(study: &StudySummary) -> Vec<(String, &StudyEnergy)> {
    let mut arms: Vec<(String, &StudyEnergy)> = study
        .cells
        .iter()
        .map(|cell| {
            let name = at(&cell.arm, cell.round_trip_ms, cell.rate_mbps);
            (name, &cell.energy)
        })
        .collect();
    let traced = study.traced.iter().flat_map(|traced| &traced.arms);
    arms.extend(traced.map(|arm| (format!("{}, on the traces", arm.arm), &arm.energy)));
    let waves = study.adapters.iter().flat_map(|tasks| &tasks.waves);
    arms.extend(waves.map(|wave| {
        let name = at(&wave.arm, wave.round_trip_ms, wave.rate_mbps);
        (name, &wave.energy)
    }));
    let loads = study.shared.iter().flat_map(|shared| &shared.loads);
    arms.extend(loads.map(|load| {
        let (users, percent) = (load.users, load.offered_percent);
        let name = format!("{}, {users} users, {percent} %", load.arm);
        (name, &load.energy)
    }));
    arms
}

/// What every arm used wherever it was tried, where no other table has that.
pub(super) fn machine(page: &mut String, study: &StudySummary) -> fmt::Result {
    let mut table = Table::new(&["Energy of the machine"], 1);
    for name in HEAD {
        table.named_column(name);
    }
    let cells = study.cells.iter();
    for cell in cells.clone() {
        let mut row = vec![escape(&at(&cell.arm, cell.round_trip_ms, cell.rate_mbps))];
        row.extend(columns(&cell.energy));
        table.row(row);
    }
    table.write(page)?;
    let about = about(cells.map(|cell| &cell.energy));
    writeln!(page, "<p class=\"small\">{}</p>", about.trim_start())
}

/// What is known of each node alone, and why the rest is not.
pub(super) fn nodes(page: &mut String, study: &StudySummary) -> fmt::Result {
    let head = ["Energy of a node alone", "Node", "J/request", "J/token"];
    let mut table = Table::new(&head, 2);
    let (mut is_known, mut why) = (false, BTreeSet::new());
    for (name, energy) in arms(study) {
        for node in &energy.node_energy {
            let both = [&node.j_per_request, &node.j_per_token];
            let told = both
                .into_iter()
                .find_map(|energy| energy.source.as_deref().or(energy.reason.as_deref()));
            why.extend(told.map(|told| (node.node.as_str(), told)));
            if both.iter().all(|energy| energy.value.is_none()) {
                continue;
            }
            is_known = true;
            let [request, token] = both.map(joules);
            table.row(vec![escape(&name), escape(&node.node), request, token]);
        }
    }
    if is_known {
        table.write(page)?;
    }
    if why.is_empty() {
        return Ok(());
    }
    let why: Vec<String> = why
        .into_iter()
        .map(|(node, told)| format!("{}: {}", escape(node), escape(told)))
        .collect();
    writeln!(
        page,
        "<p class=\"small\">Energy of each node alone: {}.</p>",
        why.join("; ")
    )
}
