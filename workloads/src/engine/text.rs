//! Between text and token ids: a byte-level BPE tokenizer in Hugging Face's tokenizer.json.

use std::collections::BTreeMap;
use std::path::Path;

use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer, TokenizerBuilder};

use super::corpus;
use super::error::EngineError;

/// Name of the tokenizer in a model's directory.
pub(crate) const TOKENIZER_FILE: &str = "tokenizer.json";

/// Separates texts; the first id of the vocabulary.
pub const END_OF_TEXT: &str = "<|end|>";

/// A tokenizer.
#[derive(Debug)]
pub struct TextTokenizer {
    inner: Tokenizer,
}

fn failed(
    doing: impl Into<String>,
) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> EngineError {
    let doing = doing.into();
    move |source| EngineError::Tokenizer { doing, source }
}

impl TextTokenizer {
    /// Loads tokenizer.json from a model's directory.
    ///
    /// # Errors
    /// A file that is missing or is no tokenizer.
    pub fn load(directory: &Path) -> Result<TextTokenizer, EngineError> {
        // Its worker threads would run beside the engine's and outside their bound.
        tokenizers::utils::parallelism::set_parallelism(false);
        let path = directory.join(TOKENIZER_FILE);
        let bytes = std::fs::read(&path).map_err(|source| EngineError::Read {
            path: path.clone(),
            source,
        })?;
        let doing = format!("reading the tokenizer {}", path.display());
        let inner = Tokenizer::from_bytes(&bytes).map_err(failed(doing))?;
        Ok(TextTokenizer { inner })
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
        Ok(TextTokenizer { inner })
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

/// A prompt of exactly so many tokens that the seed alone determines.
///
/// # Errors
/// Failures of the tokenizer library.
pub fn prompt(tokenizer: &TextTokenizer, seed: u64, tokens: u32) -> Result<Vec<u32>, EngineError> {
    let wanted = usize::try_from(tokens).unwrap_or(usize::MAX);
    // A token of a byte-level vocabulary holds at least one byte.
    let text = corpus::text(seed, "prompt", wanted.saturating_add(1));
    let mut ids = tokenizer.encode(&text)?;
    let mut further = 0;
    while ids.len() < wanted {
        further += 1;
        let longer = corpus::text(seed, "prompt", wanted.saturating_mul(4 << further));
        ids = tokenizer.encode(&longer)?;
    }
    ids.truncate(wanted);
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

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
