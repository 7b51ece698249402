//! The kernel's queueing disciplines as a datapath.
//!
//! ```text
//! node A [hxNa]====[hxrNa]->[hxgNa]====[hxgNb]->[hxtNa]====[hxtNb]->[hxrNb]====[hxNb] node B
//!                    mirred   netem      mirred   htb        mirred   netem
//! ```
//!
//! Between two nodes lies a network namespace. What comes in is sent (mirred) through a veth
//! pair whose sending end loses, duplicates and corrupts, where that is asked for (see `gate`),
//! through one whose sending end holds the bottleneck, an htb class and its queue, and then out to
//! the receiver through netem, which adds delay and jitter. The other direction goes the same way
//! back. Chance before the bottleneck, as on the other datapaths; bottleneck before delay, as on a
//! real path, so that a queue's limit is the queue's alone. Losses are counted, duplicates and
//! corruptions not: netem keeps no books of those.
//!
//! One thread sets rates, limits and delays in place at the trace's moments, over one netlink
//! socket, and steers the bytes of each class back to the trace (see `steering`). Outages are
//! held by a plug below the class, which keeps what waits and lets it go at once.
//!
//! [`interface`] shapes interfaces that exist already.

mod codec;
mod cost;
mod gate;
mod handle;
mod htb_class;
pub mod interface;
pub(crate) mod lacking;
mod leaf;
mod pass;
mod path;
mod player;
mod playing;
mod question;
mod remote;
mod stage;
mod steering;
mod wire;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use hexloop_topologies::plan::LinkPlan;
use hexloop_traces::{Direction, Trace};

use super::netlink::RouteSocket;
use super::relay::{Play, Played};
use super::scheduling::{self, Scheduling};
use super::{LinkError, interfaces};
use crate::namespace::NetworkNamespace;
pub use cost::{BATCH, ChangeCost, measure_change_cost};
use leaf::{Leaf, Outages};
pub(crate) use pass::pass_on;
use path::Path;
use player::{Command, TcPlayed, Worker};
pub(crate) use remote::TcRemote;
use stage::{Port, Stage, StagePlan};

/// Plays a trace by changing queueing disciplines in place. Dropping it ends its thread.
#[derive(Debug)]
pub(crate) struct TcPlayer {
    link: String,
    scheduling: Scheduling,
    note: Option<&'static str>,
    largest_error_bytes: [AtomicU64; 2],
    commands: Sender<Command>,
    thread: Option<JoinHandle<()>>,
    /// Goes away, with the interfaces in it, when this handle does.
    _between: NetworkNamespace,
}

/// What a trace needs of the kernel.
#[derive(Debug, Clone, Copy)]
struct Needs {
    leaf: Leaf,
    path: Path,
    needs_gate: bool,
    needs_path: bool,
}

impl Needs {
    fn new(plan: &LinkPlan, trace: &Trace, held_bytes: u64) -> Result<Needs, LinkError> {
        let mut states = trace.states().flat_map(|(_, states)| states);
        let outages = if states.clone().any(|state| state.rate_bps == 0) {
            Outages::Certainly
        } else {
            Outages::Perhaps
        };
        let leaf = Leaf::new(plan.settings, plan.mtu, outages);
        let leaf = leaf.map_err(|reason| LinkError::RefusedByTc {
            link: plan.name.clone(),
            reason,
        })?;
        Ok(Needs {
            leaf,
            path: Path {
                limit: path::packets_of(held_bytes),
                reorder: plan.settings.reorder,
                seed: None,
            },
            needs_gate: states
                .clone()
                .any(|state| !path::fates(&state).is_transparent()),
            needs_path: states.any(|state| !path::delays(&state).is_transparent()),
        })
    }
}

fn port(name: &str) -> Result<Port, LinkError> {
    Ok(Port {
        index: i32::try_from(interfaces::index_of(name)?).unwrap_or(i32::MAX),
        name: name.to_owned(),
    })
}

/// The stages of both directions, in the order of [`Direction::BOTH`], on the interfaces of
/// this thread's namespace.
fn install(
    plan: &LinkPlan,
    socket: &mut RouteSocket,
    needs: Needs,
) -> Result<[Stage; 2], LinkError> {
    interfaces::build_inner_pairs(plan.index, plan.mtu)?;
    let [outer_a, outer_b] = interfaces::relay_ports(u32::from(plan.index));
    let [gate_a, gate_b] = interfaces::gate_ports(plan.index);
    let [inner_a, inner_b] = interfaces::inner_ports(plan.index);
    let [outer_a, outer_b] = [port(&outer_a)?, port(&outer_b)?];
    let [gate_a, gate_b] = [port(&gate_a)?, port(&gate_b)?];
    let [inner_a, inner_b] = [port(&inner_a)?, port(&inner_b)?];
    let [a, b] = [&outer_a, &outer_b];
    let up = [a, &gate_a, &gate_b, &inner_a, &inner_b, b].map(Port::clone);
    let down = [b, &gate_b, &gate_a, &inner_b, &inner_a, a].map(Port::clone);
    let stage = |direction, ports| StagePlan {
        link: plan.name.clone(),
        direction,
        ports,
        leaf: needs.leaf,
        path: needs.path,
        needs_gate: needs.needs_gate,
        needs_path: needs.needs_path,
        mtu: plan.mtu,
    };
    // Both hooks of a port are made by different stages: each port is entered only once.
    Ok([
        Stage::install(socket, stage(Direction::Down, down))?,
        Stage::install(socket, stage(Direction::Up, up))?,
    ])
}

