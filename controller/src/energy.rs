//! What the meters' readings amount to: idle subtracted, per useful unit, per request.
//!
//! Pure functions of plan and results.

mod attribution;
mod curve;
mod radio;
mod requests;

pub use attribution::{Attribution, Coefficients, RequestWork, attribute, calibrate};
pub use curve::{Interval, intervals};
pub use radio::{MODEL as RADIO_MODEL, RadioEnergy, UNIT_W, radio_energy};
pub(crate) use requests::{INTERVAL_NS, idle_power, known_idle, request_energies};
