//! From SINR to service: the physical layer and MAC of 5G NR, as far as an IP packet notices them.
//!
//! - [`McsTable`], [`CodingScheme`]: modulation and coding schemes, channel quality indicators
//!   (TS 38.214).
//! - [`transport_block_bits`], [`Segmentation`]: sizes of transport and code blocks, exact
//!   (TS 38.214, TS 38.212).
//! - [`effective_sinr`]: one SINR for the subbands of a transport block.
//! - [`BlerCurve`]: block error rates, fitted to our own simulation of the LDPC codes.
//! - [`Numerology`], [`DuplexPattern`], [`Timing`]: slots, whose they are, and what the MAC waits for.
//! - [`LinkAdapter`]: one user's direction slot by slot: reports, rank, scheme, outer loop, HARQ.
//! - [`SharedCell`]: a band that is shared with background users, slot by slot.
//!
//! There is no 6G air interface yet: what is computed here is standard for NR, and an assumption
//! beyond it.

mod adapter;
mod beta;
mod bler;
mod code_block;
mod data;
mod eesm;
mod error;
mod harq;
mod mcs;
mod numerology;
mod radio;
mod rate_table;
mod service;
mod sharing;
mod timing;
mod transport_block;

pub use adapter::{Grant, LinkAdapter};
pub use bler::{Basis, BlerCurve};
pub use code_block::{BaseGraph, Segmentation};
pub use eesm::{decibel, effective_sinr, effective_sinr_db, linear};
pub use error::PhyError;
pub use harq::{BlockCode, Combined, Combining, HarqOutlook, HarqSettings, MOST_ATTEMPTS};
pub use mcs::{CodingScheme, McsTable};
pub use numerology::{DuplexPattern, Numerology, SYMBOLS_PER_SLOT};
pub use radio::{ChannelReports, OuterLoop, RadioSettings, RlcMode};
pub use service::SlotService;
pub use sharing::{GROUPS, Groups, Scheduler, SharedCell, SharingSettings, scheduling_rate};
pub use timing::{AccessDelay, Timing, UplinkAccess};
pub use transport_block::{Allocation, transport_block_bits};
