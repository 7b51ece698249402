//! Where events go: a bounded channel to the reader, which never holds up a measurement.
//!
//! What can be missed (windows of phases, samples, log lines) is dropped when the channel is full,
//! and counted; everything else waits here until there is room.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hexloop_proto::{Event, EventBody};
use hexloop_workloads::clock::{self, MonotonicNs};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

/// The writing end of the stream of events.
#[derive(Debug)]
pub struct EventSink {
    sender: Sender<Event>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    sequence: u64,
    phase: Option<String>,
    /// Zero of the time scale: T0 of the phase, else the start of the agent's work.
    origin_ns: MonotonicNs,
    start_ns: MonotonicNs,
    waiting: VecDeque<Event>,
    dropped: u64,
}

/// Whether the results stand without it. Windows of a calibration come at once when nothing is
/// measured any more, and can wait.
const fn can_be_missed(body: &EventBody, phase: Option<&str>) -> bool {
    match body {
        EventBody::LinkWindow(_) => phase.is_some(),
        EventBody::NodeSample(_)
        | EventBody::Log { .. }
        | EventBody::Meters(_)
        | EventBody::Gpu(_)
        | EventBody::Cores(_) => true,
        _ => false,
    }
}

impl EventSink {
    /// A sink whose time scale starts now.
    #[must_use]
    pub fn new(sender: Sender<Event>) -> EventSink {
        let start_ns = clock::now();
        let state = State {
            sequence: 0,
            phase: None,
            origin_ns: start_ns,
            start_ns,
            waiting: VecDeque::new(),
            dropped: 0,
        };
        EventSink {
            sender,
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Events belong to this phase from now on, and their times count from `t0`.
    pub fn begin_phase(&self, name: &str, t0: MonotonicNs) {
        let mut state = self.state();
        state.phase = Some(name.to_owned());
        state.origin_ns = t0;
    }

    /// Events belong to no phase from now on.
    pub fn end_phase(&self) {
        let mut state = self.state();
        state.phase = None;
        state.origin_ns = state.start_ns;
    }

    /// Something happened now.
    pub fn emit(&self, body: EventBody) {
        self.emit_due(None, body);
    }

    /// Something happened now that was due at another moment.
    pub fn emit_due(&self, due: Option<MonotonicNs>, body: EventBody) {
        let now = clock::now();
        self.emit_made(due.unwrap_or(now), now, body);
    }

    /// Something was done at one moment that was due at another.
    pub fn emit_made(&self, due: MonotonicNs, done: MonotonicNs, body: EventBody) {
        let now = clock::now();
        let mut state = self.state();
        self.send_waiting(&mut state);
        if state.dropped > 0 && state.waiting.is_empty() && self.sender.capacity() > 1 {
            let count = std::mem::take(&mut state.dropped);
            let event = state.event(now, now, EventBody::Dropped { count });
            self.send(&mut state, event);
        }
        let missable = can_be_missed(&body, state.phase.as_deref());
        let event = state.event(due, done, body);
        if missable && !state.waiting.is_empty() {
            state.dropped += 1;
            return;
        }
        self.send(&mut state, event);
    }

    /// Sends what has waited for room.
    fn send_waiting(&self, state: &mut State) {
        while let Some(event) = state.waiting.pop_front() {
            match self.sender.try_send(event) {
                Ok(()) => {}
                Err(TrySendError::Full(event)) => {
                    state.waiting.push_front(event);
                    return;
                }
                // Nobody will read it any more.
                Err(TrySendError::Closed(_)) => return state.waiting.clear(),
            }
        }
    }

    fn send(&self, state: &mut State, event: Event) {
        if !state.waiting.is_empty() {
            return state.waiting.push_back(event);
        }
        match self.sender.try_send(event) {
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            Err(TrySendError::Full(event))
                if can_be_missed(&event.body, event.phase.as_deref()) =>
            {
                state.dropped += 1;
            }
            Err(TrySendError::Full(event)) => state.waiting.push_back(event),
        }
    }

    /// Whether the reader has gone away.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends all that waits, for as long as there is a reader. Only when nothing is measured any
    /// more, and never from asynchronous code.
    pub fn flush(&self) {
        let mut state = self.state();
        if state.dropped > 0 {
            let now = clock::now();
            let count = std::mem::take(&mut state.dropped);
            let event = state.event(now, now, EventBody::Dropped { count });
            state.waiting.push_back(event);
        }
        while let Some(event) = state.waiting.pop_front() {
            if self.sender.blocking_send(event).is_err() {
                return state.waiting.clear();
            }
        }
    }
}

impl State {
    fn event(&mut self, due: MonotonicNs, done: MonotonicNs, body: EventBody) -> Event {
        let offset = |moment: MonotonicNs| moment.wrapping_sub(self.origin_ns).cast_signed();
        let (due_ns, done_ns) = (offset(due), offset(done));
        let sequence = self.sequence;
        self.sequence += 1;
        Event {
            sequence,
            phase: self.phase.clone(),
            due_ns,
            done_ns,
            body,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hexloop_proto::NodeSample;
    use tokio::sync::mpsc::channel;

    fn sample() -> EventBody {
        EventBody::NodeSample(NodeSample {
            node: "device".to_owned(),
            at_ns: 0,
            cpu_ns: 0,
            memory_bytes: 0,
            throttled_periods: None,
        })
    }

    fn warning(number: u32) -> EventBody {
        EventBody::Warning {
            message: number.to_string(),
        }
    }

    #[test]
    fn a_slow_reader_loses_samples_with_their_count_and_nothing_else() {
        let (sender, mut receiver) = channel(2);
        let sink = EventSink::new(sender);
        for number in 0..4 {
            sink.emit(warning(number));
            sink.emit(sample());
        }
        let reader = std::thread::spawn(move || {
            let mut events = Vec::new();
            while let Some(event) = receiver.blocking_recv() {
                events.push(event);
            }
            events
        });
        sink.flush();
        drop(sink);
        let events = reader.join().unwrap();
        let warnings = events
            .iter()
            .filter(|e| matches!(e.body, EventBody::Warning { .. }));
        assert_eq!(warnings.count(), 4);
        let samples = events.iter().filter(|e| e.body == sample()).count();
        let dropped: u64 = events
            .iter()
            .filter_map(|e| match e.body {
                EventBody::Dropped { count } => Some(count),
                _ => None,
            })
            .sum();
        assert_eq!(u64::try_from(samples).unwrap() + dropped, 4);
        assert!(
            events
                .windows(2)
                .all(|pair| pair[0].sequence < pair[1].sequence)
        );
    }

    #[test]
    fn times_count_from_the_phase_s_t0_and_before_it_they_are_negative() {
        let (sender, mut receiver) = channel(8);
        let sink = EventSink::new(sender);
        let t0 = clock::now() + 3_600_000_000_000;
        sink.begin_phase("split", t0);
        sink.emit_due(Some(t0), warning(1));
        sink.end_phase();
        sink.emit(warning(2));
        let first = receiver.try_recv().unwrap();
        assert_eq!(first.phase.as_deref(), Some("split"));
        assert_eq!(first.due_ns, 0);
        assert!(first.done_ns < 0);
        let second = receiver.try_recv().unwrap();
        assert_eq!(second.phase, None);
        assert!(second.done_ns >= 0);
    }

    #[test]
    fn without_a_reader_nothing_is_kept() {
        let (sender, receiver) = channel(1);
        let sink = EventSink::new(sender);
        drop(receiver);
        for number in 0..10 {
            sink.emit(warning(number));
        }
        assert!(sink.is_closed());
        assert!(sink.state().waiting.is_empty());
        sink.flush();
    }
}
