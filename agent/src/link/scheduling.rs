//! How the threads of a link are scheduled: asked, and what was got.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::prctl;
use nix::unistd::Pid;

use crate::sys::realtime;

/// Above the jobs, below the kernel's own threads.
const PRIORITY: i32 = 20;

/// What a thread got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scheduling {
    /// In words, such as `SCHED_FIFO 20 on CPU 1`.
    pub(crate) description: String,
    /// The CPUs that it may run on.
    pub(crate) cpus: Vec<u32>,
}

/// Pins the calling thread if a CPU is named, and returns the CPUs that it may run on.
pub(crate) fn pin(cpu: Option<u32>) -> Vec<u32> {
    let this_thread = Pid::from_raw(0);
    if let Some(cpu) = cpu.and_then(|cpu| usize::try_from(cpu).ok()) {
        let mut set = CpuSet::new();
        // A CPU that does not exist leaves the thread where it is: what is read back tells.
        let _ = set
            .set(cpu)
            .and_then(|()| sched_setaffinity(this_thread, &set));
    }
    let Ok(set) = sched_getaffinity(this_thread) else {
        return Vec::new();
    };
    let allowed = (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false));
    allowed.filter_map(|cpu| u32::try_from(cpu).ok()).collect()
}

/// Pins the calling thread and makes it a real-time thread, as far as it is allowed to.
pub(crate) fn make_real_time(cpu: Option<u32>) -> Scheduling {
    let cpus = pin(cpu);
    // Outside of real-time scheduling timers may be put off by 50 us to save wake-ups.
    let _ = prctl::set_timerslack(1);
    let place = match (cpu, cpus.as_slice()) {
        (Some(_), [cpu]) => format!("CPU {cpu}"),
        (Some(asked), _) => format!("any CPU (CPU {asked} refused)"),
        (None, _) => "any CPU".to_owned(),
    };
    let description = match realtime::become_fifo(PRIORITY) {
        Ok(()) => format!("SCHED_FIFO {PRIORITY} on {place}"),
        Err(error) => format!("SCHED_OTHER on {place} (SCHED_FIFO refused: {error})"),
    };
    Scheduling { description, cpus }
}

/// Leaves the calling thread an ordinary one that may run anywhere: it holds itself to a CPU while
/// it is busy.
pub(crate) fn leave_ordinary() -> Scheduling {
    Scheduling {
        description: "SCHED_OTHER on any CPU, held to one while busy".to_owned(),
        cpus: pin(None),
    }
}

/// Makes the calling thread wake in time where that is allowed: for the short flows that
/// measure a link, behind the relay itself.
pub(crate) fn make_punctual() {
    // A slack of 1 ns is never refused.
    let _ = prctl::set_timerslack(1);
    // Without the right to it the thread is only less punctual, which the results show.
    let _ = realtime::become_fifo(PRIORITY - 10);
}
