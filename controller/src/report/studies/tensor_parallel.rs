//! Layers that two nodes share: what halves cost, and when they fall behind.

use std::fmt::{self, Write};

use super::number;
use crate::format::{grouped, significant};
use crate::report::html::{Table, escape};
use crate::summary::StudySummary;

pub(super) fn section(page: &mut String, study: &StudySummary) -> fmt::Result {
    let Some(halves) = &study.halves else {
        return Ok(());
    };
    let head = [
        "Half of a layer",
        "Attention, ms",
        "Feed-forward, ms",
        "Passes",
    ];
    let mut table = Table::new(&head, 1);
    for costs in &halves.costs {
        table.row(vec![
            escape(&costs.node),
            significant(costs.attention_ms),
            significant(costs.feed_forward_ms),
            grouped(u64::from(costs.passes)),
        ]);
    }
    table.write(page)?;
    let head = [
        "Arm",
        "Rate, Mbit/s",
        "Token at the shortest round trip, ms",
        "By the costs, ms",
        "Times as fast as the first node alone",
        "Round trips of a token",
        "Slower than that from, ms",
        "First node waits, shortest",
        "Longest",
    ];
    let mut table = Table::new(&head, 1);
    for arm in &halves.arms {
        let [shortest, longest] = arm.waits.map(|share| {
            share.map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", share * 100.0))
        });
        table.row(vec![
            escape(&arm.arm),
            significant(arm.rate_mbps),
            significant(arm.token_ms),
            number(arm.predicted_ms),
            number(arm.speed_up),
            number(arm.round_trips),
            number(arm.behind_from_ms),
            shortest,
            longest,
        ]);
    }
    table.write(page)?;
    writeln!(
        page,
        "<p class=\"small\">Halves: each of both nodes has half of the heads and of the inner width of every layer. The \
         round trip from which an arm is slower is that of an empty frame, where the line through its times over round \
         trips meets the time of the first node alone. {} tokens of exact halves were as good as another within what \
         sums in another order may be off.</p>",
        grouped(halves.ties)
    )
}
