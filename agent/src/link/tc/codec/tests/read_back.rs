//! What was written is read back, whatever it is, and what comes from anywhere does no harm.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::link::tc::codec::filter::{
    Classifier, Filter, Match, Side, Target, Transport, ethernet_type, info,
};
use crate::link::tc::codec::htb::TbfBurst;
use crate::link::tc::codec::netem::{Chance, Loss, NetemRate, Slot};
use crate::link::tc::codec::statistics::{QueueStatistics, RateEstimate};

fn chance() -> impl Strategy<Value = Chance> {
    (any::<u32>(), any::<u32>()).prop_map(|(probability, correlation)| Chance {
        probability,
        correlation,
    })
}

fn loss() -> impl Strategy<Value = Loss> {
    prop_oneof![
        chance().prop_map(Loss::Random),
        any::<[u32; 4]>().prop_map(|[enter, leave, keep_in_bad, lose_in_good]| {
            Loss::GilbertElliott {
                enter,
                leave,
                keep_in_bad,
                lose_in_good,
            }
        }),
        any::<[u32; 5]>().prop_map(Loss::FourStates),
    ]
}

fn slot() -> impl Strategy<Value = Slot> {
    (any::<[u64; 4]>(), any::<[i32; 2]>()).prop_map(|(times, sizes)| Slot {
        least_delay_ns: times[0],
        most_delay_ns: times[1],
        most_packets: sizes[0],
        most_bytes: sizes[1],
        distribution_delay_ns: times[2],
        distribution_jitter_ns: times[3],
    })
}

prop_compose! {
    fn netem()(
        times in any::<[u64; 2]>(),
        numbers in any::<[u32; 3]>(),
        loss in loss(),
        chances in [chance(), chance(), chance()],
        bytes_per_s in any::<u64>(),
        overheads in any::<[i32; 2]>(),
        mark: bool,
        slot in prop::option::of(slot()),
        seed in any::<Option<u64>>(),
    ) -> Netem {
        let [duplicate, corrupt, reorder] = chances;
        Netem {
            delay_ns: times[0],
            jitter_ns: times[1],
            delay_correlation: numbers[0],
            limit: numbers[1],
            loss,
            duplicate,
            corrupt,
            gap: numbers[2],
            reorder,
            rate: NetemRate {
                bytes_per_s,
                packet_overhead: overheads[0],
                cell_bytes: numbers[2],
                cell_overhead: overheads[1],
            },
            mark,
            slot,
            seed,
        }
    }
}

fn codel() -> impl Strategy<Value = Codel> {
    (any::<[u32; 3]>(), any::<bool>()).prop_map(|(numbers, ecn)| Codel {
        target_us: numbers[0],
        limit_packets: numbers[1],
        interval_us: numbers[2],
        ecn,
    })
}

fn tbf() -> impl Strategy<Value = Tbf> {
    let burst = prop_oneof![
        any::<u32>().prop_map(TbfBurst::Bytes),
        any::<u32>().prop_map(TbfBurst::Ticks)
    ];
    (any::<[u64; 2]>(), any::<[u32; 2]>(), burst).prop_map(|(rates, numbers, burst)| Tbf {
        rate: rates[0],
        peak_rate: rates[1],
        limit: numbers[0],
        burst,
        peak_ticks: numbers[1],
    })
}

fn discipline() -> impl Strategy<Value = Discipline> {
    prop_oneof![
        (any::<u32>(), any::<u32>(), any::<Option<u32>>()).prop_map(
            |(default_class, rate_to_quantum, direct_queue)| Discipline::Htb(Htb {
                default_class,
                rate_to_quantum,
                direct_queue,
            })
        ),
        tbf().prop_map(Discipline::Tbf),
        netem().prop_map(Discipline::Netem),
        any::<u32>().prop_map(Discipline::Bfifo),
        any::<u32>().prop_map(Discipline::Pfifo),
        any::<u32>().prop_map(Discipline::PfifoHeadDrop),
        codel().prop_map(Discipline::Codel),
        (codel(), any::<[u32; 2]>()).prop_map(|(codel, [flows, quantum])| {
            Discipline::FqCodel(FqCodel {
                codel,
                flows,
                quantum,
            })
        }),
        (any::<[u32; 3]>(), any::<bool>()).prop_map(|(numbers, ecn)| Discipline::Pie(Pie {
            target_us: numbers[0],
            limit_packets: numbers[1],
            update_us: numbers[2],
            ecn,
        })),
        (any::<[u32; 6]>(), any::<bool>()).prop_map(|(numbers, horizon_drop)| {
            Discipline::Fq(Fq {
                limit_packets: numbers[0],
                flow_limit_packets: numbers[1],
                quantum: numbers[2],
                initial_quantum: numbers[3],
                flow_max_rate: numbers[4],
                horizon_us: numbers[5],
                horizon_drop,
            })
        }),
        prop_oneof![
            Just(Plug::Hold),
            Just(Plug::Release),
            any::<u32>().prop_map(Plug::Limit)
        ]
        .prop_map(Discipline::Plug),
        Just(Discipline::Ingress),
        Just(Discipline::Clsact),
    ]
}

