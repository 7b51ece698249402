//! What is scripted on top of a channel or a control: outages, maintenance, load.

use serde::{Deserialize, Serialize};

use crate::state::is_event_name;
use crate::units::{Share, TimeSpan};
use crate::{LinkState, Trace, TraceError, TraceRow, UNLIMITED_RATE_BPS};

/// What an event does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// Nothing gets through.
    Outage,
    /// Works on the network: a share of the capacity is gone, and packets take a detour.
    Maintenance,
    /// Others take a share of the capacity.
    Load,
}

impl EventKind {
    /// The name in files and in a trace's event column.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            EventKind::Outage => "outage",
            EventKind::Maintenance => "maintenance",
            EventKind::Load => "load",
        }
    }
}

/// Which directions an event concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventDirection {
    /// Both.
    #[default]
    Both,
    /// The downlink alone.
    Down,
    /// The uplink alone.
    Up,
}

/// Something that happens to the link at a stated moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptedEvent {
    /// Its name in the trace's event column; `NAME-end` marks its end. The kind's, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it does.
    pub kind: EventKind,
    /// When it begins.
    pub at: TimeSpan,
    /// How long it lasts.
    pub length: TimeSpan,
    /// After how long it begins again; without it, once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<TimeSpan>,
    /// Which directions.
    #[serde(default)]
    pub direction: EventDirection,
    /// The share of the capacity that is gone, for maintenance and load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
    /// What is added to the one-way delay, for maintenance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<TimeSpan>,
}

impl ScriptedEvent {
    /// What is wrong with it: the key and why.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let found = |key, problem: &str| Some((key, problem.to_owned()));
        if self.length.ns == 0 {
            return found("length", "an event lasts longer than 0 s");
        }
        if self.every.is_some_and(|every| every.ns <= self.length.ns) {
            return found("every", "an event ends before it begins again");
        }
        if self.name.as_deref().is_some_and(|name| {
            // The end is marked by `-end`.
            !is_event_name(name) || name.len() > 60
        }) {
            let problem = "a name has at most 60 letters, digits, `-`, `_` and `.`";
            return found("name", problem);
        }
        match (self.kind, self.share, self.delay) {
            (EventKind::Outage, Some(_), _) => found(
                "share",
                "an outage takes all; `share` is for `load` and `maintenance`",
            ),
            (EventKind::Outage | EventKind::Load, _, Some(_)) => {
                found("delay", "only `maintenance` adds delay")
            }
            (EventKind::Load, None, _) => found(
                "share",
                "a load needs a `share`: what others take of the capacity",
            ),
            (EventKind::Maintenance, None, None) => {
                found("share", "maintenance needs a `share`, a `delay` or both")
            }
            _ => None,
        }
    }

    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.kind.name())
    }

    /// Where `t_ns` lies: whether within the event, and the next moment at which that changes.
    fn phase(&self, t_ns: u64) -> (bool, Option<u64>) {
        let Some(since_ns) = t_ns.checked_sub(self.at.ns) else {
            return (false, Some(self.at.ns));
        };
        let (start_ns, within_ns) = match self.every {
            Some(every) if every.ns > 0 => (t_ns - since_ns % every.ns, since_ns % every.ns),
            _ => (self.at.ns, since_ns),
        };
        if within_ns < self.length.ns {
            (true, start_ns.checked_add(self.length.ns))
        } else {
            (
                false,
                self.every.and_then(|every| start_ns.checked_add(every.ns)),
            )
        }
    }

    fn act(&self, row: &mut TraceRow) {
        if self.direction != EventDirection::Up {
            self.act_on(&mut row.down);
        }
        if self.direction != EventDirection::Down {
            self.act_on(&mut row.up);
        }
    }

    fn act_on(&self, state: &mut LinkState) {
        if self.kind == EventKind::Outage {
            state.rate_bps = 0;
            return;
        }
        let left = u64::from(Share::ONE.ppb() - self.share.map_or(0, Share::ppb));
        if left == 0 {
            state.rate_bps = 0;
        } else if state.rate_bps != UNLIMITED_RATE_BPS {
            let scaled = u128::from(state.rate_bps) * u128::from(left) / 1_000_000_000;
            state.rate_bps = u64::try_from(scaled).unwrap_or(u64::MAX);
        }
        let added_ns = self.delay.map_or(0, |delay| delay.ns);
        state.delay_ns = state.delay_ns.saturating_add(added_ns);
    }
}

