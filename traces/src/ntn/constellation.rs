//! Many satellites in circular orbits, evenly spread (J. G. Walker 1984), and how a user on the
//! ground sees each.

use super::error::{NtnError, within};
use super::orbit::{CircularOrbit, PassPoint};
use super::{EARTH_RADIUS_KM, EARTH_ROTATION_RAD_S};

/// Satellites in evenly spaced planes (Walker's delta pattern).
#[derive(Debug, Clone, PartialEq)]
pub struct Constellation {
    orbit: CircularOrbit,
    inclination_deg: f64,
    planes: u32,
    per_plane: u32,
    /// By how many of the finest steps one plane is ahead of the one before (Walker's F).
    phasing: u32,
}

/// Where a user is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct User {
    /// North is positive, in degrees.
    pub latitude_deg: f64,
    /// East is positive, in degrees.
    pub longitude_deg: f64,
    /// Whether the Earth turns below the orbits; without, the longitude is one among the stars.
    pub earth_rotates: bool,
}

/// A satellite as a user sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sight {
    /// The satellite's number: plane by plane.
    pub satellite: u32,
    /// Where it stands and how it moves.
    pub point: PassPoint,
    /// How far the user is ahead of the point below the satellite, along its way, in km.
    pub along_track_km: f64,
    /// How far to the left of its way, in km.
    pub cross_track_km: f64,
}

type Vector = [f64; 3];

fn dot(a: Vector, b: Vector) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

impl Constellation {
    /// `planes` planes of `per_plane` satellites each.
    ///
    /// # Errors
    ///
    /// No satellite, more than 100 000, or an inclination outside of 0 to 180 degrees.
    pub fn new(
        orbit: CircularOrbit,
        inclination_deg: f64,
        [planes, per_plane, phasing]: [u32; 3],
    ) -> Result<Constellation, NtnError> {
        let range = (0.0, 180.0, "0 to 180 degrees");
        within("the inclination in degrees", inclination_deg, range)?;
        let count = f64::from(planes) * f64::from(per_plane);
        let range = (1.0, 100_000.0, "1 to 100000");
        within("the number of satellites", count, range)?;
        Ok(Constellation {
            orbit,
            inclination_deg,
            planes,
            per_plane,
            phasing,
        })
    }

    /// At 600 km: 72 planes of 22 at 53 degrees, the pattern of a large commercial shell (an
    /// assumption).
    ///
    /// # Errors
    ///
    /// None; as [`Constellation::new`].
    pub fn low() -> Result<Constellation, NtnError> {
        Constellation::new(CircularOrbit::new(600.0)?, 53.0, [72, 22, 39])
    }

    /// At 1200 km: 36 planes of 40 at 88 degrees, polar (an assumption).
    ///
    /// # Errors
    ///
    /// None; as [`Constellation::new`].
    pub fn high() -> Result<Constellation, NtnError> {
        Constellation::new(CircularOrbit::new(1200.0)?, 88.0, [36, 40, 1])
    }

