//! How often a value rises through a level.

use super::Crossing;

#[derive(Debug, Clone, Copy)]
pub(super) struct Crossings {
    level: i64,
    below: bool,
    count: u64,
}

impl Crossings {
    pub(super) const fn new(level: i64) -> Crossings {
        Crossings {
            level,
            below: false,
            count: 0,
        }
    }

    /// A value that is at the level is not below it.
    pub(super) const fn add(&mut self, value: i64) {
        let below = value < self.level;
        if self.below && !below {
            self.count += 1;
        }
        self.below = below;
    }

    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    pub(super) fn finish(&self, duration_ns: u64) -> Crossing {
        Crossing {
            level: self.level,
            per_second: self.count as f64 / (duration_ns as f64 / 1e9),
        }
    }
}
