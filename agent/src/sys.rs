//! Everything that needs `unsafe`: one module per subject, each behind a safe interface.

pub(crate) mod bpf;
pub(crate) mod capability;
pub(crate) mod cookie;
pub(crate) mod ethtool;
pub(crate) mod loopback;
pub(crate) mod memory_policy;
pub(crate) mod message_filter;
pub(crate) mod ownership;
pub(crate) mod packet;
pub(crate) mod pidfd;
pub(crate) mod realtime;
pub(crate) mod spawn;
pub(crate) mod terminal;
pub(crate) mod wait;
