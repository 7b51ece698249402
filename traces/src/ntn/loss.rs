//! What a signal loses on its way from a satellite to a user: TR 38.811 equations 6.6-1 to 6.6-4.

use super::environment::{Band, Environment};
use super::error::{NtnError, within};
use crate::CounterRng;
use crate::propagation::{
    Polarization, StandardAtmosphere, free_space_path_loss_db, rain_slant_path_db,
    slant_path_gas_db,
};
use crate::tr38901::SPEED_OF_LIGHT_M_PER_S;

/// The lowest elevation at which the air's attenuation is known.
const LEAST_DEG: f64 = 5.0;
/// Elevation, in degrees, over which shadowing and line of sight become others.
const CORRELATED_DEG: f64 = 10.0;

/// What a satellite link is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct SatelliteLinkSettings {
    /// Carrier frequency in GHz.
    pub frequency_ghz: f64,
    /// What stands around the user.
    pub environment: Environment,
    /// Water vapour at sea level in g/m3 (7.5 in the reference atmosphere).
    pub vapour_density_g_m3: f64,
    /// Rain in mm/h; 0 for none.
    pub rain_mm_h: f64,
    /// Height up to which it rains, in km.
    pub rain_height_km: f64,
    /// Magnetic latitude in degrees: within 20 degrees of the equator the ionosphere scintillates.
    pub magnetic_latitude_deg: f64,
}

impl SatelliteLinkSettings {
    /// A dry day in the suburbs at middle latitudes.
    #[must_use]
    pub const fn new(frequency_ghz: f64, environment: Environment) -> SatelliteLinkSettings {
        SatelliteLinkSettings {
            frequency_ghz,
            environment,
            vapour_density_g_m3: 7.5,
            rain_mm_h: 0.0,
            rain_height_km: 4.0,
            magnetic_latitude_deg: 50.0,
        }
    }
}

/// The losses of one moment, each in dB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Losses {
    /// Whether the user sees the satellite.
    pub line_of_sight: bool,
    /// Free space.
    pub free_space_db: f64,
    /// Shadowing: positive is loss.
    pub shadowing_db: f64,
    /// Clutter; 0 with a line of sight.
    pub clutter_db: f64,
    /// Oxygen and water vapour.
    pub gas_db: f64,
    /// Rain.
    pub rain_db: f64,
    /// Scintillation not exceeded 99 % of the time.
    pub scintillation_db: f64,
}

impl Losses {
    /// All of them together, in dB.
    #[must_use]
    pub fn total_db(&self) -> f64 {
        self.free_space_db
            + self.shadowing_db
            + self.clutter_db
            + self.gas_db
            + self.rain_db
            + self.scintillation_db
    }
}

/// The losses between one user and any satellite, by the satellite's elevation.
///
/// Line of sight and shadowing of one satellite are drawn from random numbers that belong to it
/// and change over ten degrees of elevation, so that they are the same whichever way time is
/// walked through. (The report gives their probability and deviation; how fast they change as a
/// satellite passes is an assumption.)
#[derive(Debug, Clone)]
pub struct SatelliteLink {
    settings: SatelliteLinkSettings,
    band: Band,
    extrapolated: bool,
    /// Gas attenuation at 5, 6, ... 90 degrees.
    gas_db: Vec<f64>,
    random: CounterRng,
}

impl SatelliteLink {
    /// Prepares a link; `random` belongs to this user alone. Costs about 0.1 s of computing the
    /// air's attenuation.
    ///
    /// # Errors
    ///
    /// Frequencies outside of 1 to 100 GHz, rain or vapour that cannot be.
    pub fn new(
        settings: SatelliteLinkSettings,
        random: CounterRng,
    ) -> Result<SatelliteLink, NtnError> {
        let frequency_ghz = settings.frequency_ghz;
        let range = (1.0, 100.0, "1 to 100 GHz");
        within("the carrier frequency in GHz", frequency_ghz, range)?;
        let range = (-90.0, 90.0, "-90 to 90 degrees");
        within(
            "the magnetic latitude",
            settings.magnetic_latitude_deg,
            range,
        )?;
        let air = StandardAtmosphere {
            vapour_density_g_m3: settings.vapour_density_g_m3,
        };
        rain_slant_path_db(
            frequency_ghz,
            Polarization::Circular,
            settings.rain_mm_h,
            LEAST_DEG,
            settings.rain_height_km,
        )?;
        let gas_db = (0..=85_u32)
            .map(|step| slant_path_gas_db(&air, frequency_ghz, LEAST_DEG + f64::from(step), 0.0))
            .collect::<Result<Vec<f64>, _>>()?;
        let (band, extrapolated) = Band::nearest(frequency_ghz);
        Ok(SatelliteLink {
            settings,
            band,
            extrapolated,
            gas_db,
            random,
        })
    }

