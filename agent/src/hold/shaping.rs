//! From an order to the steps that shape the interface, at the start and at each row of the trace.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use hexloop_proto::LateHistogram;
use hexloop_traces::{
    CapacityCurve, Direction, EndPolicy, LinkSettings, LinkState, Schedule, Trace,
    UNLIMITED_RATE_BPS,
};
use hexloop_workloads::clock;
use serde::{Deserialize, Serialize};

use super::HoldError;
use crate::change::Step;
use crate::link::histogram::NanosecondHistogram;
use crate::link::netlink::RouteSocket;
use crate::link::tc::interface::{
    BelowNetem, IFB_KIND, InterfacePlan, Kernel, Outage, Shape, Shaped, SteeredClasses,
    SteeredDirection, TcStep, TcUndo, Traffic, Transport, is_needed, note, stand_in, steps,
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
    /// As [`crate::link::tc::interface::draw_ifb_address`] draws it.
    pub(super) ifb_address: [u8; 6],
    pub(super) mtu: u32,
    /// The longest packet that offloads join, in bytes.
    pub(super) longest_bytes: u32,
    pub(super) speed_bps: Option<u64>,
    pub(super) trace: &'a Trace,
    /// As [`curves`] makes them.
    pub(super) curves: [CapacityCurve; 2],
    pub(super) settings: LinkSettings,
    pub(super) peers: &'a [Peer],
    pub(super) kernel: Kernel,
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
        let of = |side: usize| {
            let rates = || trace.states().map(|(_, states)| states[side].rate_bps);
            let has_some = rates().any(|rate_bps| rate_bps == 0);
            has_some.then(|| rates().find(|bps| *bps > 0).unwrap_or(UNLIMITED_RATE_BPS))
        };
        Outages {
            down: of(0),
            up: of(1),
        }
    }
}

/// Both directions of a trace, prepared to be followed: of a long one that takes a pass over its rows
/// each, and so it is done before anything is made.
pub(super) fn curves(trace: &Trace) -> [CapacityCurve; 2] {
    Direction::BOTH.map(|direction| CapacityCurve::new(trace, direction))
}

/// What of a state decides which steps there are: whether there is a limit, an outage, a queue of the
/// row's own, and whether netem is needed.
fn kind(state: &LinkState) -> [bool; 5] {
    [
        *state == LinkState::TRANSPARENT,
        state.rate_bps == UNLIMITED_RATE_BPS,
        state.rate_bps == 0,
        state.queue_bytes == 0,
        is_needed(state),
    ]
}

/// Rows of which each stands for all others like it, in the order of their times: the first of every
/// kind and, since rates are refused for being too low or too high, those of the lowest and the highest.
fn representatives(trace: &Trace) -> BTreeMap<u64, [LinkState; 2]> {
    let mut kinds = BTreeMap::new();
    let (mut slowest, mut fastest) = ([None::<(u64, _)>; 2], [None::<(u64, _)>; 2]);
    for row in trace.states() {
        let (_, states) = row;
        kinds.entry(states.map(|state| kind(&state))).or_insert(row);
        for ((state, slowest), fastest) in states.iter().zip(&mut slowest).zip(&mut fastest) {
            let rate_bps = state.rate_bps;
            if rate_bps == 0 || rate_bps == UNLIMITED_RATE_BPS {
                continue;
            }
            if slowest.is_none_or(|(least_bps, _)| rate_bps < least_bps) {
                *slowest = Some((rate_bps, row));
            }
            if fastest.is_none_or(|(most_bps, _)| rate_bps > most_bps) {
                *fastest = Some((rate_bps, row));
            }
        }
    }
    let extremes = slowest.into_iter().chain(fastest).flatten();
    let extremes = extremes.map(|(_, row)| row);
    kinds.into_values().chain(extremes).collect()
}

