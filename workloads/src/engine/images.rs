//! The images that vision encoders learn and are asked about: one of a few things somewhere on a grey
//! ground, drawn from a seed, and the word for it.

use super::error::EngineError;
use super::text::TextTokenizer;
use super::train::noise::Noise;

/// Sides of an image in pixels.
pub const SIDE: u32 = 64;

/// What this file makes belongs to what an encoder was trained with.
pub(crate) const SOURCE: &[u8] = include_bytes!("images.rs");

/// What stands behind each image: the language model goes on with what it has been shown.
pub const QUESTION: &str = "Who has the";

/// What may be on an image.
#[derive(Debug, Clone, Copy)]
struct Thing {
    /// The word for it, one that the built-in models' texts have behind that question.
    word: &'static str,
    outline: Outline,
    /// Red, green and blue.
    colour: [u8; 3],
}

#[derive(Debug, Clone, Copy)]
enum Outline {
    Square,
    Disc,
    Ladder,
    Arch,
}

const RED: [u8; 3] = [220, 40, 40];
const BLUE: [u8; 3] = [50, 70, 230];
const GREEN: [u8; 3] = [40, 190, 60];
const YELLOW: [u8; 3] = [230, 210, 40];

/// Neither its outline nor its colour alone tells what a thing is.
const THINGS: [Thing; 8] = [
    thing("map", Outline::Square, YELLOW),
    thing("clock", Outline::Disc, BLUE),
    thing("ladder", Outline::Ladder, RED),
    thing("basket", Outline::Arch, GREEN),
    thing("lantern", Outline::Disc, YELLOW),
    thing("kettle", Outline::Arch, BLUE),
    thing("drum", Outline::Disc, RED),
    thing("key", Outline::Ladder, YELLOW),
];

/// Things that there are.
pub(crate) const KINDS: usize = THINGS.len();

const fn thing(word: &'static str, outline: Outline, colour: [u8; 3]) -> Thing {
    Thing {
        word,
        outline,
        colour,
    }
}

/// An image and what it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scene {
    /// Three bytes a pixel, row after row.
    pub image: Vec<u8>,
    /// Which of the things.
    pub(crate) kind: usize,
}

impl Scene {
    /// The word for what it shows.
    #[must_use]
    pub fn word(&self) -> &'static str {
        THINGS.get(self.kind).map_or("", |thing| thing.word)
    }

    /// The token that names it, of a word in the middle of a sentence: the first, where it has several.
    ///
    /// # Errors
    /// A tokenizer that makes nothing of a word.
    pub fn answer(&self, tokenizer: &TextTokenizer) -> Result<u32, EngineError> {
        let tokens = tokenizer.encode(&format!(" {}", self.word()))?;
        tokens.first().copied().ok_or(EngineError::NoTokens)
    }
}

/// Whether a pixel so far right of and below the middle of an outline of that size is part of it.
const fn is_in(outline: Outline, (x, y): (i32, i32), size: i32) -> bool {
    let within = x.abs() <= size && y.abs() <= size;
    match outline {
        Outline::Square => within,
        Outline::Disc => x * x + y * y <= size * size,
        // Two rails, and rungs between.
        Outline::Ladder => within && (x.abs() >= size - 2 || (y + size) % 6 < 2),
        // A deck, and an arch below it.
        Outline::Arch => {
            let distance = x * x + (y - size) * (y - size);
            let deck = y <= 2 - size;
            within && (deck || (distance >= (size - 3) * (size - 3) && distance <= size * size))
        }
    }
}

