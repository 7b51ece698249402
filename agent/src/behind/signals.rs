//! Signals and terminal of a program that waits for a command on the same terminal.
//!
//! What the terminal sends (Ctrl-C, Ctrl-\) reaches the command as well, which is in the same
//! foreground group or in one that it made itself; here it is swallowed. What somebody sends to
//! this process alone is passed on. A stop (Ctrl-Z) stops both, and a continuation continues both.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::getpgrp;

use crate::sys::terminal;

const PASSED_ON: [Signal; 6] = [
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// Those with which somebody wants a program to end.
const ENDS: [Signal; 4] = [
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGHUP,
];

/// Blocks the signals that would end this program. They come out of `Signals::read`. To be
/// called before any thread exists, so that all threads block them.
///
/// # Errors
/// Never on Linux.
pub fn block() -> io::Result<()> {
    let mut set: SigSet = PASSED_ON.into_iter().collect();
    // The terminal is taken back after a command that made itself the foreground.
    set.add(Signal::SIGTTOU);
    set.thread_block()?;
    Ok(())
}

/// The signals and the terminal, while a command runs. Dropping it takes the terminal back.
#[derive(Debug)]
pub(crate) struct Signals {
    descriptor: SignalFd,
    foreground: Option<libc::pid_t>,
}

impl Signals {
    /// Takes over; [`block`] has been called.
    pub(crate) fn take_over() -> io::Result<Signals> {
        let set: SigSet = PASSED_ON.into_iter().collect();
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let foreground = terminal::foreground(io::stdin())
            .ok()
            .filter(|group| *group == getpgrp().as_raw());
        Ok(Signals {
            descriptor: SignalFd::with_flags(&set, flags)?,
            foreground,
        })
    }

    /// Whether any came, also from the terminal: where no command has it too.
    pub(crate) fn any_came(&self) -> io::Result<bool> {
        let mut any = false;
        while self.descriptor.read_signal()?.is_some() {
            any = true;
        }
        Ok(any)
    }

    /// The first that would have ended a program, also from the terminal: where no command has it yet.
    pub(crate) fn end_before_start(&self) -> io::Result<Option<Signal>> {
        let mut first = None;
        while let Some(information) = self.descriptor.read_signal()? {
            let number = i32::try_from(information.ssi_signo).map_err(io::Error::other)?;
            let signal = Signal::try_from(number).ok();
            first = first.or(signal.filter(|signal| ENDS.contains(signal)));
        }
        Ok(first)
    }

    /// What is to be passed on.
    pub(crate) fn read(&self) -> io::Result<Vec<Signal>> {
        let mut signals = Vec::new();
        while let Some(information) = self.descriptor.read_signal()? {
            // Of the kernel's own making: the terminal's, and the command has it too.
            if information.ssi_code == libc::SI_KERNEL {
                continue;
            }
            let number = i32::try_from(information.ssi_signo).map_err(io::Error::other)?;
            signals.extend(Signal::try_from(number).ok());
        }
        Ok(signals)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        if let Some(group) = self.foreground {
            // Without a terminal any more there is nothing to take back.
            let _ = terminal::make_foreground(io::stdin(), group);
        }
    }
}