    /// Whether the frequency lies outside of the bands of TR 38.811's tables, so that the nearer
    /// band's are taken.
    #[must_use]
    pub const fn is_extrapolated(&self) -> bool {
        self.extrapolated
    }

    /// The losses towards the satellite with the number `satellite`. Below five degrees the air is
    /// taken as at five.
    ///
    /// # Errors
    ///
    /// An elevation or distance that is not a number.
    pub fn losses(
        &self,
        satellite: u64,
        elevation_deg: f64,
        slant_range_km: f64,
    ) -> Result<Losses, NtnError> {
        let range = (-90.0, 90.0, "-90 to 90 degrees");
        within("the elevation in degrees", elevation_deg, range)?;
        let range = (1.0, 1e6, "1 km to a million km");
        within("the slant range in km", slant_range_km, range)?;
        let frequency_ghz = self.settings.frequency_ghz;
        let row = self.settings.environment.between(elevation_deg, self.band);
        let line_of_sight =
            phi(self.slow_normal(2 * satellite, elevation_deg)) < row.los_probability;
        let (sigma_db, clutter_db) = if line_of_sight {
            (row.sigma_los_db, 0.0)
        } else {
            (row.sigma_nlos_db, row.clutter_db)
        };
        let in_air_deg = elevation_deg.max(LEAST_DEG);
        let scintillation_db = if frequency_ghz < 6.0 {
            ionospheric_scintillation_db(frequency_ghz, self.settings.magnetic_latitude_deg)
        } else {
            row.scintillation_db
        };
        Ok(Losses {
            line_of_sight,
            free_space_db: free_space_path_loss_db(
                frequency_ghz,
                slant_range_km * 1000.0,
                SPEED_OF_LIGHT_M_PER_S,
            ),
            shadowing_db: sigma_db * self.slow_normal(2 * satellite + 1, elevation_deg),
            clutter_db,
            gas_db: self.gas_at(in_air_deg),
            rain_db: rain_slant_path_db(
                frequency_ghz,
                Polarization::Circular,
                self.settings.rain_mm_h,
                in_air_deg,
                self.settings.rain_height_km,
            )?,
            scintillation_db,
        })
    }

    /// Between two degrees the attenuation times the sine of the elevation is nearly constant.
    fn gas_at(&self, elevation_deg: f64) -> f64 {
        let place = (elevation_deg - LEAST_DEG).clamp(0.0, 85.0);
        let lower = libm::floor(place).min(84.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to 84"
        )]
        let index = lower as usize;
        let zenith = |index: usize, degrees: f64| {
            let db = self.gas_db.get(index).copied().unwrap_or(f64::NAN);
            db * libm::sin(degrees.to_radians())
        };
        let low = zenith(index, LEAST_DEG + lower);
        let high = zenith(index + 1, LEAST_DEG + lower + 1.0);
        (low + (high - low) * (place - lower)) / libm::sin(elevation_deg.to_radians())
    }

    /// A standard normal number of `process` that changes continuously with the elevation:
    /// independent ones every ten degrees, mixed in between to unit variance.
    fn slow_normal(&self, process: u64, elevation_deg: f64) -> f64 {
        let place = (elevation_deg + 90.0) / CORRELATED_DEG;
        let lower = libm::floor(place).clamp(0.0, 18.0);
        let share = place - lower;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to 18"
        )]
        let knot = process.wrapping_mul(32).wrapping_add(lower as u64);
        let (low, high) = (self.random.normal(knot), self.random.normal(knot + 1));
        let (a, b) = (1.0 - share, share);
        (a * low + b * high) / libm::sqrt(a * a + b * b)
    }
}

