//! Analytic traces: every value can be worked out by hand. Tests and calibrations use them.

use std::collections::BTreeMap;

use crate::{
    Diagnostics, EndPolicy, LinkState, TRACE_SCHEMA, Trace, TraceError, TraceMetadata, TraceRow,
    TraceStatus,
};

/// A link that does not change by itself, the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Bits per second of IP packets.
    pub rate_bps: u64,
    /// One-way delay.
    pub delay_ns: u64,
    /// Queue before the bottleneck; 0 leaves it to the link.
    pub queue_bytes: u32,
}

impl Link {
    /// A link of this rate, one-way delay and queue.
    #[must_use]
    pub const fn new(rate_bps: u64, delay_ns: u64, queue_bytes: u32) -> Link {
        Link {
            rate_bps,
            delay_ns,
            queue_bytes,
        }
    }

    const fn state(self, rate_bps: u64) -> LinkState {
        LinkState {
            rate_bps,
            delay_ns: self.delay_ns,
            queue_bytes: self.queue_bytes,
            ..LinkState::TRANSPARENT
        }
    }
}

/// The same state all the time.
///
/// # Errors
/// A duration of 0.
pub fn constant(
    rate_bps: u64,
    delay_ns: u64,
    queue_bytes: u32,
    duration_ns: u64,
) -> Result<Trace, TraceError> {
    let link = Link::new(rate_bps, delay_ns, queue_bytes);
    rates("constant", link, &[(duration_ns, rate_bps)])
}

/// One rate after the other, each for its length: `steps` are (length in ns, bit/s). The link's
/// own rate is not used. Steps of no length are left out.
///
/// # Errors
/// A total length of 0, or one beyond 2^64 ns.
pub fn step(link: Link, steps: &[(u64, u64)]) -> Result<Trace, TraceError> {
    rates("step", link, steps)
}

/// The link's rate, but none at all for `length_ns` from `start_ns`.
///
/// # Errors
/// An outage that does not end before `duration_ns`.
pub fn outage(
    link: Link,
    duration_ns: u64,
    start_ns: u64,
    length_ns: u64,
) -> Result<Trace, TraceError> {
    let rest = start_ns
        .checked_add(length_ns)
        .and_then(|end_ns| duration_ns.checked_sub(end_ns))
        .filter(|&rest_ns| rest_ns > 0)
        .ok_or_else(|| TraceError::Generator {
            setting: "outage",
            problem: format!(
                "an outage of {length_ns} ns at {start_ns} ns does not end before the trace does, \
                 at {duration_ns} ns"
            ),
        })?;
    let steps = [
        (start_ns, link.rate_bps),
        (length_ns, 0),
        (rest, link.rate_bps),
    ];
    rates("outage", link, &steps)
}

/// One state after the other, the same in both directions, each for its length in nanoseconds.
/// States of no length are left out.
///
/// # Errors
/// A total length of 0, or one beyond 2^64 ns.
pub fn states(end: EndPolicy, steps: &[(u64, LinkState)]) -> Result<Trace, TraceError> {
    build("states", end, steps.iter().copied())
}

fn rates(scenario: &str, link: Link, steps: &[(u64, u64)]) -> Result<Trace, TraceError> {
    let steps = steps
        .iter()
        .map(|(length_ns, rate)| (*length_ns, link.state(*rate)));
    build(scenario, EndPolicy::Hold, steps)
}

fn build(
    scenario: &str,
    end: EndPolicy,
    steps: impl Iterator<Item = (u64, LinkState)>,
) -> Result<Trace, TraceError> {
    let mut t_ns: u64 = 0;
    let mut rows = Vec::new();
    for (length_ns, state) in steps.filter(|(length_ns, _)| *length_ns > 0) {
        rows.push(TraceRow {
            t_ns,
            down: state,
            up: state,
            diagnostics: Diagnostics::default(),
        });
        t_ns = t_ns
            .checked_add(length_ns)
            .ok_or_else(|| TraceError::Generator {
                setting: "duration",
                problem: "the steps together are longer than 2^64 ns".to_owned(),
            })?;
    }
    let metadata = TraceMetadata {
        schema: TRACE_SCHEMA,
        scenario: scenario.to_owned(),
        status: TraceStatus::Control,
        duration_ns: t_ns,
        end,
        seed: None,
        generator: "hexloop control v1".to_owned(),
        configuration: BTreeMap::new(),
        notes: vec!["an analytic control; it stands for no radio channel".to_owned()],
        provenance: crate::Provenance::default(),
    };
    Trace::new(metadata, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CapacityCurve, Direction};

    #[test]
    fn controls_carry_the_bytes_that_can_be_worked_out_by_hand() {
        let second = 1_000_000_000;
        let bits = |trace: &Trace| {
            CapacityCurve::new(trace, Direction::Up).bits_between(0, trace.duration_ns())
        };
        assert_eq!(bits(&constant(8_000, 0, 0, 3 * second).unwrap()), 24_000);
        let link = Link::new(8_000, 0, 0);
        assert_eq!(
            bits(&step(link, &[(second, 10), (0, 99), (second, 30)]).unwrap()),
            40
        );
        assert_eq!(
            bits(&outage(link, 3 * second, second, second).unwrap()),
            16_000
        );
        assert_eq!(bits(&outage(link, 3 * second, 0, second).unwrap()), 16_000);
        let states = [(second, link.state(7)), (second, LinkState::TRANSPARENT)];
        let made = super::states(EndPolicy::Loop, &states).unwrap();
        assert_eq!(made.rows()[1].up, LinkState::TRANSPARENT);
        assert_eq!((made.rows().len(), made.duration_ns()), (2, 2 * second));
    }

    #[test]
    fn an_impossible_control_is_an_error() {
        let link = Link::new(1, 0, 0);
        assert!(outage(link, 10, 5, 5).is_err());
        assert!(outage(link, 10, u64::MAX, 5).is_err());
        assert!(step(link, &[(u64::MAX, 1), (1, 1)]).is_err());
        assert!(constant(1, 0, 0, 0).is_err());
    }
}
