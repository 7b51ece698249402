//! The kernel's queueing disciplines as a datapath: htb for the rate and, where the kernel has
//! it, netem for delay and loss, on the nodes' own interfaces.
//!
//! A thread changes them in place at the trace's moments, over one netlink socket per
//! interface; its lateness is that of the changes. What the kernel does by itself between two
//! changes is only as exact as htb is: after a change it works off its debt at the old rate.
//! The verdict judges what comes of it.
//!
//! Traces with outages are refused: htb knows no rate of zero. At a tiny rate it lets a packet
//! through, and the debt of that packet, kept in time, outlasts the outage.
//!
//! Whether a queue was never empty is seen from outside: its backlog at the edges of each
//! window has to be more than what netem's delay alone holds.

mod messages;
mod player;

use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use hexloop_topologies::plan::LinkPlan;
use hexloop_traces::{Direction, LinkState, Trace};
use netlink_packet_route::RouteNetlinkMessage;

use super::netlink::{Mode, RouteSocket};
use super::relay::{Play, Played};
use super::scheduling::{self, Scheduling};
use super::{LinkError, interfaces};
use crate::namespace::NetworkNamespace;
use messages::{Leaf, Limits};
use player::{Command, Worker};

/// Plays a trace by changing queueing disciplines in place. Dropping it ends its thread.
#[derive(Debug)]
pub(crate) struct TcPlayer {
    link: String,
    scheduling: Scheduling,
    commands: Sender<Command>,
    thread: Option<JoinHandle<()>>,
}

/// The queueing disciplines of one sending interface.
#[derive(Debug)]
struct Shaped {
    direction: Direction,
    interface: String,
    socket: RouteSocket,
    index: i32,
    leaf: Leaf,
    limits: Limits,
    mtu: u32,
    /// The state that is set now.
    state: LinkState,
}

impl Shaped {
    /// Puts the queueing disciplines on an interface of this thread's namespace, transparent.
    fn install(
        direction: Direction,
        interface: &str,
        leaf: Leaf,
        limits: Limits,
        mtu: u32,
    ) -> Result<Shaped, LinkError> {
        let index = i32::try_from(interfaces::index_of(interface)?).unwrap_or(i32::MAX);
        let mut shaped = Shaped {
            direction,
            interface: interface.to_owned(),
            socket: interfaces::open_socket()?,
            index,
            leaf,
            limits,
            mtu,
            state: LinkState::TRANSPARENT,
        };
        let root = RouteNetlinkMessage::NewQueueDiscipline(messages::htb_root(index));
        shaped
            .socket
            .request(root, Mode::Create, || format!("put htb on {interface}"))?;
        shaped.set_rate(&LinkState::TRANSPARENT, Mode::Create)?;
        shaped.set_leaf(&LinkState::TRANSPARENT, Mode::Create)?;
        Ok(shaped)
    }

    fn set_rate(&mut self, state: &LinkState, mode: Mode) -> Result<(), LinkError> {
        let bytes_per_s = messages::bytes_per_second(state);
        let class = messages::htb_class(self.index, bytes_per_s, self.mtu);
        let interface = &self.interface;
        self.socket
            .request(RouteNetlinkMessage::NewTrafficClass(class), mode, || {
                format!("set the rate of {interface} to {bytes_per_s} bytes per second")
            })
    }

    fn set_leaf(&mut self, state: &LinkState, mode: Mode) -> Result<(), LinkError> {
        let leaf = messages::leaf(self.index, self.leaf, state, self.limits);
        let (interface, kind) = (&self.interface, self.leaf);
        self.socket
            .request(RouteNetlinkMessage::NewQueueDiscipline(leaf), mode, || {
                format!("set the {kind:?} queue of {interface}").to_lowercase()
            })
    }

    /// Changes what differs from the state that is set.
    fn change(&mut self, state: &LinkState) -> Result<(), LinkError> {
        if state.rate_bps != self.state.rate_bps {
            self.set_rate(state, Mode::Change)?;
        }
        let path = |state: &LinkState| {
            (
                state.delay_ns,
                state.jitter_ns,
                state.loss_ppb,
                state.loss_burst_milli,
            )
        };
        if self.leaf == Leaf::Netem && path(state) != path(&self.state) {
            self.set_leaf(state, Mode::Change)?;
        }
        self.state = *state;
        Ok(())
    }
}

/// Whether a trace needs more than a rate.
fn needs_netem(trace: &Trace) -> bool {
    let mut states = trace.rows().iter().flat_map(|row| [row.down, row.up]);
    states.any(|state| state.delay_ns > 0 || state.jitter_ns > 0 || state.loss_ppb > 0)
}

