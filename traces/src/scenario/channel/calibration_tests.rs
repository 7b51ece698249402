//! The whole of path loss, line of sight, shadowing, sectors and wrap-around at once, against the
//! calibration of an independent implementation.

use super::sites::{ExtraLoss, Sites};
use crate::CounterRng;
use crate::mobility::{Motion, Point};
use crate::network::{Cell, Layout, LayoutKind, SectorAntenna};
use crate::scenario::settings::ChannelSettings;

const USERS: u32 = 684;
const DISTANCE_M: f64 = 200.0;

/// A place in the first site's hexagon, at least 10 m from its middle.
fn place(random: CounterRng) -> Point {
    let inside = |x: f64, y: f64| {
        let root = libm::sqrt(3.0);
        let across = [x, 0.5 * (x + root * y), 0.5 * (x - root * y)];
        across.iter().all(|way| way.abs() <= DISTANCE_M / 2.0) && libm::hypot(x, y) >= 10.0
    };
    (0..)
        .map(|index| {
            random
                .uniform_pair(index)
                .map(|part| (2.0 * part - 1.0) * 116.0)
        })
        .find(|[x, y]| inside(*x, *y))
        .map(|[x, y]| Point::new(x, y, 1.5))
        .unwrap()
}

/// The power of the best cell over that of all others at a user's place, in dB.
fn geometry_db(number: u32) -> f64 {
    let settings: ChannelSettings = toml::from_str("scenario = \"umi\"").unwrap();
    let kind = LayoutKind::Hexagonal {
        rings: 2,
        distance_m: DISTANCE_M,
    };
    let layout = Layout::new(kind, 10.0, 3, SectorAntenna::sector(0.0));
    let name = format!("user {number}");
    let mut sites = Sites::new(&settings, 3.5, layout, 1.5, (1, &name)).unwrap();
    let motion = Motion {
        position: place(CounterRng::new(1, &name, "place")),
        ..Motion::default()
    };
    sites.update(&motion, ExtraLoss::default()).unwrap();
    let gain =
        |cell: &Cell| sites.antenna_gain(cell, motion.position) * sites.path(cell.site).total();
    let gains: Vec<f64> = sites.cells().iter().map(gain).collect();
    let best = gains.iter().copied().fold(0.0, f64::max);
    10.0 * libm::log10(best / (gains.iter().sum::<f64>() - best))
}

#[test]
fn nineteen_sites_of_three_sectors_have_the_geometry_of_the_reference() {
    // UMi at 3.5 GHz, 684 users, wrap-around: percentiles of Sionna's system-level calibration.
    let mut geometry: Vec<f64> = (0..USERS).map(geometry_db).collect();
    geometry.sort_by(f64::total_cmp);
    for (at, expected_db) in [(34, -2.9), (342, 5.0), (649, 20.9)] {
        let found_db = geometry[at];
        assert!((found_db - expected_db).abs() <= 1.5, "{at}: {found_db} dB");
    }
}
