//! A circular orbit above an Earth that stands still, and a pass over one place.
//!
//! With the Earth's radius R, the orbit's radius r, the angle g at the Earth's centre between
//! place and satellite, and the distance d: `d^2 = R^2 + r^2 - 2 R r cos g`, and by the law of
//! sines `r sin g = d cos(elevation)`. In a pass whose plane is g0 away from the place,
//! `cos g = cos g0 cos(w t)` with the angular speed `w = sqrt(GM / r^3)`.

use super::error::{NtnError, within};
use super::{EARTH_GM_KM3_S2, EARTH_RADIUS_KM};
use crate::tr38901::SPEED_OF_LIGHT_M_PER_S;

const LIGHT_KM_S: f64 = SPEED_OF_LIGHT_M_PER_S / 1000.0;

/// A circular orbit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CircularOrbit {
    altitude_km: f64,
}

/// A satellite as one place sees it at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PassPoint {
    /// Above the horizon, in degrees; negative below it.
    pub elevation_deg: f64,
    /// Distance in km.
    pub slant_range_km: f64,
    /// Time of light over that distance, in seconds.
    pub one_way_delay_s: f64,
    /// Change of that time per second; negative while the satellite comes nearer.
    pub delay_drift: f64,
    /// Doppler shift over the carrier frequency, in parts per million; positive while the
    /// satellite comes nearer.
    pub doppler_ppm: f64,
}

impl CircularOrbit {
    /// An orbit at `altitude_km` above the ground.
    ///
    /// # Errors
    ///
    /// An altitude below 160 km, where air stops every satellite, or above 50 000 km.
    pub fn new(altitude_km: f64) -> Result<CircularOrbit, NtnError> {
        let range = (160.0, 50_000.0, "160 to 50000 km");
        Ok(CircularOrbit {
            altitude_km: within("the altitude in km", altitude_km, range)?,
        })
    }

    /// Altitude above the ground in km.
    #[must_use]
    pub const fn altitude_km(&self) -> f64 {
        self.altitude_km
    }

    /// Distance from the Earth's centre in km.
    #[must_use]
    pub fn radius_km(&self) -> f64 {
        EARTH_RADIUS_KM + self.altitude_km
    }

    /// Angular speed in rad/s.
    #[must_use]
    pub fn angular_speed_rad_s(&self) -> f64 {
        let radius = self.radius_km();
        libm::sqrt(EARTH_GM_KM3_S2 / (radius * radius * radius))
    }

    /// Time of one revolution in seconds.
    #[must_use]
    pub fn period_s(&self) -> f64 {
        core::f64::consts::TAU / self.angular_speed_rad_s()
    }

    /// Distance in km to a satellite seen at `elevation_deg`.
    #[must_use]
    pub fn slant_range_km(&self, elevation_deg: f64) -> f64 {
        let below = EARTH_RADIUS_KM * libm::sin(elevation_deg.to_radians());
        let h = self.altitude_km;
        libm::sqrt(below * below + h * (h + 2.0 * EARTH_RADIUS_KM)) - below
    }

    /// Time of light to a satellite seen at `elevation_deg`, in seconds.
    #[must_use]
    pub fn one_way_delay_s(&self, elevation_deg: f64) -> f64 {
        self.slant_range_km(elevation_deg) / LIGHT_KM_S
    }

    /// The largest Doppler shift in parts per million of a satellite seen at `elevation_deg`: that
    /// of a pass through the zenith.
    #[must_use]
    pub fn maximum_doppler_ppm(&self, elevation_deg: f64) -> f64 {
        let speed_km_s =
            EARTH_RADIUS_KM * self.angular_speed_rad_s() * libm::cos(elevation_deg.to_radians());
        speed_km_s / LIGHT_KM_S * 1e6
    }

    /// Angle at the Earth's centre, in radians, between a place and a satellite that it sees at
    /// `elevation_deg`.
    #[must_use]
    pub fn central_angle_rad(&self, elevation_deg: f64) -> f64 {
        let elevation = elevation_deg.to_radians();
        libm::acos(EARTH_RADIUS_KM / self.radius_km() * libm::cos(elevation)) - elevation
    }

    /// The satellite `t_s` seconds after it stood highest, at `highest_deg`.
    #[must_use]
    pub fn pass(&self, highest_deg: f64, t_s: f64) -> PassPoint {
        let radius = self.radius_km();
        let speed = self.angular_speed_rad_s();
        let (turned_sine, turned_cosine) = libm::sincos(speed * t_s);
        let off_plane = libm::cos(self.central_angle_rad(highest_deg));
        let cosine = off_plane * turned_cosine;
        let sine = libm::sqrt((1.0 - cosine * cosine).max(0.0));
        let up = radius * cosine - EARTH_RADIUS_KM;
        let range = libm::hypot(up, radius * sine);
        let range_rate_km_s = EARTH_RADIUS_KM * radius * off_plane * turned_sine * speed / range;
        let elevation = libm::atan2(up, radius * sine);
        PassPoint::new(elevation.to_degrees(), range, range_rate_km_s)
    }

