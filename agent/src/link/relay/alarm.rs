//! Waiting for arrivals until an absolute moment.
//!
//! A timeout of `ppoll` counts from when the kernel gets to it, so that a thread that loses its CPU between
//! reading the clock and that call sleeps too long by as much. A timer that is set to a moment does not.

use std::io;
use std::os::fd::AsFd;

use hexloop_workloads::clock::MonotonicNs;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::Epoll;
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, TimerSetTimeFlags};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};

/// A timer in the same set as what is watched. It is never read: setting it anew takes back that it has
/// gone off.
pub(super) struct Alarm {
    timer: TimerFd,
    /// What it is set to.
    set_to: Option<MonotonicNs>,
}

fn timespec(ns: u64) -> TimeSpec {
    let seconds = i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX);
    TimeSpec::new(seconds, i64::try_from(ns % 1_000_000_000).unwrap_or(0))
}

impl Alarm {
    pub(super) fn new() -> io::Result<Alarm> {
        Ok(Alarm {
            timer: TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)?,
            set_to: None,
        })
    }

    /// Sleeps until something has come in, or until then, which may have passed.
    pub(super) fn wait_until(&mut self, watched: &Epoll, until: MonotonicNs) {
        // Arrivals that change nothing about the next deadline leave the timer as it is.
        if self.set_to != Some(until) {
            // 0 would stop the timer.
            let moment = Expiration::OneShot(timespec(until.max(1)));
            let set = self.timer.set(moment, TimerSetTimeFlags::TFD_TIMER_ABSTIME);
            self.set_to = set.is_ok().then_some(until);
            if set.is_err() {
                // The thread looks again rather than sleep for ever.
                return;
            }
        }
        let mut both = [
            PollFd::new(watched.0.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.timer.as_fd(), PollFlags::POLLIN),
        ];
        // An interrupted wait is as good as an ended one.
        let _ = ppoll(&mut both, None, None);
    }
}

/// Sleeps until something has come in, or for about so long, where no moment matters: that takes one
/// system call less.
pub(super) fn wait_for(watched: &Epoll, ns: u64) {
    let mut watched = [PollFd::new(watched.0.as_fd(), PollFlags::POLLIN)];
    // An interrupted wait is as good as an ended one.
    let _ = ppoll(&mut watched, Some(timespec(ns)), None);
}

#[cfg(test)]
mod tests {
    use super::*;
    use hexloop_workloads::clock;
    use nix::sys::epoll::{EpollCreateFlags, EpollEvent, EpollFlags};
    use nix::sys::eventfd::{EfdFlags, EventFd};

    const MS: u64 = 1_000_000;
    const HOUR: u64 = 3_600_000 * MS;

    fn nothing() -> Epoll {
        Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap()
    }

    #[test]
    fn nobody_wakes_before_the_moment_also_after_one_that_has_passed() {
        let (mut alarm, nothing) = (Alarm::new().unwrap(), nothing());
        for _ in 0..20 {
            let until = clock::now() + MS;
            alarm.wait_until(&nothing, until);
            assert!(clock::now() >= until);
            // It has passed, and was asked for before.
            alarm.wait_until(&nothing, until);
        }
        // Neither does one that has long passed make anybody wait.
        for passed in [0, 1, clock::now()] {
            alarm.wait_until(&nothing, passed);
        }
    }

    #[test]
    fn what_comes_in_ends_the_wait() {
        let (mut alarm, watched) = (Alarm::new().unwrap(), nothing());
        let wake = EventFd::from_value_and_flags(1, EfdFlags::EFD_CLOEXEC).unwrap();
        let event = EpollEvent::new(EpollFlags::EPOLLIN, 0);
        watched.add(&wake, event).unwrap();
        alarm.wait_until(&watched, clock::now() + HOUR);
        wait_for(&watched, HOUR);
    }
}