/// Ionospheric scintillation in dB below 6 GHz (TR 38.811 clause 6.6.6.1.4, equation 6.6-13):
/// within 20 degrees of the magnetic equator, else none.
#[must_use]
pub fn ionospheric_scintillation_db(frequency_ghz: f64, magnetic_latitude_deg: f64) -> f64 {
    if magnetic_latitude_deg.abs() > 20.0 {
        return 0.0;
    }
    1.1 * libm::pow(frequency_ghz / 4.0, -1.5) / core::f64::consts::SQRT_2
}

/// The distribution function of the standard normal distribution.
fn phi(x: f64) -> f64 {
    0.5 * libm::erfc(-x / core::f64::consts::SQRT_2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(settings: SatelliteLinkSettings) -> SatelliteLink {
        SatelliteLink::new(settings, CounterRng::new(1, "user", "satellites")).unwrap()
    }

    #[test]
    fn line_of_sight_and_shadowing_have_their_probability_and_deviation() {
        let link = link(SatelliteLinkSettings::new(20.0, Environment::DenseUrban));
        for elevation_deg in [30.0, 44.0] {
            let row = Environment::DenseUrban.between(elevation_deg, Band::Ka);
            let n = 100_000_u32;
            let (mut seen, mut squares) = (0_u32, 0.0);
            for satellite in 0..n {
                let losses = link
                    .losses(u64::from(satellite), elevation_deg, 1000.0)
                    .unwrap();
                let sigma = if losses.line_of_sight {
                    row.sigma_los_db
                } else {
                    row.sigma_nlos_db
                };
                seen += u32::from(losses.line_of_sight);
                squares += losses.shadowing_db * losses.shadowing_db / (sigma * sigma);
            }
            let share = f64::from(seen) / f64::from(n);
            assert!((share - row.los_probability).abs() < 0.01, "{share}");
            let deviation = libm::sqrt(squares / f64::from(n));
            assert!((deviation - 1.0).abs() < 0.02, "{deviation}");
        }
    }

    #[test]
    fn losses_add_up_and_change_without_steps_while_the_state_holds() {
        let settings = SatelliteLinkSettings {
            rain_mm_h: 10.0,
            ..SatelliteLinkSettings::new(20.0, Environment::SuburbanRural)
        };
        let link = link(settings);
        let mut before: Option<Losses> = None;
        for step in 0..800_u32 {
            let elevation_deg = 10.0 + f64::from(step) * 0.1;
            let losses = link.losses(7, elevation_deg, 900.0).unwrap();
            assert!(losses.gas_db > 0.1 && losses.rain_db > 2.0);
            assert!(losses.total_db() > 150.0);
            if let Some(before) = before
                && before.line_of_sight == losses.line_of_sight
            {
                assert!((before.total_db() - losses.total_db()).abs() < 1.0);
            }
            before = Some(losses);
        }
    }

    #[test]
    fn rain_and_low_elevation_cost_and_the_ionosphere_scintillates_at_the_equator() {
        let dry = link(SatelliteLinkSettings::new(20.0, Environment::Urban));
        let high = dry.losses(1, 80.0, 610.0).unwrap();
        let low = dry.losses(1, 12.0, 1800.0).unwrap();
        assert!(low.gas_db > 4.0 * high.gas_db);
        assert!(high.rain_db.abs() < 1e-12);
        assert!((ionospheric_scintillation_db(2.0, 10.0) - 2.2).abs() < 0.01);
        assert!(ionospheric_scintillation_db(2.0, 45.0).abs() < 1e-12);
        assert!(dry.losses(1, f64::NAN, 600.0).is_err());
        let nonsense = SatelliteLinkSettings {
            rain_mm_h: -1.0,
            ..SatelliteLinkSettings::new(20.0, Environment::Urban)
        };
        let random = CounterRng::new(1, "user", "satellites");
        assert!(SatelliteLink::new(nonsense, random).is_err());
    }
}
