//! What is aimed at: bounds on the quantities of the rows.

use std::fmt;

/// A bound on one quantity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Bound {
    /// At most so much.
    AtMost(f64),
    /// At least so much.
    AtLeast(f64),
    /// So much, give or take.
    Within { of: f64, by: f64 },
}

impl Bound {
    /// Whether a value keeps to it.
    pub(super) fn holds(self, value: f64) -> bool {
        match self {
            Bound::AtMost(most) => value <= most,
            Bound::AtLeast(least) => value >= least,
            Bound::Within { of, by } => (value - of).abs() <= by,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::AtMost(most) => write!(f, "<= {most}"),
            Bound::AtLeast(least) => write!(f, ">= {least}"),
            Bound::Within { of, by } => write!(f, "{of} +- {by}"),
        }
    }
}

/// A target: row, quantity, bound, and whether it is stated for the full scale alone.
struct Target {
    row: &'static str,
    quantity: &'static str,
    bound: Bound,
    full_only: bool,
}

const fn always(row: &'static str, quantity: &'static str, bound: Bound) -> Target {
    Target {
        row,
        quantity,
        bound,
        full_only: false,
    }
}

const fn at_full_scale(row: &'static str, quantity: &'static str, bound: Bound) -> Target {
    Target {
        row,
        quantity,
        bound,
        full_only: true,
    }
}

const TARGETS: [Target; 29] = [
    always("relay-exact-10ms", "window_error", Bound::AtMost(0.1)),
    always("relay-exact-1ms", "cumulative_error", Bound::AtMost(0.02)),
    always("relay-exact-1ms", "window_error", Bound::AtMost(0.1)),
    always("relay-round-trip", "added_p50", Bound::AtMost(15.0)),
    always("relay-round-trip", "added_p99", Bound::AtMost(60.0)),
    always("relay-delay-10ms", "added_p50", within(0.0, 50.0)),
    always("relay-delay-10ms", "added_p99", within(0.0, 250.0)),
    always("relay-tcp", "rate", Bound::AtLeast(15.0)),
    always("relay-tcp", "link_cpu", Bound::AtMost(0.05)),
    always("relay-tcp-3g", "delivered_over_trace", within(1.0, 0.01)),
    always("relay-tcp-3g", "link_cpu", Bound::AtMost(0.3)),
    always("relay-bulk-64", "core_rate", Bound::AtLeast(1.0)),
    at_full_scale(
        "relay-200-links",
        "window_error_largest",
        Bound::AtMost(1.0),
    ),
    at_full_scale("relay-200-links", "link_cpu", Bound::AtMost(20.0)),
    always("relay-loaded", "window_error", Bound::AtMost(1.0)),
    always("relay-loaded", "cumulative_error", Bound::AtMost(1.0)),
    always("relay-loaded-verdict", "disagreements", Bound::AtMost(0.0)),
    at_full_scale("relay-loaded-verdict", "rarer_verdict", Bound::AtLeast(1.0)),
    // A capture is promised to be of every packet: what it has no room for is a warning of a run.
    always("relay-capture", "lost", Bound::AtMost(0.0)),
    always("tc-10ms", "cumulative_error", Bound::AtMost(0.5)),
    always("tc-1ms", "cumulative_error", Bound::AtMost(1.0)),
    always("tc-interface-10ms", "cumulative_error", Bound::AtMost(0.5)),
    always("tc-change", "single_p50", Bound::AtMost(4.0)),
    always("tc-change", "batched", Bound::AtLeast(250.0)),
    always("edt-1ms", "cumulative_error", Bound::AtMost(0.5)),
    at_full_scale("star-1000", "up", Bound::AtMost(60.0)),
    at_full_scale("star-1000", "down", Bound::AtMost(30.0)),
    at_full_scale("star-1000", "memory_per_node", Bound::AtMost(2.0)),
    always("star-1000", "left", Bound::AtMost(0.0)),
];

const fn within(of: f64, by: f64) -> Bound {
    Bound::Within { of, by }
}

/// The bound on a quantity of a row, if there is one at this scale.
pub(super) fn bound(row: &str, quantity: &str, full: bool) -> Option<Bound> {
    let mut targets = TARGETS.iter();
    let found = targets.find(|target| target.row == row && target.quantity == quantity)?;
    (full || !found.full_only).then_some(found.bound)
}

/// The quantities of a row that have a bound at this scale.
pub(super) fn bounds(row: &str, full: bool) -> impl Iterator<Item = (&'static str, Bound)> {
    let targets = TARGETS.iter().filter(move |target| target.row == row);
    targets
        .filter(move |target| full || !target.full_only)
        .map(|target| (target.quantity, target.bound))
}

/// The bounds of a row in words.
pub(super) fn described(row: &str) -> Vec<String> {
    let of_row = TARGETS.iter().filter(|target| target.row == row);
    of_row
        .map(|target| format!("{} {}", target.quantity, target.bound))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_of_a_row_that_exists_and_every_row_has_one() {
        let names: Vec<&str> = hexloop_agent::bench::ROWS
            .iter()
            .map(|row| row.name)
            .collect();
        for target in &TARGETS {
            assert!(names.contains(&target.row), "{}", target.row);
        }
        for name in names {
            assert!(!described(name).is_empty(), "{name}");
        }
    }

    #[test]
    fn a_bound_holds_up_to_its_edge() {
        assert!(Bound::AtMost(1.0).holds(1.0) && !Bound::AtMost(1.0).holds(1.1));
        assert!(Bound::AtLeast(1.0).holds(1.0) && !Bound::AtLeast(1.0).holds(0.9));
        assert!(within(0.0, 50.0).holds(-50.0) && !within(0.0, 50.0).holds(-51.0));
        assert!(!Bound::AtMost(1.0).holds(f64::NAN) && !within(0.0, 1.0).holds(f64::NAN));
    }

    #[test]
    fn what_is_stated_for_the_full_scale_is_not_judged_at_another() {
        assert_eq!(bound("relay-200-links", "link_cpu", false), None);
        assert!(bound("relay-200-links", "link_cpu", true).is_some());
    }
}
