//! What a generated trace says about itself.

use std::collections::BTreeMap;

use toml::Value;

use super::{Scenario, Variant};
use crate::{Provenance, TRACE_SCHEMA, TraceMetadata, TraceStatus};

/// The metadata of a scenario's trace: its whole configuration, so that it can be made again.
pub(super) fn of(scenario: &Scenario, variant: Variant) -> TraceMetadata {
    let mut configuration = BTreeMap::new();
    if let Ok(Value::Table(table)) = Value::try_from(scenario) {
        for (key, value) in &table {
            flatten(key, value, &mut configuration);
        }
    }
    if variant.user > 0 {
        configuration.insert("user".to_owned(), variant.user.to_string());
    }
    TraceMetadata {
        schema: TRACE_SCHEMA,
        scenario: scenario.name.clone(),
        status: TraceStatus::Control,
        duration_ns: scenario.duration.ns,
        end: scenario.end,
        seed: None,
        generator: format!("hexloop {} scenario v1", env!("CARGO_PKG_VERSION")),
        configuration,
        notes: vec!["an analytic control; it stands for no radio channel".to_owned()],
        provenance: Provenance::default(),
    }
}

/// Puts a value and all within it under dotted keys.
fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                flatten(&format!("{path}.{key}"), value, into);
            }
        }
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                flatten(&format!("{path}.{index}"), value, into);
            }
        }
        Value::String(text) => {
            into.insert(path.to_owned(), text.clone());
        }
        other => {
            into.insert(path.to_owned(), other.to_string());
        }
    }
}
