//! One direction of a link: the gate before its bottleneck (see `gate`), the bottleneck (htb class and
//! queue) and the way behind it (netem).

use std::io;

use hexloop_traces::{
    Direction, LinkState, PlaybackChange, Schedule, SettingsChange, UNLIMITED_RATE_BPS,
};

use super::LinkError;
use super::codec::filter::{Classifier, ETH_P_ALL, Filter, Target, info};
use super::codec::htb::Htb;
use super::codec::queues::Plug;
use super::codec::statistics::Statistics;
use super::codec::{Class, Discipline, NEW_CLASS, NEW_FILTER, NEW_QDISC, Place, Qdisc, Verb};
use super::gate::Gate;
use super::handle::Handle;
use super::htb_class::{self, PreparedClass, UNLIMITED_BYTES_PER_S};
use super::lacking;
use super::leaf::{Leaf, Outages};
use super::path::{self, Path};
use super::steering::{Seen, Steering};
use crate::link::netlink::{Mode, RouteSocket};

const ROOT: Handle = Handle::new(1, 0);
const CLASS: Handle = Handle::new(1, 1);
/// A queue of another kind gets the other handle: one that exists cannot change its kind.
const LEAVES: [Handle; 2] = [Handle::new(2, 0), Handle::new(3, 0)];

/// The trace counts IP bytes: the Ethernet header comes off.
const ETHERNET_OVERHEAD: i32 = -14;

/// An interface by name and index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) index: i32,
}

/// What a queue held when it was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Queue {
    pub(super) backlog_bytes: u64,
    pub(super) drops: u64,
    /// Since the last look it was never empty, as far as can be told.
    pub(super) never_empty: bool,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Stage {
    link: String,
    pub(super) direction: Direction,
    /// Where chance meets packets as they come.
    gate: Gate,
    /// Where packets wait for their turn.
    bottleneck: Port,
    /// Where they leave for the receiver.
    exit: Port,
    /// As the plan asks, and as it is now.
    asked_leaf: Leaf,
    leaf: Leaf,
    /// Which of [`LEAVES`] it has, and the discipline that the kernel had for it.
    leaf_place: usize,
    leaf_kind: String,
    /// Packets that were lost with queues of another kind.
    lost_with_queues: u64,
    /// As the plan asks, and as it is now.
    asked_path: Path,
    path: Path,
    /// netem is there.
    has_path: bool,
    changes: u64,
    class: PreparedClass,
    steering: Steering,
    mtu: u32,
    holding: bool,
    seen: Option<Seen>,
    /// The state that is set now.
    state: LinkState,
}

/// What a stage is made of.
#[derive(Debug, Clone)]
pub(super) struct StagePlan {
    pub(super) link: String,
    pub(super) direction: Direction,
    /// Where packets come in, meet their fate, come out of that, wait, come out of waiting, and leave.
    pub(super) ports: [Port; 6],
    pub(super) leaf: Leaf,
    pub(super) path: Path,
    /// The trace cannot do without netem before the bottleneck.
    pub(super) needs_gate: bool,
    /// The trace cannot do without netem behind the bottleneck.
    pub(super) needs_path: bool,
    pub(super) mtu: u32,
}

/// What became of an action that the kernel did not do.
pub(super) fn failed(action: String) -> impl FnOnce(io::Error) -> LinkError {
    move |source| LinkError::Netlink { action, source }
}

/// Lets packets go from their senders' accounts as they leave the node (`skb_orphan_partial` in
/// `netem_enqueue`), as they would behind a real interface: otherwise a sender's stack keeps
/// its own share of the bottleneck's queue small (TSQ), also across namespaces. The interface
/// is in this thread's namespace.
pub(super) fn let_senders_go(socket: &mut RouteSocket, node: &Port) -> Result<(), LinkError> {
    let place = Place::new(node.index, ROOT, Handle::ROOT);
    let discipline = Discipline::Netem(path::pass_on());
    let message = Qdisc::new(place, discipline).message();
    socket.order(NEW_QDISC, Mode::Create, &message, || {
        format!("put netem on {}", node.name)
    })
}

