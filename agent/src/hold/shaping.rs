//! From an order to the steps that shape the interface, at the start and at each row of the trace.

use std::net::IpAddr;

use hexloop_traces::{EndPolicy, LinkSettings, LinkState, Trace, TraceRow};
use serde::{Deserialize, Serialize};

use super::HoldError;
use crate::change::Step;
use crate::link::netlink::RouteSocket;
use crate::link::tc::interface::{
    FilterKind, InterfacePlan, Shape, Shaped, TcStep, TcUndo, Traffic, Transport, steps,
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
}

impl Shaping<'_> {
    /// The steps for a row of the trace.
    pub(super) fn steps(&self, row: &TraceRow) -> Result<Vec<TcStep>, HoldError> {
        let shape = |state: LinkState| {
            let is_shaped = state != LinkState::TRANSPARENT;
            is_shaped.then_some(Shape {
                state,
                settings: self.settings,
            })
        };
        let shaped = |traffic| Shaped {
            traffic,
            sent: shape(row.up),
            received: shape(row.down),
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
}

impl<'a> Follower<'a> {
    pub(super) const fn new(shaping: &'a Shaping<'a>, start_boot_ns: u64) -> Follower<'a> {
        Follower {
            shaping,
            start_boot_ns,
            next: 1,
        }
    }

    /// When the next row begins, or the trace ends; `None` when nothing changes any more.
    pub(super) fn next_boot_ns(&self) -> Option<u64> {
        let trace = self.shaping.trace;
        let rows = trace.rows();
        let metadata = trace.metadata();
        let (lap, row) = (self.next / rows.len(), self.next % rows.len());
        let is_constant = rows.len() == 1 && metadata.end != EndPolicy::Clear;
        if is_constant || (lap > 0 && metadata.end == EndPolicy::Hold) {
            return None;
        }
        let laps_ns = u64::try_from(lap).ok()?.checked_mul(metadata.duration_ns)?;
        let offset = laps_ns.checked_add(rows[row].t_ns)?;
        self.start_boot_ns.checked_add(offset)
    }

    /// Goes on to the next row. False when the trace is over and every limit is to be lifted.
    pub(super) fn go_on(&mut self, socket: &mut RouteSocket) -> Result<bool, HoldError> {
        let rows = self.shaping.trace.rows();
        let is_new_lap = self.next >= rows.len();
        if is_new_lap && self.shaping.trace.metadata().end == EndPolicy::Clear {
            return Ok(false);
        }
        for step in self.shaping.steps(&rows[self.next % rows.len()])? {
            step.change(socket)?;
        }
        self.next += 1;
        Ok(true)
    }
}
