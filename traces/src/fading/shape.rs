//! A profile's taps as powers, and what a delay spread, a K factor and a beam make of them.

use super::angles::{Angles, Weighted};
use super::profile::{Directions, Tap, TapKind};
use super::rays::Beam;
use super::{FadingError, Profile};

/// The taps of a profile, ready to be scaled: those that fade first, a line of sight last.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    profile: Profile,
    taps: Vec<ShapeTap>,
    rms_delay_spread: f64,
}

#[derive(Debug, Clone, Copy)]
struct ShapeTap {
    kind: TapKind,
    delay: f64,
    /// As in the table, linear.
    power: f64,
    /// The share of it that leaves within the transmitter's beam.
    lit: f64,
    directions: Option<Directions>,
}

/// A tap with its delay in seconds and its share of the power.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ScaledTap {
    pub(super) kind: TapKind,
    pub(super) delay_s: f64,
    pub(super) power: f64,
}

impl Shape {
    pub(super) fn of(profile: Profile) -> Shape {
        let shaped = |tap: Tap| ShapeTap {
            kind: tap.kind,
            delay: tap.delay,
            power: linear(tap.power_db),
            lit: 1.0,
            directions: tap.directions.map(|directions| match tap.kind {
                TapKind::Rayleigh => directions,
                // A single ray.
                TapKind::LineOfSight => Directions {
                    departure_spread_deg: [0.0; 2],
                    arrival_spread_deg: [0.0; 2],
                    ..directions
                },
            }),
        };
        let mut taps: Vec<ShapeTap> = profile.taps().map(shaped).collect();
        taps.sort_by_key(|tap| tap.kind == TapKind::LineOfSight);
        let powers = taps.iter().map(|tap| (tap.delay, tap.power));
        Shape {
            profile,
            rms_delay_spread: rms(powers),
            taps,
        }
    }

    /// The same with directions as they are at a place, where the K factor in dB is that.
    pub(super) fn seen_at(mut self, angles: &Angles, k_factor_db: Option<f64>) -> Shape {
        let (sight, scattered) = self.parts();
        let weight = match k_factor_db {
            Some(wanted_db) if sight > 0.0 => sight / scattered / linear(wanted_db),
            _ => 1.0,
        };
        let weighted = |tap: &ShapeTap| {
            let power = match tap.kind {
                TapKind::LineOfSight => tap.power,
                TapKind::Rayleigh => tap.power * weight,
            };
            tap.directions.map(|directions| Weighted {
                kind: tap.kind,
                power,
                directions,
            })
        };
        let mut taps: Vec<Weighted> = self.taps.iter().filter_map(weighted).collect();
        angles.apply(&mut taps);
        let directed = self.taps.iter_mut().filter(|tap| tap.directions.is_some());
        for (tap, turned) in directed.zip(taps) {
            tap.directions = Some(turned.directions);
        }
        self
    }

    /// The same seen through a beam of that half-power width in degrees. It points along a line of
    /// sight, else where it catches the most power.
    pub(super) fn through_beam(mut self, width_deg: f64) -> Shape {
        let lit = |beam: Beam| {
            let shares = self.taps.iter().map(|tap| {
                tap.directions
                    .map_or(1.0, |directions| beam.share(&directions))
            });
            shares.collect::<Vec<_>>()
        };
        let caught = |shares: &[f64]| {
            let parts = self.taps.iter().zip(shares);
            parts.map(|(tap, share)| tap.power * share).sum::<f64>()
        };
        let sight = |tap: &&ShapeTap| tap.kind == TapKind::LineOfSight;
        let aims = match self.taps.iter().find(sight) {
            Some(tap) => core::slice::from_ref(tap),
            None => &self.taps[..],
        };
        let best = aims
            .iter()
            .filter_map(|tap| tap.directions)
            .map(|directions| lit(Beam::at(directions.departure_deg, width_deg)))
            .max_by(|one, other| caught(one).total_cmp(&caught(other)));
        for (tap, share) in self.taps.iter_mut().zip(best.unwrap_or_default()) {
            tap.lit = share;
        }
        self
    }

