//! Changing a link from another thread while its trace plays.

use std::sync::mpsc::{SyncSender, sync_channel};

use hexloop_traces::{Direction, Intervention, LinkChange};
use hexloop_workloads::clock::MonotonicNs;

use super::LinkError;
use super::edt::EdtRemote;
use super::reference::Reference;
use super::relay::RelayRemote;
use super::tc::TcRemote;

/// A change of one direction, on its way to the thread that makes it.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) direction: Direction,
    /// From when on it is to hold.
    pub(super) at: MonotonicNs,
    pub(super) change: LinkChange,
    /// Gets the offset from T0 at which it takes hold; `None` if nothing plays.
    pub(super) reply: SyncSender<Result<Option<u64>, LinkError>>,
}

/// Hands an order to the thread of a link, `hand_over` saying whether it is still there, and waits
/// for what became of it.
pub(super) fn ask(
    (link, thread): (&str, &'static str),
    (direction, at, change): (Direction, MonotonicNs, LinkChange),
    hand_over: impl FnOnce(Order) -> bool,
) -> Result<Option<u64>, LinkError> {
    let gone = || LinkError::ThreadGone {
        link: link.to_owned(),
        name: thread,
    };
    let (reply, answer) = sync_channel(1);
    let order = Order {
        direction,
        at,
        change,
        reply,
    };
    if !hand_over(order) {
        return Err(gone());
    }
    answer.recv().map_err(|_closed| gone())?
}

/// A handle on a link, for timeline events and for whoever intervenes by hand. Copies are handles
/// on the same link; they do not keep it.
#[derive(Debug, Clone)]
pub struct LinkRemote {
    link: String,
    datapath: RemoteDatapath,
    /// What the tap judges by: it hears of every change that was made.
    references: [Reference; 2],
}

/// What shapes the link.
#[derive(Debug, Clone)]
pub(super) enum RemoteDatapath {
    Relay(RelayRemote),
    Tc(TcRemote),
    Edt(EdtRemote),
    /// One that plays what it was given to its end, by name.
    Fixed(&'static str),
}

impl LinkRemote {
    pub(super) const fn new(
        link: String,
        datapath: RemoteDatapath,
        references: [Reference; 2],
    ) -> LinkRemote {
        LinkRemote {
            link,
            datapath,
            references,
        }
    }

    /// Whether the link can be changed so while it plays, as far as can be told before.
    ///
    /// # Errors
    /// Its datapath plays what it was given to its end, or never does what the change asks for.
    pub fn check(&self, change: &LinkChange) -> Result<(), LinkError> {
        match &self.datapath {
            RemoteDatapath::Fixed(datapath) => Err(self.refused(datapath)),
            RemoteDatapath::Edt(edt) => edt.check(change),
            RemoteDatapath::Relay(_) | RemoteDatapath::Tc(_) => Ok(()),
        }
    }

    fn refused(&self, datapath: &'static str) -> LinkError {
        LinkError::ChangeRefused {
            link: self.link.clone(),
            datapath,
        }
    }

    fn change_one(
        &self,
        direction: Direction,
        at: MonotonicNs,
        change: LinkChange,
    ) -> Result<Option<u64>, LinkError> {
        match &self.datapath {
            RemoteDatapath::Relay(relay) => relay.change(direction, at, change),
            RemoteDatapath::Tc(tc) => tc.change(direction, at, change),
            RemoteDatapath::Edt(edt) => edt.change(direction, at, change),
            RemoteDatapath::Fixed(datapath) => Err(self.refused(datapath)),
        }
    }

    /// Changes these directions of the link from `at` on or, if that is gone by, from now on.
    /// Returns the moment from which on the change holds in all of them, as an offset from T0.
    /// Settings change in both directions.
    ///
    /// # Errors
    /// The link is not playing, or its datapath cannot be changed while it plays.
    pub fn change(
        &self,
        directions: &[Direction],
        at: MonotonicNs,
        change: LinkChange,
    ) -> Result<u64, LinkError> {
        let directions = match change {
            LinkChange::Play(_) => directions,
            LinkChange::Set(_) => &Direction::BOTH,
        };
        let mut latest_ns = None;
        for &direction in directions {
            let at_ns = self.change_one(direction, at, change)?;
            if let (Some(at_ns), LinkChange::Play(change)) = (at_ns, change) {
                let side = usize::from(direction == Direction::Up);
                self.references[side].apply(Intervention { at_ns, change });
            }
            latest_ns = latest_ns.max(at_ns);
        }
        latest_ns.ok_or_else(|| LinkError::NotPlaying {
            link: self.link.clone(),
        })
    }
}
