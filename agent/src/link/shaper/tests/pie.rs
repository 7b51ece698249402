//! PIE against the pseudocode of RFC 8033 and what it is known to do.

use rand_core::Rng;

use super::*;

const TARGET: f64 = 0.015;
const UPDATE_NS: u64 = 15 * MS;

/// Sections 4.1 to 4.4, 5.4 and 5.5 of the RFC with their names, in seconds.
struct Rfc {
    drop_prob: f64,
    accu_prob: f64,
    qdelay_old: f64,
    current_qdelay: f64,
    burst_allowance: f64,
}

impl Rfc {
    const fn new() -> Rfc {
        Rfc {
            drop_prob: 0.0,
            accu_prob: 0.0,
            qdelay_old: 0.0,
            current_qdelay: 0.0,
            burst_allowance: 0.150,
        }
    }

    /// `random` is asked only where the RFC asks for luck.
    fn drop_early(&mut self, queue_bytes: u64, random: impl FnOnce() -> f64) -> bool {
        if self.burst_allowance > 1e-12 {
            return false;
        }
        if (self.qdelay_old < TARGET / 2.0 && self.drop_prob < 0.2) || queue_bytes <= 2 * 1500 {
            return false;
        }
        if self.drop_prob == 0.0 {
            self.accu_prob = 0.0;
        }
        self.accu_prob += self.drop_prob;
        if self.accu_prob < 0.85 {
            return false;
        }
        let luck = random();
        if self.accu_prob >= 8.5 || luck < self.drop_prob {
            self.accu_prob = 0.0;
            return true;
        }
        false
    }

    fn calculate_drop_prob(&mut self) {
        let mut p =
            0.125 * (self.current_qdelay - TARGET) + 1.25 * (self.current_qdelay - self.qdelay_old);
        p /= match self.drop_prob {
            prob if prob < 0.000_001 => 2048.0,
            prob if prob < 0.000_01 => 512.0,
            prob if prob < 0.000_1 => 128.0,
            prob if prob < 0.001 => 32.0,
            prob if prob < 0.01 => 8.0,
            prob if prob < 0.1 => 2.0,
            _ => 1.0,
        };
        if self.drop_prob >= 0.1 && p > 0.02 {
            p = 0.02;
        }
        self.drop_prob += p;
        if self.current_qdelay == 0.0 && self.qdelay_old == 0.0 {
            self.drop_prob *= 1.0 - 1.0 / 64.0;
        }
        self.drop_prob = self.drop_prob.clamp(0.0, 1.0);
        self.burst_allowance = (self.burst_allowance - 0.015).max(0.0);
        if self.burst_allowance < 1e-12 {
            self.burst_allowance = 0.0;
        }
        if self.drop_prob == 0.0
            && self.current_qdelay < TARGET / 2.0
            && self.qdelay_old < TARGET / 2.0
        {
            self.burst_allowance = 0.150;
        }
        self.qdelay_old = self.current_qdelay;
    }
}

/// A link of 8 Mbit/s behind the RFC's controller, nanosecond by event. Gives the slots that
/// left with their ends, and the arrivals that were dropped.
#[expect(clippy::cast_precision_loss, reason = "times of a test")]
fn simulate(arrivals: &[(u64, u32)]) -> (Vec<(u32, u64)>, Vec<usize>) {
    let mut rfc = Rfc::new();
    let mut luck = hexloop_traces::stream(1, "test pie");
    let mut queue: VecDeque<(u32, u64, u64)> = Default::default();
    let (mut bytes_waiting, mut free_ns, mut next_update_ns, mut slot) = (0, 0, UPDATE_NS, 0);
    let (mut left, mut dropped) = (Vec::new(), Vec::new());
    let mut index = 0;
    loop {
        let arrival_ns = arrivals.get(index).map_or(u64::MAX, |arrival| arrival.0);
        let service_ns = queue.front().map_or(u64::MAX, |head| free_ns.max(head.1));
        if arrival_ns == u64::MAX && service_ns == u64::MAX {
            return (left, dropped);
        }
        if next_update_ns <= arrival_ns.min(service_ns) {
            rfc.calculate_drop_prob();
            next_update_ns += UPDATE_NS;
        } else if service_ns <= arrival_ns {
            let (slot, came_ns, bytes) = queue.pop_front().unwrap();
            bytes_waiting -= bytes;
            rfc.current_qdelay = if bytes_waiting == 0 {
                0.0
            } else {
                (service_ns - came_ns) as f64 / 1e9
            };
            free_ns = service_ns + bytes * 1000;
            left.push((slot, free_ns));
        } else {
            let draw = || f64::from(luck.next_u32()) / 4_294_967_296.0;
            if rfc.drop_early(bytes_waiting, draw) {
                dropped.push(index);
            } else {
                let bytes = u64::from(arrivals[index].1);
                queue.push_back((slot, arrival_ns, bytes));
                bytes_waiting += bytes;
                slot += 1;
            }
            index += 1;
        }
    }
}

