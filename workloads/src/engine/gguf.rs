//! GGUF files: making one of a checkpoint, and a model's directory of one.
//!
//! Keys and names are those of llama.cpp (`gguf-py/gguf/constants.py`), so that its programs run
//! what is written here.

mod export;
mod import;
mod keys;
mod vocabulary;

pub(crate) use export::store;
pub use export::{BlockType, Quantised, quantise};
pub use import::import;
pub(crate) use keys::FREQUENCY_DIVISORS;
