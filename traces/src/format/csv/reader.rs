//! Reading trace text row by row.

use std::io::{BufRead, Read as _};

use super::super::metadata;
use super::header::{Header, Place, fields, parse_row, plain_row, time_problem};
use crate::{TraceError, TraceMetadata, TraceRow};

/// The longest line that is read: 4 MiB, so that a file without line ends fills no memory.
const LONGEST_LINE_BYTES: usize = 4 << 20;

/// Reads a trace row by row from text. Memory does not grow with the number of rows.
#[derive(Debug)]
pub struct CsvReader<R> {
    lines: Lines<R>,
    metadata: TraceMetadata,
    header: Header,
    previous_ns: Option<u64>,
    /// The last line that held something.
    last_line: usize,
}

impl<R: BufRead> CsvReader<R> {
    /// Reads the metadata and the header.
    ///
    /// # Errors
    /// One of them is missing or wrong, with line and column; or `source` cannot be read.
    pub fn new(source: R) -> Result<CsvReader<R>, TraceError> {
        let mut lines = Lines::new(source);
        let mut metadata: Option<TraceMetadata> = None;
        let mut last_line = 1;
        while let Some(place) = lines.next_line()? {
            if place.text.trim().is_empty() {
                continue;
            }
            last_line = place.line;
            if let Some(comment) = place.text.strip_prefix('#') {
                if metadata.is_none() && comment.trim_start().starts_with('{') {
                    metadata = Some(parse_metadata(place, comment)?);
                }
                continue;
            }
            let Some(metadata) = metadata else {
                return Err(place.error(
                    0,
                    "expected the metadata first: a line `# {\"schema\":2,...}` as `hexloop \
                     trace gen` writes it",
                ));
            };
            return Ok(CsvReader {
                header: Header::parse(place)?,
                lines,
                metadata,
                previous_ns: None,
                last_line,
            });
        }
        Err(match metadata {
            None => at_end(
                last_line,
                "expected the metadata: a line `# {\"schema\":2,...}`",
            ),
            Some(_) => no_rows(last_line),
        })
    }

    /// What the trace says about itself.
    #[must_use]
    pub const fn metadata(&self) -> &TraceMetadata {
        &self.metadata
    }

    /// The next row; `None` after the last.
    ///
    /// # Errors
    /// The first mistake, with its line, its column and what was expected there.
    pub fn next_row(&mut self) -> Result<Option<TraceRow>, TraceError> {
        loop {
            let Some(bytes) = self.lines.next_bytes()? else {
                return match self.previous_ns {
                    Some(_) => Ok(None),
                    None => Err(no_rows(self.last_line)),
                };
            };
            if bytes.first() == Some(&b'#') {
                self.last_line = self.lines.line;
                continue;
            }
            let row = match plain_row(bytes, &self.header.columns) {
                Some(row) => row,
                None => {
                    let place = self.lines.place()?;
                    if place.text.trim().is_empty() {
                        continue;
                    }
                    parse_row(place, &self.header.columns)?
                }
            };
            self.last_line = self.lines.line;
            let duration_ns = self.metadata.duration_ns;
            if let Some(problem) = time_problem(self.previous_ns, row.t_ns, duration_ns) {
                let place = self.lines.place()?;
                let time = fields(place.text).nth(self.header.time);
                return Err(place.error(time.map_or(0, |(offset, _)| offset), problem));
            }
            if let Some((name, value, expected)) = row.impossible() {
                let place = self.lines.place()?;
                let mut columns = self.header.columns.iter();
                let at = columns.position(|column| column.name() == name);
                let field = at.and_then(|at| fields(place.text).nth(at));
                let problem = format!("{name} is `{value}`; expected {expected}");
                return Err(place.error(field.map_or(0, |(offset, _)| offset), problem));
            }
            self.previous_ns = Some(row.t_ns);
            return Ok(Some(row));
        }
    }
}

fn parse_metadata(place: Place<'_>, comment: &str) -> Result<TraceMetadata, TraceError> {
    let json = comment.trim_start();
    let start = place.text.len() - json.len();
    metadata::from_json(json).map_err(|(at, problem)| place.error(start + at, problem))
}

fn at_end(last_line: usize, problem: &str) -> TraceError {
    TraceError::Syntax {
        line: last_line,
        column: 1,
        problem: problem.to_owned(),
    }
}

fn no_rows(last_line: usize) -> TraceError {
    at_end(
        last_line,
        "expected a header row and at least one row of data after this",
    )
}

/// The lines of a text, one at a time.
#[derive(Debug)]
struct Lines<R> {
    source: R,
    /// The current line, without its end.
    current: Vec<u8>,
    /// Its number, counted from 1.
    line: usize,
}

impl<R: BufRead> Lines<R> {
    const fn new(source: R) -> Lines<R> {
        Lines {
            source,
            current: Vec::new(),
            line: 0,
        }
    }

    fn next_bytes(&mut self) -> Result<Option<&[u8]>, TraceError> {
        self.current.clear();
        let limit = u64::try_from(LONGEST_LINE_BYTES).unwrap_or(u64::MAX);
        let read = (&mut self.source)
            .take(limit)
            .read_until(b'\n', &mut self.current)
            .map_err(|source| TraceError::Stream {
                action: "read",
                source,
            })?;
        if read == 0 {
            return Ok(None);
        }
        self.line += 1;
        if self.current.last() == Some(&b'\n') {
            self.current.pop();
        } else if read >= LONGEST_LINE_BYTES {
            return Err(TraceError::Syntax {
                line: self.line,
                column: 1,
                problem: format!(
                    "the line is longer than {LONGEST_LINE_BYTES} bytes; expected a trace file \
                     (commented CSV)"
                ),
            });
        }
        if self.current.last() == Some(&b'\r') {
            self.current.pop();
        }
        if self.line == 1 && self.current.starts_with("\u{feff}".as_bytes()) {
            self.current.drain(..3);
        }
        Ok(Some(&self.current))
    }

    fn next_line(&mut self) -> Result<Option<Place<'_>>, TraceError> {
        if self.next_bytes()?.is_none() {
            return Ok(None);
        }
        self.place().map(Some)
    }

    /// The current line as text.
    fn place(&self) -> Result<Place<'_>, TraceError> {
        match std::str::from_utf8(&self.current) {
            Ok(text) => Ok(Place {
                line: self.line,
                text,
            }),
            Err(error) => {
                let good = String::from_utf8_lossy(&self.current[..error.valid_up_to()]);
                Err(TraceError::Syntax {
                    line: self.line,
                    column: good.chars().count() + 1,
                    problem: "not UTF-8 text; expected a trace file (commented CSV)".to_owned(),
                })
            }
        }
    }
}
