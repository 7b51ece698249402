//! Large-scale parameters along a track: clause 7.5 step 4.

use super::Wander;
use crate::CounterRng;
use crate::tr38901::large_scale::{COUNT, LargeScale, LargeScaleSample};
use crate::tr38901::path_loss::Geometry;

/// The large-scale parameters of a link in one propagation condition.
///
/// Each of the seven independent numbers has the correlation distance of its parameter; the
/// cross-correlations are put in where the values are asked for (clause 3.3.1 of WINNER II, to
/// which step 4 refers).
#[derive(Debug, Clone)]
pub struct LargeScaleTrack {
    model: LargeScale,
    numbers: [Wander; COUNT],
}

impl LargeScaleTrack {
    /// The parameters of that entity, such as a user's link to a site, under a seed.
    #[must_use]
    pub fn new(model: LargeScale, seed: u64, entity: &str) -> LargeScaleTrack {
        let condition = model.condition();
        let mut distances_m = model.correlation_distances_m().into_iter();
        let numbers = ["SF", "K", "DS", "ASD", "ASA", "ZSD", "ZSA"].map(|name| {
            let rng = CounterRng::new(seed, entity, &format!("{name} {condition}"));
            Wander::new(rng, distances_m.next().unwrap_or(f64::INFINITY))
        });
        LargeScaleTrack { model, numbers }
    }

    /// Their distribution.
    #[must_use]
    pub const fn model(&self) -> &LargeScale {
        &self.model
    }

    /// Moves on by a distance in metres.
    pub fn advance(&mut self, moved_m: f64) {
        for number in &mut self.numbers {
            number.advance(moved_m);
        }
    }

    /// Moves on by a distance in metres and gives the shadowing there in dB, which is all that
    /// some links need; positive is more received power. It is the same as that of
    /// [`LargeScaleTrack::sample`] if the track is only ever moved by one of the two functions.
    pub fn advance_shadowing_db(&mut self, moved_m: f64, geometry: &Geometry) -> f64 {
        let number = self.numbers[0].advance(moved_m);
        self.model.shadowing_db(geometry, number)
    }

    /// The parameters where the entity is.
    #[must_use]
    pub fn sample(&self, geometry: &Geometry) -> LargeScaleSample {
        let mut independent = [0.0; COUNT];
        for (value, number) in independent.iter_mut().zip(&self.numbers) {
            *value = number.value();
        }
        self.model.sample(geometry, &independent)
    }
}
