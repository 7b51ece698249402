//! GGUF files: making one of a checkpoint, and a model's directory of one.
//!
//! Keys and names are those of llama.cpp (`gguf-py/gguf/constants.py`), so that its programs run
//! what is written here.

mod content;
mod export;
mod import;
mod keys;
mod sentencepiece;
mod vocabulary;

pub(crate) use content::read_content;
pub use export::{BlockType, Quantised, quantise};
pub(crate) use export::{store, stored_type};
pub use import::import;
pub(crate) use keys::FREQUENCY_DIVISORS;
