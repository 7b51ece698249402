//! A cell that is shared with other users: who gets which part of the band, slot by slot.
//!
//! The others are not simulated like the user of interest: each has a mean SINR, Rayleigh fading
//! that two antennas receive and a rate by Shannon's formula, enough for the scheduler to find
//! moments and frequencies at which they are better served (multi-user diversity), and traffic that
//! comes and goes. What the scheduler knows of anybody is as old as a channel report.

use super::eesm::linear;
use super::error::PhyError;
use crate::{CounterRng, Direction};

/// Parts of the band that are given away one by one in every slot.
pub const GROUPS: usize = 9;

/// Who gets what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scheduler {
    /// Each part of the band goes to the largest ratio of the rate there to the average of what was
    /// given (A. Jalali, R. Padovani and R. Pankaj, VTC 2000), times a factor that grows with the
    /// time for which somebody has got nothing (as in M. Andrews et al., IEEE Commun. Mag. 39(2), 2001,
    /// but with its square), so that nobody starves.
    #[default]
    ProportionalFair,
    /// The parts go to all who have something to send by turns.
    RoundRobin,
}

/// The other users of a cell, and its scheduler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SharingSettings {
    /// How many others, up to 1000.
    pub background_users: u32,
    /// Who gets what.
    pub scheduler: Scheduler,
    /// The share of its time for which each has something to send.
    pub activity: f64,
    /// Mean length of a span for which it does, in slots; exponentially distributed.
    pub mean_burst_slots: f64,
    /// Mean of their mean SINRs in dB.
    pub mean_sinr_db: f64,
    /// Standard deviation of their mean SINRs in dB.
    pub deviation_db: f64,
    /// Slots from one channel report to the next, which is also how old one is when used.
    pub report_slots: u32,
    /// Slots after which a user's fading has lost all but 1/e of its correlation.
    pub coherence_slots: f64,
    /// Time constant of the average rate, in slots.
    pub averaging_slots: f64,
    /// Slots without anything that double the weight of a user.
    pub patience_slots: f64,
}

impl SharingSettings {
    /// Proportional fairness among users that always have something to send, 12 dB on average with
    /// 8 dB of spread, reports every 20 slots, fading over 80 and averages over 1000.
    #[must_use]
    pub const fn full_buffer(background_users: u32) -> SharingSettings {
        SharingSettings {
            background_users,
            scheduler: Scheduler::ProportionalFair,
            activity: 1.0,
            mean_burst_slots: 2000.0,
            mean_sinr_db: 12.0,
            deviation_db: 8.0,
            report_slots: 20,
            coherence_slots: 80.0,
            averaging_slots: 1000.0,
            patience_slots: 10.0,
        }
    }

    fn check(&self) -> Result<(), PhyError> {
        PhyError::check("background users", self.background_users, 0, 1000)?;
        PhyError::check("activity of background users", self.activity, 0.0, 1.0)?;
        let spread = self.deviation_db;
        PhyError::check("burst in slots", self.mean_burst_slots, 1.0, 1e12)?;
        PhyError::check("mean SINR of others in dB", self.mean_sinr_db, -30.0, 60.0)?;
        PhyError::check("spread of background users in dB", spread, 0.0, 30.0)?;
        PhyError::check("report period in slots", self.report_slots, 1, 100_000)?;
        PhyError::check("coherence in slots", self.coherence_slots, 0.1, 1e9)?;
        PhyError::check("averaging in slots", self.averaging_slots, 1.0, 1e9)?;
        PhyError::check("patience in slots", self.patience_slots, 0.1, 1e12)?;
        Ok(())
    }
}

/// A rate by Shannon's formula is cut here, in bit/s/Hz: 256QAM with one layer.
const HIGHEST_RATE: f64 = 7.4;
/// The lowest average rate, so that who never got anything has a finite merit.
const LEAST_AVERAGE: f64 = 1e-6;

/// What the scheduler takes for the rate at a linear SINR, in bit/s/Hz.
#[must_use]
pub fn scheduling_rate(sinr: f64) -> f64 {
    libm::log2(1.0 + sinr).min(HIGHEST_RATE)
}

/// Which parts of the band somebody got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Groups(u16);

impl Groups {
    /// The whole band.
    pub const ALL: Groups = Groups((1 << GROUPS) - 1);

    /// Whether part number `group` is among them.
    #[must_use]
    pub const fn contains(self, group: usize) -> bool {
        self.0 >> group & 1 == 1
    }

    /// How many parts they are.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// What share of the band they are.
    #[must_use]
    pub fn share(self) -> f64 {
        f64::from(self.count()) / GROUPS as f64
    }
}

#[derive(Debug, Clone)]
struct User {
    fading_rng: CounterRng,
    traffic_rng: CounterRng,
    /// Mean linear SINR.
    mean_sinr: f64,
    fading: [[f64; 2]; GROUPS],
    /// What was reported last.
    rates: [f64; GROUPS],
    /// Traffic lasts or is absent until this slot.
    until: u64,
    on: bool,
    spans: u64,
}

