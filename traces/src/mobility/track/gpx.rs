//! Tracks as GPX: the `trkpt` elements in order, each with `lat`, `lon` and a `time`.
//!
//! Only what a track needs of XML is read: tags, attributes, comments and text. Degrees become
//! metres on a plane that touches a sphere of radius 6371 km at the first point, which is right to
//! 0.1 % within 100 km of it away from the poles.

use super::{Fix, MOST_POINTS, Point, TrackError, number, shortened};

const EARTH_RADIUS_M: f64 = 6_371_000.0;

pub(super) fn parse(text: &str, height_m: f64) -> Result<Vec<Fix>, TrackError> {
    let mut reader = Reader { text, at: 0 };
    let mut fixes: Vec<Fix> = Vec::new();
    let mut open: Option<OpenPoint> = None;
    let mut origin: Option<(f64, f64)> = None;
    let mut seen_gpx = false;
    while let Some(tag) = reader.next_tag()? {
        match tag.name {
            "gpx" => seen_gpx = true,
            "trkpt" => {
                if let Some(point) = &open {
                    return Err(point.without_time(text));
                }
                let attribute = |name| degrees(text, &tag, name);
                let (latitude, longitude) = (attribute("lat")?, attribute("lon")?);
                open = Some(OpenPoint {
                    latitude,
                    longitude,
                    at: tag.at,
                });
                if tag.closes_itself {
                    return Err(OpenPoint::new(latitude, longitude, tag.at).without_time(text));
                }
            }
            "/trkpt" => {
                if let Some(point) = &open {
                    return Err(point.without_time(text));
                }
            }
            "time" => {
                if let Some(point) = open.take() {
                    let written = reader.text_until_tag();
                    let (line, column) = place(text, tag.at);
                    let t_s = seconds(written).ok_or_else(|| TrackError {
                        line,
                        column,
                        problem: format!(
                            "`{}` is not a time like `2026-01-31T12:00:00.5Z`",
                            shortened(written)
                        ),
                    })?;
                    if fixes.len() == MOST_POINTS {
                        return Err(TrackError {
                            line,
                            column,
                            problem: format!("the track has more than {MOST_POINTS} points"),
                        });
                    }
                    let origin = *origin.get_or_insert((point.latitude, point.longitude));
                    let (line, column) = place(text, point.at);
                    fixes.push(Fix {
                        t_s,
                        position: project(&point, origin, height_m),
                        line,
                        column,
                    });
                }
            }
            _ => {}
        }
    }
    if seen_gpx {
        Ok(fixes)
    } else {
        Err(TrackError {
            line: 1,
            column: 1,
            problem: "there is no <gpx> element; this is not a GPX file".to_owned(),
        })
    }
}

/// A track point whose time has not been read yet.
struct OpenPoint {
    latitude: f64,
    longitude: f64,
    at: usize,
}

impl OpenPoint {
    const fn new(latitude: f64, longitude: f64, at: usize) -> OpenPoint {
        OpenPoint {
            latitude,
            longitude,
            at,
        }
    }

    fn without_time(&self, text: &str) -> TrackError {
        let (line, column) = place(text, self.at);
        TrackError {
            line,
            column,
            problem: "the track point has no <time>; it cannot be played".to_owned(),
        }
    }
}

fn project(point: &OpenPoint, (latitude, longitude): (f64, f64), height_m: f64) -> Point {
    // The way around the date line is never the short one.
    let mut east = point.longitude - longitude;
    if east > 180.0 {
        east -= 360.0;
    } else if east < -180.0 {
        east += 360.0;
    }
    let metres = |degrees: f64| EARTH_RADIUS_M * degrees.to_radians();
    Point::new(
        metres(east) * libm::cos(latitude.to_radians()),
        metres(point.latitude - latitude),
        height_m,
    )
}

fn degrees(text: &str, tag: &Tag<'_>, name: &str) -> Result<f64, TrackError> {
    let (line, column) = place(text, tag.at);
    let written = tag.attribute(name).ok_or_else(|| TrackError {
        line,
        column,
        problem: format!("the track point has no `{name}`"),
    })?;
    let value = number(written, "number of degrees", line, column)?;
    let most = if name == "lat" { 90.0 } else { 180.0 };
    if value.abs() > most {
        return Err(TrackError {
            line,
            column,
            problem: format!("`{name}` is {value}; expected -{most} to {most} degrees"),
        });
    }
    Ok(value)
}

/// Line and column of a byte of the text, both counted from 1, in characters.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or_default();
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (line, before[start..].chars().count() + 1)
}

struct Tag<'a> {
    name: &'a str,
    attributes: &'a str,
    at: usize,
    closes_itself: bool,
}

