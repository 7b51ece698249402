//! What stands in the direct path: the user's body, and people and vehicles that move about.

use crate::CounterRng;
use crate::mobility::{Motion, Point};
use crate::scenario::settings::{BlockageSettings, Holding};
use crate::tr38901::blockage::angular::{Hold, USUAL_BLOCKERS};
use crate::tr38901::blockage::screen::{Blocker, MovingScreen, direct_loss_db};
use crate::tr38901::track::Blockers as Regions;
use crate::tr38901::{Condition, Scenario};

/// Everything that may stand in the direct path.
#[derive(Debug, Clone)]
pub(super) struct InTheWay {
    body: Option<Regions>,
    screens: Vec<MovingScreen>,
    wavelength_m: f64,
    moved_m: f64,
    last_ns: u64,
}

impl InTheWay {
    pub(super) fn new(
        settings: &BlockageSettings,
        scenario: Scenario,
        wavelength_m: f64,
        (seed, user): (u64, &str),
    ) -> InTheWay {
        let body = settings.holding.map(|holding| {
            let hold = match holding {
                Holding::Portrait => Hold::Portrait,
                Holding::Landscape => Hold::Landscape,
            };
            let condition = (scenario, Condition::Los);
            Regions::new(condition, USUAL_BLOCKERS, 0.0, Some(hold), (seed, user))
        });
        let kinds = [
            (Blocker::Human, settings.people, "people"),
            (Blocker::Vehicle, settings.vehicles, "vehicles"),
            (Blocker::Agv, settings.agvs, "agvs"),
        ];
        let screens = kinds
            .into_iter()
            .flat_map(|kind| screens(settings, kind, (seed, user)))
            .collect();
        InTheWay {
            body,
            screens,
            wavelength_m,
            moved_m: 0.0,
            last_ns: 0,
        }
    }

    /// What is lost on the direct path from a base station that `to_user` leads from, in dB.
    #[expect(clippy::cast_precision_loss, reason = "moments lie far below 2^53 ns")]
    pub(super) fn loss_db(&mut self, now_ns: u64, motion: &Motion, to_user: Point) -> f64 {
        let mut loss_db = 0.0;
        if let Some(body) = &mut self.body {
            let passed_s = (now_ns - self.last_ns) as f64 / 1e9;
            body.advance(motion.travelled_m - self.moved_m, passed_s);
            let [azimuth_deg, zenith_deg] = arrival(motion, to_user);
            loss_db += body.loss_db(self.wavelength_m, azimuth_deg, zenith_deg);
        }
        self.moved_m = motion.travelled_m;
        self.last_ns = now_ns;
        if !self.screens.is_empty() {
            let now_s = now_ns as f64 / 1e9;
            let standing = self.screens.iter().map(|screen| screen.at(now_s));
            // In the user's own coordinates: what blocks is close to it.
            let user = [0.0, 0.0, motion.position.z];
            let base = [-to_user.x, -to_user.y, motion.position.z - to_user.z];
            loss_db += direct_loss_db(standing, self.wavelength_m, user, base);
        }
        loss_db
    }
}

/// Where the direct path arrives from, seen by someone who looks ahead: azimuth and zenith angle.
fn arrival(motion: &Motion, to_user: Point) -> [f64; 2] {
    let ahead_deg = if motion.velocity.length_2d() > 0.0 {
        libm::atan2(motion.velocity.y, motion.velocity.x).to_degrees()
    } else {
        0.0
    };
    let azimuth_deg = libm::atan2(-to_user.y, -to_user.x).to_degrees() - ahead_deg;
    let zenith_deg = libm::atan2(to_user.length_2d(), -to_user.z).to_degrees();
    [
        azimuth_deg - 360.0 * libm::floor(azimuth_deg / 360.0),
        zenith_deg,
    ]
}

/// Screens on random lines around the user, who takes them along: a crowd, or the traffic of a
/// road.
fn screens(
    settings: &BlockageSettings,
    (blocker, count, name): (Blocker, u32, &str),
    (seed, user): (u64, &str),
) -> Vec<MovingScreen> {
    let random = CounterRng::new(seed, user, name);
    let reach_m = settings.reach_m;
    let place = |index: u64| {
        let [east, north] = random.uniform_pair(index);
        [(2.0 * east - 1.0) * reach_m, (2.0 * north - 1.0) * reach_m]
    };
    let fastest = settings.speed_m_s.unwrap_or(blocker.fastest_m_per_s());
    (0..u64::from(count))
        .map(|number| {
            let [start, speed] = random.uniform_pair(3 * number + 2);
            let [east_m, north_m] = place(3 * number);
            MovingScreen {
                screen: blocker.standing_at(east_m, north_m),
                end_m: place(3 * number + 1),
                speed_m_per_s: fastest * (0.5 + 0.5 * speed),
                start_m: 4.0 * reach_m * start,
            }
        })
        .collect()
}
