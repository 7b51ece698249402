//! Blockage model A: clause 7.6.4.1.

use super::{edge, loss_db};
use crate::tr38901::{Condition, Scenario};

/// Loss in dB of what the user's own body hides.
pub const SELF_BLOCKING_DB: f64 = 30.0;

/// The number of blockers beside the user's own body where nobody says otherwise.
pub const USUAL_BLOCKERS: usize = 4;

/// How the user holds the device, table 7.6.4.1-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Upright.
    Portrait,
    /// Lying.
    Landscape,
}

impl Hold {
    /// Centre and span in azimuth, centre and span in zenith, in degrees in the device's own
    /// coordinates.
    const fn region_deg(self) -> [f64; 4] {
        match self {
            Hold::Portrait => [260.0, 120.0, 100.0, 80.0],
            Hold::Landscape => [40.0, 160.0, 110.0, 75.0],
        }
    }

    /// Loss in dB of a path that arrives from these angles in the device's own coordinates.
    #[must_use]
    pub fn loss_db(self, aoa_deg: f64, zoa_deg: f64) -> f64 {
        let [phi, x, theta, y] = self.region_deg();
        let hidden = apart_deg(aoa_deg, phi).abs() < x / 2.0 && (zoa_deg - theta).abs() < y / 2.0;
        if hidden { SELF_BLOCKING_DB } else { 0.0 }
    }
}

/// A blocked region: equation 7.6-21.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    /// Azimuth of its centre, `phi_k`.
    pub phi_deg: f64,
    /// Zenith angle of its centre, `theta_k`: 90 in table 7.6.4.1-2.
    pub theta_deg: f64,
    /// Its width, `x_k`.
    pub x_deg: f64,
    /// Its height, `y_k`.
    pub y_deg: f64,
    /// Distance from the user to the blocker, `r`.
    pub r_m: f64,
}

/// The widest and highest region for which the formula means something: its edges stay within
/// 90 degrees of every path that it blocks.
pub const WIDEST_DEG: f64 = 60.0;

impl Region {
    /// Loss in dB of a path that arrives from these angles: equations 7.6-22 to 7.6-27.
    #[must_use]
    pub fn loss_db(&self, wavelength_m: f64, aoa_deg: f64, zoa_deg: f64) -> f64 {
        let across = apart_deg(aoa_deg, self.phi_deg);
        let along = zoa_deg - self.theta_deg;
        if across.abs() >= self.x_deg || along.abs() >= self.y_deg {
            return 0.0;
        }
        let pair = |off_deg: f64, span_deg: f64| {
            // Table 7.6.4.1-3: minus for the nearer edge of a path that passes beside the region.
            let signs = if off_deg > span_deg / 2.0 {
                [-1.0, 1.0]
            } else if off_deg <= -span_deg / 2.0 {
                [1.0, -1.0]
            } else {
                [1.0, 1.0]
            };
            let angles_deg = [off_deg - span_deg / 2.0, off_deg + span_deg / 2.0];
            let term = |at: usize| {
                let cosine = libm::cos(angles_deg[at].to_radians());
                edge(signs[at], self.r_m * (1.0 / cosine - 1.0), wavelength_m)
            };
            term(0) + term(1)
        };
        loss_db(pair(across, self.x_deg), pair(along, self.y_deg))
    }
}

/// What table 7.6.4.1-2 says of a scenario's blockers; the factories, which it leaves out, are
/// taken for offices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sizes {
    /// Narrowest and widest, uniform between.
    pub x_deg: [f64; 2],
    /// Lowest and highest, uniform between.
    pub y_deg: [f64; 2],
    /// Distance from the user.
    pub r_m: f64,
}

impl Sizes {
    /// Of a scenario.
    #[must_use]
    pub const fn of(scenario: Scenario) -> Sizes {
        if scenario.is_outdoor() {
            Sizes {
                x_deg: [5.0, 15.0],
                y_deg: [5.0, 5.0],
                r_m: 10.0,
            }
        } else {
            Sizes {
                x_deg: [15.0, 45.0],
                y_deg: [5.0, 15.0],
                r_m: 2.0,
            }
        }
    }
}