/// Rows with scripted events over them; a row begins wherever an event begins or ends.
#[derive(Debug, Clone)]
pub(super) struct EventLayer {
    events: Vec<ScriptedEvent>,
    duration_ns: u64,
    /// The row that holds now, without events, and the one after it.
    current: Option<TraceRow>,
    following: Option<TraceRow>,
    /// When an event next begins or ends.
    boundary_ns: Option<u64>,
    started: bool,
}

impl EventLayer {
    pub(super) const fn new(events: Vec<ScriptedEvent>, duration_ns: u64) -> EventLayer {
        EventLayer {
            events,
            duration_ns,
            current: None,
            following: None,
            boundary_ns: None,
            started: false,
        }
    }

    /// The next row, with `pull` giving the rows below.
    pub(super) fn next(
        &mut self,
        mut pull: impl FnMut() -> Result<Option<TraceRow>, TraceError>,
    ) -> Result<Option<TraceRow>, TraceError> {
        if self.events.is_empty() {
            return pull();
        }
        if !self.started {
            self.started = true;
            self.following = pull()?;
        }
        let base_ns = self.following.as_ref().map(|row| row.t_ns);
        let cut_ns = self
            .boundary_ns
            .filter(|boundary_ns| *boundary_ns < base_ns.unwrap_or(self.duration_ns));
        if let (Some(cut_ns), Some(current)) = (cut_ns, &mut self.current) {
            current.t_ns = cut_ns;
            current.diagnostics.event = None;
        } else {
            self.current = self.following.take();
            if self.current.is_some() {
                self.following = pull()?;
            }
        }
        Ok(self.current.clone().map(|row| self.with_events(row)))
    }

