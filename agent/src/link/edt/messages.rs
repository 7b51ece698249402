//! The netlink messages that put fq and programs on an interface, byte for byte.
//!
//! The structures are those of linux/pkt_sched.h and linux/pkt_cls.h.

use netlink_packet_core::DefaultNla;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};

const OPTIONS: u16 = 2; // TCA_OPTIONS

/// The handle of our fq.
pub(super) const FQ: TcHandle = TcHandle { major: 1, minor: 0 };

/// Where programs hang: TC_H_CLSACT.
const CLSACT: TcHandle = TcHandle {
    major: 0xffff,
    minor: 0xfff1,
};

/// ETH_P_ALL, in network byte order.
const EVERY_PROTOCOL: u16 = 3_u16.to_be();

/// Where on an interface a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hook {
    /// On what comes in.
    Ingress,
    /// On what is about to be queued.
    Egress,
}

impl Hook {
    const fn parent(self) -> TcHandle {
        let minor = match self {
            Hook::Ingress => 0xfff2, // TC_H_MIN_INGRESS
            Hook::Egress => 0xfff3,  // TC_H_MIN_EGRESS
        };
        TcHandle {
            major: 0xffff,
            minor,
        }
    }
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

fn message(index: i32, handle: TcHandle, parent: TcHandle, kind: &str) -> TcMessage {
    let mut message = TcMessage::with_index(index);
    message.header.handle = handle;
    message.header.parent = parent;
    message.attributes.push(TcAttribute::Kind(kind.to_owned()));
    message
}

fn with_options(mut message: TcMessage, options: Vec<u8>) -> TcMessage {
    let options = DefaultNla::new(OPTIONS, options);
    message.attributes.push(TcAttribute::Other(options));
    message
}

/// What programs are hung on; it queues nothing.
pub(super) fn clsact(index: i32) -> TcMessage {
    let handle = TcHandle {
        major: 0xffff,
        minor: 0,
    };
    message(index, handle, CLSACT, "clsact")
}

/// The root qdisc that holds packets until their time: one first-in-first-out queue of `packets`
/// at most, none of them longer than `horizon_us`.
pub(super) fn fq(index: i32, packets: u32, horizon_us: u32) -> TcMessage {
    let settings: [(u16, u32); 8] = [
        (1, packets), // TCA_FQ_PLIMIT
        (2, packets), // TCA_FQ_FLOW_PLIMIT
        // No pacing of its own.
        (5, 0), // TCA_FQ_RATE_ENABLE
        // One bit of hash less than one: all packets that no socket owns are one flow, in order.
        (10, 0), // TCA_FQ_ORPHAN_MASK
        // Timers may not be put off to save wake-ups.
        (13, 0),          // TCA_FQ_TIMER_SLACK
        (14, horizon_us), // TCA_FQ_HORIZON
        (3, 1 << 20),     // TCA_FQ_QUANTUM: with one flow there are no turns to take.
        (4, 1 << 20),     // TCA_FQ_INITIAL_QUANTUM
    ];
    let mut options: Vec<u8> = settings
        .iter()
        .flat_map(|&(kind, value)| attribute(kind, &value.to_ne_bytes()))
        .collect();
    options.extend(attribute(15, &[1])); // TCA_FQ_HORIZON_DROP
    with_options(message(index, FQ, TcHandle::ROOT, "fq"), options)
}

/// Hangs a loaded program on an interface that has [`clsact`]; its answer is the verdict.
pub(super) fn filter(index: i32, hook: Hook, program: u32, name: &str) -> TcMessage {
    let mut message = message(index, TcHandle { major: 0, minor: 1 }, hook.parent(), "bpf");
    // Priority 1 in the upper half.
    message.header.info = 1 << 16 | u32::from(EVERY_PROTOCOL);
    let mut options = attribute(6, &program.to_ne_bytes()); // TCA_BPF_FD
    options.extend(attribute(7, &[name.as_bytes(), &[0]].concat())); // TCA_BPF_NAME
    options.extend(attribute(8, &1_u32.to_ne_bytes())); // TCA_BPF_FLAGS: ACT_DIRECT
    with_options(message, options)
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
    fn clsact_has_a_place_of_its_own() {
        let expected = [
            0, 0, 0, 0, 7, 0, 0, 0, // family, interface
            0, 0, 0xff, 0xff, // handle ffff:
            0xf1, 0xff, 0xff, 0xff, // parent TC_H_CLSACT
            0, 0, 0, 0, // info
            11, 0, 1, 0, b'c', b'l', b's', b'a', b'c', b't', 0, 0,
        ];
        assert_eq!(bytes(&clsact(7)), expected);
    }

    #[test]
    fn fq_is_one_queue_without_pacing_of_its_own() {
        let expected = [
            0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 1, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, //
            7, 0, 1, 0, b'f', b'q', 0, 0, //
            76, 0, 2, 0, // TCA_OPTIONS
            8, 0, 1, 0, 0xe8, 3, 0, 0, // limit 1000
            8, 0, 2, 0, 0xe8, 3, 0, 0, // per flow
            8, 0, 5, 0, 0, 0, 0, 0, // no pacing
            8, 0, 10, 0, 0, 0, 0, 0, // one flow
            8, 0, 13, 0, 0, 0, 0, 0, // no slack
            8, 0, 14, 0, 0x40, 0x42, 0x0f, 0, // horizon 1 s
            8, 0, 3, 0, 0, 0, 16, 0, // quantum
            8, 0, 4, 0, 0, 0, 16, 0, // initial quantum
            5, 0, 15, 0, 1, 0, 0, 0, // drop beyond the horizon
        ];
        assert_eq!(bytes(&fq(7, 1000, 1_000_000)), expected);
    }

    #[test]
    fn a_filter_names_its_program_by_descriptor_and_answers_itself() {
        let expected = [
            0, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, // handle 0:1
            0xf3, 0xff, 0xff, 0xff, // egress of clsact
            0, 3, 1, 0, // every protocol, priority 1
            8, 0, 1, 0, b'b', b'p', b'f', 0, //
            32, 0, 2, 0, // TCA_OPTIONS
            8, 0, 6, 0, 9, 0, 0, 0, // TCA_BPF_FD
            10, 0, 7, 0, b'h', b'x', b'_', b's', b't', 0, 0, 0, // TCA_BPF_NAME
            8, 0, 8, 0, 1, 0, 0, 0, // TCA_BPF_FLAGS
        ];
        assert_eq!(bytes(&filter(7, Hook::Egress, 9, "hx_st")), expected);
    }
}
