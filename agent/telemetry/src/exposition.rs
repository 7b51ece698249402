//! The text format that Prometheus reads (version 0.0.4): families of samples, each with its help.

use std::fmt::Write as _;

/// What a family's values do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FamilyKind {
    /// They only rise, until their source starts again; the name ends in `_total`.
    Counter,
    /// They rise and fall.
    Gauge,
}

/// A family of samples: one name, one unit, one meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricFamily {
    /// Its name, with the unit.
    pub name: &'static str,
    /// What its values do.
    pub kind: FamilyKind,
    /// What it means.
    pub help: &'static str,
}

#[derive(Debug, Clone, PartialEq)]
struct Sample {
    family: MetricFamily,
    labels: String,
    value: f64,
}

/// Samples of one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Exposition {
    samples: Vec<Sample>,
}

impl Exposition {
    /// Adds a sample. Labels with an empty value are left out: to Prometheus both are the same.
    pub fn add(&mut self, family: MetricFamily, labels: &[(&str, &str)], value: f64) {
        let mut text = String::new();
        for (name, value) in labels.iter().filter(|(_, value)| !value.is_empty()) {
            text.push(if text.is_empty() { '{' } else { ',' });
            text.push_str(name);
            text.push_str("=\"");
            escape(value, true, &mut text);
            text.push('"');
        }
        if !text.is_empty() {
            text.push('}');
        }
        self.samples.push(Sample {
            family,
            labels: text,
            value,
        });
    }

    /// The text: families in the order in which they first came, samples of one together.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        let mut written: Vec<&str> = Vec::new();
        for first in &self.samples {
            let MetricFamily { name, kind, help } = first.family;
            if written.contains(&name) {
                continue;
            }
            written.push(name);
            let kind = match kind {
                FamilyKind::Counter => "counter",
                FamilyKind::Gauge => "gauge",
            };
            text.push_str("# HELP ");
            text.push_str(name);
            text.push(' ');
            escape(help, false, &mut text);
            // Writing to a string does not fail.
            let _ = writeln!(text, "\n# TYPE {name} {kind}");
            for sample in self.samples.iter().filter(|one| one.family.name == name) {
                let _ = writeln!(text, "{name}{} {}", sample.labels, sample.value);
            }
        }
        text
    }
}

fn escape(value: &str, quotes: bool, text: &mut String) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if quotes => text.push_str("\\\""),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POWER: MetricFamily = MetricFamily {
        name: "hw_power_watts",
        kind: FamilyKind::Gauge,
        help: "Power.",
    };
    const ENERGY: MetricFamily = MetricFamily {
        name: "hw_energy_joules_total",
        kind: FamilyKind::Counter,
        help: "Energy\\since the start.",
    };

    #[test]
    fn samples_of_a_family_stand_together_below_its_help() {
        let mut exposition = Exposition::default();
        exposition.add(POWER, &[("hw_id", "a"), ("none", "")], 1.5);
        exposition.add(ENERGY, &[], 1e21);
        exposition.add(POWER, &[("hw_id", "b\"\\\n")], 0.0);
        let expected = "# HELP hw_power_watts Power.\n\
                        # TYPE hw_power_watts gauge\n\
                        hw_power_watts{hw_id=\"a\"} 1.5\n\
                        hw_power_watts{hw_id=\"b\\\"\\\\\\n\"} 0\n\
                        # HELP hw_energy_joules_total Energy\\\\since the start.\n\
                        # TYPE hw_energy_joules_total counter\n\
                        hw_energy_joules_total 1000000000000000000000\n";
        assert_eq!(exposition.render(), expected);
    }
}
