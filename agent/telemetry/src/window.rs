//! Energy of a window of time, from the ticks of a counter.

use serde::{Deserialize, Serialize};

use crate::{CounterTrack, Tick, Trouble, refresh_period_ns};

/// Windows that span fewer refreshes of their counter have no value of their own.
pub const MINIMUM_REFRESHES: u64 = 10;

/// The energy of one device over one window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WindowEnergy {
    /// Energy of the window asked for, in joules: the counter between its ticks, and at each edge
    /// the share of the tick's own interval that lies inside.
    pub energy_j: f64,
    /// What the edges leave open, in joules: the energy of the two intervals that they cut.
    pub uncertainty_j: f64,
    /// Refreshes of the counter within the window.
    pub refreshes: u64,
    /// The counter's measured refresh period.
    pub refresh_period_ns: u64,
    /// Mean power, in watts: of a counter from its first tick within the window to its last, so that
    /// neither edge cuts a refresh.
    pub power_w: f64,
    /// What is left open of it, in watts: a tick came at some moment since the reading before.
    pub power_uncertainty_w: f64,
    /// The ticks that it is taken between; `None` where there is no counter.
    pub ticks: Option<TickWindow>,
}

/// The part of a window between the first and the last tick of a counter within it: there the
/// counter's own difference is the energy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TickWindow {
    /// The first tick, from the window's beginning on.
    pub first_after_ns: u64,
    /// The last tick, likewise.
    pub last_after_ns: u64,
    /// The energy between them, in joules.
    pub energy_j: f64,
}

