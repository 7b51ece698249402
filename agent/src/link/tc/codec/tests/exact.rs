//! Roots, classes and filters byte for byte.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::link::tc::codec::filter::{Classifier, Filter, Match, Side, Target, Transport, info};
use crate::link::tc::codec::queues::{Codel, FqCodel};

#[test]
fn the_htb_root_takes_the_ethernet_header_off() {
    let root = Qdisc {
        overhead: Some(-14),
        ..Qdisc::new(
            place(Handle::new(1, 0), Handle::ROOT),
            Discipline::Htb(Htb {
                default_class: 1,
                rate_to_quantum: 10,
                direct_queue: None,
            }),
        )
    };
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
    assert_eq!(root.message(), expected);
    assert_eq!(Qdisc::read(&expected), Some(root));
}

#[test]
fn a_class_carries_its_rate_twice() {
    let class = Class::new(
        place(Handle::new(1, 1), Handle::new(1, 0)),
        HtbClass {
            rate: 1_250_000,
            ceil: 1_250_000,
            buffer_ticks: 40_000,
            ceil_buffer_ticks: 40_000,
            quantum: 3000,
            priority: 0,
        },
    );
    let expected = [
        0, 0, 0, 0, 7, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, //
        8, 0, 1, 0, b'h', b't', b'b', 0, //
        76, 0, 2, 0, // TCA_OPTIONS
        48, 0, 1, 0, // TCA_HTB_PARMS
        0, 1, 0, 0, 0, 0, 0, 0, 0xd0, 0x12, 0x13, 0, // rate 1 250 000 B/s
        0, 1, 0, 0, 0, 0, 0, 0, 0xd0, 0x12, 0x13, 0, // ceil
        0x40, 0x9c, 0, 0, 0x40, 0x9c, 0, 0, // 2.56 ms in ticks, twice
        0xb8, 0x0b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // quantum 3000, level, prio
        12, 0, 6, 0, 0xd0, 0x12, 0x13, 0, 0, 0, 0, 0, // TCA_HTB_RATE64
        12, 0, 7, 0, 0xd0, 0x12, 0x13, 0, 0, 0, 0, 0, // TCA_HTB_CEIL64
    ];
    assert_eq!(class.message(), expected);
    assert_eq!(Class::read(&expected), Some(class));
}

#[test]
fn a_filter_of_u32_looks_behind_the_ip_header_for_ports() {
    let filter = Filter {
        place: Place {
            info: info(1, filter::ETH_P_IP),
            ..place(Handle::NONE, Handle::new(1, 0))
        },
        classifier: Classifier::U32,
        packets: Some(Match {
            side: Side::Destination,
            address: Ipv4Addr::new(10, 0, 0, 9).into(),
            prefix_bits: 24,
            transport: Some(Transport::Udp),
            port: Some(53),
        }),
        target: Target::Class(Handle::new(1, 5)),
        bucket: None,
    };
    let expected = [
        0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, //
        8, 0, 1, 0, // info: protocol 0x0800 in network order, priority 1
        8, 0, 1, 0, b'u', b'3', b'2', 0, //
        80, 0, 2, 0, // TCA_OPTIONS
        8, 0, 1, 0, 5, 0, 1, 0, // TCA_U32_CLASSID 1:5
        68, 0, 5, 0, // TCA_U32_SEL
        1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // terminal, three keys
        255, 255, 255, 0, 10, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, // destination
        0, 255, 0, 0, 0, 17, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, // protocol
        0, 0, 255, 255, 0, 0, 0, 53, 20, 0, 0, 0, 0, 0, 0, 0, // destination port
    ];
    assert_eq!(filter.message(), expected);
    let network = Match {
        address: Ipv4Addr::new(10, 0, 0, 0).into(),
        ..filter.packets.unwrap()
    };
    let read = Filter {
        packets: Some(network),
        ..filter
    };
    assert_eq!(Filter::read(&expected), Some(read));
}

#[test]
fn a_change_leaves_out_what_can_be_said_only_once() {
    let codel = Codel {
        target_us: 5000,
        limit_packets: 20,
        interval_us: 100_000,
        ecn: true,
    };
    let fair = FqCodel {
        codel,
        flows: 1,
        quantum: 1514,
    };
    let qdisc = |discipline| Qdisc::new(place(Handle::new(2, 0), Handle::new(1, 1)), discipline);
    let fair = qdisc(Discipline::FqCodel(fair));
    let option = |message: &[u8], number| {
        let options = Attributes::find(&message[HEADER_BYTES..], OPTIONS).unwrap();
        Attributes::find(options, number).map(<[u8]>::to_vec)
    };
    let (whole, change) = (fair.message(), fair.change_message());
    assert_eq!(
        option(&whole, 5),
        Some(vec![1, 0, 0, 0]),
        "TCA_FQ_CODEL_FLOWS"
    );
    assert_eq!(option(&change, 5), None);
    for number in [1, 2, 3, 4, 6] {
        assert_eq!(option(&change, number), option(&whole, number), "{number}");
    }
    let plain = qdisc(Discipline::Codel(codel));
    assert_eq!(plain.change_message(), plain.message());
}

