//! Random waypoint: straight to a random place, a rest, and on to the next (D. B. Johnson and
//! D. A. Maltz, "Dynamic source routing in ad hoc wireless networks", 1996).
//!
//! The speed has a lower bound, for with one of zero the mean speed decays for ever (J. Yoon,
//! M. Liu and B. Noble, "Random waypoint considered harmful", INFOCOM 2003).

use super::{Motion, Point};
use crate::CounterRng;

/// A rectangle at a height, in metres.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Area {
    /// The corner with the smallest coordinates; its height is the users'.
    pub corner: Point,
    /// Length to the east.
    pub width_m: f64,
    /// Length to the north.
    pub depth_m: f64,
}

/// A walk from one random place of an area to the next.
#[derive(Debug, Clone)]
pub struct RandomWaypoint {
    area: Area,
    speeds: [f64; 2],
    pause_s: f64,
    random: CounterRng,
    leg: Leg,
}

/// From one waypoint to the next, with the rest before it.
#[derive(Debug, Clone, Copy)]
struct Leg {
    index: u64,
    from: Point,
    to: Point,
    speed: f64,
    start_s: f64,
    walk_s: f64,
    travelled_m: f64,
}

impl RandomWaypoint {
    /// A walk within `area` at speeds between the two given (m/s, above 0), with a rest of
    /// `pause_s` before each leg but the first.
    #[must_use]
    pub fn new(area: Area, speeds: [f64; 2], pause_s: f64, random: CounterRng) -> RandomWaypoint {
        let mut walk = RandomWaypoint {
            area,
            speeds,
            pause_s,
            random,
            leg: Leg {
                index: 0,
                from: Point::default(),
                to: Point::default(),
                speed: 0.0,
                start_s: 0.0,
                walk_s: 0.0,
                travelled_m: 0.0,
            },
        };
        walk.leg = walk.first_leg();
        walk
    }

    /// Waypoint `index`: draws 2 `index` of the process (2 `index` + 1 is the speed).
    fn waypoint(&self, index: u64) -> Point {
        let [east, north] = self.random.uniform_pair(2 * index);
        Point::new(
            self.area.corner.x + east * self.area.width_m,
            self.area.corner.y + north * self.area.depth_m,
            self.area.corner.z,
        )
    }

    fn leg_between(&self, index: u64, start_s: f64, travelled_m: f64) -> Leg {
        let (from, to) = (self.waypoint(index), self.waypoint(index + 1));
        let [slowest, fastest] = self.speeds;
        let speed = slowest + (fastest - slowest) * self.random.uniform(2 * index + 1);
        Leg {
            index,
            from,
            to,
            speed,
            start_s,
            walk_s: to.minus(from).length() / speed,
            travelled_m,
        }
    }

    fn first_leg(&self) -> Leg {
        self.leg_between(0, 0.0, 0.0)
    }

    pub(super) fn at(&mut self, t_s: f64) -> Motion {
        if t_s < self.leg.start_s {
            self.leg = self.first_leg();
        }
        while t_s >= self.leg.start_s + self.leg.walk_s + self.pause_s {
            let leg = self.leg;
            let start_s = leg.start_s + leg.walk_s + self.pause_s;
            let travelled_m = leg.travelled_m + leg.speed * leg.walk_s;
            self.leg = self.leg_between(leg.index + 1, start_s, travelled_m);
        }
        let leg = &self.leg;
        let walked_s = (t_s - leg.start_s).min(leg.walk_s);
        let way = leg.to.minus(leg.from);
        let share = if leg.walk_s > 0.0 {
            walked_s / leg.walk_s
        } else {
            0.0
        };
        let moving = t_s - leg.start_s < leg.walk_s;
        Motion {
            position: leg.from.plus(way.times(share)),
            velocity: if moving {
                way.times(1.0 / leg.walk_s)
            } else {
                Point::default()
            },
            travelled_m: leg.travelled_m + leg.speed * walked_s,
        }
    }
}
