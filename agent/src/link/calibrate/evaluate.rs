//! What the arrivals say, compared with the trace as asked. Pure arithmetic on records.

use std::collections::BTreeMap;

use hexloop_workloads::clock::MonotonicNs;

use super::traffic::{PROBE_IP_BYTES, PROBE_PORT, Sent};
use crate::link::histogram::NanosecondHistogram;
use crate::link::reference::{Passage, Reference};
use crate::link::tap::Arrival;

/// Bytes of the windows in which the queue was never empty. An outage counts no window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Delivered {
    pub(super) windows: u64,
    pub(super) bytes: u64,
    pub(super) trace_bytes: u64,
}

/// Delays of the probes.
#[derive(Debug)]
pub(super) struct Delays {
    pub(super) error: NanosecondHistogram,
    pub(super) asked_median_ns: u64,
    pub(super) lost: u64,
}

/// Compares bytes over every maximal run of backlogged windows. In each run the comparison goes
/// from the arrival of its first packet to that of its last, and the first does not count: its
/// bits came before. That leaves no rounding to whole packets.
pub(super) fn delivered(
    arrivals: &[Arrival],
    backlogged: &[u64],
    (t0, window_ns): (MonotonicNs, u64),
    reference: &Reference,
) -> Delivered {
    let mut total = Delivered::default();
    for run in backlogged.chunk_by(|a, b| a + 1 == *b) {
        let [first, .., last] = run else { continue };
        let from = t0 + first * window_ns;
        let to = t0 + (last + 1) * window_ns;
        let start = arrivals.partition_point(|arrival| arrival.at < from);
        let end = arrivals.partition_point(|arrival| arrival.at < to);
        let [first_packet, others @ ..] = &arrivals[start..end.max(start)] else {
            continue;
        };
        let Some(last_packet) = others.last() else {
            continue;
        };
        let bits = reference.arriving_bits(first_packet.at - t0, last_packet.at - t0);
        // Where the trace allows nothing, nothing is compared.
        let allows = |window: &&u64| {
            let start_ns = **window * window_ns;
            reference.arriving_bits(start_ns, start_ns + window_ns) >= 8
        };
        let windows = run.iter().filter(allows).count();
        total.windows += u64::try_from(windows).unwrap_or(0);
        total.bytes += others.iter().map(|arrival| arrival.ip_bytes).sum::<u64>();
        total.trace_bytes += bits / 8;
    }
    total
}

