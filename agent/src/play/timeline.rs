//! The thread that makes the plan's changes of links at their moments.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use hexloop_proto::LinkControl;
use hexloop_topologies::plan::TimelineEvent;
use hexloop_workloads::clock::{self, MonotonicNs};

use super::desk::{ControlDesk, ControlError};
use super::error::PlayError;
use crate::link::make_punctual;

/// How long before its moment a change is handed over, so that it takes hold in time.
const AHEAD_NS: u64 = 5_000_000;

/// How long it sleeps without looking whether it is to end.
const STEP_NS: u64 = 20_000_000;

/// A timeline under way.
#[derive(Debug)]
pub(super) struct Timeline {
    end: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), (String, ControlError)>>,
}

impl Timeline {
    /// Makes these changes, which are in the order of their moments, from `t0` on.
    pub(super) fn start(
        events: Vec<TimelineEvent>,
        t0: MonotonicNs,
        desk: ControlDesk,
    ) -> io::Result<Timeline> {
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = std::thread::Builder::new()
            .name("hx-events".to_owned())
            .spawn(move || {
                make_punctual();
                play(&events, t0, &desk, &ended)
            })?;
        Ok(Timeline { end, thread })
    }

    /// Ends it; events that were not reached are left out.
    pub(super) fn finish(self) -> Result<(), PlayError> {
        self.end.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(Ok(())) => Ok(()),
            Ok(Err((event, source))) => Err(PlayError::Event { event, source }),
            Err(_panic) => Err(PlayError::System {
                action: "play the timeline",
                source: io::Error::other("its thread panicked"),
            }),
        }
    }
}

fn play(
    events: &[TimelineEvent],
    t0: MonotonicNs,
    desk: &ControlDesk,
    end: &AtomicBool,
) -> Result<(), (String, ControlError)> {
    for event in events {
        let due = t0.saturating_add(event.at_ns);
        let hand_over = due.saturating_sub(AHEAD_NS).max(t0);
        while clock::now() < hand_over {
            if end.load(Ordering::Relaxed) {
                return Ok(());
            }
            clock::sleep_until(hand_over.min(clock::now() + STEP_NS));
        }
        let control = LinkControl {
            link: event.link.clone(),
            directions: event.directions.clone(),
            change: event.change,
        };
        match desk.change(&control, due, Some(&event.name)) {
            Ok(_) => {}
            // The phase ended in this very moment.
            Err(ControlError::Idle) => return Ok(()),
            Err(error) => return Err((event.name.clone(), error)),
        }
    }
    Ok(())
}