/// What the trace may have in flight and in the queue, in packets of full size.
fn limits(plan: &LinkPlan, held_bytes: u64) -> Limits {
    let packets = held_bytes / u64::from(plan.mtu.max(1)) + 16;
    Limits {
        queue_bytes: u32::try_from(plan.settings.most_queue_bytes(plan.mtu)).unwrap_or(u32::MAX),
        packets: u32::try_from(packets).unwrap_or(u32::MAX),
    }
}

impl TcPlayer {
    /// Puts the queueing disciplines on both ends of a link that is there, and starts the
    /// thread.
    pub(crate) fn spawn(
        plan: &LinkPlan,
        ends: [&NetworkNamespace; 2],
        played: &Trace,
        held_bytes: u64,
        cpu: Option<u32>,
    ) -> Result<TcPlayer, LinkError> {
        let leaf = if needs_netem(played) {
            Leaf::Netem
        } else {
            Leaf::Bfifo
        };
        let limits = limits(plan, held_bytes);
        let [down, up] = Direction::BOTH.map(|direction| {
            let sender = plan.sender(direction);
            let namespace = ends[usize::from(direction == Direction::Down)];
            interfaces::inside(plan, namespace, || {
                Shaped::install(direction, &sender.interface, leaf, limits, plan.mtu)
            })
        });
        let shaped = [down?, up?];
        let name = format!("hx-tc-{}", plan.index);
        let (commands, inbox) = channel();
        let (report, reported) = sync_channel(1);
        let trace = played.clone();
        let work = move || {
            let scheduling = scheduling::make_real_time(cpu);
            if report.send(scheduling).is_ok() {
                Worker::new(shaped, trace, inbox).run();
            }
        };
        let thread = thread::Builder::new().name(name.clone());
        let thread = thread
            .spawn(work)
            .map_err(|source| LinkError::Thread { name, source })?;
        let gone = |_| LinkError::ThreadGone {
            link: plan.name.clone(),
            name: "tc",
        };
        let scheduling = reported.recv().map_err(gone)?;
        Ok(TcPlayer {
            link: plan.name.clone(),
            scheduling,
            commands,
            thread: Some(thread),
        })
    }

    fn command(&self, command: Command) -> Result<(), LinkError> {
        let gone = |_| LinkError::ThreadGone {
            link: self.link.clone(),
            name: "tc",
        };
        self.commands.send(command).map_err(gone)?;
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
        Ok(())
    }

    /// Plays from T0 on.
    pub(crate) fn play(&self, play: Play) -> Result<(), LinkError> {
        self.command(Command::Play(Box::new(play)))
    }

    /// Ends the playback and lifts every limit.
    pub(crate) fn stop(&self) -> Result<Played, LinkError> {
        let (reply, answer): (SyncSender<Result<Played, LinkError>>, _) = sync_channel(1);
        self.command(Command::Stop(reply))?;
        let gone = |_| LinkError::ThreadGone {
            link: self.link.clone(),
            name: "tc",
        };
        answer.recv().map_err(gone)?
    }

    /// What its thread got.
    pub(crate) const fn scheduling(&self) -> &Scheduling {
        &self.scheduling
    }
}

impl Drop for TcPlayer {
    fn drop(&mut self) {
        let _ = self.command(Command::Quit);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whether this kernel has htb, and netem if `with_netem`: tried on a throw-away interface.
fn try_out(plan: &LinkPlan, with_netem: bool) -> Result<(), LinkError> {
    let cannot = |source| LinkError::Namespace {
        link: plan.name.clone(),
        source,
    };
    let namespace = NetworkNamespace::create().map_err(cannot)?;
    let leaf = if with_netem { Leaf::Netem } else { Leaf::Bfifo };
    let limits = Limits {
        queue_bytes: 1500,
        packets: 16,
    };
    interfaces::inside(plan, &namespace, || {
        Shaped::install(Direction::Up, "lo", leaf, limits, 1500).map(|_| ())
    })
}

/// The same for what a trace needs.
pub(crate) fn try_out_for(plan: &LinkPlan, played: &Trace) -> Result<(), LinkError> {
    if played
        .rows()
        .iter()
        .any(|row| row.down.rate_bps == 0 || row.up.rate_bps == 0)
    {
        let (link, trace) = (plan.name.clone(), plan.trace.clone());
        return Err(LinkError::OutageOnTc { link, trace });
    }
    try_out(plan, needs_netem(played))
}