impl Shaping<'_> {
    /// The steps for a row of the trace.
    pub(super) fn steps(&self, states: [LinkState; 2]) -> Result<Vec<TcStep>, HoldError> {
        self.steps_for(self.peers, states)
    }

    /// The steps of the first row for one peer of each family: there is nothing else in those for the
    /// others.
    pub(super) fn steps_to_rehearse(&self) -> Result<Vec<TcStep>, HoldError> {
        let first_of = |is_ipv6: bool| {
            let mut peers = self.peers.iter();
            peers.find(|peer| peer.address.is_ipv6() == is_ipv6)
        };
        let few: Vec<Peer> = [false, true]
            .into_iter()
            .filter_map(first_of)
            .copied()
            .collect();
        self.steps_for(&few, self.row(0))
    }

    fn steps_for(
        &self,
        peers: &[Peer],
        [down, up]: [LinkState; 2],
    ) -> Result<Vec<TcStep>, HoldError> {
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
            sent: shape(up, self.outages.up),
            received: shape(down, self.outages.down),
        };
        let shaped = if peers.is_empty() {
            vec![shaped(Traffic::Everything)]
        } else {
            let traffic = |peer: &Peer| Traffic::Peer {
                address: peer.address,
                prefix_bits: peer.prefix_bits,
                transport: peer.port.map(|(transport, _)| transport),
                port: peer.port.map(|(_, port)| port),
            };
            peers.iter().map(|peer| shaped(traffic(peer))).collect()
        };
        let plan = InterfacePlan {
            interface: self.interface.name.clone(),
            index: self.interface.index,
            ifb_address: self.ifb_address,
            mtu: self.mtu,
            longest_bytes: self.longest_bytes,
            speed_bps: self.speed_bps,
            shaped,
        };
        steps(&plan, &self.kernel).map_err(|error| HoldError::Senseless(error.to_string()))
    }

    /// Checks every row before anything is made: each must be a change of the first in place.
    pub(super) fn check(&self) -> Result<Vec<TcStep>, HoldError> {
        let first = self.steps(self.row(0))?;
        for (t_ns, states) in representatives(self.trace) {
            let same = self
                .steps(states)?
                .iter()
                .map(TcStep::describe)
                .eq(first.iter().map(TcStep::describe));
            if !same {
                return Err(HoldError::Senseless(format!(
                    "the trace has rows with and without a limit or a delay (at {} ms); on a real \
                     interface every row needs both or neither",
                    t_ns / 1_000_000
                )));
            }
        }
        Ok(first)
    }

    /// The states of a row, counted over all laps.
    fn row(&self, number: usize) -> [LinkState; 2] {
        let states = self.trace.states_of(number % self.trace.row_count());
        // A trace has at least one row.
        states.map_or([LinkState::TRANSPARENT; 2], |(_, states)| states)
    }

    /// Whether anything has to be done once it is applied.
    pub(super) fn changes(&self) -> bool {
        self.trace.row_count() > 1 || self.trace.metadata().end == EndPolicy::Clear
    }

    /// Whether packets that are longer than it was made for would find a queue that refuses them while it
    /// is empty: queues below netem must not (see `queue` of [`crate::link::tc::interface`]).
    pub(super) fn fears_longer_packets(&self) -> bool {
        // Either every row of a trace needs netem or none does.
        let has_netem = self.row(0).iter().any(is_needed);
        has_netem && self.kernel.below_netem == BelowNetem::Counted
    }

    /// What is to be told of it beside what was asked for, if anything.
    pub(super) fn notes(&self) -> impl Iterator<Item = String> {
        let states = self.trace.states().flat_map(|(_, states)| states);
        let sizes = (self.mtu, self.longest_bytes);
        let queues = note(&self.kernel, states, &self.settings, sizes);
        let instead = stand_in(&self.kernel, &self.settings, self.mtu);
        instead.into_iter().chain(queues)
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
            TcUndo::RemoveLink { name, address } => Undo::RemoveLink {
                namespace: interface.namespace,
                name: name.clone(),
                kind: IFB_KIND.to_owned(),
                address: Some(*address),
            },
        });
        Step {
            what: step.describe().to_owned(),
            undo,
            apply: Box::new(move |socket| step.apply(socket)),
        }
    }
}

/// How long following takes each time.
#[derive(Debug, Clone, Copy, Default)]
struct Effort {
    last_ns: u64,
    /// The shorter of the last two: once it may have been held up.
    usual_ns: u64,
}

impl Effort {
    /// Takes in how long it took this time.
    fn note(&mut self, took_ns: u64) {
        self.usual_ns = took_ns.min(self.last_ns);
        self.last_ns = took_ns;
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
    effort: Effort,
    /// Nothing is done before. Where many peers follow short rows, each time takes longer than a row:
    /// then rows are left out, and half of the time is left to others.
    rested_ns: u64,
    /// How long after its moment each row was in force that was entered.
    lateness: NanosecondHistogram,
    rows_left_out: u64,
}

/// How well a trace was followed so far.
#[derive(Debug, Clone)]
pub(crate) struct FollowedSoFar {
    pub(crate) lateness: LateHistogram,
    pub(crate) rows_left_out: u64,
    pub(crate) directions: Vec<SteeredDirection>,
}

impl<'a> Follower<'a> {
    pub(super) fn new(shaping: &'a Shaping<'a>, start_boot_ns: u64) -> Follower<'a> {
        let rates = |states: [LinkState; 2]| states.map(|state| state.rate_bps);
        let first = rates(shaping.row(0));
        let mut states = shaping.trace.states();
        Follower {
            shaping,
            start_boot_ns,
            next: 1,
            schedules: shaping.curves.clone().map(Schedule::from),
            changes_rates: states.any(|(_, states)| rates(states) != first),
            steered: None,
            steers_all: false,
            next_look_ns: 0,
            effort: Effort::default(),
            rested_ns: 0,
            lateness: NanosecondHistogram::new(),
            rows_left_out: 0,
        }
    }

