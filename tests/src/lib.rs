//! What the integration tests share: a sandbox that runs the `hexloop` binary with directories of
//! its own, snapshots of what a run could leave behind on the machine, the tests' needs, and the
//! assertions on a run's summary.
//!
//! The binary under test is `hexloop-under-test`, a program of this package with the same `main`
//! as `hexloop`: so cargo builds it with the tests and tells them where it is
//! (`env!("CARGO_BIN_EXE_hexloop-under-test")`).

#![forbid(unsafe_code)]

pub mod bench;
pub mod experiment;
pub mod mock_engine;
pub mod needs;
pub mod pcapng;
pub mod points;
pub mod sandbox;
pub mod stage;
pub mod summary;
pub mod system;