/// The books of one direction.
#[derive(Debug, Clone)]
struct Side {
    /// The rates of the user of interest that the scheduler knows, and those on their way.
    known: [f64; GROUPS],
    pending: Option<[f64; GROUPS]>,
    /// The user of interest, then the others.
    accounts: Vec<Account>,
    /// Whose turn it is.
    turn: usize,
}

/// What somebody got in a direction.
#[derive(Debug, Clone, Copy)]
struct Account {
    /// Average rate.
    average: f64,
    /// The last slot in which it got something.
    last_slot: u64,
    /// Parts given so far.
    parts: u64,
}

impl Account {
    fn new(average: f64) -> Account {
        Account {
            average: average.max(LEAST_AVERAGE),
            last_slot: 0,
            parts: 0,
        }
    }

    fn go_on(&mut self, weight: f64) {
        self.average = (self.average * (1.0 - weight)).max(LEAST_AVERAGE);
    }

    /// What a rate is multiplied by.
    #[inline]
    fn weight(&self, slot: u64, patience_slots: f64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "slots lie far below 2^53")]
        let waited = slot.saturating_sub(self.last_slot) as f64 / patience_slots;
        (1.0 + waited * waited) / self.average
    }
}

/// The scheduler of a shared cell, as one user sees it, who always has something to send. It
/// allocates nothing after construction.
///
/// ```
/// use hexloop_traces::Direction;
/// use hexloop_traces::phy::{GROUPS, SharedCell, SharingSettings};
///
/// let mut cell = SharedCell::new(SharingSettings::full_buffer(4), 1, "cell 0")?;
/// cell.report(Direction::Down, [5.0; GROUPS]);
/// let mut mine = 0.0;
/// for slot in 0..10_000 {
///     cell.advance(slot);
///     mine += cell.grant(Direction::Down).share();
/// }
/// // Five users: about a fifth of the band.
/// assert!((1_500.0..2_500.0).contains(&mine));
/// # Ok::<(), hexloop_traces::phy::PhyError>(())
/// ```
#[derive(Debug, Clone)]
pub struct SharedCell {
    settings: SharingSettings,
    users: Vec<User>,
    slot: u64,
    active: u32,
    sides: [Side; 2],
    keep: f64,
}

impl SharedCell {
    /// A cell whose other users are drawn from `seed` for `cell`.
    ///
    /// # Errors
    /// A setting is out of its range.
    pub fn new(settings: SharingSettings, seed: u64, cell: &str) -> Result<SharedCell, PhyError> {
        settings.check()?;
        let user = |number| User::new(&settings, seed, &format!("{cell} background {number}"));
        let users: Vec<User> = (0..settings.background_users).map(user).collect();
        // As if everybody had had an equal share so far.
        let equal = 1.0 / (users.len() as f64 + 1.0);
        let of_user = |user: &User| Account::new(equal * mean(&user.rates));
        let accounts = core::iter::once(Account::new(0.0)).chain(users.iter().map(of_user));
        let side = Side {
            known: [0.0; GROUPS],
            pending: None,
            accounts: accounts.collect(),
            turn: 0,
        };
        let keep = libm::exp(-f64::from(settings.report_slots) / settings.coherence_slots);
        let mut cell = SharedCell {
            slot: 0,
            active: 0,
            users,
            sides: [side.clone(), side],
            keep,
            settings,
        };
        cell.advance(0);
        Ok(cell)
    }

    /// Goes on to slot number `slot`: the others' traffic and reports. Slots must not go back.
    pub fn advance(&mut self, slot: u64) {
        let (settings, keep) = (self.settings, self.keep);
        let mut active = 0;
        for (number, user) in (0..).zip(&mut self.users) {
            if slot >= user.until {
                user.come_or_go(slot, &settings);
            }
            if (slot + number).is_multiple_of(u64::from(settings.report_slots)) {
                user.fade(slot, keep);
            }
            active += u32::from(user.on);
        }
        self.active = active;
        self.slot = slot;
    }

    /// How many others have something to send now.
    #[must_use]
    pub const fn active(&self) -> u32 {
        self.active
    }

    /// The user of interest reports its rates in the parts of the band
    /// ([`scheduling_rate`]); they are known when the next report is made.
    pub fn report(&mut self, direction: Direction, rates: [f64; GROUPS]) {
        let equal = 1.0 / (f64::from(self.active) + 1.0);
        let side = &mut self.sides[index(direction)];
        if side.pending.is_none() {
            side.accounts[0] = Account {
                last_slot: self.slot,
                ..Account::new(equal * mean(&rates))
            };
        }
        side.known = side.pending.unwrap_or(rates);
        side.pending = Some(rates);
    }