    fn with_events(&mut self, mut row: TraceRow) -> TraceRow {
        let t_ns = row.t_ns;
        let before = t_ns.checked_sub(1);
        let mut boundary_ns: Option<u64> = None;
        for event in &self.events {
            let (active, next_ns) = event.phase(t_ns);
            let was_active = before.is_some_and(|before_ns| event.phase(before_ns).0);
            let begins = active && (!was_active || t_ns == event.at.ns);
            if active {
                event.act(&mut row);
            }
            if begins {
                row.diagnostics.event = Some(event.name().to_owned());
            } else if was_active && !active {
                row.diagnostics.event = Some(format!("{}-end", event.name()));
            }
            boundary_ns = match (boundary_ns, next_ns) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        self.boundary_ns = boundary_ns;
        row
    }
}

/// A trace with scripted events over it, such as a recording with an outage of one's own.
///
/// # Errors
/// An event with a [`ScriptedEvent::problem`], or a trace whose rows stay in a mapped file.
pub fn with_events(trace: &Trace, events: &[ScriptedEvent]) -> Result<Trace, TraceError> {
    let wrong = |problem| TraceError::Generator {
        setting: "events",
        problem,
    };
    for (index, event) in events.iter().enumerate() {
        if let Some((key, problem)) = event.problem() {
            return Err(wrong(format!("{index}.{key}: {problem}")));
        }
    }
    if events.is_empty() {
        return Ok(trace.clone());
    }
    if trace.is_mapped() {
        return Err(wrong(format!(
            "{} rows stay in their file, and events are laid over traces in memory; put them into \
             the scenario that the file is made of, or make longer rows",
            trace.row_count()
        )));
    }
    let mut layer = EventLayer::new(events.to_vec(), trace.duration_ns());
    let mut below = trace.iter();
    let mut rows = Vec::with_capacity(trace.row_count());
    while let Some(row) = layer.next(|| Ok(below.next()))? {
        rows.push(row);
    }
    let mut metadata = trace.metadata().clone();
    super::metadata::note_events(&mut metadata, events);
    Trace::new(metadata, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Diagnostics;
    use crate::generate::control;

    fn event(kind: &str, at: &str, length: &str, more: &str) -> ScriptedEvent {
        let text = format!("kind = \"{kind}\"\nat = \"{at}\"\nlength = \"{length}\"\n{more}");
        toml::from_str(&text).unwrap()
    }

    /// Rows every 10 ms for 100 ms with these events, as (ms, down, up, delay, event).
    fn rows(events: Vec<ScriptedEvent>) -> Vec<(u64, u64, u64, u64, String)> {
        let mut layer = EventLayer::new(events, 100_000_000);
        let mut base = (0..10_u64).map(|index| TraceRow {
            t_ns: index * 10_000_000,
            down: LinkState {
                rate_bps: 1_000 + index,
                delay_ns: 5,
                ..LinkState::TRANSPARENT
            },
            up: LinkState::TRANSPARENT,
            diagnostics: Diagnostics {
                event: (index == 3).then(|| "below".to_owned()),
                ..Diagnostics::default()
            },
        });
        let mut rows = Vec::new();
        while let Some(row) = layer.next(|| Ok(base.next())).unwrap() {
            rows.push((
                row.t_ns / 1_000_000,
                row.down.rate_bps,
                row.up.rate_bps,
                row.down.delay_ns,
                row.diagnostics.event.unwrap_or_default(),
            ));
        }
        rows
    }

    #[test]
    fn an_outage_begins_and_ends_at_its_own_moments_between_rows_of_the_channel() {
        let rows = rows(vec![event("outage", "25 ms", "20 ms", "")]);
        let around: Vec<_> = rows
            .iter()
            .filter(|row| (20..=50).contains(&row.0))
            .map(|row| (row.0, row.1, row.2, row.4.as_str()))
            .collect();
        assert_eq!(
            around,
            [
                (20, 1_002, u64::MAX, ""),
                (25, 0, 0, "outage"),
                (30, 0, 0, "below"),
                (40, 0, 0, ""),
                (45, 1_004, u64::MAX, "outage-end"),
                (50, 1_005, u64::MAX, ""),
            ]
        );
        assert_eq!(rows.len(), 12);
    }

    #[test]
    fn load_and_maintenance_take_their_share_and_events_add_up_and_repeat() {
        let load = event(
            "load",
            "0 s",
            "10 ms",
            "every = \"50 ms\"\nshare = \"50 %\"",
        );
        let detour = event(
            "maintenance",
            "50 ms",
            "100 ms",
            "name = \"works\"\nshare = \"20 %\"\ndelay = \"1 ns\"\ndirection = \"down\"",
        );
        let rows = rows(vec![load, detour]);
        assert_eq!(rows[0], (0, 500, u64::MAX, 5, "load".to_owned()));
        assert_eq!(rows[1].4, "load-end");
        assert_eq!(
            rows[5],
            (50, 401, u64::MAX, 6, "works".to_owned()),
            "1005 / 2 = 502, x 0.8"
        );
        assert_eq!(rows[6], (60, 804, u64::MAX, 6, "load-end".to_owned()));
        assert_eq!(rows.len(), 10, "every event falls on a row");
    }

    #[test]
    fn events_lie_over_any_trace_which_then_tells_of_them() {
        let trace = control::constant(1_000, 5, 0, 100_000_000).unwrap();
        let outage = event("outage", "25 ms", "20 ms", "direction = \"up\"");
        let over = with_events(&trace, std::slice::from_ref(&outage)).unwrap();
        let rows: Vec<_> = over
            .iter()
            .map(|row| (row.t_ns / 1_000_000, row.down.rate_bps, row.up.rate_bps))
            .collect();
        assert_eq!(
            rows,
            [(0, 1_000, 1_000), (25, 1_000, 0), (45, 1_000, 1_000)]
        );
        let metadata = over.metadata();
        assert_eq!(metadata.configuration["events.0.kind"], "outage");
        assert!(metadata.notes.iter().any(|note| note.contains("events")));
        assert_eq!(with_events(&trace, &[]).unwrap(), trace);
        let wrong = ScriptedEvent {
            share: Some(Share::ONE),
            ..outage
        };
        let error = with_events(&trace, &[wrong]).unwrap_err().to_string();
        assert!(error.contains("0.share"), "{error}");
    }

    #[test]
    fn an_event_that_makes_no_sense_is_named_by_its_key() {
        for (event, key) in [
            (event("outage", "0 s", "0 s", ""), "length"),
            (event("outage", "0 s", "2 s", "every = \"2 s\""), "every"),
            (event("outage", "0 s", "2 s", "share = \"2 %\""), "share"),
            (event("outage", "0 s", "2 s", "name = \"a b\""), "name"),
            (event("load", "0 s", "2 s", ""), "share"),
            (
                event("load", "0 s", "2 s", "share = \"1 %\"\ndelay = \"1 s\""),
                "delay",
            ),
            (event("maintenance", "0 s", "2 s", ""), "share"),
        ] {
            assert_eq!(event.problem().unwrap().0, key);
        }
        assert_eq!(
            event("outage", "0 s", "2 s", "every = \"3 s\"").problem(),
            None
        );
    }
}
