//! Between text and token ids: a tokenizer in Hugging Face's tokenizer.json, and the chat template that a
//! model may have beside it.

use std::collections::BTreeMap;
use std::path::Path;

use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer, TokenizerBuilder};

use super::chat;
use super::corpus;
use super::error::EngineError;
use super::guard::guarded;
use super::input::read_text;

/// Name of the tokenizer in a model's directory.
pub(crate) const TOKENIZER_FILE: &str = "tokenizer.json";

/// Longest tokenizer.json, in bytes: some times those of the largest published vocabularies (a quarter of a million
/// tokens in 33 MB).
pub(crate) const MOST_TOKENIZER_BYTES: u64 = 1 << 27;

/// Separates texts; the first id of the vocabulary.
pub const END_OF_TEXT: &str = "<|end|>";

/// A tokenizer.
#[derive(Debug)]
pub struct TextTokenizer {
    inner: Tokenizer,
    chat: Option<Chat>,
}

/// The tokens of the chat template around what a user says.
#[derive(Debug)]
struct Chat {
    before: Vec<u32>,
    after: Vec<u32>,
}

fn failed(
    doing: impl Into<String>,
) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> EngineError {
    let doing = doing.into();
    move |source| EngineError::Tokenizer { doing, source }
}

impl TextTokenizer {
    /// Loads tokenizer.json, and the chat template where there is one, from a model's directory.
    ///
    /// # Errors
    /// A file that is missing or is no tokenizer, or a template that cannot be used.
    pub fn load(directory: &Path) -> Result<TextTokenizer, EngineError> {
        // Its worker threads would run beside the engine's and outside their bound.
        tokenizers::utils::parallelism::set_parallelism(false);
        let path = directory.join(TOKENIZER_FILE);
        let text = read_text(&path, MOST_TOKENIZER_BYTES)?;
        let doing = format!("reading the tokenizer {}", path.display());
        let unsuitable = |reason: String| EngineError::Unsuitable {
            path: path.clone(),
            reason,
        };
        let inner = guarded(|| Tokenizer::from_bytes(&text))
            .ok_or_else(|| unsuitable("it is damaged: copy it again".to_owned()))?
            .map_err(failed(doing))?;
        let mut tokenizer = TextTokenizer { inner, chat: None };
        if tokenizer
            .encode(&corpus::text(0, "prompt", 200))?
            .is_empty()
        {
            let reason = "plain text has no tokens in it: the vocabulary lacks the characters and has no \
                          token for what is unknown; copy the tokenizer.json of the same model";
            return Err(unsuitable(reason.to_owned()));
        }
        if let Some(around) = chat::read(directory)? {
            let missing = |token: &&String| tokenizer.inner.token_to_id(token).is_none();
            if let Some(token) = around.tokens.iter().find(missing) {
                return Err(unsuitable(format!(
                    "it has no token {token:?}, which the model's chat template puts around prompts; copy the \
                     tokenizer.json of the same model"
                )));
            }
            let before = tokenizer.encode(&around.before)?;
            let after = tokenizer.encode(&around.after)?;
            tokenizer.chat = Some(Chat { before, after });
        }
        Ok(tokenizer)
    }

    /// Learns a byte-level BPE vocabulary of at most `vocabulary` ids from paragraphs of text:
    /// the separator, the 256 bytes and the most frequent merges.
    ///
    /// # Errors
    /// Failures of the tokenizer library.
    pub fn train(paragraphs: &[String], vocabulary: u32) -> Result<TextTokenizer, EngineError> {
        tokenizers::utils::parallelism::set_parallelism(false);
        let bytes = ByteLevel::new(false, true, true);
        let mut learner = TokenizerBuilder::new()
            .with_model(BPE::default())
            .with_normalizer(None::<tokenizers::NormalizerWrapper>)
            .with_pre_tokenizer(Some(bytes))
            .with_post_processor(Some(bytes))
            .with_decoder(Some(bytes))
            .build()
            .map_err(failed("preparing a tokenizer"))?;
        let mut trainer = BpeTrainerBuilder::new()
            .show_progress(false)
            .vocab_size(usize::try_from(vocabulary).unwrap_or(usize::MAX))
            .min_frequency(2)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
            .build();
        learner
            .train(&mut trainer, paragraphs.iter().map(String::as_str))
            .map_err(failed("learning the tokenizer's merges"))?;
        let text = learner
            .to_string(true)
            .map_err(failed("writing the tokenizer"))?;
        let inner = Tokenizer::from_bytes(text).map_err(failed("reading the tokenizer back"))?;
        Ok(TextTokenizer { inner, chat: None })
    }

