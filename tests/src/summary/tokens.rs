//! Tokens of the same request in several phases.

use std::collections::BTreeMap;

use serde_json::Value;

/// Completed requests of the same number have the same tokens in every phase.
pub(super) fn check(events: &[Value], found: &mut Vec<String>, problems: &mut Vec<String>) {
    let mut first: BTreeMap<u64, (&Value, &Value)> = BTreeMap::new();
    let mut compared = 0;
    for event in events.iter().filter(|event| event["event"] == "request") {
        let (phase, record) = (&event["phase"], &event["record"]);
        let (Some(id), true) = (record["id"].as_u64(), record["outcome"] == "completed") else {
            continue;
        };
        let (earlier, tokens) = *first.entry(id).or_insert((phase, &record["tokens"]));
        if earlier == phase {
            continue;
        }
        compared += 1;
        if *tokens != record["tokens"] {
            problems.push(format!(
                "request {id} has other tokens in {phase} than in {earlier}"
            ));
        }
    }
    if compared == 0 {
        problems.push("no request completed in two phases, so no tokens were compared".to_owned());
    }
    found.push(format!(
        "tokens equal in {compared} comparisons between phases"
    ));
}
