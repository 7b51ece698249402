//! Changing a link from another thread while its trace plays.

use hexloop_traces::{Direction, Intervention, LinkChange};
use hexloop_workloads::clock::MonotonicNs;

use super::LinkError;
use super::reference::Reference;
use super::relay::RelayRemote;

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

    /// Whether the link can be changed at all while it plays.
    ///
    /// # Errors
    /// Its datapath plays what it was given to its end.
    pub fn check(&self) -> Result<(), LinkError> {
        self.relay().map(|_| ())
    }

    fn relay(&self) -> Result<&RelayRemote, LinkError> {
        match &self.datapath {
            RemoteDatapath::Relay(relay) => Ok(relay),
            RemoteDatapath::Fixed(datapath) => Err(LinkError::ChangeRefused {
                link: self.link.clone(),
                datapath,
            }),
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
        let relay = self.relay()?;
        let directions = match change {
            LinkChange::Play(_) => directions,
            LinkChange::Set(_) => &Direction::BOTH,
        };
        let mut latest_ns = None;
        for &direction in directions {
            let at_ns = relay.change(direction, at, change)?;
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
