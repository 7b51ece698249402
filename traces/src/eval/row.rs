//! A row as a model sees it: the values of its columns by name.

use std::cell::Cell;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::{EvalError, Input, Options, Without};

/// The values of one row in the columns that a model reads, defaults filled in.
#[derive(Debug)]
pub struct Row<'a> {
    inputs: &'a [Input],
    /// One per input; empty where there is none.
    cells: &'a [String],
    extrapolated: &'a Cell<bool>,
}

impl<'a> Row<'a> {
    pub(super) const fn new(
        inputs: &'a [Input],
        cells: &'a [String],
        extrapolated: &'a Cell<bool>,
    ) -> Row<'a> {
        Row {
            inputs,
            cells,
            extrapolated,
        }
    }

    /// The text in a column, if there is any.
    #[must_use]
    pub fn cell(&self, column: &str) -> Option<&'a str> {
        let at = self.inputs.iter().position(|input| input.name == column)?;
        let cell = self.cells.get(at)?;
        (!cell.is_empty()).then_some(cell.as_str())
    }

    /// The text in a column.
    ///
    /// # Errors
    /// There is none.
    pub fn text(&self, column: &'static str) -> Result<&'a str, EvalError> {
        self.cell(column).ok_or_else(|| {
            let input = self.inputs.iter().find(|input| input.name == column);
            let why = match input.map(|input| input.without) {
                Some(Without::RefusedWhere(rows)) => format!("the row needs it ({rows})"),
                _ => "the row needs it".to_owned(),
            };
            EvalError::Absent { column, why }
        })
    }

    /// The number in a column.
    ///
    /// # Errors
    /// There is none, or it is no finite number.
    pub fn number(&self, column: &'static str) -> Result<f64, EvalError> {
        let text = self.text(column)?;
        number(text).ok_or_else(|| EvalError::value(column, text, "a finite number"))
    }

    /// The number in a column, which must be above zero.
    ///
    /// # Errors
    /// There is none, or it is no finite number above zero.
    pub fn positive(&self, column: &'static str) -> Result<f64, EvalError> {
        let value = self.number(column)?;
        if value > 0.0 {
            return Ok(value);
        }
        Err(EvalError::value(
            column,
            self.text(column)?,
            "a number above 0",
        ))
    }

    /// The number in a column, which must not be below zero.
    ///
    /// # Errors
    /// There is none, or it is no finite number of at least zero.
    pub fn not_negative(&self, column: &'static str) -> Result<f64, EvalError> {
        let value = self.number(column)?;
        if value >= 0.0 {
            return Ok(value);
        }
        Err(EvalError::value(
            column,
            self.text(column)?,
            "a number of at least 0",
        ))
    }

    /// The whole number in a column; `5` and `5.0` are the same.
    ///
    /// # Errors
    /// There is none, or it is no whole number from 0 to 2^32 - 1.
    pub fn whole(&self, column: &'static str) -> Result<u32, EvalError> {
        let value = self.number(column)?;
        let nearest = libm::round(value).clamp(0.0, f64::from(u32::MAX));
        if (nearest - value).abs() == 0.0 {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "clamped to u32 and whole"
            )]
            return Ok(nearest as u32);
        }
        Err(EvalError::value(
            column,
            self.text(column)?,
            "a whole number of at least 0",
        ))
    }

    /// The numbers in a column, separated by spaces; at least one.
    ///
    /// # Errors
    /// There is none, or one of them is no finite number.
    pub fn numbers(&self, column: &'static str) -> Result<Vec<f64>, EvalError> {
        let text = self.text(column)?;
        let values: Option<Vec<f64>> = text.split_whitespace().map(number).collect();
        values.ok_or_else(|| EvalError::value(column, text, "finite numbers, separated by spaces"))
    }

    /// What the name in a column stands for.
    ///
    /// # Errors
    /// There is none, or the name stands for nothing.
    pub fn name<T>(&self, column: &'static str) -> Result<T, EvalError>
    where
        T: FromStr,
        T::Err: ToString,
    {
        let text = self.text(column)?;
        text.parse::<T>()
            .map_err(|error| EvalError::value(column, text, error.to_string()))
    }

    /// Whether a number lies where the model's source covers it. Outside it is an error, or with
    /// [`Options::extrapolate`] marks the row as extrapolated.
    ///
    /// # Errors
    /// It lies outside, and nothing is to be extrapolated. `whose` says whose range it is.
    pub fn within(
        &self,
        options: &Options,
        quantity: &str,
        value: f64,
        range: RangeInclusive<f64>,
        whose: &str,
    ) -> Result<(), EvalError> {
        if range.contains(&value) {
            return Ok(());
        }
        let expected = format!("{} to {} ({whose})", range.start(), range.end());
        self.outside(options, quantity, value, expected)
    }

    /// Refuses a value outside what the model's source covers, or with [`Options::extrapolate`]
    /// marks the row as extrapolated.
    ///
    /// # Errors
    /// Nothing is to be extrapolated.
    pub fn outside(
        &self,
        options: &Options,
        quantity: &str,
        value: impl Display + Copy,
        expected: String,
    ) -> Result<(), EvalError> {
        if options.extrapolate {
            self.extrapolated.set(true);
            return Ok(());
        }
        Err(EvalError::OutOfRange {
            quantity: quantity.to_owned(),
            value: value.to_string(),
            expected,
        })
    }
}

/// A finite number.
fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| value.is_finite())
}
