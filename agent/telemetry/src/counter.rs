//! Following a counter of energy.

use crate::Trouble;

/// A moment at which a counter was seen to have moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// When it was read.
    pub at_ns: u64,
    /// When it was read before: it moved at some moment since then.
    pub after_ns: u64,
    /// Energy since the track began, in microjoules.
    pub total_uj: u64,
}

/// What one reading of a counter meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CounterStep {
    /// The first reading: the track begins.
    First,
    /// The same value as before: the counter has not been refreshed.
    Still,
    /// It moved.
    Moved(Tick),
    /// It moved in a way that tells nothing; the track begins again from here.
    Broken(Trouble),
}

/// No CPU package or board of today draws more for long. Only used to tell whether a counter
/// may have turned over between two looks: at this power.
const HIGHEST_POWER_W: u64 = 2_000;

/// Follows one counter of energy: adds up what it counts across wrap-arounds, notices resets.
#[derive(Debug, Clone)]
pub struct CounterTrack {
    device: String,
    wraps_at_uj: Option<u64>,
    last: Option<(u64, u64)>,
    total_uj: u64,
    ticks: Vec<Tick>,
}

impl CounterTrack {
    /// A track of the counter of `device`, which starts again from 0 beyond `wraps_at_uj`.
    #[must_use]
    pub fn new(device: impl Into<String>, wraps_at_uj: Option<u64>) -> CounterTrack {
        CounterTrack {
            device: device.into(),
            wraps_at_uj,
            last: None,
            total_uj: 0,
            ticks: Vec::new(),
        }
    }

    /// Takes the reading `value_uj` of the moment `at_ns`; moments must not go back.
    ///
    /// A value below the one before is a wrap-around where the counter has a range and the time
    /// since the last look is too short for two of them; otherwise it is a reset. After a reset,
    /// or after a gap in which the counter may have turned over unseen, earlier ticks are forgotten.
    pub fn push(&mut self, at_ns: u64, value_uj: u64) -> CounterStep {
        let Some((last_at_ns, last_uj)) = self.last.replace((at_ns, value_uj)) else {
            self.ticks.push(Tick {
                at_ns,
                after_ns: at_ns,
                total_uj: self.total_uj,
            });
            return CounterStep::First;
        };
        let gap_ns = at_ns.saturating_sub(last_at_ns);
        if let Some(range_uj) = self.wraps_at_uj
            && gap_ns / 1_000 > range_uj / HIGHEST_POWER_W
        {
            let device = self.device.clone();
            return self.begin_again(at_ns, Trouble::MissedWrap { device, gap_ns });
        }
        let moved_uj = match (value_uj.checked_sub(last_uj), self.wraps_at_uj) {
            (Some(0), _) => return CounterStep::Still,
            (Some(moved_uj), _) => moved_uj,
            (None, Some(range_uj)) if last_uj <= range_uj => range_uj - last_uj + value_uj,
            (None, _) => {
                let trouble = Trouble::Reset {
                    device: self.device.clone(),
                    before_uj: last_uj,
                    after_uj: value_uj,
                };
                return self.begin_again(at_ns, trouble);
            }
        };
        self.total_uj = self.total_uj.saturating_add(moved_uj);
        let tick = Tick {
            at_ns,
            after_ns: last_at_ns,
            total_uj: self.total_uj,
        };
        self.ticks.push(tick);
        CounterStep::Moved(tick)
    }

    fn begin_again(&mut self, at_ns: u64, trouble: Trouble) -> CounterStep {
        self.ticks.clear();
        self.ticks.push(Tick {
            at_ns,
            after_ns: at_ns,
            total_uj: self.total_uj,
        });
        CounterStep::Broken(trouble)
    }

    /// The moments at which it was seen to have moved, oldest first; the first one is where the
    /// track began.
    #[must_use]
    pub fn ticks(&self) -> &[Tick] {
        &self.ticks
    }

