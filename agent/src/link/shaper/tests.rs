use hexloop_traces::{
    CapacityCurve, Direction, EndPolicy, LinkState, PlaybackChange, QueueDiscipline,
};
use proptest::prelude::*;

use super::*;
use crate::link::testing::{MS, state, trace};

mod codel;
mod cost;
mod opportunities;
mod pie;
mod playback;
mod queue;

/// A shaper with the packets that went into it.
struct Bench {
    shaper: Shaper,
    books: WindowBooks,
    /// Arrival and bytes of every packet that was taken in; its slot is its index.
    taken: Vec<(u64, u64)>,
    lost: u64,
    dropped: u64,
    discarded: Vec<u32>,
    marked: Vec<u32>,
    corrupted: Vec<u32>,
    /// Slot and due time, in the order of departure.
    left: Vec<(u32, u64)>,
}

fn bench(end: EndPolicy, rows: &[(u64, LinkState)], settings: LinkSettings) -> Bench {
    seeded(1, end, rows, settings)
}

fn seeded(seed: u64, end: EndPolicy, rows: &[(u64, LinkState)], settings: LinkSettings) -> Bench {
    let curve = CapacityCurve::new(&trace(end, rows), Direction::Down);
    let setup = ShaperSetup {
        mtu: 1500,
        most_packets: 10_000,
        seed,
        purpose: "test",
        granted: false,
    };
    Bench {
        shaper: Shaper::new(Schedule::new(curve), settings, setup),
        books: WindowBooks::new(10 * MS, 1000 * MS),
        taken: Vec::new(),
        lost: 0,
        dropped: 0,
        discarded: Vec::new(),
        marked: Vec::new(),
        corrupted: Vec::new(),
        left: Vec::new(),
    }
}

impl Bench {
    fn send(&mut self, arrival_ns: u64, bytes: u32) {
        self.send_as(arrival_ns, bytes, false);
    }

    fn send_as(&mut self, arrival_ns: u64, bytes: u32, ecn_capable: bool) {
        let copies = match self.shaper.arrive(arrival_ns, &mut self.books) {
            Arrival::Lost => {
                self.lost += 1;
                0
            }
            Arrival::Arrives { duplicated } => 1 + u8::from(duplicated),
        };
        for _ in 0..copies {
            let packet = Packet {
                slot: u32::try_from(self.taken.len()).unwrap(),
                ip_bytes: bytes,
                arrival_ns,
                ecn_capable,
            };
            match self.shaper.enqueue(packet, &mut self.books) {
                Admission::Dropped => self.dropped += 1,
                Admission::Taken { corrupt } => {
                    self.corrupted.extend(corrupt.map(|_| packet.slot));
                    self.taken.push((arrival_ns, u64::from(bytes)));
                }
            }
            self.obey();
        }
    }

    fn obey(&mut self) {
        while let Some(edit) = self.shaper.next_edit() {
            match edit {
                Edit::Discard { slot } => self.discarded.push(slot),
                Edit::Mark { slot } => self.marked.push(slot),
            }
        }
    }

    /// Goes on to `now_ns` as a relay does that wakes up exactly when it asked to.
    fn run(&mut self, now_ns: u64) {
        while let Some(look_ns) = self.shaper.next_look_ns()
            && look_ns <= now_ns
        {
            self.wake(look_ns);
        }
        self.wake(now_ns);
    }

    /// Looks once, at `now_ns`.
    fn wake(&mut self, now_ns: u64) {
        self.shaper.advance(now_ns, &mut self.books);
        while let Some(departure) = self.shaper.pop_due(now_ns) {
            self.left.push((departure.slot, departure.due_ns));
        }
        self.obey();
    }

    /// The due times of everything, once all is over.
    fn due_times(&mut self) -> Vec<u64> {
        self.run(u64::MAX - 1);
        self.left.iter().map(|(_, due_ns)| *due_ns).collect()
    }

    fn intervene(&mut self, at_ns: u64, change: PlaybackChange) -> u64 {
        self.shaper.change(at_ns, LinkChange::Play(change))
    }
}

const fn drop_tail(queue_bytes: u64) -> LinkSettings {
    LinkSettings::drop_tail(queue_bytes)
}

const ENDLESS: LinkSettings = drop_tail(u64::MAX / 2);

#[test]
fn packets_queue_behind_each_other_and_arrive_a_delay_later() {
    // 1000 bytes at 8 Mbit/s take 1 ms.
    let rows = [(1000 * MS, state(8_000_000, 5 * MS))];
    let mut bench = bench(EndPolicy::Hold, &rows, ENDLESS);
    bench.send(0, 1000);
    bench.send(0, 1000);
    bench.send(10 * MS, 500);
    assert_eq!(bench.due_times(), [6 * MS, 7 * MS, 15 * MS + MS / 2]);
}

