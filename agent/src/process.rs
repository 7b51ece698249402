//! Processes by identity: a process id alone may already belong to somebody else.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::process::Command;

use hexloop_workloads::clock::{self, MonotonicNs};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::sys::pidfd;

/// How often the deadline is looked at while a process is waited for, in milliseconds.
const LOOK_MS: u16 = 10;

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Process id.
    pub pid: u32,
    /// When it started, in clock ticks since boot: field 22 of `/proc/PID/stat`.
    pub start_time_ticks: u64,
}

impl ProcessIdentity {
    /// The identity of the process that has this id now.
    ///
    /// # Errors
    /// No such process.
    pub fn of(pid: u32) -> io::Result<ProcessIdentity> {
        let path = format!("/proc/{pid}/stat");
        let text = fs::read_to_string(&path)?;
        let start_time_ticks = start_time_of_stat(&text).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{path} is not understood"),
            )
        })?;
        Ok(ProcessIdentity {
            pid,
            start_time_ticks,
        })
    }

    /// The identity of this process.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn of_this_process() -> io::Result<ProcessIdentity> {
        ProcessIdentity::of(std::process::id())
    }

    /// Whether it still exists; a process that has ended but was not waited for does not.
    #[must_use]
    pub fn is_alive(self) -> bool {
        let Ok(text) = fs::read_to_string(format!("/proc/{}/stat", self.pid)) else {
            return false;
        };
        start_time_of_stat(&text) == Some(self.start_time_ticks)
            && !matches!(
                fields_after_name(&text).and_then(|mut f| f.next()),
                Some("Z" | "X")
            )
    }

    /// Whether it goes on: it exists, has not been sent `SIGKILL`, and is not on its way out. One that is
    /// may hold locks until it is gone.
    #[must_use]
    pub fn goes_on(self) -> bool {
        // Signs of the end come first: who ends between the looks is not alive in the second, whereas
        // one who is found alive and then no longer there would show no sign.
        let shows_end = self.is_exiting() || self.is_killed();
        !shows_end && self.is_alive()
    }

    /// Whether it has begun to exit.
    fn is_exiting(self) -> bool {
        // From the kernel's include/linux/sched.h.
        const PF_EXITING: u64 = 0x4;
        const FLAGS_FIELD: usize = 6;
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        fields_after_name(&stat)
            .and_then(|mut fields| fields.nth(FLAGS_FIELD)?.parse::<u64>().ok())
            .is_some_and(|flags| flags & PF_EXITING != 0)
    }

    /// Whether a `SIGKILL` waits for it.
    fn is_killed(self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let kill_bit = 1_u64 << (Signal::SIGKILL as u32 - 1);
        status
            .lines()
            .filter_map(|line| {
                line.strip_prefix("SigPnd:")
                    .or_else(|| line.strip_prefix("ShdPnd:"))
            })
            .filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .any(|mask| mask & kill_bit != 0)
    }

    /// Sends a signal to exactly this process. `Ok(false)` when it is gone.
    ///
    /// # Errors
    /// Not allowed.
    pub fn signal(self, signal: Signal) -> io::Result<bool> {
        let handle = match pidfd::open(self.pid) {
            Ok(handle) => handle,
            Err(error) if is_no_such_process(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
        // The handle holds whichever process has the number; only now is it safe to compare.
        if !self.is_alive() {
            return Ok(false);
        }
        match pidfd::send_signal(&handle, signal) {
            Ok(()) => Ok(true),
            Err(error) if is_no_such_process(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Kills it and waits until it is gone with all of its threads, or the deadline has passed.
    /// `Ok(true)` when gone. Its first thread may have ended long before the others, which still
    /// hold what it had open.
    ///
    /// # Errors
    /// Not allowed.
    pub fn kill_and_wait(self, deadline: MonotonicNs) -> io::Result<bool> {
        let handle = match pidfd::open(self.pid) {
            Ok(handle) => handle,
            Err(error) if is_no_such_process(&error) => return Ok(true),
            Err(error) => return Err(error),
        };
        // The handle holds whichever process has the number; only now is it safe to compare.
        if ProcessIdentity::of(self.pid).ok() != Some(self) {
            return Ok(true);
        }
        match pidfd::send_signal(&handle, Signal::SIGKILL) {
            Ok(()) => {}
            Err(error) if is_no_such_process(&error) => return Ok(true),
            Err(error) => return Err(error),
        }
        while !pidfd::has_ended_within(&handle, LOOK_MS)? {
            if clock::now() >= deadline {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn is_no_such_process(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ESRCH as i32)
}

/// The fields of `/proc/PID/stat` after the name, which may itself hold spaces and brackets.
pub(crate) fn fields_after_name(stat: &str) -> Option<std::str::SplitAsciiWhitespace<'_>> {
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_ascii_whitespace())
}

fn start_time_of_stat(stat: &str) -> Option<u64> {
    // Field 22 of the file; the state, the first after the name, is field 3.
    fields_after_name(stat)?.nth(22 - 3)?.parse().ok()
}

/// How this program starts itself again in another part: guardian, first process of a node, job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelfCommand {
    arguments: Vec<OsString>,
}

impl SelfCommand {
    /// `hexloop agent PART`.
    #[must_use]
    pub fn hexloop() -> SelfCommand {
        SelfCommand {
            arguments: vec!["agent".into()],
        }
    }

    /// Other arguments before the part's name: for programs that embed the agent.
    #[must_use]
    pub fn with_arguments(arguments: Vec<OsString>) -> SelfCommand {
        SelfCommand { arguments }
    }

    /// The command for one part. It goes through `/proc/self/exe`, so that it is this very
    /// file, also when the file was replaced or lies where the new process may not look.
    #[must_use]
    pub fn part(&self, part: &str) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.args(&self.arguments).arg(part);
        command
    }

    /// The arguments for one part, without the program.
    #[must_use]
    pub fn arguments_of_part(&self, part: &str) -> Vec<OsString> {
        let mut arguments = self.arguments.clone();
        arguments.push(part.into());
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Stdio;

    #[test]
    fn a_name_with_spaces_and_brackets_does_not_shift_the_fields() {
        let stat = "17 (a) b) (c) S 1 17 17 0 -1 4194304 100 0 0 0 3 4 5 6 20 0 1 0 98765 1 2";
        assert_eq!(start_time_of_stat(stat), Some(98_765));
    }

    /// Its first thread ends at once, another one lives on.
    const WITHOUT_FIRST_THREAD: &str = "
        #include <pthread.h>
        #include <unistd.h>
        static void *wait_long(void *nothing) { sleep(600); return nothing; }
        int main(void) {
            pthread_t thread;
            if (pthread_create(&thread, 0, wait_long, 0)) return 1;
            pthread_exit(0);
        }";

    #[test]
    fn a_process_whose_first_thread_is_a_zombie_is_killed_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let [source, program] = ["source.c", "program"].map(|name| directory.path().join(name));
        fs::write(&source, WITHOUT_FIRST_THREAD).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args(["-pthread", "-o"]).args([&program, &source]);
        assert!(compiler.status().unwrap().success());
        let mut child = Command::new(&program).stdin(Stdio::null()).spawn().unwrap();
        let identity = ProcessIdentity::of(child.id()).unwrap();
        while identity.is_alive() {
            std::thread::yield_now();
        }
        assert!(
            child.try_wait().unwrap().is_none(),
            "its threads have not ended"
        );
        let deadline = clock::now() + 60_000_000_000;
        assert!(identity.kill_and_wait(deadline).unwrap());
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32));
    }

    #[test]
    fn a_child_is_killed_once_and_a_process_with_another_start_time_never() {
        let mut child = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let identity = ProcessIdentity::of(child.id()).unwrap();
        assert!(identity.is_alive());
        let earlier = ProcessIdentity {
            start_time_ticks: identity.start_time_ticks - 1,
            ..identity
        };
        assert!(!earlier.signal(Signal::SIGKILL).unwrap());
        assert!(identity.is_alive());
        assert!(
            identity
                .kill_and_wait(clock::now() + 5_000_000_000)
                .unwrap()
        );
        assert!(!identity.is_alive());
        child.wait().unwrap();
        assert!(!identity.signal(Signal::SIGKILL).unwrap());
    }
}
