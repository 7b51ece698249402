//! The tree of values of an experiment file, each with the place it was written at.

use std::ops::Range;

use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A byte range of the experiment file.
    File(Range<usize>),
    /// An option of the command line.
    Option(String),
}

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Value {
    pub(crate) origin: Origin,
    pub(crate) data: Data,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Data {
    Text(String),
    Integer(i128),
    Float(f64),
    Boolean(bool),
    Datetime,
    Array(Vec<Value>),
    Table(Table),
}

/// A table in the order it was written.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Table {
    pub(crate) entries: Vec<Entry>,
}

/// One key of a table with its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_origin: Origin,
    pub(crate) value: Value,
}

impl Data {
    /// What it is, in words.
    pub(crate) const fn kind_name(&self) -> &'static str {
        match self {
            Data::Text(_) => "text",
            Data::Integer(_) | Data::Float(_) => "a number",
            Data::Boolean(_) => "true or false",
            Data::Datetime => "a date",
            Data::Array(_) => "a list",
            Data::Table(_) => "a table",
        }
    }
}

impl Value {
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn table(&self) -> Option<&Table> {
        match &self.data {
            Data::Table(table) => Some(table),
            _ => None,
        }
    }

    pub(crate) fn array(&self) -> Option<&[Value]> {
        match &self.data {
            Data::Array(values) => Some(values),
            _ => None,
        }
    }

    /// The `name` of an element of an array of tables.
    pub(crate) fn name(&self) -> Option<&str> {
        self.table()?.get("name")?.text()
    }
}

impl Table {
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// Removes a key and gives its value.
    pub(crate) fn take(&mut self, key: &str) -> Option<Value> {
        let index = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(index).value)
    }

    /// Puts `other` over this table: tables are merged key by key, arrays of tables with a
    /// `name` element by element of the same name, everything else is replaced.
    pub(crate) fn merge(&mut self, other: Table) {
        for entry in other.entries {
            match self.entries.iter_mut().find(|old| old.key == entry.key) {
                None => self.entries.push(entry),
                Some(old) => old.merge(entry),
            }
        }
    }
}

impl Entry {
    fn merge(&mut self, other: Entry) {
        match (&mut self.value.data, other.value.data) {
            (Data::Table(old), Data::Table(new)) => old.merge(new),
            (Data::Array(old), Data::Array(new))
                if !new.is_empty() && new.iter().all(|value| value.name().is_some()) =>
            {
                merge_by_name(old, new);
            }
            (old, new) => {
                *old = new;
                self.value.origin = other.value.origin;
                self.key_origin = other.key_origin;
            }
        }
    }
}

fn merge_by_name(old: &mut Vec<Value>, new: Vec<Value>) {
    for value in new {
        let same = old
            .iter_mut()
            .find(|element| element.name() == value.name());
        match (same, value) {
            (
                Some(Value {
                    data: Data::Table(table),
                    ..
                }),
                Value {
                    data: Data::Table(over),
                    ..
                },
            ) => {
                table.merge(over);
            }
            (_, value) => old.push(value),
        }
    }
}

/// A mistake in the TOML itself.
pub(crate) struct SyntaxError {
    pub(crate) range: Range<usize>,
    pub(crate) message: String,
}

/// Reads TOML as far as it can be read, with every syntax error.
pub(crate) fn read(text: &str) -> (Table, Vec<SyntaxError>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let end = text.len();
    let errors = errors
        .into_iter()
        .map(|error| SyntaxError {
            range: error.span().unwrap_or(end..end),
            message: error.message().to_owned(),
        })
        .collect();
    (table_of(table.get_ref()), errors)
}

/// Reads one TOML value of the command line.
pub(crate) fn read_value(text: &str, origin: &Origin) -> Option<Value> {
    let mut value = value_of(&DeValue::parse(text).ok()?);
    relocate(&mut value, origin);
    Some(value)
}

/// Reads a dotted key of the command line.
pub(crate) fn read_key(text: &str) -> Option<Vec<String>> {
    if text.contains(['\n', '=', '#']) {
        return None;
    }
    let document = format!("{text} = 0");
    let mut table = table_of(DeTable::parse(&document).ok()?.get_ref());
    let mut path = Vec::new();
    loop {
        let entry = table.entries.pop()?;
        path.push(entry.key);
        match entry.value.data {
            Data::Table(inner) => table = inner,
            _ => return Some(path),
        }
    }
}

fn relocate(value: &mut Value, origin: &Origin) {
    value.origin = origin.clone();
    match &mut value.data {
        Data::Array(values) => values.iter_mut().for_each(|value| relocate(value, origin)),
        Data::Table(table) => {
            for entry in &mut table.entries {
                entry.key_origin = origin.clone();
                relocate(&mut entry.value, origin);
            }
        }
        _ => {}
    }
}

fn table_of(table: &DeTable<'_>) -> Table {
    let entries = table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            key_origin: Origin::File(key.span()),
            value: value_of(value),
        })
        .collect();
    Table { entries }
}

fn value_of(value: &Spanned<DeValue<'_>>) -> Value {
    let data = match value.get_ref() {
        DeValue::String(text) => Data::Text(text.to_string()),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Data::Integer(number),
            Err(_) => Data::Float(f64::INFINITY),
        },
        DeValue::Float(number) => Data::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(boolean) => Data::Boolean(*boolean),
        DeValue::Datetime(_) => Data::Datetime,
        DeValue::Array(values) => Data::Array(values.iter().map(value_of).collect()),
        DeValue::Table(table) => Data::Table(table_of(table)),
    };
    Value {
        origin: Origin::File(value.span()),
        data,
    }
}
