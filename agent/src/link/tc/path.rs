//! What netem does to packets beside the bottleneck. On a link, chance meets them before it (see
//! `gate`), and delay, jitter and reordering behind it, on the interface towards the receiver. On an
//! interface that exists one netem does both.
//!
//! netem computes when a packet leaves as it comes, and sorts by that: a falling delay or
//! jitter reorders. With a rate set it counts from the packet before (netem_enqueue in
//! net/sched/sch_netem.c: `delay -= last->time_to_send - now`, at least 0), so a rate that takes
//! no time keeps the order, and a packet leaves at the running maximum of due times.

use hexloop_traces::LinkState;

use super::codec::netem::{Chance, Loss, Netem, NetemRate};

/// A rate that takes less than a nanosecond for any packet.
const KEEPS_ORDER_BYTES_PER_S: u64 = 1 << 60;

/// A share of 10^9 as netem counts probabilities: of 2^32 - 1.
fn probability(ppb: u64) -> u32 {
    let scaled = u128::from(ppb.min(1_000_000_000)) * u128::from(u32::MAX) / 1_000_000_000;
    u32::try_from(scaled).unwrap_or(u32::MAX)
}

const fn chance(probability: u32) -> Chance {
    Chance {
        probability,
        correlation: 0,
    }
}

/// What is set beside the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Path {
    /// Packets that may be in flight.
    pub(super) limit: u32,
    /// Let jitter reorder.
    pub(super) reorder: bool,
    /// Of netem's random numbers, where the kernel takes one.
    pub(super) seed: Option<u64>,
}

/// Packets of this size at least are counted on for what is in flight.
const SMALL_PACKET_BYTES: u64 = 64;

/// What a rate that is not limited counts as for what is in flight.
pub(super) const FASTEST_BPS: u64 = 10_000_000_000;

/// So many packets hold these bytes, and a few more.
pub(super) fn packets_of(held_bytes: u64) -> u32 {
    let packets = held_bytes / SMALL_PACKET_BYTES + 1000;
    u32::try_from(packets).unwrap_or(u32::MAX)
}

/// So many packets may be under way in a state.
pub(super) fn packets_in_flight(state: &LinkState) -> u32 {
    let rate_bps = u128::from(state.rate_bps.min(FASTEST_BPS));
    let longest_ns = u128::from(state.delay_ns) + u128::from(state.jitter_ns);
    let bytes = rate_bps * longest_ns / 8_000_000_000;
    packets_of(u64::try_from(bytes).unwrap_or(u64::MAX))
}

/// netem for a state. `change` counts the changes: each continues with other numbers.
pub(super) fn netem(state: &LinkState, path: Path, change: u64) -> Netem {
    let rate = if path.reorder {
        NetemRate::default()
    } else {
        NetemRate {
            bytes_per_s: KEEPS_ORDER_BYTES_PER_S,
            ..NetemRate::default()
        }
    };
    Netem {
        delay_ns: state.delay_ns,
        jitter_ns: u64::from(state.jitter_ns),
        limit: path.limit,
        loss: loss(state),
        duplicate: chance(probability(u64::from(state.dup_ppb))),
        corrupt: chance(probability(u64::from(state.corrupt_ppb))),
        rate,
        // An odd multiplier (of Knuth) keeps the seeds of consecutive changes apart.
        seed: path
            .seed
            .map(|seed| seed.wrapping_add(change.wrapping_mul(0x9e37_79b9_7f4a_7c15))),
        ..Netem::default()
    }
}

fn loss(state: &LinkState) -> Loss {
    let loss_ppb = u64::from(state.loss_ppb);
    if state.loss_burst_milli <= 1000 || loss_ppb == 0 {
        return Loss::Random(chance(probability(loss_ppb)));
    }
    // The model of Gilbert, as the shaper has it: `enter` the bad state, `leave` it, and there
    // (1 - h = 1) everything is lost.
    let loss_ppb = loss_ppb.min(999_999_999);
    let leave = 1_000_000_000_000 / u64::from(state.loss_burst_milli);
    let enter = leave * loss_ppb / (1_000_000_000 - loss_ppb);
    Loss::GilbertElliott {
        enter: probability(enter),
        leave: probability(leave),
        keep_in_bad: 0,
        lose_in_good: 0,
    }
}

/// netem that changes nothing, but counts as a delay.
pub(super) fn pass_on() -> Netem {
    let free = Path {
        limit: u32::MAX,
        reorder: false,
        seed: None,
    };
    netem(&LinkState::TRANSPARENT, free, 0)
}

