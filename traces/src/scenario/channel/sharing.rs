//! The cell's other users.
//!
//! Each has something to send or not for a second at a time, and all who have share the cell's
//! resources alike: the long-term share of proportional fairness among users with full buffers.

use crate::CounterRng;

/// The other users of the serving cell.
#[derive(Debug, Clone)]
pub(super) struct BackgroundUsers {
    users: Vec<CounterRng>,
    activity: f64,
    second: u64,
    active: u32,
}

const SECOND_NS: u64 = 1_000_000_000;

impl BackgroundUsers {
    pub(super) fn new(count: u32, activity: f64, seed: u64) -> BackgroundUsers {
        let user = |number| CounterRng::new(seed, &format!("background {number}"), "activity");
        let mut users = BackgroundUsers {
            users: (0..count).map(user).collect(),
            activity,
            second: 0,
            active: 0,
        };
        users.active = users.active_in(0);
        users
    }

    fn active_in(&self, second: u64) -> u32 {
        let active = self
            .users
            .iter()
            .filter(|user| user.uniform(second) < self.activity);
        u32::try_from(active.count()).unwrap_or(u32::MAX - 1)
    }

    /// The user's share of the cell at a moment.
    pub(super) fn share(&mut self, now_ns: u64) -> f64 {
        let second = now_ns / SECOND_NS;
        if second != self.second {
            self.second = second;
            self.active = self.active_in(second);
        }
        1.0 / f64::from(self.active + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_nothing_to_send_leaves_its_share_to_the_others() {
        let mut busy = BackgroundUsers::new(4, 1.0, 1);
        assert!((busy.share(0) - 0.2).abs() < 1e-12);
        let mut half = BackgroundUsers::new(10, 0.5, 1);
        let active = |share: f64| 1.0 / share - 1.0;
        let mean = (0..2_000_u64)
            .map(|second| active(half.share(second * SECOND_NS)))
            .sum::<f64>()
            / 2_000.0;
        assert!((mean - 5.0).abs() < 0.15, "{mean}");
        let later = half.share(7 * SECOND_NS);
        assert!((half.share(7 * SECOND_NS + 1) - later).abs() < 1e-12);
    }
}
