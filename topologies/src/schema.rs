//! The JSON Schema of experiment files, for editors; made from the table of fields.

use serde_json::{Map, Value, json};

use crate::check::expected;
use crate::fields::{self, Field, Kind, Measure, Need};

/// The JSON Schema (draft 2020-12) of an experiment file.
#[must_use]
pub fn json_schema() -> Value {
    let mut schema = table(fields::ROOT, Extent::Whole, &[]);
    let members = [
        (
            "$schema",
            json!("https://json-schema.org/draft/2020-12/schema"),
        ),
        ("title", json!("hexloop experiment file, schema 1")),
        (
            "$defs",
            json!({ "preset": table(fields::ROOT, Extent::Part, fields::NOT_IN_PRESETS) }),
        ),
    ];
    if let Some(object) = schema.as_object_mut() {
        object.extend(members.map(|(key, value)| (key.to_owned(), value)));
    }
    schema
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Whole,
    /// A preset: nothing is required but the names that elements of arrays are merged by.
    Part,
}

fn table(fields: &'static [Field], extent: Extent, without: &[&str]) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in fields.iter().filter(|field| !without.contains(&field.key)) {
        let mut property = kind(&field.kind, extent);
        if let Some(object) = property.as_object_mut() {
            object.insert("description".to_owned(), json!(field.about));
            if let Need::Default(text) = field.need {
                object.insert("default".to_owned(), default(&field.kind, text));
            }
        }
        properties.insert(field.key.to_owned(), property);
        if extent == Extent::Whole && field.need == Need::Required {
            required.push(field.key);
        }
    }
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// The default as JSON: numbers, booleans and tables as such, everything else as text.
fn default(kind: &Kind, text: &'static str) -> Value {
    match kind {
        Kind::Integer { .. } | Kind::Boolean | Kind::Table(_) => {
            serde_json::from_str(text).unwrap_or_else(|_not_json| json!(text))
        }
        _ => json!(text),
    }
}

fn kind(kind: &Kind, extent: Extent) -> Value {
    match kind {
        Kind::Name => json!({ "type": "string", "minLength": 1, "maxLength": 64 }),
        Kind::Identifier => json!({
            "type": "string",
            "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        }),
        Kind::Text { longest } => json!({ "type": "string", "maxLength": longest }),
        Kind::Integer { least, most } => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Time { .. } => quantity(kind, "(ns|us|µs|μs|ms|s|min|h)"),
        Kind::Size { .. } => quantity(kind, "(B|kB|MB|GB|KiB|MiB|GiB)"),
        Kind::Share { .. } => quantity(kind, "(%|ppm|ppb)"),
        Kind::Measure(measure) => quantity(
            kind,
            match measure {
                Measure::Frequency => "(Hz|kHz|MHz|GHz|THz)",
                Measure::Length => "(mm|cm|m|km)",
                Measure::Speed => "(m/s|km/h)",
                Measure::PowerLevel => "dBm",
                Measure::Ratio => "dB",
                Measure::SpectralEfficiency => "bit/s/Hz",
            },
        ),
        Kind::PerSecond => quantity(kind, "/s"),
        Kind::Choice(words) => json!({ "type": "string", "enum": words }),
        Kind::List { of, least } => {
            json!({ "type": "array", "items": self::kind(of, extent), "minItems": least })
        }
        Kind::Table(fields) => table(fields, extent, &[]),
        Kind::Map { of, key, .. } => json!({
            "type": "object",
            "propertyNames": self::kind(key, extent),
            "additionalProperties": table(of, extent, &[]),
        }),
        Kind::Array { of, .. } => {
            let mut items = table(of, extent, &[]);
            if extent == Extent::Part {
                items["required"] = json!(["name"]);
            }
            json!({ "type": "array", "items": items })
        }
        Kind::Presets => json!({
            "type": "object",
            "propertyNames": self::kind(&Kind::Identifier, extent),
            "additionalProperties": { "$ref": "#/$defs/preset" },
        }),
    }
}

fn quantity(kind: &Kind, unit: &str) -> Value {
    let (what, examples) = expected(kind);
    json!({
        "type": "string",
        "pattern": format!("^ *[-+]?[0-9][0-9_]*(\\.[0-9_]+)? *{unit} *$"),
        "$comment": format!("{what}, such as {}", examples.unwrap_or_default()),
    })
}
