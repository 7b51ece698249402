//! Attenuation by oxygen and water vapour, line by line: Rec. ITU-R P.676-12, Annex 1.

use std::sync::LazyLock;

use super::error::{PropagationError, within};
use super::table::numbers;

const MODEL: &str = "Rec. ITU-R P.676-12";

static OXYGEN: LazyLock<Vec<[f64; 7]>> =
    LazyLock::new(|| numbers(include_str!("../../data/propagation/p676_oxygen.csv")));
static WATER: LazyLock<Vec<[f64; 7]>> =
    LazyLock::new(|| numbers(include_str!("../../data/propagation/p676_water_vapour.csv")));

/// What the air is like at one place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Air {
    /// Pressure of the dry air alone, in hPa.
    pub dry_pressure_hpa: f64,
    /// Water vapour density in g/m3.
    pub vapour_density_g_m3: f64,
    /// Temperature in K.
    pub temperature_k: f64,
}

impl Air {
    /// Air at sea level: 1013.25 hPa of dry air, 7.5 g/m3 of vapour, 15 degrees.
    pub const SEA_LEVEL: Air = Air {
        dry_pressure_hpa: 1013.25,
        vapour_density_g_m3: 7.5,
        temperature_k: 288.15,
    };

    /// Partial pressure of the water vapour in hPa (equation 4).
    #[must_use]
    pub fn vapour_pressure_hpa(&self) -> f64 {
        self.vapour_density_g_m3 * self.temperature_k / 216.7
    }
}

/// An absorption line as the air broadens it.
#[derive(Debug, Clone, Copy)]
struct Line {
    frequency_ghz: f64,
    /// Strength over the line's frequency.
    strength: f64,
    width_ghz: f64,
    /// Interference between lines.
    interference: f64,
}

impl Line {
    /// Strength times shape at `f` (equations 3 and 5).
    #[inline]
    fn absorbs(&self, f: f64) -> f64 {
        let (below, above) = (self.frequency_ghz - f, self.frequency_ghz + f);
        let square = self.width_ghz * self.width_ghz;
        let shape = (self.width_ghz - self.interference * below) / (below * below + square)
            + (self.width_ghz - self.interference * above) / (above * above + square);
        self.strength * f * shape
    }
}

/// Air prepared for many frequencies: line strengths and widths depend on the air alone.
#[derive(Debug, Clone)]
pub struct Gases {
    oxygen: Vec<Line>,
    water: Vec<Line>,
    debye_width_ghz: f64,
    debye_strength: f64,
    nitrogen_strength: f64,
}

impl Gases {
    /// Prepares air.
    ///
    /// # Errors
    ///
    /// Pressure, vapour or temperature that no air on Earth has.
    pub fn new(air: &Air) -> Result<Gases, PropagationError> {
        let p = air.dry_pressure_hpa;
        let temperature = air.temperature_k;
        within(
            MODEL,
            "the dry pressure in hPa",
            p,
            (0.0, 1200.0, "0 to 1200 hPa"),
        )?;
        let vapour = air.vapour_density_g_m3;
        within(
            MODEL,
            "the vapour density in g/m3",
            vapour,
            (0.0, 100.0, "0 to 100 g/m3"),
        )?;
        within(
            MODEL,
            "the temperature in K",
            temperature,
            (150.0, 380.0, "150 to 380 K"),
        )?;
        let e = air.vapour_pressure_hpa();
        let theta = 300.0 / temperature;
        let log_theta = libm::log(theta);
        let power = |exponent: f64| libm::exp(exponent * log_theta);
        let power_0_8 = power(0.8);
        let oxygen_power = p * theta * theta * theta;
        let water_power = e * power(3.5);
        Ok(Gases {
            oxygen: OXYGEN
                .iter()
                .map(|&[frequency_ghz, a1, a2, a3, a4, a5, a6]| {
                    let dry = if a4 == 0.0 {
                        power_0_8
                    } else {
                        power(0.8 - a4)
                    };
                    let pressure = a3 * 1e-4 * (p * dry + 1.1 * e * theta);
                    Line {
                        frequency_ghz,
                        strength: a1 * 1e-7 * oxygen_power * libm::exp(a2 * (1.0 - theta))
                            / frequency_ghz,
                        // Zeeman splitting widens lines where pressure does not.
                        width_ghz: libm::sqrt(pressure * pressure + 2.25e-6),
                        interference: (a5 + a6 * theta) * 1e-4 * (p + e) * power_0_8,
                    }
                })
                .collect(),
            water: WATER
                .iter()
                .map(|&[frequency_ghz, b1, b2, b3, b4, b5, b6]| {
                    let pressure = b3 * 1e-4 * (p * power(b4) + b5 * e * power(b6));
                    // Doppler broadening matters high up.
                    let doppler = 2.1316e-12 * frequency_ghz * frequency_ghz / theta;
                    Line {
                        frequency_ghz,
                        strength: b1 * 0.1 * water_power * libm::exp(b2 * (1.0 - theta))
                            / frequency_ghz,
                        width_ghz: 0.535 * pressure
                            + libm::sqrt(0.217 * pressure * pressure + doppler),
                        interference: 0.0,
                    }
                })
                .collect(),
            debye_width_ghz: 5.6e-4 * (p + e) * power_0_8,
            debye_strength: 6.14e-5 * p * theta * theta,
            nitrogen_strength: 1.4e-12 * p * p * theta * theta * power(1.5),
        })
    }

