//! The messages that set queueing disciplines up and change them in place, byte for byte.
//!
//! The kernel's structures are those of linux/pkt_sched.h; netlink-packet-route types neither
//! htb nor netem, so their options are put together here.

use hexloop_traces::{LinkState, UNLIMITED_RATE_BPS};
use netlink_packet_core::DefaultNla;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};

const OPTIONS: u16 = 2; // TCA_OPTIONS
const STAB: u16 = 8; // TCA_STAB
const STAB_BASE: u16 = 1; // TCA_STAB_BASE

/// The htb qdisc, its only class, and what is below it.
pub(super) const ROOT: TcHandle = TcHandle { major: 1, minor: 0 };
const CLASS: TcHandle = TcHandle { major: 1, minor: 1 };
pub(super) const LEAF: TcHandle = TcHandle { major: 2, minor: 0 };

/// One tick of the packet scheduler is 64 ns (PSCHED_SHIFT is 6).
const TICK_SHIFT: u32 = 6;

/// Stands for "no limit": 100 Gbit/s in bytes.
const UNLIMITED_BYTES_PER_S: u64 = 12_500_000_000;

/// htb sends up to this much at once: what a timer that wakes late misses.
const BURST_NS: u64 = 200_000;

/// What hangs below the class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    /// Delay, jitter and loss.
    Netem,
    /// Only a queue.
    Bfifo,
}

fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len() + 4).unwrap_or(u16::MAX);
    let mut bytes = Vec::with_capacity(payload.len() + 8);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn words(values: &[u32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_ne_bytes())
        .collect()
}

fn message(
    index: i32,
    handle: TcHandle,
    parent: TcHandle,
    kind: &str,
    options: Vec<u8>,
) -> TcMessage {
    let mut message = TcMessage::with_index(index);
    message.header.handle = handle;
    message.header.parent = parent;
    message.attributes.push(TcAttribute::Kind(kind.to_owned()));
    message
        .attributes
        .push(TcAttribute::Other(DefaultNla::new(OPTIONS, options)));
    message
}

/// The htb root. Its size table takes the Ethernet header off every packet: the trace counts
/// IP bytes.
pub(super) fn htb_root(index: i32) -> TcMessage {
    // struct tc_htb_glob: version, rate2quantum, defcls, debug, direct_pkts.
    let options = attribute(2, &words(&[3, 10, 1, 0, 0]));
    let mut message = message(index, ROOT, TcHandle::ROOT, "htb", options);
    // struct tc_sizespec: cell_log, size_log (u8), cell_align (i16), overhead (i32), linklayer,
    // mpu, mtu, tsize (u32).
    let mut sizes = vec![0; 4];
    sizes.extend_from_slice(&(-14_i32).to_ne_bytes());
    sizes.extend_from_slice(&words(&[1, 0, 0, 0]));
    let sizes = attribute(STAB_BASE, &sizes);
    message
        .attributes
        .push(TcAttribute::Other(DefaultNla::new(STAB, sizes)));
    message
}

/// The rate of the class, in bytes per second. Never 0, which htb does not know.
pub(super) fn bytes_per_second(state: &LinkState) -> u64 {
    match state.rate_bps {
        UNLIMITED_RATE_BPS => UNLIMITED_BYTES_PER_S,
        rate_bps => (rate_bps / 8).clamp(1, UNLIMITED_BYTES_PER_S),
    }
}

/// The class with its rate.
pub(super) fn htb_class(index: i32, bytes_per_s: u64, mtu: u32) -> TcMessage {
    let rate = u32::try_from(bytes_per_s).unwrap_or(u32::MAX);
    // struct tc_ratespec: cell_log, linklayer (u8), overhead, cell_align, mpu (u16), rate (u32).
    // A link layer (1: Ethernet) spares the kernel its rate tables.
    let mut rates = vec![0, 1, 0, 0, 0, 0, 0, 0];
    rates.extend_from_slice(&rate.to_ne_bytes());
    let burst_bytes = u64::from(mtu) * 2 + bytes_per_s / 1_000_000 * BURST_NS / 1000;
    let burst_ns = u128::from(burst_bytes) * 1_000_000_000 / u128::from(bytes_per_s.max(1));
    let burst_ticks = u32::try_from(burst_ns >> TICK_SHIFT).unwrap_or(u32::MAX);
    // struct tc_htb_opt: rate, ceil, buffer, cbuffer, quantum, level, prio.
    let mut options = [rates.as_slice(), rates.as_slice()].concat();
    options.extend(words(&[burst_ticks, burst_ticks, mtu * 2, 0, 0]));
    let mut attributes = attribute(1, &options); // TCA_HTB_PARMS
    attributes.extend(attribute(6, &bytes_per_s.to_ne_bytes())); // TCA_HTB_RATE64
    attributes.extend(attribute(7, &bytes_per_s.to_ne_bytes())); // TCA_HTB_CEIL64
    message(index, CLASS, ROOT, "htb", attributes)
}

/// The queue below the class.
pub(super) fn leaf(index: i32, leaf: Leaf, state: &LinkState, limits: Limits) -> TcMessage {
    match leaf {
        Leaf::Bfifo => message(index, LEAF, CLASS, "bfifo", words(&[limits.queue_bytes])),
        Leaf::Netem => message(index, LEAF, CLASS, "netem", netem(state, limits.packets)),
    }
}

