//! Attenuation by cloud and fog: Rec. ITU-R P.840-8, Annex 1, section 2.

use super::error::{PropagationError, within};

const MODEL: &str = "Rec. ITU-R P.840-8";

/// Specific attenuation in dB/km of cloud or fog with `liquid_g_m3` g/m3 of liquid water at
/// `temperature_k`: droplets far smaller than the wavelength (Rayleigh), water as a double Debye
/// dielectric. Fog with a sight of 300 m holds about 0.05 g/m3, of 50 m about 0.5 g/m3.
///
/// # Errors
///
/// A frequency outside of 1 to 200 GHz, unless `extrapolate` (then up to 1000 GHz); water or
/// temperatures that no cloud has.
pub fn cloud_db_km(
    frequency_ghz: f64,
    temperature_k: f64,
    liquid_g_m3: f64,
    extrapolate: bool,
) -> Result<f64, PropagationError> {
    let range = if extrapolate {
        (1.0, 1000.0, "1 to 1000 GHz when extrapolated")
    } else {
        (1.0, 200.0, "1 to 200 GHz; above that only extrapolated")
    };
    within(MODEL, "the frequency in GHz", frequency_ghz, range)?;
    within(
        MODEL,
        "the temperature in K",
        temperature_k,
        (233.0, 323.0, "233 to 323 K"),
    )?;
    within(
        MODEL,
        "liquid water in g/m3",
        liquid_g_m3,
        (0.0, 20.0, "0 to 20 g/m3"),
    )?;
    Ok(coefficient(frequency_ghz, temperature_k) * liquid_g_m3)
}

/// K_l in (dB/km)/(g/m3), equations 2 to 11.
fn coefficient(f: f64, temperature_k: f64) -> f64 {
    let away = 300.0 / temperature_k - 1.0;
    let still = 77.66 + 103.3 * away;
    let first = 0.0671 * still;
    let second = 3.52;
    let principal_ghz = 20.20 - 146.0 * away + 316.0 * away * away;
    let secondary_ghz = 39.8 * principal_ghz;
    let (x, y) = (f / principal_ghz, f / secondary_ghz);
    let (low, high) = (
        (still - first) / (1.0 + x * x),
        (first - second) / (1.0 + y * y),
    );
    let real = low + high + second;
    let imaginary = x * low + y * high;
    let eta = (2.0 + real) / imaginary;
    0.819 * f / (imaginary * (1.0 + eta * eta))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coefficients_agree_with_another_implementation() {
        // itur 0.4.0, `specific_attenuation_coefficients`.
        for (ghz, celsius, expected) in [
            (10.0, 0.0, 0.092_550_382_29),
            (30.0, 0.0, 0.770_833_923_80),
            (100.0, 0.0, 4.888_008_390_68),
            (100.0, 20.0, 4.170_339_375_46),
            (200.0, -8.0, 9.606_929_005_24),
        ] {
            let found = cloud_db_km(ghz, celsius + 273.15, 1.0, false).unwrap();
            assert!((found / expected - 1.0).abs() < 1e-6, "{ghz}: {found}");
        }
    }

    #[test]
    fn clouds_attenuate_in_proportion_to_their_water() {
        let at = |water| cloud_db_km(100.0, 273.15, water, false).unwrap();
        assert!((at(0.5) / at(0.05) - 10.0).abs() < 1e-9);
        assert!(at(0.0).abs() < 1e-300);
    }

    #[test]
    fn what_no_cloud_is_is_refused_and_beyond_200_ghz_it_must_be_asked_for() {
        assert!(cloud_db_km(300.0, 273.15, 0.1, false).is_err());
        assert!(cloud_db_km(300.0, 273.15, 0.1, true).is_ok());
        assert!(cloud_db_km(30.0, 15.0, 0.1, false).is_err());
        assert!(cloud_db_km(30.0, 273.15, f64::NAN, false).is_err());
    }
}
