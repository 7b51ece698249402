//! Changing a link from another thread while its trace plays.

use std::sync::mpsc::{SyncSender, sync_channel};

use hexloop_traces::{Direction, Intervention, LinkChange, PlaybackChange};
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

    /// Whether these directions of the link can be changed so while it plays, as far as can be told
    /// before.
    ///
    /// # Errors
    /// Its datapath plays what it was given to its end, or never does what the change asks for; or what
    /// is overridden is impossible beside what the trace keeps.
    pub fn check(&self, directions: &[Direction], change: &LinkChange) -> Result<(), LinkError> {
        self.check_possible(directions, change)?;
        match &self.datapath {
            RemoteDatapath::Fixed(datapath) => Err(self.refused(datapath)),
            RemoteDatapath::Edt(edt) => edt.check(change),
            RemoteDatapath::Relay(_) | RemoteDatapath::Tc(_) => Ok(()),
        }
    }

    fn check_possible(
        &self,
        directions: &[Direction],
        change: &LinkChange,
    ) -> Result<(), LinkError> {
        let LinkChange::Play(PlaybackChange::Override(over)) = change else {
            return Ok(());
        };
        let mut bounds = directions
            .iter()
            .map(|direction| self.reference(*direction).curve().losses());
        match bounds.find_map(|bounds| bounds.refuse(over)) {
            None => Ok(()),
            Some(reason) => Err(LinkError::ChangeImpossible {
                link: self.link.clone(),
                reason,
            }),
        }
    }

    fn reference(&self, direction: Direction) -> &Reference {
        &self.references[usize::from(direction == Direction::Up)]
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
    /// The link is not playing, its datapath cannot be changed while it plays, or the change is
    /// impossible beside what the trace keeps.
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
        self.check_possible(directions, &change)?;
        let mut latest_ns = None;
        for &direction in directions {
            let at_ns = self.change_one(direction, at, change)?;
            if let (Some(at_ns), LinkChange::Play(change)) = (at_ns, change) {
                self.reference(direction)
                    .apply(Intervention { at_ns, change });
            }
            latest_ns = latest_ns.max(at_ns);
        }
        latest_ns.ok_or_else(|| LinkError::NotPlaying {
            link: self.link.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::testing::{MS, state, trace};
    use hexloop_traces::{EndPolicy, LinkState, StateOverride};

    #[test]
    fn a_change_that_is_impossible_beside_the_trace_is_refused_before_it_is_made() {
        let bursty = LinkState {
            loss_ppb: 100_000_000,
            loss_burst_milli: 2000,
            ..state(1_000_000, 0)
        };
        let trace = trace(EndPolicy::Hold, &[(MS, bursty)]);
        let references = Direction::BOTH.map(|direction| Reference::new(&trace, direction));
        let remote = LinkRemote::new(
            "radio".to_owned(),
            RemoteDatapath::Fixed("stub"),
            references,
        );
        let lossy = |loss_ppb| {
            LinkChange::Play(PlaybackChange::Override(StateOverride {
                loss_ppb: Some(loss_ppb),
                ..StateOverride::NONE
            }))
        };
        let impossible = lossy(900_000_000);
        for refused in [
            remote.check(&[Direction::Up], &impossible),
            remote.change(&Direction::BOTH, 0, impossible).map(|_| ()),
        ] {
            let LinkError::ChangeImpossible { link, reason } = refused.unwrap_err() else {
                panic!("another error");
            };
            assert_eq!(link, "radio");
            assert!(reason.contains("9 packets or more"), "{reason}");
        }
        // What is possible comes as far as the datapath, which cannot be changed.
        let possible = remote.check(&[Direction::Up], &lossy(600_000_000));
        assert!(matches!(possible, Err(LinkError::ChangeRefused { .. })));
    }
}
