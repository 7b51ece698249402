//! Which direction a file of one direction is for.

use super::{ImportOptions, Recording};
use crate::Direction;

/// The direction that a file's name tells: one of its words is up, uplink, ul, down and so on.
pub(super) fn of_name(name: &str) -> Option<Direction> {
    let name = std::path::Path::new(name).file_name()?.to_string_lossy();
    let name = name.to_ascii_lowercase();
    let mut words = name.split(|letter: char| !letter.is_ascii_alphanumeric());
    words.find_map(|word| match word {
        "up" | "uplink" | "ul" => Some(Direction::Up),
        "down" | "downlink" | "dl" => Some(Direction::Down),
        _ => None,
    })
}

/// One or two files with their directions: as their names tell, else the first is for the
/// direction that the options name and the second for the other.
pub(super) fn of_pair<'a>(
    recordings: &[Recording<'a>],
    options: &ImportOptions,
) -> Vec<(Direction, Recording<'a>)> {
    let told: Vec<Option<Direction>> = recordings
        .iter()
        .map(|recording| of_name(recording.name))
        .collect();
    let first = match told.as_slice() {
        [Some(first), Some(second)] if first != second => *first,
        [Some(first), None] => *first,
        [None, Some(second)] => second.reverse(),
        _ => options.direction,
    };
    let directions = [first, first.reverse()];
    directions
        .into_iter()
        .zip(recordings.iter().copied())
        .collect()
}
