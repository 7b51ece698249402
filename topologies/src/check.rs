//! Checks a tree of values against the table of fields, and reports everything that differs.

use crate::fields::{self, Field, Kind, Need};
use crate::problem::{Place, Problem, SourceText, listed, nearest, quoted};
use crate::scalar::{scalar, variable};
use crate::value::{Data, Entry, Origin, Table, Value};

/// Collects problems, each at its place.
#[derive(Debug)]
pub(crate) struct Reporter<'a> {
    pub(crate) source: &'a SourceText,
    pub(crate) problems: Vec<Problem>,
}

impl Reporter<'_> {
    pub(crate) fn report(&mut self, origin: &Origin, message: String, help: Option<String>) {
        self.problems
            .push(problem(self.source, origin, message, help));
    }
}

/// A problem at the place that an origin names.
pub(crate) fn problem(
    source: &SourceText,
    origin: &Origin,
    message: String,
    help: Option<String>,
) -> Problem {
    let (place, excerpt) = match origin {
        Origin::File(range) => source.locate(range),
        Origin::Option(option) => (
            Place::Option {
                option: option.clone(),
            },
            None,
        ),
    };
    Problem {
        place,
        message,
        help,
        excerpt,
    }
}

/// Whether required keys may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// An experiment as it will run.
    Whole,
    /// A preset, or what could be read of a broken file.
    Part,
}

/// Checks a table. `place` names it in messages, `origin` is where a missing key is reported.
pub(crate) fn table(
    reporter: &mut Reporter<'_>,
    table: &Table,
    fields: &'static [Field],
    (place, origin): (&str, &Origin),
    extent: Extent,
) {
    for entry in &table.entries {
        match fields::find(fields, &entry.key) {
            Some(field) => value(reporter, &entry.value, entry, &field.kind, extent),
            None => unknown_key(reporter, entry, fields, place),
        }
    }
    if extent == Extent::Part {
        return;
    }
    for field in fields {
        if field.need == Need::Required && table.get(field.key).is_none() {
            let help = format!("`{}`: {}", field.key, field.about);
            let message = format!("`{}` is missing {place}", field.key);
            reporter.report(origin, message, Some(help));
        }
    }
}

fn unknown_key(reporter: &mut Reporter<'_>, entry: &Entry, fields: &'static [Field], place: &str) {
    let keys = fields.iter().map(|field| field.key);
    let help = match nearest(&entry.key, keys.clone()) {
        Some(key) => format!("did you mean `{key}`?"),
        None => format!("known keys: {}", listed(keys)),
    };
    let message = format!("unknown key {} {place}", quoted(&entry.key));
    reporter.report(&entry.key_origin, message, Some(help));
}

/// Checks one value; `entry` is the key it belongs to.
fn value(
    reporter: &mut Reporter<'_>,
    value: &Value,
    entry: &Entry,
    kind: &'static Kind,
    extent: Extent,
) {
    let key = entry.key.as_str();
    match (kind, &value.data) {
        (Kind::Table(fields), Data::Table(inner)) => {
            table(
                reporter,
                inner,
                fields,
                (&format!("in [{key}]"), &entry.key_origin),
                extent,
            );
        }
        (
            Kind::Map {
                of,
                key: key_kind,
                what,
            },
            Data::Table(inner),
        ) => {
            map(reporter, inner, (of, key_kind, what), entry, extent);
        }
        (Kind::Presets, Data::Table(inner)) => presets(reporter, inner),
        (Kind::Variables, Data::Table(inner)) => {
            for named in &inner.entries {
                if let Err((message, help)) = variable(&named.key) {
                    reporter.report(&named.key_origin, message, help);
                }
                let kind = &Kind::Text { longest: 32 << 10 };
                if let Err((message, help)) = scalar(&named.key, kind, &named.value.data) {
                    reporter.report(&named.value.origin, message, help);
                }
            }
        }
        (Kind::Array { of, what }, Data::Array(values)) => {
            array(reporter, values, (of, what), entry, extent);
        }
        (Kind::List { of, least }, Data::Array(values)) => {
            for element in values {
                self::value(reporter, element, entry, of, extent);
            }
            if values.len() < *least {
                let message = format!(
                    "`{key}` has {} values; it needs at least {least}",
                    values.len()
                );
                reporter.report(&value.origin, message, None);
            }
        }
        (kind, data) => {
            if let Err((message, help)) = scalar(key, kind, data) {
                reporter.report(&value.origin, message, help);
            }
        }
    }
}

