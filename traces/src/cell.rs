//! Several users on one radio cell: who gets how much of each slot.
//!
//! Each user has a channel of its own, the rate of its trace: what it could carry if it had the
//! whole slot. A slot is time, and time is what the policy divides among the users that have
//! something to send and a channel to send it on. What a user does not need goes to the others
//! within the same slot, so that no time is lost while anybody waits.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

use crate::schedule::Carried;
use crate::units::TimeSpan;

/// How a cell divides its slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CellPolicy {
    /// A slot goes to the user whose channel is best compared with what it got of late: the
    /// largest r / R, with R the exponential average of what it was given (Jalali, Padovani and
    /// Pankaj, VTC 2000).
    ProportionalFair {
        /// Time constant of the average, in nanoseconds.
        averaging_ns: u64,
    },
    /// Slots go to one user after the other.
    RoundRobin,
    /// Every slot is divided in the proportion of the users' weights.
    FixedShare,
}

impl CellPolicy {
    /// Proportional fair with the usual time constant of 1000 slots of 1 ms.
    pub const PROPORTIONAL_FAIR: CellPolicy = CellPolicy::ProportionalFair {
        averaging_ns: 1_000_000_000,
    };

    /// Its name in experiment files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            CellPolicy::ProportionalFair { .. } => "proportional-fair",
            CellPolicy::RoundRobin => "round-robin",
            CellPolicy::FixedShare => "fixed-share",
        }
    }
}

/// What a cell is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellSettings {
    /// Who gets what.
    pub policy: CellPolicy,
    /// Length of a slot in nanoseconds; 62 500 at least.
    pub slot_ns: u64,
}

impl Display for CellPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            CellPolicy::ProportionalFair { averaging_ns } => {
                write!(
                    f,
                    "proportional-fair over {}",
                    TimeSpan { ns: averaging_ns }
                )
            }
            CellPolicy::RoundRobin => f.write_str("round-robin"),
            CellPolicy::FixedShare => f.write_str("fixed-share"),
        }
    }
}

impl Display for CellSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slot = TimeSpan { ns: self.slot_ns };
        write!(f, "{} in slots of {slot}", self.policy)
    }
}

impl CellSettings {
    /// Slots of 1 ms.
    #[must_use]
    pub const fn new(policy: CellPolicy) -> CellSettings {
        CellSettings {
            policy,
            slot_ns: 1_000_000,
        }
    }
}

/// What one user brings to a slot, and what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SlotShare {
    /// What its channel could carry in the whole slot.
    pub channel: Carried,
    /// What it has to send.
    pub backlog: Carried,
    /// What it may send: never more than its backlog, nor than its channel carries.
    pub granted: Carried,
}

#[derive(Debug, Clone, Copy)]
struct User {
    weight: u32,
    /// Exponential average of what it was given per slot, in bits x 10^9.
    average: f64,
    /// It wants more in this slot.
    wants: bool,
    /// The slot in which it was served last, plus one.
    served: u64,
}

/// One direction of a cell. It allocates nothing after construction.
#[derive(Debug, Clone)]
pub struct CellScheduler {
    settings: CellSettings,
    users: Vec<User>,
    slot: u64,
}

impl CellScheduler {
    /// A cell with one user for each weight. The weights count for [`CellPolicy::FixedShare`]
    /// alone; a weight of 0 counts as 1.
    #[must_use]
    pub fn new(settings: CellSettings, weights: &[u32]) -> CellScheduler {
        let user = |&weight: &u32| User {
            weight: weight.max(1),
            average: 0.0,
            wants: false,
            served: 0,
        };
        CellScheduler {
            settings,
            users: weights.iter().map(user).collect(),
            slot: 0,
        }
    }

    /// What the cell is set to.
    #[must_use]
    pub const fn settings(&self) -> CellSettings {
        self.settings
    }

    /// Divides the next slot among the users, in the order of their weights. `shares` has one
    /// entry per user; what it says of further ones is not looked at.
    pub fn divide(&mut self, shares: &mut [SlotShare]) {
        for (user, share) in self.users.iter_mut().zip(shares.iter_mut()) {
            share.granted = Carried::default();
            user.wants = share.backlog > share.granted && share.channel > share.granted;
        }
        self.slot += 1;
        let mut left_ns = self.settings.slot_ns;
        match self.settings.policy {
            CellPolicy::FixedShare => self.divide_by_weight(shares, left_ns),
            CellPolicy::RoundRobin | CellPolicy::ProportionalFair { .. } => {
                while left_ns > 0
                    && let Some(index) = self.next_user(shares)
                {
                    let used_ns = self.serve(index, &mut shares[index], left_ns);
                    left_ns -= used_ns;
                }
            }
        }
        self.average(shares);
    }