    /// How long a pass that culminates at `highest_deg` stays above `least_deg`, in seconds; 0 if
    /// it does not reach it.
    #[must_use]
    pub fn pass_duration_s(&self, highest_deg: f64, least_deg: f64) -> f64 {
        let edge = libm::cos(self.central_angle_rad(least_deg));
        let middle = libm::cos(self.central_angle_rad(highest_deg));
        if edge >= middle {
            return 0.0;
        }
        2.0 * libm::acos(edge / middle) / self.angular_speed_rad_s()
    }
}

impl PassPoint {
    pub(super) fn new(elevation_deg: f64, slant_range_km: f64, range_rate_km_s: f64) -> PassPoint {
        let drift = range_rate_km_s / LIGHT_KM_S;
        PassPoint {
            elevation_deg,
            slant_range_km,
            one_way_delay_s: slant_range_km / LIGHT_KM_S,
            delay_drift: drift,
            doppler_ppm: -drift * 1e6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orbit(altitude_km: f64) -> CircularOrbit {
        CircularOrbit::new(altitude_km).unwrap()
    }

    #[test]
    fn ranges_delays_and_doppler_are_the_reference_values() {
        let leo = orbit(600.0);
        let close = |found: f64, expected: f64| (found / expected - 1.0).abs() < 1e-4;
        assert!(close(leo.slant_range_km(10.0), 1931.6));
        assert!(close(leo.one_way_delay_s(10.0), 6.443e-3));
        // Both links of a transparent satellite at 10 degrees, there and back.
        assert!((4.0 * leo.one_way_delay_s(10.0) * 1e3 - 25.77).abs() < 0.005);
        assert!((4.0 * orbit(1200.0).one_way_delay_s(10.0) * 1e3 - 41.77).abs() < 0.005);
        assert!((leo.one_way_delay_s(90.0) * 1e3 - 2.001).abs() < 0.0005);
        assert!((leo.maximum_doppler_ppm(10.0) - 22.7).abs() < 0.05);
        assert!(leo.maximum_doppler_ppm(90.0).abs() < 1e-9);
    }

    #[test]
    fn a_pass_through_the_zenith_agrees_with_the_closed_forms() {
        let leo = orbit(600.0);
        for t_s in [-200.0, -50.0, 0.0, 120.0] {
            let point = leo.pass(90.0, t_s);
            let range = leo.slant_range_km(point.elevation_deg);
            assert!((point.slant_range_km / range - 1.0).abs() < 1e-9);
            let doppler = leo.maximum_doppler_ppm(point.elevation_deg);
            let signed = if t_s < 0.0 { doppler } else { -doppler };
            assert!((point.doppler_ppm - signed).abs() < 1e-6, "{t_s}");
        }
    }

    #[test]
    fn delay_drift_is_the_slope_of_the_delay() {
        let leo = orbit(1200.0);
        for t_s in [-300.0, -10.0, 0.0, 250.0] {
            let step = 1e-3;
            let slope = (leo.pass(40.0, t_s + step).one_way_delay_s
                - leo.pass(40.0, t_s - step).one_way_delay_s)
                / (2.0 * step);
            let drift = leo.pass(40.0, t_s).delay_drift;
            assert!((slope - drift).abs() < 1e-10, "{slope} {drift}");
        }
    }

    #[test]
    fn a_pass_lasts_until_the_satellite_is_too_low() {
        let leo = orbit(600.0);
        let half = leo.pass_duration_s(60.0, 10.0) / 2.0;
        assert!((leo.pass(60.0, half).elevation_deg - 10.0).abs() < 1e-6);
        assert!((leo.pass(60.0, -half).elevation_deg - 10.0).abs() < 1e-6);
        assert!((leo.pass(60.0, 0.0).elevation_deg - 60.0).abs() < 1e-6);
        assert!(leo.pass_duration_s(5.0, 10.0).abs() < 1e-12);
        // About 97 minutes a revolution.
        assert!((leo.period_s() - 5792.0).abs() < 2.0);
    }

    #[test]
    fn what_is_no_orbit_is_refused() {
        for altitude_km in [0.0, -600.0, f64::NAN, 1e6] {
            assert!(CircularOrbit::new(altitude_km).is_err());
        }
    }
}
