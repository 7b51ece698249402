//! From an order to the steps that shape the interface, at the start and at each row of the trace.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use hexloop_traces::{
    CapacityCurve, Direction, EndPolicy, LinkSettings, LinkState, Schedule, Trace, TraceRow,
    UNLIMITED_RATE_BPS,
};
use hexloop_workloads::clock;
use serde::{Deserialize, Serialize};

use super::HoldError;
use crate::change::Step;
use crate::link::netlink::RouteSocket;
use crate::link::tc::interface::{
    FilterKind, InterfacePlan, Outage, Shape, Shaped, SteeredClasses, TcStep, TcUndo, Traffic,
    Transport, steps,
};
use crate::undo::{IngressKind, InterfaceIdentity, Undo};

/// Whose packets are shaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Address, or one of the network.
    pub address: IpAddr,
    /// How many bits of it count.
    pub prefix_bits: u8,
    /// Only this protocol and port of it.
    pub port: Option<(Transport, u16)>,
}

/// What is to be done to an interface, over time.
#[derive(Debug)]
pub(super) struct Shaping<'a> {
    pub(super) interface: &'a InterfaceIdentity,
    pub(super) mtu: u32,
    pub(super) speed_bps: Option<u64>,
    pub(super) trace: &'a Trace,
    pub(super) settings: LinkSettings,
    pub(super) peers: &'a [Peer],
    pub(super) filters: FilterKind,
    pub(super) outages: Outages,
}

/// The rate of the classes of each direction in outages; `None` for one without.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outages {
    down: Option<u64>,
    up: Option<u64>,
}

impl Outages {
    pub(super) fn of(trace: &Trace) -> Outages {
        let of = |state: fn(&TraceRow) -> &LinkState| {
            let rates = || trace.rows().iter().map(|row| state(row).rate_bps);
            let rate_bps = rates().find(|rate_bps| *rate_bps > 0);
            let has_some = rates().any(|rate_bps| rate_bps == 0);
            has_some.then(|| rate_bps.unwrap_or(UNLIMITED_RATE_BPS))
        };
        Outages {
            down: of(|row| &row.down),
            up: of(|row| &row.up),
        }
    }
}

impl Shaping<'_> {
    /// The steps for a row of the trace.
    pub(super) fn steps(&self, row: &TraceRow) -> Result<Vec<TcStep>, HoldError> {
        let shape = |state: LinkState, in_outages_bps: Option<u64>| {
            let outage = match in_outages_bps {
                None => Outage::Never,
                Some(_) if state.rate_bps == 0 => Outage::Now,
                Some(_) => Outage::NotNow,
            };
            let rate_bps = match (outage, in_outages_bps) {
                (Outage::Now, Some(rate_bps)) => rate_bps,
                _ => state.rate_bps,
            };
            let is_shaped = state != LinkState::TRANSPARENT || outage != Outage::Never;
            is_shaped.then_some(Shape {
                state: LinkState { rate_bps, ..state },
                settings: self.settings,
                outage,
            })
        };
        let shaped = |traffic| Shaped {
            traffic,
            sent: shape(row.up, self.outages.up),
            received: shape(row.down, self.outages.down),
        };
        let shaped = if self.peers.is_empty() {
            vec![shaped(Traffic::Everything)]
        } else {
            let traffic = |peer: &Peer| Traffic::Peer {
                address: peer.address,
                prefix_bits: peer.prefix_bits,
                transport: peer.port.map(|(transport, _)| transport),
                port: peer.port.map(|(_, port)| port),
            };
            self.peers
                .iter()
                .map(|peer| shaped(traffic(peer)))
                .collect()
        };
        let plan = InterfacePlan {
            interface: self.interface.name.clone(),
            index: self.interface.index,
            mtu: self.mtu,
            speed_bps: self.speed_bps,
            shaped,
        };
        steps(&plan, self.filters).map_err(|error| HoldError::Senseless(error.to_string()))
    }

    /// Checks every row before anything is made: each must be a change of the first in place.
    pub(super) fn check(&self) -> Result<Vec<TcStep>, HoldError> {
        let rows = self.trace.rows();
        let first = self.steps(&rows[0])?;
        for row in &rows[1..] {
            let same = self
                .steps(row)?
                .iter()
                .map(TcStep::describe)
                .eq(first.iter().map(TcStep::describe));
            if !same {
                return Err(HoldError::Senseless(format!(
                    "the trace has rows with and without a limit or a delay (at {} ms); on a real \
                     interface every row needs both or neither",
                    row.t_ns / 1_000_000
                )));
            }
        }
        Ok(first)
    }

    /// A step with its guard.
    pub(super) fn guarded(&self, step: &TcStep) -> Step {
        let (interface, step) = (self.interface.clone(), step.clone());
        let undo = step.undo().map(|undo| match undo {
            TcUndo::RemoveRoot { .. } => Undo::RemoveRootQdisc { interface },
            TcUndo::RemoveIngress { .. } => Undo::RemoveIngress {
                interface,
                kind: IngressKind::Ingress,
            },
            TcUndo::RemoveLink { name } => Undo::RemoveLink {
                namespace: interface.namespace,
                name: name.clone(),
                kind: "ifb".to_owned(),
            },
        });
        Step {
            what: step.describe().to_owned(),
            undo,
            apply: Box::new(move |socket| step.apply(socket)),
        }
    }
}

