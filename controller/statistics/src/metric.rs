//! Metrics of single requests, and goodput.
//!
//! | metric | definition |
//! |---|---|
//! | TTFT | first token - origin |
//! | E2E | last token - origin, of completed requests |
//! | TPOT | (last token - first token) / (tokens - 1), of completed requests with more than one |
//! | ITL | gaps between consecutive tokens, pooled over requests |
//! | goodput | completed within the deadline from the scheduled time / offered |
//!
//! The origin is the *scheduled* time, so that a late load generator cannot hide latency (no
//! coordinated omission), or, to tell the two apart, the moment of sending.

use hexloop_workloads::job::{Outcome, RequestRecord};
use serde::{Deserialize, Serialize};

/// From when latency counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// When the request was to be sent.
    Scheduled,
    /// When it was sent.
    Sent,
}

impl Origin {
    const fn of(self, record: &RequestRecord) -> u64 {
        match self {
            Origin::Scheduled => record.scheduled_ns,
            Origin::Sent => record.sent_ns,
        }
    }
}

/// How late the load generator sent the request.
#[must_use]
pub const fn send_lateness_ns(record: &RequestRecord) -> u64 {
    record.sent_ns.saturating_sub(record.scheduled_ns)
}

/// Time to first token; `None` if none came.
#[must_use]
pub fn time_to_first_token_ns(record: &RequestRecord, origin: Origin) -> Option<u64> {
    record
        .token_ns
        .first()
        .map(|first| first.saturating_sub(origin.of(record)))
}

/// Time to the last token; `None` unless the request completed.
#[must_use]
pub fn end_to_end_ns(record: &RequestRecord, origin: Origin) -> Option<u64> {
    let completed = record.outcome == Outcome::Completed;
    let last = record.token_ns.last().filter(|_| completed)?;
    Some(last.saturating_sub(origin.of(record)))
}

/// Mean time per output token after the first, rounded to the nearest nanosecond; `None` unless
/// the request completed with more than one token.
#[must_use]
pub fn time_per_output_token_ns(record: &RequestRecord) -> Option<u64> {
    let span = end_to_end_ns(record, Origin::Sent)? - time_to_first_token_ns(record, Origin::Sent)?;
    let gaps = u64::try_from(record.token_ns.len())
        .ok()?
        .checked_sub(1)
        .filter(|gaps| *gaps > 0)?;
    Some((span + gaps / 2) / gaps)
}

/// Gaps between consecutive tokens.
pub fn inter_token_gaps_ns(record: &RequestRecord) -> impl Iterator<Item = u64> {
    record
        .token_ns
        .windows(2)
        .map(|pair| pair[1].saturating_sub(pair[0]))
}

/// One sample per request in order of scheduled time, as the bootstrap needs them.
#[must_use]
pub fn per_request<'a, T>(
    records: impl IntoIterator<Item = &'a RequestRecord>,
    metric: impl Fn(&RequestRecord) -> T,
) -> Vec<T> {
    let mut records: Vec<&RequestRecord> = records.into_iter().collect();
    records.sort_by_key(|record| (record.scheduled_ns, record.id));
    records.into_iter().map(metric).collect()
}

/// How many requests met their deadline, over all that were offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goodput {
    /// Completed within the deadline from their scheduled time.
    pub good: u64,
    /// All of the schedule: unfinished and failed ones count.
    pub offered: u64,
}

impl Goodput {
    /// The share of good requests; `None` if none were offered.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    pub fn share(self) -> Option<f64> {
        (self.offered > 0).then(|| self.good as f64 / self.offered as f64)
    }
}

/// Counts the requests that met the deadline. `offered` is the length of the schedule, so that a
/// request without a record counts against it too.
#[must_use]
pub fn goodput<'a>(
    records: impl IntoIterator<Item = &'a RequestRecord>,
    deadline_ns: u64,
    offered: u64,
) -> Goodput {
    let in_time = |record: &&RequestRecord| {
        end_to_end_ns(record, Origin::Scheduled).is_some_and(|span| span <= deadline_ns)
    };
    let good = records.into_iter().filter(in_time).count() as u64;
    Goodput { good, offered }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hexloop_workloads::wire::PayloadBytes;

    fn record(token_ns: &[u64], outcome: Outcome) -> RequestRecord {
        RequestRecord {
            id: 0,
            scheduled_ns: 100,
            sent_ns: 110,
            token_ns: token_ns.to_vec(),
            prompt_tokens: 3,
            tokens: vec![0; token_ns.len()],
            ties: Vec::new(),
            outcome,
            payload: PayloadBytes::default(),
        }
    }

    #[test]
    fn latency_counts_from_the_schedule_and_from_the_send() {
        let record = record(&[150, 170, 190], Outcome::Completed);
        assert_eq!(send_lateness_ns(&record), 10);
        assert_eq!(time_to_first_token_ns(&record, Origin::Scheduled), Some(50));
        assert_eq!(time_to_first_token_ns(&record, Origin::Sent), Some(40));
        assert_eq!(end_to_end_ns(&record, Origin::Scheduled), Some(90));
        assert_eq!(time_per_output_token_ns(&record), Some(20));
        assert_eq!(inter_token_gaps_ns(&record).collect::<Vec<_>>(), [20, 20]);
    }

    #[test]
    fn a_request_of_one_token_has_no_time_per_output_token() {
        let record = record(&[150], Outcome::Completed);
        assert_eq!(time_per_output_token_ns(&record), None);
        assert_eq!(end_to_end_ns(&record, Origin::Scheduled), Some(50));
    }

    #[test]
    fn an_unfinished_request_has_a_first_token_but_no_end() {
        let record = record(&[150, 170], Outcome::Unfinished);
        assert_eq!(time_to_first_token_ns(&record, Origin::Scheduled), Some(50));
        assert_eq!(end_to_end_ns(&record, Origin::Scheduled), None);
        assert_eq!(time_per_output_token_ns(&record), None);
    }

    #[test]
    fn goodput_is_over_what_was_offered_not_over_what_ended() {
        let records = [
            record(&[150, 200], Outcome::Completed),
            record(&[150, 201], Outcome::Completed),
            record(&[150], Outcome::Unfinished),
        ];
        let goodput = goodput(&records, 100, 4);
        assert_eq!(
            goodput,
            Goodput {
                good: 1,
                offered: 4
            }
        );
        assert_eq!(goodput.share(), Some(0.25));
        assert_eq!(
            Goodput {
                good: 0,
                offered: 0
            }
            .share(),
            None
        );
    }

    #[test]
    fn samples_are_in_order_of_schedule_whatever_order_records_came_in() {
        let mut late = record(&[], Outcome::Unfinished);
        (late.scheduled_ns, late.id) = (500, 1);
        let records = [late, record(&[], Outcome::Unfinished)];
        assert_eq!(per_request(&records, |record| record.id), [0, 1]);
    }
}
