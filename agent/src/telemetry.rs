//! What nodes and the machine use: CPU time, memory, energy. Every value says where it is from,
//! and what nobody measures is never a number.

pub mod board;
pub mod cores;
pub mod counting;
pub mod feeds;
pub mod metrics;
pub mod node;
pub mod power;
pub mod sources;
