//! SentencePiece's BPE as GGUF stores it (`tokenizer.ggml.model` = `llama`: Llama 2, TinyLlama, the first
//! Mistral): pieces with scores, and no merges.
//!
//! SentencePiece joins, again and again, the two neighbours whose joint piece has the highest score. A
//! tokenizer.json has merges in their order instead: they are every way to make a piece of two others, by
//! the piece's score, which is how Hugging Face's converters make them.

use std::collections::BTreeMap;

use candle_core::quantized::gguf_file::Value;
use serde_json::json;

use super::vocabulary::{list, tokens};

const SCORES: &str = "tokenizer.ggml.scores";
const PREFIX: &str = "tokenizer.ggml.add_space_prefix";

/// Stands for a space within pieces (U+2581).
const SPACE: &str = "\u{2581}";

/// The tokenizer.json of a file's metadata; or, in words, why there is none.
pub(super) fn tokenizer_json<'a>(
    find: impl Fn(&str) -> Option<&'a Value>,
) -> Result<String, String> {
    let (vocabulary, added) = tokens(&find)?;
    let scores = list(&find, SCORES)?.iter().map(|score| score.to_f32().ok());
    let scores: Option<Vec<f32>> = scores.collect();
    let scores = scores.filter(|scores| scores.iter().all(|score| score.is_finite()));
    let scores = scores.ok_or_else(|| format!("{SCORES} holds something that is no number"))?;
    if scores.len() < vocabulary.len() {
        return Err(format!(
            "{SCORES} has {} numbers for {} tokens",
            scores.len(),
            vocabulary.len()
        ));
    }
    let prefixed = find(PREFIX).and_then(|value| value.to_bool().ok());
    let mut normalizers =
        vec![json!({ "type": "Replace", "pattern": { "String": " " }, "content": SPACE })];
    let mut decoders = vec![
        json!({ "type": "Replace", "pattern": { "String": SPACE }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if prefixed.unwrap_or(true) {
        normalizers.insert(0, json!({ "type": "Prepend", "prepend": SPACE }));
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    let unknown = vocabulary.contains_key("<unk>").then_some("<unk>");
    let merges = merges(&vocabulary, &scores);
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": { "type": "Sequence", "normalizers": normalizers },
        "pre_tokenizer": null, "post_processor": null,
        "decoder": { "type": "Sequence", "decoders": decoders },
        "model": { "type": "BPE", "dropout": null, "unk_token": unknown,
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
            "byte_fallback": true, "ignore_merges": false, "vocab": vocabulary,
            "merges": merges },
    });
    Ok(file.to_string())
}

/// Every way to make a piece of two others: those of the highest score first; of one piece, those whose
/// parts have the lower ids.
fn merges(vocabulary: &BTreeMap<String, u32>, scores: &[f32]) -> Vec<[String; 2]> {
    let score = |id: u32| {
        let place = usize::try_from(id).unwrap_or(usize::MAX);
        scores.get(place).copied().unwrap_or(f32::MIN)
    };
    let mut found = Vec::new();
    for (piece, id) in vocabulary {
        for (cut, _) in piece.char_indices().skip(1) {
            let (left, right) = piece.split_at(cut);
            if let (Some(first), Some(second)) = (vocabulary.get(left), vocabulary.get(right)) {
                found.push((score(*id), *id, *first, *second, [left, right]));
            }
        }
    }
    found.sort_by(|one, other| {
        let falling = other.0.total_cmp(&one.0);
        falling.then_with(|| (one.1, one.2, one.3).cmp(&(other.1, other.2, other.3)))
    });
    let merges = found
        .into_iter()
        .map(|(.., parts)| parts.map(str::to_owned));
    merges.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokenizers::Tokenizer;

    use super::*;

    const PIECES: [&str; 14] = [
        "\u{2581}",
        "a",
        "b",
        "c",
        "ab",
        "bc",
        "\u{2581}a",
        "abc",
        "ca",
        "cab",
        "\u{2581}ab",
        "aa",
        "bb",
        "\u{2581}c",
    ];
    /// Bytes stand in front, as in Llama 2's file: unknown, begin, end, 256 bytes.
    const FIRST_PIECE: u32 = 259;

    fn metadata() -> BTreeMap<String, Value> {
        let special = ["<unk>", "<s>", "</s>"].map(str::to_owned);
        let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
        let pieces = PIECES.map(str::to_owned);
        let all: Vec<String> = special.into_iter().chain(bytes).chain(pieces).collect();
        let scores = (0_u16..).zip(&all).map(|(id, _)| {
            let rank = f32::from(id.saturating_sub(259));
            Value::F32(-rank)
        });
        let kinds = (0_u32..).zip(&all).map(|(id, _)| {
            Value::I32(match id {
                0 => 2,
                1 | 2 => 3,
                3..FIRST_PIECE => 6,
                _ => 1,
            })
        });
        let list = |values: Vec<Value>| Value::Array(values);
        [
            ("tokenizer.ggml.scores", list(scores.collect())),
            ("tokenizer.ggml.token_type", list(kinds.collect())),
            (
                "tokenizer.ggml.tokens",
                list(all.into_iter().map(Value::String).collect()),
            ),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
    }

    fn tokenizer() -> Tokenizer {
        let metadata = metadata();
        let text = tokenizer_json(|key| metadata.get(key)).unwrap();
        Tokenizer::from_bytes(text).unwrap()
    }

    /// SentencePiece's own rule, word for word: of all neighbours whose joint piece is known, the one of
    /// the highest score is joined, the leftmost of several.
    fn joined(text: &str) -> Vec<u32> {
        let place = |piece: &str| PIECES.iter().position(|known| *known == piece);
        let spaced = format!(" {text}").replace(' ', SPACE);
        let mut parts: Vec<String> = spaced.chars().map(String::from).collect();
        loop {
            let pairs = parts.windows(2).enumerate();
            let known = pairs.filter_map(|(at, pair)| Some((place(&pair.concat())?, at)));
            let Some((_, at)) = known.min() else { break };
            let joint = parts[at..at + 2].concat();
            parts.splice(at..at + 2, [joint]);
        }
        let ids = parts.iter().flat_map(|part| match place(part) {
            Some(place) => vec![FIRST_PIECE + u32::try_from(place).unwrap()],
            None => part.bytes().map(|byte| 3 + u32::from(byte)).collect(),
        });
        ids.collect()
    }

    proptest! {
        #[test]
        fn text_is_cut_as_sentencepiece_cuts_it(text in "[abc d\u{e9}]{1,24}") {
            let encoding = tokenizer().encode_fast(text.as_str(), false).unwrap();
            prop_assert_eq!(encoding.get_ids(), joined(&text));
        }
    }

    #[test]
    fn what_was_cut_is_joined_again_and_named_tokens_stay_whole() {
        let tokenizer = tokenizer();
        for text in ["abc cab", "caf\u{e9} \u{1f600}", " a", "b"] {
            let encoding = tokenizer.encode_fast(text, false).unwrap();
            assert_eq!(tokenizer.decode(encoding.get_ids(), true).unwrap(), text);
        }
        let encoding = tokenizer.encode_fast("<s>ab</s>", false).unwrap();
        let ids = encoding.get_ids();
        assert_eq!((ids.first(), ids.last()), (Some(&1), Some(&2)));
    }

    #[test]
    fn tokens_without_a_type_are_refused_and_not_left_out() {
        let mut metadata = metadata();
        let few = Value::Array(vec![Value::I32(1); 3]);
        metadata.insert("tokenizer.ggml.token_type".to_owned(), few);
        let told = tokenizer_json(|key| metadata.get(key)).unwrap_err();
        assert!(told.contains("has 3 entries for"), "{told}");
    }

    #[test]
    fn scores_that_are_missing_or_no_numbers_are_refused() {
        let mut metadata = metadata();
        metadata.insert(SCORES.to_owned(), Value::Array(vec![Value::F32(f32::NAN)]));
        let told = tokenizer_json(|key| metadata.get(key)).unwrap_err();
        assert!(told.contains("no number"), "{told}");
        metadata.insert(SCORES.to_owned(), Value::Array(vec![Value::F32(0.0)]));
        let told = tokenizer_json(|key| metadata.get(key)).unwrap_err();
        assert!(told.contains("1 numbers for"), "{told}");
        metadata.remove(SCORES);
        let told = tokenizer_json(|key| metadata.get(key)).unwrap_err();
        assert!(told.contains("it has no"), "{told}");
    }
}
