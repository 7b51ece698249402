//! The antenna of a sector: the element pattern of TR 38.901 table 7.3-1 (the same as that of
//! TR 36.873 table 7.1-1), with the gain of an array and its beams on top.

/// A directional antenna, or an omnidirectional one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SectorAntenna {
    /// Half-power beam width in both planes, in degrees; `None` radiates alike everywhere.
    pub beam_width_deg: Option<f64>,
    /// Gain in the direction of the main lobe, in dBi.
    pub gain_dbi: f64,
    /// Largest attenuation behind and beside the main lobe, in dB.
    pub front_to_back_db: f64,
    /// How far the main lobe points below the horizon, in degrees.
    pub downtilt_deg: f64,
}

impl SectorAntenna {
    /// One element of table 7.3-1: 65 degrees, 30 dB, 8 dBi.
    #[must_use]
    pub const fn sector(downtilt_deg: f64) -> SectorAntenna {
        SectorAntenna {
            beam_width_deg: Some(65.0),
            gain_dbi: 8.0,
            front_to_back_db: 30.0,
            downtilt_deg,
        }
    }

    /// An antenna that radiates alike in all directions.
    #[must_use]
    pub const fn omnidirectional(gain_dbi: f64) -> SectorAntenna {
        SectorAntenna {
            beam_width_deg: None,
            gain_dbi,
            front_to_back_db: 0.0,
            downtilt_deg: 0.0,
        }
    }

    /// Gain in dBi towards `azimuth_deg` off the boresight and `elevation_deg` above the horizon.
    ///
    /// TR 38.901 table 7.3-1: vertical and horizontal cuts of -min(12 (angle / width)^2, SLA),
    /// their sum bounded by A_max.
    #[must_use]
    pub fn gain_dbi(&self, azimuth_deg: f64, elevation_deg: f64) -> f64 {
        let Some(width_deg) = self.beam_width_deg else {
            return self.gain_dbi;
        };
        let cut_db = |angle_deg: f64| {
            let share = angle_deg / width_deg;
            (12.0 * share * share).min(self.front_to_back_db)
        };
        let horizontal_db = cut_db(wrapped(azimuth_deg));
        let vertical_db = cut_db(elevation_deg + self.downtilt_deg);
        self.gain_dbi - (horizontal_db + vertical_db).min(self.front_to_back_db)
    }
}

/// An angle in degrees as one of (-180, 180].
#[must_use]
pub(super) fn wrapped(degrees: f64) -> f64 {
    degrees - 360.0 * libm::ceil((degrees - 180.0) / 360.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn half_the_power_is_lost_at_half_the_beam_width_and_no_more_than_30_db_behind() {
        let antenna = SectorAntenna::sector(0.0);
        assert!(close(antenna.gain_dbi(0.0, 0.0), 8.0));
        assert!(close(antenna.gain_dbi(32.5, 0.0), 5.0));
        assert!(close(antenna.gain_dbi(-32.5, 0.0), 5.0));
        assert!(close(antenna.gain_dbi(0.0, 32.5), 5.0));
        assert!(close(antenna.gain_dbi(180.0, -90.0), -22.0));
        assert!(close(antenna.gain_dbi(360.0 + 32.5, 0.0), 5.0));
        let tilted = SectorAntenna::sector(12.0);
        assert!(close(tilted.gain_dbi(0.0, -12.0), 8.0));
        assert!(close(
            SectorAntenna::omnidirectional(5.0).gain_dbi(123.0, 45.0),
            5.0
        ));
    }

    #[test]
    fn angles_are_brought_into_one_turn() {
        for (angle, expected) in [(0.0, 0.0), (180.0, 180.0), (-180.0, 180.0), (190.0, -170.0)] {
            assert!(close(wrapped(angle), expected), "{angle}");
            assert!(close(wrapped(angle + 720.0), expected), "{angle}");
        }
    }
}
