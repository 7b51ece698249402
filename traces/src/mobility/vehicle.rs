//! A car on a road, now faster, now slower; several keep a distance and form a platoon.
//!
//! The speed is a mean with slow sinusoidal swings, whose integral is known: the place at any
//! moment is exact. (A model of our own; its swings stand for traffic, not for any recording.)

use super::{Motion, Point};
use crate::CounterRng;

/// Periods of the swings in seconds: without a common one within a day.
const PERIODS_S: [f64; 3] = [17.3, 41.9, 97.1];

/// A car on a straight road.
#[derive(Debug, Clone, Copy)]
pub struct Vehicle {
    start: Point,
    ahead: Point,
    speed: f64,
    /// Amplitude of each swing in m/s, its angular frequency and its phase.
    swings: [(f64, f64, f64); 3],
}

impl Vehicle {
    /// From `start` in direction `towards` at a mean of `speed` m/s, the speed varying by at most
    /// `variation` of it (0 to 1), so that nobody drives back.
    #[must_use]
    pub fn new(
        start: Point,
        towards: Point,
        speed: f64,
        variation: f64,
        random: CounterRng,
    ) -> Vehicle {
        let length = towards.length();
        let amplitude = speed * variation.clamp(0.0, 1.0) / 3.0;
        let mut swings = [(0.0, 0.0, 0.0); 3];
        for (index, (swing, period_s)) in (0..).zip(swings.iter_mut().zip(PERIODS_S)) {
            let phase = core::f64::consts::TAU * random.uniform(index);
            *swing = (amplitude, core::f64::consts::TAU / period_s, phase);
        }
        Vehicle {
            start,
            ahead: if length > 0.0 {
                towards.times(1.0 / length)
            } else {
                Point::default()
            },
            speed,
            swings,
        }
    }

    pub(super) fn at(&self, t_s: f64) -> Motion {
        let mut speed = self.speed;
        let mut way_m = self.speed * t_s;
        for (amplitude, frequency, phase) in self.swings {
            let angle = frequency * t_s + phase;
            speed += amplitude * libm::cos(angle);
            way_m += amplitude / frequency * (libm::sin(angle) - libm::sin(phase));
        }
        Motion {
            position: self.start.plus(self.ahead.times(way_m)),
            velocity: self.ahead.times(speed),
            travelled_m: way_m,
        }
    }
}
