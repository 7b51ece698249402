//! A recording's file and places in it.

use crate::{Source, TraceError};

/// A file to import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recording<'a> {
    /// Its name, for errors and for the trace's provenance.
    pub name: &'a str,
    /// Its text.
    pub text: &'a str,
}

impl<'a> Recording<'a> {
    /// The first of several; an empty one without a name where there is none.
    #[must_use]
    pub fn first(recordings: &[Recording<'a>]) -> Recording<'a> {
        let none = Recording { name: "", text: "" };
        recordings.first().copied().unwrap_or(none)
    }

    /// Its text without the mark of byte order that some programs begin with.
    #[must_use]
    pub fn content(self) -> &'a str {
        self.text.strip_prefix('\u{feff}').unwrap_or(self.text)
    }

    /// The lines with their numbers from 1, without their ends.
    pub fn lines(self) -> impl Iterator<Item = (usize, &'a str)> {
        self.content()
            .lines()
            .zip(1..)
            .map(|(line, number)| (number, line))
    }

    /// A place in it.
    #[must_use]
    pub const fn place(self, line: usize, column: usize) -> Place<'a> {
        Place {
            file: self.name,
            line,
            column,
        }
    }

    /// The place after everything that there is: the last line, first column.
    #[must_use]
    pub fn end(self) -> Place<'a> {
        self.place(self.text.lines().count().max(1), 1)
    }

    /// What the trace says of this file.
    #[must_use]
    pub fn source(self, licence: Option<&str>) -> Source {
        let name = std::path::Path::new(self.name);
        let file = name.file_name().map_or_else(
            || self.name.to_owned(),
            |name| name.to_string_lossy().into_owned(),
        );
        Source {
            file,
            sha256: super::super::sha256_hex(self.text),
            licence: licence.map(str::to_owned),
        }
    }
}

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The file's name.
    pub file: &'a str,
    /// Line, counted from 1.
    pub line: usize,
    /// Character in the line, counted from 1.
    pub column: usize,
}

impl Place<'_> {
    /// What is wrong there.
    #[must_use]
    pub fn error(self, problem: impl Into<String>) -> TraceError {
        TraceError::Recording {
            file: self.file.to_owned(),
            line: self.line,
            column: self.column,
            problem: problem.into(),
        }
    }
}