/// Puts the hook for what comes in on an interface.
pub(super) fn put_ingress_hook(socket: &mut RouteSocket, on: &Port) -> Result<(), LinkError> {
    let place = Place::new(on.index, Handle::INGRESS_HANDLE, Handle::INGRESS);
    let ingress = Qdisc::new(place, Discipline::Ingress);
    socket.order(NEW_QDISC, Mode::Create, &ingress.message(), || {
        format!("put the ingress hook on {}", on.name)
    })
}

/// Takes the hook off again, and with it what hangs there.
pub(super) fn take_ingress_hook_off(socket: &mut RouteSocket, on: &Port) -> Result<(), LinkError> {
    let place = Place::new(on.index, Handle::INGRESS_HANDLE, Handle::INGRESS);
    let ingress = Qdisc::new(place, Discipline::Ingress);
    socket.order(
        Verb::Delete.of(NEW_QDISC),
        Mode::Plain,
        &ingress.message(),
        || format!("take the ingress hook off {}", on.name),
    )
}

/// Sends everything that comes in on one interface, which has the hook for it, out of another, unless
/// a filter with a lower priority takes it.
pub(super) fn redirect(
    socket: &mut RouteSocket,
    from: &Port,
    to: &Port,
    priority: u16,
) -> Result<(), LinkError> {
    let filter = Filter {
        place: Place {
            info: info(priority, ETH_P_ALL),
            ..Place::new(from.index, Handle::NONE, Handle::INGRESS_HANDLE)
        },
        classifier: Classifier::U32,
        packets: None,
        target: Target::Redirect(to.index.unsigned_abs()),
        bucket: None,
    };
    socket.order(NEW_FILTER, Mode::Create, &filter.message(), || {
        format!("send what comes in on {} out of {}", from.name, to.name)
    })
}

/// Sends everything that comes in on one interface out of another.
fn join(socket: &mut RouteSocket, from: &Port, to: &Port) -> Result<(), LinkError> {
    put_ingress_hook(socket, from)?;
    redirect(socket, from, to, 1)
}

impl Stage {
    /// Puts everything in place, transparent, on interfaces of the socket's namespace.
    pub(super) fn install(socket: &mut RouteSocket, plan: StagePlan) -> Result<Stage, LinkError> {
        let [entry, first, second, bottleneck, inner, exit] = plan.ports;
        let name = &bottleneck.name;
        let root = Qdisc {
            overhead: Some(ETHERNET_OVERHEAD),
            ..Qdisc::new(
                Place::new(bottleneck.index, ROOT, Handle::ROOT),
                Discipline::Htb(Htb {
                    default_class: 1,
                    rate_to_quantum: 10,
                    direct_queue: None,
                }),
            )
        };
        socket.order(NEW_QDISC, Mode::Create, &root.message(), || {
            format!("put htb on {name}")
        })?;
        let place = Place::new(bottleneck.index, CLASS, ROOT);
        let class = Class::new(
            place,
            htb_class::parameters(UNLIMITED_BYTES_PER_S, plan.mtu),
        );
        socket.order(NEW_CLASS, Mode::Create, &class.message(), || {
            format!("make the class of {name}")
        })?;
        let ports = [entry, first, second, bottleneck.clone()];
        let mut stage = Stage {
            link: plan.link,
            direction: plan.direction,
            gate: Gate::install(socket, ports, plan.needs_gate)?,
            asked_leaf: plan.leaf,
            leaf: plan.leaf,
            leaf_place: 0,
            leaf_kind: String::new(),
            lost_with_queues: 0,
            asked_path: plan.path,
            path: plan.path,
            has_path: plan.needs_path,
            changes: 0,
            class: PreparedClass::new(place, UNLIMITED_BYTES_PER_S, plan.mtu),
            steering: Steering::new(plan.mtu),
            mtu: plan.mtu,
            holding: false,
            seen: None,
            state: LinkState::TRANSPARENT,
            bottleneck,
            exit,
        };
        stage.make_leaf(socket, Mode::Create)?;
        if stage.has_path {
            stage.set_path(socket, &LinkState::TRANSPARENT, Mode::Create)?;
        }
        join(socket, &inner, &stage.exit)?;
        Ok(stage)
    }

