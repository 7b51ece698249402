//! Random quantities along a user's track, alike where the track has not gone far.
//!
//! Everything here is a function of the seed, the entity's name and how far the entity has moved.
//! Links that share a site share an entity; a link keeps one process per propagation condition,
//! because the conditions are not correlated (table 7.6.3.4-2).

mod blockers;
mod indoors;
mod parameters;
mod sight;

pub use blockers::Blockers;
pub use indoors::{Indoors, car_loss_db};
pub use parameters::LargeScaleTrack;
pub use sight::{Sight, soft_loss_db};

use crate::CounterRng;

/// Knots per correlation distance.
const KNOTS: f64 = 20.0;

/// From this many knots on a jump forgets where it came from: what remains is below 1e-21.
const FORGOTTEN: f64 = 50.0 * KNOTS;

/// A standard normal quantity whose autocorrelation falls as exp(-moved / correlation distance):
/// equation 7.4-5.
///
/// It is an autoregressive sequence at knots, twenty per correlation distance; between two knots
/// it goes straight, with the variance kept at 1. The value depends on the distance alone, not on
/// the steps in which it was covered.
#[derive(Debug, Clone)]
pub struct Wander {
    rng: CounterRng,
    knots_per_m: f64,
    /// The knot behind; the next one is drawn with the index after it.
    knot: u64,
    /// How far between the two knots.
    share: f64,
    behind: f64,
    ahead: f64,
}

/// exp(-1/20) and the square root of 1 - exp(-1/10): one knot to the next.
const KEEP: f64 = 0.951_229_424_500_714;
const FRESH: f64 = 0.308_484_330_175_846_1;

impl Wander {
    /// The process that draws its numbers from there.
    #[must_use]
    pub fn new(rng: CounterRng, correlation_distance_m: f64) -> Wander {
        let mut wander = Wander {
            rng,
            knots_per_m: KNOTS / correlation_distance_m,
            knot: 0,
            share: 0.0,
            behind: 0.0,
            ahead: 0.0,
        };
        wander.begin();
        wander
    }

    /// Both knots anew.
    fn begin(&mut self) {
        self.behind = self.rng.normal(self.knot);
        self.ahead = self.next(self.behind);
    }

    /// The knot after the one behind, `last`.
    fn next(&self, last: f64) -> f64 {
        KEEP * last + FRESH * self.rng.normal(self.knot + 1)
    }

    fn pass_knots(&mut self) {
        let passed = libm::floor(self.share);
        self.share -= passed;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole and positive; beyond 2^64 knots it saturates"
        )]
        let knots = passed as u64;
        if passed > FORGOTTEN {
            self.knot = self.knot.saturating_add(knots);
            self.begin();
            return;
        }
        for _ in 0..knots {
            self.behind = self.ahead;
            self.knot += 1;
            self.ahead = self.next(self.behind);
        }
    }

    /// The value where the entity is.
    #[must_use]
    #[inline]
    pub fn value(&self) -> f64 {
        let rest = 1.0 - self.share;
        let variance = rest * rest + self.share * (self.share + 2.0 * KEEP * rest);
        (rest * self.behind + self.share * self.ahead) / libm::sqrt(variance)
    }

    /// Moves on by a distance in metres, which counts from 0 upwards, and gives the value there.
    #[inline]
    pub fn advance(&mut self, moved_m: f64) -> f64 {
        self.share += moved_m * self.knots_per_m;
        if self.share >= 1.0 {
            self.pass_knots();
        }
        self.value()
    }
}

#[cfg(test)]
#[path = "track_tests.rs"]
mod tests;
