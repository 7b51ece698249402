//! Non-terrestrial links: satellites in low orbit, what their waves lose on the way, and when a
//! user changes from one to the next.
//!
//! Geometry is that of circular orbits around a round Earth; losses follow TR 38.811 clause 6.6.
//! Everything is a function of time and seed.

mod constellation;
mod environment;
mod error;
mod loss;
mod orbit;
mod schedule;

pub use constellation::{Constellation, Sight, User};
pub use environment::{Band, ByElevation, Environment};
pub use error::NtnError;
pub use loss::{Losses, SatelliteLink, SatelliteLinkSettings, ionospheric_scintillation_db};
pub use orbit::{CircularOrbit, PassPoint};
pub use schedule::{Change, Schedule, ScheduleSettings, Serving};

/// Mean radius of the Earth in km.
pub const EARTH_RADIUS_KM: f64 = 6371.0;
/// Gravitational constant times mass of the Earth in km3/s2.
pub const EARTH_GM_KM3_S2: f64 = 398_600.441_8;
/// Turns of the Earth against the stars, in rad/s.
pub const EARTH_ROTATION_RAD_S: f64 = 7.292_115e-5;
