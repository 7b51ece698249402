//! The books of a device job: what each request has experienced so far.
//!
//! Pure: it is told every moment and reads no clock.

use std::collections::BTreeMap;

use crate::clock::MonotonicNs;
use crate::job::{Outcome, RequestRecord};
use crate::request::ScheduledRequest;
use crate::wire::PayloadBytes;

#[derive(Debug, Default)]
struct Entry {
    scheduled_ns: u64,
    sent: Option<MonotonicNs>,
    tokens: Vec<u32>,
    ties: Vec<u32>,
    token_at: Vec<MonotonicNs>,
    prompt_tokens: u32,
    payload: PayloadBytes,
}

/// The requests that have not ended.
#[derive(Debug)]
pub(super) struct Ledger {
    open: BTreeMap<u32, Entry>,
    t0: MonotonicNs,
}

impl Ledger {
    /// Opens the books: every scheduled request is offered. Moments are reported from `t0` on.
    pub(super) fn new(requests: &[ScheduledRequest], t0: MonotonicNs) -> Ledger {
        let entry = |request: &ScheduledRequest| Entry {
            scheduled_ns: request.due_ns,
            prompt_tokens: request.prompt_tokens,
            ..Entry::default()
        };
        Ledger {
            open: requests
                .iter()
                .map(|request| (request.id, entry(request)))
                .collect(),
            t0,
        }
    }

    /// Whether every request has ended.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The load generator sent a request.
    pub(super) fn sent(&mut self, request: u32, at: MonotonicNs) {
        if let Some(entry) = self.open.get_mut(&request) {
            entry.sent = Some(at);
        }
    }

    /// A request put bytes on the link.
    pub(super) fn payload(&mut self, request: u32, payload: PayloadBytes) {
        if let Some(entry) = self.open.get_mut(&request) {
            entry.payload.add(payload);
        }
    }

    /// A token was there.
    pub(super) fn token(&mut self, request: u32, token: u32, at: MonotonicNs) {
        if let Some(entry) = self.open.get_mut(&request) {
            entry.tokens.push(token);
            entry.token_at.push(at);
        }
    }

    /// Another token than the one that comes next was about as good.
    pub(super) fn tie(&mut self, request: u32) {
        if let Some(entry) = self.open.get_mut(&request) {
            let place = u32::try_from(entry.tokens.len()).unwrap_or(u32::MAX);
            entry.ties.push(place);
        }
    }

    /// A request has ended. `None` if it had ended before.
    pub(super) fn end(
        &mut self,
        request: u32,
        outcome: Outcome,
        at: MonotonicNs,
    ) -> Option<RequestRecord> {
        let entry = self.open.remove(&request)?;
        Some(record(request, entry, outcome, at, self.t0))
    }

    /// Ends everything that is open.
    pub(super) fn end_all(&mut self, outcome: &Outcome, at: MonotonicNs) -> Vec<RequestRecord> {
        let open = std::mem::take(&mut self.open);
        let end = |(id, entry)| record(id, entry, outcome.clone(), at, self.t0);
        open.into_iter().map(end).collect()
    }
}

fn record(
    id: u32,
    entry: Entry,
    outcome: Outcome,
    at: MonotonicNs,
    t0: MonotonicNs,
) -> RequestRecord {
    let offset = |moment: MonotonicNs| moment.saturating_sub(t0);
    let not_sent_before = || entry.scheduled_ns.max(offset(at));
    RequestRecord {
        id,
        scheduled_ns: entry.scheduled_ns,
        sent_ns: entry.sent.map_or_else(not_sent_before, offset),
        token_ns: entry.token_at.iter().map(|at| offset(*at)).collect(),
        prompt_tokens: entry.prompt_tokens,
        tokens: entry.tokens,
        ties: entry.ties,
        outcome,
        payload: entry.payload,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: MonotonicNs = 1_000;

    fn ledger() -> Ledger {
        let request = |id, due_ns| ScheduledRequest {
            id,
            due_ns,
            prompt_seed: 0,
            prompt_tokens: 3,
            output_tokens: 2,
        };
        Ledger::new(&[request(0, 10), request(1, 20), request(2, 500)], T0)
    }

    #[test]
    fn a_request_is_reported_with_offsets_from_t0_and_only_once() {
        let mut ledger = ledger();
        ledger.sent(0, T0 + 12);
        ledger.payload(0, PayloadBytes { up: 28, down: 0 });
        ledger.token(0, 7, T0 + 40);
        ledger.payload(0, PayloadBytes { up: 0, down: 20 });
        ledger.tie(0);
        ledger.token(0, 8, T0 + 50);
        let record = ledger.end(0, Outcome::Completed, T0 + 50).unwrap();
        assert_eq!((record.scheduled_ns, record.sent_ns), (10, 12));
        assert_eq!((record.token_ns, record.tokens), (vec![40, 50], vec![7, 8]));
        assert_eq!(record.ties, [1]);
        assert_eq!(record.payload, PayloadBytes { up: 28, down: 20 });
        assert_eq!(ledger.end(0, Outcome::Completed, T0 + 60), None);
        assert!(!ledger.is_empty());
    }

    #[test]
    fn what_is_open_at_the_end_is_reported_with_what_it_had() {
        let mut ledger = ledger();
        ledger.sent(0, T0 + 12);
        ledger.token(0, 7, T0 + 40);
        let records = ledger.end_all(&Outcome::Unfinished, T0 + 100);
        assert_eq!(records.len(), 3);
        assert_eq!(records[0].token_ns, [40]);
        // Overdue and not sent: not before the end. Not yet due: not before its time.
        assert_eq!((records[1].sent_ns, records[2].sent_ns), (100, 500));
        assert!(
            records
                .iter()
                .all(|record| record.outcome == Outcome::Unfinished)
        );
        assert!(ledger.is_empty());
    }

    #[test]
    fn news_of_a_request_that_has_ended_is_ignored() {
        let mut ledger = ledger();
        ledger.end_all(&Outcome::Unfinished, T0);
        ledger.token(0, 7, T0 + 40);
        ledger.sent(9, T0);
        assert!(ledger.is_empty());
    }
}
