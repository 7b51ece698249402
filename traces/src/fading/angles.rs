//! Angles of a clustered delay line, brought to those of a place: TR 38.901 clause 7.7.5.1.

use super::profile::{Directions, TapKind};
use super::rays::OFFSETS;

/// How the rays of a link lie where its user is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Angles {
    /// Root mean square spreads in azimuth and zenith where rays leave, in degrees (annex A).
    pub departure_spread_deg: [f64; 2],
    /// And where they arrive.
    pub arrival_spread_deg: [f64; 2],
    /// Zenith angle at which the line of sight leaves, in degrees; it leaves at azimuth 0, and
    /// arrives from azimuth 180 at the opposite zenith angle.
    pub sight_zenith_deg: f64,
    /// How much further down the others leave on average, in degrees (tables 7.5-7 to 7.5-12).
    pub zenith_offset_deg: f64,
}

/// A cluster or a line of sight with its share of the power.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Weighted {
    pub(super) kind: TapKind,
    pub(super) power: f64,
    pub(super) directions: Directions,
}

/// One of the four angles of directions: the angle and the spread of its rays.
type Angle = fn(&mut Directions) -> (&mut f64, &mut f64);

const ANGLES: [Angle; 4] = [
    |directions| {
        (
            &mut directions.departure_deg[0],
            &mut directions.departure_spread_deg[0],
        )
    },
    |directions| {
        (
            &mut directions.departure_deg[1],
            &mut directions.departure_spread_deg[1],
        )
    },
    |directions| {
        (
            &mut directions.arrival_deg[0],
            &mut directions.arrival_spread_deg[0],
        )
    },
    |directions| {
        (
            &mut directions.arrival_deg[1],
            &mut directions.arrival_spread_deg[1],
        )
    },
];

impl Angles {
    /// Equation 7.7-5 for every ray: its angle from the profile's mean is multiplied by the spread
    /// that is wanted over that of the profile, and laid about the mean that is wanted.
    ///
    /// The mean wanted is that with which a line of sight lies where it does, or, without one, its
    /// direction, about which step 7 of clause 7.5 lays clusters (with the offset of the zenith
    /// angle of departure).
    pub(super) fn apply(&self, taps: &mut [Weighted]) {
        let wanted = [
            (self.departure_spread_deg[0], 0.0),
            (
                self.departure_spread_deg[1],
                self.sight_zenith_deg + self.zenith_offset_deg,
            ),
            (self.arrival_spread_deg[0], 180.0),
            (self.arrival_spread_deg[1], 180.0 - self.sight_zenith_deg),
        ];
        let sight = taps.iter().position(|tap| tap.kind == TapKind::LineOfSight);
        for (at, (angle, (spread_deg, direction_deg))) in ANGLES.into_iter().zip(wanted).enumerate()
        {
            let is_zenith = at % 2 == 1;
            let rays = taps.iter_mut().flat_map(|tap| {
                let power = tap.power;
                let (middle_deg, width_deg) = angle(&mut tap.directions);
                let (middle_deg, width_deg) = (*middle_deg, *width_deg);
                OFFSETS.map(move |offset| (middle_deg + width_deg * offset, power))
            });
            let (mean_deg, profile_deg) = mean_and_spread_deg(rays);
            let factor = if profile_deg > 0.0 {
                spread_deg / profile_deg
            } else {
                1.0
            };
            let (from_deg, to_deg) = match sight {
                Some(sight) => {
                    let to_deg = if at == 1 {
                        self.sight_zenith_deg
                    } else {
                        direction_deg
                    };
                    (*angle(&mut taps[sight].directions).0, to_deg)
                }
                None => (mean_deg, direction_deg),
            };
            for tap in taps.iter_mut() {
                let (middle_deg, width_deg) = angle(&mut tap.directions);
                let off_deg = libm::remainder(*middle_deg - from_deg, 360.0);
                *middle_deg = to_deg + factor * off_deg;
                if is_zenith {
                    *middle_deg = middle_deg.clamp(0.0, 180.0);
                }
                *width_deg *= factor;
            }
        }
    }
}

/// Mean and root mean square spread of angles with powers, in degrees: annex A, equations A-1
/// and A-2.
fn mean_and_spread_deg(rays: impl Iterator<Item = (f64, f64)>) -> (f64, f64) {
    let (mut power, mut real, mut imaginary) = (0.0, 0.0, 0.0);
    for (angle_deg, weight) in rays {
        let angle = angle_deg.to_radians();
        power += weight;
        real += weight * libm::cos(angle);
        imaginary += weight * libm::sin(angle);
    }
    let length = libm::hypot(real, imaginary) / power;
    let spread = libm::sqrt(-2.0 * libm::log(length.clamp(f64::MIN_POSITIVE, 1.0)));
    (
        libm::atan2(imaginary, real).to_degrees(),
        spread.to_degrees(),
    )
}

#[cfg(test)]
mod tests {
    use super::super::Profile;
    use super::*;

    fn taps(profile: Profile) -> Vec<Weighted> {
        let weighted = |tap: super::super::Tap| {
            let mut directions = tap.directions?;
            if tap.kind == TapKind::LineOfSight {
                directions.departure_spread_deg = [0.0; 2];
                directions.arrival_spread_deg = [0.0; 2];
            }
            Some(Weighted {
                kind: tap.kind,
                power: libm::exp10(tap.power_db / 10.0),
                directions,
            })
        };
        profile.taps().filter_map(weighted).collect()
    }

