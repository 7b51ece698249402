//! Traffic beside phases, as a table.

use std::fmt::{self, Write};

use super::Data;
use super::html::{Table, escape};
use crate::format::{grouped, significant};

pub(super) fn section(page: &mut String, data: &Data<'_>) -> fmt::Result {
    if data.summary.background.is_empty() {
        return Ok(());
    }
    writeln!(page, "<h2>Traffic beside phases</h2>")?;
    let head = [
        "Traffic",
        "Phase",
        "Link",
        "",
        "Carried by",
        "Sent, B",
        "Arrived, B",
        "Packets sent",
        "Arrived",
        "Mbit/s",
    ];
    let mut table = Table::new(&head, 5);
    for one in &data.summary.background {
        let count = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), grouped);
        let carried = match &one.congestion_control {
            Some(control) => format!("{} ({})", escape(&one.job), escape(control)),
            None => escape(&one.job),
        };
        table.row(vec![
            escape(&one.background),
            escape(&one.phase),
            escape(&one.link),
            escape(&one.direction),
            carried,
            count(one.sent_bytes),
            count(one.received_bytes),
            count(one.sent_packets),
            count(one.received_packets),
            one.received_mbps
                .map_or_else(|| "-".to_owned(), significant),
        ]);
    }
    table.write(page)
}
