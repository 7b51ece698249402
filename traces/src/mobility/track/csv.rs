//! Tracks as CSV: a header with `t,x,y,z`, then rows in seconds and metres; `#` starts a comment.

use super::{Fix, MOST_POINTS, Point, TrackError, number, shortened};

/// Where each column stands.
struct Columns {
    t: usize,
    x: usize,
    y: usize,
    z: Option<usize>,
    count: usize,
}

pub(super) fn parse(text: &str, height_m: f64) -> Result<Vec<Fix>, TrackError> {
    let mut columns: Option<Columns> = None;
    let mut fixes = Vec::new();
    for (index, row) in text.lines().enumerate() {
        let line = index + 1;
        let row = row.strip_prefix('\u{feff}').unwrap_or(row);
        if row.trim().is_empty() || row.trim_start().starts_with('#') {
            continue;
        }
        let Some(columns) = &columns else {
            columns = Some(header(row, line)?);
            continue;
        };
        if fixes.len() == MOST_POINTS {
            return Err(error(
                line,
                1,
                format!("the track has more than {MOST_POINTS} points"),
            ));
        }
        fixes.push(fix(row, line, columns, height_m)?);
    }
    match columns {
        Some(_) => Ok(fixes),
        None => Err(error(
            1,
            1,
            "the file is empty; expected a header `t,x,y,z`".to_owned(),
        )),
    }
}

const fn error(line: usize, column: usize, problem: String) -> TrackError {
    TrackError {
        line,
        column,
        problem,
    }
}

/// The cells of a row, each with the column of its first character.
fn cells(row: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut column = 1;
    row.split(',').map(move |cell| {
        let start = column;
        column += cell.chars().count() + 1;
        (start, cell.trim())
    })
}

fn header(row: &str, line: usize) -> Result<Columns, TrackError> {
    let names: Vec<&str> = cells(row).map(|(_, name)| name).collect();
    let find = |wanted: &str| names.iter().position(|name| *name == wanted);
    let need = |wanted: &str| {
        find(wanted).ok_or_else(|| {
            let problem = format!(
                "the header `{}` has no column `{wanted}`; expected `t,x,y,z` in seconds and metres",
                shortened(row)
            );
            error(line, 1, problem)
        })
    };
    Ok(Columns {
        t: need("t")?,
        x: need("x")?,
        y: need("y")?,
        z: find("z"),
        count: names.len(),
    })
}

fn fix(row: &str, line: usize, columns: &Columns, height_m: f64) -> Result<Fix, TrackError> {
    let found: Vec<(usize, &str)> = cells(row).collect();
    if found.len() != columns.count {
        let problem = format!(
            "the row has {} cells, the header {}",
            found.len(),
            columns.count
        );
        return Err(error(line, 1, problem));
    }
    let value = |at: usize, what: &str| {
        let (column, text) = found[at];
        number(text, what, line, column)
    };
    Ok(Fix {
        t_s: value(columns.t, "time in seconds")?,
        position: Point::new(
            value(columns.x, "length in metres")?,
            value(columns.y, "length in metres")?,
            match columns.z {
                Some(at) => value(at, "height in metres")?,
                None => height_m,
            },
        ),
        line,
        column: found[columns.t].0,
    })
}
