//! A command that is waited for on the caller's terminal, without anything around it: started as its
//! user, told what signals the caller gets, and asked at its end what it used.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use hexloop_workloads::clock::{self, MonotonicNs};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::Gid;

use crate::behind::{Said, User, signals};
use crate::sys::spawn::Credentials;
use crate::sys::{pidfd, spawn, wait};

/// What to start.
#[derive(Debug, Clone)]
pub struct Attended {
    /// The command and its arguments; the first word is there.
    pub words: Vec<OsString>,
    /// What is added to the caller's environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Whom it runs as; `None` is the caller.
    pub user: Option<User>,
    /// Whether it finds nothing on standard input, which somebody else reads.
    pub without_input: bool,
}

/// What a command used, with the processes that it waited for (getrusage(2)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CommandUse {
    /// CPU time in its own code, in nanoseconds.
    pub user_ns: u64,
    /// CPU time in the kernel, in nanoseconds.
    pub system_ns: u64,
    /// The most memory that any one of its processes had resident, in bytes. The kernel begins to
    /// count before the exec, with what this program has.
    pub peak_memory_bytes: u64,
    /// What this program had: less than this cannot be told.
    pub least_memory_bytes: u64,
    /// Switches to other threads that it asked for by waiting.
    pub voluntary_switches: u64,
    /// Those it did not ask for.
    pub involuntary_switches: u64,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttendedEnd {
    /// How it ended.
    pub said: Said,
    /// When it was started.
    pub began: MonotonicNs,
    /// When it had ended.
    pub ended: MonotonicNs,
    /// What it used; nothing where it never ran.
    pub used: CommandUse,
}

/// Holds the signals that would end this program until it has done its work.
#[derive(Debug)]
pub struct Attendant {
    signals: signals::Signals,
}

impl Attendant {
    /// Takes over. To be called before any thread exists, so that none gets the signals.
    ///
    /// # Errors
    /// The kernel has no descriptor left.
    pub fn begin() -> io::Result<Attendant> {
        signals::block()?;
        let signals = signals::Signals::take_over()?;
        Ok(Attendant { signals })
    }

    /// Waits until a moment; whether it came before any signal.
    ///
    /// # Errors
    /// Never on Linux.
    pub fn wait_until(&self, deadline: MonotonicNs) -> io::Result<bool> {
        loop {
            let left_ns = deadline.saturating_sub(clock::now());
            if left_ns == 0 {
                return Ok(true);
            }
            let left_ms = u16::try_from(left_ns.div_ceil(1_000_000)).unwrap_or(u16::MAX);
            let mut ready = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, PollTimeout::from(left_ms)) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => {
                    if self.signals.any_came()? {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Runs the command to its end; `started` is told its process id.
    ///
    /// # Errors
    /// It cannot be waited for. That it cannot be run is told in what it said.
    pub fn run(
        &self,
        attended: Attended,
        started: impl FnOnce(MonotonicNs, u32),
    ) -> io::Result<AttendedEnd> {
        let mut words = attended.words.into_iter();
        let program = words.next().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(words).envs(attended.environment);
        if attended.without_input {
            command.stdin(Stdio::null());
        }
        let user = attended.user.map(|user| {
            let groups = user.groups.into_iter().map(Gid::from_raw).collect();
            let (user, group) = (user.user, user.group);
            (Credentials { user, group }, groups)
        });
        spawn::as_user(&mut command, user);
        let began = clock::now();
        let pid = match command.spawn() {
            Ok(child) => child.id(),
            Err(error) => {
                let number = error.raw_os_error().unwrap_or(libc::EIO);
                return Ok(AttendedEnd {
                    said: Said::NotStarted(number),
                    began,
                    ended: clock::now(),
                    used: CommandUse::default(),
                });
            }
        };
        started(began, pid);
        self.wait_for(&pidfd::open(pid)?)?;
        let ended = clock::now();
        let end = wait::wait(pid)?;
        let said = match (end.status.code(), end.status.signal()) {
            (Some(status), _) => Said::Exited(status),
            (None, Some(signal)) => Said::Signalled(signal),
            (None, None) => {
                return Err(io::Error::other(format!(
                    "the command ended with {}, which is neither a status nor a signal",
                    end.status
                )));
            }
        };
        Ok(AttendedEnd {
            said,
            began,
            ended,
            used: used(&end.used)?,
        })
    }

    /// Waits for the end of a process, and passes on what signals come meanwhile.
    fn wait_for(&self, process: &OwnedFd) -> io::Result<()> {
        loop {
            let mut ready = [
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(process.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut ready, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            let [signalled, ended] = ready.map(|one| one.any().unwrap_or(false));
            if signalled {
                for signal in self.signals.read()? {
                    // If it has just ended, the next look tells.
                    let _ = pidfd::send_signal(process, signal);
                }
            }
            if ended {
                return Ok(());
            }
        }
    }
}

/// A number that the kernel counts upwards.
fn count(value: i64) -> io::Result<u64> {
    u64::try_from(value).map_err(io::Error::other)
}

/// What the kernel says of a process that has ended.
fn used(usage: &libc::rusage) -> io::Result<CommandUse> {
    let time_ns = |time: libc::timeval| {
        Ok::<u64, io::Error>(count(time.tv_sec)? * 1_000_000_000 + count(time.tv_usec)? * 1_000)
    };
    let own = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok(CommandUse {
        user_ns: time_ns(usage.ru_utime)?,
        system_ns: time_ns(usage.ru_stime)?,
        // Both in KiB.
        peak_memory_bytes: count(usage.ru_maxrss)? * 1024,
        least_memory_bytes: count(own.max_rss())? * 1024,
        voluntary_switches: count(usage.ru_nvcsw)?,
        involuntary_switches: count(usage.ru_nivcsw)?,
    })
}