    /// Writes tokenizer.json into a model's directory.
    ///
    /// # Errors
    /// A directory that cannot be written.
    pub fn save(&self, directory: &Path) -> Result<(), EngineError> {
        let path = directory.join(TOKENIZER_FILE);
        let text = self
            .inner
            .to_string(true)
            .map_err(failed("writing the tokenizer"))?;
        std::fs::write(&path, text).map_err(|source| EngineError::Write { path, source })
    }

    /// Number of ids.
    #[must_use]
    pub fn vocabulary(&self) -> u32 {
        u32::try_from(self.inner.get_vocab_size(true)).unwrap_or(u32::MAX)
    }

    /// How many tokens of every prompt are the chat template's; `None` if there is none.
    #[must_use]
    pub fn template_tokens(&self) -> Option<u32> {
        let chat = self.chat.as_ref()?;
        let tokens = chat.before.len() + chat.after.len();
        Some(u32::try_from(tokens).unwrap_or(u32::MAX))
    }

    /// The ids of a text.
    ///
    /// # Errors
    /// Failures of the tokenizer library.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(failed("encoding text"))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of some ids, the separator left out.
    ///
    /// # Errors
    /// Failures of the tokenizer library.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, EngineError> {
        self.inner
            .decode(tokens, true)
            .map_err(failed("decoding tokens"))
    }
}

/// Checks that an id means the same to two models: their tokenizers have one vocabulary.
///
/// # Errors
/// A tokenizer that cannot be read, or an id that differs.
pub fn check_shared(first: &Path, second: &Path) -> Result<(), EngineError> {
    let ids = |directory: &Path| -> Result<BTreeMap<u32, String>, EngineError> {
        let vocabulary = TextTokenizer::load(directory)?.inner.get_vocab(true);
        Ok(vocabulary
            .into_iter()
            .map(|(text, id)| (id, text))
            .collect())
    };
    let (one, other) = (ids(first)?, ids(second)?);
    let mut all = one.keys().chain(other.keys());
    let Some(id) = all.find(|id| one.get(id) != other.get(id)) else {
        return Ok(());
    };
    let told = |ids: &BTreeMap<u32, String>| match ids.get(id) {
        Some(text) => format!("{text:?}"),
        None => "nothing".to_owned(),
    };
    Err(EngineError::OtherTokenizer {
        first: first.to_owned(),
        second: second.to_owned(),
        reason: format!(
            "id {id} is {} to one and {} to the other",
            told(&one),
            told(&other)
        ),
    })
}

/// A prompt of exactly so many tokens that the seed alone determines: a passage, within the chat template
/// where there is one.
///
/// # Errors
/// Fewer tokens than the template takes, or failures of the tokenizer library.
pub fn prompt(tokenizer: &TextTokenizer, seed: u64, tokens: u32) -> Result<Vec<u32>, EngineError> {
    let Some(chat) = &tokenizer.chat else {
        return passage(tokenizer, seed, tokens);
    };
    let template_tokens = tokenizer.template_tokens().unwrap_or(0);
    let own = tokens.checked_sub(template_tokens).filter(|own| *own > 0);
    let own = own.ok_or(EngineError::PromptLength {
        tokens,
        template_tokens,
    })?;
    let said = passage(tokenizer, seed, own)?;
    Ok([&chat.before, &said, &chat.after]
        .into_iter()
        .flatten()
        .copied()
        .collect())
}

/// Texts are made so many times as long as they have tokens, at most: tokens of English have four or five
/// bytes.
const MOST_BYTES_PER_TOKEN: usize = 256;

