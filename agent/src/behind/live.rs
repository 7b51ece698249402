//! The commands live: signals are passed on, the ends of the link are watched, and the end of the first
//! command is waited for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use hexloop_workloads::clock::{self, MonotonicNs};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::resident::Running;
use super::signals::Signals;
use super::watch::{Disturbance, Watch};
use super::{BehindError, END_WITHIN_NS, Said};

/// The ends of the link while a command runs behind it, and who is told what becomes of them.
pub(super) struct Watched<Tell> {
    pub(super) watch: Watch,
    pub(super) t0: MonotonicNs,
    pub(super) tell: Tell,
    pub(super) disturbances: Vec<Disturbance>,
}

impl<Tell: FnMut(&Disturbance)> Watched<Tell> {
    /// Looks at the ends and tells what is wrong; whether the link is gone for good.
    fn look(&mut self) -> bool {
        let at_ns = clock::now().saturating_sub(self.t0);
        let fresh = self.watch.look(at_ns);
        fresh.iter().for_each(&mut self.tell);
        self.disturbances.extend(fresh);
        self.disturbances.iter().any(|one| one.is_final)
    }
}

/// Lets the commands go and waits for the end of the first. Says how that ended, and how the other one
/// had, if it had.
pub(super) fn live(
    signals: &Signals,
    mut running: Running,
    mut peer: Option<Running>,
    watched: &mut Watched<impl FnMut(&Disturbance)>,
) -> Result<(Option<Said>, Option<Said>), BehindError> {
    // Making the link takes a while, and nobody heard what came meanwhile.
    let interrupted = signals.end_before_start().map_err(BehindError::Signals)?;
    if let Some(signal) = interrupted {
        return Err(BehindError::Interrupted { signal });
    }
    let mut peer_said = None;
    if let Some(peer) = &mut peer {
        peer.go();
        match peer.next() {
            Some(Said::Started) => {}
            Some(Said::NotStarted(number)) => {
                return Err(BehindError::NoPeer(io::Error::from_raw_os_error(number)));
            }
            said => peer_said = said,
        }
    }
    running.go();
    // When it is killed, if it is to end.
    let mut deadline = None;
    loop {
        if watched.look() && deadline.is_none() {
            running.signal_all(Signal::SIGTERM);
            deadline = Some(clock::now() + END_WITHIN_NS);
        }
        if deadline.is_some_and(|deadline| clock::now() >= deadline) {
            // Everything in its namespace goes with its first process.
            drop(running);
            let killed = Said::Signalled(Signal::SIGKILL as i32);
            return Ok((Some(killed), peer_said));
        }
        let news = watched.watch.descriptors();
        let readable =
            wait(signals, &running, peer.as_ref(), news, deadline).map_err(BehindError::Signals)?;
        for signal in signals.read().map_err(BehindError::Signals)? {
            running.signal(signal);
        }
        if readable.peer
            && let Some(one) = &mut peer
        {
            peer_said = one
                .next()
                .filter(|said| *said != Said::Started)
                .or(peer_said);
            peer = None;
        }
        if readable.command {
            match running.next() {
                Some(Said::Started) => {}
                said => return Ok((said, peer_said)),
            }
        }
    }
}

struct Readable {
    command: bool,
    peer: bool,
}

/// Waits until there is something to do, or until a moment.
fn wait(
    signals: &Signals,
    running: &Running,
    peer: Option<&Running>,
    news: [BorrowedFd<'_>; 2],
    until: Option<MonotonicNs>,
) -> io::Result<Readable> {
    let mut polled = vec![
        PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        PollFd::new(running.as_fd(), PollFlags::POLLIN),
    ];
    polled.extend(news.map(|news| PollFd::new(news, PollFlags::POLLIN)));
    polled.extend(peer.map(|peer| PollFd::new(peer.as_fd(), PollFlags::POLLIN)));
    let buffered = running.has_more() || peer.is_some_and(Running::has_more);
    let limit = match until {
        _ if buffered => PollTimeout::ZERO,
        None => PollTimeout::NONE,
        Some(until) => {
            let left_ms = until.saturating_sub(clock::now()).div_ceil(1_000_000);
            PollTimeout::try_from(left_ms).unwrap_or(PollTimeout::MAX)
        }
    };
    match poll(&mut polled, limit) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    let ready = |place: usize| polled.get(place).is_some_and(|fd| fd.any().unwrap_or(true));
    Ok(Readable {
        command: ready(1) || running.has_more(),
        peer: ready(4) || peer.is_some_and(Running::has_more),
    })
}
