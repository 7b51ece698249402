//! Along the streets of a regular grid: straight on at a crossing with probability 1/2, left or
//! right with 1/4 each (ETSI TR 101 112 V3.2.0, annex B, 1.4.2, "outdoor to indoor and pedestrian").

use super::{Motion, Point};
use crate::CounterRng;

/// East, north, west, south.
const DIRECTIONS: [(i64, i64); 4] = [(1, 0), (0, 1), (-1, 0), (0, -1)];

/// A drive or walk on the streets between square blocks.
#[derive(Debug, Clone)]
pub struct ManhattanGrid {
    start: Point,
    block_m: f64,
    /// The grid's edge, in blocks from the start; who reaches it turns.
    reach: i64,
    speed: f64,
    random: CounterRng,
    place: Crossing,
}

/// The last crossing that was passed and the way taken there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Crossing {
    /// How many have been passed before it.
    index: u64,
    x: i64,
    y: i64,
    /// Into [`DIRECTIONS`].
    heading: usize,
}

impl ManhattanGrid {
    /// From the crossing at `start` at `speed` m/s through blocks of `block_m` (above 0), never
    /// farther than `reach` blocks (1 or more) from the start in x or y.
    #[must_use]
    pub fn new(
        start: Point,
        block_m: f64,
        reach: u32,
        speed: f64,
        random: CounterRng,
    ) -> ManhattanGrid {
        let mut grid = ManhattanGrid {
            start,
            block_m,
            reach: i64::from(reach.max(1)),
            speed,
            random,
            place: Crossing {
                index: 0,
                x: 0,
                y: 0,
                heading: 0,
            },
        };
        grid.place = grid.first();
        grid
    }

    fn first(&self) -> Crossing {
        Crossing {
            index: 0,
            x: 0,
            y: 0,
            heading: usize::from(self.random.uniform(0) >= 0.5),
        }
    }

    fn next(&self, place: Crossing) -> Crossing {
        let (east, north) = DIRECTIONS[place.heading];
        let (x, y) = (place.x + east, place.y + north);
        let index = place.index + 1;
        let draw = self.random.uniform(index);
        let turn = if draw < 0.5 {
            0
        } else if draw < 0.75 {
            1
        } else {
            3
        };
        // The first way from the drawn one on that stays on the grid; there is always one.
        let heading = (0..4)
            .map(|more| (place.heading + turn + more) % 4)
            .find(|&heading| {
                let (east, north) = DIRECTIONS[heading];
                let turns_back = heading == (place.heading + 2) % 4;
                !turns_back && (x + east).abs() <= self.reach && (y + north).abs() <= self.reach
            })
            .unwrap_or((place.heading + 2) % 4);
        Crossing {
            index,
            x,
            y,
            heading,
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "numbers of blocks lie far below 2^53"
    )]
    pub(super) fn at(&mut self, t_s: f64) -> Motion {
        let travelled_m = self.speed * t_s;
        let wanted = libm::floor(travelled_m / self.block_m) as u64;
        if wanted < self.place.index {
            self.place = self.first();
        }
        while self.place.index < wanted {
            self.place = self.next(self.place);
        }
        let beyond_m = travelled_m - wanted as f64 * self.block_m;
        let (east, north) = DIRECTIONS[self.place.heading];
        let ahead = Point::new(east as f64, north as f64, 0.0);
        let crossing = Point::new(
            self.place.x as f64 * self.block_m,
            self.place.y as f64 * self.block_m,
            0.0,
        );
        Motion {
            position: self.start.plus(crossing).plus(ahead.times(beyond_m)),
            velocity: ahead.times(self.speed),
            travelled_m,
        }
    }
}
