//! The edge jobs of an experiment: which requests arrive when, how a language model answers
//! them on the nodes it is placed on, and what each request experienced.
//!
//! Without the `engine` feature this crate holds only the types that plans and records are
//! made of; with it, the tensor engine, the model, its training and the job processes.

pub mod clock;
pub mod coding;
pub mod device;
pub mod job;
pub mod load;
pub mod model_config;
pub mod recipe;
pub mod request;
pub mod study;
pub mod traffic;
pub mod transport;
pub mod wire;

#[cfg(feature = "engine")]
pub mod engine;
#[cfg(feature = "engine")]
pub mod serve;
