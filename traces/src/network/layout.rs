//! Where cells stand: one site, sites along a line, or a hexagonal grid that has no edge.

use super::SectorAntenna;
use super::antenna::wrapped;
use crate::mobility::Point;

/// How sites are laid out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LayoutKind {
    /// One site at the origin.
    Single,
    /// `count` sites along the x axis, the first at the origin, `offset_m` aside of it.
    Line {
        /// How many.
        count: u32,
        /// Distance between neighbours in metres.
        distance_m: f64,
        /// How far the sites stand beside the x axis, in metres to the north.
        offset_m: f64,
    },
    /// A site at the origin with `rings` rings of sites around it, and the whole repeated around
    /// itself (wrap-around), so that every site has the same surroundings.
    Hexagonal {
        /// Rings around the centre: 1 is 7 sites, 2 is 19.
        rings: u32,
        /// Distance between neighbouring sites in metres.
        distance_m: f64,
    },
}

/// One cell: a site, or a sector of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    /// Which site it belongs to; cells of one site share its shadowing.
    pub site: u32,
    /// Where its antenna is.
    pub position: Point,
    /// Where it points, in degrees from the x axis towards the y axis.
    pub azimuth_deg: f64,
}

/// Cells and what repeats them.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    cells: Vec<Cell>,
    /// By how much the whole is repeated; the first is not at all.
    copies: Vec<Point>,
    antenna: SectorAntenna,
}

impl Layout {
    /// A layout with antennas at `height_m`, and 1 or 3 sectors a site (the first points to 30
    /// degrees, as in TR 38.901 figure 7.2-1's cells; one sector alone to the south).
    #[must_use]
    pub fn new(kind: LayoutKind, height_m: f64, sectors: u32, antenna: SectorAntenna) -> Layout {
        let (sites, copies) = sites(kind, height_m);
        let azimuths: &[f64] = if sectors == 3 {
            &[30.0, 150.0, 270.0]
        } else {
            &[270.0]
        };
        let cells = (0..)
            .zip(&sites)
            .flat_map(|(site, position)| {
                azimuths.iter().map(move |azimuth_deg| Cell {
                    site,
                    position: *position,
                    azimuth_deg: *azimuth_deg,
                })
            })
            .collect();
        Layout {
            cells,
            copies,
            antenna,
        }
    }

    /// The cells.
    #[must_use]
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// How many sites there are.
    #[must_use]
    pub fn sites(&self) -> u32 {
        self.cells.last().map_or(0, |cell| cell.site + 1)
    }

    /// The vector from the nearest copy of a cell to `user`.
    #[must_use]
    pub fn to_user(&self, cell: &Cell, user: Point) -> Point {
        let mut nearest = user.minus(cell.position);
        let mut shortest = nearest.length_2d();
        for copy in self.copies.iter().skip(1) {
            let vector = user.minus(cell.position.plus(*copy));
            let length = vector.length_2d();
            if length < shortest {
                (nearest, shortest) = (vector, length);
            }
        }
        nearest
    }

    /// Gain of the cell's antenna towards a user that `vector` leads to, in dBi.
    #[must_use]
    pub fn gain_dbi(&self, cell: &Cell, vector: Point) -> f64 {
        if self.antenna.beam_width_deg.is_none() {
            return self.antenna.gain_dbi;
        }
        let azimuth_deg = libm::atan2(vector.y, vector.x).to_degrees();
        let elevation_deg = libm::atan2(vector.z, vector.length_2d()).to_degrees();
        self.antenna
            .gain_dbi(wrapped(azimuth_deg - cell.azimuth_deg), elevation_deg)
    }
}

/// A vector of the triangular lattice: `a` steps along x, `b` steps along 60 degrees.
fn lattice(a: i32, b: i32, distance_m: f64) -> Point {
    let half_root_three = 0.5 * libm::sqrt(3.0);
    Point::new(
        distance_m * (f64::from(a) + 0.5 * f64::from(b)),
        distance_m * half_root_three * f64::from(b),
        0.0,
    )
}

