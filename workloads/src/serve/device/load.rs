//! The load generator: sends every request at its time, whatever became of those before.

use std::sync::mpsc::Sender;

use crate::clock::{self, MonotonicNs};
use crate::request::ScheduledRequest;
use crate::serve::signal::{Signal, tell};

/// A request that has been sent, with its prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::serve) struct Sent {
    pub(in crate::serve) request: ScheduledRequest,
    pub(in crate::serve) prompt: Vec<u32>,
}

/// Plays the schedule from `t0` on into `queue`, which never makes it wait; ends early when
/// nobody listens any more.
pub(super) fn generate(
    schedule: Vec<Sent>,
    t0: MonotonicNs,
    send_delay_ns: u64,
    signals: &Sender<Signal>,
    queue: &Sender<Sent>,
) {
    for due in schedule {
        let moment = t0
            .saturating_add(due.request.due_ns)
            .saturating_add(send_delay_ns);
        clock::sleep_until(moment);
        tell(
            signals,
            Signal::Sent {
                request: due.request.id,
                at: clock::now(),
            },
        );
        if queue.send(due).is_err() {
            return;
        }
    }
}
