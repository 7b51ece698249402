//! Disciplines byte for byte, laid out by hand from linux/pkt_sched.h: in both directions.

use super::*;
use crate::link::tc::codec::netem::{Chance, Loss, Netem, NetemRate, Slot};
use crate::link::tc::codec::queues::{Codel, Fq, FqCodel, Pie, Plug};
use crate::link::tc::codec::statistics::QueueStatistics;

/// `struct tcmsg` of 2: below class 1:1 on interface 7: family, interface, handle, parent, info.
const PLACE: [u8; 20] = [
    0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 2, 0, 1, 0, 1, 0, 0, 0, 0, 0, //
];

/// The message of a discipline is these bytes, and these bytes are read as that discipline.
fn assert_bytes(discipline: &Discipline, attributes: &[u8]) {
    let qdisc = Qdisc::new(
        place(Handle::new(2, 0), Handle::new(1, 1)),
        discipline.clone(),
    );
    let expected = [&PLACE[..], attributes].concat();
    assert_eq!(qdisc.message(), expected, "{discipline:?}");
    assert_eq!(Qdisc::read(&expected), Some(qdisc), "{discipline:?}");
}

fn chance(probability: u32, correlation: u32) -> Chance {
    Chance {
        probability,
        correlation,
    }
}

#[test]
fn netem_has_its_structure_in_front_and_an_attribute_for_everything_else() {
    let netem = Netem {
        delay_ns: 5_000_000,
        jitter_ns: 1_000_000,
        delay_correlation: 0x0102_0304,
        limit: 500,
        loss: Loss::GilbertElliott {
            enter: 0x1111_1111,
            leave: 0x2222_2222,
            keep_in_bad: 0x3333_3333,
            lose_in_good: 0x4444_4444,
        },
        duplicate: chance(0x5555_5555, 0x0506_0708),
        corrupt: chance(0x6666_6666, 0x090a_0b0c),
        gap: 5,
        reorder: chance(0x7777_7777, 0x0d0e_0f10),
        rate: NetemRate {
            bytes_per_s: 5_000_000_000,
            packet_overhead: -14,
            cell_bytes: 48,
            cell_overhead: 5,
        },
        mark: true,
        slot: Some(Slot {
            least_delay_ns: 3_000_000,
            most_delay_ns: 4_000_000,
            most_packets: 6,
            most_bytes: 9000,
            distribution_delay_ns: 7,
            distribution_jitter_ns: 8,
        }),
        seed: Some(0x1122_3344_5566_7788),
    };
    let attributes = [
        10, 0, 1, 0, b'n', b'e', b't', b'e', b'm', 0, 0, 0, // TCA_KIND
        212, 0, 2, 0, // TCA_OPTIONS: struct tc_netem_qopt, then attributes
        0, 0, 0, 0, // latency, which TCA_NETEM_LATENCY64 stands for
        0xf4, 1, 0, 0, // limit
        0, 0, 0, 0, // loss, which TCA_NETEM_LOSS stands for
        5, 0, 0, 0, // gap
        0x55, 0x55, 0x55, 0x55, // duplicate
        0, 0, 0, 0, // jitter, which TCA_NETEM_JITTER64 stands for
        16, 0, 1, 0, // TCA_NETEM_CORR: delay, loss, duplicate
        4, 3, 2, 1, 0, 0, 0, 0, 8, 7, 6, 5, //
        12, 0, 3, 0, // TCA_NETEM_REORDER: probability, correlation
        0x77, 0x77, 0x77, 0x77, 0x10, 0x0f, 0x0e, 0x0d, //
        12, 0, 4, 0, // TCA_NETEM_CORRUPT
        0x66, 0x66, 0x66, 0x66, 0x0c, 0x0b, 0x0a, 0x09, //
        24, 0, 5, 0, // TCA_NETEM_LOSS
        20, 0, 2, 0, // NETEM_LOSS_GE: p, r, h, k1
        0x11, 0x11, 0x11, 0x11, 0x22, 0x22, 0x22, 0x22, //
        0x33, 0x33, 0x33, 0x33, 0x44, 0x44, 0x44, 0x44, //
        20, 0, 6, 0, // TCA_NETEM_RATE: rate, packet_overhead, cell_size, cell_overhead
        0xff, 0xff, 0xff, 0xff, 0xf2, 0xff, 0xff, 0xff, 48, 0, 0, 0, 5, 0, 0, 0, //
        12, 0, 8, 0, 0, 0xf2, 0x05, 0x2a, 1, 0, 0, 0, // TCA_NETEM_RATE64
        8, 0, 7, 0, 1, 0, 0, 0, // TCA_NETEM_ECN
        12, 0, 10, 0, 0x40, 0x4b, 0x4c, 0, 0, 0, 0, 0, // TCA_NETEM_LATENCY64
        12, 0, 11, 0, 0x40, 0x42, 0x0f, 0, 0, 0, 0, 0, // TCA_NETEM_JITTER64
        44, 0, 12, 0, // TCA_NETEM_SLOT: min_delay, max_delay
        0xc0, 0xc6, 0x2d, 0, 0, 0, 0, 0, 0x00, 0x09, 0x3d, 0, 0, 0, 0, 0, //
        6, 0, 0, 0, 0x28, 0x23, 0, 0, // max_packets, max_bytes
        7, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, // dist_delay, dist_jitter
        12, 0, 14, 0, // TCA_NETEM_PRNG_SEED
        0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
    ];
    assert_bytes(&Discipline::Netem(netem), &attributes);
}