    /// Makes the queue, of the best kind that the kernel has, in place of the one that is there.
    fn make_leaf(&mut self, socket: &mut RouteSocket, mode: Mode) -> Result<(), LinkError> {
        let mut result = Ok(());
        for discipline in self.leaf.disciplines(self.state.queue_bytes) {
            let kind = discipline.kind().to_owned();
            result = self.order_leaf(socket, discipline, mode);
            if result.is_ok() {
                self.leaf_kind = kind;
                break;
            }
        }
        result?;
        if self.can_hold() {
            self.plug(socket, Plug::Release)?;
        }
        Ok(())
    }

    /// Changes the limits of the queue in place.
    fn set_leaf(&mut self, socket: &mut RouteSocket, queue_bytes: u32) -> Result<(), LinkError> {
        let disciplines = self.leaf.disciplines(queue_bytes);
        let same = |discipline: &Discipline| discipline.kind() == self.leaf_kind;
        match disciplines.into_iter().find(same) {
            Some(discipline) => self.order_leaf(socket, discipline, Mode::Change),
            None => Ok(()),
        }
    }

    fn order_leaf(
        &self,
        socket: &mut RouteSocket,
        discipline: Discipline,
        mode: Mode,
    ) -> Result<(), LinkError> {
        let place = Place::new(self.bottleneck.index, LEAVES[self.leaf_place], CLASS);
        let kind = discipline.kind().to_owned();
        let qdisc = Qdisc::new(place, discipline);
        let message = match mode {
            Mode::Change => qdisc.change_message(),
            Mode::Create | Mode::Replace | Mode::Plain => qdisc.message(),
        };
        socket.order(NEW_QDISC, mode, &message, || {
            format!("set the {kind} queue of {}", self.bottleneck.name)
        })
    }

    /// Whether the queue can hold packets while the trace allows none.
    fn can_hold(&self) -> bool {
        self.leaf_kind == "plug"
    }

    fn plug(&self, socket: &mut RouteSocket, plug: Plug) -> Result<(), LinkError> {
        let place = Place::new(self.bottleneck.index, LEAVES[self.leaf_place], CLASS);
        let message = Qdisc::new(place, Discipline::Plug(plug)).message();
        socket.order(NEW_QDISC, Mode::Change, &message, || {
            format!("hold or release the queue of {}", self.bottleneck.name)
        })
    }

    fn set_path(
        &mut self,
        socket: &mut RouteSocket,
        state: &LinkState,
        mode: Mode,
    ) -> Result<(), LinkError> {
        let netem = path::netem(&path::delays(state), self.path, self.changes);
        self.changes += 1;
        let place = Place::new(self.exit.index, ROOT, Handle::ROOT);
        let message = Qdisc::new(place, Discipline::Netem(netem)).message();
        let set = socket.order(NEW_QDISC, mode, &message, || {
            format!("set the delay of {}", self.exit.name)
        });
        set.map_err(|error| match mode {
            Mode::Create => lacking::told(error, "netem"),
            // What is changed was there.
            _ => error,
        })
    }

    /// Begins anew: nothing is owed, and nothing was lost.
    pub(super) fn start(&mut self, socket: &mut RouteSocket, seed: u64) -> Result<(), LinkError> {
        self.open_account(socket)?;
        self.changes = 0;
        self.lost_with_queues = 0;
        let seed = seed ^ u64::from(self.direction == Direction::Up);
        self.path.seed = Some(seed);
        // What is drawn before the bottleneck says nothing about what is drawn behind it.
        self.gate.start(socket, !seed)
    }

    /// From here on, what leaves counts as sent since T0.
    pub(super) fn open_account(&mut self, socket: &mut RouteSocket) -> Result<(), LinkError> {
        let statistics = self.ask(socket)?;
        self.steering = Steering::new(self.mtu);
        self.seen = None;
        self.steering.open(statistics.bytes);
        Ok(())
    }

    fn ask(&mut self, socket: &mut RouteSocket) -> Result<Statistics, LinkError> {
        let asked = self.class.ask(socket);
        asked.map_err(failed(self.about("read the bytes of")))
    }