    /// How well the trace was followed so far.
    pub(super) fn so_far(&self) -> FollowedSoFar {
        FollowedSoFar {
            lateness: self.lateness.summary(),
            rows_left_out: self.rows_left_out,
            directions: self
                .steered
                .as_ref()
                .map_or_else(Vec::new, SteeredClasses::account),
        }
    }

    /// The time since the start of the trace.
    fn now_ns(&self) -> u64 {
        clock::since_boot_ns().saturating_sub(self.start_boot_ns)
    }

    /// When the next row begins, or the trace ends, from its start; `None` when nothing changes
    /// any more.
    fn next_row_ns(&self) -> Option<u64> {
        let trace = self.shaping.trace;
        let rows = trace.row_count();
        let metadata = trace.metadata();
        let (lap, row) = (self.next / rows, self.next % rows);
        let is_constant = rows == 1 && metadata.end != EndPolicy::Clear;
        if is_constant || (lap > 0 && metadata.end == EndPolicy::Hold) {
            return None;
        }
        let laps_ns = u64::try_from(lap).ok()?.checked_mul(metadata.duration_ns)?;
        laps_ns.checked_add(trace.states_of(row)?.0)
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
        self.start_boot_ns.checked_add(next_ns.max(self.rested_ns))
    }

    /// Goes on to the row that it is time for, and keeps to it. False when the trace is over and
    /// every limit is to be lifted.
    pub(super) fn go_on(&mut self, socket: &mut RouteSocket) -> Result<bool, HoldError> {
        let began_ns = self.now_ns();
        let due_ns = self.next_row_ns().filter(|due_ns| *due_ns <= began_ns);
        if !self.enter_rows_by(socket, began_ns)? {
            return Ok(false);
        }
        let usual_ns = self.effort.usual_ns;
        self.steer(socket, began_ns.saturating_add(2 * usual_ns))?;
        let ended_ns = self.now_ns();
        if let Some(due_ns) = due_ns {
            // Of several that were due, the one that waited longest tells.
            self.lateness.record(ended_ns.saturating_sub(due_ns));
        }
        self.effort.note(ended_ns.saturating_sub(began_ns));
        self.rested_ns = ended_ns.saturating_add(self.effort.usual_ns);
        Ok(true)
    }

    /// Goes on to the row of a moment. False when the trace is over and every limit is to be lifted.
    fn enter_rows_by(&mut self, socket: &mut RouteSocket, now_ns: u64) -> Result<bool, HoldError> {
        let rows = self.shaping.trace.row_count();
        let is_clear = self.shaping.trace.metadata().end == EndPolicy::Clear;
        let before = self.next;
        while self.next_row_ns().is_some_and(|row_ns| row_ns <= now_ns) {
            if self.next >= rows && is_clear {
                return Ok(false);
            }
            self.next += 1;
        }
        if self.next > before {
            let left_out = u64::try_from(self.next - before - 1).unwrap_or(u64::MAX);
            self.rows_left_out = self.rows_left_out.saturating_add(left_out);
            let row = |next: usize| self.shaping.row(next - 1);
            let (left, entered) = (row(before), row(self.next));
            self.enter(socket, left, entered)?;
        }
        Ok(true)
    }

    /// Steers the classes, which are looked at again no sooner than `rested_ns`.
    fn steer(&mut self, socket: &mut RouteSocket, rested_ns: u64) -> Result<(), HoldError> {
        let Some(change_ns) = self.next_row_ns().filter(|_| self.steers()) else {
            return Ok(());
        };
        self.find_classes(socket)?;
        let now_ns = self.now_ns();
        if let Some(steered) = &mut self.steered {
            let moments = (change_ns, rested_ns);
            self.next_look_ns = steered.steer(socket, &self.schedules, now_ns, moments)?;
        }
        Ok(())
    }

    /// Sets what a row asks for; rates that are steered are not set here while the trace goes on.
    fn enter(
        &mut self,
        socket: &mut RouteSocket,
        left: [LinkState; 2],
        row: [LinkState; 2],
    ) -> Result<(), HoldError> {
        let but_rates = |row: [LinkState; 2]| {
            row.map(|state| LinkState {
                rate_bps: 0,
                ..state
            })
        };
        let stands = |row: [LinkState; 2]| row.map(|state| state.rate_bps == 0);
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
        let steps = self.shaping.steps(self.shaping.row(0))?;
        let (index, mtu) = (self.shaping.interface.index, self.shaping.mtu);
        let steered = SteeredClasses::of(socket, &steps, index, mtu)?;
        let mut classes = steps.iter().filter(|step| step.is_class());
        self.steers_all = classes.all(|step| steered.have(step));
        self.steered = Some(steered);
        Ok(())
    }
}