fn map(
    reporter: &mut Reporter<'_>,
    inner: &Table,
    (of, key_kind, what): (&'static [Field], &'static Kind, &str),
    entry: &Entry,
    extent: Extent,
) {
    if inner.entries.is_empty() && extent == Extent::Whole {
        let message = format!("there is no {what} in [{}]", entry.key);
        reporter.report(&entry.key_origin, message, None);
    }
    for named in &inner.entries {
        if let Err((message, help)) = scalar(what, key_kind, &Data::Text(named.key.clone())) {
            reporter.report(&named.key_origin, message, help);
        }
        let place = format!("in {what} {}", quoted(&named.key));
        match named.value.table() {
            Some(inner) => table(reporter, inner, of, (&place, &named.key_origin), extent),
            None => {
                let message = format!(
                    "{what} {} is {}, not a table",
                    quoted(&named.key),
                    named.value.data.kind_name()
                );
                let help = format!("write [{}.{}] and its keys below", entry.key, named.key);
                reporter.report(&named.value.origin, message, Some(help));
            }
        }
    }
}

fn presets(reporter: &mut Reporter<'_>, presets: &Table) {
    for preset in &presets.entries {
        if let Err((message, help)) =
            scalar("preset", &Kind::Identifier, &Data::Text(preset.key.clone()))
        {
            reporter.report(&preset.key_origin, message, help);
        }
        let place = format!("in preset {}", quoted(&preset.key));
        let Some(body) = preset.value.table() else {
            let message = format!(
                "{place} there is {}, not a table",
                preset.value.data.kind_name()
            );
            reporter.report(&preset.value.origin, message, None);
            continue;
        };
        let mut body = body.clone();
        for key in fields::NOT_IN_PRESETS {
            if let Some(entry) = body.entry(key) {
                let message = format!("a preset cannot change `{key}`");
                reporter.report(&entry.key_origin, message, None);
            }
            body.take(key);
        }
        table(
            reporter,
            &body,
            fields::ROOT,
            (&place, &preset.key_origin),
            Extent::Part,
        );
    }
}

fn array(
    reporter: &mut Reporter<'_>,
    values: &[Value],
    (of, what): (&'static [Field], &str),
    entry: &Entry,
    extent: Extent,
) {
    for (index, element) in values.iter().enumerate() {
        let Some(inner) = element.table() else {
            let message = format!("a {what} is {}, not a table", element.data.kind_name());
            let help = format!("write [[{}]] and its keys below", entry.key);
            reporter.report(&element.origin, message, Some(help));
            continue;
        };
        let name = element.name();
        let place = match name {
            Some(name) => format!("in {what} {}", quoted(name)),
            None => format!("in a {what}"),
        };
        table(reporter, inner, of, (&place, &element.origin), extent);
        if extent == Extent::Part && name.is_none() && inner.get("name").is_none() {
            let help = format!("the name says which {what} of the file it is merged with");
            reporter.report(
                &element.origin,
                format!("`name` is missing {place}"),
                Some(help),
            );
        }
        let first = values[..index]
            .iter()
            .find(|other| name.is_some() && other.name() == name);
        if let (Some(name), Some(first)) = (name, first) {
            let origin = inner
                .get("name")
                .map_or(&element.origin, |value| &value.origin);
            let (first, _) = match &first.origin {
                Origin::File(range) => reporter.source.locate(range),
                Origin::Option(option) => (
                    Place::Option {
                        option: option.clone(),
                    },
                    None,
                ),
            };
            let message = format!("there are two {what}s named {}", quoted(name));
            reporter.report(origin, message, Some(format!("the first is at {first}")));
        }
    }
}
