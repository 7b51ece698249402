//! What kernels say of what they were told, as they were captured.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::link::tc::codec::filter::{Filter, Match, Side, Target, Transport, info};
use crate::link::tc::codec::htb::TbfBurst;
use crate::link::tc::codec::netem::Loss;
use crate::link::tc::codec::statistics::QueueStatistics;

/// Dumps of two kernels, of what iproute2 (6.1) made by the commands that the tests below name.
const KERNELS: [(&str, &str); 2] = [
    ("6.18", include_str!("../fixtures/linux-6.18.44.txt")),
    ("7.2", include_str!("../fixtures/linux-7.2.txt")),
];

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks_exact(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.map(byte).collect()
}

/// The messages of a case, per kernel that has what it needs.
fn captured(case: &str, kind: u16) -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let mut found = Vec::new();
    for (kernel, text) in KERNELS {
        let messages = text.lines().filter(|line| !line.starts_with('#'));
        let messages = messages.filter_map(|line| {
            let [name, number, bytes] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{line}");
            };
            (name == case && number == kind.to_string()).then(|| unhex(bytes))
        });
        let messages: Vec<_> = messages.collect();
        if !messages.is_empty() {
            found.push((kernel, messages));
        }
    }
    found
}

/// Decodes a case's discipline with this parent on every kernel that has it.
fn assert_captured(case: &str, parent: Handle, kernels: usize, expected: &Discipline) {
    let captured = captured(case, NEW_QDISC);
    assert_eq!(captured.len(), kernels, "{case}");
    for (kernel, messages) in captured {
        let found = messages.iter().filter_map(|message| Qdisc::read(message));
        let found = found.filter(|qdisc| qdisc.place.parent == parent);
        let found: Vec<_> = found.map(|qdisc| qdisc.discipline).collect();
        assert_eq!(found, std::slice::from_ref(expected), "{case} of {kernel}");
    }
}

#[test]
fn kernels_say_what_they_were_told_about_fifos_and_buckets() {
    let htb = |default_class, direct_queue| {
        Discipline::Htb(Htb {
            default_class,
            rate_to_quantum: 10,
            direct_queue: Some(direct_queue),
        })
    };
    // htb default 2 r2q 10 direct_qlen 77
    assert_captured("htb", Handle::ROOT, 2, &htb(2, 77));
    assert_captured("bfifo", Handle::new(1, 1), 2, &Discipline::Bfifo(30_000));
    assert_captured("pfifo", Handle::ROOT, 2, &Discipline::Pfifo(77));
    let head = Discipline::PfifoHeadDrop(78);
    assert_captured("pfifo_head_drop", Handle::ROOT, 2, &head);
    assert_captured("clsact", Handle::INGRESS, 2, &Discipline::Clsact);
    // tbf rate 40gbit burst 64000 limit 90000: the burst takes 12.8 us, a tick less as
    // iproute2 rounds.
    let tbf = Discipline::Tbf(Tbf {
        rate: 5_000_000_000,
        peak_rate: 0,
        limit: 90_000,
        burst: TbfBurst::Ticks(199),
        peak_ticks: 0,
    });
    assert_captured("tbf", Handle::ROOT, 2, &tbf);
}

#[test]
fn kernels_say_what_they_were_told_about_classes_and_size_tables() {
    // rate 10mbit ceil 40gbit burst 3000 cburst 40000 quantum 3028 prio 3
    for (kernel, messages) in captured("htb", NEW_CLASS) {
        let class = Class::read(&messages[0]).unwrap();
        assert_eq!(class.place.handle, Handle::new(1, 1));
        let htb = HtbClass {
            rate: 1_250_000,
            ceil: 5_000_000_000,
            // 3000 bytes at 10 Mbit/s take 2.4 ms, 40000 at 40 Gbit/s 8 us.
            buffer_ticks: 37_500,
            ceil_buffer_ticks: 125,
            quantum: 3028,
            priority: 3,
        };
        assert_eq!(class.htb, htb, "{kernel}");
        let tokens = class.tokens.unwrap();
        assert_eq!(
            (tokens.tokens_ticks, tokens.ceil_tokens_ticks),
            (37_500, 125)
        );
        assert_eq!(class.statistics, Some(Statistics::default()));
    }
    for (kernel, messages) in captured("stab", NEW_QDISC) {
        let overheads = messages
            .iter()
            .map(|message| Qdisc::read(message).unwrap().overhead);
        assert!(
            overheads.into_iter().any(|found| found == Some(-14)),
            "{kernel}"
        );
    }
    assert_eq!(captured("htb", NEW_CLASS).len(), 2);
}

