//! The bottleneck: from when to when each packet is served.
//!
//! Packets without a gap between them are a run. The end of each is computed from what the link
//! has carried since the start of the run, so that no rounding adds up and nothing drifts.
//!
//! Opportunities are mahimahi's: what the rate gives in a slot is granted at the end of the slot,
//! to the packets that came before that. A packet may span grants; what is left of one is used by
//! the next packet if it came in time, and is lost otherwise. A run therefore starts with the
//! whole grant of the slot in which its first packet comes. With an unlimited rate there are no
//! slots: packets pass at once.

use hexloop_traces::{Carried, LinkState, Schedule, Service, UNLIMITED_RATE_BPS};

use super::grants::Grants;
use super::line::Packet;

/// Where the capacity comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Supply<'a> {
    pub(super) schedule: &'a Schedule,
    pub(super) service: Service,
    /// Where a cell divides it, nothing counts but what that has granted.
    pub(super) grants: Option<&'a Grants>,
}

/// A packet in service.
#[derive(Debug, Clone, Copy)]
pub(super) struct Serving {
    pub(super) slot: u32,
    pub(super) ip_bytes: u32,
    /// `u64::MAX` if it is held for ever, as things stand.
    pub(super) finish_ns: u64,
    /// When it would be at the receiver without jitter, and when it leaves the link.
    pub(super) undisturbed_ns: u64,
    pub(super) due_ns: u64,
    /// Its luck.
    pub(super) draw: u32,
    start_ns: u64,
    /// It is through once the link has carried so much.
    target: Carried,
    service: Service,
}

#[derive(Debug, Default)]
pub(super) struct Server {
    serving: Option<Serving>,
    /// End of service of the last packet that has begun it.
    free_ns: u64,
    /// What the link has to have carried at the end of that packet.
    target: Carried,
}

/// The end of the slot that `t_ns` is in; a moment between two slots belongs to the earlier one.
const fn slot_end(t_ns: u64, slot_ns: u64) -> u64 {
    match t_ns.div_ceil(slot_ns).checked_mul(slot_ns) {
        Some(end_ns) => end_ns,
        None => u64::MAX,
    }
}

/// Until when the link was idle before this packet, if it was.
pub(super) const fn gap_before(
    packet: &Packet,
    start_ns: u64,
    free_ns: u64,
    unlimited: bool,
) -> Option<u64> {
    if unlimited {
        Some(start_ns)
    } else if packet.arrival_ns > free_ns {
        Some(packet.arrival_ns)
    } else {
        None
    }
}

impl Server {
    pub(super) const fn serving(&self) -> Option<Serving> {
        self.serving
    }

    /// What the packet in service has to have been granted, if there is one.
    pub(super) fn wanted(&self) -> Option<Carried> {
        self.serving.map(|serving| serving.target)
    }

    pub(super) const fn free_ns(&self) -> u64 {
        self.free_ns
    }

    /// When `head`, which is next, begins its service; `u64::MAX` if never.
    pub(super) fn start_ns(&self, head: &Packet, supply: Supply<'_>) -> u64 {
        let Supply {
            schedule,
            service,
            grants,
        } = supply;
        if let Some(grants) = grants {
            let granted = grants.before(head, self.target);
            return grants
                .moment_of(granted.and_the_least())
                .unwrap_or(u64::MAX);
        }
        let ready_ns = head.arrival_ns.max(self.free_ns);
        let Service::Opportunities { slot_ns } = service else {
            return ready_ns;
        };
        if schedule.state_at(ready_ns).rate_bps == UNLIMITED_RATE_BPS {
            return ready_ns;
        }
        let sent = self.sent_before(head, ready_ns, supply);
        match schedule.moment_of(sent.and_the_least()) {
            Some(moment_ns) => slot_end(moment_ns, slot_ns).max(ready_ns),
            None => u64::MAX,
        }
    }

    /// What the link has to have carried before it can carry anything of this packet, which
    /// starts at `start_ns` or later.
    fn sent_before(&self, packet: &Packet, start_ns: u64, supply: Supply<'_>) -> Carried {
        let schedule = supply.schedule;
        if let Some(grants) = supply.grants {
            return grants.before(packet, self.target);
        }
        match supply.service {
            Service::Fluid if start_ns > self.free_ns => schedule.carried_by(start_ns),
            Service::Opportunities { slot_ns } if packet.arrival_ns >= self.free_ns => {
                let slot_start_ns = packet.arrival_ns - packet.arrival_ns % slot_ns;
                schedule.carried_by(slot_start_ns.max(self.free_ns))
            }
            Service::Fluid | Service::Opportunities { .. } => self.target,
        }
    }

    /// Begins to serve a packet at its start; returns the link's state then.
    pub(super) fn begin(
        &mut self,
        packet: &Packet,
        start_ns: u64,
        draw: u32,
        supply: Supply<'_>,
    ) -> LinkState {
        let Supply {
            schedule,
            service,
            grants,
        } = supply;
        let state = schedule.state_at(start_ns);
        let finish_ns = if state.rate_bps == UNLIMITED_RATE_BPS && grants.is_none() {
            self.target = schedule.carried_by(start_ns);
            start_ns
        } else {
            let sent = self.sent_before(packet, start_ns, supply);
            self.target = sent.and_bits(u64::from(packet.ip_bytes) * 8);
            end_ns(self.target, supply).max(start_ns)
        };
        self.free_ns = finish_ns;
        self.serving = Some(Serving {
            slot: packet.slot,
            ip_bytes: packet.ip_bytes,
            finish_ns,
            undisturbed_ns: finish_ns,
            due_ns: finish_ns,
            draw,
            start_ns,
            target: self.target,
            service,
        });
        state
    }

    pub(super) const fn set_due(&mut self, undisturbed_ns: u64, due_ns: u64) {
        if let Some(serving) = &mut self.serving {
            serving.undisturbed_ns = undisturbed_ns;
            serving.due_ns = due_ns;
        }
    }

    /// The packet in service is through.
    pub(super) const fn end(&mut self) {
        self.serving = None;
    }

    /// The rates after the present have changed, or a cell has granted more.
    pub(super) fn rescale(&mut self, supply: Supply<'_>) {
        if let Some(serving) = &mut self.serving {
            let service = serving.service;
            let finish_ns = end_ns(serving.target, Supply { service, ..supply });
            serving.finish_ns = finish_ns.max(serving.start_ns);
            self.free_ns = serving.finish_ns;
        }
    }
}

/// When the link has carried `target`, as the service counts it; `u64::MAX` if never.
fn end_ns(target: Carried, supply: Supply<'_>) -> u64 {
    if let Some(grants) = supply.grants {
        return grants.moment_of(target).unwrap_or(u64::MAX);
    }
    match (supply.schedule.moment_of(target), supply.service) {
        (None, _) => u64::MAX,
        (Some(moment_ns), Service::Fluid) => moment_ns,
        (Some(moment_ns), Service::Opportunities { slot_ns }) => slot_end(moment_ns, slot_ns),
    }
}
