//! Charts of braille dots, two by four in a character.

use std::fmt::Write as _;

use super::overview::{Group, Overview, Series};
use crate::format::{count_to_f64, grouped, ns_to_s, trimmed};

/// The fewest and the most characters of a line.
pub(super) const NARROWEST: usize = 40;
pub(super) const WIDEST: usize = 400;

/// Characters left of a chart.
const MARGIN: usize = 11;

/// Lines of a chart.
const LINES: usize = 5;

/// Dots of a character from the top, left and right, as bits of U+2800.
const DOTS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

/// The colours of downlink, uplink and what is neither.
const COLOURS: [&str; 3] = ["\u{1b}[36m", "\u{1b}[33m", "\u{1b}[32m"];
const PLAIN: &str = "\u{1b}[0m";

/// The points that charts of this width show.
pub(super) const fn points(width: usize) -> usize {
    2 * (width - MARGIN)
}

/// Draws everything, in lines of at most `width` characters.
pub(super) fn draw(overview: &Overview, width: usize, colour: bool) -> String {
    let metadata = &overview.metadata;
    let duration_s = ns_to_s(metadata.duration_ns);
    let mut text = String::new();
    let title = format!(
        "{}: {} rows over {} s, {}, made by {}",
        plain(&metadata.scenario),
        grouped(overview.rows),
        trimmed(duration_s, 3),
        format!("{:?}", metadata.status).to_lowercase(),
        plain(&metadata.generator)
    );
    text.push_str(&cut(&title, width));
    text.push('\n');
    let plot = width - MARGIN;
    for Group { series, alike } in overview.groups() {
        for series in series {
            let name = if alike {
                series.name.replace("down", "in both directions")
            } else {
                series.name.to_owned()
            };
            let _ = writeln!(text, "{name} ({})", series.unit);
            chart(series, plot, colour, &mut text);
        }
    }
    outages(overview, plot, &mut text);
    axis(duration_s, plot, &mut text);
    events(overview, width, &mut text);
    for note in &metadata.notes {
        wrap(&format!("note: {}", plain(note)), width, &mut text);
    }
    text
}

/// Nothing that moves a terminal's cursor.
fn plain(text: &str) -> String {
    let visible = |letter: char| if letter.is_control() { ' ' } else { letter };
    text.chars().map(visible).collect()
}

/// At most so many characters, with an ellipsis where something is missing.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    kept + "\u{2026}"
}

/// Words in lines of at most `width` characters, indented from the second one on.
fn wrap(words: &str, width: usize, text: &mut String) {
    let mut line = String::new();
    for word in words.split_whitespace() {
        let length = line.chars().count() + 1 + word.chars().count();
        if !line.trim().is_empty() && length > width {
            text.push_str(&cut(line.trim_end(), width));
            text.push('\n');
            line = "     ".to_owned();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    text.push_str(&cut(&line, width));
    text.push('\n');
}

/// The axis from a little below to a little above the values; rates, delays and losses from 0.
fn bounds(series: &Series) -> (f64, f64) {
    let (low, high) = series.bounds().unwrap_or((0.0, 1.0));
    let low = if series.unit == "dB" { low } else { 0.0 };
    if high > low {
        (low, high)
    } else {
        (low, low + 1.0)
    }
}

// Writing to a String cannot fail; the results of `write!` are dropped for that reason.
fn chart(series: &Series, plot: usize, colour: bool, text: &mut String) {
    let (low, high) = bounds(series);
    let mut cells = vec![vec![0_u8; plot]; LINES];
    for (index, range) in series.points.iter().enumerate() {
        if let Some(range) = range {
            let (from, to) = (
                row_of(range.smallest, low, high),
                row_of(range.largest, low, high),
            );
            for row in to..=from {
                if let Some(cell) = cells[row / 4].get_mut(index / 2) {
                    *cell |= DOTS[row % 4][index % 2];
                }
            }
        }
    }
    for (line, cells) in cells.iter().enumerate() {
        let label = match line {
            0 => trimmed(high, 3),
            line if line + 1 == LINES => trimmed(low, 3),
            _ => String::new(),
        };
        let dots: String = cells
            .iter()
            .map(|&dots| char::from_u32(0x2800 + u32::from(dots)).unwrap_or(' '))
            .collect();
        let (begin, end) = if colour {
            (COLOURS[series.kind.min(2)], PLAIN)
        } else {
            ("", "")
        };
        let label = cut(&label, MARGIN - 2);
        let margin = MARGIN - 2;
        let _ = writeln!(text, "{label:>margin$} \u{2502}{begin}{dots}{end}");
    }
}

/// The dot from the top that a value lies in.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a share of a few lines"
)]
fn row_of(value: f64, low: f64, high: f64) -> usize {
    let last = LINES * 4 - 1;
    let share = ((value - low) / (high - low)).clamp(0.0, 1.0);
    last - (share * last as f64).round() as usize
}

fn outages(overview: &Overview, plot: usize, text: &mut String) {
    for (name, points) in ["out down", "out up"].iter().zip(&overview.outages) {
        if !points.contains(&true) {
            continue;
        }
        let marks: String = points
            .chunks(2)
            .take(plot)
            .map(|pair| {
                if pair.contains(&true) {
                    '\u{2588}'
                } else {
                    ' '
                }
            })
            .collect();
        let margin = MARGIN - 2;
        let _ = writeln!(text, "{name:>margin$} \u{2502}{}", marks.trim_end());
    }
}

fn axis(duration_s: f64, plot: usize, text: &mut String) {
    let margin = MARGIN - 1;
    let _ = writeln!(text, "{:margin$}\u{2514}{}", "", "\u{2500}".repeat(plot));
    // A label for each quarter, where there is room; the last one ends with the axis.
    let parts = if plot >= 60 { 4 } else { 1 };
    let mut labels = "0".to_owned();
    for part in 1..=parts {
        let share = count_to_f64(part) / count_to_f64(parts);
        let last = part == parts;
        let label = trimmed(duration_s * share, 3) + if last { " s" } else { "" };
        let half = if last { 0 } else { label.len() / 2 };
        let end = plot * usize::try_from(part).unwrap_or(1) / usize::try_from(parts).unwrap_or(1);
        let room = (end + half).saturating_sub(labels.len());
        let _ = write!(labels, "{label:>room$}");
    }
    let _ = writeln!(text, "{:MARGIN$}{labels}", "");
}

fn events(overview: &Overview, width: usize, text: &mut String) {
    if overview.events.is_empty() {
        return;
    }
    let shown = overview.events.iter().take(8);
    let shown: Vec<String> = shown
        .map(|(at_s, name)| format!("{} at {} s", plain(name), trimmed(*at_s, 3)))
        .collect();
    let others = overview.event_count - crate::format::length(&shown);
    let more = if others > 0 {
        format!(" and {} others", grouped(others))
    } else {
        String::new()
    };
    let line = format!("events: {}{more}", shown.join(", "));
    text.push_str(&cut(&line, width));
    text.push('\n');
}
