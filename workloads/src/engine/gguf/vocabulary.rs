//! A tokenizer between tokenizer.json and GGUF's metadata: byte-level BPE, which all models of the
//! family but Llama 2 and its like use; and the chat template beside it.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::quantized::gguf_file::{Value, ValueType};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::sentencepiece;
use crate::engine::chat::Template;
use crate::engine::error::EngineError;
use crate::engine::input;
use crate::engine::model::size;
use crate::engine::text::{MOST_TOKENIZER_BYTES, TOKENIZER_FILE};

const MODEL: &str = "tokenizer.ggml.model";
const SPLIT: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const BEGIN: &str = "tokenizer.ggml.bos_token_id";
const END: &str = "tokenizer.ggml.eos_token_id";
const CHAT: &str = "tokenizer.chat_template";

// llama.cpp's LLAMA_TOKEN_TYPE_...
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// How text is cut before its merges, by llama.cpp's names. The patterns are those of the models'
/// published tokenizer.json files.
const SPLITS: [(&str, &str); 3] = [
    (
        "gpt-2",
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    ),
    (
        "llama-bpe",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    (
        "qwen2",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
];

/// The parts of tokenizer.json that GGUF has a place for.
#[derive(Deserialize)]
struct TokenizerFile {
    model: Bpe,
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    pre_tokenizer: Json,
}

#[derive(Deserialize)]
struct Bpe {
    #[serde(rename = "type")]
    kind: String,
    vocab: BTreeMap<String, u32>,
    merges: Vec<Merge>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair([String; 2]),
    Text(String),
}

#[derive(Serialize, Deserialize)]
struct Added {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
}

/// What a tokenizer is in GGUF.
pub(super) struct Entries {
    /// The entries of the metadata.
    pub(super) metadata: Vec<(String, Value)>,
    /// Why the tokenizer has no place there, in words, if it has none.
    pub(super) without: Option<String>,
}

/// The entries of a directory's tokenizer.
pub(super) fn entries(directory: &Path, vocabulary: u32) -> Result<Entries, EngineError> {
    let path = directory.join(TOKENIZER_FILE);
    let text = input::read_text(&path, MOST_TOKENIZER_BYTES)?;
    let none = |reason: String| {
        // llama.cpp's name for a file that is run by token ids alone.
        let entry = (MODEL.to_owned(), Value::String("no_vocab".to_owned()));
        Ok(Entries {
            metadata: vec![entry],
            without: Some(reason),
        })
    };
    let file: TokenizerFile = match serde_json::from_str(&text) {
        Ok(file) => file,
        Err(error) => return none(format!("it is no BPE tokenizer ({error})")),
    };
    if file.model.kind != "BPE" {
        return none(format!("it is of type {}, not BPE", file.model.kind));
    }
    let cuts = file.pre_tokenizer.to_string();
    if !cuts.contains("ByteLevel") {
        return none("its BPE does not work on bytes".to_owned());
    }
    let known = SPLITS.iter().find(|(_, pattern)| {
        let quoted = Json::from(*pattern).to_string();
        cuts.contains(&quoted)
    });
    // A byte-level cut without a pattern of its own has GPT-2's.
    let split = match known {
        Some((name, _)) => *name,
        None if !cuts.contains("Regex") => "gpt-2",
        None => return none("it cuts text by a pattern that is not known here".to_owned()),
    };
    let size = usize::try_from(vocabulary).unwrap_or(usize::MAX);
    let mut tokens: Vec<(String, i32)> = (0..size)
        .map(|id| (format!("[unused {id}]"), UNUSED))
        .collect();
    let normal = file
        .model
        .vocab
        .into_iter()
        .map(|(text, id)| (id, text, NORMAL));
    let added = file.added_tokens.into_iter().map(|added| {
        let kind = if added.special { CONTROL } else { USER_DEFINED };
        (added.id, added.content, kind)
    });
    for (id, text, kind) in normal.chain(added) {
        let place = usize::try_from(id).ok().and_then(|id| tokens.get_mut(id));
        match place {
            Some(place) => *place = (text, kind),
            None => {
                return none(format!(
                    "its token {id} is outside the vocabulary of {size}"
                ));
            }
        }
    }
    let template = Template::find(directory)?.map(|(_, template)| template);
    let chat = template.map(|template| chat_entries(&template, &tokens));
    let merges = file.model.merges.into_iter().map(|merge| match merge {
        Merge::Pair([left, right]) => format!("{left} {right}"),
        Merge::Text(text) => text,
    });
    let merges = merges.map(Value::String).collect();
    let (tokens, types): (Vec<_>, Vec<_>) = tokens
        .into_iter()
        .map(|(text, kind)| (Value::String(text), Value::I32(kind)))
        .unzip();
    let entries = [
        (MODEL, Value::String("gpt2".to_owned())),
        (SPLIT, Value::String(split.to_owned())),
        (TOKENS, Value::Array(tokens)),
        (TYPES, Value::Array(types)),
        (MERGES, Value::Array(merges)),
    ];
    let entries = entries.into_iter().chain(chat.into_iter().flatten());
    let entries = entries.map(|(key, value)| (key.to_owned(), value));
    Ok(Entries {
        metadata: entries.collect(),
        without: None,
    })
}

/// The entries of a chat template, with the tokens that it names where they are of this vocabulary.
fn chat_entries(template: &Template, tokens: &[(String, i32)]) -> Vec<(&'static str, Value)> {
    let id = |token: &str| {
        let place = tokens.iter().position(|(text, _)| text == token)?;
        u32::try_from(place).ok().map(Value::U32)
    };
    let ids = [(BEGIN, id(&template.begin)), (END, id(&template.end))];
    let ids = ids.into_iter().filter_map(|(key, id)| Some((key, id?)));
    ids.chain([(CHAT, Value::String(template.text.clone()))])
        .collect()
}

/// The values of an entry that is a list.
pub(super) fn list<'a>(
    find: &impl Fn(&str) -> Option<&'a Value>,
    key: &str,
) -> Result<&'a Vec<Value>, String> {
    let values = find(key).and_then(|value| value.to_vec().ok());
    values.ok_or_else(|| format!("it has no {key}"))
}

