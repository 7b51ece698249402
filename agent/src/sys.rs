//! Everything that needs `unsafe`: one module per subject, each behind a safe interface.

pub(crate) mod pidfd;
pub(crate) mod spawn;
