//! What must hold of every document of `hexloop bench link`: its shape, never its times.

use serde_json::Value;

const OUTCOMES: [&str; 6] = [
    "met",
    "missed",
    "measured",
    "spoilt",
    "unavailable",
    "failed",
];

/// Checks a document; says in words what does not hold.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn check(document: &Value) -> Result<Vec<String>, Vec<String>> {
    let mut problems = Vec::new();
    let mut found = Vec::new();
    if document["schema_version"].as_u64() != Some(1) {
        problems.push("schema_version is not 1".to_owned());
    }
    if document["machine"]["kernel"]
        .as_str()
        .is_none_or(str::is_empty)
    {
        problems.push("the machine has no kernel".to_owned());
    }
    if document["machine"]["load_average"].as_array().is_none() {
        problems.push("the machine has no load average".to_owned());
    }
    for timers in ["timers_ordinary", "timers_real_time"] {
        let facts = &document[timers];
        if !facts.is_null() && facts["count"].as_u64().is_none_or(|count| count == 0) {
            problems.push(format!("{timers} are neither null nor counted"));
        }
    }
    let rows = document["rows"].as_array().map_or(&[][..], Vec::as_slice);
    if rows.is_empty() {
        problems.push("there are no rows".to_owned());
    }
    for row in rows {
        let name = row["name"].as_str().unwrap_or("(without a name)");
        let outcome = row["outcome"].as_str().unwrap_or("(without an outcome)");
        let mut problem = |what: &str| problems.push(format!("row {name}: {what}"));
        check_row(row, outcome, &mut problem);
        found.push(format!("{name}: {outcome}"));
    }
    if problems.is_empty() {
        Ok(found)
    } else {
        Err(problems)
    }
}

fn check_row(row: &Value, outcome: &str, problem: &mut impl FnMut(&str)) {
    if !OUTCOMES.contains(&outcome) {
        problem("its outcome is unknown");
    }
    let without_result = ["unavailable", "failed"].contains(&outcome);
    let needs_reason = without_result || outcome == "spoilt";
    if needs_reason != row["why"].as_str().is_some_and(|why| !why.is_empty()) {
        problem("a reason stands where there is a result, or none where there is none");
    }
    if outcome == "failed" {
        problem(row["why"].as_str().unwrap_or("it failed"));
    }
    if row["seconds"].as_f64().is_none_or(|seconds| seconds <= 0.0) && !without_result {
        problem("it took no time");
    }
    let quantities = row["quantities"].as_array().map_or(&[][..], Vec::as_slice);
    if quantities.is_empty() != without_result {
        problem("it has no quantities although it was measured, or some although it was not");
    }
    for quantity in quantities {
        let name = quantity["name"].as_str().unwrap_or("(without a name)");
        let number = |key: &str| quantity[key].as_f64();
        if number("value").is_none() && !quantity["value"].is_null() {
            problem(&format!("{name} is neither a number nor null"));
        }
        if let (Some(low), Some(high)) = (number("low"), number("high"))
            && low > high
        {
            problem(&format!("the interval of {name} is upside down"));
        }
        if quantity["target"].is_string() != quantity["met"].is_boolean() {
            problem(&format!(
                "{name} has a target and is not judged, or the reverse"
            ));
        }
    }
    let missed = |quantity: &Value| quantity["met"] == Value::Bool(false);
    if outcome != "spoilt" && quantities.iter().any(missed) != (outcome == "missed") {
        problem("its outcome is not that of its quantities");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document() -> Value {
        json!({
            "schema_version": 1,
            "machine": {"kernel": "Linux 6", "load_average": [0.0, 0.0, 0.0]},
            "timers_ordinary": {"count": 200},
            "timers_real_time": null,
            "rows": [
                {"name": "a", "outcome": "missed", "why": null, "seconds": 1.5, "quantities": [
                    {"name": "x", "value": 2.0, "low": 1.0, "high": 3.0, "target": "<= 1", "met": false},
                    {"name": "y", "value": null, "low": null, "high": null, "target": null, "met": null}
                ]},
                {"name": "b", "outcome": "unavailable", "why": "no fq", "seconds": 0.0, "quantities": []}
            ]
        })
    }

    #[test]
    fn a_whole_document_passes_and_its_rows_are_listed() {
        assert_eq!(check(&document()).unwrap(), ["a: missed", "b: unavailable"]);
    }

    #[test]
    fn a_spoilt_row_has_its_values_and_a_reason() {
        let mut document = document();
        document["rows"][0]["outcome"] = json!("spoilt");
        assert!(check(&document).is_err(), "it has no reason");
        document["rows"][0]["why"] = json!("the sender was held up");
        assert_eq!(check(&document).unwrap()[0], "a: spoilt");
    }

    #[test]
    fn every_fault_is_found() {
        let faults: [(&str, Value); 9] = [
            ("/schema_version", json!(2)),
            ("/machine/kernel", json!("")),
            ("/timers_ordinary/count", json!(0)),
            ("/rows", json!([])),
            ("/rows/0/outcome", json!("met")),
            ("/rows/0/quantities/0/low", json!(4.0)),
            ("/rows/0/quantities/1/met", json!(true)),
            ("/rows/1/why", json!(null)),
            ("/rows/1/outcome", json!("failed")),
        ];
        for (place, value) in faults {
            let mut document = document();
            *document.pointer_mut(place).unwrap() = value;
            assert!(check(&document).is_err(), "{place}");
        }
    }
}
