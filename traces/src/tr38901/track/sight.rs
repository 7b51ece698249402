//! Line of sight along a track: clause 7.6.3.3.

use core::f64::consts::PI;

use super::Wander;
use crate::CounterRng;
use crate::tr38901::Scenario;
use crate::tr38901::los::Clutter;
use crate::tr38901::normal::quantile;

/// Whether a link has a line of sight, as its user moves.
///
/// A Gaussian quantity is compared with the quantile of the probability. The copula is an
/// implementation's choice; the report gives the distance (table 7.6.3.1-2) and, for the soft
/// state, that the quantity is Gaussian.
#[derive(Debug, Clone)]
pub struct Sight {
    /// None where the antennas always see each other.
    number: Option<Wander>,
}

/// The correlation distance in metres, table 7.6.3.1-2; in factories half the clutter's size, and
/// none without clutter.
fn correlation_distance_m(scenario: Scenario, clutter: Option<Clutter>) -> Option<f64> {
    match scenario {
        Scenario::Umi | Scenario::Uma | Scenario::Sma => Some(50.0),
        Scenario::Rma => Some(60.0),
        Scenario::InhOpen | Scenario::InhMixed => Some(10.0),
        Scenario::InfHh => None,
        _ => clutter.map(|clutter| clutter.size_m / 2.0),
    }
}

impl Sight {
    /// That of an entity, such as a user's link to a site, under a seed.
    #[must_use]
    pub fn new(scenario: Scenario, clutter: Option<Clutter>, seed: u64, entity: &str) -> Sight {
        let distance_m = correlation_distance_m(scenario, clutter);
        let rng = CounterRng::new(seed, entity, "line of sight");
        Sight {
            number: distance_m.map(|distance_m| Wander::new(rng, distance_m)),
        }
    }

    /// Moves on by a distance in metres.
    pub fn advance(&mut self, moved_m: f64) {
        if let Some(number) = &mut self.number {
            number.advance(moved_m);
        }
    }

    /// Whether there is a line of sight where its probability is that.
    #[must_use]
    pub fn is_los(&self, probability: f64) -> bool {
        self.number
            .as_ref()
            .is_none_or(|number| number.value() + quantile(probability) > 0.0)
    }

    /// The soft state, from 0 for none to 1 for a line of sight: equation 7.6-18. Above 1/2 where
    /// [`Sight::is_los`] holds.
    #[must_use]
    pub fn soft(&self, probability: f64, wavelength_m: f64) -> f64 {
        let Some(number) = &self.number else {
            return 1.0;
        };
        let distance = number.value() + quantile(probability);
        0.5 + libm::atan(libm::sqrt(20.0 / wavelength_m) * distance) / PI
    }
}

/// The loss in dB of a link in a soft state whose losses with and without line of sight are these:
/// the power of equation 7.6-19, whose two parts are independent.
#[must_use]
pub fn soft_loss_db(soft: f64, los_db: f64, nlos_db: f64) -> f64 {
    let square = soft * soft;
    let power =
        square * libm::exp10(-los_db / 10.0) + (1.0 - square) * libm::exp10(-nlos_db / 10.0);
    -10.0 * libm::log10(power)
}
