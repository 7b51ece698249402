//! What can go wrong in the engine.

use std::ops::Range;
use std::path::PathBuf;

use crate::coding::Coding;
use crate::coding::kv::KvCoding;
use crate::device::{ComputeDevice, Precision};
use crate::model_config::ConfigError;

/// A failure of the tensor engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A file of a model could not be read.
    #[error("reading {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file or directory of a model could not be written.
    #[error("writing {path}", path = path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// config.json is not usable.
    #[error("the model's {path}", path = path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ConfigError,
    },
    /// An image is not as large as the encoder's.
    #[error("an image has {bytes} bytes, and the vision encoder takes {expected}")]
    ImageBytes {
        /// Bytes of the image.
        bytes: usize,
        /// Bytes that an image has.
        expected: u64,
    },
    /// Patches cannot be merged so.
    #[error("{merge} patches make no square that the vision encoder's images are filled with")]
    Merge {
        /// Patches that were to become one token.
        merge: u32,
    },
    /// The weights end before they should.
    #[error(
        "model file truncated: {path} has {found_bytes} bytes and its header promises \
         {expected_bytes}; remove its directory, and a built-in model is trained again",
        path = path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Length that its header implies.
        expected_bytes: u64,
        /// Length that it has.
        found_bytes: u64,
    },
    /// The weights are not a usable safetensors file.
    #[error(
        "model file damaged: {path}: {reason}; remove its directory, and a built-in model is \
         trained again",
        path = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file or directory of the user's that is not what is needed here.
    #[error("{path}: {reason}", path = path.display())]
    Unsuitable {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it, with the remedy where there is one.
        reason: String,
    },
    /// A directory of which it is not clear what its weights are.
    #[error(
        "{directory} holds {reason}; keep one model in a directory",
        directory = directory.display()
    )]
    Ambiguous {
        /// The directory.
        directory: PathBuf,
        /// What is there.
        reason: String,
    },
    /// tokenizer.json could not be made or used.
    #[error("{doing}")]
    Tokenizer {
        /// What was being done.
        doing: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A prompt that has no room for anything but the model's chat template.
    #[error(
        "a prompt of {tokens} tokens has no room for a token beside the {template_tokens} of the model's chat \
         template: raise prompt_tokens"
    )]
    PromptLength {
        /// How many it should have.
        tokens: u32,
        /// How many the template takes.
        template_tokens: u32,
    },
    /// A tokenizer that is for another kind of text.
    #[error(
        "the model's tokenizer makes {found} of {wanted} tokens of a long English text: its vocabulary lacks \
         what the text consists of; copy the tokenizer.json of the same model"
    )]
    FewTokens {
        /// How many it made.
        found: usize,
        /// How many were wanted.
        wanted: usize,
    },
    /// A range of layers that the model does not have.
    #[error("layers {range:?} of a model that has {layers}")]
    Layers {
        /// What was asked for.
        range: Range<u32>,
        /// What there is.
        layers: u32,
    },
    /// This part of a split model was loaded without the piece that is needed.
    #[error("this part of the model was loaded without its {piece}")]
    MissingPart {
        /// Which piece.
        piece: &'static str,
    },
    /// A model whose layers two nodes cannot share.
    #[error(
        "the layers of this model cannot be halved: {reason}; keep it whole, or divide it between layers"
    )]
    Halves {
        /// Why not.
        reason: String,
    },
    /// Half of the layers where whole ones are meant, or the other way round.
    #[error("{doing} was asked of a part that holds {held} of each of its layers")]
    OtherHalf {
        /// What was asked.
        doing: &'static str,
        /// What it holds.
        held: &'static str,
    },
    /// Parts of a sum that are of another number of tokens.
    #[error("half of a layer of {found} tokens for a pass of {expected}")]
    HalfTokens {
        /// Of the pass.
        expected: u32,
        /// Of the part.
        found: u32,
    },
    /// A token id outside the vocabulary.
    #[error("token {token} is outside the vocabulary of {vocabulary}")]
    TokenOutside {
        /// The id.
        token: u32,
        /// Size of the vocabulary.
        vocabulary: u32,
    },
    /// An empty sequence of tokens.
    #[error("a sequence without tokens")]
    NoTokens,
    /// The sequence would grow beyond what the model was made for.
    #[error("{positions} positions, and the model was made for {max_positions}")]
    TooLong {
        /// How many there would be.
        positions: u64,
        /// How many there may be.
        max_positions: u32,
    },
    /// The cache does not end where the new tokens start.
    #[error("tokens start at position {position} and the cache holds {cached}")]
    Position {
        /// Where the tokens start.
        position: u32,
        /// How many positions are cached.
        cached: u32,
    },
    /// A cache made by another model or another part of it.
    #[error("a key-value cache for layers {cache:?} used with layers {model:?}")]
    ForeignCache {
        /// The layers the cache was made for.
        cache: Range<u32>,
        /// The layers the model holds.
        model: Range<u32>,
    },
    /// No such slot, or no empty one.
    #[error("all {slots} slots are filled, or the one that is meant is not")]
    NoSlot {
        /// How many there are or are filled.
        slots: usize,
    },
    /// Another number of tokens than of filled slots.
    #[error("{tokens} tokens for {filled} filled slots: one each is needed, and one at least")]
    SlotTokens {
        /// The tokens.
        tokens: u32,
        /// The filled slots.
        filled: u32,
    },
    /// Bytes that are no hidden states of this model.
    #[error("{bytes} bytes are no whole number of hidden states of width {width}")]
    HiddenBytes {
        /// How many bytes came.
        bytes: usize,
        /// The model's width.
        width: u32,
    },
    /// States as they came over the link, in a coding that they do not fit.
    #[error("{bytes} bytes are no hidden states of width {width} in the coding {coding}")]
    CodedBytes {
        /// The coding.
        coding: Coding,
        /// How many bytes came.
        bytes: usize,
        /// The model's width.
        width: u32,
    },
    /// An adapter that was not loaded, or not for these layers.
    #[error("adapter {adapter} is not among the {adapters} that were loaded for these layers")]
    NoAdapter {
        /// Its number.
        adapter: u32,
        /// How many there are.
        adapters: u32,
    },
    /// Keys and values in a coding that they do not fit.
    #[error("{bytes} bytes are no keys and values of {positions} positions in the coding {coding}")]
    StoredBytes {
        /// The coding.
        coding: KvCoding,
        /// How many bytes there are.
        bytes: usize,
        /// Of how many positions they should be.
        positions: u32,
    },
    /// Keys or values that integers cannot hold.
    #[error("keys or values of layer {layer} are no numbers: only f32 and f16 hold such")]
    StoredNumbers {
        /// The layer.
        layer: u32,
    },
    /// A coding that has no room for states of this width.
    #[error("the coding {coding} cannot hold states of width {width}")]
    CodingWidth {
        /// The coding.
        coding: Coding,
        /// The model's width.
        width: u32,
    },
    /// Hidden states of another width.
    #[error("hidden states of width {found} for a model of width {expected}")]
    HiddenWidth {
        /// The model's.
        expected: u32,
        /// The states'.
        found: u32,
    },
    /// The number of threads cannot be set (any more).
    #[error("setting the engine's threads to {asked}: {reason}")]
    Threads {
        /// How many were asked for.
        asked: u32,
        /// Why not.
        reason: String,
    },
    /// More memory than there is.
    #[error(
        "{what} needs {} MB of memory, and {} MB is left ({source_name}): free some, give the node fewer \
         layers, or take weights of fewer bits (hexloop model quantize)",
        needed_bytes.div_ceil(1_000_000),
        left_bytes / 1_000_000
    )]
    Memory {
        /// What was to be loaded or made.
        what: String,
        /// What it occupies.
        needed_bytes: u64,
        /// What there is.
        left_bytes: u64,
        /// Which figure says so.
        source_name: String,
    },
    /// A device that cannot compute.
    #[error("computing on {device}: {reason}")]
    Device {
        /// Which.
        device: ComputeDevice,
        /// Why not, with what to do.
        reason: String,
    },
    /// A recipe that cannot be trained.
    #[error("recipe {name}: {reason}")]
    Recipe {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// Two models whose ids mean different things.
    #[error("{} and {} have different tokenizers: {reason}", first.display(), second.display())]
    OtherTokenizer {
        /// The first model's directory.
        first: PathBuf,
        /// The second model's.
        second: PathBuf,
        /// Where they differ.
        reason: String,
    },
    /// Scores that tell nothing.
    #[error(
        "the model's scores are no numbers: its weights are damaged, or {precision} is too narrow \
         for them"
    )]
    NotNumbers {
        /// The numbers it computes with.
        precision: Precision,
    },
    /// The tensor library failed.
    #[error("{doing}")]
    Tensor {
        /// What was being computed.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: Box<candle_core::Error>,
    },
}

impl EngineError {
    /// Says what was being computed when the tensor library failed.
    pub(crate) fn tensor(doing: &'static str) -> impl FnOnce(candle_core::Error) -> EngineError {
        move |source| EngineError::Tensor {
            doing,
            source: Box::new(without_stack(source)),
        }
    }
}

/// The tensor library adds the stack to its messages where `RUST_BACKTRACE` is set.
fn without_stack(error: candle_core::Error) -> candle_core::Error {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => without_stack(*inner),
        error => error,
    }
}

/// What the tensor library says, without the stack that it may add.
pub(crate) fn first_line(error: &candle_core::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or("no reason given").to_owned()
}
