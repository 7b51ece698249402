//! The quickstart experiment with changes, for tests.

/// The text of `topologies/quickstart.toml`.
pub const QUICKSTART: &str = include_str!("../../topologies/quickstart.toml");

/// The quickstart with each `(old, new)` replaced once.
///
/// # Panics
/// `old` is not in the file: the test would otherwise change nothing and mean nothing.
#[must_use]
#[track_caller]
pub fn quickstart_with(changes: &[(&str, &str)]) -> String {
    let mut text = QUICKSTART.to_owned();
    for (old, new) in changes {
        assert!(text.contains(old), "quickstart.toml has no {old:?}");
        text = text.replacen(old, new, 1);
    }
    text
}

/// Settings of the command line that make a quickstart as short as it can be and still has every
/// stage: calibration, three phases, requests in each.
pub const SHORTEST: [&str; 16] = [
    "--set",
    "requests.arrive_for=2 s",
    "--set",
    "traces.street.duration=3 s",
    "--set",
    "traces.street.events.blocker.at=1 s",
    "--set",
    "traces.street.events.blocker.length=500 ms",
    "--set",
    "phases.device.duration=3 s",
    "--set",
    "phases.edge.duration=3 s",
    "--set",
    "phases.split.duration=3 s",
    "--set",
    "requests.output_tokens=8",
];