    /// Forgets ticks before `at_ns` but the last of them, so that a long run stays small.
    pub fn forget_before(&mut self, at_ns: u64) {
        let keep_from = self.ticks.partition_point(|tick| tick.at_ns < at_ns);
        self.ticks.drain(..keep_from.saturating_sub(1));
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved_uj(step: &CounterStep) -> u64 {
        match step {
            CounterStep::Moved(tick) => tick.total_uj,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_counter_that_turns_over_goes_on_counting() {
        let mut track = CounterTrack::new("package-0", Some(1_000_000));
        assert_eq!(track.push(0, 999_000), CounterStep::First);
        assert_eq!(track.push(1_000, 999_000), CounterStep::Still);
        assert_eq!(moved_uj(&track.push(2_000, 500)), 1_500);
        assert_eq!(moved_uj(&track.push(3_000, 700)), 1_700);
    }

    #[test]
    fn a_counter_without_a_range_that_goes_back_was_reset() {
        let mut track = CounterTrack::new("GPU-1", None);
        track.push(0, 5_000);
        assert_eq!(moved_uj(&track.push(1, 6_000)), 1_000);
        let step = track.push(2, 10);
        assert!(
            matches!(
                step,
                CounterStep::Broken(Trouble::Reset {
                    before_uj: 6_000,
                    after_uj: 10,
                    ..
                })
            ),
            "{step:?}"
        );
        assert_eq!(track.ticks().len(), 1, "what came before cannot be joined");
        assert_eq!(moved_uj(&track.push(3, 30)), 1_020);
    }

    #[test]
    fn a_late_look_at_a_counter_that_wraps_is_not_trusted() {
        // 1 J of range: at 2 kW it turns over in 500 us.
        let mut track = CounterTrack::new("package-0", Some(1_000_000));
        track.push(0, 100);
        assert!(matches!(
            track.push(600_000, 200),
            CounterStep::Broken(Trouble::MissedWrap {
                gap_ns: 600_000,
                ..
            })
        ));
        assert_eq!(moved_uj(&track.push(700_000, 300)), 100);
    }

    #[test]
    fn old_ticks_are_forgotten_but_the_one_before_the_moment() {
        let mut track = CounterTrack::new("GPU-1", None);
        for at_ns in 0..10 {
            track.push(at_ns, 10 + at_ns);
        }
        track.forget_before(5);
        let kept: Vec<u64> = track.ticks().iter().map(|tick| tick.at_ns).collect();
        assert_eq!(kept, [4, 5, 6, 7, 8, 9]);
    }

    proptest::proptest! {
        /// Wherever a counter without a range is reset, that is told, nothing is joined across it, and
        /// the total never falls.
        #[test]
        fn every_reset_is_told_and_counts_for_nothing(
            start in 1_000_000_u64..1_000_000_000,
            looks in proptest::collection::vec((1_u64..1_000_000, proptest::bool::weighted(0.1)), 1..200),
        ) {
            let mut track = CounterTrack::new("GPU-1", None);
            track.push(0, start);
            let (mut value, mut counted) = (start, 0);
            for (index, (increment, is_reset)) in (1_u64..).zip(&looks) {
                // After a reset it shows less than before, whatever it has counted since.
                let is_reset = *is_reset && value > *increment;
                value = if is_reset { *increment } else { value + increment };
                let step = track.push(index * 1_000, value);
                if is_reset {
                    let is_told = matches!(step, CounterStep::Broken(Trouble::Reset { .. }));
                    proptest::prop_assert!(is_told, "{step:?}");
                    proptest::prop_assert_eq!(track.ticks().len(), 1);
                } else {
                    counted += increment;
                    proptest::prop_assert_eq!(moved_uj(&step), counted);
                }
            }
        }

        /// Whatever the increments, the total is their sum, however often the counter turns over.
        #[test]
        fn the_total_is_the_sum_of_what_was_counted(
            start in 0_u64..1_000_000_000,
            increments in proptest::collection::vec(0_u64..900_000_000, 1..200),
        ) {
            let range = 1_000_000_000;
            let mut track = CounterTrack::new("package-0", Some(range));
            let (mut value, mut sum) = (start, 0);
            track.push(0, value);
            for (index, increment) in (1_u64..).zip(&increments) {
                value += increment;
                sum += increment;
                if value > range {
                    value -= range;
                }
                track.push(index * 1_000, value);
                proptest::prop_assert_eq!(track.ticks().last().unwrap().total_uj, sum);
            }
        }
    }
}