#[test]
fn netems_independent_losses_are_in_its_structure_and_those_of_four_states_are_not() {
    let attributes = |loss: [u8; 4], correlation: [u8; 4], model: &[u8]| {
        let length = u8::try_from(4 + 24 + 16 + 12 + 12 + model.len() + 20 + 12 + 12).unwrap();
        [
            &[10, 0, 1, 0, b'n', b'e', b't', b'e', b'm', 0, 0, 0][..],
            &[length, 0, 2, 0],
            &[0, 0, 0, 0, 0xe8, 3, 0, 0], // latency, limit
            &loss,
            &[0; 12],                   // gap, duplicate, jitter
            &[16, 0, 1, 0, 0, 0, 0, 0], // TCA_NETEM_CORR: delay
            &correlation,
            &[0; 4],                                // of duplicates
            &[12, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0], // TCA_NETEM_REORDER
            &[12, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0], // TCA_NETEM_CORRUPT
            model,
            &[20, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], // TCA_NETEM_RATE
            &[12, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0],                        // TCA_NETEM_LATENCY64
            &[12, 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0],                        // TCA_NETEM_JITTER64
        ]
        .concat()
    };
    let random = Netem {
        loss: Loss::Random(chance(0x2000_0001, 0x3000_0002)),
        ..Netem::default()
    };
    let bytes = attributes([1, 0, 0, 0x20], [2, 0, 0, 0x30], &[]);
    assert_bytes(&Discipline::Netem(random), &bytes);

    let states = Netem {
        loss: Loss::FourStates([13, 31, 32, 14, 23]),
        ..Netem::default()
    };
    let model = [
        28, 0, 5, 0, // TCA_NETEM_LOSS
        24, 0, 1, 0, // NETEM_LOSS_GI: p13, p31, p32, p14, p23
        13, 0, 0, 0, 31, 0, 0, 0, 32, 0, 0, 0, 14, 0, 0, 0, 23, 0, 0, 0, //
    ];
    let bytes = attributes([0; 4], [0; 4], &model);
    assert_bytes(&Discipline::Netem(states), &bytes);
}