impl TcPlayer {
    /// Puts the queueing disciplines between both ends of a link, and starts the thread.
    /// `between` has the two ports of the link already.
    pub(crate) fn spawn(
        plan: &LinkPlan,
        ends: [&NetworkNamespace; 2],
        between: NetworkNamespace,
        played: &Trace,
        held_bytes: u64,
        cpu: Option<u32>,
    ) -> Result<TcPlayer, LinkError> {
        let needs = Needs::new(plan, played, held_bytes)?;
        let (socket, stages) = interfaces::inside(plan, &between, || {
            let mut socket = interfaces::open_socket()?;
            let stages = install(plan, &mut socket, needs)?;
            Ok((socket, stages))
        })?;
        let mut note = None;
        for (end, namespace) in plan.ends.iter().zip(ends) {
            let let_go = interfaces::inside(plan, namespace, || {
                let node = port(&end.interface)?;
                stage::let_senders_go(&mut interfaces::open_socket()?, &node)
            });
            if let_go.is_err() {
                note = Some(
                    "without netem, senders' own stacks keep the bottleneck's queue short (TSQ)",
                );
            }
        }
        let name = format!("hx-tc-{}", plan.index);
        let (commands, inbox) = channel();
        let (report, reported) = sync_channel(1);
        let work = move || {
            let scheduling = scheduling::make_real_time(cpu);
            if report.send(scheduling).is_ok() {
                Worker::new(socket, stages, inbox).run();
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
            note,
            largest_error_bytes: [AtomicU64::new(0), AtomicU64::new(0)],
            commands,
            thread: Some(thread),
            _between: between,
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

    /// What changes it from another thread.
    pub(crate) fn remote(&self) -> TcRemote {
        let thread = self.thread.as_ref().map(|thread| thread.thread().clone());
        TcRemote::new(&self.link, self.commands.clone(), thread)
    }

    /// Ends the playback and lifts every limit.
    pub(crate) fn stop(&self) -> Result<Played, LinkError> {
        let (reply, answer) = sync_channel(1);
        self.command(Command::Stop(reply))?;
        let gone = |_| LinkError::ThreadGone {
            link: self.link.clone(),
            name: "tc",
        };
        let TcPlayed {
            played,
            largest_error_bytes,
        } = answer.recv().map_err(gone)??;
        for (place, bytes) in self.largest_error_bytes.iter().zip(largest_error_bytes) {
            place.store(bytes, Ordering::Relaxed);
        }
        Ok(played)
    }

    /// The largest distance between the bytes of the class and the integral of the trace while
    /// packets waited, in the playback that was stopped last, in the order of
    /// [`Direction::BOTH`].
    pub(crate) fn largest_error_bytes(&self) -> [u64; 2] {
        let [down, up] = &self.largest_error_bytes;
        [down.load(Ordering::Relaxed), up.load(Ordering::Relaxed)]
    }

    /// What this kernel does not allow, though the link works.
    pub(crate) const fn note(&self) -> Option<&'static str> {
        self.note
    }

    /// What its thread got.
    pub(crate) const fn scheduling(&self) -> &Scheduling {
        &self.scheduling
    }
}

impl Drop for TcPlayer {
    fn drop(&mut self) {
        // A thread that has ended needs no word; a panic there was printed when it happened.
        let _ = self.command(Command::Quit);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whether this kernel can play the trace: tried in a throw-away namespace.
pub(crate) fn try_out_for(plan: &LinkPlan, played: &Trace) -> Result<(), LinkError> {
    let needs = Needs::new(plan, played, 0)?;
    let cannot = |source| LinkError::Namespace {
        link: plan.name.clone(),
        source,
    };
    let namespace = NetworkNamespace::create().map_err(cannot)?;
    interfaces::inside(plan, &namespace, || {
        interfaces::build_lone_ports(plan.index, plan.mtu)?;
        let mut socket = interfaces::open_socket()?;
        install(plan, &mut socket, needs).map(|_| ())
    })
}
