//! A shared backbone with adapters as processes: the driver has what each task adds, the stage the backbone.
//!
//! ```text
//! driver                                       stage
//! Round: forget                             -> drops what it holds of all tasks
//! Weights.. (pieces of a task's files)      -> writes them to its own storage
//! Load                                      -> loads them; Load with what came and how long that took
//! Round: a wave                             -> expects so many prompts
//! Prompt..: the task and the tokens         -> batches them as the arm says
//!                                           <- Token.., of all requests as they come
//!                                           <- Books of the wave, in JSON
//! Appraise                                  -> scores a text, or answers a prompt alone
//! ```
//!
//! The stage computes with nothing of a task but what came over the link.

mod appraise;
mod driver;
mod parcels;
mod stage;
mod wave;

use serde::{Deserialize, Serialize};

use crate::study::adapters::AdapterServing;

pub(super) use driver::drive;
pub(super) use stage::serve;

/// What a `Round` frame asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Order {
    /// To hold nothing of any task.
    Forget,
    /// To expect a wave.
    Wave {
        arm: AdapterServing,
        requests: u32,
        prompt_tokens: u32,
        output_tokens: u32,
    },
}

/// What the stage counted in a wave.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct WaveBooks {
    passes: u64,
    sequences: u64,
    switches: u64,
    up: u64,
    down: u64,
}

/// What an `Appraise` frame asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Question {
    /// How surprising a text is with a task's adapter, or with none.
    Loss {
        adapter: Option<u32>,
        text: Vec<u32>,
    },
    /// What a prompt is answered with alone, with a task's adapter, and what its full model says to that.
    Alone {
        task: u32,
        prompt: Vec<u32>,
        output_tokens: u32,
        merged: bool,
    },
}

/// The answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Appraisal {
    Loss {
        micronats: u64,
    },
    Alone {
        tokens: Vec<u32>,
        gap_millionths: Vec<u64>,
        merged: Option<Vec<u32>>,
    },
}

/// Which file of a task a piece belongs to, by the position of its frame, and its name where it is kept.
const FILES: [&str; 3] = [
    crate::recipe::ADAPTER_CONFIG_FILE,
    crate::recipe::ADAPTER_WEIGHTS_FILE,
    "model.safetensors",
];

/// The place of a full model among them.
const WHOLE: u32 = 2;

/// Bytes of orders, questions, answers and books.
const MOST_JSON_BYTES: u64 = 1 << 20;

/// Bytes of the answer to `Load`: how long it took, parameters, their bytes, and bytes that came.
const LOADED_BYTES: u64 = 4 * 8;
