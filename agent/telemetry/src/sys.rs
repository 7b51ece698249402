//! What needs `unsafe`: one module per subject, each behind a safe interface.

pub(crate) mod gpm;
pub(crate) mod nvml;
pub(crate) mod perf;
