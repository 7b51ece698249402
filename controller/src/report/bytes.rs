//! Bytes on the link: from the formula, over what the jobs counted, to what was on the wire.

use std::fmt::{self, Write};

use super::Data;
use super::html::{Table, escape};
use super::latency::placement_name;
use crate::format::grouped;

pub(super) fn section(page: &mut String, data: &Data<'_>) -> fmt::Result {
    writeln!(page, "<h2>Bytes on the link</h2>")?;
    let accounts: Vec<_> = data
        .summary
        .jobs
        .iter()
        .flat_map(|job| {
            let up = job.wire_up.as_ref().map(|account| (job, "up", account));
            let down = job.wire_down.as_ref().map(|account| (job, "down", account));
            up.into_iter().chain(down)
        })
        .collect();
    let (Some(model), false) = (&data.records.plan.model, accounts.is_empty()) else {
        return writeln!(
            page,
            "<p>Nothing crossed the link, or the phases left no totals.</p>"
        );
    };
    writeln!(
        page,
        "<p>Payload of one request with <var>S</var> prompt and <var>T</var> generated tokens, with 16-byte frame headers: <em>edge</em> sends 16&nbsp;+&nbsp;4<var>S</var> up and 20<var>T</var> down; <em>split</em> sends (<var>S</var>&nbsp;+&nbsp;<var>T</var>&nbsp;-&nbsp;1)<var>d</var><var>b</var>&nbsp;+&nbsp;16(<var>T</var>&nbsp;+&nbsp;1) up and 20<var>T</var> down, here with <var>d</var>&nbsp;=&nbsp;{} values of <var>b</var>&nbsp;=&nbsp;{} bytes. Each connection opens with 48 bytes up and 16 down.</p>",
        model.width, model.bytes_per_activation
    )?;
    let head = [
        "Placement",
        "",
        "Formula",
        "Counted",
        "of it framing",
        "Handshakes",
        "All payload",
        "per token",
    ];
    let mut table = Table::new(&head, 2);
    for (job, direction, account) in &accounts {
        let equal = account.formula_bytes == account.counted_bytes;
        let class = if equal { "held" } else { "not-held" };
        table.row(vec![
            placement_name(job),
            escape(direction),
            grouped(account.formula_bytes),
            format!(
                "<span class=\"{class}\">{}</span>",
                grouped(account.counted_bytes)
            ),
            grouped(account.framing_bytes),
            grouped(account.handshake_bytes),
            grouped(account.payload_bytes),
            account
                .payload_bytes_per_token
                .map_or_else(|| "-".to_owned(), |bytes| format!("{bytes:.1}")),
        ]);
    }
    table.write(page)?;
    writeln!(
        page,
        "<p class=\"small\">Formula and counted are over completed requests; all payload also holds what unfinished ones sent. Bytes.</p>"
    )?;
    let head = [
        "Placement",
        "",
        "In QUIC",
        "Packets",
        "x header",
        "Opening",
        "Expected on the wire",
        "On the wire",
        "Difference",
        "Segments sent again",
    ];
    let mut table = Table::new(&head, 2);
    for (job, direction, account) in &accounts {
        table.row(vec![
            placement_name(job),
            escape(direction),
            account.quic_bytes.map_or_else(|| "-".to_owned(), grouped),
            grouped(account.packets),
            account.header_bytes_per_packet.to_string(),
            grouped(account.opening_bytes),
            grouped(account.expected_wire_bytes),
            grouped(account.wire_bytes),
            account.difference_bytes.to_string(),
            grouped(account.segments_retransmitted),
        ]);
    }
    table.write(page)?;
    writeln!(
        page,
        "<p class=\"small\">Expected = all payload + packets x (Ethernet 14 + IP 20 or 40 + TCP 20 + timestamps 12) + 8 bytes of further options in each opening segment; over QUIC = what that made of the payload, as the sending end counted (encryption, packet headers, acknowledgements, what was sent again) + packets x (Ethernet 14 + IP 20 or 40 + UDP 8). Packets count data and acknowledgements, as the receiving interface saw them. A difference above 0 is payload that was sent again and selective acknowledgements. An end that repeated nothing can still show one: a prompt that the other end sends twice (a tail-loss probe) is answered with a duplicate selective acknowledgement (D-SACK, RFC 2883), an option of 12 bytes. Where no segment was sent again in either direction, both differences must be 0. Over QUIC a difference is what the queue dropped or what left after the job had counted; what is said to have been sent again are packets that QUIC took for lost.</p>"
    )
}
