//! A train: accelerates, runs at its speed, brakes, and stands at the next station.

use super::{Motion, Point};

/// A train on a straight line with stations at equal distances.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Train {
    start: Point,
    ahead: Point,
    speed: f64,
    acceleration: f64,
    stations: Option<Stations>,
}

/// Where a train stops.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stations {
    distance_m: f64,
    stand_s: f64,
    /// Highest speed on the way: the train's, or less where the way is too short for it.
    peak: f64,
    ramp_s: f64,
    cruise_s: f64,
}

impl Train {
    /// A train that passes `start` at `speed` m/s in direction `towards` and never stops.
    #[must_use]
    pub fn passing(start: Point, towards: Point, speed: f64) -> Train {
        let length = towards.length();
        Train {
            start,
            ahead: if length > 0.0 {
                towards.times(1.0 / length)
            } else {
                Point::default()
            },
            speed,
            acceleration: 0.0,
            stations: None,
        }
    }

    /// The same train, but it starts at a station, and the next is `distance_m` (above 0) away. It
    /// accelerates and brakes with `acceleration` m/s² (above 0) and stands for `stand_s`.
    #[must_use]
    pub fn with_stations(self, distance_m: f64, acceleration: f64, stand_s: f64) -> Train {
        let peak = self.speed.min(libm::sqrt(acceleration * distance_m));
        let ramp_s = peak / acceleration;
        let cruise_s = (distance_m - peak * ramp_s) / peak;
        Train {
            acceleration,
            stations: Some(Stations {
                distance_m,
                stand_s,
                peak,
                ramp_s,
                cruise_s,
            }),
            ..self
        }
    }

    /// Way and speed within one section, `t_s` after it was entered.
    fn section(&self, stations: &Stations, t_s: f64) -> (f64, f64) {
        let Stations {
            distance_m,
            peak,
            ramp_s,
            cruise_s,
            ..
        } = *stations;
        let brake_s = t_s - ramp_s - cruise_s;
        if t_s < ramp_s {
            (0.5 * self.acceleration * t_s * t_s, self.acceleration * t_s)
        } else if brake_s < 0.0 {
            (0.5 * peak * ramp_s + peak * (t_s - ramp_s), peak)
        } else if brake_s < ramp_s {
            let left_s = ramp_s - brake_s;
            (
                distance_m - 0.5 * self.acceleration * left_s * left_s,
                self.acceleration * left_s,
            )
        } else {
            (distance_m, 0.0)
        }
    }

    pub(super) fn at(&self, t_s: f64) -> Motion {
        let (way_m, speed) = match &self.stations {
            None => (self.speed * t_s, self.speed),
            Some(stations) => {
                let period_s = 2.0 * stations.ramp_s + stations.cruise_s + stations.stand_s;
                let passed = libm::floor(t_s / period_s);
                let (way_m, speed) = self.section(stations, t_s - passed * period_s);
                (passed * stations.distance_m + way_m, speed)
            }
        };
        Motion {
            position: self.start.plus(self.ahead.times(way_m)),
            velocity: self.ahead.times(speed),
            travelled_m: way_m,
        }
    }
}
