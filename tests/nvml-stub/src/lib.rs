//! A library with NVML's functions whose GPUs follow a script, so that everything above NVML can be
//! tested without one: update periods, averaging windows, resets, calls that are not supported,
//! latency, a GPU that falls off the bus, foreign processes.
//!
//! The script is the JSON file named in `HEXLOOP_NVML_STUB`; [`Script`] says what it holds. Time runs
//! from `nvmlInit_v2`, or stands where [`functions::hexloop_stub_set_time_ns`] has put it. Every GPU's
//! name holds the word "stub": what reads it must say so.

pub mod functions;
mod gpu;
mod recording;
mod script;
mod settings;

pub use recording::Recording;
pub use script::{GpuScript, Script};
