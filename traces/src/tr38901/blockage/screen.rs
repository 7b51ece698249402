//! Blockage model B: clause 7.6.4.2, screens that stand or move on the map.

use super::{edge, loss_db};

/// A place: metres east, north and up.
pub type Point = [f64; 3];

/// A rectangular screen, which turns to face the path: equations 7.6-29 and 7.6-30.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Screen {
    /// Its centre.
    pub centre_m: Point,
    /// Its width.
    pub width_m: f64,
    /// Its height.
    pub height_m: f64,
}

/// A kind of blocker, table 7.6.4.2-5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocker {
    /// A person.
    Human,
    /// A car.
    Vehicle,
    /// An automated guided vehicle of a factory.
    Agv,
    /// A robot of a factory.
    Robot,
}

impl Blocker {
    /// Width and height in metres.
    #[must_use]
    pub const fn size_m(self) -> (f64, f64) {
        match self {
            Blocker::Human => (0.3, 1.7),
            Blocker::Vehicle => (4.8, 1.4),
            Blocker::Agv => (3.0, 1.5),
            Blocker::Robot => (2.0, 0.2),
        }
    }

    /// The highest speed in m/s: 3, 100 and 30 km/h, and 3 m/s.
    #[must_use]
    pub const fn fastest_m_per_s(self) -> f64 {
        match self {
            Blocker::Human => 3.0 / 3.6,
            Blocker::Vehicle => 100.0 / 3.6,
            Blocker::Agv => 30.0 / 3.6,
            Blocker::Robot => 3.0,
        }
    }

    /// A screen of that kind that stands on the ground there.
    #[must_use]
    pub const fn standing_at(self, east_m: f64, north_m: f64) -> Screen {
        let (width_m, height_m) = self.size_m();
        Screen {
            centre_m: [east_m, north_m, height_m / 2.0],
            width_m,
            height_m,
        }
    }
}

/// One of the two views of a path and a screen, in the plane of the view: the screen's centre
/// along the path and beside it, and its extent beside the path.
#[derive(Debug, Clone, Copy)]
struct View {
    along_m: f64,
    beside_m: f64,
    extent_m: f64,
}

impl View {
    /// The sum of the two edges' terms, of which `metric` says for each edge how far the path over
    /// it is and `excess` how much farther than the path itself. A path that passes beside the
    /// screen has a minus for the nearer edge.
    fn edges(&self, metric: impl Fn(f64) -> f64, straight_m: f64, wavelength_m: f64) -> f64 {
        let half_m = self.extent_m / 2.0;
        let lengths_m = [
            metric(self.beside_m - half_m),
            metric(self.beside_m + half_m),
        ];
        let passes_beside = self.beside_m.abs() > half_m;
        let nearer = usize::from(lengths_m[1] < lengths_m[0]);
        let term = |at: usize| {
            let sign = if passes_beside && at == nearer {
                -1.0
            } else {
                1.0
            };
            edge(sign, lengths_m[at] - straight_m, wavelength_m)
        };
        term(0) + term(1)
    }

    /// The direct path, whose other end is `end_m` along it.
    fn direct(&self, end_m: f64, wavelength_m: f64) -> Option<f64> {
        if self.along_m <= 0.0 || self.along_m >= end_m {
            return None;
        }
        let over = |edge_m: f64| {
            libm::hypot(self.along_m, edge_m) + libm::hypot(end_m - self.along_m, edge_m)
        };
        Some(self.edges(over, end_m, wavelength_m))
    }

    /// A path from afar.
    fn other(&self, wavelength_m: f64) -> Option<f64> {
        if self.along_m <= 0.0 {
            return None;
        }
        let over = |edge_m: f64| libm::hypot(self.along_m, edge_m);
        Some(self.edges(over, self.along_m, wavelength_m))
    }
}