/// Over what distance in metres a blocker's centre moves on, table 7.6.4.1-4; factories are taken
/// for offices.
#[must_use]
pub const fn correlation_distance_m(scenario: Scenario, condition: Condition) -> f64 {
    match condition {
        Condition::Los | Condition::Nlos if scenario.is_outdoor() => 10.0,
        _ => 5.0,
    }
}

/// The difference of two azimuths, from -180 up to 180 degrees.
fn apart_deg(one: f64, other: f64) -> f64 {
    let turned = one - other + 180.0;
    turned - 360.0 * libm::floor(turned / 360.0) - 180.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGION: Region = Region {
        phi_deg: 30.0,
        theta_deg: 90.0,
        x_deg: 10.0,
        y_deg: 5.0,
        r_m: 10.0,
    };

    #[test]
    fn losses_are_those_of_the_closed_form() {
        // Carrier in GHz, azimuth and zenith of arrival, dB; computed apart from this code.
        for (carrier_ghz, aoa_deg, zoa_deg, expected_db) in [
            (3.5, 30.0, 90.0, 3.436474441251604),
            (3.5, 33.0, 91.0, 2.7576055270293147),
            (3.5, 36.0, 90.0, 1.3927269845132346),
            (3.5, 24.5, 88.0, 1.311407457831718),
            (3.5, 30.0, 93.2, 1.8433550647549977),
            (3.5, 37.0, 86.5, 0.5133096490128943),
            (3.5, 39.9, 94.9, 0.14296258603795645),
            (3.5, 40.0, 90.0, 0.0),
            (3.5, 30.0, 95.0, 0.0),
            (3.5, 20.5, 90.0, 0.48419608331617797),
            (28.0, 30.0, 90.0, 9.801540717100192),
            (28.0, 33.0, 91.0, 8.042383987092238),
            (28.0, 36.0, 90.0, 1.5678758714285266),
            (28.0, 24.5, 88.0, 1.7935930850791961),
            (28.0, 30.0, 93.2, 2.1165031149540736),
            (28.0, 37.0, 86.5, 0.1966277904753898),
            (28.0, 39.9, 94.9, 0.02837998333525385),
            (28.0, 40.0, 90.0, 0.0),
            (28.0, 30.0, 95.0, 0.0),
            (28.0, 20.5, 90.0, 0.3105140388869859),
            (100.0, 30.0, 90.0, 14.782535038141255),
            (100.0, 33.0, 91.0, 12.672320677968475),
            (100.0, 36.0, 90.0, 1.0821171654428385),
            (100.0, 24.5, 88.0, 1.6016942112897594),
            (100.0, 30.0, 93.2, 1.5113163893178336),
            (100.0, 37.0, 86.5, 0.06946079142230005),
            (100.0, 39.9, 94.9, 0.008452058795310843),
            (100.0, 40.0, 90.0, 0.0),
            (100.0, 30.0, 95.0, 0.0),
            (100.0, 20.5, 90.0, 0.18821149682982322),
        ] {
            let wavelength_m = crate::tr38901::SPEED_OF_LIGHT_M_PER_S / (carrier_ghz * 1e9);
            for turn in [-360.0, 0.0, 360.0] {
                let got = REGION.loss_db(wavelength_m, aoa_deg + turn, zoa_deg);
                assert!(
                    (got - expected_db).abs() <= 1e-9,
                    "{aoa_deg} {zoa_deg}: {got}"
                );
            }
        }
    }

    #[test]
    fn the_own_body_hides_its_region_and_nothing_else() {
        for (hold, aoa_deg, zoa_deg, expected_db) in [
            (Hold::Portrait, 260.0, 100.0, 30.0),
            (Hold::Portrait, 319.9, 139.9, 30.0),
            (Hold::Portrait, 320.0, 100.0, 0.0),
            (Hold::Portrait, 260.0, 60.0, 0.0),
            (Hold::Portrait, -100.0, 100.0, 30.0),
            (Hold::Landscape, 330.0, 110.0, 30.0),
            (Hold::Landscape, 121.0, 110.0, 0.0),
            (Hold::Landscape, 40.0, 148.0, 0.0),
        ] {
            let got: f64 = hold.loss_db(aoa_deg, zoa_deg);
            assert!(
                (got - expected_db).abs() <= 0.0,
                "{hold:?} {aoa_deg} {zoa_deg}"
            );
        }
    }
}
