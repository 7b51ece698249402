//! From SINR to service: the physical layer and MAC of 5G NR, as far as an IP packet notices them.
//!
//! - [`McsTable`], [`CodingScheme`]: modulation and coding schemes, channel quality indicators
//!   (TS 38.214).
//! - [`transport_block_bits`], [`Segmentation`]: sizes of transport and code blocks, exact
//!   (TS 38.214, TS 38.212).
//! - [`effective_sinr`]: one SINR for the subbands of a transport block.
//!
//! There is no 6G air interface yet: what is computed here is standard for NR, and an assumption
//! beyond it.

mod code_block;
mod data;
mod eesm;
mod error;
mod mcs;
mod transport_block;

pub use code_block::{BaseGraph, Segmentation};
pub use eesm::{decibel, effective_sinr, effective_sinr_db, linear};
pub use error::PhyError;
pub use mcs::{CodingScheme, McsTable};
pub use transport_block::{Allocation, transport_block_bits};
