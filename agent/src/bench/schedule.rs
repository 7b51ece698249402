//! What should have arrived by when, packet by packet, and how far what arrived is from it.
//! Pure arithmetic: no clock, no socket.
//!
//! The ideal packetised schedule of a flow that always has a packet waiting: the `k`-th packet of
//! `b` bits has arrived when the integral of the trace from its own T0 has reached `k b`, plus the
//! trace's delay. Nothing is fitted, neither phase nor rate.

use hexloop_proto::LinkWindow;
use hexloop_traces::CapacityCurve;

use super::{length, signed_to_f64, to_f64};

/// Nanoseconds after T0.
type OffsetNs = u64;

/// A flow that is compared with its trace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ideal<'a> {
    pub(super) curve: &'a CapacityCurve,
    /// Length of every packet, in IP bytes.
    pub(super) packet_bytes: u64,
    /// Windows in which arrivals are counted.
    pub(super) window_ns: u64,
    /// What is compared: from T0 until then.
    pub(super) span_ns: OffsetNs,
}

/// How far the arrivals are from the schedule.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Exactness {
    /// |packets that arrived - ideal packets| / ideal packets, in percent, per whole window in
    /// order of time. A window in which the ideal has none counts what arrived as so many times
    /// 100 %.
    pub(super) window_errors_percent: Vec<f64>,
    /// When the `k`-th packet arrived, minus when it was due, in nanoseconds.
    pub(super) lateness_ns: Vec<f64>,
    /// The largest |packets that arrived - bits that the trace allowed / bits of a packet| at
    /// any moment of the span. The ideal schedule itself has 1, because a packet arrives at once.
    pub(super) largest_cumulative_packets: f64,
    /// Packets that arrived within the span over those that the trace allowed.
    pub(super) delivered_over_trace: f64,
}

