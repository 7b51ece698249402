//! Plays the nodes of a plan on one machine: namespaces, links, pinning, jobs, telemetry, and
//! the undoing of all of it.
//!
//! One process per agent. Sockets are served by tokio; link playback, telemetry and each node's
//! namespaces own a named thread. `unsafe` lives in [`sys`] alone.

pub mod link;
pub mod namespace;
mod sys;