/// Compares the probes' delays. A probe that the trace itself holds until after `end` (an
/// outage) says nothing, and so does one stamped while the wall clock took a step.
pub(super) fn delays(
    sent: &[Sent],
    arrivals: &[Arrival],
    (t0, end): (MonotonicNs, MonotonicNs),
    reference: &Reference,
) -> Delays {
    let probes = arrivals
        .iter()
        .filter(|arrival| arrival.udp_port == Some(PROBE_PORT));
    let mut seen = BTreeMap::new();
    for arrival in probes {
        seen.entry(arrival.number)
            .or_insert((arrival.at, arrival.certain));
    }
    let mut error = NanosecondHistogram::new();
    let mut asked = Vec::new();
    let mut lost = 0;
    let (mut busy_until_ns, mut ahead) = (0, [0; 3]);
    for probe in sent {
        let sent_ns = probe.at.saturating_sub(t0);
        // After an outage probes come through one behind the other.
        let passage = reference.passage(sent_ns, busy_until_ns, PROBE_IP_BYTES);
        let Some(passage) = passage else {
            continue;
        };
        busy_until_ns = passage.finish_ns;
        // Probes keep their order, as every packet does: none arrives before what is ahead of it,
        // which jitter may have held back.
        let Passage {
            due_ns, jitter_ns, ..
        } = passage;
        let moments = [due_ns.saturating_sub(jitter_ns), due_ns, due_ns + jitter_ns];
        for (latest, moment) in ahead.iter_mut().zip(moments) {
            *latest = moment.max(*latest);
        }
        let [earliest_ns, due_ns, latest_ns] = ahead;
        if t0 + latest_ns >= end {
            continue;
        }
        let Some(&(arrived, stamped)) = seen.get(&probe.number) else {
            lost += 1;
            continue;
        };
        if !probe.certain || !stamped {
            continue;
        }
        let arrived_ns = arrived.saturating_sub(t0);
        let late_ns = arrived_ns.saturating_sub(latest_ns);
        error.record(late_ns.max(earliest_ns.saturating_sub(arrived_ns)));
        asked.push(due_ns - sent_ns);
    }
    asked.sort_unstable();
    let asked_median_ns = asked.get(asked.len() / 2).copied().unwrap_or(0);
    Delays {
        error,
        asked_median_ns,
        lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::testing::{MS, state, trace};
    use hexloop_traces::{Direction, EndPolicy};

    fn arrival(at: u64, ip_bytes: u64, number: u64) -> Arrival {
        Arrival {
            at,
            packets: 1,
            ip_bytes,
            udp_port: Some(PROBE_PORT),
            number,
            certain: true,
        }
    }

    fn reference() -> Reference {
        // 1000 bytes in 1 ms.
        let rows = [(1000 * MS, state(8_000_000, 5 * MS))];
        Reference::new(&trace(EndPolicy::Hold, &rows), Direction::Down)
    }

    #[test]
    fn a_perfect_flow_delivers_exactly_the_trace_whatever_its_phase() {
        let arrivals: Vec<_> = (0..100)
            .map(|packet| arrival(6 * MS + packet * MS + 333, 1000, 0))
            .collect();
        let windows: Vec<u64> = (1..9).collect();
        let found = delivered(&arrivals, &windows, (0, 10 * MS), &reference());
        assert_eq!(
            found,
            Delivered {
                windows: 8,
                bytes: 79_000,
                trace_bytes: 79_000
            }
        );
    }

    #[test]
    fn runs_are_compared_apart() {
        let arrivals: Vec<_> = (0..100)
            .map(|packet| arrival(6 * MS + packet * MS, 1000, 0))
            .collect();
        let found = delivered(&arrivals, &[1, 2, 5, 6, 9], (0, 10 * MS), &reference());
        // A window alone carries too few packets to tell.
        assert_eq!(
            found,
            Delivered {
                windows: 4,
                bytes: 38_000,
                trace_bytes: 38_000
            }
        );
    }

    #[test]
    fn an_outage_is_no_window_that_was_compared() {
        let rows = [
            (20 * MS, state(8_000_000, 0)),
            (30 * MS, state(0, 0)),
            (950 * MS, state(8_000_000, 0)),
        ];
        let reference = Reference::new(&trace(EndPolicy::Hold, &rows), Direction::Down);
        let arrivals: Vec<_> = (1..100)
            .filter(|packet| !(21..=50).contains(packet))
            .map(|packet| arrival(packet * MS, 1000, 0))
            .collect();
        let windows: Vec<u64> = (0..7).collect();
        let found = delivered(&arrivals, &windows, (0, 10 * MS), &reference);
        assert_eq!(
            found,
            Delivered {
                windows: 4,
                bytes: 38_000,
                trace_bytes: 38_000
            }
        );
    }

    #[test]
    fn a_probe_is_compared_with_its_delay_and_serialisation() {
        let sent = Sent {
            number: 3,
            at: 100 * MS,
            certain: true,
        };
        let due = 100 * MS + 5 * MS + 60_000; // 60 bytes at 8 Mbit/s
        let arrivals = [arrival(due + 40_000, 60, 3)];
        let found = delays(&[sent], &arrivals, (0, 1000 * MS), &reference());
        assert_eq!(found.asked_median_ns, 5 * MS + 60_000);
        let error = found.error.summary().max_ns.unwrap();
        assert!((40_000..40_100).contains(&error), "{error}");
        assert_eq!(found.lost, 0);
    }

    #[test]
    fn jitter_excuses_what_it_can_do_to_a_probe_and_to_those_behind_it_and_no_more() {
        let shaken = hexloop_traces::LinkState {
            jitter_ns: 40_000_000,
            ..state(8_000_000, 50 * MS)
        };
        let rows = [(20 * MS, shaken), (980 * MS, state(8_000_000, 5 * MS))];
        let reference = Reference::new(&trace(EndPolicy::Hold, &rows), Direction::Down);
        let probe = |number, at| Sent {
            number,
            at,
            certain: true,
        };
        // The first one may arrive from 20 to 100 ms, the second, due at 35, any time until then.
        let sent = [probe(0, 10 * MS), probe(1, 30 * MS)];
        let error_of = |first, second| {
            let arrivals = [arrival(first * MS, 60, 0), arrival(second * MS, 60, 1)];
            let found = delays(&sent, &arrivals, (0, 1000 * MS), &reference);
            found.error.summary().max_ns.unwrap()
        };
        assert_eq!(error_of(21, 36), 0);
        assert_eq!(error_of(99, 99), 0);
        assert!((MS..3 * MS).contains(&error_of(99, 102)), "later than both");
        assert!(
            (4 * MS..6 * MS).contains(&error_of(99, 30)),
            "earlier than it can be"
        );
    }

    #[test]
    fn a_probe_that_never_came_is_lost_and_one_still_on_its_way_is_not() {
        let sent = [
            Sent {
                number: 0,
                at: 10 * MS,
                certain: true,
            },
            Sent {
                number: 1,
                at: 99 * MS,
                certain: true,
            },
        ];
        let found = delays(&sent, &[], (0, 100 * MS), &reference());
        assert_eq!(found.lost, 1);
    }
}
