//! From where users and cells are to the rows of a trace.
//!
//! The order is that of a base station's day: every 5 ms the large-scale state (places, path loss,
//! shadowing, line of sight, blockers, the serving cell), every slot the fading in each subband,
//! the SINR, and what link adaptation makes of it; every row what the slots carried.

mod blockers;
mod fader;
mod interference;
mod link;
mod rows;
mod satellite;
mod sharing;
mod sites;
mod window;

pub(super) use rows::RadioRows;
pub(super) use satellite::{SatelliteRows, SwitchRows};

#[cfg(test)]
mod calibration_tests;
