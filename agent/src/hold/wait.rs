//! What a holder waits for: words, signals, the end of its lease, of its guardian, and of the
//! interface.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::timer::{Expiration, TimerSetTimeFlags};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};

use super::renew::LOOK;
use super::shaping::Follower;
use super::standing::{Looks, Standing};
use super::start::{CONFIRM, LATER};
use super::{HoldError, system};
use crate::guardian::{Guardian, timespec};
use crate::link::netlink::RouteSocket;
use crate::link::news::InterfaceNews;

/// Why a wait is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// Somebody said that the machine can still be reached.
    Confirmed,
    /// Nobody said so in time.
    NotConfirmed,
    /// Whoever asked for it is gone.
    Abandoned,
    /// The lease is over.
    LeaseOver,
    /// The trace is over, and says that every limit is lifted then.
    TraceOver,
    /// It was asked to end.
    Cleared,
    /// The guardian process is gone.
    Unguarded,
    /// The interface is gone.
    Vanished,
    /// Another MTU calls for other bursts and queues.
    MtuChanged { from: u32, to: u32 },
    /// Queues were made for packets that were shorter, in bytes.
    PacketsLonger { from: u32, to: u32 },
    /// What shaped it was taken away or replaced.
    Disturbed(String),
    /// This machine is reached over it by now, for this reason.
    Protected(String),
    /// The machine's owner does not allow it any more.
    NotAllowed(String),
    /// Something went wrong.
    Failed(String),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Confirmed => f.write_str("it was confirmed"),
            Ended::NotConfirmed => f.write_str("nobody confirmed it in time"),
            Ended::Abandoned => f.write_str("whoever asked for it went away before confirming it"),
            Ended::LeaseOver => f.write_str("its lease ended"),
            Ended::TraceOver => f.write_str("its trace ended"),
            Ended::Cleared => f.write_str("it was cleared"),
            Ended::Unguarded => f.write_str("its guardian process was killed"),
            Ended::Vanished => f.write_str("the interface vanished"),
            Ended::MtuChanged { from, to } => {
                write!(f, "the MTU of the interface changed from {from} to {to}")
            }
            Ended::PacketsLonger { from, to } => write!(
                f,
                "the interface may be handed packets of {to} bytes (gso_max_size, gro_max_size), and the \
                 queues beside its delay were made for {from}"
            ),
            Ended::Disturbed(what) => write!(f, "what shaped it was disturbed: {what}"),
            Ended::Protected(reason) => {
                write!(f, "this machine is reached over it by now: {reason}")
            }
            Ended::NotAllowed(why) => write!(f, "it is not allowed any more: {why}"),
            Ended::Failed(why) => f.write_str(why),
        }
    }
}

/// What can be waited for.
#[derive(Debug)]
pub(super) struct Waiting {
    signals: SignalFd,
    news: InterfaceNews,
}

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    Word,
    Signal,
    News,
    GuardianGone,
    TimeOver,
}

impl Waiting {
    /// Takes the signals over, before any other thread exists, and listens to the kernel's news.
    pub(super) fn start() -> Result<Waiting, HoldError> {
        let mut mask = SigSet::empty();
        for signal in [
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGUSR1,
            LOOK,
        ] {
            mask.add(signal);
        }
        let start = || -> io::Result<Waiting> {
            mask.thread_block()?;
            let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
            let signals = SignalFd::with_flags(&mask, flags)?;
            let news = InterfaceNews::open_to_everything()?;
            Ok(Waiting { signals, news })
        };
        start().map_err(system("get ready to wait"))
    }

    /// Waits for the word that confirms, until a moment of the clock that counts from the start
    /// of the machine. What does not stand any more by then is not confirmed.
    pub(super) fn for_confirmation(
        &self,
        guardian: &Guardian,
        standing: &Standing<'_>,
        until_boot_ns: u64,
    ) -> Result<Ended, HoldError> {
        let mut looks = Looks::new(standing);
        let confirmed = || Ok(standing.look()?.unwrap_or(Ended::Confirmed));
        let mut hears_words = true;
        loop {
            let look_ns = looks.next_boot_ns().filter(|at_ns| *at_ns < until_boot_ns);
            let timer = timer(look_ns.unwrap_or(until_boot_ns))?;
            match self.wait(guardian, &timer, hears_words, None)? {
                Came::Word => match read_word() {
                    Some(CONFIRM) => return confirmed(),
                    Some(LATER) => hears_words = false,
                    Some(_) => {}
                    None => return Ok(Ended::Abandoned),
                },
                Came::Signal => match self.signals.read_signal() {
                    Ok(Some(signal)) if signal.ssi_signo == Signal::SIGUSR1 as u32 => {
                        return confirmed();
                    }
                    // What is not confirmed is not renewed.
                    Ok(Some(signal)) if signal.ssi_signo == LOOK as u32 => {}
                    Ok(Some(_)) => return Ok(Ended::Cleared),
                    Ok(None) | Err(_) => {}
                },
                Came::News => {
                    self.news.read_away();
                    looks.ask();
                }
                Came::GuardianGone => return Ok(Ended::Unguarded),
                Came::TimeOver if look_ns.is_some() => {
                    if let Some(ended) = looks.look_at_what_is_due()? {
                        return Ok(ended);
                    }
                }
                Came::TimeOver => return Ok(Ended::NotConfirmed),
            }
        }
    }

