//! Real-time scheduling of the calling thread, and what keeps it from holding the machine up.
//!
//! A real-time thread that never sleeps leaves its CPU to nobody. The kernel counts how long each
//! has run since it last slept (`RLIMIT_RTTIME`, getrlimit(2)) and tells it with a signal when that
//! is too long; the thread is an ordinary one from then on.

use std::io;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// How long a real-time thread may run without sleeping.
const LONGEST_RUN_US: u64 = 2_000_000;

static GUARD: Once = Once::new();

/// The limits of this process before it set its own; `u64::MAX` stands for none.
static SOFT_BEFORE: AtomicU64 = AtomicU64::new(u64::MAX);
/// The limit in force; 0 while it was left alone.
static LIMIT_US: AtomicU64 = AtomicU64::new(0);

/// Threads that have lost real-time scheduling.
static DEMOTED: AtomicU64 = AtomicU64::new(0);

/// How many threads of this process ran for too long without sleeping and are ordinary ones now.
pub(crate) fn demoted_threads() -> u64 {
    DEMOTED.load(Ordering::Relaxed)
}

/// Has the kernel tell real-time threads of this process that run for so long. Where it refuses,
/// its own throttling of real-time threads has to do.
fn limit_runs(longest_us: u64) {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_RTTIME) else {
        return;
    };
    let action = SigAction::new(
        SigHandler::Handler(demote),
        SaFlags::SA_RESTART | SaFlags::SA_ONSTACK,
        SigSet::empty(),
    );
    #[expect(unsafe_code, reason = "a signal handler has no safe form")]
    // SAFETY: the handler makes system calls and uses atomics alone.
    let installed = unsafe { sigaction(Signal::SIGXCPU, &action) };
    // Without the handler the signal would end the process.
    if installed.is_err() || longest_us >= hard {
        return;
    }
    if setrlimit(Resource::RLIMIT_RTTIME, longest_us, hard).is_ok() {
        SOFT_BEFORE.store(soft, Ordering::Relaxed);
        LIMIT_US.store(longest_us, Ordering::Relaxed);
    }
}

/// Gives a process that is about to be started the limit that this one was started with. To be
/// called between fork and exec.
pub(crate) fn lift_limit() {
    if LIMIT_US.load(Ordering::Relaxed) == 0 {
        return;
    }
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_RTTIME) {
        let soft = SOFT_BEFORE.load(Ordering::Relaxed).min(hard);
        // A soft limit up to the hard one is always allowed.
        let _ = setrlimit(Resource::RLIMIT_RTTIME, soft, hard);
    }
}

/// How long a real-time thread of a job may run without sleeping, in microseconds; then its process
/// is told by SIGXCPU, which ends a program that does not handle it, and after twice as long it is
/// killed.
const LONGEST_JOB_RUN_US: u64 = 500_000;

/// Puts a process that is about to be started into `SCHED_FIFO`, and what it will start. To be called
/// between fork and exec, before privileges are given up.
pub(crate) fn grant(priority: i32) -> io::Result<()> {
    setrlimit(
        Resource::RLIMIT_RTTIME,
        LONGEST_JOB_RUN_US,
        2 * LONGEST_JOB_RUN_US,
    )?;
    set_fifo(priority)
}

/// In a job that was started in `SCHED_FIFO`: a thread that runs for too long without sleeping becomes
/// an ordinary one, instead of ending the job. Does nothing in others.
pub fn give_up_when_told() {
    #[expect(unsafe_code, reason = "neither std nor nix knows scheduling policies")]
    // SAFETY: 0 means the calling thread.
    let policy = unsafe { libc::sched_getscheduler(0) };
    if policy == libc::SCHED_FIFO {
        limit_runs(LONGEST_JOB_RUN_US);
    }
}