/// The energy between `from_ns` and `to_ns`.
///
/// Between two ticks the counter is taken to rise evenly; so an edge is wrong by at most the
/// energy of the interval that it cuts. (An estimate that starts at the first reading and ends at the
/// last is wrong by the same amount and does not say so.)
///
/// # Errors
/// The window spans fewer than [`MINIMUM_REFRESHES`] refreshes, the counter stood still, or the
/// track does not reach over the whole window.
pub fn window_energy(
    track: &CounterTrack,
    from_ns: u64,
    to_ns: u64,
) -> Result<WindowEnergy, Trouble> {
    let device = || track.device().to_owned();
    let ticks = track.ticks();
    let inside = &ticks[ticks.partition_point(|tick| tick.at_ns < from_ns)
        ..ticks.partition_point(|tick| tick.at_ns <= to_ns)];
    let refreshes = u64::try_from(inside.len()).unwrap_or(u64::MAX);
    let span_ns = to_ns.saturating_sub(from_ns);
    let Some(refresh_period_ns) = refresh_period_ns(ticks.iter().map(|tick| tick.at_ns)) else {
        let device = device();
        return Err(Trouble::StoodStill { device, span_ns });
    };
    let (Some((first, last)), true) = (
        inside.first().zip(inside.last()),
        refreshes >= MINIMUM_REFRESHES,
    ) else {
        return Err(Trouble::TooShort {
            device: device(),
            refreshes,
            needed: MINIMUM_REFRESHES,
            period_ns: refresh_period_ns,
        });
    };
    let outside = |edge: &str| Trouble::Failed {
        what: format!("the energy of {}", track.device()),
        reason: format!("the counter was not read {edge} the window"),
    };
    let begin = edge(ticks, from_ns).ok_or_else(|| outside("before"))?;
    let end = edge(ticks, to_ns)
        .or_else(|| last_edge(ticks, to_ns, refresh_period_ns))
        .ok_or_else(|| outside("after"))?;
    let ticks = TickWindow {
        first_after_ns: first.at_ns - from_ns,
        last_after_ns: last.at_ns - from_ns,
        energy_j: joules(last.total_uj - first.total_uj),
    };
    let length_s = seconds(last.at_ns - first.at_ns);
    let power_w = ticks.energy_j / length_s;
    let seen_late_s = seconds(first.at_ns - first.after_ns) + seconds(last.at_ns - last.after_ns);
    Ok(WindowEnergy {
        energy_j: (end.total_uj - begin.total_uj) / 1e6,
        uncertainty_j: (begin.interval_uj + end.interval_uj) / 1e6,
        refreshes,
        refresh_period_ns,
        power_w,
        power_uncertainty_w: power_w * seen_late_s / length_s,
        ticks: Some(ticks),
    })
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53 within a run")]
fn joules(microjoules: u64) -> f64 {
    microjoules as f64 / 1e6
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53 within a run")]
fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// Where the counter stood at an edge, and the energy of the interval that the edge cuts.
struct Edge {
    total_uj: f64,
    interval_uj: f64,
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53 within a run")]
fn edge(ticks: &[Tick], at_ns: u64) -> Option<Edge> {
    let after = ticks.partition_point(|tick| tick.at_ns < at_ns);
    let next = ticks.get(after)?;
    if next.at_ns == at_ns {
        return Some(Edge {
            total_uj: next.total_uj as f64,
            interval_uj: 0.0,
        });
    }
    let before = ticks.get(after.checked_sub(1)?)?;
    let interval_uj = (next.total_uj - before.total_uj) as f64;
    let share = (at_ns - before.at_ns) as f64 / (next.at_ns - before.at_ns) as f64;
    Some(Edge {
        total_uj: before.total_uj as f64 + interval_uj * share,
        interval_uj,
    })
}

/// The edge of a window that ends after the last tick: within two refreshes of it the counter is
/// taken to have gone on as before.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53 within a run")]
fn last_edge(ticks: &[Tick], at_ns: u64, refresh_period_ns: u64) -> Option<Edge> {
    let [.., before, last] = ticks else {
        return None;
    };
    let beyond_ns = at_ns.checked_sub(last.at_ns)?;
    if beyond_ns > 2 * refresh_period_ns {
        return None;
    }
    let interval_uj = (last.total_uj - before.total_uj) as f64;
    let share = beyond_ns as f64 / (last.at_ns - before.at_ns).max(1) as f64;
    Some(Edge {
        total_uj: last.total_uj as f64 + interval_uj * share,
        interval_uj: interval_uj * share.max(1.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// 100 W, a counter that is renewed every `period_ms` and read every millisecond.
    fn track(period_ms: u64, length_ms: u64) -> CounterTrack {
        let mut track = CounterTrack::new("GPU-1", None);
        for at_ms in 0..=length_ms {
            let renewed_ms = at_ms / period_ms * period_ms;
            track.push(at_ms * MS, renewed_ms * 100_000);
        }
        track
    }

    #[test]
    fn a_window_between_ticks_has_the_energy_of_its_length() {
        let track = track(100, 5_000);
        let window = window_energy(&track, 1_037 * MS, 3_951 * MS).unwrap();
        assert!((window.energy_j - 291.4).abs() < 1e-6, "{window:?}");
        assert!((window.uncertainty_j - 20.0).abs() < 1e-6, "{window:?}");
        assert_eq!(window.refreshes, 29);
        assert_eq!(window.refresh_period_ns, 100 * MS);
    }

    #[test]
    fn power_is_taken_from_tick_to_tick_so_that_no_edge_cuts_a_refresh() {
        // 100 W until 3 s, then 200 W; renewed every 100 ms, seen within a millisecond.
        let mut track = CounterTrack::new("GPU-1", None);
        for at_ms in 0..=5_000_u64 {
            let renewed_ms = at_ms / 100 * 100;
            track.push(
                at_ms * MS,
                renewed_ms * 100_000 + renewed_ms.saturating_sub(3_000) * 100_000,
            );
        }
        let window = window_energy(&track, 1_037 * MS, 2_951 * MS).unwrap();
        let ticks = window.ticks.unwrap();
        assert_eq!(
            (ticks.first_after_ns, ticks.last_after_ns),
            (63 * MS, 1_863 * MS)
        );
        assert!((ticks.energy_j - 180.0).abs() < 1e-9, "{ticks:?}");
        assert!((window.power_w - 100.0).abs() < 1e-9, "{window:?}");
        // A millisecond at each end of 1.8 s.
        let open_w = window.power_uncertainty_w;
        assert!((open_w - 100.0 * 2.0 / 1_800.0).abs() < 1e-9, "{window:?}");
    }

    #[test]
    fn a_window_shorter_than_ten_refreshes_is_not_a_number() {
        let track = track(100, 5_000);
        let trouble = window_energy(&track, 1_000 * MS, 1_850 * MS).unwrap_err();
        let expected = "the window of GPU-1 spans 9 refreshes of its counter (one per 100 ms); at \
                        least 10 are needed";
        assert_eq!(trouble.to_string(), expected);
    }

    #[test]
    fn a_counter_that_stands_still_has_no_energy_rather_than_none() {
        let mut track = CounterTrack::new("GPU-1", None);
        for at_ms in 0..5_000 {
            track.push(at_ms * MS, 77);
        }
        let trouble = window_energy(&track, 0, 4_000 * MS).unwrap_err();
        assert!(matches!(trouble, Trouble::StoodStill { .. }), "{trouble}");
    }

    #[test]
    fn a_window_may_end_shortly_after_the_last_tick_but_not_long() {
        let track = track(100, 5_000);
        let window = window_energy(&track, 1_000 * MS, 5_050 * MS).unwrap();
        assert!((window.energy_j - 405.0).abs() < 1e-6, "{window:?}");
        assert!(window_energy(&track, 1_000 * MS, 5_300 * MS).is_err());
    }
}