    pub(super) const fn rms_delay_spread(&self) -> f64 {
        self.rms_delay_spread
    }

    /// The K factor in dB: line of sight over the sum of all taps that fade.
    pub(super) fn k_factor_db(&self) -> Option<f64> {
        let (sight, scattered) = self.parts();
        (sight > 0.0).then(|| 10.0 * libm::log10(sight / scattered))
    }

    /// Power of the line of sight, and of all else.
    fn parts(&self) -> (f64, f64) {
        self.taps
            .iter()
            .fold((0.0, 0.0), |(sight, rest), tap| match tap.kind {
                TapKind::LineOfSight => (sight + tap.power, rest),
                TapKind::Rayleigh => (sight, rest + tap.power),
            })
    }

    /// Directions of the taps in the order of [`Shape::scale`].
    pub(super) fn directions(&self) -> impl Iterator<Item = (TapKind, Option<Directions>)> {
        self.taps.iter().map(|tap| (tap.kind, tap.directions))
    }

    /// The taps with delays in seconds and powers that sum to 1, without what misses the beam.
    ///
    /// Delays are multiplied by `rms_delay_spread_s` (clause 7.7.3). With `k_factor_db` the
    /// Rayleigh taps are weighted against the line of sight until the profile has that K factor,
    /// and its delays are normalised again before they are scaled (clause 7.7.6).
    ///
    /// # Errors
    ///
    /// A delay spread that is missing, superfluous or negative; a K factor without a line of sight.
    pub(super) fn scale(
        &self,
        rms_delay_spread_s: Option<f64>,
        k_factor_db: Option<f64>,
        scaled: &mut Vec<ScaledTap>,
    ) -> Result<(), FadingError> {
        let profile = self.profile;
        let unit_s = match (profile.is_scalable(), rms_delay_spread_s) {
            (true, Some(value)) if value.is_finite() && value >= 0.0 => value,
            (true, Some(value)) => {
                return Err(FadingError::OutOfRange {
                    setting: "the rms delay spread in seconds",
                    value,
                    expected: "a number from 0",
                });
            }
            (true, None) => return Err(FadingError::DelaySpreadMissing { profile }),
            (false, Some(_)) => return Err(FadingError::DelaySpreadFixed { profile }),
            (false, None) => 1e-9,
        };
        let (sight, scattered) = self.parts();
        let weight = match k_factor_db {
            None => 1.0,
            Some(wanted) if wanted.is_finite() => {
                if sight <= 0.0 {
                    return Err(FadingError::NoLineOfSight { profile });
                }
                sight / scattered / linear(wanted)
            }
            Some(value) => {
                return Err(FadingError::OutOfRange {
                    setting: "the K factor in dB",
                    value,
                    expected: "a finite number",
                });
            }
        };
        let power = |tap: &ShapeTap| match tap.kind {
            TapKind::LineOfSight => tap.power,
            TapKind::Rayleigh => tap.power * weight,
        };
        let sum = sight + scattered * weight;
        let delay_s = if k_factor_db.is_some() {
            let taps = self.taps.iter().map(|tap| (tap.delay, power(tap)));
            unit_s * self.rms_delay_spread / rms(taps)
        } else {
            unit_s
        };
        scaled.clear();
        scaled.extend(self.taps.iter().map(|tap| ScaledTap {
            kind: tap.kind,
            delay_s: tap.delay * delay_s,
            power: power(tap) / sum * tap.lit,
        }));
        Ok(())
    }
}

fn linear(power_db: f64) -> f64 {
    libm::exp10(power_db / 10.0)
}

