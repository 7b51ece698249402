//! CoDel against the pseudocode of RFC 8289 and what it is known to do.

use std::collections::VecDeque;

use super::*;

const TARGET_NS: u64 = 5 * MS;
const INTERVAL_NS: u64 = 100 * MS;
const MTU: u64 = 1500;

/// Section 5 of the RFC as it stands there, with its names, in floating point.
#[derive(Default)]
struct Rfc {
    queue: VecDeque<(u32, u64, u64)>,
    bytes: u64,
    first_above_time: u64,
    drop_next: u64,
    count: u32,
    lastcount: u32,
    dropping: bool,
    dropped: Vec<(u32, u64)>,
}

impl Rfc {
    fn dodequeue(&mut self, now: u64) -> (Option<(u32, u64, u64)>, bool) {
        let Some(packet) = self.queue.pop_front() else {
            self.first_above_time = 0;
            return (None, false);
        };
        self.bytes -= packet.2;
        let sojourn_time = now - packet.1;
        if sojourn_time < TARGET_NS || self.bytes <= MTU {
            self.first_above_time = 0;
        } else if self.first_above_time == 0 {
            self.first_above_time = now + INTERVAL_NS;
        } else if now >= self.first_above_time {
            return (Some(packet), true);
        }
        (Some(packet), false)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a test's figures"
    )]
    fn control_law(t: u64, count: u32) -> u64 {
        t + (INTERVAL_NS as f64 / f64::from(count).sqrt()) as u64
    }

    fn deque(&mut self, now: u64) -> Option<(u32, u64, u64)> {
        let (mut packet, mut ok_to_drop) = self.dodequeue(now);
        if self.dropping {
            if !ok_to_drop {
                self.dropping = false;
            }
            while now >= self.drop_next && self.dropping {
                self.dropped.push((packet.unwrap().0, now));
                self.count += 1;
                (packet, ok_to_drop) = self.dodequeue(now);
                if ok_to_drop {
                    self.drop_next = Rfc::control_law(self.drop_next, self.count);
                } else {
                    self.dropping = false;
                }
            }
        } else if ok_to_drop {
            self.dropped.push((packet.unwrap().0, now));
            (packet, _) = self.dodequeue(now);
            self.dropping = true;
            let delta = self.count - self.lastcount;
            self.count = 1;
            if delta > 1 && now.saturating_sub(self.drop_next) < 16 * INTERVAL_NS {
                self.count = delta;
            }
            self.drop_next = Rfc::control_law(now, self.count);
            self.lastcount = self.count;
        }
        packet
    }
}

/// Packets and moments.
type Passages = Vec<(u32, u64)>;

/// A link of constant rate with the queue of the RFC before it: departures and drops.
fn simulate(rate_bps: u64, arrivals: &[(u64, u32)]) -> (Passages, Passages) {
    let mut rfc = Rfc::default();
    let mut left = Vec::new();
    let mut free_ns = 0;
    let mut coming = arrivals.iter().zip(0_u32..).peekable();
    loop {
        // Everything that comes by the time at which the link is free again is in the queue.
        if rfc.queue.is_empty() {
            let Some(&(&(at_ns, _), _)) = coming.peek() else {
                return (left, rfc.dropped);
            };
            if at_ns > free_ns {
                // The link asked in vain.
                rfc.deque(free_ns);
                free_ns = at_ns;
            }
        }
        while let Some(&(&(at_ns, bytes), slot)) = coming.peek()
            && at_ns <= free_ns
        {
            rfc.queue.push_back((slot, at_ns, u64::from(bytes)));
            rfc.bytes += u64::from(bytes);
            coming.next();
        }
        if let Some((slot, _, bytes)) = rfc.deque(free_ns) {
            free_ns += bytes * 8 * 1_000_000_000 / rate_bps;
            left.push((slot, free_ns));
        }
    }
}