impl Screen {
    /// The screen seen from the receiver along a direction given by its horizontal unit vector and
    /// the cosine and sine of its elevation: from above, and from the side.
    fn views(&self, receiver_m: Point, [east, north]: [f64; 2], rise: [f64; 2]) -> [View; 2] {
        let [x, y, z] = [0, 1, 2].map(|axis: usize| self.centre_m[axis] - receiver_m[axis]);
        let ahead = x * east + y * north;
        let [cosine, sine] = rise;
        [
            View {
                along_m: ahead,
                beside_m: y * east - x * north,
                extent_m: self.width_m,
            },
            View {
                along_m: ahead * cosine + z * sine,
                beside_m: z * cosine - ahead * sine,
                extent_m: self.height_m,
            },
        ]
    }

    /// Loss in dB of the direct path between two places. None where the screen is not between
    /// them.
    #[must_use]
    pub fn direct_loss_db(
        &self,
        wavelength_m: f64,
        receiver_m: Point,
        transmitter_m: Point,
    ) -> f64 {
        let [x, y, z] = [0, 1, 2].map(|axis: usize| transmitter_m[axis] - receiver_m[axis]);
        let flat_m = libm::hypot(x, y);
        if flat_m <= 0.0 {
            return 0.0;
        }
        let path_m = libm::hypot(flat_m, z);
        let direction = [x / flat_m, y / flat_m];
        let [top, side] = self.views(receiver_m, direction, [flat_m / path_m, z / path_m]);
        let top = top.direct(flat_m, wavelength_m);
        let side = side.direct(path_m, wavelength_m);
        top.zip(side).map_or(0.0, |(top, side)| loss_db(top, side))
    }

    /// Loss in dB of any other path, which arrives at the receiver from these angles in degrees.
    #[must_use]
    pub fn path_loss_db(
        &self,
        wavelength_m: f64,
        receiver_m: Point,
        aoa_deg: f64,
        zoa_deg: f64,
    ) -> f64 {
        let (north, east) = libm::sincos(aoa_deg.to_radians());
        let (cosine, sine) = libm::sincos(zoa_deg.to_radians());
        let [top, side] = self.views(receiver_m, [east, north], [cosine, sine]);
        let both = top.other(wavelength_m).zip(side.other(wavelength_m));
        both.map_or(0.0, |(top, side)| loss_db(top, side))
    }
}

/// The sum of several screens' losses in dB on the direct path.
#[must_use]
pub fn direct_loss_db(
    screens: impl IntoIterator<Item = Screen>,
    wavelength_m: f64,
    receiver_m: Point,
    transmitter_m: Point,
) -> f64 {
    screens
        .into_iter()
        .map(|screen| screen.direct_loss_db(wavelength_m, receiver_m, transmitter_m))
        .sum()
}

/// A screen that moves on a straight line at a constant speed, and turns back at its ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MovingScreen {
    /// The screen at the line's beginning.
    pub screen: Screen,
    /// Where the line ends, east and north.
    pub end_m: [f64; 2],
    /// Its speed.
    pub speed_m_per_s: f64,
    /// How far along the line it is at time 0.
    pub start_m: f64,
}

