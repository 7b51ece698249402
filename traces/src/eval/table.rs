//! A table in, the same table with the model's columns out, row by row.

use std::cell::Cell;
use std::io::Read;

use csv::{ReaderBuilder, StringRecord};

use super::{EvalError, Model, Options, Row, TableError, Without, exact};

/// The name of the column that says which rows were extrapolated.
const EXTRAPOLATED: &str = "extrapolated";

/// A model being evaluated over a table that is read as it goes.
#[derive(Debug)]
pub struct Evaluation<R> {
    model: &'static Model,
    options: Options,
    reader: csv::Reader<R>,
    columns: usize,
    header: Vec<String>,
    /// Where each of the model's inputs stands in the table.
    places: Vec<Option<usize>>,
    record: StringRecord,
    row: u64,
    extrapolated_rows: u64,
}

impl<R: Read> Evaluation<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// There is none, or a column that the model reads stands there twice.
    pub fn new(
        model: &'static Model,
        options: Options,
        input: R,
    ) -> Result<Evaluation<R>, TableError> {
        let mut reader = ReaderBuilder::new().flexible(true).from_reader(input);
        let found = reader
            .headers()
            .map_err(|source| TableError::Csv { row: 0, source })?;
        let mut header: Vec<String> = found.iter().map(str::to_owned).collect();
        if header.iter().all(|name| name.trim().is_empty()) {
            return Err(TableError::Empty);
        }
        let columns = header.len();
        let mut places = Vec::with_capacity(model.inputs.len());
        for input in model.inputs {
            let mut found = (0..columns).filter(|at| header[*at].trim() == input.name);
            let place = found.next();
            if found.next().is_some() {
                return Err(TableError::ColumnTwice { column: input.name });
            }
            places.push(place);
        }
        for (input, place) in model.inputs.iter().zip(&places) {
            if place.is_none() && input.is_printed_back() {
                header.push(input.name.to_owned());
            }
        }
        header.extend(model.outputs.iter().map(|&name| name.to_owned()));
        if options.extrapolate {
            header.push(EXTRAPOLATED.to_owned());
        }
        Ok(Evaluation {
            model,
            options,
            reader,
            columns,
            header,
            places,
            record: StringRecord::new(),
            row: 0,
            extrapolated_rows: 0,
        })
    }

    /// The header of what comes out: the table's own columns, the defaults that it lacks, the
    /// model's results, and with [`Options::extrapolate`] whether the row was extrapolated.
    #[must_use]
    pub fn header(&self) -> &[String] {
        &self.header
    }

    /// How many rows were extrapolated so far.
    #[must_use]
    pub const fn extrapolated_rows(&self) -> u64 {
        self.extrapolated_rows
    }

    /// The next row with the model's results, or `None` at the end.
    ///
    /// # Errors
    /// The row cannot be read or has no result; or there was no row at all.
    pub fn next_row(&mut self) -> Result<Option<Vec<String>>, TableError> {
        let row = self.row + 1;
        let more = self
            .reader
            .read_record(&mut self.record)
            .map_err(|source| TableError::Csv { row, source })?;
        if !more {
            return if self.row == 0 {
                Err(TableError::NoRows)
            } else {
                Ok(None)
            };
        }
        self.row = row;
        let line = self.record.position().map_or(row + 1, csv::Position::line);
        if self.record.len() > self.columns {
            return Err(TableError::TooManyCells {
                row,
                line,
                cells: self.record.len(),
                columns: self.columns,
            });
        }
        self.evaluate()
            .map(Some)
            .map_err(|problem| TableError::Row { row, line, problem })
    }

    fn evaluate(&mut self) -> Result<Vec<String>, EvalError> {
        let extrapolated = Cell::new(false);
        let inputs = self.model.inputs;
        let mut cells: Vec<String> = self
            .places
            .iter()
            .map(|place| place.and_then(|at| self.record.get(at)))
            .map(|cell| cell.unwrap_or_default().trim().to_owned())
            .collect();
        let mut filled = Vec::new();
        for (at, input) in inputs.iter().enumerate() {
            if !cells[at].is_empty() {
                continue;
            }
            match input.without {
                Without::Refused => {
                    let needed = inputs.iter().filter(|input| !input.is_printed_back());
                    let names: Vec<&str> = needed.map(|input| input.name).collect();
                    return Err(EvalError::Absent {
                        column: input.name,
                        why: format!("{} needs {}", self.model.name, names.join(", ")),
                    });
                }
                Without::RefusedWhere(_) => {}
                Without::Default(value) => {
                    cells[at] = value.to_owned();
                    filled.push(at);
                }
                Without::DefaultOfRow(_, default) => {
                    let value = default(&Row::new(inputs, &cells, &extrapolated))?;
                    cells[at] = value.map(exact).unwrap_or_default();
                    filled.push(at);
                }
            }
        }
        let results =
            (self.model.evaluate)(&Row::new(inputs, &cells, &extrapolated), &self.options)?;
        for (cell, output) in results.iter().zip(self.model.outputs) {
            if cell.parse().is_ok_and(|value: f64| !value.is_finite()) {
                let problem = format!(
                    "{} has no finite {output} for these values",
                    self.model.name
                );
                return Err(EvalError::Combination(problem));
            }
        }
        self.extrapolated_rows += u64::from(extrapolated.get());

        let mut out: Vec<String> = self.record.iter().map(str::to_owned).collect();
        out.resize(self.columns, String::new());
        for (at, input) in inputs.iter().enumerate() {
            match self.places[at] {
                Some(place) if filled.contains(&at) => out[place].clone_from(&cells[at]),
                None if input.is_printed_back() => out.push(cells[at].clone()),
                _ => {}
            }
        }
        out.extend(results);
        if self.options.extrapolate {
            out.push(extrapolated.get().to_string());
        }
        Ok(out)
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "fuzz_tests.rs"]
mod fuzz;