fn pie_bench(ecn: bool) -> Bench {
    let settings = LinkSettings {
        discipline: QueueDiscipline::PIE,
        ecn,
        ..ENDLESS
    };
    let rows = [(1_000_000 * MS, state(8_000_000, 0))];
    bench(EndPolicy::Hold, &rows, settings)
}

/// Packets of 1000 bytes at so many percent of the link's rate.
fn load(percent: u64, milliseconds: u64) -> Vec<(u64, u32)> {
    let count = milliseconds * percent / 100;
    (0..count)
        .map(|packet| (packet * 100 * MS / percent + 7, 1000))
        .collect()
}

#[test]
fn departures_and_drops_are_those_of_the_rfc() {
    let mut arrivals = load(130, 4000);
    arrivals.extend(
        load(50, 3000)
            .iter()
            .map(|(at, bytes)| (at + 4000 * MS, *bytes)),
    );
    arrivals.extend(
        load(250, 2000)
            .iter()
            .map(|(at, bytes)| (at + 7000 * MS, *bytes)),
    );
    arrivals.extend(
        load(101, 9000)
            .iter()
            .map(|(at, bytes)| (at + 9000 * MS, *bytes)),
    );
    let (left, dropped) = simulate(&arrivals);
    let mut bench = pie_bench(false);
    let mut refused = Vec::new();
    for (index, (at_ns, bytes)) in arrivals.into_iter().enumerate() {
        let before = bench.dropped;
        bench.send(at_ns, bytes);
        if bench.dropped > before {
            refused.push(index);
        }
    }
    bench.run(u64::MAX - 1);
    assert!(dropped.len() > 1000, "{}", dropped.len());
    assert_eq!(refused, dropped);
    assert_eq!(bench.left, left);
}

#[test]
fn the_delay_settles_near_the_target_and_the_link_stays_busy() {
    let mut bench = pie_bench(false);
    for (at_ns, bytes) in load(120, 60_000) {
        bench.wake(at_ns);
        bench.send(at_ns, bytes);
    }
    let late: Vec<u64> = bench
        .left
        .iter()
        .filter(|(_, due_ns)| *due_ns > 30_000 * MS)
        .map(|(slot, due_ns)| due_ns - MS - bench.taken[usize::try_from(*slot).unwrap()].0)
        .collect();
    let mean_us = late.iter().sum::<u64>() / u64::try_from(late.len()).unwrap() / 1000;
    assert!((10_000..=20_000).contains(&mean_us), "{mean_us} us");
    assert!(bench.left.len() > 59_900, "{}", bench.left.len());
}

#[test]
fn a_short_burst_passes_untouched() {
    let mut bench = pie_bench(false);
    for _ in 0..100 {
        bench.send(1000 * MS, 1000);
    }
    assert_eq!(bench.dropped, 0);
    assert_eq!(bench.due_times().len(), 100);
}

#[test]
fn marks_stand_for_drops_while_the_probability_is_low() {
    let play = |percent| {
        let mut bench = pie_bench(true);
        for (at_ns, bytes) in load(percent, 20_000) {
            bench.send_as(at_ns, bytes, true);
        }
        (bench.marked.len(), bench.dropped)
    };
    let (marked, dropped) = play(101);
    assert!(marked > 50, "{marked} marked, {dropped} dropped");
    let (_, dropped) = play(250);
    assert!(dropped > 1000, "{dropped}");
}
