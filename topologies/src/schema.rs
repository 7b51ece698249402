//! The JSON Schema of experiment files, for editors; made from the table of fields.

use serde_json::{Map, Value, json};

use crate::fields::{self, Field, Kind, Need};
use crate::scalar::expected;

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
        Kind::Rate => {
            let mut rate = quantity(kind, "[kMGT]?(bit/s|bps)");
            rate["pattern"] = json!(format!(
                "^ *unlimited *$|{}",
                rate["pattern"].as_str().unwrap_or_default()
            ));
            rate
        }
        Kind::Queue => quantity(kind, "(B|kB|MB|GB|KiB|MiB|GiB|packets?|p)"),
        Kind::Share { .. } => quantity(kind, "(%|ppm|ppb)"),
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
        Kind::Variables => json!({
            "type": "object",
            "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,127}$" },
            "additionalProperties": { "type": "string" },
        }),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scalar::is_sound;
    use crate::value::{self, Data};

    /// The keywords of JSON Schema that the schema above is made of, patterns excepted.
    fn validate(schema: &Value, root: &Value, value: &Value, place: &str) {
        if let Some(name) = schema["$ref"].as_str() {
            return validate(root.pointer(&name[1..]).unwrap(), root, value, place);
        }
        let found = match value {
            Value::Object(_) => "object",
            Value::Array(_) => "array",
            Value::String(_) => "string",
            Value::Bool(_) => "boolean",
            _ => "integer",
        };
        assert_eq!(schema["type"], found, "{place}");
        if let Some(words) = schema["enum"].as_array() {
            assert!(words.contains(value), "{place}");
        }
        for key in schema["required"].as_array().into_iter().flatten() {
            assert!(value.get(key.as_str().unwrap()).is_some(), "{place}: {key}");
        }
        for (index, element) in value.as_array().into_iter().flatten().enumerate() {
            validate(
                &schema["items"],
                root,
                element,
                &format!("{place}[{index}]"),
            );
        }
        for (key, member) in value.as_object().into_iter().flatten() {
            let place = format!("{place}.{key}");
            let other = &schema["additionalProperties"];
            match schema["properties"].get(key) {
                Some(property) => validate(property, root, member, &place),
                None if other.is_object() => validate(other, root, member, &place),
                None => panic!("{place} is not in the schema"),
            }
        }
    }

    #[test]
    fn bundled_experiments_are_valid_by_the_schema() {
        let schema = json_schema();
        for (name, text) in crate::bundled() {
            let file: Value = toml::from_str(text).unwrap();
            validate(&schema, &schema, &file, name);
        }
    }

    fn check_fields(fields: &'static [Field]) {
        for field in fields {
            assert!(field.about.ends_with('.'), "{}", field.key);
            match field.kind {
                Kind::Table(inner)
                | Kind::Map { of: inner, .. }
                | Kind::Array { of: inner, .. } => {
                    check_fields(inner);
                }
                _ => {}
            }
            let Need::Default(text) = field.need else {
                continue;
            };
            if text == "{}" {
                continue;
            }
            let data = match field.kind {
                Kind::Integer { .. } | Kind::Boolean => {
                    let document = format!("x = {text}");
                    value::read(&document).0.get("x").unwrap().data.clone()
                }
                _ => Data::Text(text.to_owned()),
            };
            assert!(is_sound(&field.kind, &data), "{}: {text}", field.key);
        }
    }

    #[test]
    fn every_default_is_a_value_that_could_be_written() {
        check_fields(fields::ROOT);
    }
}
