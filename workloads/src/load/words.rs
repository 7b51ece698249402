//! Random text: words that every tokenizer of English knows.

use rand_chacha::ChaCha12Rng;
use rand_core::Rng as _;

const WORDS: [&str; 64] = [
    "the", "of", "and", "to", "in", "is", "that", "it", "was", "for", "on", "are", "as", "with",
    "his", "they", "at", "be", "this", "from", "have", "or", "by", "one", "had", "not", "but",
    "what", "all", "were", "when", "we", "there", "can", "an", "your", "which", "their", "said",
    "if", "do", "will", "each", "about", "how", "up", "out", "them", "then", "she", "many", "some",
    "so", "these", "would", "other", "into", "has", "more", "her", "two", "like", "him", "see",
];

/// So many words with a space between them.
pub(super) fn text(random: &mut ChaCha12Rng, words: u32) -> String {
    let mut text = String::new();
    for number in 0..words {
        if number > 0 {
            text.push(' ');
        }
        let draw = usize::try_from(random.next_u32() % 64).unwrap_or(0);
        text.push_str(WORDS[draw]);
    }
    text
}
