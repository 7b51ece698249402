//! Cells, and the links that share them.

use std::collections::BTreeMap;

use hexloop_traces::{CellPolicy, CellSettings};

use super::undeclared;
use crate::check::Reporter;
use crate::experiment::{Cell, CellSeat, TraceSource};
use crate::problem::quoted;
use crate::section::Section;

/// Reads the cells.
pub(super) fn read(
    reporter: &mut Reporter<'_>,
    file: &Section<'_>,
    traces: &BTreeMap<String, TraceSource>,
) -> Vec<Cell> {
    let mut cells = Vec::new();
    for section in file.array("cells") {
        let name = section.text("name");
        let trace = section.optional_text("trace");
        if let (Some(written), Some(trace)) = (section.sound("trace"), &trace)
            && !traces.contains_key(trace)
        {
            let known = file.map("traces").into_iter().map(|(name, _)| name);
            let known: Vec<&str> = known.collect();
            let known = known.iter().copied();
            undeclared(reporter, ("trace", trace), &written.origin, known);
        }
        let links = file.array("links").into_iter();
        let used = links
            .filter_map(|link| link.optional_text("cell"))
            .any(|cell| cell == name);
        if !used && section.sound("name").is_some() {
            let message = format!("no link is in cell {}", quoted(&name));
            let help = format!("write `cell = \"{name}\"` in the links that share it");
            reporter.report(section.place("name"), message, Some(help));
        }
        cells.push(Cell {
            settings: settings(reporter, &section),
            name,
            trace,
        });
    }
    cells
}

fn settings(reporter: &mut Reporter<'_>, section: &Section<'_>) -> CellSettings {
    let policy = section.text("policy");
    // A policy that does not exist was reported, and says nothing about the rest.
    let known = section.written("policy").is_none() || section.sound("policy").is_some();
    if let Some(averaging) = section.written("averaging")
        && known
        && policy != "proportional-fair"
    {
        let message = format!("`averaging` means nothing for policy `{policy}`");
        let help = "only policy `proportional-fair` looks at what links got".to_owned();
        reporter.report(&averaging.origin, message, Some(help));
    }
    let policy = match policy.as_str() {
        "round-robin" => CellPolicy::RoundRobin,
        "fixed-share" => CellPolicy::FixedShare,
        _ => match section.optional_time_ns("averaging") {
            Some(averaging_ns) => CellPolicy::ProportionalFair { averaging_ns },
            None => CellPolicy::PROPORTIONAL_FAIR,
        },
    };
    CellSettings {
        policy,
        slot_ns: section.time_ns("slot"),
    }
}

/// The place of a link in its cell, if it has one.
pub(super) fn seat(
    reporter: &mut Reporter<'_>,
    link: &Section<'_>,
    cells: &[Cell],
) -> Option<CellSeat> {
    let Some(written) = link.written("cell") else {
        if let Some(weight) = link.written("weight") {
            let message = "`weight` without `cell` means nothing".to_owned();
            let help = "name the cell that the link shares, or take `weight` out".to_owned();
            reporter.report(&weight.origin, message, Some(help));
        }
        return None;
    };
    let name = link.optional_text("cell")?;
    let Some(cell) = cells.iter().find(|cell| cell.name == name) else {
        let known = cells.iter().map(|cell| cell.name.as_str());
        undeclared(reporter, ("cell", &name), &written.origin, known);
        return None;
    };
    if let Some(weight) = link.written("weight")
        && cell.settings.policy != CellPolicy::FixedShare
    {
        let (cell, policy) = (quoted(&name), cell.settings.policy.name());
        let message = format!("`weight` means nothing in cell {cell}, whose policy is `{policy}`");
        let help = "only policy `fixed-share` divides by weight: take `weight` out, or give the \
                    cell that policy"
            .to_owned();
        reporter.report(&weight.origin, message, Some(help));
    }
    let datapath = link.text("datapath");
    if datapath == "tc" || datapath == "edt" {
        let message = format!("datapath `{datapath}` cannot share a cell");
        let help = "the kernel shapes each link by itself; links of a cell need `relay` or `auto`";
        reporter.report(link.place("datapath"), message, Some(help.to_owned()));
    }
    if link.text("service") == "opportunities" {
        let message = "a link of a cell is served in the slots of the cell".to_owned();
        let help = "take `service` out; `slot` of the cell is what counts".to_owned();
        reporter.report(link.place("service"), message, Some(help));
    }
    let weight = link
        .written("weight")
        .map_or(1, |_| link.integer_u32("weight"));
    Some(CellSeat { cell: name, weight })
}
