//! A cell that is shared with other users: proportional fairness, slot by slot.
//!
//! The others are not simulated like the user of interest: each has a mean SINR, Rayleigh fading
//! and a rate by Shannon's formula, enough for the scheduler to find moments at which they
//! are better served (multi-user diversity), and traffic that fills its buffer always or on and off.

use super::eesm::linear;
use super::error::PhyError;
use crate::CounterRng;

/// When the others have something to send.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BackgroundTraffic {
    /// Always.
    FullBuffer,
    /// In turns: spans of exponentially distributed length, in slots.
    OnOff {
        /// Mean length of a span with traffic.
        mean_on_slots: f64,
        /// Mean length of a span without.
        mean_off_slots: f64,
    },
}

/// The other users of a cell, and its scheduler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SharingSettings {
    /// How many others, up to 1000.
    pub background_users: u32,
    /// When they have something to send.
    pub traffic: BackgroundTraffic,
    /// Mean of their mean SINRs in dB.
    pub mean_sinr_db: f64,
    /// Standard deviation of their mean SINRs in dB.
    pub deviation_db: f64,
    /// Slots after which a user's fading has lost all but 1/e of its correlation.
    pub coherence_slots: f64,
    /// Time constant of the average rate, in slots.
    pub averaging_slots: f64,
}

impl SharingSettings {
    /// Users with full buffers, 12 dB on average with 8 dB of spread, fading over 20 slots, averages
    /// over 1000 slots.
    #[must_use]
    pub const fn full_buffer(background_users: u32) -> SharingSettings {
        SharingSettings {
            background_users,
            traffic: BackgroundTraffic::FullBuffer,
            mean_sinr_db: 12.0,
            deviation_db: 8.0,
            coherence_slots: 20.0,
            averaging_slots: 1000.0,
        }
    }
}

/// Slots from one update of a user's fading to the next; the users take turns.
const UPDATE_SLOTS: u64 = 4;
/// A rate by Shannon's formula is cut here, in bit/s/Hz: 256QAM with one layer.
const HIGHEST_RATE: f64 = 7.4;
/// The lowest average rate, so that who never got anything has a finite merit.
const LEAST_AVERAGE: f64 = 1e-9;

#[derive(Debug, Clone)]
struct User {
    rng: CounterRng,
    /// Mean linear SINR.
    mean_sinr: f64,
    fading: [f64; 2],
    rate: f64,
    average: f64,
    /// Traffic lasts or is absent until this slot.
    until: u64,
    on: bool,
    spans: u64,
    slots: u64,
}

/// The scheduler of a shared cell, as one user sees it. It allocates nothing after construction.
///
/// ```
/// use hexloop_traces::phy::{SharedCell, SharingSettings};
///
/// let mut cell = SharedCell::new(SharingSettings::full_buffer(4), 1, "cell 0")?;
/// let mine = (0..10_000).filter(|&slot| cell.serves(slot, 1000.0)).count();
/// // Five users: about a fifth of the slots.
/// assert!((1500..2500).contains(&mine));
/// # Ok::<(), hexloop_traces::phy::PhyError>(())
/// ```
#[derive(Debug, Clone)]
pub struct SharedCell {
    settings: SharingSettings,
    users: Vec<User>,
    average: f64,
    keep: f64,
    slots: u64,
}

impl SharedCell {
    /// A cell whose other users are drawn from `seed` for `cell`.
    ///
    /// # Errors
    /// A setting is out of its range.
    pub fn new(settings: SharingSettings, seed: u64, cell: &str) -> Result<SharedCell, PhyError> {
        PhyError::check("background users", settings.background_users, 0, 1000)?;
        PhyError::check(
            "mean SINR of background users in dB",
            settings.mean_sinr_db,
            -30.0,
            60.0,
        )?;
        PhyError::check(
            "spread of background users in dB",
            settings.deviation_db,
            0.0,
            30.0,
        )?;
        PhyError::check("coherence in slots", settings.coherence_slots, 0.1, 1e9)?;
        PhyError::check("averaging in slots", settings.averaging_slots, 1.0, 1e9)?;
        if let BackgroundTraffic::OnOff {
            mean_on_slots,
            mean_off_slots,
        } = settings.traffic
        {
            PhyError::check("mean span with traffic in slots", mean_on_slots, 1.0, 1e12)?;
            PhyError::check(
                "mean span without traffic in slots",
                mean_off_slots,
                1.0,
                1e12,
            )?;
        }
        let user = |number: u32| {
            let rng = CounterRng::new(seed, &format!("{cell} background {number}"), "sharing");
            // The last index is for what is drawn once.
            let [level, phase] = rng.normal_pair(u64::MAX);
            let [re, im] = rng.normal_pair(u64::MAX - 1);
            let half = core::f64::consts::FRAC_1_SQRT_2;
            let mut user = User {
                rng,
                mean_sinr: linear(settings.mean_sinr_db + settings.deviation_db * level),
                fading: [half * re, half * im],
                rate: 0.0,
                average: LEAST_AVERAGE,
                until: 0,
                on: phase > 0.0,
                spans: 0,
                slots: 0,
            };
            user.rate = user.rate_now();
            user
        };
        #[expect(clippy::cast_precision_loss, reason = "a few slots")]
        let keep = libm::exp(-(UPDATE_SLOTS as f64) / settings.coherence_slots);
        Ok(SharedCell {
            users: (0..settings.background_users).map(user).collect(),
            average: LEAST_AVERAGE,
            keep,
            slots: 0,
            settings,
        })
    }

