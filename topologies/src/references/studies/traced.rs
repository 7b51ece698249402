//! What is asked of each arm of a study while its links follow their traces.

use hexloop_workloads::study::traced::TracedSpec;

use super::integers;
use crate::check::Reporter;
use crate::section::Section;

/// Techniques whose requests come one by one, so that a moment of a trace is one request of every arm.
const TECHNIQUES: [&str; 8] = [
    "split",
    "speculative",
    "early-exit",
    "cascade",
    "kv",
    "kpi",
    "placement",
    "multimodal",
];

/// The keys that mean nothing without the first of them.
const KEYS: [&str; 3] = ["trace_requests", "trace_every", "trace_repetitions"];

/// The rounds on the traces; `None` where none are asked for.
pub(super) fn spec(reporter: &mut Reporter<'_>, section: &Section<'_>) -> Option<TracedSpec> {
    let name = section.text("technique");
    let [requests, rest @ ..] = KEYS;
    let Some(written) = section.written(requests) else {
        for key in rest {
            if let Some(written) = section.written(key) {
                let message = format!("`{key}` means nothing without `{requests}`");
                reporter.report(&written.origin, message, None);
            }
        }
        return None;
    };
    if !name.is_empty() && !TECHNIQUES.contains(&name.as_str()) {
        let message = format!("`{requests}` means nothing to technique `{name}`");
        let help = format!("it is for {}", TECHNIQUES.join(", "));
        reporter.report(&written.origin, message, Some(help));
        return None;
    }
    if name == "split" && !integers(section, "in_flight", 1).contains(&1) {
        let message = format!("`{requests}` are asked one at a time");
        let help = "let `in_flight` have 1 among its numbers".to_owned();
        reporter.report(&written.origin, message, Some(help));
    }
    Some(TracedSpec {
        requests: section.integer_u32(requests),
        every_ns: section.time_ns("trace_every"),
        repetitions: section.integer_u32("trace_repetitions"),
    })
}
