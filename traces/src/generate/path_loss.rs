//! Path loss of an urban street canyon: TR 38.901 v19.4.0, table 7.4.1-1, rows
//! UMi-StreetCanyon LOS and NLOS.
//!
//! Distances and heights are in metres, the carrier in GHz, losses in dB. Only the path loss is
//! here: the rest of the UMi model (LOS probability, small-scale fading, ...) is not.

/// Speed of light in m/s. (Note 1 of the table rounds it to 3.0e8, which moves the breakpoint.)
const LIGHT_M_PER_S: f64 = 299_792_458.0;

/// Effective height of the street's surroundings, note 1 of the table: 1 m for UMi.
const ENVIRONMENT_HEIGHT_M: f64 = 1.0;

/// Where base station and user stand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Geometry {
    /// Distance over ground.
    pub d2d_m: f64,
    /// Height of the base station's antenna.
    pub base_height_m: f64,
    /// Height of the user's antenna.
    pub user_height_m: f64,
}

impl Geometry {
    /// Distance between the antennas.
    #[must_use]
    pub fn d3d_m(&self) -> f64 {
        let height = self.base_height_m - self.user_height_m;
        libm::sqrt(self.d2d_m * self.d2d_m + height * height)
    }

    /// The breakpoint distance d'BP of note 1: 4 h'BS h'UT fc / c.
    #[must_use]
    pub fn breakpoint_m(&self, carrier_ghz: f64) -> f64 {
        let base = self.base_height_m - ENVIRONMENT_HEIGHT_M;
        let user = self.user_height_m - ENVIRONMENT_HEIGHT_M;
        4.0 * base * user * carrier_ghz * 1e9 / LIGHT_M_PER_S
    }
}

/// Path loss with a clear line of sight: `PL_UMi-LOS`.
#[must_use]
pub fn line_of_sight_db(geometry: &Geometry, carrier_ghz: f64) -> f64 {
    let carrier = 20.0 * libm::log10(carrier_ghz);
    let breakpoint = geometry.breakpoint_m(carrier_ghz);
    if geometry.d2d_m <= breakpoint {
        return 32.4 + 21.0 * libm::log10(geometry.d3d_m()) + carrier;
    }
    let height = geometry.base_height_m - geometry.user_height_m;
    let bend = 9.5 * libm::log10(breakpoint * breakpoint + height * height);
    32.4 + 40.0 * libm::log10(geometry.d3d_m()) + carrier - bend
}

/// Path loss behind buildings: `PL_UMi-NLOS`, never less than with a line of sight.
#[must_use]
pub fn obstructed_db(geometry: &Geometry, carrier_ghz: f64) -> f64 {
    let own = 35.3 * libm::log10(geometry.d3d_m()) + 22.4 + 21.3 * libm::log10(carrier_ghz)
        - 0.3 * (geometry.user_height_m - 1.5);
    own.max(line_of_sight_db(geometry, carrier_ghz))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(d2d_m: f64) -> Geometry {
        Geometry {
            d2d_m,
            base_height_m: 10.0,
            user_height_m: 1.5,
        }
    }

    #[test]
    fn path_loss_at_100_m_is_the_reference_to_its_last_digit() {
        for (carrier_ghz, clear, obstructed) in [
            (3.5, 85.31, 104.64),
            (7.0, 91.33, 111.06),
            (15.0, 97.95, 118.11),
            (28.0, 103.38, 123.88),
            (60.0, 110.00, 130.93),
        ] {
            assert!((line_of_sight_db(&at(100.0), carrier_ghz) - clear).abs() <= 0.005);
            assert!((obstructed_db(&at(100.0), carrier_ghz) - obstructed).abs() <= 0.005);
        }
    }

    #[test]
    fn path_loss_beyond_the_breakpoint_is_the_reference_and_has_no_step_there() {
        assert!((line_of_sight_db(&at(500.0), 3.5) - 107.11).abs() <= 0.005);
        assert!((line_of_sight_db(&at(500.0), 7.0) - 107.41).abs() <= 0.005);
        let edge = at(1.0).breakpoint_m(7.0);
        assert!((edge - 420.3).abs() < 0.1, "{edge}");
        let step = line_of_sight_db(&at(edge + 1e-6), 7.0) - line_of_sight_db(&at(edge), 7.0);
        assert!(step.abs() < 0.001, "{step}");
    }

    #[test]
    fn an_obstructed_path_never_loses_less_than_a_clear_one() {
        for d2d_m in [10.0, 12.0, 50.0, 500.0, 5000.0] {
            assert!(obstructed_db(&at(d2d_m), 7.0) >= line_of_sight_db(&at(d2d_m), 7.0));
        }
    }
}
