//! Straight on at one speed.

use super::{Motion, Point};

/// A line that starts somewhere and never ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StraightLine {
    start: Point,
    velocity: Point,
    speed: f64,
}

impl StraightLine {
    /// From `start` in direction `towards` (of any length above 0) at `speed` m/s.
    #[must_use]
    pub fn new(start: Point, towards: Point, speed: f64) -> StraightLine {
        let length = towards.length();
        let velocity = if length > 0.0 {
            towards.times(speed / length)
        } else {
            Point::default()
        };
        StraightLine {
            start,
            velocity,
            speed: velocity.length(),
        }
    }

    pub(super) fn at(&self, t_s: f64) -> Motion {
        Motion {
            position: self.start.plus(self.velocity.times(t_s)),
            velocity: self.velocity,
            travelled_m: self.speed * t_s,
        }
    }
}