impl<'a> Tag<'a> {
    /// The value of an attribute: `name="value"` or with single quotes.
    fn attribute(&self, name: &str) -> Option<&'a str> {
        let mut rest = self.attributes;
        loop {
            let (key, after) = rest.split_once('=')?;
            let after = after.trim_start();
            let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''))?;
            let (value, next) = after[1..].split_once(quote)?;
            if key.trim() == name {
                return Some(value);
            }
            rest = next;
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    /// The next start or end tag; comments, declarations and character data are passed over.
    fn next_tag(&mut self) -> Result<Option<Tag<'a>>, TrackError> {
        loop {
            let Some(offset) = self.text[self.at..].find('<') else {
                return Ok(None);
            };
            let at = self.at + offset;
            let rest = &self.text[at..];
            for (opening, closing) in [("<!--", "-->"), ("<![CDATA[", "]]>")] {
                if rest.starts_with(opening) {
                    let end = rest.find(closing).ok_or_else(|| self.unclosed(at))?;
                    self.at = at + end + closing.len();
                }
            }
            if self.at > at {
                continue;
            }
            let end = rest.find('>').ok_or_else(|| self.unclosed(at))?;
            self.at = at + end + 1;
            let inner = &rest[1..end];
            if inner.starts_with(['?', '!']) {
                continue;
            }
            let closes_itself = inner.ends_with('/');
            let inner = inner.strip_suffix('/').unwrap_or(inner);
            let split = inner
                .find(|c: char| c.is_ascii_whitespace())
                .unwrap_or(inner.len());
            let (name, attributes) = inner.split_at(split);
            return Ok(Some(Tag {
                name,
                attributes,
                at,
                closes_itself,
            }));
        }
    }

    fn unclosed(&self, at: usize) -> TrackError {
        let (line, column) = place(self.text, at);
        TrackError {
            line,
            column,
            problem: "the file ends within a tag or comment".to_owned(),
        }
    }

    fn text_until_tag(&self) -> &'a str {
        let rest = &self.text[self.at..];
        rest[..rest.find('<').unwrap_or(rest.len())].trim()
    }
}

/// Seconds since 1970 of `2026-01-31T12:00:00.5Z`, also with an offset such as `+02:00`.
fn seconds(text: &str) -> Option<f64> {
    let (date, time) = text.split_once('T')?;
    let mut parts = date.splitn(3, '-');
    let mut part = |length: usize| -> Option<i64> {
        let digits = parts.next()?;
        (digits.len() == length && digits.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| digits.parse().ok())
            .flatten()
    };
    let (year, month, day) = (part(4)?, part(2)?, part(2)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (clock, offset_s) = split_zone(time)?;
    let mut parts = clock.splitn(3, ':');
    let hour: u32 = parts.next()?.parse().ok()?;
    let minute: u32 = parts.next()?.parse().ok()?;
    let second: f64 = parts.next()?.parse().ok()?;
    if hour > 23 || minute > 59 || !(0.0..61.0).contains(&second) {
        return None;
    }
    let days = i32::try_from(days_since_1970(year, month, day)).ok()?;
    let of_day = f64::from(hour * 3600 + minute * 60) + second;
    Some(f64::from(days) * 86_400.0 + of_day - offset_s)
}

/// The time of day and the zone's offset in seconds.
fn split_zone(time: &str) -> Option<(&str, f64)> {
    if let Some(clock) = time.strip_suffix('Z') {
        return Some((clock, 0.0));
    }
    let Some(at) = time.rfind(['+', '-']) else {
        return Some((time, 0.0));
    };
    let (hours, minutes) = time[at + 1..].split_once(':')?;
    let (hours, minutes): (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
    if hours > 14 || minutes > 59 {
        return None;
    }
    let offset_s = f64::from(hours * 3600 + minutes * 60);
    let sign = if time.as_bytes()[at] == b'-' {
        -1.0
    } else {
        1.0
    };
    Some((&time[..at], sign * offset_s))
}

/// Days from 1970-01-01 in the Gregorian calendar, for years of four digits.
const fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March, so that the leap day is the last one.
    let (year, month) = if month <= 2 {
        (year - 1, month + 9)
    } else {
        (year, month - 3)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_with_fractions_and_zones() {
        assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0.0));
        assert_eq!(seconds("2000-03-01T00:00:00Z"), Some(951_868_800.0));
        assert_eq!(seconds("2024-02-29T12:34:56.5Z"), Some(1_709_210_096.5));
        assert_eq!(
            seconds("2024-02-29T14:34:56.5+02:00"),
            Some(1_709_210_096.5)
        );
        assert_eq!(
            seconds("2024-02-29T07:34:56.5-05:00"),
            Some(1_709_210_096.5)
        );
        for wrong in [
            "",
            "2024-02-29",
            "2024-13-01T00:00:00Z",
            "24-01-01T00:00:00Z",
            "2024-01-01T25:00:00Z",
            "2024-01-01T00:00:nanZ",
        ] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