/// Makes the thread that the signal came to an ordinary one: the kernel sends it to the thread
/// that has run for too long.
extern "C" fn demote(_signal: libc::c_int) {
    let parameters = libc::sched_param { sched_priority: 0 };
    #[expect(unsafe_code, reason = "neither std nor nix knows scheduling policies")]
    // SAFETY: 0 means the calling thread.
    let policy = unsafe { libc::sched_getscheduler(0) };
    if policy != libc::SCHED_FIFO {
        return;
    }
    #[expect(unsafe_code, reason = "neither std nor nix sets a scheduling policy")]
    // SAFETY: 0 means the calling thread, and the parameters outlive the call.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const parameters) };
    if result == 0 {
        DEMOTED.fetch_add(1, Ordering::Relaxed);
    }
    // The kernel has put the limit off by a second, for all threads. A soft limit below the hard one is always allowed.
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_RTTIME) {
        let _ = setrlimit(
            Resource::RLIMIT_RTTIME,
            LIMIT_US.load(Ordering::Relaxed),
            hard,
        );
    }
}

/// Puts the calling thread into `SCHED_FIFO` at this priority, for as long as it sleeps now and
/// then.
///
/// # Errors
/// Neither `CAP_SYS_NICE` nor a sufficient `RLIMIT_RTPRIO`.
pub(crate) fn become_fifo(priority: i32) -> io::Result<()> {
    GUARD.call_once(|| limit_runs(LONGEST_RUN_US));
    let mut told = SigSet::empty();
    told.add(Signal::SIGXCPU);
    // What blocks it would keep the thread from being told.
    let _ = told.thread_unblock();
    set_fifo(priority)
}

fn set_fifo(priority: i32) -> io::Result<()> {
    let parameters = libc::sched_param {
        sched_priority: priority,
    };
    #[expect(unsafe_code, reason = "neither std nor nix sets a scheduling policy")]
    // SAFETY: 0 means the calling thread, and the parameters outlive the call.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hexloop_workloads::clock;

    fn policy() -> libc::c_int {
        #[expect(unsafe_code, reason = "neither std nor nix knows scheduling policies")]
        // SAFETY: 0 means the calling thread.
        unsafe {
            libc::sched_getscheduler(0)
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn a_real_time_thread_that_never_sleeps_becomes_an_ordinary_one_and_others_stay() {
        // Not the usual limit: nobody is to be held up for long here.
        GUARD.call_once(|| ());
        limit_runs(50_000);
        let before = demoted_threads();
        let spinning = std::thread::spawn(|| {
            become_fifo(1).unwrap();
            assert_eq!(policy(), libc::SCHED_FIFO);
            // Ends by itself if the guard does not.
            while policy() == libc::SCHED_FIFO && clock::thread_cpu_ns() < 1_000_000_000 {}
            policy()
        });
        let sleeping = std::thread::spawn(|| {
            become_fifo(1).unwrap();
            let start = clock::now();
            for tick in 1..=100 {
                clock::sleep_until(start + tick * 1_000_000);
            }
            policy()
        });
        assert_eq!(spinning.join().unwrap(), libc::SCHED_OTHER);
        assert_eq!(sleeping.join().unwrap(), libc::SCHED_FIFO);
        assert!(demoted_threads() > before);
        lift_limit();
    }

    #[test]
    fn a_process_that_is_started_has_the_limit_that_this_one_had() {
        let before = getrlimit(Resource::RLIMIT_RTTIME).unwrap();
        limit_runs(60_000_000);
        let mut command = std::process::Command::new("cat");
        command.arg("/proc/self/limits");
        super::super::spawn::in_own_session(&mut command);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find(|line| line.contains("realtime timeout"));
        let soft = line.unwrap().split_whitespace().nth(3).unwrap().to_owned();
        let expected = match before.0 {
            libc::RLIM_INFINITY => "unlimited".to_owned(),
            soft => soft.to_string(),
        };
        assert_eq!(soft, expected);
        lift_limit();
        LIMIT_US.store(0, Ordering::Relaxed);
    }
}
