//! What the receiver should have got by when, from the trace as asked, whatever is played.

use hexloop_traces::{CapacityCurve, Direction, EndPolicy, Trace};

/// One direction of the asked trace, seen from the receiver.
#[derive(Debug, Clone)]
pub(crate) struct Reference {
    curve: CapacityCurve,
    changes_ns: Vec<u64>,
    duration_ns: u64,
    end: EndPolicy,
    longest_delay_ns: u64,
}

impl Reference {
    /// The reference of one direction.
    pub(crate) fn new(trace: &Trace, direction: Direction) -> Reference {
        let delays = trace
            .rows()
            .iter()
            .map(|row| row.direction(direction).delay_ns);
        Reference {
            curve: CapacityCurve::new(trace, direction),
            changes_ns: trace.rows().iter().map(|row| row.t_ns).collect(),
            duration_ns: trace.duration_ns(),
            end: trace.metadata().end,
            longest_delay_ns: delays.max().unwrap_or(0),
        }
    }

    /// The rates and delays themselves.
    pub(crate) const fn curve(&self) -> &CapacityCurve {
        &self.curve
    }

    /// The next row after `t_ns`.
    fn change_after(&self, t_ns: u64) -> Option<u64> {
        let looped = self.end == EndPolicy::Loop;
        let base_ns = if looped {
            t_ns / self.duration_ns * self.duration_ns
        } else {
            0
        };
        let local_ns = t_ns - base_ns;
        let next = self
            .changes_ns
            .partition_point(|&change| change <= local_ns);
        match self.changes_ns.get(next) {
            Some(&change) => Some(base_ns + change),
            None if self.end == EndPolicy::Hold || local_ns >= self.duration_ns => None,
            None => Some(base_ns + self.duration_ns),
        }
    }

    /// What left the bottleneck before this moment had arrived by `t_ns`: the inverse of
    /// f -> f + delay(f), kept in order.
    pub(crate) fn departure_ns(&self, t_ns: u64) -> u64 {
        let mut from_ns = t_ns.saturating_sub(self.longest_delay_ns);
        loop {
            let delay_ns = self.curve.state_at(from_ns).delay_ns;
            let Some(departure_ns) = t_ns.checked_sub(delay_ns) else {
                return from_ns;
            };
            if departure_ns < from_ns {
                return from_ns;
            }
            match self.change_after(from_ns) {
                Some(change_ns) if change_ns <= departure_ns => from_ns = change_ns,
                _ => return departure_ns,
            }
        }
    }

    /// The bits that may arrive at the receiver between two moments, if the queue is never empty.
    pub(crate) fn arriving_bits(&self, from_ns: u64, to_ns: u64) -> u64 {
        self.curve
            .bits_between(self.departure_ns(from_ns), self.departure_ns(to_ns))
    }

    /// When a packet that is sent at `sent_ns` behind one whose end was at `busy_until_ns` is
    /// through the bottleneck, and when it should arrive. `None` if never.
    pub(crate) fn passage_ns(
        &self,
        sent_ns: u64,
        busy_until_ns: u64,
        ip_bytes: u64,
    ) -> Option<(u64, u64)> {
        let finish_ns = self
            .curve
            .finish_ns(sent_ns.max(busy_until_ns), ip_bytes * 8)?;
        Some((
            finish_ns,
            finish_ns + self.curve.state_at(finish_ns).delay_ns,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::testing::{MS, state, trace};

    #[test]
    fn bits_arrive_a_delay_after_they_left() {
        let trace = trace(EndPolicy::Hold, &[(1000 * MS, state(8_000_000, 20 * MS))]);
        let reference = Reference::new(&trace, Direction::Down);
        assert_eq!(reference.arriving_bits(0, 20 * MS), 0);
        assert_eq!(reference.arriving_bits(20 * MS, 30 * MS), 80_000);
        assert_eq!(reference.passage_ns(0, 0, 1000), Some((MS, 21 * MS)));
        assert_eq!(
            reference.passage_ns(0, 5 * MS, 1000),
            Some((6 * MS, 26 * MS))
        );
    }

    #[test]
    fn a_shorter_delay_brings_the_waiting_bits_at_once() {
        // The delay falls from 20 to 5 ms at 100 ms: what left at 100 ms arrives at 105, but not
        // before what left just ahead of it at 120.
        let rows = [
            (100 * MS, state(8_000_000, 20 * MS)),
            (900 * MS, state(8_000_000, 5 * MS)),
        ];
        let reference = Reference::new(&trace(EndPolicy::Hold, &rows), Direction::Up);
        assert_eq!(reference.departure_ns(119 * MS), 99 * MS);
        assert_eq!(reference.departure_ns(120 * MS), 115 * MS);
    }

    #[test]
    fn a_longer_delay_leaves_a_gap() {
        let rows = [
            (100 * MS, state(8_000_000, 5 * MS)),
            (900 * MS, state(8_000_000, 20 * MS)),
        ];
        let reference = Reference::new(&trace(EndPolicy::Hold, &rows), Direction::Up);
        assert_eq!(reference.departure_ns(104 * MS), 99 * MS);
        assert_eq!(reference.departure_ns(112 * MS), 100 * MS);
        assert_eq!(reference.departure_ns(121 * MS), 101 * MS);
    }

    #[test]
    fn a_looped_trace_goes_on_into_its_next_period() {
        let rows = [(10 * MS, state(8_000_000, MS)), (10 * MS, state(0, MS))];
        let reference = Reference::new(&trace(EndPolicy::Loop, &rows), Direction::Up);
        assert_eq!(reference.arriving_bits(21 * MS, 41 * MS), 80_000);
        assert_eq!(reference.departure_ns(45 * MS), 44 * MS);
    }
}