    /// Packets that were lost as the trace asks since the playback began.
    pub(super) fn lost(&mut self, socket: &mut RouteSocket) -> Result<u64, LinkError> {
        self.gate.lost(socket)
    }

    fn refused(&self, reason: &'static str) -> LinkError {
        LinkError::RefusedByTc {
            link: self.link.clone(),
            reason,
        }
    }

    /// Sees to it that a change can be made when its time has come.
    ///
    /// # Errors
    /// The kernel or the queue that is there cannot do what it asks for.
    pub(super) fn prepare_for(
        &mut self,
        socket: &mut RouteSocket,
        change: &PlaybackChange,
    ) -> Result<(), LinkError> {
        let PlaybackChange::Override(over) = change else {
            return Ok(());
        };
        if over.rate_bps == Some(0) && !self.can_hold() {
            return Err(self.refused(
                "an outage needs a drop-tail queue with a limit in bytes and a kernel with the plug                  discipline (CONFIG_NET_SCH_PLUG); choose those, or datapath relay",
            ));
        }
        let state = over.over(LinkState::TRANSPARENT);
        if !path::fates(&state).is_transparent() {
            self.gate.prepare(socket)?;
        }
        if path::delays(&state).is_transparent() {
            return Ok(());
        }
        self.path.limit = self.path.limit.max(path::packets_in_flight(&state));
        if !self.has_path {
            self.set_path(socket, &LinkState::TRANSPARENT, Mode::Create)?;
            self.has_path = true;
        }
        Ok(())
    }

    fn leaf_after(&self, change: &SettingsChange) -> Result<Leaf, LinkError> {
        let settings = change.over(self.leaf.settings());
        let outages = if self.holding {
            Outages::Certainly
        } else {
            self.asked_leaf.outages()
        };
        let leaf = Leaf::new(settings, self.mtu, outages);
        leaf.map_err(|reason| self.refused(reason))
    }

    /// Whether the settings can be changed so.
    ///
    /// # Errors
    /// The kernel has no discipline for them.
    pub(super) fn check(&self, change: &SettingsChange) -> Result<(), LinkError> {
        self.leaf_after(change).map(|_| ())
    }

    /// Changes settings. A queue that becomes one of another kind loses the packets in it; they
    /// are counted as dropped.
    pub(super) fn change_settings(
        &mut self,
        socket: &mut RouteSocket,
        change: &SettingsChange,
    ) -> Result<(), LinkError> {
        let leaf = self.leaf_after(change)?;
        if leaf.settings() != self.leaf.settings() {
            self.change_leaf(socket, leaf)?;
        }
        let reorder = leaf.settings().reorder;
        if reorder != self.path.reorder {
            self.path.reorder = reorder;
            if self.has_path {
                self.set_path(socket, &self.state.clone(), Mode::Change)?;
            }
        }
        Ok(())
    }

    fn change_leaf(&mut self, socket: &mut RouteSocket, leaf: Leaf) -> Result<(), LinkError> {
        let before = std::mem::replace(&mut self.leaf, leaf);
        let disciplines = self.leaf.disciplines(self.state.queue_bytes);
        let stays = |discipline: &Discipline| discipline.kind() == self.leaf_kind;
        if disciplines.iter().any(stays) {
            return self.set_leaf(socket, self.state.queue_bytes);
        }
        let waiting = self.class.ask(socket);
        let waiting = waiting.map_err(failed(self.about("read the queue of")))?;
        self.leaf_place = 1 - self.leaf_place;
        let kind = self.leaf_kind.clone();
        if let Err(error) = self.make_leaf(socket, Mode::Replace) {
            // The old one is still there.
            (self.leaf, self.leaf_kind) = (before, kind);
            self.leaf_place = 1 - self.leaf_place;
            return Err(error);
        }
        self.lost_with_queues += u64::from(waiting.queue.packets);
        Ok(())
    }