fn sites(kind: LayoutKind, height_m: f64) -> (Vec<Point>, Vec<Point>) {
    let up = Point::new(0.0, 0.0, height_m);
    match kind {
        LayoutKind::Single => (vec![up], vec![Point::default()]),
        LayoutKind::Line {
            count,
            distance_m,
            offset_m,
        } => {
            let site = |index: u32| Point::new(f64::from(index) * distance_m, offset_m, height_m);
            ((0..count).map(site).collect(), vec![Point::default()])
        }
        LayoutKind::Hexagonal { rings, distance_m } => {
            let rings = i32::try_from(rings).unwrap_or(0);
            let mut sites = vec![up];
            for ring in 1..=rings {
                sites.extend(ring_of(ring).map(|(a, b)| lattice(a, b, distance_m).plus(up)));
            }
            // A cluster of i^2 + i j + j^2 sites repeats by the lattice vector (i, j) and its
            // rotations; with i = r + 1 and j = r that is 3 r (r + 1) + 1, the sites of r rings.
            let mut copies = vec![Point::default()];
            let (mut a, mut b) = (rings + 1, rings);
            for _ in 0..6 {
                copies.push(lattice(a, b, distance_m));
                (a, b) = (-b, a + b);
            }
            (sites, copies)
        }
    }
}

/// The lattice places of one ring, counter-clockwise from the x axis.
fn ring_of(ring: i32) -> impl Iterator<Item = (i32, i32)> {
    let corners = [(1, 0), (0, 1), (-1, 1), (-1, 0), (0, -1), (1, -1)];
    let steps = [(-1, 1), (-1, 0), (0, -1), (1, -1), (1, 0), (0, 1)];
    corners
        .into_iter()
        .zip(steps)
        .flat_map(move |(corner, step)| {
            (0..ring).map(move |along| {
                (
                    ring * corner.0 + along * step.0,
                    ring * corner.1 + along * step.1,
                )
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hexagonal(rings: u32) -> Layout {
        let kind = LayoutKind::Hexagonal {
            rings,
            distance_m: 200.0,
        };
        Layout::new(kind, 10.0, 3, SectorAntenna::sector(12.0))
    }

    #[test]
    fn two_rings_are_19_sites_of_three_sectors_at_equal_distances() {
        for (rings, sites) in [(0, 1), (1, 7), (2, 19), (3, 37)] {
            let layout = hexagonal(rings);
            assert_eq!(layout.sites(), sites);
            assert_eq!(layout.cells().len(), 3 * sites as usize);
        }
        let layout = hexagonal(2);
        let positions: Vec<Point> = layout.cells().iter().map(|cell| cell.position).collect();
        let neighbours = |of: Point| {
            positions
                .iter()
                .step_by(3)
                .filter(|other| (other.minus(of).length_2d() - 200.0).abs() < 1e-6)
                .count()
        };
        assert_eq!(neighbours(positions[0]), 6);
        assert!(
            positions
                .iter()
                .all(|position| (3..=6).contains(&neighbours(*position)))
        );
    }

    #[test]
    fn with_wrap_around_every_site_sees_the_same_distances() {
        for rings in [1, 2] {
            let layout = hexagonal(rings);
            let distances = |from: &Cell| {
                let user = Point::new(from.position.x + 31.0, from.position.y + 17.0, 1.5);
                let mut distances: Vec<f64> = layout
                    .cells()
                    .iter()
                    .map(|cell| layout.to_user(cell, user).length_2d())
                    .collect();
                distances.sort_by(f64::total_cmp);
                distances
            };
            let centre = distances(&layout.cells()[0]);
            for cell in layout.cells() {
                for (a, b) in distances(cell).iter().zip(&centre) {
                    assert!((a - b).abs() < 1e-6, "{rings} rings");
                }
            }
        }
    }

    #[test]
    fn a_sector_is_loudest_where_it_points() {
        let layout = hexagonal(0);
        let gains = |x: f64, y: f64| -> Vec<f64> {
            layout
                .cells()
                .iter()
                .map(|cell| {
                    let vector = layout.to_user(cell, Point::new(x, y, 1.5));
                    layout.gain_dbi(cell, vector)
                })
                .collect()
        };
        let ahead = gains(86.6, 50.0);
        assert!(ahead[0] > 7.0 && ahead[1] < ahead[0] - 15.0 && ahead[2] < ahead[0] - 15.0);
        let between = gains(0.0, 100.0);
        assert!((between[0] - between[1]).abs() < 1e-9);
    }

    #[test]
    fn sites_of_a_line_stand_beside_the_way() {
        let kind = LayoutKind::Line {
            count: 3,
            distance_m: 500.0,
            offset_m: 20.0,
        };
        let layout = Layout::new(kind, 25.0, 1, SectorAntenna::omnidirectional(8.0));
        let last = &layout.cells()[2];
        assert_eq!(last.position, Point::new(1_000.0, 20.0, 25.0));
        let vector = layout.to_user(last, Point::new(1_000.0, 0.0, 1.5));
        assert_eq!(vector, Point::new(0.0, -20.0, -23.5));
        assert!((layout.gain_dbi(last, vector) - 8.0).abs() < 1e-12);
    }
}
