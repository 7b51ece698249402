//! A model's directory of a GGUF file: what the file says of shape and tokenizer, written beside it.

use std::io::BufReader;
use std::path::Path;

use super::content::read_content;
use super::export::GGUF_FILE;
use super::{keys, vocabulary};
use crate::engine::chat::Template;
use crate::engine::error::EngineError;
use crate::engine::input;
use crate::engine::text::{MOST_TOKENIZER_BYTES, TOKENIZER_FILE, TextTokenizer};
use crate::engine::weights::CONFIG_FILE;
use crate::model_config::ModelConfig;

/// Makes the new directory `into` of a GGUF file: config.json, tokenizer.json and the chat template from
/// what the file says, and the file itself (a hard link where that is possible). `tokenizer` is a
/// tokenizer.json to take instead.
///
/// # Errors
/// A file that is no GGUF, is damaged, or holds a model or a tokenizer that the engine does not
/// run; a directory that cannot be made or written, which is removed again.
pub fn import(
    file: &Path,
    tokenizer: Option<&Path>,
    into: &Path,
) -> Result<ModelConfig, EngineError> {
    let unsuitable = |reason: String| EngineError::Unsuitable {
        path: file.to_owned(),
        reason,
    };
    let (opened, _) = input::open(file)?;
    let mut reader = BufReader::new(opened);
    let content = read_content(&mut reader).map_err(unsuitable)?;
    let table = content.tensor_infos.get("token_embd.weight");
    let table = table.and_then(|info| info.shape.dims().first().copied());
    let table = table.and_then(|rows| u32::try_from(rows).ok());
    let vocabulary = table.ok_or_else(|| unsuitable("it has no token_embd.weight".to_owned()))?;
    let has = |name: &str| content.tensor_infos.contains_key(name);
    let config = keys::read(|key| content.metadata.get(key), has, vocabulary);
    let config = config.map_err(|keys::Unusable(reason)| unsuitable(reason))?;
    let tokenizer = match tokenizer {
        Some(path) => input::read_text(path, MOST_TOKENIZER_BYTES)?,
        None => vocabulary::tokenizer_json(|key| content.metadata.get(key)).map_err(|reason| {
            unsuitable(format!("{reason}; give the model's tokenizer.json as well"))
        })?,
    };
    std::fs::create_dir(into).map_err(|source| EngineError::Write {
        path: into.to_owned(),
        source,
    })?;
    let template = vocabulary::chat_template(|key| content.metadata.get(key));
    let filled = fill(file, &config, (&tokenizer, template.as_ref()), into);
    if filled.is_err() {
        // Nothing of a directory that is not whole is kept; what failed is told above.
        let _ = std::fs::remove_dir_all(into);
    }
    filled.map(|()| config)
}

fn fill(
    file: &Path,
    config: &ModelConfig,
    (tokenizer, template): (&str, Option<&Template>),
    into: &Path,
) -> Result<(), EngineError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| EngineError::Write { path, source }
    };
    let path = into.join(CONFIG_FILE);
    let text = config.to_hugging_face_json();
    let text = text.map_err(|source| EngineError::Config {
        path: path.clone(),
        source,
    })?;
    std::fs::write(&path, text).map_err(failed(&path))?;
    let path = into.join(TOKENIZER_FILE);
    std::fs::write(&path, tokenizer).map_err(failed(&path))?;
    if let Some(template) = template {
        template.save(into)?;
    }
    TextTokenizer::load(into)?;
    let path = into.join(GGUF_FILE);
    if std::fs::hard_link(file, &path).is_err() {
        std::fs::copy(file, &path).map_err(failed(&path))?;
    }
    crate::engine::verify(into).map(|_| ())
}