    /// Mean and spread of each of the four angles.
    fn measured(taps: &[Weighted]) -> [(f64, f64); 4] {
        ANGLES.map(|angle| {
            let mut taps = taps.to_vec();
            let rays = taps.iter_mut().flat_map(|tap| {
                let power = tap.power;
                let (middle_deg, width_deg) = angle(&mut tap.directions);
                let (middle_deg, width_deg) = (*middle_deg, *width_deg);
                OFFSETS.map(move |offset| (middle_deg + width_deg * offset, power))
            });
            mean_and_spread_deg(rays)
        })
    }

    const STREET: Angles = Angles {
        departure_spread_deg: [15.0, 1.5],
        arrival_spread_deg: [40.0, 6.0],
        sight_zenith_deg: 95.0,
        zenith_offset_deg: 2.0,
    };

    #[test]
    fn means_and_spreads_are_those_of_annex_a() {
        // Two rays at +-a: the resultant is cos a.
        let (mean, spread) = mean_and_spread_deg([(160.0, 1.0), (220.0, 1.0)].into_iter());
        assert!(
            (libm::remainder(mean - 190.0, 360.0)).abs() < 1e-9,
            "{mean}"
        );
        let expected = libm::sqrt(-2.0 * libm::log(libm::sqrt(0.75))).to_degrees();
        assert!((spread - expected).abs() < 1e-9, "{spread}");
    }

    #[test]
    fn rays_have_the_spreads_and_means_that_were_asked_for() {
        let wanted = [(0.0, 15.0), (97.0, 1.5), (180.0, 40.0), (85.0, 6.0)];
        for profile in [Profile::CdlA, Profile::CdlB, Profile::CdlC] {
            let mut taps = taps(profile);
            STREET.apply(&mut taps);
            for ((mean, spread), (wanted_mean, wanted_spread)) in
                measured(&taps).into_iter().zip(wanted)
            {
                // The equation is linear, the spread of the annex is not: within a tenth.
                assert!(
                    (spread / wanted_spread - 1.0).abs() < 0.12,
                    "{profile}: {spread} for {wanted_spread}"
                );
                let off = libm::remainder(mean - wanted_mean, 360.0);
                assert!(off.abs() < 0.2 * wanted_spread, "{profile}: {mean}");
            }
        }
    }

    #[test]
    fn angles_keep_their_proportions_about_the_mean() {
        let before = taps(Profile::CdlC);
        let mut after = before.clone();
        STREET.apply(&mut after);
        let [_, _, (mean, spread), _] = measured(&before);
        for (before, after) in before.iter().zip(&after) {
            let off = libm::remainder(before.directions.arrival_deg[0] - mean, 360.0);
            let expected = 180.0 + 40.0 / spread * off;
            assert!((after.directions.arrival_deg[0] - expected).abs() < 1e-9);
            let width = before.directions.arrival_spread_deg[0] * 40.0 / spread;
            assert!((after.directions.arrival_spread_deg[0] - width).abs() < 1e-9);
        }
    }

    #[test]
    fn a_line_of_sight_lies_where_it_does_whatever_the_spread() {
        for profile in [Profile::CdlD, Profile::CdlE] {
            let mut taps = taps(profile);
            STREET.apply(&mut taps);
            let sight = taps[0].directions;
            let [leaves, arrives] = [sight.departure_deg, sight.arrival_deg];
            let expected = [0.0, 95.0, 180.0, 85.0];
            for (found, expected) in leaves.into_iter().chain(arrives).zip(expected) {
                assert!((found - expected).abs() < 1e-9, "{profile}: {sight:?}");
            }
        }
    }

    #[test]
    fn a_profile_brought_to_its_own_spreads_and_means_stays_as_it_is() {
        let before = taps(Profile::CdlB);
        let [asd, zsd, asa, zsa] = measured(&before);
        let own = Angles {
            departure_spread_deg: [asd.1, zsd.1],
            arrival_spread_deg: [asa.1, zsa.1],
            sight_zenith_deg: 180.0 - zsa.0,
            zenith_offset_deg: zsd.0 - (180.0 - zsa.0),
        };
        let mut after = before.clone();
        own.apply(&mut after);
        for (before, after) in before.iter().zip(&after) {
            let (before, after) = (before.directions, after.directions);
            for at in 0..2 {
                // Azimuths are told from another direction: that of the line of sight.
                let turned = [[asd.0, asa.0 - 180.0], [0.0; 2]][at];
                let pairs = [
                    (
                        before.departure_deg[at] - turned[0],
                        after.departure_deg[at],
                    ),
                    (before.arrival_deg[at] - turned[1], after.arrival_deg[at]),
                ];
                for (before, after) in pairs {
                    let off = libm::remainder(before - after, 360.0);
                    assert!(off.abs() < 1e-9, "{before} {after}");
                }
                let before = before.arrival_spread_deg[at];
                assert!((before - after.arrival_spread_deg[at]).abs() < 1e-9);
            }
        }
    }
}