#[test]
fn a_packet_in_flight_feels_a_rate_change_exactly() {
    let rows = [
        (MS / 2, state(8_000_000, 0)),
        (999 * MS, state(16_000_000, 0)),
    ];
    let mut bench = bench(EndPolicy::Hold, &rows, ENDLESS);
    bench.send(0, 1000);
    assert_eq!(bench.due_times(), [MS / 2 + MS / 4]);
}

#[test]
fn an_outage_holds_packets_and_lets_them_go_in_order() {
    let rows = [
        (MS, state(8_000_000, 0)),
        (100 * MS, state(0, 0)),
        (MS * 900, state(8_000_000, 0)),
    ];
    let mut bench = bench(EndPolicy::Hold, &rows, ENDLESS);
    bench.send(50 * MS, 1000);
    bench.send(60 * MS, 1000);
    assert_eq!(bench.due_times(), [102 * MS, 103 * MS]);
}

#[test]
fn an_outage_without_end_keeps_its_packets() {
    let mut bench = bench(EndPolicy::Hold, &[(MS, state(0, 0))], drop_tail(2000));
    for _ in 0..3 {
        bench.send(0, 1000);
    }
    assert_eq!(bench.dropped, 1);
    assert!(bench.due_times().is_empty());
    assert_eq!(bench.shaper.next_look_ns(), Some(u64::MAX));
    let given_up: Vec<u32> = std::iter::from_fn(|| bench.shaper.give_up_next()).collect();
    assert_eq!(given_up, [0, 1]);
}

#[test]
fn a_transparent_link_delivers_at_once_and_never_counts_as_backlogged() {
    let rows = [(1000 * MS, LinkState::TRANSPARENT)];
    let mut bench = bench(EndPolicy::Hold, &rows, drop_tail(2000));
    for moment in 0..100 {
        bench.send(moment, 1500);
        bench.wake(moment);
        assert_eq!(bench.left.last().unwrap().1, moment);
    }
    let Bench { shaper, books, .. } = &mut bench;
    assert!(shaper.close_window(20 * MS, books).unwrap().1.idle);
}

#[test]
fn a_window_is_backlogged_only_if_the_queue_never_ran_dry_in_it() {
    // Each packet takes 4 ms; they come every 4 ms from 2 ms to 30 ms, then no more.
    let rows = [(1000 * MS, state(2_000_000, 0))];
    let mut bench = bench(EndPolicy::Hold, &rows, ENDLESS);
    for packet in 0..8 {
        bench.send((2 + 4 * packet) * MS, 1000);
    }
    let mut idle = Vec::new();
    let Bench { shaper, books, .. } = &mut bench;
    while let Some((_, book)) = shaper.close_window(60 * MS, books) {
        idle.push(book.idle);
    }
    assert_eq!(idle, [true, false, false, true, true]);
}

fn jittery(reorder: bool) -> Vec<(u64, u64)> {
    let jittery = LinkState {
        jitter_ns: 5_000_000,
        ..state(8_000_000_000, 10 * MS)
    };
    let settings = LinkSettings { reorder, ..ENDLESS };
    let mut bench = bench(EndPolicy::Hold, &[(10_000 * MS, jittery)], settings);
    for packet in 0..2000 {
        bench.send(packet * MS, 1000);
    }
    bench.due_times();
    let Bench { left, taken, .. } = bench;
    left.into_iter()
        .map(|(slot, due_ns)| (taken[usize::try_from(slot).unwrap()].0, due_ns))
        .collect()
}

#[test]
fn jitter_stays_within_its_width_and_keeps_order() {
    let passages = jittery(false);
    assert_eq!(passages.len(), 2000);
    assert!(passages.is_sorted());
    for (arrival_ns, due_ns) in passages {
        let delay_ns = due_ns - arrival_ns;
        assert!((5 * MS..=15 * MS + 2000).contains(&delay_ns), "{delay_ns}");
    }
}

#[test]
fn jitter_reorders_on_request_and_packets_leave_when_they_are_due() {
    let passages = jittery(true);
    assert_eq!(passages.len(), 2000);
    assert!(passages.is_sorted_by_key(|(_, due_ns)| *due_ns));
    assert!(!passages.is_sorted_by_key(|(arrival_ns, _)| *arrival_ns));
    let delays: Vec<u64> = passages
        .iter()
        .map(|(arrival_ns, due_ns)| due_ns - arrival_ns)
        .collect();
    assert!(
        delays
            .iter()
            .all(|delay_ns| (5 * MS..=15 * MS + 2000).contains(delay_ns))
    );
    let mean = delays.iter().sum::<u64>() / 2000;
    assert!(mean.abs_diff(10 * MS) < MS / 3, "{mean}");
}