#[test]
fn what_came_in_is_stolen_and_sent_out_elsewhere() {
    let filter = Filter {
        place: Place {
            info: info(2, filter::ETH_P_ALL),
            ..place(Handle::NONE, Handle::INGRESS_HANDLE)
        },
        classifier: Classifier::U32,
        packets: None,
        target: Target::Redirect(9),
        bucket: None,
    };
    let message = filter.message();
    let options = Attributes::find(&message[HEADER_BYTES..], OPTIONS).unwrap();
    let expected = [
        56, 0, 7, 0, // TCA_U32_ACT
        52, 0, 1, 0, // the first action
        11, 0, 1, 0, b'm', b'i', b'r', b'r', b'e', b'd', 0, 0, // TCA_ACT_KIND
        36, 0, 2, 0, // TCA_ACT_OPTIONS
        32, 0, 2, 0, // TCA_MIRRED_PARMS
        0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // stolen
        1, 0, 0, 0, 9, 0, 0, 0, // redirect to egress of interface 9
    ];
    assert_eq!(options[..56], expected);
    assert_eq!(Filter::read(&message), Some(filter));
}

#[test]
fn flower_names_an_address_with_its_mask_and_the_ports_of_its_protocol() {
    let filter = Filter {
        place: Place {
            info: info(3, filter::ETH_P_IP),
            ..place(Handle::NONE, Handle::new(1, 0))
        },
        classifier: Classifier::Flower,
        packets: Some(Match {
            side: Side::Source,
            address: Ipv4Addr::new(10, 1, 2, 0).into(),
            prefix_bits: 23,
            transport: Some(Transport::Udp),
            port: Some(5001),
        }),
        target: Target::Class(Handle::new(1, 7)),
        bucket: None,
    };
    let expected = [
        0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, //
        8, 0, 3, 0, // info: protocol 0x0800 in network order, priority 3
        11, 0, 1, 0, b'f', b'l', b'o', b'w', b'e', b'r', 0, 0, //
        52, 0, 2, 0, // TCA_OPTIONS
        6, 0, 8, 0, 0x08, 0x00, 0, 0, // TCA_FLOWER_KEY_ETH_TYPE, in network order
        5, 0, 9, 0, 17, 0, 0, 0, // TCA_FLOWER_KEY_IP_PROTO
        8, 0, 10, 0, 10, 1, 2, 0, // TCA_FLOWER_KEY_IPV4_SRC
        8, 0, 11, 0, 255, 255, 254, 0, // TCA_FLOWER_KEY_IPV4_SRC_MASK
        6, 0, 20, 0, 0x13, 0x89, 0, 0, // TCA_FLOWER_KEY_UDP_SRC, in network order
        8, 0, 1, 0, 7, 0, 1, 0, // TCA_FLOWER_CLASSID 1:7
    ];
    assert_eq!(filter.message(), expected);
    assert_eq!(Filter::read(&expected), Some(filter));

    // The other side, family and protocol, and what it catches goes out elsewhere.
    let filter = Filter {
        place: Place {
            info: info(3, filter::ETH_P_IPV6),
            ..filter.place
        },
        packets: Some(Match {
            side: Side::Destination,
            address: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x12).into(),
            prefix_bits: 128,
            transport: Some(Transport::Tcp),
            port: Some(5001),
        }),
        target: Target::Redirect(9),
        ..filter
    };
    let expected = [
        0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, //
        0x86, 0xdd, 3, 0, //
        11, 0, 1, 0, b'f', b'l', b'o', b'w', b'e', b'r', 0, 0, //
        124, 0, 2, 0, // TCA_OPTIONS
        6, 0, 8, 0, 0x86, 0xdd, 0, 0, //
        5, 0, 9, 0, 6, 0, 0, 0, //
        20, 0, 16, 0, // TCA_FLOWER_KEY_IPV6_DST
        0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, //
        20, 0, 17, 0, // TCA_FLOWER_KEY_IPV6_DST_MASK
        255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, //
        6, 0, 19, 0, 0x13, 0x89, 0, 0, // TCA_FLOWER_KEY_TCP_DST
        56, 0, 3, 0, // TCA_FLOWER_ACT
        52, 0, 1, 0, // the first action
        11, 0, 1, 0, b'm', b'i', b'r', b'r', b'e', b'd', 0, 0, // TCA_ACT_KIND
        36, 0, 2, 0, // TCA_ACT_OPTIONS
        32, 0, 2, 0, // TCA_MIRRED_PARMS
        0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // stolen
        1, 0, 0, 0, 9, 0, 0, 0, // redirect to egress of interface 9
    ];
    assert_eq!(filter.message(), expected);
    assert_eq!(Filter::read(&expected), Some(filter));
}
