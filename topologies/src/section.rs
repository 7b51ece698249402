//! Typed access to a table that was checked against its fields.
//!
//! What is missing or malformed has been reported by then, so these functions never fail: they
//! give a placeholder instead, which no experiment that is handed out contains.

use hexloop_traces::QueueLimit;
use hexloop_traces::units::{ByteSize, Share, TimeSpan};

use crate::fields::{self, Field, Kind, Need};
use crate::quantity::{per_kilosecond, queue_limit, rate_bps};
use crate::scalar::is_sound;
use crate::value::{Data, Origin, Table, Value};

/// A table and the fields it may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Section<'a> {
    table: Option<&'a Table>,
    fields: &'static [Field],
    /// Where a problem with the table as a whole is shown.
    pub(crate) origin: &'a Origin,
}

impl<'a> Section<'a> {
    pub(crate) fn new(table: &'a Table, fields: &'static [Field], origin: &'a Origin) -> Self {
        Section {
            table: Some(table),
            fields,
            origin,
        }
    }

    /// The value, if it was written.
    pub(crate) fn written(&self, key: &str) -> Option<&'a Value> {
        self.table?.get(key)
    }

    /// Where a key was written, or the table if it was not.
    pub(crate) fn place(&self, key: &str) -> &'a Origin {
        self.written(key).map_or(self.origin, |value| &value.origin)
    }

    /// The value, if it was written and is what it must be. What is not was reported.
    pub(crate) fn sound(&self, key: &str) -> Option<&'a Value> {
        let value = self.written(key)?;
        let field = fields::find(self.fields, key)?;
        is_sound(&field.kind, &value.data).then_some(value)
    }

    fn default_text(&self, key: &str) -> &'static str {
        match fields::find(self.fields, key).map(|field| field.need) {
            Some(Need::Default(text)) => text,
            _ => "",
        }
    }

    pub(crate) fn text(&self, key: &str) -> String {
        let written = self.sound(key).and_then(Value::text);
        written.unwrap_or_else(|| self.default_text(key)).to_owned()
    }

    pub(crate) fn optional_text(&self, key: &str) -> Option<String> {
        self.sound(key).and_then(Value::text).map(str::to_owned)
    }

    pub(crate) fn integer(&self, key: &str) -> u64 {
        match self.sound(key).map(|value| &value.data) {
            Some(Data::Integer(number)) => u64::try_from(*number).unwrap_or(0),
            _ => self.default_text(key).parse().unwrap_or(0),
        }
    }

    /// An integer whose bounds in the table of fields fit 32 bits.
    pub(crate) fn integer_u32(&self, key: &str) -> u32 {
        u32::try_from(self.integer(key)).unwrap_or(0)
    }

    pub(crate) fn boolean(&self, key: &str) -> bool {
        match self.written(key).map(|value| &value.data) {
            Some(Data::Boolean(boolean)) => *boolean,
            _ => self.default_text(key) == "true",
        }
    }

    pub(crate) fn time_ns(&self, key: &str) -> u64 {
        self.text(key).parse().map_or(0, |span: TimeSpan| span.ns)
    }

    pub(crate) fn size_bytes(&self, key: &str) -> u64 {
        self.text(key)
            .parse()
            .map_or(0, |size: ByteSize| size.bytes)
    }

    /// A rate in bit/s, if it was written and is one.
    pub(crate) fn optional_rate_bps(&self, key: &str) -> Option<u64> {
        rate_bps(self.sound(key)?.text()?)
    }

    /// A time span in nanoseconds, if it was written and is one.
    pub(crate) fn optional_time_ns(&self, key: &str) -> Option<u64> {
        self.sound(key).map(|_| self.time_ns(key))
    }

    /// A share in parts per 10^9, if it was written and is one.
    pub(crate) fn optional_share_ppb(&self, key: &str) -> Option<u32> {
        let share: Share = self.sound(key)?.text()?.parse().ok()?;
        Some(share.ppb())
    }

    pub(crate) fn queue_limit(&self, key: &str) -> QueueLimit {
        queue_limit(&self.text(key)).unwrap_or(QueueLimit::Bytes(0))
    }

    /// A share in parts per million.
    pub(crate) fn share_ppm(&self, key: &str) -> u64 {
        self.text(key)
            .parse()
            .map_or(0, |share: Share| u64::from(share.ppb() / 1000))
    }

    pub(crate) fn per_kilosecond(&self, key: &str) -> u64 {
        per_kilosecond(&self.text(key)).unwrap_or(0)
    }

    /// The values of a list, with the place of each.
    pub(crate) fn list(&self, key: &str) -> Vec<(&'a str, &'a Origin)> {
        let values = self.written(key).and_then(Value::array).unwrap_or_default();
        values
            .iter()
            .filter_map(|value| Some((value.text()?, &value.origin)))
            .collect()
    }

    pub(crate) fn texts(&self, key: &str) -> Vec<String> {
        self.list(key)
            .into_iter()
            .map(|(text, _)| text.to_owned())
            .collect()
    }

    /// A table within this one.
    pub(crate) fn table(&self, key: &str) -> Section<'a> {
        let fields: &[Field] = match fields::find(self.fields, key).map(|field| &field.kind) {
            Some(Kind::Table(fields)) => fields,
            _ => &[],
        };
        let entry = self.table.and_then(|table| table.entry(key));
        Section {
            table: entry.and_then(|entry| entry.value.table()),
            fields,
            origin: entry.map_or(self.origin, |entry| &entry.key_origin),
        }
    }

    /// The tables of a map, in the order they were written, with their names.
    pub(crate) fn map(&self, key: &str) -> Vec<(&'a str, Section<'a>)> {
        let fields = match fields::find(self.fields, key).map(|field| &field.kind) {
            Some(Kind::Map { of, .. }) => of,
            _ => return Vec::new(),
        };
        let Some(table) = self.written(key).and_then(Value::table) else {
            return Vec::new();
        };
        let named = |entry: &'a crate::value::Entry| {
            let table = entry.value.table()?;
            Some((
                entry.key.as_str(),
                Section::new(table, fields, &entry.key_origin),
            ))
        };
        table.entries.iter().filter_map(named).collect()
    }

    /// Variables of an environment, in the order they were written.
    pub(crate) fn variables(&self, key: &str) -> Vec<(String, String)> {
        let table = self.written(key).and_then(Value::table);
        let entries = table.map(|table| table.entries.as_slice());
        let text = |entry: &crate::value::Entry| {
            let text = entry.value.text()?;
            Some((entry.key.clone(), text.to_owned()))
        };
        entries
            .unwrap_or_default()
            .iter()
            .filter_map(text)
            .collect()
    }

    /// The tables of an array, in order.
    pub(crate) fn array(&self, key: &str) -> Vec<Section<'a>> {
        let fields = match fields::find(self.fields, key).map(|field| &field.kind) {
            Some(Kind::Array { of, .. }) => of,
            _ => return Vec::new(),
        };
        let values = self.written(key).and_then(Value::array).unwrap_or_default();
        let section = |value: &'a Value| Some(Section::new(value.table()?, fields, &value.origin));
        values.iter().filter_map(section).collect()
    }
}
