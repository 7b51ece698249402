//! 3GPP TR 38.901, "Study on channel model for frequencies from 0.5 to 100 GHz", v19.4.0, and
//! v16.1 where its tables differ ([`SpecVersion`]).
//!
//! Distances and heights are in metres, frequencies in GHz, losses in dB. The functions compute
//! what the clause says and nothing else; [`validity`] says where the clause says it.

pub mod arrival;
pub mod blockage;
pub mod large_scale;
pub mod los;
pub mod normal;
pub mod o2i;
pub mod path_loss;
mod scenario;
pub mod shadowing;
pub mod track;
pub mod validity;

pub use scenario::{Condition, Scenario, SpecVersion, UnknownName};

/// Speed of light in m/s. Note 1 of table 7.4.1-1 rounds it to 3.0e8, which moves the breakpoints.
pub const SPEED_OF_LIGHT_M_PER_S: f64 = 299_792_458.0;
