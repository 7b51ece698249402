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

/// What a user hears of the cells.
struct Heard {
    /// What is lost on the way from the strongest cell, antenna gains included, in dB.
    coupling_loss_db: f64,
    /// The power of the best cell over that of all others, in dB.
    geometry_db: f64,
}

fn heard(number: u32, building: Option<&str>) -> Heard {
    let indoor = building.map_or(String::new(), |building| format!("indoor = \"{building}\""));
    let settings: ChannelSettings =
        toml::from_str(&format!("scenario = \"umi\"\n{indoor}")).unwrap();
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
    Heard {
        coupling_loss_db: -10.0 * libm::log10(best),
        geometry_db: 10.0 * libm::log10(best / (gains.iter().sum::<f64>() - best)),
    }
}

/// Four of five users are indoors, in buildings of that class (TR 38.901 table 7.8-1).
fn mostly_indoors(building: &'static str) -> impl Fn(u32) -> Option<&'static str> {
    move |number| (number % 5 > 0).then_some(building)
}

/// The 5th, 50th and 95th percentile of something that all users hear.
fn percentiles(
    building: impl Fn(u32) -> Option<&'static str>,
    quantity: fn(&Heard) -> f64,
) -> [f64; 3] {
    let mut all: Vec<f64> = (0..USERS)
        .map(|number| quantity(&heard(number, building(number))))
        .collect();
    all.sort_by(f64::total_cmp);
    [34, 342, 649].map(|at| all[at])
}

#[test]
fn nineteen_sites_of_three_sectors_have_the_geometry_of_the_reference() {
    // UMi at 3.5 GHz, 684 users, wrap-around: percentiles of Sionna's system-level calibration.
    for found_db in [
        percentiles(|_| None, |heard| heard.geometry_db),
        percentiles(mostly_indoors("low"), |heard| heard.geometry_db),
    ] {
        for (found, expected) in found_db.into_iter().zip([-2.9, 5.0, 20.9]) {
            assert!((found - expected).abs() <= 1.5, "{found_db:?} dB");
        }
    }
}

#[test]
fn the_coupling_loss_of_the_reference_lies_between_those_of_leaky_and_of_tight_buildings() {
    // The reference does not tell which share of its users is indoors, nor in which buildings: with
    // the share of TR 38.901 table 7.8-1, its percentiles lie between those of the two classes.
    let leaky = percentiles(mostly_indoors("low"), |heard| heard.coupling_loss_db);
    let tight = percentiles(mostly_indoors("high"), |heard| heard.coupling_loss_db);
    let outdoors = percentiles(|_| None, |heard| heard.coupling_loss_db);
    for (at, reference_db) in [76.8, 103.5, 119.9].into_iter().enumerate() {
        assert!(
            (leaky[at]..=tight[at]).contains(&reference_db),
            "{leaky:?} {tight:?}"
        );
        assert!(outdoors[at] < leaky[at], "{outdoors:?}");
    }
}
