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
