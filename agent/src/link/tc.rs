//! The kernel's queueing disciplines as a datapath: not built yet.

use super::LinkError;
use super::relay::{Play, Played};
use super::scheduling::Scheduling;

/// Plays a trace by changing queueing disciplines in place.
#[derive(Debug)]
pub(crate) struct TcPlayer {
    scheduling: Scheduling,
}

impl TcPlayer {
    pub(crate) fn play(&self, _play: Play) -> Result<(), LinkError> {
        Err(LinkError::NotPlaying {
            link: self.scheduling.description.clone(),
        })
    }

    pub(crate) fn stop(&self) -> Result<Played, LinkError> {
        Err(LinkError::NotPlaying {
            link: self.scheduling.description.clone(),
        })
    }

    pub(crate) const fn scheduling(&self) -> &Scheduling {
        &self.scheduling
    }
}
