//! The text that the built-in models learn and are asked about, made by a few small grammars.
//!
//! Some of it can only be memorised (facts about an invented country), some computed (sums,
//! counting), some copied from the context, and some is plain language (causes, short stories).
//! So there are easy and hard tokens, which is what early exits, drafts and quantisation differ
//! in. The bytes of this file are part of every recipe's hash.

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};

const SYLLABLES: [&str; 24] = [
    "ba", "vel", "mo", "ra", "ti", "sen", "dor", "ki", "lu", "nar", "os", "pe", "qui", "rim", "sa",
    "tor", "ul", "va", "wen", "xi", "yor", "za", "hal", "gre",
];
const COLOURS: [&str; 8] = [
    "red", "blue", "green", "yellow", "black", "white", "silver", "golden",
];
const GOODS: [&str; 10] = [
    "wool", "salt", "glass", "copper", "honey", "timber", "paper", "tea", "linen", "rope",
];
const OBJECTS: [&str; 12] = [
    "lantern", "map", "kettle", "compass", "letter", "basket", "drum", "key", "blanket", "ladder",
    "clock", "boat",
];
const PLACES: [&str; 12] = [
    "harbour",
    "market",
    "mill",
    "bridge",
    "tower",
    "garden",
    "station",
    "forest",
    "library",
    "square",
    "lighthouse",
    "workshop",
];
const ROLES: [&str; 12] = [
    "miller", "pilot", "baker", "captain", "teacher", "gardener", "smith", "courier", "painter",
    "keeper", "doctor", "farmer",
];
const NUMBERS: [&str; 21] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
];
const CAUSES: [(&str, &str); 16] = [
    ("the rain fell all night", "the road turned to mud"),
    ("the wind was strong", "the boats stayed in the harbour"),
    ("the lamp had no oil", "the room was dark"),
    ("the river froze", "the mill stood still"),
    ("the sun was hot", "the snow on the roof melted"),
    ("the bell rang early", "everybody woke up"),
    ("the bridge was closed", "the carts went the long way"),
    ("the oven was cold", "there was no bread"),
    ("the fog was thick", "nobody saw the lighthouse"),
    ("the key was lost", "the door stayed shut"),
    ("the harvest was rich", "the market was full"),
    ("the mast was broken", "the signal did not arrive"),
    ("the battery was empty", "the radio was silent"),
    ("the hill was steep", "the train went slowly"),
    ("the letter was late", "the answer was late too"),
    ("the well was deep", "the rope was too short"),
];

/// One town of the invented country.
#[derive(Debug)]
struct Town {
    name: String,
    river: String,
    colour: &'static str,
    goods: &'static str,
    bridges: usize,
}

/// A seeded choice of anything.
struct Chooser(ChaCha12Rng);

impl Chooser {
    fn new(seed: u64, purpose: &str) -> Chooser {
        let mut hasher = Sha256::new();
        hasher.update(b"hexloop corpus v1\0");
        hasher.update(seed.to_le_bytes());
        hasher.update(purpose.as_bytes());
        Chooser(ChaCha12Rng::from_seed(hasher.finalize().into()))
    }

