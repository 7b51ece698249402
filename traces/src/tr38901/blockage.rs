//! Blockage: clause 7.6.4. Model A blocks regions of angles around the user, model B places
//! screens on the map.

pub mod angular;
pub mod screen;

use core::f64::consts::PI;

/// What a knife edge lets pass: equations 7.6-23 and 7.6-30 with `excess_m` for the path's detour
/// over the edge.
fn edge(sign: f64, excess_m: f64, wavelength_m: f64) -> f64 {
    let root = libm::sqrt((PI / wavelength_m * excess_m).max(0.0));
    libm::atan(sign * PI / 2.0 * root) / PI
}

/// The loss in dB behind four edges: equations 7.6-22 and 7.6-29.
fn loss_db(horizontal: f64, vertical: f64) -> f64 {
    -20.0 * libm::log10(1.0 - horizontal * vertical)
}
