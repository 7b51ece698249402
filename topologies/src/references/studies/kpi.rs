//! Which rows of the KPI tables are sent, and at which rates.

use hexloop_workloads::study::kpi::{KpiSpec, ROWS};

use super::integers;
use crate::check::Reporter;
use crate::problem::{listed, quoted};
use crate::section::Section;
use crate::value::Value;

/// The keys that mean something to it alone.
pub(super) const KEYS: [&str; 4] = ["tables", "percents", "scale", "most_rate"];

/// Keys of others that mean nothing to it.
pub(super) const FOREIGN: [&str; 7] = [
    "cuts",
    "in_flight",
    "codings",
    "around_percent",
    "rates",
    "prompt_tokens",
    "output_tokens",
];

/// Whether rows are sent on the traces alone.
pub(super) fn sends_at_no_rate(section: &Section<'_>) -> bool {
    let written = section.written("percents").and_then(Value::array);
    written.is_some_and(<[Value]>::is_empty)
}

pub(super) fn spec(reporter: &mut Reporter<'_>, section: &Section<'_>) -> KpiSpec {
    for (table, origin) in section.list("tables") {
        if !ROWS.iter().any(|row| row.table == table) {
            let mut known: Vec<&str> = ROWS.iter().map(|row| row.table).collect();
            known.dedup();
            let message = format!("there is no table {}", quoted(table));
            let help = format!("known tables: {}", listed(known));
            reporter.report(origin, message, Some(help));
        }
    }
    if let Some(percents) = section.written("percents")
        && sends_at_no_rate(section)
        && section.written("trace_requests").is_none()
    {
        let message = "without `percents` and without `trace_requests` nothing is sent".to_owned();
        let help = "name rates in percent of what rows need, or give `trace_requests`".to_owned();
        reporter.report(&percents.origin, message, Some(help));
    }
    KpiSpec {
        tables: section.texts("tables"),
        percents: match section.written("percents") {
            Some(_) => integers(section, "percents", 100),
            None => vec![125, 90],
        },
        scale: section.integer_u32("scale"),
        most_rate_bps: section.optional_rate_bps("most_rate").unwrap_or(0),
    }
}