    /// Passes over slots in which nobody has anything to send.
    pub fn skip(&mut self, slots: u64) {
        if let Some(weight) = self.averaging_weight() {
            // So many slots are far below 2^53.
            #[expect(clippy::cast_precision_loss, reason = "see above")]
            let decay = libm::pow(1.0 - weight, slots as f64);
            for user in &mut self.users {
                user.average *= decay;
            }
        }
        self.slot = self.slot.saturating_add(slots);
    }

    /// Who is served next in this slot.
    fn next_user(&self, shares: &[SlotShare]) -> Option<usize> {
        let users = self.users.iter().zip(shares).enumerate();
        let wanting = users.filter(|(_, (user, _))| user.wants);
        if let CellPolicy::ProportionalFair { .. } = self.settings.policy {
            // The longest unserved goes first among equals, such as those that never got anything.
            let merit = |user: &User, share: &SlotShare| share.channel.as_f64() / user.average;
            wanting.max_by(|(_, (a, a_share)), (_, (b, b_share))| {
                merit(a, a_share)
                    .total_cmp(&merit(b, b_share))
                    .then(b.served.cmp(&a.served))
            })
        } else {
            wanting.min_by_key(|(index, (user, _))| (user.served, *index))
        }
        .map(|(index, _)| index)
    }

    /// Gives a user up to `most_ns` of the slot; returns how much it uses.
    fn serve(&mut self, index: usize, share: &mut SlotShare, most_ns: u64) -> u64 {
        let user = &mut self.users[index];
        user.wants = false;
        user.served = self.slot;
        let slot_ns = self.settings.slot_ns;
        let needed_ns = share.backlog.time_on(share.channel, slot_ns);
        if needed_ns <= most_ns {
            share.granted = share.backlog;
            needed_ns
        } else {
            share.granted = share.channel.part(most_ns, slot_ns);
            most_ns
        }
    }

    /// Divides time by weight; what some do not need goes to the rest in the same proportion.
    fn divide_by_weight(&mut self, shares: &mut [SlotShare], mut left_ns: u64) {
        let slot_ns = self.settings.slot_ns;
        loop {
            let wanting = self.users.iter().filter(|user| user.wants);
            let weights: u64 = wanting.map(|user| u64::from(user.weight)).sum();
            if weights == 0 || left_ns == 0 {
                return;
            }
            let (round_ns, mut satisfied) = (left_ns, false);
            for (index, share) in shares.iter_mut().enumerate().take(self.users.len()) {
                let user = self.users[index];
                let due_ns = part_ns(round_ns, u64::from(user.weight), weights);
                if user.wants && share.backlog.time_on(share.channel, slot_ns) <= due_ns {
                    left_ns -= self.serve(index, share, due_ns);
                    satisfied = true;
                }
            }
            if satisfied {
                continue;
            }
            // Everybody wants more than its part. Parts are cut so that they add up.
            let (mut before, mut given_ns) = (0, 0);
            for (index, share) in shares.iter_mut().enumerate().take(self.users.len()) {
                let user = self.users[index];
                if user.wants {
                    before += u64::from(user.weight);
                    let until_ns = part_ns(left_ns, before, weights);
                    self.serve(index, share, until_ns - given_ns);
                    given_ns = until_ns;
                }
            }
            return;
        }
    }

    /// Brings the averages up to date: of users that got nothing too.
    fn average(&mut self, shares: &[SlotShare]) {
        let Some(weight) = self.averaging_weight() else {
            return;
        };
        for (user, share) in self.users.iter_mut().zip(shares) {
            user.average += weight * (share.granted.as_f64() - user.average);
        }
    }

    /// What one slot counts in the averages, if there are any.
    fn averaging_weight(&self) -> Option<f64> {
        let CellPolicy::ProportionalFair { averaging_ns } = self.settings.policy else {
            return None;
        };
        // Spans of time are far below 2^53 ns, 104 days.
        #[expect(clippy::cast_precision_loss, reason = "see above")]
        let weight = self.settings.slot_ns as f64 / averaging_ns.max(1) as f64;
        Some(weight.min(1.0))
    }
}

fn part_ns(whole_ns: u64, part: u64, of: u64) -> u64 {
    let ns = u128::from(whole_ns) * u128::from(part) / u128::from(of.max(1));
    u64::try_from(ns).unwrap_or(whole_ns)
}

#[cfg(test)]
mod tests;
