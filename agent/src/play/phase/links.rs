//! Links that a study's driver has set.

use hexloop_proto::LinkControl;
use hexloop_traces::{Direction, LinkChange, PlaybackChange, StateOverride};
use hexloop_workloads::clock::{self, MonotonicNs};
use hexloop_workloads::job::JobCommand;

use super::Playing;
use super::processes::json_line;
use crate::node::NodeRequest;
use crate::play::error::PlayError;

impl Playing<'_> {
    /// Has the links of a study follow their traces from the start, and tells its driver when that began.
    pub(super) fn play_traces(&mut self, id: u32) -> Result<(), PlayError> {
        let due = clock::now();
        let mut began = due;
        for change in [
            PlaybackChange::Override(StateOverride::NONE),
            PlaybackChange::Jump { to_ns: 0 },
        ] {
            for link in &self.phase.settable {
                began = began.max(self.change_link(link, due, change)?);
            }
        }
        clock::sleep_until(began);
        let from_monotonic_ns = began;
        self.tell_driver(id, &JobCommand::TracesPlay { from_monotonic_ns })
    }

    /// Sets the links of a study, and tells its driver once that holds. With `ends_only` the first one of
    /// the path gets the rate and the last one the round trip, and nothing else is set.
    pub(super) fn set_links(
        &mut self,
        id: u32,
        (round_trip_ns, rate_bps): (u64, u64),
        ends_only: bool,
    ) -> Result<(), PlayError> {
        let mut holds_from = clock::now();
        let last = self.phase.settable.len().saturating_sub(1);
        for (place, link) in self.phase.settable.iter().enumerate() {
            let over = StateOverride {
                rate_bps: (!ends_only || place == 0).then_some(rate_bps),
                delay_ns: (!ends_only || place == last).then_some(round_trip_ns / 2),
                ..StateOverride::NONE
            };
            if over == StateOverride::NONE {
                continue;
            }
            let made = self.change_link(link, clock::now(), PlaybackChange::Override(over))?;
            holds_from = holds_from.max(made);
        }
        clock::sleep_until(holds_from);
        self.tell_driver(id, &JobCommand::LinksSet)
    }

    /// Changes both directions of a link; from when on that holds.
    fn change_link(
        &self,
        link: &str,
        due: MonotonicNs,
        change: PlaybackChange,
    ) -> Result<MonotonicNs, PlayError> {
        let control = LinkControl {
            link: link.to_owned(),
            directions: Direction::BOTH.to_vec(),
            change: LinkChange::Play(change),
        };
        let made = self.desk.change(&control, due, Some(self.phase.name));
        let made = made.map_err(|source| PlayError::Event {
            event: self.phase.name.to_owned(),
            source,
        })?;
        Ok(made.holds_from)
    }

    fn tell_driver(&mut self, id: u32, command: &JobCommand) -> Result<(), PlayError> {
        let line = json_line(command)?;
        if let Some((place, _)) = self.processes.get(&id) {
            self.scene.nodes[*place].ask(&NodeRequest::Write { id, line })?;
        }
        Ok(())
    }
}
