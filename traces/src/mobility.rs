//! How a user moves: position and velocity as a pure function of time.
//!
//! Every kind of movement answers for any moment without having been asked for those before, and
//! its random choices are drawn by index, so that neither the step of time nor the other users
//! change where a user is. (What is kept between calls only saves work.) Coordinates are metres in
//! a plane with height, `x` to the east and `y` to the north; time is in seconds.

mod grid;
mod line;
mod track;
mod train;
mod vehicle;
mod waypoint;

pub use grid::ManhattanGrid;
pub use line::StraightLine;
pub use track::{RecordedTrack, TrackError, TrackFormat};
pub use train::Train;
pub use vehicle::Vehicle;
pub use waypoint::{Area, RandomWaypoint};

/// A place or a vector, in metres (or metres per second).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Point {
    /// To the east.
    pub x: f64,
    /// To the north.
    pub y: f64,
    /// Up.
    pub z: f64,
}

impl Point {
    /// The point at these coordinates.
    #[must_use]
    pub const fn new(x: f64, y: f64, z: f64) -> Point {
        Point { x, y, z }
    }

    /// This point moved by `by`.
    #[must_use]
    pub fn plus(self, by: Point) -> Point {
        Point::new(self.x + by.x, self.y + by.y, self.z + by.z)
    }

    /// The vector from `from` to this point.
    #[must_use]
    pub fn minus(self, from: Point) -> Point {
        Point::new(self.x - from.x, self.y - from.y, self.z - from.z)
    }

    /// The vector times a number.
    #[must_use]
    pub fn times(self, factor: f64) -> Point {
        Point::new(self.x * factor, self.y * factor, self.z * factor)
    }

    /// Length over ground.
    #[must_use]
    pub fn length_2d(self) -> f64 {
        libm::sqrt(self.x * self.x + self.y * self.y)
    }

    /// Length in space.
    #[must_use]
    pub fn length(self) -> f64 {
        libm::sqrt(self.x * self.x + self.y * self.y + self.z * self.z)
    }
}

/// Where a user is, how fast, and how far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Motion {
    /// Where, in metres.
    pub position: Point,
    /// Velocity in m/s.
    pub velocity: Point,
    /// Length of the way since the start, in metres.
    pub travelled_m: f64,
}

/// A user's movement.
#[derive(Debug, Clone)]
pub enum Mobility {
    /// Stays where it is.
    Static(Point),
    /// Straight on at one speed.
    Line(StraightLine),
    /// From one random place to the next.
    Waypoint(RandomWaypoint),
    /// Along the streets of a regular grid.
    Grid(ManhattanGrid),
    /// A car on a road, now faster, now slower.
    Vehicle(Vehicle),
    /// A train that stops at stations.
    Train(Train),
    /// As recorded.
    Track(RecordedTrack),
}

impl Mobility {
    /// Position and velocity `t_s` seconds after the start.
    pub fn at(&mut self, t_s: f64) -> Motion {
        match self {
            Mobility::Static(position) => Motion {
                position: *position,
                ..Motion::default()
            },
            Mobility::Line(line) => line.at(t_s),
            Mobility::Waypoint(walk) => walk.at(t_s),
            Mobility::Grid(drive) => drive.at(t_s),
            Mobility::Vehicle(vehicle) => vehicle.at(t_s),
            Mobility::Train(train) => train.at(t_s),
            Mobility::Track(track) => track.at(t_s),
        }
    }
}

/// Direction of a compass bearing (degrees clockwise from north) as a unit vector.
#[must_use]
pub fn bearing(degrees: f64) -> Point {
    let (sine, cosine) = libm::sincos(degrees.to_radians());
    Point::new(sine, cosine, 0.0)
}

#[cfg(test)]
mod tests;