    /// Sets what a new row asks for beside its rate, and holds the queue if that is 0.
    pub(super) fn enter(
        &mut self,
        socket: &mut RouteSocket,
        state: &LinkState,
    ) -> Result<(), LinkError> {
        if state.rate_bps == 0 && !self.holding {
            self.plug(socket, Plug::Hold)?;
            self.holding = true;
        }
        self.gate.enter(socket, state)?;
        if self.has_path && path::delays(state) != path::delays(&self.state) {
            self.set_path(socket, state, Mode::Change)?;
        }
        if state.queue_bytes != self.state.queue_bytes {
            self.set_leaf(socket, state.queue_bytes)?;
        }
        self.state = *state;
        Ok(())
    }

    /// Looks at the class, at a moment since T0 that is read beside it.
    pub(super) fn look(
        &mut self,
        socket: &mut RouteSocket,
        schedule: &Schedule,
        at_ns: u64,
    ) -> Result<Queue, LinkError> {
        let statistics = self.ask(socket)?;
        let backlog_bytes = u64::from(statistics.queue.backlog_bytes);
        let seen = Seen {
            at_ns,
            bytes: statistics.bytes,
            backlog_bytes,
        };
        let before = self.seen.replace(seen);
        let never_empty = backlog_bytes > 0
            && before.is_some_and(|before| {
                before.backlog_bytes > 0
                    && before.backlog_bytes >= seen.bytes.saturating_sub(before.bytes)
            });
        if self.state.rate_bps != UNLIMITED_RATE_BPS {
            self.steering.look(schedule, seen);
        }
        Ok(Queue {
            backlog_bytes,
            drops: u64::from(statistics.queue.drops) + self.lost_with_queues,
            never_empty,
        })
    }

    /// Sets the rate so that the trace is met at `until_ns`.
    pub(super) fn steer(
        &mut self,
        socket: &mut RouteSocket,
        schedule: &Schedule,
        now_ns: u64,
        until_ns: u64,
    ) -> Result<(), LinkError> {
        let bytes_per_s = match self.state.rate_bps {
            0 => return Ok(()),
            UNLIMITED_RATE_BPS => UNLIMITED_BYTES_PER_S,
            row_bps => {
                let bps = self.steering.rate_bps(schedule, row_bps, now_ns, until_ns);
                (bps / 8).clamp(1, UNLIMITED_BYTES_PER_S)
            }
        };
        self.set_rate(socket, bytes_per_s)?;
        self.release(socket)
    }

    fn set_rate(&mut self, socket: &mut RouteSocket, bytes_per_s: u64) -> Result<(), LinkError> {
        if bytes_per_s == self.class.bytes_per_s() {
            return Ok(());
        }
        let set = self.class.set(socket, bytes_per_s);
        set.map_err(failed(self.about("set the rate of")))
    }

    fn release(&mut self, socket: &mut RouteSocket) -> Result<(), LinkError> {
        if self.holding {
            self.plug(socket, Plug::Release)?;
            self.holding = false;
        }
        Ok(())
    }

    /// When the queue would be empty if nothing came; `None` if it is.
    pub(super) fn empty_in_ns(&self) -> Option<u64> {
        let backlog_bytes = self.seen?.backlog_bytes;
        let drained_ns =
            u128::from(backlog_bytes) * 1_000_000_000 / u128::from(self.class.bytes_per_s().max(1));
        (backlog_bytes > 0).then(|| u64::try_from(drained_ns).unwrap_or(u64::MAX))
    }

    /// The largest distance from the trace while packets waited, in bytes.
    pub(super) fn largest_error_bytes(&self) -> u64 {
        self.steering.largest_error_bytes()
    }

    /// Lifts every limit, and undoes what was changed beside the trace.
    pub(super) fn clear(&mut self, socket: &mut RouteSocket) -> Result<(), LinkError> {
        self.set_rate(socket, UNLIMITED_BYTES_PER_S)?;
        self.release(socket)?;
        self.enter(socket, &LinkState::TRANSPARENT)?;
        if self.leaf.settings() != self.asked_leaf.settings() {
            self.change_leaf(socket, self.asked_leaf)?;
        }
        if self.path != self.asked_path {
            self.path = self.asked_path;
            if self.has_path {
                self.set_path(socket, &LinkState::TRANSPARENT, Mode::Change)?;
            }
        }
        Ok(())
    }

    fn about(&self, what: &str) -> String {
        format!("{what} {}", self.bottleneck.name)
    }
}
