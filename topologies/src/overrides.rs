//! Values from the command line that go over those of the file.

use crate::check::Reporter;
use crate::fields::{self, Field, Kind};
use crate::problem::{listed, nearest, quoted};
use crate::value::{self, Data, Entry, Origin, Table, Value};

/// What the command line changes about an experiment file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The preset to apply.
    pub preset: Option<String>,
    /// Another seed.
    pub seed: Option<u64>,
    /// Other values: dotted keys as in the file, elements of arrays by their name, such as
    /// `("phases.split.duration", "8 s")`. Text needs no quotes.
    pub set: Vec<(String, String)>,
}

/// Puts the seed and all `--set` values into the tree.
pub(crate) fn apply(reporter: &mut Reporter<'_>, root: &mut Table, overrides: &Overrides) {
    for (key, text) in &overrides.set {
        let origin = Origin::Option(format!("--set {key}"));
        if let Err((message, help)) = set(root, key, text, &origin) {
            reporter.report(&origin, message, help);
        }
    }
    if let Some(seed) = overrides.seed {
        let origin = Origin::Option("--seed".to_owned());
        put(root, "seed", Data::Integer(i128::from(seed)), &origin);
    }
}

type Refusal = (String, Option<String>);

fn set(root: &mut Table, key: &str, text: &str, origin: &Origin) -> Result<(), Refusal> {
    let path = value::read_key(key).ok_or_else(|| {
        let help = "write KEY=VALUE with a dotted key, such as nodes.device.cpus=2";
        (
            format!("{} is not a key", quoted(key)),
            Some(help.to_owned()),
        )
    })?;
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    set_in_table(root, fields::ROOT, &path, text, origin)
}

/// Follows a path through a table with those fields, and sets the value at its end.
pub(crate) fn set_in_table(
    table: &mut Table,
    fields: &'static [Field],
    path: &[&str],
    text: &str,
    origin: &Origin,
) -> Result<(), Refusal> {
    let [key, rest @ ..] = path else {
        return Err(("the key names a table, not a value".to_owned(), None));
    };
    let Some(field) = fields::find(fields, key) else {
        return Err(unknown("key", key, fields.iter().map(|field| field.key)));
    };
    match &field.kind {
        Kind::Table(inner) => {
            let entry = match table.entries.iter().position(|entry| entry.key == *key) {
                Some(index) => &mut table.entries[index],
                None => {
                    put(table, key, Data::Table(Table::default()), origin);
                    let last = table.entries.len() - 1;
                    &mut table.entries[last]
                }
            };
            match &mut entry.value.data {
                Data::Table(table) => set_in_table(table, inner, rest, text, origin),
                _ => Ok(()), // reported as the wrong type where it was written
            }
        }
        Kind::Map { of, what, .. } => {
            let entry = table.entries.iter_mut().find(|entry| entry.key == *key);
            let Some(Data::Table(named)) = entry.map(|entry| &mut entry.value.data) else {
                return Ok(()); // reported as missing
            };
            let [name, rest @ ..] = rest else {
                return Err((format!("the key names all {what}s, not a value"), None));
            };
            let names: Vec<String> = named
                .entries
                .iter()
                .map(|entry| entry.key.clone())
                .collect();
            let Some(entry) = named.entries.iter_mut().find(|entry| entry.key == *name) else {
                return Err(unknown(what, name, names.iter().map(String::as_str)));
            };
            match &mut entry.value.data {
                Data::Table(table) => set_in_table(table, of, rest, text, origin),
                _ => Ok(()),
            }
        }
        Kind::Array { of, what } => {
            let entry = table.entries.iter_mut().find(|entry| entry.key == *key);
            let elements = match entry.map(|entry| &mut entry.value.data) {
                Some(Data::Array(elements)) => elements,
                _ => &mut Vec::new(),
            };
            let [name, rest @ ..] = rest else {
                return Err((format!("the key names all {what}s, not a value"), None));
            };
            let names: Vec<String> = elements
                .iter()
                .filter_map(Value::name)
                .map(str::to_owned)
                .collect();
            let Some(element) = elements.iter_mut().find(|value| value.name() == Some(name)) else {
                return Err(unknown(what, name, names.iter().map(String::as_str)));
            };
            match &mut element.data {
                Data::Table(table) => set_in_table(table, of, rest, text, origin),
                _ => Ok(()),
            }
        }
        Kind::Presets => Err((
            "a preset is chosen with --preset, not changed".to_owned(),
            None,
        )),
        kind => {
            if let [deeper, ..] = rest {
                let message = format!("`{key}` is a value: it has no {}", quoted(deeper));
                return Err((message, None));
            }
            put(table, key, data(kind, text, origin), origin);
            Ok(())
        }
    }
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Refusal {
    let help = match nearest(name, known.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known {what}s: {}", listed(known)),
    };
    (format!("unknown {what} {}", quoted(name)), Some(help))
}

/// What the text of the command line stands for: numbers, booleans and lists are read as TOML,
/// everything else is text.
fn data(kind: &Kind, text: &str, origin: &Origin) -> Data {
    let toml = || value::read_value(text.trim(), origin).map(|value| value.data);
    let as_text = Data::Text(text.to_owned());
    match (kind, toml()) {
        (Kind::Integer { .. } | Kind::Boolean | Kind::List { .. }, Some(data)) => data,
        (_, Some(Data::Text(text))) => Data::Text(text),
        _ => as_text,
    }
}

fn put(table: &mut Table, key: &str, data: Data, origin: &Origin) {
    let value = Value {
        origin: origin.clone(),
        data,
    };
    match table.entries.iter_mut().find(|entry| entry.key == key) {
        Some(entry) => {
            entry.value = value;
            entry.key_origin = origin.clone();
        }
        None => table.entries.push(Entry {
            key: key.to_owned(),
            key_origin: origin.clone(),
            value,
        }),
    }
}
