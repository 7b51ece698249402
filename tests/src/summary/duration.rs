//! How long a run took.

use serde_json::Value;

/// What is wrong with how long a run took, from the agent's start until everything was taken down; `None` if that is
/// within so many seconds.
#[must_use]
pub fn overrun(events: &[Value], within_s: u64) -> Option<String> {
    let mut ends = events.iter().rev();
    let end = ends.find(|event| event["event"] == "taken-down");
    let Some(took_ns) = end.and_then(|event| event["done_ns"].as_u64()) else {
        return Some("the events do not say when everything was taken down".to_owned());
    };
    let most_ns = within_s.saturating_mul(1_000_000_000);
    (took_ns > most_ns).then(|| {
        let (took_s, rest_ms) = (took_ns / 1_000_000_000, took_ns / 1_000_000 % 1000);
        format!("the run took {took_s}.{rest_ms:03} s, more than {within_s} s")
    })
}