/// The ids of all tokens by their text, and those that are no ordinary text as tokenizer.json has them.
pub(super) fn tokens<'a>(
    find: &impl Fn(&str) -> Option<&'a Value>,
) -> Result<(BTreeMap<String, u32>, Vec<Json>), String> {
    let types = list(find, TYPES)?;
    if let Some(other) = types
        .iter()
        .find(|kind| kind.value_type() != ValueType::I32)
    {
        return Err(format!("{TYPES} holds {other:?}"));
    }
    let texts = list(find, TOKENS)?;
    if texts.len() != types.len() {
        let (texts, types) = (texts.len(), types.len());
        return Err(format!("{TYPES} has {types} entries for {texts} tokens"));
    }
    let (mut vocabulary, mut added) = (BTreeMap::new(), Vec::new());
    for ((id, token), kind) in (0_u32..).zip(texts).zip(types) {
        let token = token.to_string().ok().cloned();
        let token = token.ok_or_else(|| format!("token {id} is no text"))?;
        let kind = kind.to_i32().unwrap_or(NORMAL);
        if matches!(kind, UNKNOWN | CONTROL | USER_DEFINED) {
            added.push(json!({
                "id": id, "content": token, "special": kind != USER_DEFINED, "single_word": false,
                "lstrip": false, "rstrip": false, "normalized": false,
            }));
        }
        vocabulary.insert(token, id);
    }
    Ok((vocabulary, added))
}

/// The chat template of a file's metadata; `None` if it has none.
pub(super) fn chat_template<'a>(find: impl Fn(&str) -> Option<&'a Value>) -> Option<Template> {
    let text = find(CHAT)?.to_string().ok()?.clone();
    let token = |key: &str| {
        let id = find(key)?.to_u32().ok()?;
        let tokens = find(TOKENS)?.to_vec().ok()?;
        tokens.get(size(id))?.to_string().ok().cloned()
    };
    let [begin, end] = [BEGIN, END].map(|key| token(key).unwrap_or_default());
    Some(Template { text, begin, end })
}

/// The tokenizer.json of a file's metadata; or, in words, why there is none.
pub(super) fn tokenizer_json<'a>(
    find: impl Fn(&str) -> Option<&'a Value>,
) -> Result<String, String> {
    let text = |key: &str| find(key).and_then(|value| value.to_string().ok());
    let model = text(MODEL).map_or("missing", String::as_str);
    match model {
        "gpt2" => {}
        "llama" => return sentencepiece::tokenizer_json(find),
        other => {
            return Err(format!(
                "{MODEL} is {other}, and gpt2 (byte-level BPE) and llama (SentencePiece) are read"
            ));
        }
    }
    let split = text(SPLIT).map_or("missing", String::as_str);
    // Names of llama.cpp that stand for the same cut.
    let same = match split {
        "default" | "gpt-2" | "smollm" => "gpt-2",
        "llama3" | "llama-v3" | "llama-bpe" => "llama-bpe",
        other => other,
    };
    let Some((_, pattern)) = SPLITS.iter().find(|(name, _)| *name == same) else {
        return Err(format!("{SPLIT} is {split}, which is not known here"));
    };
    let (vocabulary, added) = tokens(&find)?;
    let merges = list(&find, MERGES)?
        .iter()
        .map(|merge| merge.to_string().ok().cloned());
    let merges: Option<Vec<String>> = merges.collect();
    let merges = merges.ok_or_else(|| format!("{MERGES} holds something that is no text"))?;
    let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
        "use_regex": false });
    let cut = json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated",
        "invert": false });
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [cut, bytes] },
        "post_processor": null, "decoder": bytes,
        "model": { "type": "BPE", "dropout": null, "unk_token": null,
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
            "byte_fallback": false, "ignore_merges": same == "llama-bpe", "vocab": vocabulary,
            "merges": merges },
    });
    Ok(file.to_string())
}
