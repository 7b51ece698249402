//! Traffic without a model.

use serde_json::Value;

/// Every traffic phase has measured what it is for.
pub(super) fn check(
    summary: &Value,
    plan: &Value,
    found: &mut Vec<String>,
    problems: &mut Vec<String>,
) {
    let played = summary["traffic"].as_array();
    for phase in plan["traffic"].as_array().into_iter().flatten() {
        let name = &phase["name"];
        let one = played
            .into_iter()
            .flatten()
            .find(|one| one["phase"] == *name);
        let Some(one) = one else {
            problems.push(format!("traffic {name} is not in the summary"));
            continue;
        };
        let directions = one["following"].as_array().into_iter().flatten();
        let windows = directions.map(|one| one["windows"].as_u64().unwrap_or(0));
        let trips = &one["round_trips"];
        let back = trips["sent"].as_u64().zip(trips["lost"].as_u64());
        let measured = match one["job"].as_str() {
            Some("bulk") => windows.min(),
            _ => back.map(|(sent, lost)| sent - lost),
        };
        match measured {
            Some(count @ 1..) => found.push(format!("traffic {name}: {count} values")),
            _ => problems.push(format!("traffic {name} measured nothing: {one}")),
        }
    }
}
