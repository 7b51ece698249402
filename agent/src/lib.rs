//! Plays the nodes of a plan on one machine: namespaces, links, pinning, jobs, telemetry, and
//! the undoing of all of it.
//!
//! One process per agent. Sockets are served by tokio; link playback, telemetry and each node's
//! namespaces own a named thread. `unsafe` lives in `sys` alone.

pub mod attended;
pub mod behind;
pub mod bench;
pub mod capture;
pub mod cgroup;
pub mod change;
pub mod configuration;
pub mod descriptors;
pub mod engine_cuda;
pub mod failpoint;
pub mod guardian;
pub mod hold;
pub mod isolation;
mod ledger;
pub mod link;
pub mod management;
pub mod namespace;
pub mod node;
pub mod play;
pub mod privilege;
pub mod probe;
pub mod process;
pub mod serve;
mod sys;
pub mod telemetry;
pub mod undo;

pub use ledger::{Held, LedgerError, LedgerOwner, UndoId};
