//! What is wrong with an experiment, where, and how to put it right.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

/// Where a problem lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Place {
    /// A place in a file. Line and column count from 1, columns in characters.
    File {
        /// The file as the user named it.
        file: String,
        /// Line.
        line: usize,
        /// Column.
        column: usize,
    },
    /// An option of the command line, such as `--set nodes.device.cpus`.
    Option {
        /// The option.
        option: String,
    },
    /// A file as a whole: it is missing, or not text.
    WholeFile {
        /// The file as the user named it.
        file: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Place::Option { option } => f.write_str(option),
            Place::WholeFile { file } => f.write_str(file),
        }
    }
}

/// The line that a problem lies in, and which part of it is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Excerpt {
    /// The line, without its end; tabs are single spaces.
    pub text: String,
    /// First character that is meant, from 0.
    pub start: usize,
    /// How many characters are meant, at least 1.
    pub width: usize,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where it lies.
    #[serde(flatten)]
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The line in question, if the problem lies in a file that was read.
    pub excerpt: Option<Excerpt>,
}

impl Problem {
    /// The same without control characters in its words: libraries and the system repeat what a
    /// file says, and a file must not steer the terminal.
    fn harmless(mut self) -> Problem {
        self.message = without_control(&self.message);
        self.help = self.help.as_deref().map(without_control);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)?;
        let mut gutter = 1;
        if let (Some(excerpt), Place::File { line, .. }) = (&self.excerpt, &self.place) {
            gutter = line.to_string().len();
            let marks = "^".repeat(excerpt.width);
            let blank = " ".repeat(gutter);
            write!(f, "\n{blank} |\n{line} | {}", excerpt.text)?;
            write!(f, "\n{blank} | {}{marks}", " ".repeat(excerpt.start))?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n{} = help: {help}", " ".repeat(gutter))?;
        }
        Ok(())
    }
}

/// Everything that is wrong, in the order of the file; never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// `Ok` if there are none.
    ///
    /// # Errors
    /// The problems, in the order of their places, each once.
    pub(crate) fn check(mut problems: Vec<Problem>) -> Result<(), Problems> {
        let key = |problem: &Problem| match &problem.place {
            Place::File { file, line, column } => (0, file.clone(), *line, *column),
            Place::WholeFile { file } => (0, file.clone(), 0, 0),
            Place::Option { .. } => (1, String::new(), 0, 0),
        };
        problems.sort_by_key(key);
        problems.dedup_by(|a, b| a.place == b.place && a.message == b.message);
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Problems(
                problems.into_iter().map(Problem::harmless).collect(),
            ))
        }
    }

    /// The problems.
    #[must_use]
    pub fn as_slice(&self) -> &[Problem] {
        &self.0
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Problems {
        Problems(vec![problem.harmless()])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The text of a file with its name, so that places in it can be named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceText {
    pub(crate) file: String,
    pub(crate) text: String,
}

impl SourceText {
    /// The place and excerpt of a byte range. A range that spans lines is cut at its first.
    pub(crate) fn locate(&self, range: &Range<usize>) -> (Place, Option<Excerpt>) {
        let mut start = range.start.min(self.text.len());
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        let line_start = self.text[..start]
            .rfind('\n')
            .map_or(0, |newline| newline + 1);
        let line_end = self.text[start..]
            .find('\n')
            .map_or(self.text.len(), |newline| start + newline);
        let line = self.text[..line_start].matches('\n').count() + 1;
        let before = self.text[line_start..start].chars().count();
        let mut end = range.end.clamp(start, line_end);
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let place = Place::File {
            file: self.file.clone(),
            line,
            column: before + 1,
        };
        let width = self.text[start..end].chars().count().max(1);
        (place, self.excerpt(line_start..line_end, before, width))
    }

    /// The place of a character of a line, both counted from 1, up to the next comma.
    pub(crate) fn locate_character(&self, line: usize, column: usize) -> (Place, Option<Excerpt>) {
        let place = Place::File {
            file: self.file.clone(),
            line,
            column,
        };
        let Some(text) = self.text.lines().nth(line.saturating_sub(1)) else {
            return (place, None);
        };
        let start = column.saturating_sub(1).min(text.chars().count());
        let width = text
            .chars()
            .skip(start)
            .take_while(|c| *c != ',')
            .count()
            .max(1);
        (
            place,
            Some(Excerpt {
                text: printable(text),
                start,
                width,
            }),
        )
    }

    fn excerpt(&self, line: Range<usize>, start: usize, width: usize) -> Option<Excerpt> {
        let text = self.text.get(line)?;
        (!text.trim().is_empty()).then(|| Excerpt {
            text: printable(text),
            start,
            width,
        })
    }
}

/// The text with every control character as one space, so that columns stay true and a file
/// cannot steer the terminal.
fn printable(text: &str) -> String {
    text.trim_end_matches('\r')
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// The text with every control character but the newline written out.
fn without_control(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// What a user wrote, in backticks, cut short and without control characters.
pub(crate) fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut shown: String = text.chars().take(LONGEST).collect();
    if text.chars().count() > LONGEST {
        shown.push_str("...");
    }
    let shown = without_control(&shown).replace('\n', "\\n");
    format!("`{shown}`")
}

/// Names in backticks, separated by commas.
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(quoted).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// The candidate that `name` was most likely meant to be.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (edits(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many characters must be inserted, deleted, replaced or swapped with their neighbour
/// (optimal string alignment distance).
fn edits(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_finds_the_one_that_was_meant() {
        assert_eq!(
            nearest("cpu_qouta", ["cpus", "cpu_quota", "cpu_period"]),
            Some("cpu_quota")
        );
        assert_eq!(nearest("x", ["cpus", "cpu_quota"]), None);
    }

    #[test]
    fn a_place_counts_characters_and_the_excerpt_cannot_steer_the_terminal() {
        let source = SourceText {
            file: "a.toml".into(),
            text: "x = 1\nä\t\u{1b}= \"é\"\n".into(),
        };
        let start = source.text.find('"').unwrap();
        let (place, excerpt) = source.locate(&(start..start + 4));
        assert_eq!(place.to_string(), "a.toml:2:6");
        assert_eq!(
            excerpt.unwrap(),
            Excerpt {
                text: "ä  = \"é\"".into(),
                start: 5,
                width: 3
            }
        );
    }
}
