//! Attenuation by rain: Rec. ITU-R P.838-3.

use std::str::FromStr;
use std::sync::LazyLock;

use super::error::{PropagationError, within};

const MODEL: &str = "Rec. ITU-R P.838-3";

/// How the electric field swings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polarization {
    /// Parallel to the ground.
    Horizontal,
    /// Upright.
    Vertical,
    /// Turning (a tilt of 45 degrees in the recommendation).
    Circular,
}

impl FromStr for Polarization {
    type Err = &'static str;

    /// Reads `H`, `V` or `circ`, in any case; the error says what there is.
    fn from_str(name: &str) -> Result<Polarization, &'static str> {
        match name.to_ascii_lowercase().as_str() {
            "h" => Ok(Polarization::Horizontal),
            "v" => Ok(Polarization::Vertical),
            "circ" => Ok(Polarization::Circular),
            _ => Err("H, V or circ"),
        }
    }
}

/// A line in log10 f with bell curves upon it (equations 2 and 3).
#[derive(Debug, Default)]
struct Curve {
    line: [f64; 2],
    bells: Vec<[f64; 3]>,
}

impl Curve {
    fn read(quantity: &str) -> Curve {
        let mut curve = Curve::default();
        for text in include_str!("../../data/propagation/p838_rain.csv").lines() {
            let fields: Vec<&str> = text.split(',').collect();
            let &[name, kind, first, second, third] = fields.as_slice() else {
                continue;
            };
            if name != quantity {
                continue;
            }
            let number = |text: &str| text.parse().unwrap_or(f64::NAN);
            if kind == "line" {
                curve.line = [number(first), number(second)];
            } else {
                curve
                    .bells
                    .push([number(first), number(second), number(third)]);
            }
        }
        curve
    }

    fn at(&self, log_f: f64) -> f64 {
        let bells: f64 = self
            .bells
            .iter()
            .map(|[a, b, c]| {
                let place = (log_f - b) / c;
                a * libm::exp(-place * place)
            })
            .sum();
        bells + self.line[0] * log_f + self.line[1]
    }
}

static K_HORIZONTAL: LazyLock<Curve> = LazyLock::new(|| Curve::read("k_h"));
static K_VERTICAL: LazyLock<Curve> = LazyLock::new(|| Curve::read("k_v"));
static ALPHA_HORIZONTAL: LazyLock<Curve> = LazyLock::new(|| Curve::read("alpha_h"));
static ALPHA_VERTICAL: LazyLock<Curve> = LazyLock::new(|| Curve::read("alpha_v"));

/// Specific attenuation in dB/km of rain of `rain_mm_h` mm/h on a path that rises by
/// `elevation_deg` degrees (equations 1, 4 and 5).
///
/// # Errors
///
/// A frequency outside of 1 to 1000 GHz, or rain that is negative or beyond any ever seen.
pub fn rain_db_km(
    frequency_ghz: f64,
    polarization: Polarization,
    rain_mm_h: f64,
    elevation_deg: f64,
) -> Result<f64, PropagationError> {
    let range = (1.0, 1000.0, "1 to 1000 GHz");
    within(MODEL, "the frequency in GHz", frequency_ghz, range)?;
    within(
        MODEL,
        "rain in mm/h",
        rain_mm_h,
        (0.0, 1000.0, "0 to 1000 mm/h"),
    )?;
    let range = (-90.0, 90.0, "-90 to 90 degrees");
    within(MODEL, "the elevation in degrees", elevation_deg, range)?;
    let log_f = libm::log10(frequency_ghz);
    let horizontal = libm::exp10(K_HORIZONTAL.at(log_f));
    let vertical = libm::exp10(K_VERTICAL.at(log_f));
    let alpha_horizontal = ALPHA_HORIZONTAL.at(log_f);
    let alpha_vertical = ALPHA_VERTICAL.at(log_f);
    // cos^2(elevation) cos(2 tilt): the tilt is 0, 90 or 45 degrees.
    let cosine = libm::cos(elevation_deg.to_radians());
    let mix = match polarization {
        Polarization::Horizontal => cosine * cosine,
        Polarization::Vertical => -cosine * cosine,
        Polarization::Circular => 0.0,
    };
    let k = (horizontal + vertical + (horizontal - vertical) * mix) / 2.0;
    let (first, second) = (horizontal * alpha_horizontal, vertical * alpha_vertical);
    let alpha = (first + second + (first - second) * mix) / (2.0 * k);
    Ok(k * libm::pow(rain_mm_h, alpha))
}