#[test]
fn fifos_and_plugs_are_told_a_limit_or_an_action() {
    let limit = [8, 0, 2, 0, 0x30, 0x75, 0, 0]; // TCA_OPTIONS: struct tc_fifo_qopt
    let kind = |name: &[u8]| {
        let mut attribute = vec![u8::try_from(name.len() + 5).unwrap(), 0, 1, 0];
        attribute.extend(name);
        attribute.push(0);
        attribute.resize(attribute.len().next_multiple_of(4), 0);
        attribute
    };
    for (discipline, name) in [
        (Discipline::Bfifo(30_000), &b"bfifo"[..]),
        (Discipline::Pfifo(30_000), b"pfifo"),
        (Discipline::PfifoHeadDrop(30_000), b"pfifo_head_drop"),
    ] {
        assert_bytes(&discipline, &[&kind(name)[..], &limit].concat());
    }
    for (plug, action, limit) in [
        (Plug::Hold, 0, [0; 4]),                      // TCQ_PLUG_BUFFER
        (Plug::Release, 2, [0; 4]),                   // TCQ_PLUG_RELEASE_INDEFINITE
        (Plug::Limit(30_000), 3, [0x30, 0x75, 0, 0]), // TCQ_PLUG_LIMIT
    ] {
        // TCA_OPTIONS: struct tc_plug_qopt.
        let options = [&[12, 0, 2, 0, action, 0, 0, 0][..], &limit].concat();
        let attributes = [kind(b"plug"), options].concat();
        assert_bytes(&Discipline::Plug(plug), &attributes);
    }
}

#[test]
fn managed_queues_are_told_their_numbers_one_by_one() {
    let codel = Codel {
        target_us: 5000,
        limit_packets: 20,
        interval_us: 100_000,
        ecn: true,
    };
    assert_bytes(
        &Discipline::Codel(codel),
        &[
            10, 0, 1, 0, b'c', b'o', b'd', b'e', b'l', 0, 0, 0, //
            36, 0, 2, 0, // TCA_OPTIONS
            8, 0, 1, 0, 0x88, 0x13, 0, 0, // TCA_CODEL_TARGET
            8, 0, 2, 0, 20, 0, 0, 0, // TCA_CODEL_LIMIT
            8, 0, 3, 0, 0xa0, 0x86, 1, 0, // TCA_CODEL_INTERVAL
            8, 0, 4, 0, 1, 0, 0, 0, // TCA_CODEL_ECN
        ],
    );
    let fair = FqCodel {
        codel,
        flows: 1,
        quantum: 1514,
    };
    assert_bytes(
        &Discipline::FqCodel(fair),
        &[
            13, 0, 1, 0, b'f', b'q', b'_', b'c', b'o', b'd', b'e', b'l', 0, 0, 0, 0, //
            52, 0, 2, 0, // TCA_OPTIONS
            8, 0, 1, 0, 0x88, 0x13, 0, 0, // TCA_FQ_CODEL_TARGET
            8, 0, 2, 0, 20, 0, 0, 0, // TCA_FQ_CODEL_LIMIT
            8, 0, 3, 0, 0xa0, 0x86, 1, 0, // TCA_FQ_CODEL_INTERVAL
            8, 0, 4, 0, 1, 0, 0, 0, // TCA_FQ_CODEL_ECN
            8, 0, 5, 0, 1, 0, 0, 0, // TCA_FQ_CODEL_FLOWS
            8, 0, 6, 0, 0xea, 5, 0, 0, // TCA_FQ_CODEL_QUANTUM
        ],
    );
    let pie = Pie {
        target_us: 16_000,
        limit_packets: 500,
        update_us: 14_000,
        ecn: true,
    };
    assert_bytes(
        &Discipline::Pie(pie),
        &[
            8, 0, 1, 0, b'p', b'i', b'e', 0, //
            36, 0, 2, 0, // TCA_OPTIONS
            8, 0, 1, 0, 0x80, 0x3e, 0, 0, // TCA_PIE_TARGET
            8, 0, 2, 0, 0xf4, 1, 0, 0, // TCA_PIE_LIMIT
            8, 0, 3, 0, 0xb0, 0x36, 0, 0, // TCA_PIE_TUPDATE
            8, 0, 6, 0, 1, 0, 0, 0, // TCA_PIE_ECN
        ],
    );
}

