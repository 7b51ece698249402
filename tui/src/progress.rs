//! How far a run is.

use hexloop_proto::{Event, EventBody};

/// What is known of a phase beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseOutline {
    /// Its name.
    pub name: String,
    /// Its planned length from T0.
    pub length_ns: u64,
    /// Requests that its schedule offers; `None` where nothing is requested.
    pub offered: Option<u64>,
}

/// What is known of a run beforehand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunOutline {
    /// Its phases in order.
    pub phases: Vec<PhaseOutline>,
    /// Links that share a cell: what their windows are compared with is what the cell granted,
    /// which is nothing while nothing waits.
    pub links_of_cells: Vec<String>,
}

/// How far a run is at an event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Number of the phase, from 0.
    pub phase_index: usize,
    /// How many phases there are.
    pub phases: usize,
    /// How much of the phase's planned length has passed, 0 to 1; 1 at its end.
    pub phase_fraction: f64,
    /// How much of the planned length of all phases has passed, 0 to 1.
    pub run_fraction: f64,
}

impl RunOutline {
    /// Index and outline of the event's phase.
    pub(crate) fn phase(&self, event: &Event) -> Option<(usize, &PhaseOutline)> {
        let name = event.phase.as_deref()?;
        self.phases
            .iter()
            .enumerate()
            .find(|(_, phase)| phase.name == name)
    }

    /// How far the run is at that event; `None` outside of phases, where nothing says how long
    /// it will take.
    #[must_use]
    pub fn progress(&self, event: &Event) -> Option<Progress> {
        let (phase_index, phase) = self.phase(event)?;
        let passed_ns = match event.body {
            EventBody::PhaseStarted { .. } => 0,
            EventBody::PhaseEnded(_) => phase.length_ns,
            _ => u64::try_from(event.done_ns)
                .unwrap_or(0)
                .min(phase.length_ns),
        };
        let length = |phases: &[PhaseOutline]| phases.iter().map(|one| one.length_ns).sum::<u64>();
        Some(Progress {
            phase_index,
            phases: self.phases.len(),
            phase_fraction: share(passed_ns, phase.length_ns),
            run_fraction: share(
                length(&self.phases[..phase_index]) + passed_ns,
                length(&self.phases),
            ),
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "for drawing only")]
fn share(part_ns: u64, whole_ns: u64) -> f64 {
    if whole_ns == 0 {
        1.0
    } else {
        part_ns as f64 / whole_ns as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outline() -> RunOutline {
        let phase = |name: &str| PhaseOutline {
            name: name.to_owned(),
            length_ns: 20_000_000_000,
            offered: Some(10),
        };
        RunOutline {
            phases: vec![phase("device"), phase("split")],
            links_of_cells: Vec::new(),
        }
    }

    fn event(phase: Option<&str>, done_ns: i64) -> Event {
        let body = EventBody::Warning {
            message: String::new(),
        };
        Event {
            sequence: 0,
            phase: phase.map(str::to_owned),
            due_ns: done_ns,
            done_ns,
            body,
        }
    }

    #[test]
    fn progress_follows_the_events_time_within_the_phase_and_the_run() {
        let at = outline()
            .progress(&event(Some("split"), 5_000_000_000))
            .unwrap();
        assert_eq!((at.phase_index, at.phases), (1, 2));
        assert!((at.phase_fraction - 0.25).abs() < 1e-12);
        assert!((at.run_fraction - 0.625).abs() < 1e-12);
    }

    #[test]
    fn progress_stays_between_0_and_1_whatever_the_time_says() {
        for (done_ns, fraction) in [(-5, 0.0), (i64::MAX, 1.0)] {
            let at = outline().progress(&event(Some("device"), done_ns)).unwrap();
            assert!((at.phase_fraction - fraction).abs() < 1e-12);
        }
    }

    #[test]
    fn outside_of_known_phases_there_is_no_progress() {
        assert_eq!(outline().progress(&event(None, 5)), None);
        assert_eq!(outline().progress(&event(Some("other"), 5)), None);
    }
}
