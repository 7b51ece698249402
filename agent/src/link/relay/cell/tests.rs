use hexloop_traces::{CellPolicy, EndPolicy, LinkSettings, LinkState, UNLIMITED_RATE_BPS};

use super::*;
use crate::link::books::WindowBooks;
use crate::link::shaper::{Admission, Arrival, Packet, Shaper, ShaperSetup, Slot};
use crate::link::testing::{MS, state, trace};

const PACKET_BYTES: u32 = 1250;
const PACKET_BITS: u64 = 10_000;
const POLICIES: [CellPolicy; 3] = [
    CellPolicy::PROPORTIONAL_FAIR,
    CellPolicy::RoundRobin,
    CellPolicy::FixedShare,
];

/// One direction of a user that always has something to send, or never.
struct User {
    shaper: Shaper,
    books: WindowBooks,
    sends: bool,
    next: u32,
    /// When its packets left the link.
    left: Vec<u64>,
}

impl User {
    fn new(rows: &[(u64, LinkState)], sends: bool) -> User {
        let curve = CapacityCurve::new(&trace(EndPolicy::Loop, rows), Direction::Up);
        let setup = ShaperSetup {
            mtu: 1500,
            most_packets: 10_000,
            seed: 1,
            purpose: "test",
            granted: true,
        };
        User {
            shaper: Shaper::new(
                Schedule::new(curve),
                LinkSettings::drop_tail(100_000),
                setup,
            ),
            books: WindowBooks::of_a_cell(10 * MS, 1000 * MS),
            sends,
            next: 0,
            left: Vec::new(),
        }
    }

    fn send(&mut self, at_ns: u64) {
        assert!(matches!(
            self.shaper.arrive(at_ns, &mut self.books),
            Arrival::Arrives { .. }
        ));
        let packet = Packet {
            slot: self.next,
            ip_bytes: PACKET_BYTES,
            arrival_ns: at_ns,
            ecn_capable: false,
        };
        if let Admission::Taken { .. } = self.shaper.enqueue(packet, &mut self.books) {
            self.next += 1;
        }
    }

    fn collect(&mut self, now_ns: u64) {
        self.shaper.advance(now_ns, &mut self.books);
        while let Some(departure) = self.shaper.pop_due(now_ns) {
            self.left.push(departure.due_ns);
        }
    }

    fn left_between(&self, from_ns: u64, to_ns: u64) -> u64 {
        let left = self.left.iter();
        let left = left.filter(|at| (from_ns..to_ns).contains(at)).count();
        u64::try_from(left).unwrap()
    }
}

impl CellUser for User {
    fn demand(&mut self, start: MonotonicNs, end: MonotonicNs) -> (Carried, Carried) {
        let slot = Slot {
            start_ns: start,
            end_ns: end,
        };
        self.shaper.demand(slot, &mut self.books)
    }

    fn grant(&mut self, start: MonotonicNs, end: MonotonicNs, granted: Carried) {
        let slot = Slot {
            start_ns: start,
            end_ns: end,
        };
        self.shaper.grant(slot, granted, &mut self.books);
    }
}

/// Users with an uplink each.
struct Users(Vec<User>);

impl CellUsers for Users {
    fn user(&mut self, link: usize, side: usize) -> Option<&mut dyn CellUser> {
        let user = self.0.get_mut(link).filter(|_| side == 0)?;
        Some(user)
    }
}

fn cell(policy: CellPolicy, weights: &[u32], capacity: Option<Trace>) -> Cell {
    let mut cell = Cell::new(Arc::new(SharedCell {
        settings: CellSettings::new(policy),
        capacity: capacity.map(Arc::new),
    }));
    for (link, &weight) in weights.iter().enumerate() {
        cell.join(link, weight);
    }
    cell.play(0);
    cell
}

/// Plays so many slots of 1 ms with full queues.
fn play(cell: &mut Cell, users: &mut Users, slots: u64) {
    for slot in 0..slots {
        let start = slot * MS;
        for user in &mut users.0 {
            for _ in 0..if user.sends { 100 } else { 0 } {
                user.send(start);
            }
        }
        cell.divide(start, users);
        for user in &mut users.0 {
            user.collect(start + MS);
        }
    }
}

fn constant(rate_bps: u64) -> Vec<(u64, LinkState)> {
    vec![(1000 * MS, state(rate_bps, 0))]
}

/// Packets of each user that left after the first second of five.
fn packets(policy: CellPolicy, weights: &[u32], rates_bps: &[u64]) -> Vec<u64> {
    let user = |&rate_bps: &u64| User::new(&constant(rate_bps), rate_bps > 0);
    let mut users = Users(rates_bps.iter().map(user).collect());
    play(&mut cell(policy, weights, None), &mut users, 5000);
    let left = users.0.iter();
    left.map(|user| user.left_between(1000 * MS, 5000 * MS))
        .collect()
}

fn close(found: u64, expected: u64) -> bool {
    // A slot of one user is ten packets here.
    found.abs_diff(expected) <= 10 + expected / 200
}

#[test]
fn users_with_equal_channels_get_equal_shares_under_every_policy() {
    for policy in POLICIES {
        let got = packets(policy, &[1; 4], &[100_000_000; 4]);
        assert!(
            got.iter().all(|&got| close(got, 10_000)),
            "{policy}: {got:?}"
        );
    }
}