    /// How many satellites there are.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.planes * self.per_plane
    }

    /// How `user` sees satellite number `satellite` at `t_s` seconds.
    #[must_use]
    pub fn sight(&self, user: &User, satellite: u32, t_s: f64) -> Sight {
        let (plane, place) = (satellite / self.per_plane, satellite % self.per_plane);
        let share = |part: u32, whole: u32| f64::from(part) / f64::from(whole);
        let node = share(plane, self.planes);
        let speed = self.orbit.angular_speed_rad_s();
        let start = share(place, self.per_plane)
            + share(self.phasing, self.planes) * share(plane, self.per_plane);
        let (u_sine, u_cosine) = libm::sincos(core::f64::consts::TAU * start + speed * t_s);
        let (node_sine, node_cosine) = libm::sincos(core::f64::consts::TAU * node);
        let (i_sine, i_cosine) = libm::sincos(self.inclination_deg.to_radians());
        // Unit vectors: to the satellite, along its way, to the left of it.
        let up = [
            node_cosine * u_cosine - node_sine * u_sine * i_cosine,
            node_sine * u_cosine + node_cosine * u_sine * i_cosine,
            u_sine * i_sine,
        ];
        let ahead = [
            -node_cosine * u_sine - node_sine * u_cosine * i_cosine,
            -node_sine * u_sine + node_cosine * u_cosine * i_cosine,
            u_cosine * i_sine,
        ];
        let left = [node_sine * i_sine, -node_cosine * i_sine, i_cosine];
        let rotation = if user.earth_rotates {
            EARTH_ROTATION_RAD_S
        } else {
            0.0
        };
        let (latitude_sine, latitude_cosine) = libm::sincos(user.latitude_deg.to_radians());
        let (east_sine, east_cosine) =
            libm::sincos(user.longitude_deg.to_radians() + rotation * t_s);
        let place = [
            latitude_cosine * east_cosine,
            latitude_cosine * east_sine,
            latitude_sine,
        ];
        let east = [-east_sine, east_cosine, 0.0];
        let radius = self.orbit.radius_km();
        let cosine = dot(up, place);
        let range = libm::sqrt(
            EARTH_RADIUS_KM * EARTH_RADIUS_KM + radius * radius
                - 2.0 * EARTH_RADIUS_KM * radius * cosine,
        );
        // d cos(g) / dt, by the satellite's way and the user's.
        let turning = speed * dot(ahead, place) + rotation * latitude_cosine * dot(up, east);
        let range_rate_km_s = -EARTH_RADIUS_KM * radius * turning / range;
        let elevation = libm::asin(((radius * cosine - EARTH_RADIUS_KM) / range).clamp(-1.0, 1.0));
        Sight {
            satellite,
            point: PassPoint::new(elevation.to_degrees(), range, range_rate_km_s),
            along_track_km: EARTH_RADIUS_KM * libm::atan2(dot(ahead, place), cosine),
            cross_track_km: EARTH_RADIUS_KM * libm::asin(dot(left, place).clamp(-1.0, 1.0)),
        }
    }

    /// The satellites that `user` sees above `least_deg` at `t_s`, by their numbers.
    pub fn visible(&self, user: &User, t_s: f64, least_deg: f64) -> impl Iterator<Item = Sight> {
        (0..self.count())
            .map(move |satellite| self.sight(user, satellite, t_s))
            .filter(move |sight| sight.point.elevation_deg >= least_deg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: User = User {
        latitude_deg: 45.0,
        longitude_deg: 10.0,
        earth_rotates: true,
    };

    #[test]
    fn elevation_range_and_drift_belong_together() {
        let constellation = Constellation::low().unwrap();
        let orbit = CircularOrbit::new(600.0).unwrap();
        for (t_s, sight) in [0.0, 1234.5, 80_000.0].into_iter().flat_map(|t_s| {
            constellation
                .visible(&USER, t_s, 10.0)
                .map(move |s| (t_s, s))
        }) {
            let expected = orbit.slant_range_km(sight.point.elevation_deg);
            assert!((sight.point.slant_range_km / expected - 1.0).abs() < 1e-9);
            let at = |t_s| {
                let sight = constellation.sight(&USER, sight.satellite, t_s);
                sight.point.one_way_delay_s
            };
            let slope = (at(t_s + 0.01) - at(t_s - 0.01)) / 0.02;
            assert!((slope - sight.point.delay_drift).abs() < 1e-9);
            let ground = libm::hypot(sight.along_track_km, sight.cross_track_km);
            let central = EARTH_RADIUS_KM * orbit.central_angle_rad(sight.point.elevation_deg);
            assert!((ground / central - 1.0).abs() < 0.02, "{ground} {central}");
        }
    }

    #[test]
    fn there_is_always_a_satellite_to_be_seen_at_middle_latitudes() {
        let constellation = Constellation::low().unwrap();
        for minute in 0..100_u32 {
            let t_s = f64::from(minute) * 61.0;
            let best = constellation
                .visible(&USER, t_s, 25.0)
                .map(|sight| sight.point.elevation_deg)
                .fold(0.0, f64::max);
            assert!(best > 40.0, "{t_s}: {best}");
        }
        let pole = User {
            latitude_deg: 90.0,
            ..USER
        };
        assert_eq!(constellation.visible(&pole, 0.0, 25.0).count(), 0);
        assert!(
            Constellation::high()
                .unwrap()
                .visible(&pole, 0.0, 25.0)
                .count()
                > 0
        );
    }

    #[test]
    fn what_is_no_constellation_is_refused() {
        let orbit = CircularOrbit::new(600.0).unwrap();
        assert!(Constellation::new(orbit, 53.0, [0, 22, 1]).is_err());
        assert!(Constellation::new(orbit, f64::NAN, [72, 22, 1]).is_err());
        assert!(Constellation::new(orbit, 53.0, [u32::MAX, u32::MAX, 1]).is_err());
    }
}