/// Follows a trace from the moment it was confirmed on.
#[derive(Debug)]
pub(super) struct Follower<'a> {
    shaping: &'a Shaping<'a>,
    start_boot_ns: u64,
    /// The next row, counted over all laps.
    next: usize,
    schedules: [Schedule; 2],
    /// Rates change, so that bytes have to be steered.
    changes_rates: bool,
    /// `None` until they were looked for.
    steered: Option<SteeredClasses>,
    /// All are steered.
    steers_all: bool,
    /// When they are looked at next.
    next_look_ns: u64,
}

impl<'a> Follower<'a> {
    pub(super) fn new(shaping: &'a Shaping<'a>, start_boot_ns: u64) -> Follower<'a> {
        let rows = shaping.trace.rows();
        let rates = |row: &TraceRow| (row.down.rate_bps, row.up.rate_bps);
        Follower {
            shaping,
            start_boot_ns,
            next: 1,
            schedules: Direction::BOTH
                .map(|direction| CapacityCurve::new(shaping.trace, direction).into()),
            changes_rates: rows.iter().any(|row| rates(row) != rates(&rows[0])),
            steered: None,
            steers_all: false,
            next_look_ns: 0,
        }
    }

    /// When the next row begins, or the trace ends, from its start; `None` when nothing changes
    /// any more.
    fn next_row_ns(&self) -> Option<u64> {
        let trace = self.shaping.trace;
        let rows = trace.rows();
        let metadata = trace.metadata();
        let (lap, row) = (self.next / rows.len(), self.next % rows.len());
        let is_constant = rows.len() == 1 && metadata.end != EndPolicy::Clear;
        if is_constant || (lap > 0 && metadata.end == EndPolicy::Hold) {
            return None;
        }
        let laps_ns = u64::try_from(lap).ok()?.checked_mul(metadata.duration_ns)?;
        laps_ns.checked_add(rows[row].t_ns)
    }

    fn steers(&self) -> bool {
        let has_some = self
            .steered
            .as_ref()
            .is_none_or(|steered| !steered.is_empty());
        self.changes_rates && has_some
    }

    /// When something is to be done; `None` when nothing changes any more.
    pub(super) fn next_boot_ns(&self) -> Option<u64> {
        let row_ns = self.next_row_ns()?;
        let next_ns = if self.steers() {
            row_ns.min(self.next_look_ns)
        } else {
            row_ns
        };
        self.start_boot_ns.checked_add(next_ns)
    }

    /// Goes on to the row that it is time for, and keeps to it. False when the trace is over and
    /// every limit is to be lifted.
    pub(super) fn go_on(&mut self, socket: &mut RouteSocket) -> Result<bool, HoldError> {
        let now_ns = clock::since_boot_ns().saturating_sub(self.start_boot_ns);
        let rows = self.shaping.trace.rows();
        let is_clear = self.shaping.trace.metadata().end == EndPolicy::Clear;
        let before = self.next;
        while self.next_row_ns().is_some_and(|row_ns| row_ns <= now_ns) {
            if self.next >= rows.len() && is_clear {
                return Ok(false);
            }
            self.next += 1;
        }
        if self.next > before {
            let row = |number: usize| &rows[(number - 1) % rows.len()];
            self.enter(socket, row(before), row(self.next))?;
        }
        if self.steers()
            && let Some(change_ns) = self.next_row_ns()
        {
            self.find_classes(socket)?;
            if let Some(steered) = &mut self.steered {
                let now_ns = clock::since_boot_ns().saturating_sub(self.start_boot_ns);
                let schedules = &self.schedules;
                self.next_look_ns = steered.steer(socket, schedules, now_ns, change_ns)?;
            }
        }
        Ok(true)
    }

    /// Sets what a row asks for; rates that are steered are not set here while the trace goes on.
    fn enter(
        &mut self,
        socket: &mut RouteSocket,
        left: &TraceRow,
        row: &TraceRow,
    ) -> Result<(), HoldError> {
        let but_rates = |row: &TraceRow| {
            [row.down, row.up].map(|state| LinkState {
                rate_bps: 0,
                ..state
            })
        };
        let stands = |row: &TraceRow| [row.down, row.up].map(|state| state.rate_bps == 0);
        let goes_on = self.next_row_ns().is_some();
        let is_alike = but_rates(left) == but_rates(row) && stands(left) == stands(row);
        if goes_on && is_alike && self.steers_all {
            return Ok(());
        }
        for step in self.shaping.steps(row)? {
            let is_steered = self
                .steered
                .as_ref()
                .is_some_and(|steered| steered.have(&step));
            if !(is_steered && goes_on) {
                step.change(socket)?;
            }
        }
        Ok(())
    }

    /// Finds the classes that can be steered.
    fn find_classes(&mut self, socket: &mut RouteSocket) -> Result<(), HoldError> {
        if self.steered.is_some() {
            return Ok(());
        }
        let steps = self.shaping.steps(&self.shaping.trace.rows()[0])?;
        let (index, mtu) = (self.shaping.interface.index, self.shaping.mtu);
        let steered = SteeredClasses::of(socket, &steps, index, mtu)?;
        let mut classes = steps.iter().filter(|step| step.is_class());
        self.steers_all = classes.all(|step| steered.have(step));
        self.steered = Some(steered);
        Ok(())
    }
}
