//! Generated traces: from their section of the experiment file to the generator's settings.

use hexloop_traces::generate::StreetSettings;
use serde_json::{Map, Value};

use crate::check::Reporter;
use crate::experiment::TraceSource;
use crate::fields;
use crate::scalar::is_sound;
use crate::section::Section;

/// The settings of a street: what was written goes over the generator's own defaults.
pub(crate) fn street(reporter: &mut Reporter<'_>, section: &Section<'_>) -> TraceSource {
    let mut written = Map::new();
    for field in fields::STREET {
        // What is malformed was reported already.
        if section
            .written(field.key)
            .is_some_and(|value| is_sound(&field.kind, &value.data))
        {
            written.insert(field.key.to_owned(), Value::String(section.text(field.key)));
        }
    }
    let settings: StreetSettings = match serde_json::from_value(Value::Object(written)) {
        Ok(settings) => settings,
        Err(error) => {
            let message = format!("the street generator does not take these settings: {error}");
            reporter.report(section.origin, message, None);
            StreetSettings::default()
        }
    };
    TraceSource::Street(settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::Need;

    #[test]
    fn the_table_of_fields_has_every_setting_of_the_generator_with_its_default() {
        let defaults = serde_json::to_value(StreetSettings::default()).unwrap();
        let defaults: Vec<(&str, &str)> = defaults
            .as_object()
            .unwrap()
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str().unwrap()))
            .collect();
        let mut table: Vec<(&str, &str)> = fields::STREET
            .iter()
            .map(|field| match field.need {
                Need::Default(text) => (field.key, text),
                _ => (field.key, ""),
            })
            .collect();
        table.sort_unstable();
        let mut sorted = defaults;
        sorted.sort_unstable();
        assert_eq!(table, sorted);
    }
}