/// The root mean square spread of delays weighted by power.
fn rms(taps: impl Iterator<Item = (f64, f64)>) -> f64 {
    let (mut sum, mut first, mut second) = (0.0, 0.0, 0.0);
    for (delay, power) in taps {
        sum += power;
        first += delay * power;
        second += delay * delay * power;
    }
    let mean = first / sum;
    libm::sqrt((second / sum - mean * mean).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaled(
        shape: &Shape,
        spread_s: Option<f64>,
        k_db: Option<f64>,
    ) -> Result<Vec<ScaledTap>, FadingError> {
        let mut taps = Vec::new();
        shape.scale(spread_s, k_db, &mut taps)?;
        Ok(taps)
    }

    fn spread_s(taps: &[ScaledTap]) -> f64 {
        rms(taps.iter().map(|tap| (tap.delay_s, tap.power)))
    }

    #[test]
    fn scaling_keeps_unit_power_and_gives_the_delay_spread_that_was_asked_for() {
        for (k_factor_db, profile) in [
            (None, Profile::TdlA),
            (Some(3.0), Profile::TdlD),
            (Some(15.0), Profile::TdlE),
            (Some(9.0), Profile::CdlD),
        ] {
            let taps = scaled(&Shape::of(profile), Some(250e-9), k_factor_db).unwrap();
            let sum: f64 = taps.iter().map(|tap| tap.power).sum();
            assert!((sum - 1.0).abs() < 1e-12);
            let expected = 250e-9 * profile.rms_delay_spread();
            assert!((spread_s(&taps) / expected - 1.0).abs() < 1e-9);
            if let Some(wanted) = k_factor_db {
                let sight = taps.last().unwrap().power;
                let k = 10.0 * libm::log10(sight / (1.0 - sight));
                assert!((k - wanted).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn a_narrow_beam_lights_fewer_clusters_and_shortens_the_channel() {
        for profile in [Profile::CdlA, Profile::CdlB, Profile::CdlC, Profile::CdlD] {
            let whole = scaled(&Shape::of(profile), Some(100e-9), None).unwrap();
            let mut before = (f64::INFINITY, f64::INFINITY);
            for width_deg in [360.0, 65.0, 12.0] {
                let shape = Shape::of(profile).through_beam(width_deg);
                let lit = scaled(&shape, Some(100e-9), None).unwrap();
                let caught: f64 = lit.iter().map(|tap| tap.power).sum();
                assert!(
                    caught < 1.0 && caught < before.0,
                    "{profile} {width_deg}: {caught}"
                );
                assert!(spread_s(&lit) < before.1, "{profile} {width_deg}");
                before = (caught, spread_s(&lit));
            }
            assert!(before.1 < 0.8 * spread_s(&whole), "{profile}: {}", before.1);
            // What leaves along the beam's axis is hardly weakened.
            assert!(before.0 > 0.1, "{profile}: {}", before.0);
        }
        let sight = Shape::of(Profile::CdlD).through_beam(12.0);
        let sight = scaled(&sight, Some(100e-9), Some(10.0)).unwrap();
        assert!((sight.last().unwrap().power - 10.0 / 11.0).abs() < 1e-12);
    }

    #[test]
    fn settings_that_mean_nothing_are_refused() {
        let refused = |profile, spread_s, k_db| scaled(&Shape::of(profile), spread_s, k_db);
        assert_eq!(
            refused(Profile::TdlA, None, None),
            Err(FadingError::DelaySpreadMissing {
                profile: Profile::TdlA
            })
        );
        assert_eq!(
            refused(Profile::TdlC60, Some(1e-9), None),
            Err(FadingError::DelaySpreadFixed {
                profile: Profile::TdlC60
            })
        );
        assert_eq!(
            refused(Profile::CdlB, Some(1e-9), Some(3.0)),
            Err(FadingError::NoLineOfSight {
                profile: Profile::CdlB
            })
        );
        assert!(refused(Profile::TdlB, Some(f64::NAN), None).is_err());
        assert!(refused(Profile::TdlD, Some(1e-9), Some(f64::NAN)).is_err());
    }
}