    /// Follows the trace until the end of the lease, or until something ends it earlier. Whoever
    /// signals that he wants to know something, or another end of the lease, is heard by `looked`, which
    /// returns the latter.
    pub(super) fn for_the_end(
        &self,
        guardian: &Guardian,
        standing: &Standing<'_>,
        follower: &mut Follower<'_>,
        (mut until_boot_ns, looked): (u64, impl Fn(&Follower<'_>) -> Option<u64>),
    ) -> Result<Ended, HoldError> {
        let mut looks = Looks::new(standing);
        let mut socket = RouteSocket::open().map_err(system("open a netlink socket"))?;
        let mut last = None;
        loop {
            let row_ns = follower
                .next_boot_ns()
                .filter(|at_ns| *at_ns < until_boot_ns);
            let next_ns = row_ns.unwrap_or(until_boot_ns);
            // Whatever was to come first comes first: neither keeps the other waiting for ever.
            let look_ns = looks.next_boot_ns().filter(|at_ns| *at_ns < next_ns);
            let timer = timer(look_ns.unwrap_or(next_ns))?;
            let came = self.wait(guardian, &timer, false, last)?;
            last = Some(came);
            match came {
                Came::Signal => match self.signals.read_signal() {
                    Ok(Some(signal))
                        if [Signal::SIGUSR1, LOOK]
                            .iter()
                            .any(|known| signal.ssi_signo == *known as u32) =>
                    {
                        // What does not stand any more is not confirmed or renewed either.
                        if let Some(ended) = looks.look()? {
                            return Ok(ended);
                        }
                        if signal.ssi_signo == LOOK as u32 {
                            until_boot_ns = looked(follower).unwrap_or(until_boot_ns);
                        }
                    }
                    Ok(Some(_)) => return Ok(Ended::Cleared),
                    Ok(None) | Err(_) => {}
                },
                Came::News => {
                    self.news.read_away();
                    looks.ask();
                }
                Came::GuardianGone => return Ok(Ended::Unguarded),
                Came::TimeOver if look_ns.is_some() => {
                    if let Some(ended) = looks.look_at_what_is_due()? {
                        return Ok(ended);
                    }
                }
                Came::TimeOver if row_ns.is_some() => {
                    if !follower.go_on(&mut socket)? {
                        return Ok(Ended::TraceOver);
                    }
                }
                Came::TimeOver => return Ok(Ended::LeaseOver),
                Came::Word => {}
            }
        }
    }

    /// Waits for what comes next, after what came last.
    fn wait(
        &self,
        guardian: &Guardian,
        timer: &TimerFd,
        hears_words: bool,
        last: Option<Came>,
    ) -> Result<Came, HoldError> {
        let stdin = io::stdin();
        loop {
            let words = if hears_words {
                PollFlags::POLLIN
            } else {
                PollFlags::empty()
            };
            let mut waiting = [
                PollFd::new(guardian.lifeline(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(timer.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.news.as_fd(), PollFlags::POLLIN),
                PollFd::new(stdin.as_fd(), words),
            ];
            // Without words to wait for, an input that has ended must not wake us for ever.
            let count = if hears_words { 5 } else { 4 };
            match poll(&mut waiting[..count], PollTimeout::NONE) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return Err(system("wait")(error.into())),
            }
            let came = [
                Came::GuardianGone,
                Came::Signal,
                Came::TimeOver,
                Came::News,
                Came::Word,
            ];
            let there = waiting[..count]
                .iter()
                .zip(came)
                .filter(|(one, _)| one.any().unwrap_or(false))
                .map(|(_, came)| came);
            if let Some(came) = whose_turn(there, last) {
                return Ok(came);
            }
        }
    }
}

/// Of what is there, in the order of its weight, what is next. Times and news take turns: neither a trace
/// that takes all of the time nor news upon news make the holder deaf to the other.
fn whose_turn(there: impl IntoIterator<Item = Came>, last: Option<Came>) -> Option<Came> {
    let mut there = there.into_iter();
    let first = there.next()?;
    if first != Came::TimeOver || last != Some(Came::TimeOver) {
        return Some(first);
    }
    Some(there.find(|came| *came == Came::News).unwrap_or(first))
}

pub(super) fn timer(until_boot_ns: u64) -> Result<TimerFd, HoldError> {
    let start = || -> nix::Result<TimerFd> {
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC)?;
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME;
        timer.set(Expiration::OneShot(timespec(until_boot_ns)), flags)?;
        Ok(timer)
    };
    start().map_err(|error| system("set a timer")(error.into()))
}

/// One word of whoever started this process; `None` at its end.
fn read_word() -> Option<u8> {
    let mut byte = [0];
    let input = io::stdin().as_fd().try_clone_to_owned().ok()?;
    match std::fs::File::from(input).read(&mut byte) {
        Ok(1) => Some(byte[0]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_are_over_and_news_take_turns() {
        let both = [Came::TimeOver, Came::News];
        let mut last = None;
        let turns = [(); 4].map(|()| {
            last = whose_turn(both, last);
            last
        });
        let [time, news] = both.map(Some);
        assert_eq!(turns, [time, news, time, news]);
    }

    #[test]
    fn what_weighs_more_goes_first_and_what_is_alone_at_once() {
        let all = [
            Came::GuardianGone,
            Came::Signal,
            Came::TimeOver,
            Came::News,
            Came::Word,
        ];
        for last in all {
            assert_eq!(whose_turn(all, Some(last)), Some(Came::GuardianGone));
            assert_eq!(whose_turn([last], Some(last)), Some(last));
        }
        let last = Some(Came::TimeOver);
        assert_eq!(whose_turn([Came::TimeOver, Came::Word], last), last);
        assert_eq!(whose_turn([], last), None);
    }
}
