//! Where a machine's energy and power are read, and how often.

use std::sync::Arc;

use hexloop_telemetry::{ExternalFeed, MachineMeters, Places};
use hexloop_workloads::clock;

use super::board::Board;

/// Readings of energy and power per second, unless something else is asked for.
pub const USUAL_RATE_HZ: u32 = 100;
/// The most that can be asked for.
pub const HIGHEST_RATE_HZ: u32 = 1_000;

/// What a sampler reads.
#[derive(Debug, Clone)]
pub struct MeterSources {
    /// Where meters are looked for.
    pub places: Places,
    /// External meters, which are fed by others.
    pub feeds: Vec<ExternalFeed>,
    /// Where the latest readings are shown; `None` where nobody looks.
    pub board: Option<Arc<Board>>,
    /// Readings per second, between 1 and [`HIGHEST_RATE_HZ`].
    pub rate_hz: u32,
}

impl MeterSources {
    /// The meters of these places, read at the usual rate and shown to nobody.
    #[must_use]
    pub const fn at(places: Places) -> MeterSources {
        MeterSources {
            places,
            feeds: Vec::new(),
            board: None,
            rate_hz: USUAL_RATE_HZ,
        }
    }

    /// Looks for all of them.
    #[must_use]
    pub fn find(&self) -> MachineMeters {
        MachineMeters::find_with(&self.places, &self.feeds, clock::now)
    }

    /// Time between readings of energy and power.
    #[must_use]
    pub fn period_ns(&self) -> u64 {
        1_000_000_000 / u64::from(self.rate_hz.clamp(1, HIGHEST_RATE_HZ))
    }
}
