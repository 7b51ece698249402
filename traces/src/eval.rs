//! One model at a time, evaluated for every row of a table, so that anybody can check it against
//! a tool of their own.
//!
//! A [`Model`] says which columns it reads and which it appends. To add one, write a
//! `fn(&Row<'_>, &Options) -> Result<Vec<String>, EvalError>`, describe it in the family's
//! `MODELS`, and name the family in [`models`]. [`Evaluation`] does the rest: the header in any
//! order, further columns kept, defaults printed back, errors that name row and column.
//!
//! ```
//! use hexloop_traces::eval::{Evaluation, Options, find};
//!
//! let input = "fc_ghz,scenario,state,d2d_m,h_bs_m,h_ut_m\n3.5,umi,LOS,100,10,1.5\n";
//! let mut rows = Evaluation::new(find("path-loss").unwrap(), Options::default(), input.as_bytes())?;
//! let row = rows.next_row()?.unwrap();
//! assert!(row.last().unwrap().starts_with("85.31"));
//! # Ok::<(), hexloop_traces::eval::TableError>(())
//! ```

mod error;
mod fading;
mod geometry;
mod obstacles;
mod orbit;
mod phy;
mod propagation;
mod row;
mod table;

pub use error::{EvalError, TableError};
pub use row::Row;
pub use table::Evaluation;

use crate::tr38901::{SPEED_OF_LIGHT_M_PER_S, SpecVersion};

/// What holds for all rows of a table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Whose parameter tables hold, where versions differ.
    pub spec: SpecVersion,
    /// Speed of light in m/s.
    pub light_m_per_s: f64,
    /// Whether a formula may be used outside the range that its source gives.
    pub extrapolate: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            spec: SpecVersion::default(),
            light_m_per_s: SPEED_OF_LIGHT_M_PER_S,
            extrapolate: false,
        }
    }
}

/// A column that a model reads.
#[derive(Debug, Clone, Copy)]
pub struct Input {
    /// The column's header.
    pub name: &'static str,
    /// What happens without it.
    pub without: Without,
}

/// What a row without a value in a column means.
#[derive(Debug, Clone, Copy)]
pub enum Without {
    /// The row cannot be evaluated.
    Refused,
    /// Only some rows need it, as the text says; [`Row::number`] refuses those.
    RefusedWhere(&'static str),
    /// That value holds, and is printed back.
    Default(&'static str),
    /// The value that the function finds for the row holds, and is printed back; none where the
    /// column says nothing about such a row. The text says it in words.
    DefaultOfRow(&'static str, fn(&Row<'_>) -> Result<Option<f64>, EvalError>),
}

impl Input {
    /// A column that every row needs.
    #[must_use]
    pub const fn required(name: &'static str) -> Input {
        Input {
            name,
            without: Without::Refused,
        }
    }

    /// A column that some rows need: which.
    #[must_use]
    pub const fn required_where(name: &'static str, rows: &'static str) -> Input {
        Input {
            name,
            without: Without::RefusedWhere(rows),
        }
    }

    /// A column that may be absent or empty, and what then holds.
    #[must_use]
    pub const fn optional(name: &'static str, default: &'static str) -> Input {
        Input {
            name,
            without: Without::Default(default),
        }
    }

    /// A column that may be absent or empty, and what then holds: in words, and as a function of
    /// the columns before it.
    #[must_use]
    pub const fn optional_of_row(
        name: &'static str,
        words: &'static str,
        default: fn(&Row<'_>) -> Result<Option<f64>, EvalError>,
    ) -> Input {
        Input {
            name,
            without: Without::DefaultOfRow(words, default),
        }
    }

    const fn is_printed_back(&self) -> bool {
        matches!(
            self.without,
            Without::Default(_) | Without::DefaultOfRow(..)
        )
    }
}

/// Computes the appended cells of a row.
pub type Evaluate = fn(&Row<'_>, &Options) -> Result<Vec<String>, EvalError>;

/// A model that can be evaluated row by row.
#[derive(Debug, Clone, Copy)]
pub struct Model {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is and whose formula.
    pub about: &'static str,
    /// The columns that it reads.
    pub inputs: &'static [Input],
    /// The columns that it appends.
    pub outputs: &'static [&'static str],
    /// The model itself: one cell per output.
    pub evaluate: Evaluate,
}

/// Every model, by family.
pub fn models() -> impl Iterator<Item = &'static Model> {
    let families = [
        geometry::MODELS, // One family a line.
        obstacles::MODELS,
        propagation::MODELS,
        fading::MODELS,
        orbit::MODELS,
        phy::MODELS,
    ];
    families.into_iter().flatten()
}

/// The model of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Model> {
    models().find(|model| model.name == name)
}

/// A number with as many digits as bring back the same number; zero without a sign.
#[must_use]
pub fn exact(value: f64) -> String {
    (value + 0.0).to_string()
}