/// `share` percent of 2^32 - 1, as iproute2 rounds it.
fn near(probability: u32, percent: f64) -> bool {
    (f64::from(probability) / f64::from(u32::MAX) * 100.0 - percent).abs() < 1e-6
}

#[test]
fn a_kernel_says_what_it_was_told_about_netem() {
    let [(_, messages)] = &captured("netem", NEW_QDISC)[..] else {
        panic!("one kernel has netem");
    };
    let Discipline::Netem(netem) = Qdisc::read(&messages[0]).unwrap().discipline else {
        panic!("netem");
    };
    // limit 500 delay 5ms 1ms loss 1% duplicate 2% corrupt 3% reorder 4% gap 5 rate 40gbit
    assert_eq!((netem.delay_ns, netem.jitter_ns), (5_000_000, 1_000_000));
    assert_eq!((netem.limit, netem.gap), (500, 5));
    let Loss::Random(loss) = netem.loss else {
        panic!("{netem:?}");
    };
    let chances = [loss, netem.duplicate, netem.corrupt, netem.reorder];
    for (chance, percent) in chances.into_iter().zip([1.0, 2.0, 3.0, 4.0]) {
        assert!(near(chance.probability, percent), "{netem:?}");
    }
    assert_eq!(netem.rate.bytes_per_s, 5_000_000_000);
    assert!(netem.seed.is_some());

    let [(_, messages)] = &captured("netem_gemodel", NEW_QDISC)[..] else {
        panic!("one kernel has netem");
    };
    let Discipline::Netem(netem) = Qdisc::read(&messages[0]).unwrap().discipline else {
        panic!("netem");
    };
    // delay 5us loss gemodel 1% 25% 0% 0% slot 3ms 4ms packets 6 bytes 9000
    // iproute2 6.1 rounds to ticks of 64 ns.
    assert_eq!(netem.delay_ns, 4_992);
    let Loss::GilbertElliott { enter, leave, .. } = netem.loss else {
        panic!("{netem:?}");
    };
    assert!(near(enter, 1.0) && near(leave, 25.0), "{netem:?}");
    let slot = netem.slot.unwrap();
    assert_eq!(
        (slot.least_delay_ns, slot.most_delay_ns),
        (3_000_000, 4_000_000)
    );
    assert_eq!((slot.most_packets, slot.most_bytes), (6, 9000));
}

#[test]
fn a_kernel_says_what_it_was_told_about_managed_queues() {
    let fq = Discipline::Fq(Fq {
        limit_packets: 5000,
        flow_limit_packets: 70,
        quantum: 3028,
        initial_quantum: 15_140,
        flow_max_rate: 100_000_000,
        horizon_us: 10_000_000,
        horizon_drop: true,
    });
    assert_captured("fq", Handle::ROOT, 1, &fq);
    // Kernels keep CoDel's times in units of 1.024 us.
    let codel = |target_us, interval_us| Codel {
        target_us,
        limit_packets: 500,
        interval_us,
        ecn: true,
    };
    let fair = FqCodel {
        codel: codel(5000, 100_000).as_kept(),
        flows: 1,
        quantum: 1514,
    };
    assert_captured("fq_codel", Handle::ROOT, 1, &Discipline::FqCodel(fair));
    let own = Discipline::Codel(codel(6000, 90_000).as_kept());
    assert_captured("codel", Handle::ROOT, 1, &own);
    let pie = Discipline::Pie(Pie {
        target_us: 16_000,
        limit_packets: 500,
        // 14 ms, in the ticks of a kernel with 250 a second.
        update_us: 16_000,
        ecn: true,
    });
    assert_captured("pie", Handle::ROOT, 1, &pie);
}

