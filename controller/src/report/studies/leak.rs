//! What an edge read from the states that crossed the link.

use std::fmt::{self, Write};

use crate::format::grouped;
use crate::report::html::{Table, escape};
use crate::summary::StudySummary;

pub(super) fn section(page: &mut String, study: &StudySummary) -> fmt::Result {
    if study.leaks.is_empty() {
        return Ok(());
    }
    let head = [
        "States",
        "Tokens",
        "Nearest embedding",
        "95 %",
        "Learnt map",
        "95 %",
    ];
    let mut table = Table::new(&head, 1);
    for leak in &study.leaks {
        let mut row = vec![escape(&leak.arm), grouped(leak.tokens)];
        for [share, low, high] in [leak.nearest, leak.probe] {
            row.push(format!("{:.1} %", share * 100.0));
            row.push(format!("{:.1} to {:.1} %", low * 100.0, high * 100.0));
        }
        table.row(row);
    }
    table.write(page)?;
    writeln!(
        page,
        "<p class=\"small\">Share of the prompts' tokens that the second node, which knows the model, reads from the \
         states that crossed the link: the token whose embedding has the smallest angle with the state, and the same \
         of what a linear map makes of the state, learnt from 64 other texts.</p>"
    )
}
