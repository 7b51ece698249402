//! Air from the ground to space, and what it takes away on the way to a satellite.
//!
//! Mean annual global reference atmosphere of Rec. ITU-R P.835-6 (the US Standard Atmosphere of
//! 1976 with a vapour that halves every 1.4 km), in layers that thicken with height, as in Rec.
//! ITU-R P.676-12, Annex 1, section 2; the ray is straight.

use super::error::{PropagationError, within};
use super::gas::{Air, Gases};

const MODEL: &str = "the gas attenuation of slant paths (Rec. ITU-R P.676-12)";
const EARTH_RADIUS_KM: f64 = 6371.0;
/// Temperatures at the bases of the layers: geopotential height in km, K, gradient in K/km.
const LAYERS: [(f64, f64, f64); 7] = [
    (0.0, 288.15, -6.5),
    (11.0, 216.65, 0.0),
    (20.0, 216.65, 1.0),
    (32.0, 228.65, 2.8),
    (47.0, 270.65, 0.0),
    (51.0, 270.65, -2.8),
    (71.0, 214.65, -2.0),
];
/// g M / R in K/km: what pressure falls by (P.835-6, equation 3).
const PRESSURE_K_KM: f64 = 34.1632;
const SEA_LEVEL_HPA: f64 = 1013.25;
const VAPOUR_SCALE_KM: f64 = 2.0;
const TOP_KM: f64 = 84.0;

/// The reference atmosphere with the vapour at the ground that a scenario asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StandardAtmosphere {
    /// Water vapour at sea level in g/m3: 7.5 in the recommendation.
    pub vapour_density_g_m3: f64,
}

impl Default for StandardAtmosphere {
    fn default() -> StandardAtmosphere {
        StandardAtmosphere {
            vapour_density_g_m3: 7.5,
        }
    }
}

impl StandardAtmosphere {
    /// The air at `height_km` above the sea, from 0 to 84 km.
    #[must_use]
    pub fn at(&self, height_km: f64) -> Air {
        let height = 6356.766 * height_km / (6356.766 + height_km);
        let mut pressure = SEA_LEVEL_HPA;
        let mut temperature_k = LAYERS[0].1;
        for (index, &(base, base_k, gradient)) in LAYERS.iter().enumerate() {
            let top = LAYERS.get(index + 1).map_or(f64::INFINITY, |next| next.0);
            let rise = height.min(top) - base;
            if rise <= 0.0 {
                break;
            }
            temperature_k = base_k + gradient * rise;
            pressure *= if gradient == 0.0 {
                libm::exp(-PRESSURE_K_KM * rise / base_k)
            } else {
                libm::pow(base_k / temperature_k, PRESSURE_K_KM / gradient)
            };
        }
        let vapour = self.vapour_density_g_m3 * libm::exp(-height_km / VAPOUR_SCALE_KM);
        let vapour_pressure = vapour * temperature_k / 216.7;
        Air {
            dry_pressure_hpa: (pressure - vapour_pressure).max(0.0),
            vapour_density_g_m3: vapour,
            temperature_k,
        }
    }
}

/// Gas attenuation in dB between the ground (at `ground_km` above the sea) and a satellite seen
/// at `elevation_deg`.
///
/// Costs about a millisecond; a scenario computes it once per degree or so, not per slot.
///
/// # Errors
///
/// An elevation below 5 degrees, where the bending of the ray counts; frequencies and vapour
/// outside of the recommendation.
pub fn slant_path_gas_db(
    atmosphere: &StandardAtmosphere,
    frequency_ghz: f64,
    elevation_deg: f64,
    ground_km: f64,
) -> Result<f64, PropagationError> {
    let range = (5.0, 90.0, "5 to 90 degrees of elevation");
    within(MODEL, "the elevation in degrees", elevation_deg, range)?;
    within(
        MODEL,
        "the ground's height in km",
        ground_km,
        (0.0, 9.0, "0 to 9 km"),
    )?;
    let mut sum_db = 0.0;
    let mut bottom_km = ground_km;
    let mut thickness_km = 0.01;
    while bottom_km < TOP_KM {
        let top_km = (bottom_km + thickness_km).min(TOP_KM);
        let gases = Gases::new(&atmosphere.at((bottom_km + top_km) / 2.0))?;
        let length_km = slant_path_through_layers_km(elevation_deg, ground_km, bottom_km, top_km);
        sum_db += gases.total_db_km(frequency_ghz)? * length_km;
        bottom_km = top_km;
        thickness_km *= 1.02;
    }
    Ok(sum_db)
}

/// How long a ray that leaves the ground at `elevation_deg` runs between two heights, in km.
#[must_use]
pub fn slant_path_through_layers_km(
    elevation_deg: f64,
    ground_km: f64,
    bottom_km: f64,
    top_km: f64,
) -> f64 {
    let ground = EARTH_RADIUS_KM + ground_km;
    let (sine, cosine) = libm::sincos(elevation_deg.to_radians());
    let reach = |height_km: f64| {
        let radius = EARTH_RADIUS_KM + height_km;
        libm::sqrt(radius * radius - ground * ground * cosine * cosine) - ground * sine
    };
    reach(top_km) - reach(bottom_km)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_atmosphere_is_that_of_the_standard() {
        // US Standard Atmosphere 1976: geometric height, temperature, pressure.
        for (km, kelvin, hpa) in [
            (0.0, 288.15, 1013.25),
            (5.0, 255.676, 540.48),
            (11.0, 216.774, 226.99),
            (20.0, 216.65, 55.293),
            (50.0, 270.65, 0.797_79),
            (80.0, 198.639, 0.010_525),
        ] {
            let dry = StandardAtmosphere {
                vapour_density_g_m3: 0.0,
            };
            let air = dry.at(km);
            assert!((air.temperature_k - kelvin).abs() < 0.01, "{km}: {air:?}");
            assert!(
                (air.dry_pressure_hpa / hpa - 1.0).abs() < 2e-3,
                "{km}: {air:?}"
            );
        }
    }

    #[test]
    fn straight_up_a_layer_is_as_long_as_it_is_thick() {
        assert!((slant_path_through_layers_km(90.0, 0.0, 1.0, 3.5) - 2.5).abs() < 1e-9);
        let low = slant_path_through_layers_km(30.0, 0.0, 0.0, 1.0);
        assert!((low - 2.0).abs() < 0.01);
    }

    #[test]
    fn the_slant_path_agrees_with_the_recommendation_s_bent_ray() {
        // itur 0.4.0, `gaseous_attenuation_slant_path` in its exact mode, which takes the total
        // pressure for that of dry air and bends the ray: a few per cent.
        let air = StandardAtmosphere::default();
        for (ghz, elevation_deg, expected) in [
            (20.0, 10.0, 1.4404),
            (20.0, 30.0, 0.5047),
            (20.0, 90.0, 0.2526),
            (30.0, 30.0, 0.4633),
            (60.0, 90.0, 155.05),
            (140.0, 10.0, 9.4947),
            (140.0, 90.0, 1.6612),
        ] {
            let found = slant_path_gas_db(&air, ghz, elevation_deg, 0.0).unwrap();
            assert!((found / expected - 1.0).abs() < 0.03, "{ghz}: {found}");
        }
    }

    #[test]
    fn elevations_that_bend_the_ray_are_refused() {
        let air = StandardAtmosphere::default();
        assert!(slant_path_gas_db(&air, 20.0, 4.0, 0.0).is_err());
        assert!(slant_path_gas_db(&air, 20.0, f64::NAN, 0.0).is_err());
        assert!(slant_path_gas_db(&air, 2000.0, 30.0, 0.0).is_err());
    }
}