#[test]
fn loss_duplication_and_corruption_have_the_asked_shares_and_reach_the_books() {
    let unlucky = LinkState {
        loss_ppb: 100_000_000,
        dup_ppb: 200_000_000,
        corrupt_ppb: 50_000_000,
        ..state(8_000_000_000, 0)
    };
    let mut bench = bench(EndPolicy::Hold, &[(60_000 * MS, unlucky)], ENDLESS);
    for packet in 0..20_000 {
        bench.send(packet * MS / 1000, 100);
    }
    let taken = u64::try_from(bench.taken.len()).unwrap();
    let duplicated = taken + bench.lost - 20_000;
    let corrupted = u64::try_from(bench.corrupted.len()).unwrap();
    assert!(bench.lost.abs_diff(2000) < 200, "{}", bench.lost);
    assert!(duplicated.abs_diff(3600) < 250, "{duplicated}");
    assert!(corrupted.abs_diff(taken / 20) < 150, "{corrupted}");
    assert_eq!(bench.due_times().len(), bench.taken.len());
    let (mut lost, mut twice, mut damaged) = (0, 0, 0);
    let Bench { shaper, books, .. } = &mut bench;
    for _ in 0..10 {
        let (_, book) = shaper.close_window(60_000 * MS, books).unwrap();
        lost += book.lost;
        twice += book.duplicated;
        damaged += book.corrupted;
    }
    assert_eq!((lost, twice, damaged), (bench.lost, duplicated, corrupted));
}

#[test]
fn a_duplicate_takes_capacity_of_its_own_and_follows_at_once() {
    let twice = LinkState {
        dup_ppb: 1_000_000_000,
        ..state(8_000_000, 0)
    };
    let mut bench = bench(EndPolicy::Hold, &[(1000 * MS, twice)], ENDLESS);
    bench.send(0, 1000);
    bench.send(0, 500);
    assert_eq!(bench.due_times(), [MS, 2 * MS, 5 * MS / 2, 3 * MS]);
}

#[test]
fn nothing_is_allocated_once_the_shaper_is_made() {
    let lively = LinkState {
        jitter_ns: 3_000_000,
        dup_ppb: 100_000_000,
        corrupt_ppb: 100_000_000,
        ..state(50_000_000, 5 * MS)
    };
    let settings = LinkSettings {
        discipline: QueueDiscipline::CODEL,
        ecn: true,
        reorder: true,
        ..ENDLESS
    };
    let mut bench = bench(EndPolicy::Hold, &[(1000 * MS, lively)], settings);
    let before = bench.shaper.capacities();
    for packet in 0..8000 {
        bench.send_as(packet * MS / 5, 1500, packet % 2 == 0);
        bench.wake(packet * MS / 5);
    }
    assert!(bench.marked.len() > 10 && bench.discarded.len() > 10);
    assert_eq!(bench.shaper.capacities(), before);
}

fn rows() -> impl Strategy<Value = Vec<(u64, LinkState)>> {
    let rate = prop_oneof![Just(0_u64), 100_000_u64..200_000_000];
    let row = (1_000_u64..50_000_000, rate, 0_u64..30_000_000)
        .prop_map(|(length, rate, delay)| (length, state(rate, delay)));
    (
        prop::collection::vec(row, 1..12),
        1_000_000_u64..100_000_000,
    )
        .prop_map(|(mut rows, rate)| {
            rows.push((1_000_000, state(rate, 0)));
            rows
        })
}

fn packets(most: usize) -> impl Strategy<Value = Vec<(u64, u32)>> {
    prop::collection::vec((0_u64..3_000_000, 40_u32..1500), 1..most)
}

fn discipline() -> impl Strategy<Value = QueueDiscipline> {
    prop_oneof![
        Just(QueueDiscipline::DropTail),
        Just(QueueDiscipline::DropHead),
        Just(QueueDiscipline::CODEL),
        Just(QueueDiscipline::PIE),
        Just(QueueDiscipline::Codel {
            target_ns: MS,
            interval_ns: 2 * MS
        }),
    ]
}

