//! Links that a study's driver has set.

use hexloop_proto::LinkControl;
use hexloop_traces::{Direction, LinkChange, PlaybackChange, StateOverride};
use hexloop_workloads::clock;
use hexloop_workloads::job::JobCommand;

use super::Playing;
use super::processes::json_line;
use crate::node::NodeRequest;
use crate::play::error::PlayError;

impl Playing<'_> {
    /// Sets the links of a study, and tells its driver once that holds.
    pub(super) fn set_links(
        &mut self,
        id: u32,
        (round_trip_ns, rate_bps): (u64, u64),
    ) -> Result<(), PlayError> {
        let over = StateOverride {
            rate_bps: Some(rate_bps),
            delay_ns: Some(round_trip_ns / 2),
            ..StateOverride::NONE
        };
        let mut holds_from = clock::now();
        for link in &self.phase.settable {
            let control = LinkControl {
                link: (*link).to_owned(),
                directions: Direction::BOTH.to_vec(),
                change: LinkChange::Play(PlaybackChange::Override(over)),
            };
            let made = self
                .desk
                .change(&control, clock::now(), Some(self.phase.name));
            let made = made.map_err(|source| PlayError::Event {
                event: self.phase.name.to_owned(),
                source,
            })?;
            holds_from = holds_from.max(made.holds_from);
        }
        clock::sleep_until(holds_from);
        let line = json_line(&JobCommand::LinksSet)?;
        if let Some((place, _)) = self.processes.get(&id) {
            self.scene.nodes[*place].ask(&NodeRequest::Write { id, line })?;
        }
        Ok(())
    }
}
