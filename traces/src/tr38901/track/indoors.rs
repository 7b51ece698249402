//! Users indoors along a track: clauses 7.4.3 and 7.6.3.3.

use super::Wander;
use crate::CounterRng;
use crate::tr38901::normal::cumulative;
use crate::tr38901::o2i::{self, Building, INDOOR_DB_PER_M};
use crate::tr38901::{Scenario, SpecVersion};

/// How deep in which building a user is, as the user moves. All base stations see the same
/// (table 7.6.3.4-1): its entity is the user.
#[derive(Debug, Clone)]
pub struct Indoors {
    farthest_m: f64,
    depths: [Wander; 2],
    deviation: Wander,
    building: Wander,
}

impl Indoors {
    /// That of a user under a seed.
    #[must_use]
    pub fn new(scenario: Scenario, seed: u64, user: &str) -> Indoors {
        let wander =
            |process, distance_m| Wander::new(CounterRng::new(seed, user, process), distance_m);
        Indoors {
            farthest_m: o2i::farthest_indoors_m(scenario),
            depths: [
                wander("indoor distance 1", 25.0),
                wander("indoor distance 2", 25.0),
            ],
            deviation: wander("penetration loss", 10.0),
            building: wander("building", 50.0),
        }
    }

    /// Moves on by a distance in metres.
    pub fn advance(&mut self, moved_m: f64) {
        for number in &mut self.depths {
            number.advance(moved_m);
        }
        self.deviation.advance(moved_m);
        self.building.advance(moved_m);
    }

    /// How far from the outer wall, `d2D-in`, in metres: the smaller of two uniform numbers.
    #[must_use]
    pub fn distance_m(&self) -> f64 {
        let [one, other] = &self.depths;
        self.farthest_m * cumulative(one.value().min(other.value()))
    }

    /// The kind of building where that share of them is low-loss; the others are high-loss.
    #[must_use]
    pub fn building(&self, low_loss_share: f64) -> Building {
        if cumulative(self.building.value()) < low_loss_share {
            Building::LowLoss
        } else {
            Building::HighLoss
        }
    }

    /// Loss of wall and rooms in dB, with its deviation: `PL_tw + PL_in + N(0, sigma_P)` of
    /// equation 7.4-2.
    #[must_use]
    pub fn loss_db(&self, building: Building, carrier_ghz: f64, spec: SpecVersion) -> f64 {
        building.wall_loss_db(carrier_ghz, spec)
            + INDOOR_DB_PER_M * self.distance_m()
            + building.sigma_db() * self.deviation.value()
    }

    /// The same by the model for one frequency below 6 GHz, table 7.4.3-3.
    #[must_use]
    pub fn legacy_loss_db(&self) -> f64 {
        o2i::LEGACY_WALL_LOSS_DB + INDOOR_DB_PER_M * self.distance_m()
    }
}

/// Loss through the body of a user's car in dB, drawn once per user: equation 7.4-4.
#[must_use]
pub fn car_loss_db(metallized_windows: bool, seed: u64, user: &str) -> f64 {
    let (mean_db, sigma_db) = o2i::car_loss_db(metallized_windows);
    mean_db + sigma_db * CounterRng::new(seed, user, "car").normal(0)
}
