//! The tensor engine: a Llama-architecture model that can be cut after any layer, its training,
//! its files and its text.
//!
//! Everything runs on candle. This module must not know of links, nodes or requests.

pub mod adapters;
pub mod bench;
mod cache;
mod chat;
mod coding;
mod compute;
pub mod corpus;
pub mod error;
pub mod exit;
pub mod gguf;
mod guard;
mod halves;
mod hidden;
pub mod images;
pub(crate) mod input;
pub mod inversion;
mod layer;
mod linear;
mod memory;
mod model;
pub mod prefixes;
pub mod probe;
mod products;
pub mod recipe_cache;
mod slots;
mod state_bytes;
mod stored;
pub mod tasks;
mod tensors;
#[cfg(test)]
mod tests;
pub mod text;
pub mod threads;
pub mod train;
pub mod vision;
mod weights;
mod work;

pub use crate::device::{ComputeDevice, Precision};
pub use cache::KeyValueCache;
pub use coding::StateCoder;
pub use compute::Compute;
pub use error::EngineError;
pub use halves::{Half, HalfPass, SCORE_BOUND};
pub use hidden::Hidden;
pub use model::{Model, Parts};
pub use slots::Slots;
pub use state_bytes::StateBytes;
#[cfg(test)]
pub(crate) use tensors::all_shapes;
pub use threads::set_threads;
pub use weights::{is_random, verify, weights_bytes, weights_sha256, write_random};
pub use work::PassWork;

/// Version of the tensor library, as pinned in the workspace.
const CANDLE_VERSION: &str = "0.11.1";

/// Which code path computes: the library, the device and the vector instructions that its matrix
/// product picks at run time. Results are reproducible on one path, not across paths.
#[must_use]
pub fn path() -> String {
    path_on(&Compute::cpu())
}

/// The same on another device or in other numbers than f32.
#[must_use]
pub fn path_on(compute: &Compute) -> String {
    let kernels = match compute.device_name() {
        ComputeDevice::Cpu => format!("cpu {}", instructions()),
        device @ ComputeDevice::Cuda(_) => device.to_string(),
    };
    match compute.precision() {
        Precision::F32 => format!("candle {CANDLE_VERSION} {kernels}"),
        precision => format!("candle {CANDLE_VERSION} {kernels} {precision}"),
    }
}

/// The same for a model that was loaded, with how its blocks of few bits are kept where that is not as blocks.
#[must_use]
pub fn path_of(model: &Model) -> String {
    let path = path_on(model.compute());
    match model.kept() {
        Some(kept) => format!("{path}, {kept}"),
        None => path,
    }
}

#[cfg(target_arch = "x86_64")]
fn instructions() -> &'static str {
    if std::arch::is_x86_feature_detected!("avx512f") {
        "avx512"
    } else if std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("fma")
    {
        "avx2"
    } else {
        "sse2"
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn instructions() -> &'static str {
    std::env::consts::ARCH
}
