//! What of this machine a measurement depends on: how punctual its timers are, how much time
//! others took meanwhile.

use std::fs;
use std::thread;

use hexloop_workloads::clock;
use nix::sys::prctl;
use serde::Serialize;

use crate::link::scheduling;

/// Gap between the wake-ups that are looked at.
const PERIOD_NS: u64 = 1_000_000;

/// How late a sleeping thread wakes, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TimerLateness {
    /// Wake-ups.
    pub count: usize,
    /// Median.
    pub p50_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// The largest.
    pub max_us: f64,
}

/// Sleeps `count` times until an absolute moment, 1 ms apart, on a thread of its own. With
/// `real_time` as the links' own threads are scheduled; `None` where that is refused.
#[must_use]
pub fn timer_lateness(real_time: bool, count: u64) -> Option<TimerLateness> {
    let work = move || {
        if real_time {
            if !scheduling::make_real_time(None)
                .description
                .starts_with("SCHED_FIFO")
            {
                return None;
            }
        } else {
            // As every process is started: timers may be put off by 50 us.
            let _ = prctl::set_timerslack(50_000);
        }
        let start = clock::now();
        let late = |number| {
            let due = start + number * PERIOD_NS;
            clock::sleep_until(due);
            clock::now() - due
        };
        let mut late: Vec<u64> = (1..=count).map(late).collect();
        late.sort_unstable();
        let at = |per_cent: usize| {
            let rank = (late.len() * per_cent).div_ceil(100).max(1);
            late.get(rank - 1).map(|&ns| super::to_f64(ns) / 1e3)
        };
        Some(TimerLateness {
            count: late.len(),
            p50_us: at(50)?,
            p99_us: at(99)?,
            max_us: at(100)?,
        })
    };
    let thread = thread::Builder::new().name("hx-timers".to_owned());
    thread.spawn(work).ok()?.join().ok()?
}

/// CPU time of the whole machine since boot, in the kernel's ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Busy {
    /// All of it, idle time included.
    pub total: u64,
    /// Time that was not idle.
    pub busy: u64,
    /// Time that the host gave to others (`steal`).
    pub steal: u64,
}

impl Busy {
    /// From an earlier reading to this one: (share of time not idle, share stolen), in percent.
    #[must_use]
    pub fn since(self, earlier: Busy) -> Option<(f64, f64)> {
        let total = self
            .total
            .checked_sub(earlier.total)
            .filter(|&ticks| ticks > 0)?;
        let share = |now: u64, then: u64| {
            100.0 * super::to_f64(now.saturating_sub(then)) / super::to_f64(total)
        };
        Some((
            share(self.busy, earlier.busy),
            share(self.steal, earlier.steal),
        ))
    }
}

/// Reads `/proc/stat`; `None` where it says nothing.
#[must_use]
pub fn busy() -> Option<Busy> {
    parse(&fs::read_to_string("/proc/stat").ok()?)
}

/// The line of all CPUs: user, nice, system, idle, iowait, irq, softirq, steal, ... (proc(5)).
fn parse(stat: &str) -> Option<Busy> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = line
        .split_ascii_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    // Guest time (the last two) is part of user and nice time.
    let total = fields.iter().take(8).sum();
    Some(Busy {
        total,
        busy: total - fields.get(3)? - fields.get(4)?,
        steal: *fields.get(7)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_all_processors_is_read_and_compared() {
        let first = parse("cpu  10 0 10 70 10 0 0 0 5 0\ncpu0 1 2 3 4\n").unwrap();
        assert_eq!((first.total, first.busy, first.steal), (100, 20, 0));
        let second = parse("cpu  60 0 10 90 10 0 0 30 5 0\n").unwrap();
        let (busy, steal) = second.since(first).unwrap();
        assert!((busy - 80.0).abs() < 1e-9 && (steal - 30.0).abs() < 1e-9);
        assert_eq!(first.since(first), None);
        assert_eq!(parse("intr 5\n"), None);
    }
}