#[test]
fn fixed_shares_are_those_of_the_weights() {
    let got = packets(CellPolicy::FixedShare, &[1, 3], &[100_000_000; 2]);
    assert!(close(got[0], 10_000) && close(got[1], 30_000), "{got:?}");
}

#[test]
fn users_with_unequal_channels_share_time_under_every_policy() {
    for policy in POLICIES {
        let got = packets(policy, &[1; 2], &[30_000_000, 90_000_000]);
        assert!(
            close(got[0], 6000) && close(got[1], 18_000),
            "{policy}: {got:?}"
        );
    }
}

#[test]
fn what_an_idle_user_does_not_need_goes_to_the_others() {
    for policy in POLICIES {
        let mut users = Users(vec![
            User::new(&constant(100_000_000), true),
            User::new(&constant(100_000_000), true),
            User::new(&constant(100_000_000), false),
        ]);
        play(&mut cell(policy, &[1, 1, 8], None), &mut users, 5000);
        for user in &users.0[..2] {
            let got = user.left_between(1000 * MS, 5000 * MS);
            assert!(close(got, 20_000), "{policy}: {got}");
        }
    }
}

#[test]
fn all_users_together_get_what_the_trace_of_the_cell_gives() {
    let steps: Vec<_> = [40_000_000, 120_000_000, 0, 75_500_000]
        .map(|rate_bps| (7 * MS, state(rate_bps, 0)))
        .into();
    let asked = CapacityCurve::new(&trace(EndPolicy::Loop, &steps), Direction::Up);
    for policy in POLICIES {
        let own = constant(UNLIMITED_RATE_BPS);
        let mut users = Users((0..3).map(|_| User::new(&own, true)).collect());
        let capacity = Some(trace(EndPolicy::Loop, &steps));
        play(&mut cell(policy, &[1, 2, 3], capacity), &mut users, 2000);
        let mut largest = 0;
        for slot in 1..=2000 {
            let until = slot * MS;
            let left = users.0.iter().map(|user| user.left_between(0, until + 1));
            let bits = left.sum::<u64>() * PACKET_BITS;
            largest = asked.bits_between(0, until).abs_diff(bits).max(largest);
        }
        // Each user may have sent a part of a packet.
        assert!(largest <= 3 * PACKET_BITS, "{policy}: {largest} bits");
    }
}

#[test]
fn a_packet_is_through_at_the_end_of_the_slot_that_completes_it() {
    // 6000 bits in each slot: 0.6 packets.
    let mut users = Users(vec![User::new(&constant(6_000_000), false)]);
    let mut cell = cell(CellPolicy::RoundRobin, &[1], None);
    for at_ns in [0, 0, 500_000, 1_000_000] {
        users.0[0].send(at_ns);
    }
    for slot in 0..8 {
        cell.divide(slot * MS, &mut users);
    }
    users.0[0].collect(10 * MS);
    // After 10, 20, 30 and 40 thousand bits.
    assert_eq!(users.0[0].left, [2 * MS, 4 * MS, 5 * MS, 7 * MS]);
}

#[test]
fn what_comes_during_a_slot_waits_for_the_next_even_if_the_thread_was_late() {
    let mut users = Users(vec![User::new(&constant(100_000_000), false)]);
    let mut cell = cell(CellPolicy::RoundRobin, &[1], None);
    users.0[0].send(MS / 2);
    users.0[0].send(MS + 1);
    assert_eq!(cell.start_for(MS / 2), MS);
    // Both have been taken in by now.
    cell.divide(MS, &mut users);
    cell.divide(2 * MS, &mut users);
    users.0[0].collect(10 * MS);
    assert_eq!(users.0[0].left, [2 * MS, 3 * MS]);
}

#[test]
fn the_books_of_a_window_say_what_was_granted_for_it() {
    let mut users = Users(vec![
        User::new(&[(1000 * MS, state(100_000_000, 20 * MS))], true),
        User::new(&constant(100_000_000), true),
    ]);
    play(
        &mut cell(CellPolicy::FixedShare, &[1; 2], None),
        &mut users,
        200,
    );
    let user = &mut users.0[0];
    user.collect(300 * MS);
    for window in 0..10 {
        let (index, book) = user.shaper.close_window(200 * MS, &mut user.books).unwrap();
        assert_eq!(index, window);
        let granted = book.granted.unwrap().whole_bits();
        let (from_ns, to_ns) = (window * 10 * MS, (window + 1) * 10 * MS);
        let left = user.left_between(from_ns, to_ns) * PACKET_BITS;
        assert!(
            granted.abs_diff(left) <= PACKET_BITS,
            "{window}: {granted} {left}"
        );
        assert_eq!(granted > 0, window >= 2, "the delay is 20 ms");
    }
}

#[test]
fn an_idle_cell_passes_over_the_slots_until_something_comes() {
    let mut users = Users(vec![User::new(&constant(100_000_000), false)]);
    let mut cell = cell(CellPolicy::PROPORTIONAL_FAIR, &[1], None);
    users.0[0].send(777 * MS + 5);
    let start = cell.start_for(777 * MS + 5);
    assert_eq!(start, 778 * MS);
    cell.divide(start, &mut users);
    users.0[0].collect(1000 * MS);
    assert_eq!(users.0[0].left, [779 * MS]);
    assert_eq!(cell.next_start(), 779 * MS);
}