    /// Whether slot number `slot` goes to the user of interest, whose whole slot would carry
    /// `own` (in any unit, such as [`super::LinkAdapter::expected_bits`]; 0 if it has nothing to
    /// send). Slots must be given in order.
    ///
    /// The slot goes to the largest ratio of the rate now to the average of what was given
    /// (A. Jalali, R. Padovani and R. Pankaj, VTC 2000).
    pub fn serves(&mut self, slot: u64, own: f64) -> bool {
        let settings = self.settings;
        let mut best = own / self.average;
        let mut served = None;
        for (at, user) in self.users.iter_mut().enumerate() {
            user.advance(slot, at as u64, self.keep, settings.traffic);
            let merit = if user.on {
                user.rate / user.average
            } else {
                0.0
            };
            if merit > best {
                best = merit;
                served = Some(at);
            }
        }
        let weight = 1.0 / settings.averaging_slots;
        let mine = served.is_none() && own > 0.0;
        for (at, user) in self.users.iter_mut().enumerate() {
            let given = if served == Some(at) { user.rate } else { 0.0 };
            user.slots += u64::from(served == Some(at));
            user.average = (user.average + weight * (given - user.average)).max(LEAST_AVERAGE);
        }
        let given = if mine { own } else { 0.0 };
        self.average = (self.average + weight * (given - self.average)).max(LEAST_AVERAGE);
        self.slots += u64::from(mine);
        mine
    }

    /// Slots given so far: to the user of interest, then to each of the others.
    pub fn slots(&self) -> impl Iterator<Item = u64> {
        core::iter::once(self.slots).chain(self.users.iter().map(|user| user.slots))
    }
}

impl User {
    fn rate_now(&self) -> f64 {
        let [re, im] = self.fading;
        libm::log2(1.0 + self.mean_sinr * (re * re + im * im)).min(HIGHEST_RATE)
    }

    fn advance(&mut self, slot: u64, number: u64, keep: f64, traffic: BackgroundTraffic) {
        if (slot + number).is_multiple_of(UPDATE_SLOTS) {
            let [a, b] = self.rng.normal_pair(slot << 1);
            let change = libm::sqrt((1.0 - keep * keep) / 2.0);
            let [re, im] = self.fading;
            self.fading = [keep * re + change * a, keep * im + change * b];
            self.rate = self.rate_now();
        }
        match traffic {
            BackgroundTraffic::FullBuffer => self.on = true,
            BackgroundTraffic::OnOff {
                mean_on_slots,
                mean_off_slots,
            } => {
                while slot >= self.until {
                    self.on = !self.on;
                    let mean = if self.on {
                        mean_on_slots
                    } else {
                        mean_off_slots
                    };
                    let uniform = self.rng.uniform(self.spans << 1 | 1);
                    let length = -mean * libm::log(1.0 - uniform);
                    self.until += super::adapter::whole(length).max(1);
                    self.spans += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(settings: SharingSettings) -> SharedCell {
        SharedCell::new(settings, 1, "cell").unwrap()
    }

    #[test]
    fn shares_add_up_to_the_cell() {
        let mut cell = cell(SharingSettings::full_buffer(9));
        for slot in 0..50_000 {
            cell.serves(slot, 500.0);
        }
        let slots: Vec<u64> = cell.slots().collect();
        assert_eq!(slots.iter().sum::<u64>(), 50_000);
        assert_eq!(slots.len(), 10);
        // Proportional fairness gives every full buffer about the same time.
        for &given in &slots {
            assert!((3_000..8_000).contains(&given), "{slots:?}");
        }
    }

    #[test]
    fn alone_everything_is_ones_own_and_without_traffic_nothing() {
        let mut alone = cell(SharingSettings::full_buffer(0));
        assert!((0..100).all(|slot| alone.serves(slot, 1.0)));
        let mut idle = cell(SharingSettings::full_buffer(3));
        assert!((0..100).all(|slot| !idle.serves(slot, 0.0)));
        assert_eq!(idle.slots().sum::<u64>(), 100);
    }

    #[test]
    fn slots_that_go_to_good_moments_carry_more_than_their_share() {
        let mut cell = cell(SharingSettings::full_buffer(4));
        let rng = CounterRng::new(2, "own", "fading");
        let (mut all, mut given, mut count) = (0.0, 0.0, 0);
        for slot in 0..100_000 {
            // Rayleigh fading that holds for ten slots.
            let power = -libm::log(1.0 - rng.uniform(slot / 10));
            let rate = libm::log2(1.0 + 10.0 * power);
            all += rate;
            if cell.serves(slot, rate) {
                given += rate;
                count += 1;
            }
        }
        let gain = given / f64::from(count) / (all / 100_000.0);
        assert!(gain > 1.2, "{gain}");
    }

    #[test]
    fn users_that_come_and_go_leave_more() {
        let mine = |traffic| {
            let mut cell = cell(SharingSettings {
                traffic,
                ..SharingSettings::full_buffer(5)
            });
            (0..100_000)
                .filter(|&slot| cell.serves(slot, 100.0))
                .count()
        };
        let full = mine(BackgroundTraffic::FullBuffer);
        let half = mine(BackgroundTraffic::OnOff {
            mean_on_slots: 300.0,
            mean_off_slots: 300.0,
        });
        let rare = mine(BackgroundTraffic::OnOff {
            mean_on_slots: 100.0,
            mean_off_slots: 2_000.0,
        });
        assert!(
            full < 25_000 && half > full + 3_000 && rare > 70_000,
            "{full} {half} {rare}"
        );
    }

    #[test]
    fn the_same_seed_gives_the_same_slots() {
        let run = |seed| {
            let mut cell = SharedCell::new(SharingSettings::full_buffer(5), seed, "c").unwrap();
            (0..1000)
                .map(|slot| cell.serves(slot, 10.0))
                .collect::<Vec<bool>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }
}