impl MovingScreen {
    /// The screen at a time.
    #[must_use]
    pub fn at(&self, t_s: f64) -> Screen {
        let [x, y, z] = self.screen.centre_m;
        let (east, north) = (self.end_m[0] - x, self.end_m[1] - y);
        let length_m = libm::hypot(east, north);
        if length_m <= 0.0 {
            return self.screen;
        }
        let walked_m = self.start_m + self.speed_m_per_s * t_s;
        let round_m = 2.0 * length_m;
        let into_m = walked_m - round_m * libm::floor(walked_m / round_m);
        let share = into_m.min(round_m - into_m) / length_m;
        Screen {
            centre_m: [x + share * east, y + share * north, z],
            ..self.screen
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIVER: Point = [0.0, 0.0, 1.5];
    const TRANSMITTER: Point = [40.0, 30.0, 10.0];

    #[test]
    fn losses_are_those_of_the_closed_form() {
        // East, north, width, height of the screen, carrier in GHz, dB; computed apart from this
        // code.
        for (east_m, north_m, blocker, carrier_ghz, expected_db) in [
            (4.0, 3.0, Blocker::Human, 28.0, 0.20725188753978668),
            (4.0, 3.0, Blocker::Human, 140.0, 0.12512463137651889),
            (0.8, 0.6, Blocker::Human, 28.0, 7.152030547888613),
            (0.8, 0.6, Blocker::Human, 140.0, 12.336372163692355),
            (1.0, 0.2, Blocker::Human, 28.0, 0.18008946423999844),
            (1.0, 0.2, Blocker::Human, 140.0, 0.09347980032562501),
            (3.0, 1.0, Blocker::Vehicle, 28.0, 0.27125513714769406),
            (3.0, 1.0, Blocker::Vehicle, 140.0, 0.12328906657108807),
            (2.0, 3.0, Blocker::Vehicle, 28.0, 0.249636559591409),
            (2.0, 3.0, Blocker::Vehicle, 140.0, 0.11377856282250301),
            (30.0, 22.0, Blocker::Vehicle, 28.0, 0.012489874365299275),
            (30.0, 22.0, Blocker::Vehicle, 140.0, 0.005729241000239303),
        ] {
            let wavelength_m = crate::tr38901::SPEED_OF_LIGHT_M_PER_S / (carrier_ghz * 1e9);
            let screen = blocker.standing_at(east_m, north_m);
            let got = screen.direct_loss_db(wavelength_m, RECEIVER, TRANSMITTER);
            assert!(
                (got - expected_db).abs() <= 1e-6,
                "{east_m} {north_m}: {got}"
            );
        }
        for (east_m, north_m, blocker, carrier_ghz, expected_db) in [
            (4.0, 3.0, Blocker::Human, 28.0, 1.8468125466335963),
            (4.0, 3.0, Blocker::Human, 140.0, 2.325027025957553),
            (0.8, 0.6, Blocker::Human, 28.0, 10.19835080799776),
            (0.8, 0.6, Blocker::Human, 140.0, 16.538035719161826),
            (1.0, 0.2, Blocker::Human, 28.0, 0.25278100688320254),
            (1.0, 0.2, Blocker::Human, 140.0, 0.12149138262471026),
            (3.0, 1.0, Blocker::Vehicle, 28.0, 1.0211612849238174),
            (3.0, 1.0, Blocker::Vehicle, 140.0, 0.4758046386155571),
            (2.0, 3.0, Blocker::Vehicle, 28.0, 1.0026191954406585),
            (2.0, 3.0, Blocker::Vehicle, 140.0, 0.46966958975707773),
            (30.0, 22.0, Blocker::Vehicle, 28.0, 0.2829131468804791),
            (30.0, 22.0, Blocker::Vehicle, 140.0, 0.13592562420605736),
        ] {
            let wavelength_m = crate::tr38901::SPEED_OF_LIGHT_M_PER_S / (carrier_ghz * 1e9);
            let screen = blocker.standing_at(east_m, north_m);
            let got = screen.path_loss_db(wavelength_m, RECEIVER, 35.0, 88.0);
            assert!(
                (got - expected_db).abs() <= 1e-6,
                "{east_m} {north_m}: {got}"
            );
        }
    }

    #[test]
    fn a_screen_behind_either_end_blocks_nothing() {
        for place in [-1.0, 41.0] {
            let screen = Blocker::Vehicle.standing_at(place, 0.75 * place);
            let got = screen.direct_loss_db(0.01, RECEIVER, TRANSMITTER);
            assert!(got.abs() <= 0.0);
        }
    }

    #[test]
    fn a_moving_screen_walks_its_line_to_and_fro() {
        let walker = MovingScreen {
            screen: Blocker::Human.standing_at(0.0, 0.0),
            end_m: [6.0, 8.0],
            speed_m_per_s: 1.0,
            start_m: 5.0,
        };
        for (t_s, east_m) in [
            (0.0, 3.0),
            (5.0, 6.0),
            (10.0, 3.0),
            (15.0, 0.0),
            (20.0, 3.0),
        ] {
            let [east, north, up] = walker.at(t_s).centre_m;
            assert!((east - east_m).abs() < 1e-12 && (north - east_m / 0.75).abs() < 1e-12);
            assert!((up - 0.85).abs() < 1e-12);
        }
    }
}