impl Ideal<'_> {
    const fn packet_bits(&self) -> u64 {
        self.packet_bytes * 8
    }

    /// When the `number`-th packet (from 1) is due; `None` if never.
    pub(super) fn due_ns(&self, number: u64) -> Option<OffsetNs> {
        let finish_ns = self.curve.finish_ns(0, number * self.packet_bits())?;
        finish_ns.checked_add(self.curve.state_at(finish_ns).delay_ns)
    }

    /// Packets, with their fraction, that the trace has let arrive by a moment.
    fn allowed_by(&self, at_ns: OffsetNs) -> f64 {
        to_f64(self.curve.arrivals_between(0, at_ns)) / to_f64(self.packet_bits())
    }

    /// Compares arrivals, in order, with the schedule.
    pub(super) fn compare(&self, arrivals_ns: &[OffsetNs]) -> Exactness {
        let within = arrivals_ns.partition_point(|&at| at < self.span_ns);
        let arrivals_ns = &arrivals_ns[..within];
        let allowed = self.allowed_by(self.span_ns);
        Exactness {
            window_errors_percent: self.window_errors(arrivals_ns),
            lateness_ns: (1..)
                .zip(arrivals_ns)
                .map_while(|(number, &at)| {
                    let late = at.cast_signed() - self.due_ns(number)?.cast_signed();
                    Some(signed_to_f64(late))
                })
                .collect(),
            largest_cumulative_packets: self.largest_cumulative(arrivals_ns),
            delivered_over_trace: to_f64(length(arrivals_ns)) / allowed.max(f64::MIN_POSITIVE),
        }
    }

    /// The largest |packets delivered - bits that the trace allowed / bits of a packet| at the ends of
    /// windows throughout which packets waited; `None` if there is none. Windows are those of one
    /// direction, in order of time.
    ///
    /// For flows that do not always have a packet waiting, such as TCP's: what the trace allowed while the
    /// queue was empty is not the link's error, so every backlog is counted from the beginning of its
    /// first whole window. A perfect link has up to 1, for the packet that is being sent then.
    pub(super) fn largest_while_backlogged(&self, windows: &[LinkWindow]) -> Option<f64> {
        let mut largest: Option<f64> = None;
        // Where the present backlog begins and ends, and the bytes delivered in between.
        let mut backlog: Option<(OffsetNs, OffsetNs, u64)> = None;
        for window in windows {
            if !window.backlogged {
                backlog = None;
                continue;
            }
            let (begin_ns, _, before) = backlog
                .filter(|&(_, end_ns, _)| end_ns == window.start_ns)
                .unwrap_or((window.start_ns, window.start_ns, 0));
            let end_ns = window.start_ns + window.length_ns;
            let delivered_bytes = before + window.delivered_bytes;
            backlog = Some((begin_ns, end_ns, delivered_bytes));
            let allowed_bits = to_f64(self.curve.arrivals_between(begin_ns, end_ns));
            let error_bits = to_f64(delivered_bytes * 8) - allowed_bits;
            let error = error_bits.abs() / to_f64(self.packet_bits());
            largest = Some(largest.map_or(error, |largest| largest.max(error)));
        }
        largest
    }

    fn window_errors(&self, arrivals_ns: &[OffsetNs]) -> Vec<f64> {
        let mut errors = Vec::new();
        let mut arrived_before = 0;
        let mut due_before = 0;
        let mut end_ns = self.window_ns;
        while end_ns <= self.span_ns {
            let arrived_by = length(&arrivals_ns[..arrivals_ns.partition_point(|&at| at < end_ns)]);
            let due_by = self.due_by(end_ns, due_before);
            let (arrived, due) = (arrived_by - arrived_before, due_by - due_before);
            errors.push(100.0 * to_f64(arrived.abs_diff(due)) / to_f64(due.max(1)));
            (arrived_before, due_before) = (arrived_by, due_by);
            end_ns += self.window_ns;
        }
        errors
    }

    /// How many packets are due before a moment, if `least` are.
    fn due_by(&self, end_ns: OffsetNs, least: u64) -> u64 {
        let is_due = |number| self.due_ns(number).is_some_and(|due| due < end_ns);
        let mut count = least;
        while is_due(count + 1) {
            count += 1;
        }
        count
    }

    fn largest_cumulative(&self, arrivals_ns: &[OffsetNs]) -> f64 {
        let mut largest: f64 = 0.0;
        for (before, &at) in (0..).zip(arrivals_ns) {
            let allowed = self.allowed_by(at);
            // Just before this packet and just after it.
            for count in [before, before + 1] {
                largest = largest.max((to_f64(count) - allowed).abs());
            }
        }
        let at_end = to_f64(length(arrivals_ns)) - self.allowed_by(self.span_ns);
        largest.max(at_end.abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::testing::{MS, state, trace};
    use hexloop_traces::{Direction, EndPolicy};

    const PACKET_BYTES: u64 = 1500;

    /// 12 and 48 Mbit/s in turn: 10 and 40 packets of 1500 bytes in 10 ms each.
    fn curve(delay_ns: u64) -> CapacityCurve {
        let rows = [
            (10 * MS, state(12_000_000, delay_ns)),
            (10 * MS, state(48_000_000, delay_ns)),
        ];
        CapacityCurve::new(&trace(EndPolicy::Loop, &rows), Direction::Up)
    }

    fn ideal(curve: &CapacityCurve) -> Ideal<'_> {
        Ideal {
            curve,
            packet_bytes: PACKET_BYTES,
            window_ns: 10 * MS,
            span_ns: 100 * MS,
        }
    }

    fn perfect(ideal: &Ideal<'_>) -> Vec<OffsetNs> {
        let due = (1..).map_while(|number| ideal.due_ns(number));
        due.take_while(|&at| at < ideal.span_ns).collect()
    }

    fn mean(values: &[f64]) -> f64 {
        values.iter().sum::<f64>() / to_f64(length(values))
    }

    fn close(found: f64, expected: f64) -> bool {
        (found - expected).abs() < 1e-9
    }

    /// Windows of 10 ms from T0 on: packets delivered, and whether some waited throughout.
    fn windows(delivered: &[(u64, bool)]) -> Vec<LinkWindow> {
        let window = |(number, &(delivered_packets, backlogged)): (u64, &(u64, bool))| LinkWindow {
            link: "air".to_owned(),
            direction: Direction::Up,
            start_ns: number * 10 * MS,
            length_ns: 10 * MS,
            trace_bytes: 0,
            delivered_bytes: delivered_packets * PACKET_BYTES,
            delivered_packets,
            backlogged,
            queue_bytes: 0,
            dropped_packets: 0,
            lost_packets: 0,
            marked_packets: 0,
            duplicated_packets: 0,
            corrupted_packets: 0,
        };
        (0..).zip(delivered).map(window).collect()
    }

    #[test]
    fn packets_are_due_when_the_integral_reaches_them() {
        let curve = curve(0);
        let ideal = ideal(&curve);
        assert_eq!(ideal.due_ns(1), Some(MS));
        assert_eq!(ideal.due_ns(10), Some(10 * MS));
        assert_eq!(ideal.due_ns(11), Some(10 * MS + 250_000));
        assert_eq!(ideal.due_ns(60), Some(30 * MS));
    }

    #[test]
    fn a_delay_shifts_the_schedule_by_itself() {
        let curve = curve(7 * MS);
        assert_eq!(ideal(&curve).due_ns(1), Some(8 * MS));
        assert_eq!(ideal(&curve).due_ns(11), Some(17 * MS + 250_000));
    }

    #[test]
    fn the_ideal_schedule_itself_has_no_error_and_one_packet_of_rounding() {
        let curve = curve(3 * MS);
        let ideal = ideal(&curve);
        let found = ideal.compare(&perfect(&ideal));
        assert_eq!(found.window_errors_percent, vec![0.0; 10]);
        assert!(found.lateness_ns.iter().all(|&late| close(late, 0.0)));
        assert!(close(found.largest_cumulative_packets, 1.0), "{found:?}");
        assert!((found.delivered_over_trace - 1.0).abs() < 0.01);
    }

    #[test]
    fn a_schedule_that_is_shifted_as_a_whole_shows_in_lateness_and_windows() {
        let curve = curve(0);
        let ideal = ideal(&curve);
        let shifted: Vec<_> = perfect(&ideal).iter().map(|at| at + 300_000).collect();
        let found = ideal.compare(&shifted);
        assert!(found.lateness_ns.iter().all(|&late| close(late, 300_000.0)));
        // Of the packets at 48 Mbit/s, 250 us apart, one moves into the next window, which
        // has ten at 12 Mbit/s; the other way round none does, 1 ms apart.
        let expected = [0.0, 100.0 / 40.0, 100.0 / 10.0, 100.0 / 40.0, 100.0 / 10.0];
        assert!(
            found.window_errors_percent[..5]
                .iter()
                .zip(expected)
                .all(|(&found, expected)| close(found, expected)),
            "{found:?}"
        );
        // 300 us at 48 Mbit/s are 1.2 packets.
        assert!(found.largest_cumulative_packets > 2.0 - 1e-6, "{found:?}");
    }

    #[test]
    fn a_lost_packet_shows_in_its_window_and_in_the_sum_ever_after() {
        let curve = curve(0);
        let ideal = ideal(&curve);
        let mut arrivals = perfect(&ideal);
        // The fifth packet of the fifth window, which has nine before 50 ms and the one due at 40.
        let lost = arrivals.iter().position(|&at| at == 44 * MS).unwrap();
        arrivals.remove(lost);
        let found = ideal.compare(&arrivals);
        let wrong: Vec<usize> = (0..10)
            .filter(|&window| found.window_errors_percent[window] > 0.0)
            .collect();
        assert_eq!(wrong, [4]);
        assert!(close(found.window_errors_percent[4], 10.0), "{found:?}");
        assert!(close(found.largest_cumulative_packets, 2.0), "{found:?}");
        // Every later packet counts as one place late.
        assert!(close(found.lateness_ns[lost], 1e6), "{found:?}");
    }

    #[test]
    fn a_late_packet_shows_in_both_windows_and_catches_up_in_the_sum() {
        let curve = curve(0);
        let ideal = ideal(&curve);
        let mut arrivals = perfect(&ideal);
        let late = arrivals.iter().position(|&at| at == 49 * MS).unwrap();
        arrivals[late] += MS + 100_000;
        arrivals.sort_unstable();
        let found = ideal.compare(&arrivals);
        assert!(close(found.window_errors_percent[4], 10.0), "{found:?}");
        assert!(close(found.window_errors_percent[5], 2.5), "{found:?}");
        assert!(close(mean(&found.window_errors_percent), 1.25), "{found:?}");
        assert!(
            close(found.delivered_over_trace, 249.0 / 250.0),
            "{found:?}"
        );
    }

    #[test]
    fn a_flow_that_stops_is_an_error_to_the_end_of_the_span() {
        let curve = curve(0);
        let ideal = ideal(&curve);
        let mut arrivals = perfect(&ideal);
        arrivals.retain(|&at| at < 50 * MS);
        let found = ideal.compare(&arrivals);
        assert!(
            found.window_errors_percent[5..]
                .iter()
                .all(|&error| close(error, 100.0))
        );
        assert!(found.largest_cumulative_packets > 100.0);
        assert!(
            close(found.delivered_over_trace, 109.0 / 250.0),
            "{found:?}"
        );
    }

    #[test]
    fn packets_before_anything_is_allowed_are_no_small_error() {
        let rows = [(50 * MS, state(0, 0)), (50 * MS, state(12_000_000, 0))];
        let curve = CapacityCurve::new(&trace(EndPolicy::Loop, &rows), Direction::Up);
        let found = ideal(&curve).compare(&[MS, 2 * MS]);
        assert!(close(found.window_errors_percent[0], 200.0), "{found:?}");
        assert!(close(found.window_errors_percent[1], 0.0), "{found:?}");
    }

    #[test]
    fn errors_add_up_over_the_windows_of_a_backlog() {
        let curve = curve(0);
        let ideal = ideal(&curve);
        // 10 and 40 are allowed in turn.
        let found = windows(&[(9, true), (39, true), (12, true), (40, true)]);
        assert_eq!(ideal.largest_while_backlogged(&found), Some(2.0));
    }

    #[test]
    fn what_is_not_sent_while_the_queue_is_empty_is_no_error_and_ends_a_backlog() {
        let curve = curve(0);
        let ideal = ideal(&curve);
        let found = windows(&[(9, true), (3, false), (9, true), (39, true)]);
        assert_eq!(ideal.largest_while_backlogged(&found), Some(2.0));
        let apart = windows(&[(9, true), (3, false), (9, true), (40, false)]);
        assert_eq!(ideal.largest_while_backlogged(&apart), Some(1.0));
    }

    #[test]
    fn a_window_that_is_missing_ends_a_backlog() {
        let curve = curve(0);
        let ideal = ideal(&curve);
        let mut found = windows(&[(9, true), (40, true), (9, true)]);
        found.remove(1);
        assert_eq!(ideal.largest_while_backlogged(&found), Some(1.0));
    }

    #[test]
    fn where_packets_never_waited_there_is_nothing_to_tell() {
        let curve = curve(0);
        let ideal = ideal(&curve);
        assert_eq!(
            ideal.largest_while_backlogged(&windows(&[(3, false)])),
            None
        );
    }
}
