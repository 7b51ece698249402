//! What is wrong with a scenario file, and where.

use std::fmt;

use toml::de::{DeTable, DeValue};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScenarioProblem {
    /// Line and column in the file, counted from 1; none for what was set on the command line.
    pub place: Option<(usize, usize)>,
    /// What is wrong, and what may be written instead.
    pub problem: String,
}

/// A scenario that cannot be used: everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScenarioError {
    /// The file's name, as it was given.
    pub file: String,
    /// What is wrong, at least one thing.
    pub problems: Vec<ScenarioProblem>,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, ScenarioProblem { place, problem }) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            match place {
                Some((line, column)) => write!(f, "{}:{line}:{column}: {problem}", self.file)?,
                None => write!(f, "{}: {problem}", self.file)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for ScenarioError {}

impl ScenarioError {
    /// The error of one problem at a byte of the text.
    pub(super) fn at(file: &str, text: &str, byte: Option<usize>, problem: String) -> Self {
        ScenarioError {
            file: file.to_owned(),
            problems: vec![ScenarioProblem {
                place: byte.map(|byte| place(text, byte)),
                problem,
            }],
        }
    }

    /// What the TOML reader found.
    pub(super) fn of_toml(file: &str, text: &str, error: &toml::de::Error) -> Self {
        let byte = error.span().map(|span| span.start);
        ScenarioError::at(file, text, byte, error.message().to_owned())
    }
}

/// Line and column of a byte, both from 1, the column in characters.
fn place(text: &str, byte: usize) -> (usize, usize) {
    let mut byte = byte.min(text.len());
    while !text.is_char_boundary(byte) {
        byte -= 1;
    }
    let before = &text[..byte];
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (line, before[start..].chars().count() + 1)
}

/// Where the value of a dotted path was written: `mobility.speed`, `events.1.at`. What was not
/// written is shown where its table was, or at the start.
pub(super) fn locate(text: &str, path: &str) -> (usize, usize) {
    let (table, _) = DeTable::parse_recoverable(text);
    let mut start = 0;
    let root = DeValue::Table(table.into_inner());
    let mut value = &root;
    for key in path.split('.') {
        let found = match value {
            DeValue::Table(table) => table
                .iter()
                .find(|(known, _)| known.get_ref().as_ref() == key)
                .map(|(_, value)| value),
            DeValue::Array(values) => key.parse().ok().and_then(|index: usize| values.get(index)),
            _ => None,
        };
        let Some(found) = found else { break };
        start = found.span().start;
        value = found.get_ref();
    }
    place(text, start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_found_and_what_was_not_is_shown_at_its_table() {
        let text =
            "name = \"é\"\n[radio]\ncarrier = \"7 GHz\"\n[[events]]\n[[events]]\nat = \"1 s\"\n";
        assert_eq!(locate(text, "radio.carrier"), (3, 11));
        assert_eq!(locate(text, "radio.bandwidth"), (2, 1));
        assert_eq!(locate(text, "events.1.at"), (6, 6));
        assert_eq!(locate(text, "mobility.speed"), (1, 1));
    }
}
