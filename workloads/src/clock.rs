//! The one place that reads the clock.
//!
//! Everything is measured on `CLOCK_MONOTONIC`, in nanoseconds since an arbitrary start that all
//! processes of one machine share. Kernel packet stamps come on `CLOCK_REALTIME`; a
//! [`ClockPair`] read beside them converts.

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};

/// A moment on `CLOCK_MONOTONIC`, in nanoseconds.
pub type MonotonicNs = u64;

fn read(clock: ClockId) -> u64 {
    // These clocks always exist on Linux; a failure would mean a kernel without time.
    let time = clock_gettime(clock).unwrap_or_else(|_| TimeSpec::new(0, 0));
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0)
}

/// The present moment.
#[must_use]
pub fn now() -> MonotonicNs {
    read(ClockId::CLOCK_MONOTONIC)
}

/// Seconds and nanoseconds since 1970, for dating records only.
#[must_use]
pub fn wall_clock_ns() -> u64 {
    read(ClockId::CLOCK_REALTIME)
}

/// Nanoseconds since the machine was started, those that it slept included: what leases count in.
#[must_use]
pub fn since_boot_ns() -> u64 {
    read(ClockId::CLOCK_BOOTTIME)
}

/// CPU time that the calling thread has used, in nanoseconds.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    read(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time that the calling process has used, in nanoseconds.
#[must_use]
pub fn process_cpu_ns() -> u64 {
    read(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

/// Sleeps until an absolute moment; returns at once if it has passed.
pub fn sleep_until(deadline: MonotonicNs) {
    let seconds = i64::try_from(deadline / 1_000_000_000).unwrap_or(i64::MAX);
    let rest = i64::try_from(deadline % 1_000_000_000).unwrap_or(0);
    let deadline = TimeSpec::new(seconds, rest);
    let flags = ClockNanosleepFlags::TIMER_ABSTIME;
    while clock_nanosleep(ClockId::CLOCK_MONOTONIC, flags, &deadline) == Err(nix::Error::EINTR) {}
}

/// Reading both clocks takes less than a microsecond unless it is interrupted.
const WIDEST_PAIR_NS: u64 = 20_000;

/// How often an interrupted reader reads again.
const MOST_READS: u32 = 4;

/// Both clocks read at one moment, to convert kernel stamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockPair {
    /// `CLOCK_MONOTONIC`.
    pub monotonic_ns: u64,
    /// `CLOCK_REALTIME`.
    pub realtime_ns: u64,
}

impl ClockPair {
    /// Reads both clocks, the monotonic one on both sides of the other, and takes the middle. A
    /// reader that is interrupted in between reads again: what it missed would look like a step.
    #[must_use]
    pub fn read() -> ClockPair {
        let (mut best, mut best_width_ns) = ClockPair::read_once();
        for _ in 0..MOST_READS {
            if best_width_ns <= WIDEST_PAIR_NS {
                break;
            }
            let (pair, width_ns) = ClockPair::read_once();
            if width_ns < best_width_ns {
                (best, best_width_ns) = (pair, width_ns);
            }
        }
        best
    }

    /// A pair, and the time that reading it took.
    fn read_once() -> (ClockPair, u64) {
        let before = now();
        let realtime_ns = wall_clock_ns();
        let after = now();
        let width_ns = after.saturating_sub(before);
        let pair = ClockPair {
            monotonic_ns: before + width_ns / 2,
            realtime_ns,
        };
        (pair, width_ns)
    }

    /// The monotonic moment of a `CLOCK_REALTIME` stamp taken near this pair.
    #[must_use]
    pub const fn to_monotonic(self, realtime_ns: u64) -> MonotonicNs {
        (self.monotonic_ns.wrapping_add(realtime_ns)).wrapping_sub(self.realtime_ns)
    }

    /// How far `CLOCK_REALTIME` moved against `CLOCK_MONOTONIC` since an earlier pair, in
    /// nanoseconds: beyond the slew of a disciplined clock it means somebody set the time.
    #[must_use]
    pub const fn step_since(self, earlier: ClockPair) -> i64 {
        let real = self
            .realtime_ns
            .wrapping_sub(earlier.realtime_ns)
            .cast_signed();
        let monotonic = self
            .monotonic_ns
            .wrapping_sub(earlier.monotonic_ns)
            .cast_signed();
        real.wrapping_sub(monotonic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_taken_beside_a_pair_converts_exactly() {
        let pair = ClockPair {
            monotonic_ns: 500,
            realtime_ns: 1_000_000,
        };
        assert_eq!(pair.to_monotonic(1_000_250), 750);
        assert_eq!(pair.to_monotonic(999_900), 400);
    }

    #[test]
    fn setting_the_wall_clock_shows_as_a_step() {
        let earlier = ClockPair {
            monotonic_ns: 100,
            realtime_ns: 1_000,
        };
        let later = ClockPair {
            monotonic_ns: 200,
            realtime_ns: 5_100,
        };
        assert_eq!(later.step_since(earlier), 4_000);
    }

    #[test]
    fn sleeping_until_a_past_moment_returns_and_time_never_goes_back() {
        let before = now();
        sleep_until(0);
        assert!(now() >= before);
    }
}