fn settings() -> impl Strategy<Value = LinkSettings> {
    let queue = prop_oneof![
        (1500_u64..60_000).prop_map(QueueLimit::Bytes),
        (1_u32..60).prop_map(QueueLimit::Packets),
    ];
    let service = prop_oneof![
        Just(Service::Fluid),
        (62_500_u64..3_000_000).prop_map(|slot_ns| Service::Opportunities { slot_ns }),
    ];
    (queue, discipline(), any::<bool>(), service, any::<bool>()).prop_map(
        |(queue, discipline, ecn, service, reorder)| LinkSettings {
            queue,
            discipline,
            ecn,
            service,
            reorder,
        },
    )
}

fn without_delay(rows: Vec<(u64, LinkState)>) -> Vec<(u64, LinkState)> {
    let without = |(length_ns, row): (u64, LinkState)| (length_ns, state(row.rate_bps, 0));
    rows.into_iter().map(without).collect()
}

proptest! {
    #[test]
    fn no_packet_appears_or_vanishes_whatever_the_settings(
        rows in rows(),
        packets in packets(200),
        settings in settings(),
        luck in (0_u32..300_000_000, 0_u32..300_000_000, 0_u32..9_000_000),
    ) {
        let (loss_ppb, dup_ppb, jitter_ns) = luck;
        let rows: Vec<_> = rows
            .into_iter()
            .map(|(length_ns, row)| (length_ns, LinkState { loss_ppb, dup_ppb, jitter_ns, ..row }))
            .collect();
        let mut bench = bench(EndPolicy::Hold, &rows, settings);
        let mut now_ns = 0;
        for (gap_ns, bytes) in packets {
            now_ns += gap_ns;
            bench.send_as(now_ns, bytes, bytes % 2 == 0);
        }
        bench.run(u64::MAX - 1);
        let mut slots: Vec<u32> = bench.left.iter().map(|(slot, _)| *slot).collect();
        prop_assert!(bench.left.is_sorted_by_key(|(_, due_ns)| *due_ns));
        prop_assert!(settings.reorder || slots.is_sorted());
        slots.extend(&bench.discarded);
        slots.sort_unstable();
        let taken = u32::try_from(bench.taken.len()).unwrap();
        prop_assert_eq!(slots, (0..taken).collect::<Vec<_>>());
        for (slot, due_ns) in &bench.left {
            prop_assert!(*due_ns >= bench.taken[usize::try_from(*slot).unwrap()].0);
        }
        prop_assert!(settings.ecn || bench.marked.is_empty());
        for slot in &bench.marked {
            prop_assert!(bench.taken[usize::try_from(*slot).unwrap()].1.is_multiple_of(2));
        }
    }

    #[test]
    fn the_link_never_carries_more_than_the_integral(
        rows in rows(),
        packets in packets(300),
        settings in settings(),
    ) {
        // Delays are put aside so that due times are ends of serialisation.
        let rows = without_delay(rows);
        let curve = CapacityCurve::new(&trace(EndPolicy::Hold, &rows), Direction::Down);
        let mut bench = bench(EndPolicy::Hold, &rows, settings);
        let mut now_ns = 0;
        for (gap_ns, bytes) in packets {
            now_ns += gap_ns;
            bench.send(now_ns, bytes);
        }
        bench.run(u64::MAX - 1);
        let slot_ns = match settings.service {
            Service::Fluid => 1,
            Service::Opportunities { slot_ns } => slot_ns,
        };
        // Between the arrival of any packet and the end of any later one, the bits of all that
        // were sent in between fit; an opportunity counts from the start of its slot.
        let mut finish_ns = 0;
        let (mut run_start_ns, mut run_bits) = (0, 0);
        for &(slot, due_ns) in &bench.left {
            let (arrival_ns, bytes) = bench.taken[usize::try_from(slot).unwrap()];
            if arrival_ns > finish_ns {
                (run_start_ns, run_bits) = (arrival_ns / slot_ns * slot_ns, 0);
            }
            run_bits += bytes * 8;
            let allowed = curve.bits_between(run_start_ns, due_ns);
            prop_assert!(run_bits <= allowed, "{} > {}", run_bits, allowed);
            prop_assert!(due_ns % slot_ns == 0 && due_ns >= finish_ns);
            finish_ns = due_ns;
        }
    }

    #[test]
    fn a_late_wake_up_changes_nothing_but_lateness(
        rows in rows(),
        packets in packets(150),
        settings in settings(),
        naps in prop::collection::vec(0_u64..20_000_000, 150),
    ) {
        let rows: Vec<_> = rows
            .into_iter()
            .map(|(length_ns, row)| (length_ns, LinkState { jitter_ns: 1_000_000, ..row }))
            .collect();
        let mut punctual = bench(EndPolicy::Hold, &rows, settings);
        let mut late = bench(EndPolicy::Hold, &rows, settings);
        let mut now_ns = 0;
        let mut asleep_until_ns = 0;
        for ((gap_ns, bytes), nap_ns) in packets.into_iter().zip(naps) {
            now_ns += gap_ns;
            punctual.run(now_ns.saturating_sub(1));
            punctual.send_as(now_ns, bytes, bytes % 2 == 0);
            if now_ns >= asleep_until_ns {
                late.wake(now_ns.saturating_sub(1));
                asleep_until_ns = now_ns + nap_ns;
            }
            late.send_as(now_ns, bytes, bytes % 2 == 0);
        }
        punctual.run(u64::MAX - 1);
        late.wake(u64::MAX - 1);
        prop_assert_eq!(&punctual.left, &late.left);
        prop_assert_eq!(&punctual.taken, &late.taken);
        punctual.discarded.sort_unstable();
        late.discarded.sort_unstable();
        prop_assert_eq!(&punctual.discarded, &late.discarded);
        punctual.marked.sort_unstable();
        late.marked.sort_unstable();
        prop_assert_eq!(&punctual.marked, &late.marked);
    }

    #[test]
    fn a_relay_that_wakes_when_it_asked_to_is_never_late(
        rows in rows(),
        packets in packets(150),
        settings in settings(),
    ) {
        let mut bench = bench(EndPolicy::Hold, &rows, settings);
        let mut now_ns = 0;
        for (gap_ns, bytes) in packets {
            now_ns += gap_ns;
            bench.send(now_ns, bytes);
        }
        while let Some(look_ns) = bench.shaper.next_look_ns() {
            let before = bench.left.len();
            bench.wake(look_ns);
            for (_, due_ns) in &bench.left[before..] {
                prop_assert!(*due_ns >= now_ns.min(look_ns) && *due_ns <= look_ns.max(now_ns));
                prop_assert!(look_ns <= now_ns || *due_ns == look_ns);
            }
        }
    }

    #[test]
    fn a_backlogged_link_delivers_the_exact_total(rows in rows(), count in 2_u64..200) {
        let rows = without_delay(rows);
        let curve = CapacityCurve::new(&trace(EndPolicy::Hold, &rows), Direction::Down);
        let mut bench = bench(EndPolicy::Hold, &rows, ENDLESS);
        for _ in 0..count {
            bench.send(0, 1250);
        }
        let ideal = curve.finish_ns(0, count * 10_000).unwrap();
        let last_ns = bench.due_times().last().copied();
        prop_assert_eq!(last_ns, Some(ideal));
    }

    #[test]
    fn the_same_seed_gives_the_same_fates_and_another_one_others(
        packets in packets(100),
        seed in 0_u64..1000,
    ) {
        let unlucky = LinkState {
            loss_ppb: 300_000_000,
            dup_ppb: 300_000_000,
            corrupt_ppb: 300_000_000,
            jitter_ns: 5_000_000,
            ..state(20_000_000, 5 * MS)
        };
        let play = |seed| {
            let rows = [(1000 * MS, unlucky)];
            let settings = LinkSettings { reorder: true, ..ENDLESS };
            let mut bench = seeded(seed, EndPolicy::Hold, &rows, settings);
            let mut now_ns = 0;
            for (gap_ns, bytes) in &packets {
                now_ns += gap_ns;
                bench.send(now_ns, *bytes);
            }
            bench.run(u64::MAX - 1);
            (bench.left, bench.corrupted)
        };
        prop_assert_eq!(play(seed), play(seed));
        if packets.len() > 60 {
            prop_assert_ne!(play(seed), play(seed + 1));
        }
    }

    #[test]
    fn due_times_are_the_delay_after_the_end_of_serialisation_kept_in_order(
        rows in rows(),
        packets in packets(200),
    ) {
        let mut plain = bench(EndPolicy::Hold, &without_delay(rows.clone()), ENDLESS);
        let curve = CapacityCurve::new(&trace(EndPolicy::Hold, &rows), Direction::Down);
        let mut bench = bench(EndPolicy::Hold, &rows, ENDLESS);
        let mut now_ns = 0;
        for (gap_ns, bytes) in packets {
            now_ns += gap_ns;
            plain.send(now_ns, bytes);
            bench.send(now_ns, bytes);
        }
        let mut expected_ns = 0;
        let ends = plain.due_times();
        let dues = bench.due_times();
        prop_assert_eq!(ends.len(), dues.len());
        for (finish_ns, due_ns) in ends.into_iter().zip(dues) {
            expected_ns = expected_ns.max(finish_ns + curve.state_at(finish_ns).delay_ns);
            prop_assert_eq!(due_ns, expected_ns);
        }
    }
}
