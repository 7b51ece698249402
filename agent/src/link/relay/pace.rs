//! How the relay waits: asleep until shortly before the next packet is due, then spinning.

use std::hint;
use std::os::fd::AsFd;

use hexloop_workloads::clock::{self, MonotonicNs};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::EventFd;
use nix::sys::time::TimeSpec;

use crate::sys::packet::PacketSocket;

/// A woken thread runs 5 to 40 us late; this much is spun instead.
const SPIN_NS: u64 = 30_000;

/// Spinning may take a quarter of each of these periods: a thread that never sleeps is stopped
/// by the kernel for 50 ms in every second, and the jobs want the CPU too.
const BUDGET_PERIOD_NS: u64 = 10_000_000;
const BUDGET_NS: u64 = BUDGET_PERIOD_NS / 4;

/// With nothing to do the thread looks up this often.
const LONGEST_SLEEP_NS: u64 = 1_000_000_000;

/// Keeps the budget of spinning.
#[derive(Debug, Default)]
pub(super) struct Pace {
    period_start: MonotonicNs,
    spun_ns: u64,
}

impl Pace {
    /// Returns when a packet is due, a frame has come in, a command is there, or it is time for
    /// an errand.
    pub(super) fn wait(
        &mut self,
        due: Option<MonotonicNs>,
        errand: Option<MonotonicNs>,
        ports: &[PacketSocket; 2],
        wake: &EventFd,
    ) {
        let now = clock::now();
        if now.saturating_sub(self.period_start) >= BUDGET_PERIOD_NS {
            self.period_start = now;
            self.spun_ns = 0;
        }
        let spin_ns = if self.spun_ns < BUDGET_NS { SPIN_NS } else { 0 };
        let due = due.unwrap_or(u64::MAX);
        if due <= now {
            return;
        }
        if due - now <= spin_ns {
            while clock::now() < due {
                hint::spin_loop();
            }
            self.spun_ns += due - now;
            return;
        }
        let until = (due - spin_ns).min(errand.unwrap_or(u64::MAX)).max(now);
        let sleep_ns = (until - now).min(LONGEST_SLEEP_NS);
        let timeout = TimeSpec::new(
            i64::from(sleep_ns >= LONGEST_SLEEP_NS),
            i64::try_from(sleep_ns % LONGEST_SLEEP_NS).unwrap_or(0),
        );
        let mut watched = [
            PollFd::new(ports[0].as_fd(), PollFlags::POLLIN),
            PollFd::new(ports[1].as_fd(), PollFlags::POLLIN),
            PollFd::new(wake.as_fd(), PollFlags::POLLIN),
        ];
        // An interrupted wait is as good as an ended one.
        let _ = ppoll(&mut watched, Some(timeout), None);
        if watched[2].any() == Some(true) {
            let _ = wake.read();
        }
    }
}
