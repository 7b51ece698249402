//! How long the queue may be, and who goes when it is full.

use super::*;

#[test]
fn only_what_still_waits_counts_against_the_queue() {
    let rows = [(1000 * MS, state(8_000_000, 50 * MS))];
    let mut bench = bench(EndPolicy::Hold, &rows, drop_tail(2000));
    for arrival_ns in [0, 0, 0, MS] {
        bench.send(arrival_ns, 1000);
    }
    assert_eq!(bench.dropped, 1);
    assert_eq!(bench.due_times(), [51 * MS, 52 * MS, 53 * MS]);
}

#[test]
fn the_trace_may_set_the_queue() {
    let limited = LinkState {
        queue_bytes: 1000,
        ..state(8_000_000, 0)
    };
    let rows = [(1000 * MS, limited)];
    for settings in [
        ENDLESS,
        LinkSettings {
            queue: QueueLimit::Packets(50),
            ..ENDLESS
        },
    ] {
        let mut bench = bench(EndPolicy::Hold, &rows, settings);
        bench.send(0, 1000);
        bench.send(0, 1000);
        assert_eq!(bench.dropped, 1);
        assert_eq!(bench.due_times(), [MS]);
    }
}

#[test]
fn a_queue_in_packets_counts_them_whatever_their_size() {
    let settings = LinkSettings {
        queue: QueueLimit::Packets(3),
        ..ENDLESS
    };
    let rows = [(1000 * MS, state(8_000_000, 0))];
    let mut bench = bench(EndPolicy::Hold, &rows, settings);
    for bytes in [1500, 40, 1000, 40] {
        bench.send(0, bytes);
    }
    assert_eq!((bench.taken.len(), bench.dropped), (3, 1));
    // The first is through after 1.5 ms.
    bench.send(3 * MS / 2, 40);
    assert_eq!((bench.taken.len(), bench.dropped), (4, 1));
}

#[test]
fn drop_head_gives_the_place_of_the_oldest_that_waits_to_the_newest() {
    let settings = LinkSettings {
        discipline: QueueDiscipline::DropHead,
        ..drop_tail(3000)
    };
    let rows = [(1000 * MS, state(8_000_000, 0))];
    let mut bench = bench(EndPolicy::Hold, &rows, settings);
    for _ in 0..5 {
        bench.send(0, 1000);
    }
    bench.run(10 * MS);
    // The first is being sent and stays; the second and the third went for the fourth and fifth.
    assert_eq!(bench.discarded, [1, 2]);
    assert_eq!(bench.dropped, 0);
    assert_eq!(bench.left, [(0, MS), (3, 2 * MS), (4, 3 * MS)]);
}

#[test]
fn drop_head_drops_what_comes_only_if_nothing_else_can_go() {
    let settings = LinkSettings {
        discipline: QueueDiscipline::DropHead,
        ..drop_tail(1500)
    };
    let rows = [(1000 * MS, state(8_000_000, 0))];
    let mut bench = bench(EndPolicy::Hold, &rows, settings);
    bench.send(0, 1000);
    bench.send(0, 1000);
    bench.send(0, 400);
    bench.send(0, 400);
    bench.run(10 * MS);
    assert_eq!((bench.dropped, &bench.discarded[..]), (1, &[1][..]));
    assert_eq!(bench.left.len(), 2);
}

proptest! {
    #[test]
    fn the_queue_never_holds_more_than_it_may(
        rows in rows(),
        packets in packets(200),
        head: bool,
        queue_bytes in 1500_u64..60_000,
        most_packets in 1_u32..50,
        in_packets: bool,
    ) {
        let rows = without_delay(rows);
        let queue = if in_packets {
            QueueLimit::Packets(most_packets)
        } else {
            QueueLimit::Bytes(queue_bytes)
        };
        let discipline =
            if head { QueueDiscipline::DropHead } else { QueueDiscipline::DropTail };
        let settings = LinkSettings { queue, discipline, ..ENDLESS };
        let mut bench = bench(EndPolicy::Hold, &rows, settings);
        let mut now_ns = 0;
        for (gap_ns, bytes) in packets {
            now_ns += gap_ns;
            bench.wake(now_ns);
            bench.send(now_ns, bytes);
            bench.wake(now_ns);
            let gone: Vec<u32> =
                bench.left.iter().map(|(slot, _)| *slot).chain(bench.discarded.clone()).collect();
            let held: Vec<u64> = bench
                .taken
                .iter()
                .zip(0_u32..)
                .filter(|(_, slot)| !gone.contains(slot))
                .map(|((_, bytes), _)| *bytes)
                .collect();
            prop_assert_eq!(held.iter().sum::<u64>(), bench.shaper.held_bytes());
            match queue {
                QueueLimit::Packets(most) => {
                    prop_assert!(held.len() <= usize::try_from(most).unwrap());
                }
                QueueLimit::Bytes(most) => prop_assert!(held.iter().sum::<u64>() <= most),
            }
        }
    }
}