#[test]
fn a_kernel_says_what_its_disciplines_have_sent_dropped_and_hold() {
    let [(_, messages)] = &captured("traffic", NEW_QDISC)[..] else {
        panic!("one kernel was captured with traffic");
    };
    let found = messages.iter().map(|message| {
        let qdisc = Qdisc::read(message).unwrap();
        (qdisc.discipline.kind().to_owned(), qdisc.statistics)
    });
    let said = |counts: (u64, u64), queue: [u32; 4]| {
        let [packets, backlog_bytes, drops, overlimits] = queue;
        Some(Statistics {
            bytes: counts.0,
            packets: counts.1,
            queue: QueueStatistics {
                packets,
                backlog_bytes,
                drops,
                requeues: 0,
                overlimits,
            },
            rate: None,
        })
    };
    // 50 of 61 datagrams were sent and 11 dropped; five of 1014 bytes wait. One packet of 90 bytes, of a
    // neighbour's search, passed before the class was there. netem lost 34, and six of 514 bytes are delayed.
    let expected = [
        ("htb".to_owned(), said((46_056, 50), [5, 5070, 11, 40])),
        ("bfifo".to_owned(), said((45_966, 49), [5, 5070, 11, 0])),
        ("netem".to_owned(), said((36_830, 75), [6, 3084, 34, 0])),
    ];
    assert_eq!(found.collect::<Vec<_>>(), expected);

    let [(_, messages)] = &captured("traffic", NEW_CLASS)[..] else {
        panic!("one kernel was captured with traffic");
    };
    let class = Class::read(&messages[0]).unwrap();
    let mut statistics = class.statistics.unwrap();
    let rate = statistics.rate.take().unwrap();
    assert_eq!(Some(statistics), said((45_966, 49), [5, 5070, 11, 40]));
    assert_eq!((rate.bytes_per_s, rate.packets_per_s), (26_523, 28));
    // 10 ms of debt in ticks of 64 ns.
    assert_eq!(class.tokens.unwrap().tokens_ticks, -158_436);
}

#[test]
fn kernels_say_what_they_were_told_about_filters() {
    let only = |case: &str| {
        let captured = captured(case, NEW_FILTER);
        let read = captured.into_iter().map(|(kernel, messages)| {
            let filters = messages.iter().filter_map(|message| Filter::read(message));
            let filters: Vec<_> = filters.collect();
            assert_eq!(filters.len(), 1, "{case} of {kernel}");
            filters[0]
        });
        read.collect::<Vec<_>>()
    };
    // protocol ip prio 5 u32 match ip dst 10.1.2.0/24 match ip protocol 17 0xff match ip dport 53 0xffff
    let udp = Match {
        side: Side::Destination,
        address: Ipv4Addr::new(10, 1, 2, 0).into(),
        prefix_bits: 24,
        transport: Some(Transport::Udp),
        port: Some(53),
    };
    let found = only("u32");
    assert_eq!(found.len(), 2);
    for filter in found {
        assert_eq!(filter.packets, Some(udp));
        assert_eq!(filter.target, Target::Class(Handle::new(1, 7)));
        assert_eq!(filter.place.info, info(5, filter::ETH_P_IP));
    }
    // action mirred egress redirect
    let found = only("u32_mirred");
    assert_eq!(found.len(), 2);
    for filter in found {
        assert_eq!(filter.packets, None);
        assert!(matches!(filter.target, Target::Redirect(1..)));
    }
    // handle 9 flower dst_ip fd00::/64 ip_proto tcp dst_port 5001 classid 1:7
    let [flower] = only("flower")[..] else {
        panic!("one kernel has flower");
    };
    let tcp = Match {
        side: Side::Destination,
        address: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0).into(),
        prefix_bits: 64,
        transport: Some(Transport::Tcp),
        port: Some(5001),
    };
    assert_eq!(flower.packets, Some(tcp));
    assert_eq!(flower.place.handle, Handle::from_raw(9));
}
