//! Delivery opportunities against a model of mahimahi's link queue.

use hexloop_traces::format::mahimahi::{ImportSettings, parse};

use super::*;

const SLOT: Service = Service::Opportunities { slot_ns: MS };

fn slotted() -> LinkSettings {
    LinkSettings {
        service: SLOT,
        ..ENDLESS
    }
}

/// mahimahi's link queue as reference: the lines of its file are opportunities of 1500 bytes of
/// IP in whole milliseconds, the file repeats after its last line; what came before the
/// millisecond of an opportunity may use it, a packet may span several, what is left is lost.
fn mahimahi(lines: &[u64], arrivals: &[(u64, u32)]) -> Vec<(u32, u64)> {
    let period = *lines.last().unwrap();
    let mut opportunities =
        (0..).flat_map(|round| lines.iter().map(move |line| round * period + line));
    let mut queue = VecDeque::new();
    let mut left = Vec::new();
    let mut coming = arrivals.iter().zip(0_u32..).peekable();
    while coming.peek().is_some() || !queue.is_empty() {
        let delivery_ms = opportunities.next().unwrap();
        while let Some(&(&(at_ns, bytes), slot)) = coming.peek()
            && at_ns / MS < delivery_ms
        {
            queue.push_back((slot, u64::from(bytes)));
            coming.next();
        }
        let mut bytes_left = 1500;
        while let Some((slot, to_send)) = queue.front_mut()
            && bytes_left > 0
        {
            let amount = bytes_left.min(*to_send);
            bytes_left -= amount;
            *to_send -= amount;
            if *to_send == 0 {
                left.push((*slot, delivery_ms * MS));
                queue.pop_front();
            }
        }
    }
    left
}

fn import(lines: &[u64]) -> CapacityCurve {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let settings = ImportSettings {
        scenario: "test".to_owned(),
        delay_ns: 0,
        queue_bytes: 0,
    };
    CapacityCurve::new(&parse(&text, None, &settings).unwrap(), Direction::Down)
}

fn play(lines: &[u64], arrivals: &[(u64, u32)]) -> Vec<(u32, u64)> {
    let mut bench = bench(EndPolicy::Hold, &[(MS, state(0, 0))], slotted());
    bench.shaper.schedule = Schedule::new(import(lines));
    for (at_ns, bytes) in arrivals {
        bench.send(*at_ns, *bytes);
    }
    bench.run(u64::MAX - 1);
    bench.left
}

#[test]
fn a_grant_comes_at_the_end_of_its_slot_whole() {
    // 1500 bytes a slot.
    let rows = [(1000 * MS, state(12_000_000, 0))];
    let mut bench = bench(EndPolicy::Hold, &rows, slotted());
    bench.send(MS / 2, 600);
    bench.send(MS / 2, 600);
    bench.send(MS - 1, 600);
    bench.send(MS, 300);
    // 300 bytes of the third are left for the second slot, with the fourth.
    assert_eq!(bench.due_times(), [MS, MS, 2 * MS, 2 * MS]);
}

#[test]
fn what_nobody_uses_is_lost() {
    let rows = [(1000 * MS, state(12_000_000, 0))];
    let mut bench = bench(EndPolicy::Hold, &rows, slotted());
    bench.send(10, 100);
    bench.send(MS, 1500);
    bench.send(MS, 1500);
    assert_eq!(bench.due_times(), [MS, 2 * MS, 3 * MS]);
}

#[test]
fn grants_of_odd_rates_do_not_drift() {
    // 7 bit/s more than 1 Mbit/s in slots of 62.5 us: 62.5004375 bits each.
    let settings = LinkSettings {
        service: Service::Opportunities { slot_ns: 62_500 },
        ..ENDLESS
    };
    let rows = [(1_000_000 * MS, state(1_000_007, 0))];
    let mut bench = bench(EndPolicy::Hold, &rows, settings);
    for _ in 0..9000 {
        bench.send(0, 1000);
    }
    let exact_ns = 9000_u128 * 8000 * 1_000_000_000 / 1_000_007;
    let due_ns = *bench.due_times().last().unwrap();
    assert_eq!(u128::from(due_ns), exact_ns.div_ceil(62_500) * 62_500);
}

proptest! {
    #[test]
    fn an_imported_trace_plays_as_mahimahi_plays_it(
        steps in prop::collection::vec((0_u64..12, 1_usize..6), 1..40),
        packets in prop::collection::vec((0_u64..4_000_000, 1_u32..1501), 1..150),
    ) {
        let mut lines = Vec::new();
        let mut at_ms = 1;
        for (gap_ms, count) in steps {
            at_ms += gap_ms;
            lines.extend(std::iter::repeat_n(at_ms, count));
        }
        let mut now_ns = 0;
        let arrivals: Vec<(u64, u32)> = packets
            .into_iter()
            .map(|(gap_ns, bytes)| {
                now_ns += gap_ns;
                (now_ns, bytes)
            })
            .collect();
        prop_assert_eq!(play(&lines, &arrivals), mahimahi(&lines, &arrivals));
    }
}
