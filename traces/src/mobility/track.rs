//! A recorded track: CSV with the columns `t,x,y,z`, or GPX.

mod csv;
mod gpx;

use super::{Motion, Point};

/// The most points of a track: each is 40 bytes in memory.
const MOST_POINTS: usize = 2_000_000;

/// What cannot be read in a recorded track.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {problem}")]
pub struct TrackError {
    /// Line in the file, counted from 1.
    pub line: usize,
    /// Character in the line, counted from 1.
    pub column: usize,
    /// What is wrong and what was expected.
    pub problem: String,
}

/// How a track is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackFormat {
    /// A header `t,x,y,z` (any order; `z` may be missing) and rows in seconds and metres.
    Csv,
    /// GPX 1.0 or 1.1: track points with times, of one track or several after each other.
    Gpx,
}

impl TrackFormat {
    /// The format of a file of that name: GPX for `.gpx`, else CSV.
    #[must_use]
    pub fn of_file(name: &str) -> TrackFormat {
        let extension = name.rsplit_once('.').map(|(_, extension)| extension);
        match extension {
            Some(extension) if extension.eq_ignore_ascii_case("gpx") => TrackFormat::Gpx,
            _ => TrackFormat::Csv,
        }
    }
}

/// One point of a track, with the place in its file for errors.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Fix {
    t_s: f64,
    position: Point,
    line: usize,
    column: usize,
}

/// A recorded way: straight between its points, at rest after the last one.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedTrack {
    /// Moment since the first point, place, and way until there.
    points: Vec<(f64, Point, f64)>,
}

impl RecordedTrack {
    /// Reads a track. Points without a height get `height_m`; GPX heights are replaced by it, for
    /// they are above the sea and not above the ground.
    ///
    /// # Errors
    /// Text that is not such a track, a number that is not finite, time that does not increase,
    /// fewer than two points, more than two million, each with line and column.
    pub fn parse(
        text: &str,
        format: TrackFormat,
        height_m: f64,
    ) -> Result<RecordedTrack, TrackError> {
        let fixes = match format {
            TrackFormat::Csv => csv::parse(text, height_m)?,
            TrackFormat::Gpx => gpx::parse(text, height_m)?,
        };
        let whole = |problem: String| TrackError {
            line: 1,
            column: 1,
            problem,
        };
        let Some(first) = fixes.first().copied() else {
            return Err(whole("the track has no points".to_owned()));
        };
        if fixes.len() < 2 {
            return Err(whole(
                "the track has one point; a way needs two or more".to_owned(),
            ));
        }
        let mut points = Vec::with_capacity(fixes.len());
        let mut before = first;
        let mut way_m = 0.0;
        for (index, fix) in fixes.iter().enumerate() {
            if index > 0 && fix.t_s <= before.t_s {
                return Err(TrackError {
                    line: fix.line,
                    column: fix.column,
                    problem: format!(
                        "time goes from {} s to {} s; it must increase from point to point",
                        before.t_s, fix.t_s
                    ),
                });
            }
            way_m += fix.position.minus(before.position).length();
            points.push((fix.t_s - first.t_s, fix.position, way_m));
            before = *fix;
        }
        Ok(RecordedTrack { points })
    }

    /// How long the recording is, in seconds.
    #[must_use]
    pub fn duration_s(&self) -> f64 {
        self.points.last().map_or(0.0, |(t_s, ..)| *t_s)
    }

    pub(super) fn at(&self, t_s: f64) -> Motion {
        let next = self.points.partition_point(|(at_s, ..)| *at_s <= t_s);
        let last = self.points.len() - 1;
        if next > last {
            let (_, position, travelled_m) = self.points[last];
            return Motion {
                position,
                velocity: Point::default(),
                travelled_m,
            };
        }
        let (from_s, from, way_m) = self.points[next.saturating_sub(1)];
        let (to_s, to, _) = self.points[next.max(1)];
        let velocity = to.minus(from).times(1.0 / (to_s - from_s));
        let since_s = t_s - from_s;
        Motion {
            position: from.plus(velocity.times(since_s)),
            velocity,
            travelled_m: way_m + velocity.length() * since_s,
        }
    }
}

/// A finite number, or what is wrong with it.
fn number(text: &str, what: &str, line: usize, column: usize) -> Result<f64, TrackError> {
    text.trim()
        .parse::<f64>()
        .ok()
        .filter(|value| value.is_finite())
        .ok_or_else(|| TrackError {
            line,
            column,
            problem: format!("`{}` is not a {what}", shortened(text)),
        })
}

/// The start of a text that may be long.
fn shortened(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