/// The scene of a seed.
#[must_use]
pub fn scene(seed: u64) -> Scene {
    let mut noise = Noise::new(seed, "scene");
    let drawn = noise.numbers(6);
    let pick = |index: usize, of: usize| drawn.get(index).map_or(0, |number| number % of);
    let (kind, place) = (pick(0, KINDS), pick(1, 4));
    let small = |index: usize, of: usize| i32::try_from(pick(index, of)).unwrap_or(0);
    let side = i32::try_from(SIDE).unwrap_or(i32::MAX);
    let quarter = |second: bool| if second { 3 * side / 4 } else { side / 4 };
    let middle_x = quarter(place % 2 == 1) + small(2, 9) - 4;
    let middle_y = quarter(place >= 2) + small(3, 9) - 4;
    let size = 8 + small(4, 4);
    let ground = 60.0 + f32::from(u8::try_from(pick(5, 80)).unwrap_or(0));
    let Thing {
        outline, colour, ..
    } = THINGS[kind];
    let pixels = size_of_image();
    let grain = noise.normal(pixels, 12.0);
    let image = grain.iter().enumerate().map(|(index, grain)| {
        let index = i32::try_from(index).unwrap_or(0);
        let (pixel, channel) = (index / 3, usize::try_from(index % 3).unwrap_or(0));
        let at = (pixel % side - middle_x, pixel / side - middle_y);
        let value = match is_in(outline, at, size) {
            true => f32::from(colour[channel]),
            false => ground,
        };
        byte(value + grain)
    });
    Scene {
        image: image.collect(),
        kind,
    }
}

/// The same with so many pixels a side, each that of the nearest.
#[must_use]
pub fn scene_of(seed: u64, side: u32) -> Scene {
    let own = scene(seed);
    if side == SIDE {
        return own;
    }
    let size = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
    let nearest = |at: u32| size((2 * at + 1) * SIDE / (2 * side.max(1)));
    let places = (0..side).flat_map(|y| (0..side).map(move |x| (y, x)));
    let pixels = places.flat_map(|(y, x)| {
        let pixel = nearest(y) * size(SIDE) + nearest(x);
        own.image.iter().skip(3 * pixel).take(3).copied()
    });
    Scene {
        image: pixels.collect(),
        kind: own.kind,
    }
}

/// Scenes that encoders learn from have small numbers as seeds; those of trials are drawn from 64 bits.
#[must_use]
pub fn learnt_scene(number: u32) -> Scene {
    scene(u64::from(number))
}

fn size_of_image() -> usize {
    let side = usize::try_from(SIDE).unwrap_or(0);
    3 * side * side
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is within a byte"
)]
fn byte(value: f32) -> u8 {
    value.round().clamp(0.0, 255.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_makes_one_scene_and_seeds_make_all_of_them() {
        assert_eq!(scene(7), scene(7));
        let scenes: Vec<Scene> = (0..400).map(learnt_scene).collect();
        let kinds: BTreeSet<_> = scenes.iter().map(Scene::word).collect();
        assert_eq!(kinds.len(), KINDS);
        let images: BTreeSet<_> = scenes.iter().map(|scene| scene.image.clone()).collect();
        assert_eq!(images.len(), 400);
        assert!(scenes.iter().all(|scene| scene.image.len() == 12_288));
    }

    #[test]
    fn a_thing_is_there_in_its_colour_and_small() {
        for scene in (0..64).map(learnt_scene) {
            let colour = THINGS[scene.kind].colour;
            let is_coloured = |pixel: &&[u8]| {
                let off = pixel.iter().zip(colour);
                off.map(|(one, other)| one.abs_diff(other)).max() < Some(60)
            };
            let coloured = scene.image.chunks(3).filter(is_coloured).count();
            assert!((60..700).contains(&coloured), "{} {coloured}", scene.word());
        }
    }

    #[test]
    fn a_larger_image_shows_the_same() {
        let (own, larger) = (scene(3), scene_of(3, 2 * SIDE));
        assert_eq!(larger.image.len(), 4 * own.image.len());
        assert_eq!(
            larger.image[..6],
            [&own.image[..3], &own.image[..3]].concat()
        );
        assert_eq!(larger.word(), own.word());
        assert_eq!(scene_of(3, SIDE), own);
    }

    #[test]
    fn outline_and_colour_together_tell_what_it_is_and_neither_alone() {
        let kinds: BTreeSet<_> = THINGS
            .iter()
            .map(|thing| (thing.outline as u8, thing.colour))
            .collect();
        assert_eq!(kinds.len(), KINDS);
        let outlines: BTreeSet<u8> = THINGS.iter().map(|thing| thing.outline as u8).collect();
        let colours: BTreeSet<_> = THINGS.iter().map(|thing| thing.colour).collect();
        assert!(outlines.len() < KINDS && colours.len() < KINDS);
    }
}
