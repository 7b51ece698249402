//! Where the passing thread runs: free as long as frames come one by one, held to its CPU while
//! they come in bursts.
//!
//! Woken by a sender, a free thread is put beside that sender and the reader of its packet; one
//! that is pinned has to be woken on another, halted CPU, which costs each direction some 20 us.
//! But frames that a migrating thread has left in the backlog of one CPU can be overtaken by those
//! that it sends from the next. A single frame is through before the call that sends it returns.

use hexloop_workloads::clock::{self, MonotonicNs};
use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

/// So many frames in one round are a burst.
const BURST_FRAMES: u64 = 8;

/// Without a burst for so long the thread is free again.
const CALM_NS: u64 = 100_000_000;

const THIS_THREAD: Pid = Pid::from_raw(0);

/// Holds the calling thread to a CPU, or not.
#[derive(Debug)]
pub(super) struct Mooring {
    /// Where the thread may run; `None` where the kernel does not say: it is left alone then.
    allowed: Option<CpuSet>,
    /// The last burst, while the thread is held.
    held_since: Option<MonotonicNs>,
}

impl Mooring {
    /// Of the calling thread, where it may run now.
    pub(super) fn new() -> Mooring {
        Mooring {
            allowed: sched_getaffinity(THIS_THREAD).ok(),
            held_since: None,
        }
    }

    /// Holds the thread after a round with a burst of frames, and lets it go in calm.
    pub(super) fn note(&mut self, frames: u64) {
        if frames >= BURST_FRAMES || self.held_since.is_some() {
            self.note_at(frames, clock::now());
        }
    }

    fn note_at(&mut self, frames: u64, now: MonotonicNs) {
        let Some(allowed) = self.allowed else { return };
        let burst = frames >= BURST_FRAMES;
        match self.held_since {
            None if burst && hold() => self.held_since = Some(now),
            Some(_) if burst => self.held_since = Some(now),
            Some(since) if now.saturating_sub(since) >= CALM_NS && let_go(&allowed) => {
                self.held_since = None;
            }
            None | Some(_) => {}
        }
    }
}

/// Whether the thread may run anywhere again.
fn let_go(allowed: &CpuSet) -> bool {
    sched_setaffinity(THIS_THREAD, allowed).is_ok()
}

/// Whether the thread stays where it is from now on.
fn hold() -> bool {
    let mut here = CpuSet::new();
    sched_getcpu()
        .and_then(|cpu| here.set(cpu))
        .and_then(|()| sched_setaffinity(THIS_THREAD, &here))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus() -> usize {
        let set = sched_getaffinity(THIS_THREAD).unwrap();
        let held = (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap());
        held.count()
    }

    #[test]
    fn a_burst_holds_the_thread_to_one_cpu_until_it_has_been_calm() {
        let everywhere = cpus();
        let mut mooring = Mooring::new();
        mooring.note_at(BURST_FRAMES - 1, 0);
        assert_eq!(
            cpus(),
            everywhere,
            "frames that come one by one leave it free"
        );
        mooring.note_at(BURST_FRAMES, 10);
        assert_eq!(cpus(), 1);
        mooring.note_at(BURST_FRAMES, 50_000_000);
        mooring.note_at(1, 50_000_000 + CALM_NS - 1);
        assert_eq!(cpus(), 1, "the last burst counts");
        mooring.note_at(1, 50_000_000 + CALM_NS);
        assert_eq!(cpus(), everywhere);
    }
}