fn codel_bench(rate_bps: u64, ecn: bool) -> Bench {
    let settings = LinkSettings {
        discipline: QueueDiscipline::CODEL,
        ecn,
        ..ENDLESS
    };
    bench(
        EndPolicy::Hold,
        &[(1_000_000 * MS, state(rate_bps, 0))],
        settings,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn departures_and_drops_are_those_of_the_rfc(
        // 500 bytes take half a millisecond at 8 Mbit/s, so that times are whole in both.
        bursts in prop::collection::vec((0_u64..40, 1_u32..60, 1_u32..4), 1..60),
    ) {
        let mut arrivals = Vec::new();
        let mut now_ns = 0;
        for (burst, (gap_ms, count, halves)) in (0_u64..).zip(bursts) {
            now_ns += gap_ms * MS;
            // Services end whole halves of a millisecond after the moment of some burst; each burst
            // comes as many microseconds off those as it has a number, so that none ever comes at the
            // very moment at which a service ends: that order is anybody's.
            arrivals.extend((0..count).map(|_| (now_ns + burst * 1_000, halves * 500)));
        }
        let (left, dropped) = simulate(8_000_000, &arrivals);
        let mut bench = codel_bench(8_000_000, false);
        for (at_ns, bytes) in arrivals {
            bench.send(at_ns, bytes);
        }
        bench.run(u64::MAX - 1);
        prop_assert_eq!(&bench.left, &left);
        let slots: Vec<u32> = dropped.iter().map(|(slot, _)| *slot).collect();
        bench.discarded.sort_unstable();
        prop_assert_eq!(&bench.discarded, &slots);
    }
}

/// Sends 10 % more than the link carries and notes when each packet was dropped or marked.
fn overload(ecn: bool, milliseconds: u64) -> (Bench, Vec<u64>) {
    let mut bench = codel_bench(8_000_000, ecn);
    let mut moments = Vec::new();
    for step in 0..milliseconds * 11 {
        let now_ns = step * MS / 11;
        let before = bench.discarded.len() + bench.marked.len();
        bench.wake(now_ns);
        if step % 10 == 0 {
            bench.send_as(now_ns, 1000, ecn);
        }
        let after = bench.discarded.len() + bench.marked.len();
        moments.extend((before..after).map(|_| now_ns));
    }
    (bench, moments)
}

#[test]
fn drops_follow_the_control_law() {
    let (bench, moments) = overload(false, 1500);
    assert!(bench.discarded.len() > 15);
    // The n-th pause is interval / sqrt(n); a drop waits for the next packet, 1 ms at most.
    let mut planned_ns = moments[0];
    for (count, moment_ns) in (1_u32..).zip(&moments[1..]) {
        planned_ns = Rfc::control_law(planned_ns, count);
        assert!(
            moment_ns.abs_diff(planned_ns) <= 2 * MS,
            "drop {count}: {moment_ns} instead of {planned_ns}"
        );
    }
}

/// A sender with a window, as TCP Reno has one, 50 ms away each way: one packet more per round
/// trip, half as many once per round trip in which one was dropped or marked. Gives how long
/// packets waited on average and how many were delivered, both over the second half.
fn reno(settings: LinkSettings, ecn: bool, milliseconds: u64) -> (u64, usize) {
    let rows = [(1_000_000 * MS, state(8_000_000, 0))];
    let mut bench = bench(EndPolicy::Hold, &rows, settings);
    let mut replies: VecDeque<(u64, bool)> = VecDeque::new();
    let (mut window_milli, mut under_way, mut deaf_until_ns) = (10_000, 0, 0);
    let (mut seen_left, mut seen_bad, mut seen_discarded) = (0, 0, 0);
    let (mut waited_ns, mut delivered) = (0, 0);
    for now_ns in (0..milliseconds * 2).map(|half| half * MS / 2) {
        bench.wake(now_ns);
        for (slot, due_ns) in &bench.left[seen_left..] {
            replies.push_back((now_ns + 50 * MS, false));
            if now_ns > milliseconds * MS / 2 {
                waited_ns += due_ns - MS - bench.taken[usize::try_from(*slot).unwrap()].0;
                delivered += 1;
            }
        }
        seen_left = bench.left.len();
        let bad = bench.discarded.len() + bench.marked.len();
        replies.extend((seen_bad..bad).map(|_| (now_ns + 50 * MS, true)));
        seen_bad = bad;
        under_way -= bench.discarded.len() - seen_discarded;
        seen_discarded = bench.discarded.len();
        while let Some(&(at_ns, bad)) = replies.front()
            && at_ns <= now_ns
        {
            replies.pop_front();
            if !bad {
                under_way -= 1;
                window_milli += 1_000_000 / window_milli;
            } else if now_ns >= deaf_until_ns {
                window_milli = (window_milli / 2).max(2000);
                deaf_until_ns = now_ns + 100 * MS;
            }
        }
        while under_way < window_milli / 1000 {
            bench.send_as(now_ns, 1000, ecn);
            under_way += 1;
        }
    }
    (
        waited_ns / u64::try_from(delivered).unwrap() / MS,
        delivered,
    )
}

#[test]
fn a_standing_queue_comes_down_to_the_target_and_the_link_stays_busy() {
    let codel = |ecn| LinkSettings {
        discipline: QueueDiscipline::CODEL,
        ecn,
        ..drop_tail(1_000_000)
    };
    for ecn in [false, true] {
        let (waited_ms, delivered) = reno(codel(ecn), ecn, 60_000);
        assert!((1..=12).contains(&waited_ms), "{waited_ms} ms");
        assert!(delivered > 24_000, "{delivered} of 30000");
    }
    let (waited_ms, _) = reno(drop_tail(1_000_000), false, 60_000);
    assert!(waited_ms > 200, "{waited_ms} ms");
}

#[test]
fn marks_stand_for_drops_where_packets_can_carry_them() {
    let (dropping, _) = overload(false, 3000);
    let (marking, moments) = overload(true, 3000);
    assert!(marking.discarded.is_empty());
    assert!(marking.marked.len() >= dropping.discarded.len());
    let mut planned_ns = moments[0];
    for (count, moment_ns) in (1_u32..15).zip(&moments[1..]) {
        planned_ns = Rfc::control_law(planned_ns, count);
        assert!(moment_ns.abs_diff(planned_ns) <= 2 * MS);
    }
    let mut bench = codel_bench(8_000_000, true);
    for step in 0..3000 {
        bench.send_as(step * MS / 2, 1000, false);
    }
    bench.run(u64::MAX - 1);
    assert!(bench.marked.is_empty() && !bench.discarded.is_empty());
}
