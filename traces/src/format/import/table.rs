//! Tables in text: records of fields, each with its place.

use super::{Place, Recording};
use crate::TraceError;

/// What separates the fields of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delimiter {
    /// A comma; fields may stand in double quotes.
    Comma,
    /// A semicolon; fields may stand in double quotes.
    Semicolon,
    /// Blanks and tabs, any number of them.
    Blank,
}

/// One field and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell<'a> {
    /// Its text, without blanks and quotes around it.
    pub text: &'a str,
    /// Its first character.
    pub place: Place<'a>,
}

impl Cell<'_> {
    /// What is wrong with it; its text is put in front.
    #[must_use]
    pub fn error(&self, problem: impl std::fmt::Display) -> TraceError {
        let shown: String = self.text.chars().take(40).collect();
        self.place.error(format!("`{shown}`: {problem}"))
    }
}

/// One line's fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its first character.
    pub place: Place<'a>,
    /// Its fields.
    pub cells: Vec<Cell<'a>>,
}

impl<'a> Record<'a> {
    /// A field by its index from 0.
    ///
    /// # Errors
    /// The record is too short; `name` says what was expected.
    pub fn cell(&self, index: usize, name: &str) -> Result<Cell<'a>, TraceError> {
        self.cells.get(index).copied().ok_or_else(|| {
            let count = self.cells.len();
            self.place.error(format!(
                "the row has {count} fields; expected {name} as field {}",
                index + 1
            ))
        })
    }
}

/// The records of a recording: one per line that is not blank.
pub fn records(recording: Recording<'_>, delimiter: Delimiter) -> impl Iterator<Item = Record<'_>> {
    recording
        .lines()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(move |(number, line)| split(recording, number, line, delimiter))
}

fn split<'a>(
    recording: Recording<'a>,
    number: usize,
    line: &'a str,
    delimiter: Delimiter,
) -> Record<'a> {
    let mut cells = Vec::new();
    let mut columns = Columns::new(line);
    let mut cell = |start: usize, text: &'a str| {
        let trimmed = text.trim();
        let start = start + (text.len() - text.trim_start().len());
        let bare = trimmed
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        cells.push(Cell {
            text: bare.map_or(trimmed, str::trim),
            place: recording.place(number, columns.of(start)),
        });
    };
    match delimiter {
        Delimiter::Blank => {
            let mut offset = 0;
            for word in line.split([' ', '\t']) {
                if !word.trim().is_empty() {
                    cell(offset, word);
                }
                offset += word.len() + 1;
            }
        }
        Delimiter::Comma | Delimiter::Semicolon => {
            let mark = if delimiter == Delimiter::Comma {
                b','
            } else {
                b';'
            };
            let mut start = 0;
            let mut quoted = false;
            for (at, byte) in line.bytes().enumerate() {
                match byte {
                    b'"' => quoted = !quoted,
                    _ if byte == mark && !quoted => {
                        cell(start, &line[start..at]);
                        start = at + 1;
                    }
                    _ => {}
                }
            }
            cell(start, &line[start..]);
        }
    }
    Record {
        place: recording.place(number, 1),
        cells,
    }
}

/// Characters up to byte offsets that only grow.
struct Columns<'a> {
    line: &'a str,
    offset: usize,
    characters: usize,
}

impl<'a> Columns<'a> {
    const fn new(line: &'a str) -> Columns<'a> {
        Columns {
            line,
            offset: 0,
            characters: 0,
        }
    }

    /// The character at a byte offset, counted from 1.
    fn of(&mut self, offset: usize) -> usize {
        let between = self.line.get(self.offset..offset).unwrap_or_default();
        self.characters += between.chars().count();
        self.offset = self.offset.max(offset);
        self.characters + 1
    }
}

/// A table whose first record names its columns.
#[derive(Debug, Clone)]
pub struct Table<'a> {
    recording: Recording<'a>,
    delimiter: Delimiter,
    header: Record<'a>,
}

impl<'a> Table<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// The file is empty.
    pub fn new(recording: Recording<'a>, delimiter: Delimiter) -> Result<Table<'a>, TraceError> {
        let header = records(recording, delimiter).next();
        let header = header.ok_or_else(|| {
            let place = recording.place(1, 1);
            place.error("the file is empty; expected a header row and rows of data")
        })?;
        Ok(Table {
            recording,
            delimiter,
            header,
        })
    }

    /// The names of its columns.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.header.cells.iter().map(|cell| cell.text)
    }

    /// The index of a column, if it is there.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<usize> {
        self.names().position(|known| known == name)
    }

    /// The index of a column.
    ///
    /// # Errors
    /// There is none of that name; the error lists those that there are.
    pub fn column(&self, name: &str) -> Result<usize, TraceError> {
        self.find(name).ok_or_else(|| {
            let names: Vec<String> = self
                .names()
                .take(60)
                .map(|name| name.chars().take(40).collect())
                .collect();
            self.header.place.error(format!(
                "column `{name}` is missing; the columns are {}",
                names.join(", ")
            ))
        })
    }

    /// The records after the header.
    pub fn records(&self) -> impl Iterator<Item = Record<'a>> {
        records(self.recording, self.delimiter).skip(1)
    }

    /// Where the table ends.
    #[must_use]
    pub fn end(&self) -> Place<'a> {
        self.recording.end()
    }
}