/// Attenuation in dB by rain of one rate everywhere below `rain_height_km` on a slant path at
/// `elevation_deg`; as rain is patchy this is the most that a shower of that rate can do
/// (compare Rec. ITU-R P.618, which reduces the path by statistics of whole years).
///
/// # Errors
///
/// As [`rain_db_km`]; an elevation below 5 degrees, where the ground's curvature counts.
pub fn rain_slant_path_db(
    frequency_ghz: f64,
    polarization: Polarization,
    rain_mm_h: f64,
    elevation_deg: f64,
    rain_height_km: f64,
) -> Result<f64, PropagationError> {
    let range = (5.0, 90.0, "5 to 90 degrees of elevation");
    within(MODEL, "the elevation in degrees", elevation_deg, range)?;
    within(
        MODEL,
        "the rain height in km",
        rain_height_km,
        (0.0, 20.0, "0 to 20 km"),
    )?;
    let per_km = rain_db_km(frequency_ghz, polarization, rain_mm_h, elevation_deg)?;
    Ok(per_km * rain_height_km / libm::sin(elevation_deg.to_radians()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rain_of_25_mm_per_hour_attenuates_as_the_reference_values_say() {
        // Three digits of the reference, so half of the last one instead of 0.1 %.
        for (ghz, expected) in [(28.0, 4.62), (60.0, 10.12), (140.0, 12.76), (300.0, 12.36)] {
            let found = rain_db_km(ghz, Polarization::Horizontal, 25.0, 0.0).unwrap();
            assert!((found - expected).abs() <= 0.0051, "{ghz}: {found}");
        }
    }

    #[test]
    fn specific_attenuation_agrees_with_another_implementation() {
        // itur 0.4.0, `rain_specific_attenuation` at 25 mm/h.
        for (ghz, polarization, expected) in [
            (28.0, Polarization::Horizontal, 4.623_592_960_69),
            (28.0, Polarization::Vertical, 3.891_075_681_79),
            (28.0, Polarization::Circular, 4.248_448_567_48),
            (140.0, Polarization::Circular, 12.730_305_606_81),
            (300.0, Polarization::Horizontal, 12.359_928_072_36),
        ] {
            let found = rain_db_km(ghz, polarization, 25.0, 0.0).unwrap();
            assert!((found / expected - 1.0).abs() < 1e-3, "{ghz}: {found}");
        }
    }

    #[test]
    fn coefficients_are_those_of_the_recommendation_s_own_table() {
        // P.838-3, Table 5: frequency, k_H, alpha_H, k_V, alpha_V.
        for (ghz, k_h, alpha_h, k_v, alpha_v) in [
            (1.0, 0.000_025_9, 0.9691, 0.000_030_8, 0.8592),
            (10.0, 0.01217, 1.2571, 0.01129, 1.2156),
            (30.0, 0.2403, 0.9485, 0.2291, 0.9129),
            (100.0, 1.3671, 0.6815, 1.3680, 0.6765),
            (1000.0, 1.3797, 0.6396, 1.3822, 0.6365),
        ] {
            for (polarization, k, alpha) in [
                (Polarization::Horizontal, k_h, alpha_h),
                (Polarization::Vertical, k_v, alpha_v),
            ] {
                let at = |rain| rain_db_km(ghz, polarization, rain, 0.0).unwrap();
                assert!((at(1.0) / k - 1.0).abs() < 0.002, "{ghz} {polarization:?}");
                let slope = libm::log10(at(10.0) / at(1.0));
                assert!((slope - alpha).abs() < 1e-4, "{ghz} {slope}");
            }
        }
    }

    #[test]
    fn circular_lies_between_and_without_rain_nothing_is_lost() {
        let at = |polarization| rain_db_km(28.0, polarization, 25.0, 0.0).unwrap();
        let [h, v, c] = [
            Polarization::Horizontal,
            Polarization::Vertical,
            Polarization::Circular,
        ]
        .map(at);
        assert!(v < c && c < h);
        let none = rain_db_km(28.0, Polarization::Circular, 0.0, 0.0).unwrap();
        assert!(none.abs() < 1e-300);
        // Straight up there is no horizontal any more.
        let up = |polarization| rain_db_km(28.0, polarization, 25.0, 90.0).unwrap();
        assert!((up(Polarization::Horizontal) - up(Polarization::Vertical)).abs() < 1e-9);
    }

    #[test]
    fn a_slant_path_is_longer_the_lower_the_satellite() {
        let at = |elevation| {
            rain_slant_path_db(20.0, Polarization::Circular, 10.0, elevation, 4.0).unwrap()
        };
        assert!((at(30.0) / at(90.0) - 2.0).abs() < 1e-9);
        assert!(rain_slant_path_db(20.0, Polarization::Circular, 10.0, 1.0, 4.0).is_err());
    }

    #[test]
    fn what_no_rain_or_radio_wave_is_is_refused() {
        assert!(rain_db_km(0.5, Polarization::Vertical, 10.0, 0.0).is_err());
        assert!(rain_db_km(28.0, Polarization::Vertical, -1.0, 0.0).is_err());
        assert!(rain_db_km(28.0, Polarization::Vertical, f64::NAN, 0.0).is_err());
        assert!("slanted".parse::<Polarization>().is_err());
        assert_eq!("CIRC".parse(), Ok(Polarization::Circular));
    }
}
