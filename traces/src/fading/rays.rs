//! Rays of clusters: how fast they turn as the user moves, and how many leave within a beam.

use super::profile::Directions;
use super::sinusoids::SINUSOIDS;
use crate::CounterRng;

/// Offsets of a cluster's twenty rays from its middle at a root mean square spread of 1 degree:
/// TR 38.901 table 7.5-3.
pub(super) const OFFSETS: [f64; SINUSOIDS] = [
    0.0447, -0.0447, 0.1413, -0.1413, 0.2492, -0.2492, 0.3715, -0.3715, 0.5129, -0.5129, 0.6797,
    -0.6797, 0.8844, -0.8844, 1.1481, -1.1481, 1.5195, -1.5195, 2.1551, -2.1551,
];

/// Draws of a cluster's coupling lie from here on, far from those of phases.
const COUPLING: u64 = 1 << 48;

/// The deepest that a beam weakens what leaves beside it, linear: 30 dB (table 7.3-1).
const SIDE: f64 = 1e-3;

/// The cosine between a wave that arrives from there and a horizontal way, in degrees: how many
/// cycles it turns per wavelength.
pub(super) fn turning(azimuth_deg: f64, zenith_deg: f64, heading_deg: f64) -> f64 {
    let ahead = libm::cos((azimuth_deg - heading_deg).to_radians());
    libm::sin(zenith_deg.to_radians()) * ahead
}

/// How fast the rays of cluster `number` turn. Azimuth and zenith of rays are coupled at random
/// (step 8 of clause 7.5).
pub(super) fn frequencies(
    directions: &Directions,
    heading_deg: f64,
    random: &CounterRng,
    number: usize,
) -> [f64; SINUSOIDS] {
    let mut zenith = OFFSETS;
    let first = COUPLING + (number * SINUSOIDS) as u64;
    for (at, draw) in (1..SINUSOIDS).rev().zip(first..) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a number below twenty"
        )]
        let other = (random.uniform(draw) * (at + 1) as f64) as usize;
        zenith.swap(at, other.min(at));
    }
    let [azimuth_deg, zenith_deg] = directions.arrival_deg;
    let [azimuth_spread, zenith_spread] = directions.arrival_spread_deg;
    core::array::from_fn(|ray| {
        turning(
            azimuth_deg + azimuth_spread * OFFSETS[ray],
            zenith_deg + zenith_spread * zenith[ray],
            heading_deg,
        )
    })
}

/// A transmitter's beam with a Gaussian main lobe, -12 (angle / width)^2 dB.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beam {
    axis_deg: [f64; 2],
    width_deg: f64,
}

impl Beam {
    pub(super) const fn at(axis_deg: [f64; 2], width_deg: f64) -> Beam {
        Beam {
            axis_deg,
            width_deg,
        }
    }

    /// The share of a cluster's power that leaves within the beam.
    pub(super) fn share(&self, cluster: &Directions) -> f64 {
        let mut share = 1.0;
        for at in 0..2 {
            let off_deg = cluster.departure_deg[at] - self.axis_deg[at];
            let off_deg = libm::remainder(off_deg, 360.0);
            let spread_deg = cluster.departure_spread_deg[at];
            let ray = |offset: &f64| {
                let off = (off_deg + spread_deg * offset) / self.width_deg;
                libm::exp10(-1.2 * off * off)
            };
            share *= OFFSETS.iter().map(ray).sum::<f64>() / f64::from(RAYS);
        }
        share.max(SIDE)
    }
}

const RAYS: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: Directions = Directions {
        departure_deg: [30.0, 95.0],
        arrival_deg: [120.0, 80.0],
        departure_spread_deg: [5.0, 3.0],
        arrival_spread_deg: [11.0, 3.0],
    };

    #[test]
    fn offsets_have_a_spread_of_one_degree() {
        let square: f64 = OFFSETS.iter().map(|offset| offset * offset).sum();
        assert!((libm::sqrt(square / 20.0) - 1.0).abs() < 1e-3);
        assert!(OFFSETS.iter().sum::<f64>().abs() < 1e-12);
    }

    #[test]
    fn rays_turn_by_their_angle_to_the_way() {
        assert!((turning(0.0, 90.0, 0.0) - 1.0).abs() < 1e-12);
        assert!((turning(180.0, 90.0, 0.0) + 1.0).abs() < 1e-12);
        assert!(turning(0.0, 90.0, 90.0).abs() < 1e-12 && turning(0.0, 0.0, 0.0).abs() < 1e-12);
        let random = CounterRng::new(1, "test", "rays");
        let turns = frequencies(&CLUSTER, 120.0, &random, 3);
        let mean = turns.iter().sum::<f64>() / 20.0;
        // sin 80 degrees, less what the spread of 11 degrees takes.
        assert!((mean - 0.9848 * 0.9817).abs() < 2e-3, "{mean}");
        let other = frequencies(&CLUSTER, 120.0, &random, 4);
        assert!(
            turns
                .iter()
                .zip(other)
                .any(|(one, other)| (one - other).abs() > 1e-3)
        );
    }

    #[test]
    fn a_beam_weakens_what_leaves_beside_it_but_not_by_more_than_its_side_lobes() {
        let half = Beam::at([30.0 + 32.5, 95.0], 65.0).share(&CLUSTER);
        assert!((half - 0.5).abs() < 0.02, "{half}");
        let along = Beam::at([30.0, 95.0], 65.0).share(&CLUSTER);
        assert!(along > 0.97 && along < 1.0, "{along}");
        // -330 degrees is 30 degrees.
        let around = Beam::at([-330.0, 95.0], 65.0).share(&CLUSTER);
        assert!((around - along).abs() < 1e-12);
        let away = Beam::at([-150.0, 95.0], 12.0).share(&CLUSTER);
        assert!((away - SIDE).abs() < 1e-15);
    }
}
