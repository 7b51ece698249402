//! Where trained built-in models are kept, and how one gets there whole or not at all.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::error::EngineError;
use super::text::TOKENIZER_FILE;
use super::weights::{CONFIG_FILE, WEIGHTS_FILE};
use crate::recipe::Recipe;

/// How a model came to be, beside its weights.
pub(crate) const TRAINING_FILE: &str = "training.json";

/// Everything in a built-in model's directory.
const FILES: [&str; 4] = [CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE, TRAINING_FILE];

/// The directory of a recipe's model under a cache directory: its name and its hash.
#[must_use]
pub fn model_directory(cache_root: &Path, recipe: &Recipe) -> PathBuf {
    let hash = recipe.sha256_hex();
    cache_root
        .join("models")
        .join(format!("{}-{}", recipe.name, &hash[..16]))
}

/// Whether a model's directory holds all of its files; [`super::verify`] looks into them.
#[must_use]
pub fn is_complete(directory: &Path) -> bool {
    FILES.iter().all(|file| directory.join(file).is_file())
}

/// Moves a finished model from its temporary directory to its place, durably and at once. Where
/// somebody else was faster, theirs stays and the temporary directory is removed.
///
/// Both must be on one file system.
///
/// # Errors
/// A directory that cannot be written.
pub fn install(temporary: &Path, place: &Path) -> Result<(), EngineError> {
    let write_error = |path: &Path| {
        let path = path.to_owned();
        move |source| EngineError::Write { path, source }
    };
    for file in FILES {
        let path = temporary.join(file);
        sync(&path).map_err(write_error(&path))?;
    }
    sync(temporary).map_err(write_error(temporary))?;
    let parent = place.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(write_error(parent))?;
    match std::fs::rename(temporary, place) {
        Ok(()) => sync(parent).map_err(write_error(parent)),
        // A directory is not renamed over one that holds something.
        Err(_) if is_complete(place) => {
            std::fs::remove_dir_all(temporary).map_err(write_error(temporary))
        }
        Err(source) => Err(EngineError::Write {
            path: place.to_owned(),
            source,
        }),
    }
}

fn sync(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(directory: &Path, content: &str) {
        std::fs::create_dir(directory).expect("made");
        for file in FILES {
            std::fs::write(directory.join(file), content).expect("written");
        }
    }

    #[test]
    fn the_first_finished_model_stays_and_the_second_is_removed() {
        let root = tempfile::tempdir().expect("made");
        let recipe = Recipe::by_name("micro").expect("exists");
        let place = model_directory(root.path(), &recipe);
        assert!(!is_complete(&place));
        for content in ["first", "second"] {
            let temporary = root.path().join(content);
            finished(&temporary, content);
            install(&temporary, &place).expect("installed");
            assert!(is_complete(&place) && !temporary.exists());
            assert_eq!(
                std::fs::read_to_string(place.join(CONFIG_FILE)).expect("read"),
                "first"
            );
        }
    }

    #[test]
    fn an_unfinished_model_is_not_installed() {
        let root = tempfile::tempdir().expect("made");
        let (temporary, place) = (root.path().join("half"), root.path().join("place"));
        finished(&temporary, "half");
        std::fs::remove_file(temporary.join(WEIGHTS_FILE)).expect("removed");
        let error = install(&temporary, &place).expect_err("refused");
        assert!(error.to_string().contains(WEIGHTS_FILE), "{error}");
        assert!(!place.exists());
    }
}
