//! Loss of radio waves above what TR 38.901 covers: close-in path loss up to 300 GHz, and what
//! air, rain, cloud and fog take away.
//!
//! Everything here is a function of its inputs; nothing is random.

mod atmosphere;
mod close_in;
mod cloud;
mod error;
mod gas;
mod rain;
mod table;
mod window;

pub use atmosphere::{StandardAtmosphere, slant_path_gas_db, slant_path_through_layers_km};
pub use close_in::{CloseIn, CloseInScenario, free_space_path_loss_db};
pub use cloud::cloud_db_km;
pub use error::PropagationError;
pub use gas::{Air, Gases};
pub use rain::{Polarization, rain_db_km, rain_slant_path_db};
pub use window::{Window, windows};