/// Exactly so many tokens of text that the seed alone determines.
///
/// # Errors
/// A tokenizer that makes too few tokens of text, or failures of the tokenizer library.
pub fn passage(tokenizer: &TextTokenizer, seed: u64, tokens: u32) -> Result<Vec<u32>, EngineError> {
    let wanted = usize::try_from(tokens).unwrap_or(usize::MAX);
    // A token of a byte-level vocabulary holds at least one byte.
    let text = corpus::text(seed, "prompt", wanted.saturating_add(1));
    let mut ids = tokenizer.encode(&text)?;
    let mut bytes_per_token = 8;
    while ids.len() < wanted {
        if bytes_per_token > MOST_BYTES_PER_TOKEN {
            return Err(EngineError::FewTokens {
                found: ids.len(),
                wanted,
            });
        }
        let longer = corpus::text(seed, "prompt", wanted.saturating_mul(bytes_per_token));
        ids = tokenizer.encode(&longer)?;
        bytes_per_token *= 2;
    }
    ids.truncate(wanted);
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::model::size;

    fn refusal_of(directory: &Path) -> String {
        TextTokenizer::load(directory).unwrap_err().to_string()
    }

    #[test]
    fn a_tokenizer_without_a_token_that_is_needed_is_refused() {
        let root = tempfile::tempdir().unwrap();
        // A vocabulary of words that no text here has, and no token for the unknown.
        let json = r#"{ "version": "1.0", "model": { "type": "BPE", "vocab": { "é": 0 }, "merges": [] } }"#;
        std::fs::write(root.path().join(TOKENIZER_FILE), json).unwrap();
        let refused = refusal_of(root.path());
        assert!(
            refused.contains("plain text has no tokens in it"),
            "{refused}"
        );

        let learnt = TextTokenizer::train(&[corpus::text(1, "tests", 4000)], 300).unwrap();
        learnt.save(root.path()).unwrap();
        let template = "{{ bos_token }}{{ messages[0].content }}";
        std::fs::write(root.path().join(chat::TEMPLATE_FILE), template).unwrap();
        let settings = r#"{ "bos_token": "<s>", "eos_token": "</s>" }"#;
        std::fs::write(root.path().join(chat::SETTINGS_FILE), settings).unwrap();
        let refused = refusal_of(root.path());
        assert!(refused.contains("it has no token \"<s>\""), "{refused}");
    }

    #[test]
    fn a_tokenizer_that_makes_next_to_no_tokens_of_text_ends_with_an_error() {
        let json = r#"{ "version": "1.0", "model": { "type": "BPE", "vocab": { "q": 0 }, "merges": [] } }"#;
        let inner = Tokenizer::from_bytes(json).unwrap();
        let refused = passage(&TextTokenizer { inner, chat: None }, 7, 1000).unwrap_err();
        assert!(refused.to_string().contains("of 1000 tokens"), "{refused}");
    }

    #[test]
    fn a_prompt_has_its_length_with_the_template_around_it_and_needs_room_for_both() {
        let root = tempfile::tempdir().unwrap();
        let learnt = TextTokenizer::train(&[corpus::text(1, "tests", 4000)], 300).unwrap();
        learnt.save(root.path()).unwrap();
        let plain = prompt(&learnt, 7, 20).unwrap();
        let template = "Q: {{ messages[0].content }} A:{{ eos_token }}";
        std::fs::write(root.path().join(chat::TEMPLATE_FILE), template).unwrap();
        let settings = format!(r#"{{ "eos_token": "{END_OF_TEXT}" }}"#);
        std::fs::write(root.path().join(chat::SETTINGS_FILE), settings).unwrap();
        let tokenizer = TextTokenizer::load(root.path()).unwrap();
        let taken = tokenizer.template_tokens().unwrap();
        let within = prompt(&tokenizer, 7, 20 + taken).unwrap();
        let before = tokenizer.encode("Q: ").unwrap();
        assert_eq!(&within[..before.len()], &before[..]);
        assert_eq!(&within[before.len()..before.len() + 20], &plain[..]);
        // The separator's id is 0, and it is one token.
        assert_eq!(
            (within.last(), within.len()),
            (Some(&0), plain.len() + size(taken))
        );
        assert_eq!(passage(&tokenizer, 7, 20).unwrap(), plain);
        let told = prompt(&tokenizer, 7, taken).unwrap_err().to_string();
        assert!(
            told.contains("chat template") && told.contains("prompt_tokens"),
            "{told}"
        );
    }

    #[test]
    fn tokenizers_of_the_same_text_are_shared_and_others_are_named_with_the_id_that_differs() {
        let roots = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let learn = |text: &str, root: &tempfile::TempDir| {
            let learnt = TextTokenizer::train(&[text.repeat(20)], 300).unwrap();
            learnt.save(root.path()).unwrap();
        };
        learn("a quick brown fox ", &roots[0]);
        learn("a quick brown fox ", &roots[1]);
        learn("one lazy dog or two ", &roots[2]);
        let [first, same, other] = [&roots[0], &roots[1], &roots[2]].map(tempfile::TempDir::path);
        check_shared(first, same).unwrap();
        let error = check_shared(first, other).unwrap_err().to_string();
        for directory in [first, other] {
            assert!(error.contains(&directory.display().to_string()), "{error}");
        }
        assert!(error.contains("id 2"), "{error}");
    }
}