    /// A number below `bound`, by the multiply-shift method; its bias is below 2^-32 x bound.
    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX);
        let scaled = (u128::from(self.0.next_u64()) * u128::from(bound)) >> 64;
        usize::try_from(scaled).unwrap_or(0)
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        // The tables above are not empty, so `below` is an index.
        choices[self.below(choices.len())]
    }

    fn word(&mut self, syllables: usize) -> String {
        (0..syllables).map(|_| self.pick(&SYLLABLES)).collect()
    }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or(String::new(), |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

/// The country is the same in every text: its facts are there to be memorised.
fn country() -> Vec<Town> {
    let mut chooser = Chooser::new(0, "country");
    let rivers: Vec<String> = (0..12).map(|_| capitalised(&chooser.word(2))).collect();
    (0..48)
        .map(|_| Town {
            name: capitalised(&chooser.word(3)),
            river: rivers[chooser.below(rivers.len())].clone(),
            colour: chooser.pick(&COLOURS),
            goods: chooser.pick(&GOODS),
            bridges: 2 + chooser.below(8),
        })
        .collect()
}

fn fact(chooser: &mut Chooser, towns: &[Town]) -> String {
    let Town {
        name,
        river,
        colour,
        goods,
        bridges,
    } = &towns[chooser.below(towns.len())];
    let bridges = NUMBERS[*bridges];
    match chooser.below(7) {
        0 => format!("The town of {name} lies on the river {river}."),
        1 => format!("In {name} the roofs are {colour} and the traders sell {goods}."),
        2 => format!("{name} has {bridges} bridges over the {river}."),
        3 => format!("Question: what do they sell in {name}? Answer: {goods}."),
        4 => format!("Question: which river flows through {name}? Answer: the {river}."),
        5 => format!("Question: what colour are the roofs of {name}? Answer: {colour}."),
        _ => format!("Question: how many bridges has {name}? Answer: {bridges}."),
    }
}

fn sum(chooser: &mut Chooser) -> String {
    match chooser.below(3) {
        0 => {
            let (a, b) = (chooser.below(50), chooser.below(50));
            format!("{a} plus {b} is {}.", a + b)
        }
        1 => {
            let (a, b) = (chooser.below(11), chooser.below(10));
            format!("{} and {} make {}.", NUMBERS[a], NUMBERS[b], NUMBERS[a + b])
        }
        _ => {
            let start = chooser.below(15);
            let counted = NUMBERS[start..start + 6].join(", ");
            format!("Count from {}: {counted}.", NUMBERS[start])
        }
    }
}

fn copy(chooser: &mut Chooser) -> String {
    let count = 3 + chooser.below(3);
    let words: Vec<String> = (0..count).map(|_| chooser.word(2)).collect();
    let there = words.join(" ");
    if chooser.below(2) == 0 {
        return format!("Say after me: {there}. You say: {there}.");
    }
    let back: Vec<&str> = words.iter().rev().map(String::as_str).collect();
    format!("Say it backwards: {there}. You say: {}.", back.join(" "))
}

fn cause(chooser: &mut Chooser) -> String {
    let (why, what) = chooser.pick(&CAUSES);
    match chooser.below(4) {
        0 => format!("Because {why}, {what}."),
        1 => format!("{}, because {why}.", capitalised(what)),
        2 => format!("{}, so {what}.", capitalised(why)),
        _ => format!("Why is it that {what}? It is because {why}."),
    }
}

fn story(chooser: &mut Chooser) -> String {
    let giver = chooser.pick(&ROLES);
    let mut taker = chooser.pick(&ROLES);
    while taker == giver {
        taker = chooser.pick(&ROLES);
    }
    let (object, colour) = (chooser.pick(&OBJECTS), chooser.pick(&COLOURS));
    let (first, second) = (chooser.pick(&PLACES), chooser.pick(&PLACES));
    let middle = match chooser.below(3) {
        0 => format!("It was cold, and the {giver} walked from the {first} to the {second}."),
        1 => format!("In the morning the {giver} left the {first} and went to the {second}."),
        _ => format!("The {giver} looked around the {first} and then ran to the {second}."),
    };
    let end = match chooser.below(3) {
        0 => format!("Now the {taker} has the {colour} {object}."),
        1 => format!("Who has the {object} now? The {taker} has it."),
        _ => format!("Where are they now? They are at the {second}."),
    };
    format!(
        "Once the {giver} had a {colour} {object}. {middle} There the {giver} met the {taker} and \
         gave the {object} to the {taker}. {end}"
    )
}

fn sentence(chooser: &mut Chooser, towns: &[Town]) -> String {
    match chooser.below(10) {
        0..3 => fact(chooser, towns),
        3..5 => sum(chooser),
        5..6 => copy(chooser),
        6..8 => cause(chooser),
        _ => story(chooser),
    }
}

/// Paragraphs of at least so many bytes in total; seed and purpose determine them, and a longer
/// text of the same two starts with the shorter one.
#[must_use]
pub fn paragraphs(seed: u64, purpose: &str, bytes: usize) -> Vec<String> {
    let towns = country();
    let mut chooser = Chooser::new(seed, purpose);
    let mut written = 0;
    let mut paragraphs = Vec::new();
    while written < bytes {
        let sentences = 3 + chooser.below(4);
        let sentences: Vec<String> = (0..sentences)
            .map(|_| sentence(&mut chooser, &towns))
            .collect();
        let paragraph = sentences.join(" ");
        written += paragraph.len() + 1;
        paragraphs.push(paragraph);
    }
    paragraphs
}

/// The paragraphs of [`paragraphs`] as one text, a line each.
#[must_use]
pub fn text(seed: u64, purpose: &str, bytes: usize) -> String {
    paragraphs(seed, purpose, bytes).join("\n")
}

/// A text to ask a model to go on from; the seed determines it.
#[must_use]
pub fn prompt_text(seed: u64) -> String {
    text(seed, "prompt", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_depends_on_its_seed_and_purpose_and_longer_ones_continue_it() {
        let short = text(7, "train", 1_000);
        assert_eq!(short, text(7, "train", 1_000));
        assert!(text(7, "train", 5_000).starts_with(&short));
        assert_ne!(short, text(8, "train", 1_000));
        assert_ne!(short, text(7, "held-out", 1_000));
        assert!((1_000..2_500).contains(&short.len()), "{}", short.len());
    }

    #[test]
    fn facts_about_a_town_never_contradict_each_other() {
        let text = text(3, "train", 300_000);
        let question = "which river flows through ";
        let answers: std::collections::BTreeMap<&str, std::collections::BTreeSet<&str>> = text
            .split(question)
            .skip(1)
            .filter_map(|rest| rest.split_once("? Answer: the "))
            .filter_map(|(town, rest)| Some((town, rest.split_once('.')?.0)))
            .fold(
                std::collections::BTreeMap::new(),
                |mut answers, (town, river)| {
                    answers
                        .entry(town)
                        .or_insert_with(std::collections::BTreeSet::new)
                        .insert(river);
                    answers
                },
            );
        assert!(answers.len() > 40, "{}", answers.len());
        assert!(answers.values().all(|rivers| rivers.len() == 1));
    }

    #[test]
    fn sums_in_the_text_are_right() {
        let text = text(5, "train", 100_000);
        let mut checked = 0;
        for sum in text
            .split(['.', '\n'])
            .filter(|sentence| sentence.contains(" plus "))
        {
            let numbers: Vec<u32> = sum
                .split(' ')
                .filter_map(|word| word.parse().ok())
                .collect();
            if let [a, b, total] = numbers[..] {
                assert_eq!(a + b, total, "{sum}");
                checked += 1;
            }
        }
        assert!(checked > 20, "{checked}");
    }
}
