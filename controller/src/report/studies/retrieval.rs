//! Retrieval at the edge: what was found, and what had not to be computed again.

use std::fmt::{self, Write};

use super::number;
use crate::format::{grouped, significant};
use crate::report::html::{Table, escape};
use crate::summary::StudySummary;

pub(super) fn section(page: &mut String, study: &StudySummary) -> fmt::Result {
    if study.retrieval.is_empty() {
        return Ok(());
    }
    let head = [
        "Search",
        "Trials",
        "Chunks",
        "Recall",
        "Own chunk found",
        "Queries with a kept prefix",
        "Positions not computed again",
        "First token, ms",
        "Computing the rest, ms",
        "By its length, ms",
        "Exact search, ms",
    ];
    let mut table = Table::new(&head, 1);
    for one in &study.retrieval {
        let share = |share: f64| format!("{:.1} %", share * 100.0);
        table.row(vec![
            escape(&one.arm),
            grouped(one.trials),
            grouped(u64::from(one.chunks)),
            share(one.recall),
            share(one.origin_found),
            share(one.hits),
            share(one.reused),
            number(one.first_token_ms),
            significant(one.prefill_ms),
            number(one.expected_prefill_ms),
            number(one.search_ms),
        ]);
    }
    table.write(page)?;
    writeln!(
        page,
        "<p class=\"small\">Over all settings. Recall is the share of the chunks of an exact search that were found; a query is part of a chunk, its own. Searching includes pooling the states of the query. Computing the rest is the mean; by its length, what so many positions take by what was measured.</p>"
    )
}