fn statistics() -> impl Strategy<Value = Statistics> {
    let rate = prop::option::of(any::<[u64; 2]>().prop_map(|[bytes, packets]| RateEstimate {
        bytes_per_s: bytes,
        packets_per_s: packets,
    }));
    (any::<[u64; 2]>(), any::<[u32; 5]>(), rate).prop_map(|(counts, queue, rate)| Statistics {
        bytes: counts[0],
        packets: counts[1],
        queue: QueueStatistics {
            packets: queue[0],
            backlog_bytes: queue[1],
            drops: queue[2],
            requeues: queue[3],
            overlimits: queue[4],
        },
        rate,
    })
}

fn handle() -> impl Strategy<Value = Handle> {
    any::<u32>().prop_map(Handle::from_raw)
}

fn packets() -> impl Strategy<Value = Match> {
    let side = prop_oneof![Just(Side::Source), Just(Side::Destination)];
    let transport = prop_oneof![
        Just(None),
        Just(Some(Transport::Tcp)),
        Just(Some(Transport::Udp))
    ];
    let address = prop_oneof![
        (any::<u32>(), 1_u8..=32).prop_map(|(bits, prefix)| {
            let kept = u32::MAX << (32 - u32::from(prefix));
            (Ipv4Addr::from(bits & kept).into(), prefix)
        }),
        (any::<u128>(), 1_u8..=128).prop_map(|(bits, prefix)| {
            let kept = u128::MAX << (128 - u32::from(prefix));
            (Ipv6Addr::from(bits & kept).into(), prefix)
        }),
    ];
    (side, address, transport, any::<Option<u16>>()).prop_map(
        |(side, (address, prefix_bits), transport, port)| Match {
            side,
            address,
            prefix_bits,
            transport,
            port: port.filter(|_| transport.is_some()),
        },
    )
}

proptest! {
    #[test]
    fn every_discipline_is_read_back_as_it_was_written(
        discipline in discipline(),
        handle in handle(),
        parent in handle(),
        overhead in any::<Option<i32>>(),
        statistics in prop::option::of(statistics()),
    ) {
        let qdisc = Qdisc {
            place: place(handle, parent),
            discipline,
            overhead,
            statistics,
        };
        prop_assert_eq!(Qdisc::read(&qdisc.message()), Some(qdisc));
    }

    #[test]
    fn every_class_is_read_back_as_it_was_written(
        rates in any::<[u64; 2]>(),
        numbers in any::<[u32; 4]>(),
        handle in handle(),
        statistics in prop::option::of(statistics()),
    ) {
        let class = Class {
            statistics,
            ..Class::new(place(handle, Handle::ROOT), HtbClass {
                rate: rates[0],
                ceil: rates[1],
                buffer_ticks: numbers[0],
                ceil_buffer_ticks: numbers[1],
                quantum: numbers[2],
                priority: numbers[3],
            })
        };
        prop_assert_eq!(Class::read(&class.message()), Some(class));
    }

    #[test]
    fn every_filter_is_read_back_as_it_was_written(
        packets in packets(),
        flower: bool,
        redirect: bool,
        number: u32,
    ) {
        let filter = Filter {
            place: Place {
                info: info(5, ethernet_type(packets.address)),
                ..place(Handle::NONE, Handle::new(1, 0))
            },
            classifier: if flower { Classifier::Flower } else { Classifier::U32 },
            packets: Some(packets),
            target: if redirect {
                Target::Redirect(number)
            } else {
                Target::Class(Handle::from_raw(number))
            },
            bucket: None,
        };
        prop_assert_eq!(Filter::read(&filter.message()), Some(filter));
    }

    #[test]
    fn bytes_from_anywhere_are_refused_or_read_but_never_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        kind in prop::sample::select(vec!["htb", "tbf", "netem", "fq", "pie", "u32", "flower"]),
        options in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        let _ = (Qdisc::read(&bytes), Class::read(&bytes), Filter::read(&bytes));
        let mut writer = Writer::default();
        place(Handle::ROOT, Handle::ROOT).write(&mut writer);
        writer.text(KIND, kind).attribute(OPTIONS, &options).attribute(STATS2, &options);
        let message = writer.into_bytes();
        let _ = (Qdisc::read(&message), Class::read(&message), Filter::read(&message));
    }
}
