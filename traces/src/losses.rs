//! Which mean lengths bursts of losses can have.
//!
//! The model of Gilbert (Bell System Technical Journal 39, 1960) loses a share p of all packets in
//! bursts of b packets on average by leaving its bad state with probability 1/b and entering it with
//! p / (b (1 - p)). That is at most 1 from b = p / (1 - p) on: at least one packet passes between two
//! bursts. Shorter bursts would lose less than p.

use crate::state::{LARGEST_PPB, SMALLEST_BURST_MILLI};
use crate::units::Share;
use crate::{LinkState, StateOverride};

/// The shortest mean burst with which this share (parts per 10^9) can be lost, in thousandths of a
/// packet. Losses that do not depend on each other have any share.
fn shortest_burst_milli(loss_ppb: u32) -> u64 {
    let least = u64::from(SMALLEST_BURST_MILLI);
    match LARGEST_PPB.checked_sub(loss_ppb) {
        // Where everything is lost there are no bursts.
        None | Some(0) => least,
        Some(kept) => (u64::from(loss_ppb) * 1000)
            .div_ceil(u64::from(kept))
            .max(least),
    }
}

/// The shortest mean burst, in thousandths of a packet, if this one is too short for the share that is
/// lost (parts per 10^9).
pub(crate) fn longer_burst_milli(loss_ppb: u32, burst_milli: u32) -> Option<u64> {
    let shortest = shortest_burst_milli(loss_ppb);
    let is_burst = burst_milli > SMALLEST_BURST_MILLI;
    (is_burst && u64::from(burst_milli) < shortest).then_some(shortest)
}

/// Thousandths of a packet in packets.
fn packets(milli: u64) -> String {
    match milli % 1000 {
        0 => format!("{}", milli / 1000),
        rest => format!("{}.{rest:03}", milli / 1000)
            .trim_end_matches('0')
            .to_owned(),
    }
}

/// What of the losses in one direction of a trace decides whether some of their values can be overridden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LossBounds {
    /// The largest share that is lost where not everything is, in parts per 10^9.
    most_ppb: u32,
    /// The shortest mean burst of losses that depend on each other, in thousandths of a packet.
    shortest_milli: Option<u32>,
}

impl LossBounds {
    /// Those of all of these states.
    #[must_use]
    pub fn of(states: impl IntoIterator<Item = LinkState>) -> LossBounds {
        let mut bounds = LossBounds::default();
        for state in states {
            bounds.add(&state);
        }
        bounds
    }

    pub(crate) fn add(&mut self, state: &LinkState) {
        if state.loss_ppb < LARGEST_PPB {
            self.most_ppb = self.most_ppb.max(state.loss_ppb);
        }
        let burst_milli = state.loss_burst_milli;
        if burst_milli > SMALLEST_BURST_MILLI {
            let shortest = self.shortest_milli.unwrap_or(burst_milli);
            self.shortest_milli = Some(shortest.min(burst_milli));
        }
    }

    /// Why these values cannot be put over such a direction, if they cannot: what is wrong, and what
    /// would be possible.
    #[must_use]
    pub fn refuse(&self, over: &StateOverride) -> Option<String> {
        if over.loss_ppb.is_none() && over.loss_burst_milli.is_none() {
            return None;
        }
        let loss_ppb = over.loss_ppb.unwrap_or(self.most_ppb);
        let burst_milli = over.loss_burst_milli.or(self.shortest_milli)?;
        let shortest = longer_burst_milli(loss_ppb, burst_milli)?;
        Some(format!(
            "losses cannot come in bursts of {} packets on average where {} of all packets are lost: at \
             least one packet passes between two bursts; let bursts have {} packets or more, or 1 for \
             losses that do not depend on each other",
            packets(burst_milli.into()),
            Share::from_ppb(loss_ppb),
            packets(shortest)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn lossy(loss_ppb: u32, loss_burst_milli: u32) -> LinkState {
        LinkState {
            loss_ppb,
            loss_burst_milli,
            ..LinkState::TRANSPARENT
        }
    }

    const fn over(loss_ppb: Option<u32>, loss_burst_milli: Option<u32>) -> StateOverride {
        StateOverride {
            loss_ppb,
            loss_burst_milli,
            ..StateOverride::NONE
        }
    }

    #[test]
    fn bursts_are_possible_from_where_one_packet_passes_between_two_of_them() {
        // Nine of ten: 9 lost, 1 kept.
        assert_eq!(longer_burst_milli(900_000_000, 2000), Some(9000));
        assert_eq!(longer_burst_milli(900_000_000, 8999), Some(9000));
        assert_eq!(longer_burst_milli(900_000_000, 9000), None);
        // Two of three, rounded up.
        assert_eq!(longer_burst_milli(666_666_667, 1001), Some(2001));
        for loss_ppb in [0, 1, 500_000_000, LARGEST_PPB] {
            assert_eq!(longer_burst_milli(loss_ppb, 1001), None, "{loss_ppb}");
        }
        // Losses that do not depend on each other.
        assert_eq!(longer_burst_milli(999_999_999, 1000), None);
        assert_eq!(
            longer_burst_milli(999_999_999, u32::MAX),
            Some(999_999_999_000)
        );
    }

    #[test]
    fn what_is_possible_is_never_entered_with_more_than_certainty() {
        for loss_ppb in (1..1000).map(|permille| permille * 1_000_000) {
            let shortest = shortest_burst_milli(loss_ppb);
            let (lost, kept) = (u64::from(loss_ppb), u64::from(LARGEST_PPB - loss_ppb));
            let entered = 1000 * lost <= shortest * kept;
            assert!(entered, "{loss_ppb}");
            let shorter = shortest - 1;
            assert!(shorter < 1000 || 1000 * lost > shorter * kept, "{loss_ppb}");
        }
    }

    #[test]
    fn an_override_is_judged_with_what_it_leaves_of_the_trace() {
        let bounds = LossBounds::of([
            lossy(100_000_000, 4000),
            lossy(800_000_000, 6000),
            lossy(LARGEST_PPB, 1000),
        ]);
        for possible in [
            StateOverride::NONE,
            over(Some(800_000_000), None),
            over(Some(LARGEST_PPB), None),
            over(None, Some(4000)),
            over(None, Some(1000)),
            over(Some(900_000_000), Some(9000)),
            over(Some(900_000_000), Some(1000)),
        ] {
            assert_eq!(bounds.refuse(&possible), None, "{possible:?}");
        }
        for (impossible, words) in [
            (
                over(Some(900_000_000), None),
                ["bursts of 4 packets", "90 %", "have 9 packets"],
            ),
            (
                over(None, Some(2500)),
                ["bursts of 2.5 packets", "80 %", "have 4 packets"],
            ),
            (
                over(Some(900_000_000), Some(8999)),
                ["bursts of 8.999 packets", "90 %", "have 9 packets"],
            ),
        ] {
            let told = bounds.refuse(&impossible).unwrap();
            for word in words {
                assert!(told.contains(word), "{told}");
            }
        }
        // Nothing of a trace without losses is left that could be in the way.
        let none = LossBounds::of([LinkState::TRANSPARENT]);
        assert_eq!(none.refuse(&over(Some(900_000_000), None)), None);
        assert_eq!(none.refuse(&over(None, Some(1500))), None);
    }
}
