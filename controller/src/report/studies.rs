//! Studies: what layers cost, where the best cut flips, and every arm at every setting.

mod adapters;
mod energy;
mod first_token;
mod kpi;
mod kv;
mod leak;
mod multimodal;
mod own;
mod placement;
mod retrieval;
mod shared;
mod speculation;
mod tensor_parallel;
mod traced;

use std::fmt::{self, Write};

use super::Data;
use super::html::{Table, escape};
use crate::format::{grouped, significant};
use crate::summary::StudySummary;

pub(super) fn section(page: &mut String, data: &Data<'_>) -> fmt::Result {
    for study in &data.summary.studies {
        writeln!(page, "<h2>Study {}</h2>", escape(&study.study))?;
        if study.shared.is_some() {
            shared::section(page, study)?;
            energy::nodes(page, study)?;
            continue;
        }
        writeln!(
            page,
            "<p>{} trials over {}{}. Medians throughout; the expectations below judge them.</p>",
            grouped(study.trials),
            escape(&study.path.join(", ")),
            match study.transport.as_str() {
                "tcp" => "",
                _ => ", whose frames crossed the links over QUIC",
            }
        )?;
        if !study.kpis.is_empty() {
            kpi::section(page, study)?;
            links(page, study)?;
            continue;
        }
        if let Some(tasks) = &study.adapters {
            rows(page, study)?;
            adapters::section(page, tasks)?;
            energy::nodes(page, study)?;
            links(page, study)?;
            continue;
        }
        if let Some(looks) = &study.looks {
            rows(page, study)?;
            multimodal::section(page, looks)?;
            energy::machine(page, study)?;
            traced::section(page, study)?;
            energy::nodes(page, study)?;
            links(page, study)?;
            continue;
        }
        if !study.costs.is_empty() {
            costs(page, study)?;
        }
        rows(page, study)?;
        own::section(page, study)?;
        kv::section(page, study)?;
        retrieval::section(page, study)?;
        placement::section(page, study)?;
        leak::section(page, study)?;
        tensor_parallel::section(page, study)?;
        if study.speculation.is_empty() {
            cells(page, study)?;
        } else {
            speculation::section(page, study)?;
        }
        traced::section(page, study)?;
        energy::nodes(page, study)?;
        links(page, study)?;
    }
    Ok(())
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), significant)
}

fn costs(page: &mut String, study: &StudySummary) -> fmt::Result {
    if study.costs.is_empty() {
        return Ok(());
    }
    let head = [
        "Costs of a token",
        "Layer, ms",
        "Head, ms",
        "Besides, ms",
        "Passes",
    ];
    let mut table = Table::new(&head, 1);
    for costs in &study.costs {
        table.row(vec![
            escape(&costs.node),
            significant(costs.layer_ms),
            number(costs.head_ms),
            significant(costs.fixed_ms),
            grouped(u64::from(costs.passes)),
        ]);
    }
    table.write(page)
}

fn rows(page: &mut String, study: &StudySummary) -> fmt::Result {
    let head = [
        "Round trip asked, ms",
        "Empty frame, ms",
        "Flips by the formula, Mbit/s",
        "By the trials",
        "Ratio",
        "95 %",
    ];
    // The first two say something of every study.
    let columns = if study.seeks_a_flip() { head.len() } else { 2 };
    let mut table = Table::new(head.get(..columns).unwrap_or(&head), 0);
    for row in &study.rows {
        let ratio = row.flip_over_critical;
        let mut values = vec![
            significant(row.round_trip_ms),
            significant(row.echo_ms),
            row.critical_rate_mbps
                .map_or_else(|| "never".to_owned(), significant),
            number(row.flip_rate_mbps),
            number(ratio.map(|[ratio, ..]| ratio)),
            ratio.map_or_else(
                || "-".to_owned(),
                |[_, low, high]| format!("{} to {}", significant(low), significant(high)),
            ),
        ];
        values.truncate(columns);
        table.row(values);
    }
    table.write(page)
}

fn cells(page: &mut String, study: &StudySummary) -> fmt::Result {
    let head = [
        "Arm",
        "Round trip, ms",
        "Rate, Mbit/s",
        "Trials",
        "Token, ms",
        "First token, ms",
        "Tokens/s",
        "Same tokens",
        "Busy",
    ];
    let mut table = Table::new(&head, 1);
    for name in energy::HEAD {
        table.named_column(name);
    }
    for cell in &study.cells {
        let busy: Vec<String> = cell
            .busy
            .iter()
            .map(|share| format!("{:.0} %", share * 100.0))
            .collect();
        let mut row = vec![
            escape(&cell.arm),
            significant(cell.round_trip_ms),
            significant(cell.rate_mbps),
            grouped(cell.trials),
            number(cell.token_ms),
            number(cell.first_token_ms),
            number(cell.tokens_per_s),
            cell.agreement.map_or_else(
                || "-".to_owned(),
                |share| format!("{} %", significant(share * 100.0)),
            ),
            busy.join(", "),
        ];
        row.extend(energy::columns(&cell.energy));
        table.row(row);
    }
    table.write(page)?;
    let named = if study.halves.is_some() {
        "halves where both nodes share every layer, a node where that answers alone, else the layer after which each \
         node of the path ends"
    } else if !study.retrieval.is_empty() {
        "how the index was searched, and whether prefixes were kept"
    } else if study.context.is_some() {
        "how its context came"
    } else if !study.placed.is_empty() {
        "the node that answers and its weights, or by the policy's deadline"
    } else if study.own.is_empty() {
        "the layer after which each node of the path ends, and by the coding of hidden states if they are not exact"
    } else {
        "its cut or rule, and how sure the device must be"
    };
    writeln!(
        page,
        "<p class=\"small\">An arm is named by {named}. Same tokens are those that an exact arm made for the same prompt in the same place. Busy is the share of the time in which each node computed, its slowdown included.{}</p>",
        energy::about(study.cells.iter().map(|cell| &cell.energy))
    )
}

fn links(page: &mut String, study: &StudySummary) -> fmt::Result {
    let head = [
        "Bytes of all trials",
        "",
        "Payload",
        "Framing",
        "Other frames",
        "In QUIC",
        "Packets",
        "Expected on the wire",
        "On the interface",
        "Sent again",
    ];
    let mut table = Table::new(&head, 2);
    let count = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), grouped);
    for link in &study.links {
        table.row(vec![
            escape(&link.link),
            escape(&link.direction),
            grouped(link.payload_bytes),
            grouped(link.framing_bytes),
            count(link.other_bytes),
            count(link.quic_bytes),
            count(link.packets),
            count(link.expected_wire_bytes),
            count(link.wire_bytes),
            count(link.segments_retransmitted),
        ]);
    }
    table.write(page)
}