    /// Attenuation by oxygen and the dry continuum at `frequency_ghz`, in dB/km (equation 1).
    ///
    /// # Errors
    ///
    /// A frequency outside of 1 to 1000 GHz.
    pub fn oxygen_db_km(&self, frequency_ghz: f64) -> Result<f64, PropagationError> {
        let f = frequency(frequency_ghz)?;
        let lines: f64 = self.oxygen.iter().map(|line| line.absorbs(f)).sum();
        // Equation 8: Debye spectrum of oxygen, pressure-induced absorption of nitrogen.
        let ratio = f / self.debye_width_ghz;
        let debye = if self.debye_width_ghz > 0.0 {
            self.debye_strength / (self.debye_width_ghz * (1.0 + ratio * ratio))
        } else {
            0.0
        };
        let nitrogen = self.nitrogen_strength / (1.0 + 1.9e-5 * f * libm::sqrt(f));
        Ok(0.1820 * f * (lines + f * (debye + nitrogen)))
    }

    /// Attenuation by water vapour at `frequency_ghz`, in dB/km (equation 1).
    ///
    /// # Errors
    ///
    /// A frequency outside of 1 to 1000 GHz.
    pub fn water_db_km(&self, frequency_ghz: f64) -> Result<f64, PropagationError> {
        let f = frequency(frequency_ghz)?;
        let lines: f64 = self.water.iter().map(|line| line.absorbs(f)).sum();
        Ok(0.1820 * f * lines)
    }

    /// Attenuation by both at `frequency_ghz`, in dB/km.
    ///
    /// # Errors
    ///
    /// A frequency outside of 1 to 1000 GHz.
    pub fn total_db_km(&self, frequency_ghz: f64) -> Result<f64, PropagationError> {
        Ok(self.oxygen_db_km(frequency_ghz)? + self.water_db_km(frequency_ghz)?)
    }
}

fn frequency(frequency_ghz: f64) -> Result<f64, PropagationError> {
    let range = (1.0, 1000.0, "1 to 1000 GHz");
    within(MODEL, "the frequency in GHz", frequency_ghz, range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_complete() {
        assert_eq!((OXYGEN.len(), WATER.len()), (44, 35));
    }

    #[test]
    fn air_at_sea_level_attenuates_as_the_reference_values_say() {
        let gases = Gases::new(&Air::SEA_LEVEL).unwrap();
        for (ghz, expected) in [
            (28.0, 0.1018),
            (60.0, 14.78),
            (100.0, 0.458),
            (140.0, 0.923),
            (220.0, 2.487),
            (300.0, 5.247),
        ] {
            let found = gases.total_db_km(ghz).unwrap();
            assert!((found / expected - 1.0).abs() < 0.01, "{ghz}: {found}");
        }
    }

    #[test]
    fn oxygen_and_water_agree_with_another_implementation() {
        // itur 0.4.0, `gamma0_exact` and `gammaw_exact`.
        let gases = Gases::new(&Air::SEA_LEVEL).unwrap();
        for (ghz, oxygen, water) in [
            (28.0, 0.018_696_374_95, 0.083_059_585_25),
            (60.0, 14.623_474_796_49, 0.154_841_840_64),
            (100.0, 0.033_625_442_08, 0.424_433_522_67),
            (140.0, 0.019_060_049_73, 0.904_129_349_63),
            (220.0, 0.015_443_602_91, 2.471_370_747_59),
            (300.0, 0.025_759_576_28, 5.221_329_041_10),
        ] {
            let found = gases.oxygen_db_km(ghz).unwrap();
            assert!((found / oxygen - 1.0).abs() < 1e-6, "{ghz}: {found}");
            let found = gases.water_db_km(ghz).unwrap();
            assert!((found / water - 1.0).abs() < 1e-6, "{ghz}: {found}");
        }
    }

    #[test]
    fn dry_and_tropical_air_do_too() {
        let dry = Gases::new(&Air {
            vapour_density_g_m3: 0.0,
            ..Air::SEA_LEVEL
        })
        .unwrap();
        let found = dry.total_db_km(300.0).unwrap();
        assert!((found / 0.0257 - 1.0).abs() < 0.01, "{found}");
        assert!(dry.water_db_km(300.0).unwrap() < 1e-12);
        let tropical = Gases::new(&Air {
            vapour_density_g_m3: 20.0,
            temperature_k: 303.15,
            ..Air::SEA_LEVEL
        })
        .unwrap();
        let found = tropical.total_db_km(300.0).unwrap();
        assert!((found / 14.47 - 1.0).abs() < 0.01, "{found}");
    }

    #[test]
    fn what_is_no_air_or_no_radio_wave_is_refused() {
        let air = |dry_pressure_hpa, vapour_density_g_m3, temperature_k| {
            Gases::new(&Air {
                dry_pressure_hpa,
                vapour_density_g_m3,
                temperature_k,
            })
        };
        assert!(air(-1.0, 7.5, 288.0).is_err());
        assert!(air(1013.0, f64::NAN, 288.0).is_err());
        assert!(air(1013.0, 7.5, 15.0).is_err(), "15 degrees are 288.15 K");
        let gases = air(1013.0, 7.5, 288.0).unwrap();
        assert!(gases.oxygen_db_km(0.0).is_err());
        assert!(gases.water_db_km(1001.0).is_err());
        assert!(gases.total_db_km(f64::INFINITY).is_err());
        let nothing = air(0.0, 0.0, 220.0).unwrap();
        assert!(nothing.total_db_km(60.0).unwrap().abs() < 1e-12);
    }
}
