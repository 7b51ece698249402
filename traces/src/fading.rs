//! Small-scale fading: what moving through the waves of one link does to its power, from
//! millisecond to millisecond and from subband to subband.
//!
//! Tapped delay lines of TR 38.901 clause 7.7.2 (and the fixed ones of TS 38.101-4), and the clustered
//! ones of clause 7.7.1 as a beam sees them; each tap is a sum of sinusoids. Nothing here knows path
//! loss, shadowing or rates.

mod angles;
mod error;
mod profile;
mod rays;
mod shape;
mod sinusoids;
mod tapped_delay_line;

pub use angles::Angles;
pub use error::FadingError;
pub use profile::{Directions, Profile, Tap, TapKind};
pub use tapped_delay_line::{FadingSettings, RaySettings, TappedDelayLine};
