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
    /// How far all numbers but that of shadowing have yet to be moved.
    behind_m: f64,
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
        LargeScaleTrack {
            model,
            numbers,
            behind_m: 0.0,
        }
    }

    /// Their distribution.
    #[must_use]
    pub const fn model(&self) -> &LargeScale {
        &self.model
    }

    /// Moves on by a distance in metres and gives the shadowing there in dB, which is all that
    /// most links need; positive is more received power.
    pub fn advance_shadowing_db(&mut self, moved_m: f64, geometry: &Geometry) -> f64 {
        self.behind_m += moved_m;
        let number = self.numbers[0].advance(moved_m);
        self.model.shadowing_db(geometry, number)
    }

    /// Moves on by a distance in metres.
    pub fn advance(&mut self, moved_m: f64) {
        self.behind_m += moved_m;
        self.numbers[0].advance(moved_m);
    }

    /// All seven independent numbers where the entity is.
    fn numbers(&mut self) -> [f64; COUNT] {
        let [shadowing, others @ ..] = &mut self.numbers;
        let moved_m = core::mem::take(&mut self.behind_m);
        let mut values = [shadowing.value(); COUNT];
        for (value, number) in values[1..].iter_mut().zip(others) {
            *value = number.advance(moved_m);
        }
        values
    }

    /// The parameters where the entity is.
    #[must_use]
    pub fn sample(&mut self, geometry: &Geometry) -> LargeScaleSample {
        let independent = self.numbers();
        self.model.sample(geometry, &independent)
    }

    /// Delay spread in seconds, and K factor in dB where there is one, where the entity is: two of
    /// the parameters of [`LargeScaleTrack::sample`] at less cost.
    #[must_use]
    pub fn spreads(&mut self) -> (f64, Option<f64>) {
        let independent = self.numbers();
        self.model.spreads(&independent)
    }
}
