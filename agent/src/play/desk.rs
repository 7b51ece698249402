//! Where links are changed while a phase plays: by the plan's timeline and by hand. Every change
//! that was made is an event with the moment it was asked for and the one from which on it holds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use hexloop_proto::{EventBody, LinkChanged, LinkControl};
use hexloop_workloads::clock::{self, MonotonicNs};

use super::sink::EventSink;
use crate::link::{LinkError, LinkRemote};

/// Shared by those who change links and the one who plays the plan.
#[derive(Debug, Clone, Default)]
pub struct ControlDesk {
    open: Arc<Mutex<Option<OpenDesk>>>,
}

/// A phase whose links may be changed.
#[derive(Debug, Clone)]
struct OpenDesk {
    phase: String,
    t0: MonotonicNs,
    links: BTreeMap<String, LinkRemote>,
    events: Arc<EventSink>,
}

/// A change that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The phase.
    pub phase: String,
    /// From when on it holds, from T0.
    pub at_ns: u64,
    /// The same moment.
    pub holds_from: MonotonicNs,
}

/// Why a link was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// Nothing plays.
    #[error("no phase is playing; links can be changed from a phase's T0 to its end")]
    Idle,
    /// No such link.
    #[error("there is no link {link}; known links: {known}")]
    UnknownLink {
        /// What was asked for.
        link: String,
        /// What there is.
        known: String,
    },
    /// The link refused.
    #[error(transparent)]
    Link(#[from] LinkError),
}

impl ControlDesk {
    /// Links may be changed from now on.
    pub(super) fn open(
        &self,
        phase: &str,
        t0: MonotonicNs,
        links: BTreeMap<String, LinkRemote>,
        events: &Arc<EventSink>,
    ) {
        self.put(Some(OpenDesk {
            phase: phase.to_owned(),
            t0,
            links,
            events: Arc::clone(events),
        }));
    }

    /// They may not any more.
    pub(super) fn close(&self) {
        self.put(None);
    }

    fn put(&self, desk: Option<OpenDesk>) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = desk;
    }

    /// Changes a link from `due` on or, if that is gone by, from now on; `event` is the event of
    /// the plan that asked.
    ///
    /// # Errors
    /// Nothing plays, there is no such link, or it refuses.
    pub fn change(
        &self,
        control: &LinkControl,
        due: MonotonicNs,
        event: Option<&str>,
    ) -> Result<Made, ControlError> {
        let held = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let desk = held.clone().ok_or(ControlError::Idle)?;
        drop(held);
        let remote = desk.links.get(&control.link);
        let remote = remote.ok_or_else(|| ControlError::UnknownLink {
            link: control.link.clone(),
            known: desk.links.keys().cloned().collect::<Vec<_>>().join(", "),
        })?;
        let at_ns = remote.change(&control.directions, due, control.change)?;
        let changed = LinkChanged {
            asked_by: event.map(str::to_owned),
            control: control.clone(),
            at_ns,
        };
        let body = EventBody::LinkChanged(changed);
        desk.events.emit_made(due, desk.t0 + at_ns, body);
        Ok(Made {
            phase: desk.phase,
            at_ns,
            holds_from: desk.t0 + at_ns,
        })
    }

    /// Changes a link by hand.
    ///
    /// # Errors
    /// As [`ControlDesk::change`].
    pub fn by_hand(&self, control: &LinkControl) -> Result<Made, ControlError> {
        self.change(control, clock::now(), None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hexloop_traces::{Direction, LinkChange, PlaybackChange};

    #[test]
    fn nothing_can_be_changed_while_nothing_plays_and_no_link_that_is_not_there() {
        let desk = ControlDesk::default();
        let control = LinkControl {
            link: "radio".to_owned(),
            directions: Direction::BOTH.to_vec(),
            change: LinkChange::Play(PlaybackChange::Pause),
        };
        assert!(matches!(desk.by_hand(&control), Err(ControlError::Idle)));
        let events = Arc::new(EventSink::new(tokio::sync::mpsc::channel(1).0));
        desk.open("split", clock::now(), BTreeMap::new(), &events);
        let refused = desk.by_hand(&control).unwrap_err();
        assert!(
            matches!(refused, ControlError::UnknownLink { .. }),
            "{refused}"
        );
        desk.close();
        assert!(matches!(desk.by_hand(&control), Err(ControlError::Idle)));
    }
}