/// How much the leaf holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// For bfifo.
    pub(super) queue_bytes: u32,
    /// For netem: the queue and what is delayed.
    pub(super) packets: u32,
}

/// A share of 10^9 as netem counts probabilities: of 2^32 - 1.
fn probability(ppb: u64) -> u32 {
    let scaled = u128::from(ppb.min(1_000_000_000)) * u128::from(u32::MAX) / 1_000_000_000;
    u32::try_from(scaled).unwrap_or(u32::MAX)
}

fn netem(state: &LinkState, packets: u32) -> Vec<u8> {
    let bursty = state.loss_burst_milli > 1000 && state.loss_ppb > 0;
    let loss = if bursty {
        0
    } else {
        probability(u64::from(state.loss_ppb))
    };
    // struct tc_netem_qopt: latency, limit, loss, gap, duplicate, jitter; the times follow in
    // nanoseconds below.
    let mut options = words(&[0, packets, loss, 0, 0, 0]);
    if bursty {
        // The model of Gilbert, as the shaper has it: p enters the bad state, r leaves it, and
        // there (1 - h = 1) everything is lost.
        let loss = u64::from(state.loss_ppb).min(999_999_999);
        let leave = 1_000_000_000_000 / u64::from(state.loss_burst_milli);
        let enter = leave * loss / (1_000_000_000 - loss);
        let model = words(&[probability(enter), probability(leave), 0, 0]);
        options.extend(attribute(5, &attribute(2, &model))); // TCA_NETEM_LOSS, NETEM_LOSS_GE
    }
    options.extend(attribute(10, &state.delay_ns.to_ne_bytes())); // TCA_NETEM_LATENCY64
    options.extend(attribute(11, &u64::from(state.jitter_ns).to_ne_bytes())); // TCA_NETEM_JITTER64
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::Emitable;

    fn bytes(message: &TcMessage) -> Vec<u8> {
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        bytes
    }

    #[test]
    fn the_htb_root_takes_the_ethernet_header_off() {
        let expected = [
            0, 0, 0, 0, // family
            7, 0, 0, 0, // interface
            0, 0, 1, 0, // handle 1:
            0xff, 0xff, 0xff, 0xff, // parent root
            0, 0, 0, 0, // info
            8, 0, 1, 0, b'h', b't', b'b', 0, // TCA_KIND
            28, 0, 2, 0, // TCA_OPTIONS
            24, 0, 2, 0, // TCA_HTB_INIT
            3, 0, 0, 0, 10, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, //
            32, 0, 8, 0, // TCA_STAB
            28, 0, 1, 0, // TCA_STAB_BASE
            0, 0, 0, 0, 0xf2, 0xff, 0xff, 0xff, // overhead -14
            1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(bytes(&htb_root(7)), expected);
    }

    #[test]
    fn the_class_carries_its_rate_twice() {
        let class = bytes(&htb_class(7, 1_250_000, 1500));
        let expected = [
            0, 0, 0, 0, 7, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, //
            8, 0, 1, 0, b'h', b't', b'b', 0, //
            76, 0, 2, 0, // TCA_OPTIONS
            48, 0, 1, 0, // TCA_HTB_PARMS
            0, 1, 0, 0, 0, 0, 0, 0, 0xd0, 0x12, 0x13, 0, // rate 1 250 000 B/s
            0, 1, 0, 0, 0, 0, 0, 0, 0xd0, 0x12, 0x13, 0, // ceil
            // 3200 bytes take 2.56 ms = 40 000 ticks.
            0x40, 0x9c, 0, 0, 0x40, 0x9c, 0, 0, //
            0xb8, 0x0b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // quantum 3000, level, prio
            12, 0, 6, 0, 0xd0, 0x12, 0x13, 0, 0, 0, 0, 0, // TCA_HTB_RATE64
            12, 0, 7, 0, 0xd0, 0x12, 0x13, 0, 0, 0, 0, 0, // TCA_HTB_CEIL64
        ];
        assert_eq!(class, expected);
    }

    #[test]
    fn netem_gets_its_delay_in_nanoseconds() {
        let state = LinkState {
            delay_ns: 5_000_000,
            loss_ppb: 500_000_000,
            ..LinkState::TRANSPARENT
        };
        let limits = Limits {
            queue_bytes: 0,
            packets: 1000,
        };
        let expected = [
            0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 2, 0, 1, 0, 1, 0, 0, 0, 0, 0, //
            10, 0, 1, 0, b'n', b'e', b't', b'e', b'm', 0, 0, 0, //
            52, 0, 2, 0, // TCA_OPTIONS
            0, 0, 0, 0, 0xe8, 3, 0, 0, 0xff, 0xff, 0xff, 0x7f, // latency, limit, loss
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // gap, duplicate, jitter
            12, 0, 10, 0, 0x40, 0x4b, 0x4c, 0, 0, 0, 0, 0, // TCA_NETEM_LATENCY64
            12, 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, // TCA_NETEM_JITTER64
        ];
        assert_eq!(bytes(&leaf(7, Leaf::Netem, &state, limits)), expected);
    }
}