#[test]
fn fair_queueing_is_told_its_limits_its_rate_and_its_horizon() {
    let fq = Fq {
        limit_packets: 5000,
        flow_limit_packets: 70,
        quantum: 3028,
        initial_quantum: 15_140,
        flow_max_rate: u32::MAX,
        horizon_us: 10_000_000,
        horizon_drop: true,
    };
    assert_bytes(
        &Discipline::Fq(fq),
        &[
            7, 0, 1, 0, b'f', b'q', 0, 0, //
            60, 0, 2, 0, // TCA_OPTIONS
            8, 0, 1, 0, 0x88, 0x13, 0, 0, // TCA_FQ_PLIMIT
            8, 0, 2, 0, 70, 0, 0, 0, // TCA_FQ_FLOW_PLIMIT
            8, 0, 3, 0, 0xd4, 0x0b, 0, 0, // TCA_FQ_QUANTUM
            8, 0, 4, 0, 0x24, 0x3b, 0, 0, // TCA_FQ_INITIAL_QUANTUM
            8, 0, 7, 0, 0xff, 0xff, 0xff, 0xff, // TCA_FQ_FLOW_MAX_RATE
            8, 0, 14, 0, 0x80, 0x96, 0x98, 0, // TCA_FQ_HORIZON
            5, 0, 15, 0, 1, 0, 0, 0, // TCA_FQ_HORIZON_DROP
        ],
    );
}

#[test]
fn every_count_of_a_class_is_read_from_its_own_place() {
    let class = [
        0, 0, 0, 0, 7, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, //
        8, 0, 1, 0, b'h', b't', b'b', 0, //
        52, 0, 2, 0, // TCA_OPTIONS
        48, 0, 1, 0, // TCA_HTB_PARMS: struct tc_htb_opt
        0, 1, 0, 0, 0, 0, 0, 0, 0xd0, 0x12, 0x13, 0, // rate 1 250 000 B/s
        0, 1, 0, 0, 0, 0, 0, 0, 0xa0, 0x25, 0x26, 0, // ceil 2 500 000 B/s
        1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, // buffer, cbuffer, quantum
        0, 0, 0, 0, 4, 0, 0, 0, // level, prio
        104, 0, 7, 0, // TCA_STATS2
        20, 0, 1, 0, // TCA_STATS_BASIC: struct gnet_stats_basic: bytes, packets
        0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, 9, 0, 0, 0, 0, 0, 0, 0, //
        12, 0, 2, 0, 10, 0, 0, 0, 11, 0, 0, 0, // TCA_STATS_RATE_EST: bps, pps
        20, 0, 5, 0, // TCA_STATS_RATE_EST64, which counts
        12, 0, 0, 0, 1, 0, 0, 0, 13, 0, 0, 0, 2, 0, 0, 0, //
        24, 0, 3, 0, // TCA_STATS_QUEUE: struct gnet_stats_queue
        14, 0, 0, 0, 15, 0, 0, 0, 16, 0, 0, 0, // qlen, backlog, drops
        17, 0, 0, 0, 18, 0, 0, 0, // requeues, overlimits
        24, 0, 4, 0, // TCA_STATS_APP: struct tc_htb_xstats
        19, 0, 0, 0, 20, 0, 0, 0, 21, 0, 0, 0, // lends, borrows, giants
        0xfe, 0xff, 0xff, 0xff, 22, 0, 0, 0, // tokens, ctokens
    ];
    let class = Class::read(&class).unwrap();
    let statistics = class.statistics.unwrap();
    assert_eq!(
        (statistics.bytes, statistics.packets),
        (0x0102_0304_0506_0708, 9)
    );
    let rate = statistics.rate.unwrap();
    let high = 1_u64 << 32;
    assert_eq!(
        (rate.bytes_per_s, rate.packets_per_s),
        (high + 12, 2 * high + 13)
    );
    let queue = QueueStatistics {
        packets: 14,
        backlog_bytes: 15,
        drops: 16,
        requeues: 17,
        overlimits: 18,
    };
    assert_eq!(statistics.queue, queue);
    let tokens = class.tokens.unwrap();
    assert_eq!((tokens.tokens_ticks, tokens.ceil_tokens_ticks), (-2, 22));
    assert_eq!((class.htb.rate, class.htb.ceil), (1_250_000, 2_500_000));
    assert_eq!(
        (class.htb.buffer_ticks, class.htb.ceil_buffer_ticks),
        (1, 2)
    );
    assert_eq!((class.htb.quantum, class.htb.priority), (3, 4));
}