/// What of a state happens to packets behind the bottleneck.
pub(super) const fn delays(state: &LinkState) -> LinkState {
    LinkState {
        delay_ns: state.delay_ns,
        jitter_ns: state.jitter_ns,
        ..LinkState::TRANSPARENT
    }
}

/// What of a state chance does to packets as they come.
pub(super) const fn fates(state: &LinkState) -> LinkState {
    LinkState {
        loss_ppb: state.loss_ppb,
        // The length of bursts means nothing without losses.
        loss_burst_milli: if state.loss_ppb > 0 {
            state.loss_burst_milli
        } else {
            LinkState::TRANSPARENT.loss_burst_milli
        },
        dup_ppb: state.dup_ppb,
        corrupt_ppb: state.corrupt_ppb,
        ..LinkState::TRANSPARENT
    }
}

/// Whether a state needs netem at all.
pub(crate) fn is_needed(state: &LinkState) -> bool {
    !delays(state).is_transparent() || !fates(state).is_transparent()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: Path = Path {
        limit: 100,
        reorder: false,
        seed: Some(7),
    };

    #[test]
    fn a_state_becomes_the_parameters_of_netem() {
        let state = LinkState {
            delay_ns: 5_000_000,
            jitter_ns: 1000,
            loss_ppb: 500_000_000,
            dup_ppb: 1_000_000_000,
            corrupt_ppb: 1,
            ..LinkState::TRANSPARENT
        };
        let netem = netem(&state, PATH, 0);
        assert_eq!((netem.delay_ns, netem.jitter_ns), (5_000_000, 1000));
        assert_eq!(netem.loss, Loss::Random(chance(u32::MAX / 2)));
        assert_eq!(netem.duplicate.probability, u32::MAX);
        assert_eq!(netem.corrupt.probability, 4);
        assert_eq!((netem.limit, netem.seed), (100, Some(7)));
        assert!(is_needed(&state));
        assert!(!is_needed(&LinkState {
            rate_bps: 5,
            loss_burst_milli: 9000,
            ..LinkState::TRANSPARENT
        }));
    }

    #[test]
    fn chance_meets_packets_apart_from_what_delays_them() {
        let state = LinkState {
            rate_bps: 7,
            delay_ns: 5_000_000,
            jitter_ns: 1000,
            loss_ppb: 500,
            loss_burst_milli: 9000,
            dup_ppb: 3,
            corrupt_ppb: 1,
            queue_bytes: 8,
        };
        let (delays, fates) = (delays(&state), fates(&state));
        assert_eq!((delays.delay_ns, delays.jitter_ns), (5_000_000, 1000));
        assert_eq!((fates.loss_ppb, fates.loss_burst_milli), (500, 9000));
        assert_eq!((fates.dup_ppb, fates.corrupt_ppb), (3, 1));
        // Each leaves the other's part, the rate and the queue alone.
        let rest = LinkState {
            delay_ns: 0,
            jitter_ns: 0,
            ..delays
        };
        assert!(rest.is_transparent() && fates.delay_ns == 0 && fates.jitter_ns == 0);
        let unlimited = LinkState::TRANSPARENT;
        assert_eq!((fates.rate_bps, fates.queue_bytes), (unlimited.rate_bps, 0));
    }

    #[test]
    fn order_is_kept_unless_reordering_is_asked_for() {
        let state = LinkState::TRANSPARENT;
        assert!(netem(&state, PATH, 0).rate.bytes_per_s > 0);
        let free = Path {
            reorder: true,
            ..PATH
        };
        assert_eq!(netem(&state, free, 0).rate.bytes_per_s, 0);
    }

    #[test]
    fn bursts_follow_from_their_mean_length_and_the_loss() {
        let state = LinkState {
            loss_ppb: 100_000_000,
            loss_burst_milli: 4000,
            ..LinkState::TRANSPARENT
        };
        let Loss::GilbertElliott { enter, leave, .. } = loss(&state) else {
            panic!("bursts need the model of Gilbert and Elliott");
        };
        let (enter, leave) = (f64::from(enter), f64::from(leave));
        // Share of time in the bad state, and mean stay in it.
        assert!((enter / (enter + leave) - 0.1).abs() < 1e-6);
        assert!((f64::from(u32::MAX) / leave - 4.0).abs() < 1e-6);
    }

    #[test]
    fn the_numbers_of_consecutive_changes_differ() {
        let state = LinkState::TRANSPARENT;
        let seeds: Vec<_> = (0..3).map(|n| netem(&state, PATH, n).seed).collect();
        assert!(seeds[0] != seeds[1] && seeds[1] != seeds[2]);
    }
}
