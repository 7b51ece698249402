//! Blockers of model A that move: clause 7.6.4.1 step d.

use super::Wander;
use crate::CounterRng;
use crate::tr38901::blockage::angular::{Hold, Region, Sizes, correlation_distance_m};
use crate::tr38901::normal::cumulative;
use crate::tr38901::{Condition, Scenario};

/// The regions that are blocked around a user, as the user and the blockers move. All base
/// stations see the same (table 7.6.3.4-1): its entity is the user.
#[derive(Debug, Clone)]
pub struct Blockers {
    hold: Option<Hold>,
    regions: Vec<Region>,
    centres: Vec<Wander>,
    speed_m_per_s: f64,
}

impl Blockers {
    /// That many blockers around a user under a seed, which move at that speed in m/s, and the
    /// user's own body if the user holds the device.
    #[must_use]
    pub fn new(
        (scenario, condition): (Scenario, Condition),
        count: usize,
        speed_m_per_s: f64,
        hold: Option<Hold>,
        (seed, user): (u64, &str),
    ) -> Blockers {
        let sizes = Sizes::of(scenario);
        let distance_m = correlation_distance_m(scenario, condition);
        let mut blockers = Blockers {
            hold,
            regions: Vec::with_capacity(count),
            centres: Vec::with_capacity(count),
            speed_m_per_s,
        };
        for number in 1..=count {
            let size = CounterRng::new(seed, user, &format!("size of blocker {number}"));
            let [x, y] = size.uniform_pair(0);
            let between = |[low, high]: [f64; 2], share: f64| low + share * (high - low);
            blockers.regions.push(Region {
                phi_deg: 0.0,
                theta_deg: 90.0,
                x_deg: between(sizes.x_deg, x),
                y_deg: between(sizes.y_deg, y),
                r_m: sizes.r_m,
            });
            let centre = CounterRng::new(seed, user, &format!("blocker {number}"));
            blockers.centres.push(Wander::new(centre, distance_m));
        }
        blockers.place();
        blockers
    }

    fn place(&mut self) {
        for (region, centre) in self.regions.iter_mut().zip(&self.centres) {
            region.phi_deg = 360.0 * cumulative(centre.value());
        }
    }

    /// Moves the user on by a distance in metres, and the blockers by a time in seconds: equation
    /// 7.6-28 with its correlation time, the correlation distance over the blockers' speed.
    pub fn advance(&mut self, moved_m: f64, passed_s: f64) {
        let moved_m = moved_m + self.speed_m_per_s * passed_s;
        for centre in &mut self.centres {
            centre.advance(moved_m);
        }
        self.place();
    }

    /// The regions as they are now.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// Loss in dB of a path that arrives from these angles, in the map's coordinates; the device
    /// lies in them as it is held.
    #[must_use]
    pub fn loss_db(&self, wavelength_m: f64, aoa_deg: f64, zoa_deg: f64) -> f64 {
        let own_db = self.hold.map_or(0.0, |hold| hold.loss_db(aoa_deg, zoa_deg));
        let of_others = self.regions.iter();
        own_db
            + of_others
                .map(|region| region.loss_db(wavelength_m, aoa_deg, zoa_deg))
                .sum::<f64>()
    }
}
