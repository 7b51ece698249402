//! What every metric means, with its formula.

use std::fmt::{self, Write};

const DEFINITIONS: [(&str, &str); 10] = [
    (
        "TTFT",
        "time to first token: first token on the device - scheduled time of the request. From send: the same from the moment the load generator sent it.",
    ),
    ("E2E", "last token on the device - scheduled time."),
    (
        "TPOT",
        "time per output token: (E2E - TTFT) / (tokens - 1), for at least two tokens.",
    ),
    (
        "ITL",
        "inter-token latency: the gap between two successive tokens of a request, all requests pooled.",
    ),
    (
        "Unfinished",
        "a request whose tokens had not all arrived by its deadline or by the end of the phase. It counts as offered and not as completed.",
    ),
    (
        "Percentiles",
        "nearest rank over all requests, those that never ended counting as longer than all that did; printed only where the sample carries them at 99 % confidence: the median from 7 requests, p95 from 90, p99 from 459 (the early-stopping rule of MLPerf). Intervals: 95 %, moving-block bootstrap, blocks longer than an outage, because latencies within an outage belong together.",
    ),
    (
        "Delivered / trace",
        "IP bytes that arrived at the receiving interface over the integral of the trace's rate, at the same moments less the delay, in windows in which the queue was never empty.",
    ),
    (
        "Shaper lateness",
        "moment at which the shaper sent a packet - moment at which it was due by the integral of the trace.",
    ),
    (
        "Delay error",
        "|one-way delay of a probe on an empty queue - delay that the trace asks for|.",
    ),
    (
        "Send lateness",
        "moment at which the load generator sent a request - its scheduled time.",
    ),
];

pub(super) fn section(page: &mut String) -> fmt::Result {
    writeln!(page, "<h2>Definitions</h2>\n<dl>")?;
    for (name, meaning) in DEFINITIONS {
        writeln!(page, "<dt>{name}</dt><dd>{meaning}</dd>")?;
    }
    writeln!(page, "</dl>")
}