    /// What the user of interest gets of this slot in a direction; at most once per slot.
    pub fn grant(&mut self, direction: Direction) -> Groups {
        let side = &mut self.sides[index(direction)];
        let holders = match self.settings.scheduler {
            Scheduler::ProportionalFair => {
                side.fairest(&self.users, self.slot, self.settings.patience_slots)
            }
            Scheduler::RoundRobin => side.by_turns(&self.users),
        };
        let weight = 1.0 / self.settings.averaging_slots;
        side.accounts[0].go_on(weight);
        for (user, account) in self.users.iter().zip(&mut side.accounts[1..]) {
            if user.on {
                account.go_on(weight);
            } else {
                // Who has nothing to send does not wait.
                account.last_slot = self.slot;
            }
        }
        let mut mine = 0;
        for (group, &holder) in holders.iter().enumerate() {
            let rate = match holder.checked_sub(1) {
                Some(other) => self.users[other].rates[group],
                None => side.known[group],
            };
            mine |= u16::from(holder == 0) << group;
            let account = &mut side.accounts[holder];
            account.parts += 1;
            account.last_slot = self.slot;
            account.average += weight * rate / GROUPS as f64;
        }
        Groups(mine)
    }

    /// Parts given so far in a direction: to the user of interest, then to each of the others.
    pub fn given(&self, direction: Direction) -> impl Iterator<Item = u64> {
        let accounts = self.sides[index(direction)].accounts.iter();
        accounts.map(|account| account.parts)
    }
}

impl Side {
    /// For each part, who has the largest merit: 0 is the user of interest.
    fn fairest(&self, users: &[User], slot: u64, patience_slots: f64) -> [usize; GROUPS] {
        let own = self.accounts[0].weight(slot, patience_slots);
        let mut best = self.known.map(|rate| rate * own);
        let mut holders = [0; GROUPS];
        for (at, (user, account)) in users.iter().zip(&self.accounts[1..]).enumerate() {
            if !user.on {
                continue;
            }
            let weight = account.weight(slot, patience_slots);
            for group in 0..GROUPS {
                let merit = user.rates[group] * weight;
                if merit > best[group] {
                    (best[group], holders[group]) = (merit, at + 1);
                }
            }
        }
        holders
    }

    /// For each part, who is next.
    fn by_turns(&mut self, users: &[User]) -> [usize; GROUPS] {
        let mut holders = [0; GROUPS];
        for holder in &mut holders {
            // The user of interest has something to send, so that this ends.
            while self.turn > 0 && !users[self.turn - 1].on {
                self.turn = (self.turn + 1) % (users.len() + 1);
            }
            *holder = self.turn;
            self.turn = (self.turn + 1) % (users.len() + 1);
        }
        holders
    }
}

impl User {
    fn new(settings: &SharingSettings, seed: u64, entity: &str) -> User {
        let once = CounterRng::new(seed, entity, "sharing");
        let fading_rng = CounterRng::new(seed, entity, "fading");
        let traffic_rng = CounterRng::new(seed, entity, "traffic");
        let level = once.normal(0);
        let half = core::f64::consts::FRAC_1_SQRT_2;
        let draw = |group: usize| fading_rng.normal_pair(group as u64).map(|x| half * x);
        let mut user = User {
            fading_rng,
            traffic_rng,
            mean_sinr: linear(settings.mean_sinr_db + settings.deviation_db * level),
            fading: core::array::from_fn(draw),
            rates: [0.0; GROUPS],
            until: 0,
            // It changes at once.
            on: once.uniform(1) >= settings.activity,
            spans: 0,
        };
        user.measure();
        user
    }

    /// The rates of now: two antennas, and fading that neighbouring parts of the band have half in
    /// common.
    fn measure(&mut self) {
        let power = self.fading.map(|[re, im]| re * re + im * im);
        for (group, rate) in self.rates.iter_mut().enumerate() {
            let gain = 0.5 * (power[group] + power[(group + 1) % GROUPS]);
            *rate = scheduling_rate(self.mean_sinr * gain);
        }
    }

    fn fade(&mut self, slot: u64, keep: f64) {
        let change = libm::sqrt((1.0 - keep * keep) / 2.0);
        for (group, fading) in (0_u64..).zip(&mut self.fading) {
            let [a, b] = self.fading_rng.normal_pair((slot + 1) << 4 | group);
            let [re, im] = *fading;
            *fading = [keep * re + change * a, keep * im + change * b];
        }
        self.measure();
    }

    fn come_or_go(&mut self, slot: u64, settings: &SharingSettings) {
        let activity = settings.activity;
        if activity <= 0.0 || activity >= 1.0 {
            (self.on, self.until) = (activity > 0.0, u64::MAX);
            return;
        }
        while slot >= self.until {
            self.on = !self.on;
            let mean = match self.on {
                true => settings.mean_burst_slots,
                false => settings.mean_burst_slots * (1.0 - activity) / activity,
            };
            let length = -mean * libm::log(1.0 - self.traffic_rng.uniform(self.spans));
            self.until += super::adapter::whole(length).max(1);
            self.spans += 1;
        }
    }
}

fn mean(rates: &[f64; GROUPS]) -> f64 {
    rates.iter().sum::<f64>() / GROUPS as f64
}

const fn index(direction: Direction) -> usize {
    match direction {
        Direction::Down => 0,
        Direction::Up => 1,
    }
}

#[cfg(test)]
#[path = "sharing_tests.rs"]
mod tests;
