//! The metadata of a trace file, as JSON in every format.

use crate::{OLDEST_TRACE_SCHEMA, TRACE_SCHEMA, TraceMetadata};

#[expect(
    clippy::expect_used,
    reason = "strings, integers and string maps always become JSON"
)]
pub(super) fn to_json(metadata: &TraceMetadata) -> String {
    serde_json::to_string(metadata).expect("metadata is plain data")
}

/// Reads metadata. Newer schemas only add what older files leave unknown, so that what was read
/// has the newest.
///
/// # Errors
/// What is wrong, and at which byte of the JSON.
pub(super) fn from_json(json: &str) -> Result<TraceMetadata, (usize, String)> {
    let mut metadata: TraceMetadata = serde_json::from_str(json).map_err(|error| {
        let at = error.column().saturating_sub(1).min(json.len());
        (at, format!("in the metadata: {}", bare(&error)))
    })?;
    if !(OLDEST_TRACE_SCHEMA..=TRACE_SCHEMA).contains(&metadata.schema) {
        let schema = metadata.schema;
        let problem = format!(
            "the trace has schema {schema}; this version reads schemas {OLDEST_TRACE_SCHEMA} to \
             {TRACE_SCHEMA}"
        );
        return Err((0, problem));
    }
    metadata.schema = TRACE_SCHEMA;
    Ok(metadata)
}

/// The message without serde's own position, which counts from the start of the JSON.
fn bare(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.rfind(" at line ") {
        Some(at) => message[..at].to_owned(),
        None => message,
    }
}
