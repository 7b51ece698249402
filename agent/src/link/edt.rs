//! The kernel's departure times as a datapath: a BPF program computes from the trace, which lies
//! in a map, when each packet leaves; the fq qdisc holds it until then. Nothing is changed while
//! a trace plays, so there is no control loop and nothing that could be late but fq's timer. Of a trace
//! that is too long for one table only a window lies there, and the next one takes over long before it
//! is over (see `table/window`); one that comes too late ends the playback with an error.
//!
//! ```text
//! node A [interface]====[hxrNa] our namespace [hxrNb]====[interface] node B
//!                        forward ----------->  stamp, fq   observe
//!                     stamp, fq <------------  forward
//! ```
//!
//! The ports are in a namespace of the link's own, as the relay's are, so that the senders' own
//! sockets and queues are left alone; *forward* takes packets off their sender's account.
//!
//! The arithmetic is that of the relay's shaper to within 3 ns per packet, and no rounding adds
//! up (see `table`). A packet costs 40 to 190 ns of compiled program, the latter with 65 536 rows,
//! and 1.6 to 4 us where the kernel only interprets it. What differs:
//!
//! - The queue limit counts what is left of the packet in service, the shaper all of it.
//! - Opportunities: a slot has no limit if the trace has none where the slot begins.
//! - Losses, duplicates, damage and jitter have the same distributions, but are drawn from another
//!   generator.
//! - A queue limited in packets may take a few more where several processors send at once, or if it
//!   was limited in bytes until now.
//! - A change while it plays holds once everything has left that came before (see `asked`).
//! - Packets that the trace would hold for ever, or longer than fq's horizon of an hour, are
//!   dropped at once.
//! - At the end of a playback, what waits has a second to go on time; the rest is dropped.
//! - Lateness is measured where packets are received (*observe*), so it has the way through the
//!   last pair of interfaces in it.

mod asked;
mod assembler;
mod loaded;
mod memory;
mod messages;
mod port;
mod program;
mod reader;
mod remote;
mod table;

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use hexloop_topologies::plan::LinkPlan;
use hexloop_traces::{
    Direction, LinkSettings, LinkState, QueueDiscipline, QueueLimit, Service, Trace, stream,
};
use rand_core::Rng;

use super::relay::{Play, Played};
use super::scheduling::{self, Scheduling};
use super::{LinkError, LinkSpec, interfaces};
use crate::namespace::NetworkNamespace;
use crate::sys::bpf::Program;
use asked::Source;
use loaded::{Loaded, Settings};
use messages::Hook;
use port::{HORIZON_NS, Port};
use program::Clock;
use reader::{Command, Lane, Reader};
pub(crate) use remote::EdtRemote;
use table::Table;

/// As in the shaper: 62.5 us.
const SHORTEST_SLOT_NS: u64 = 62_500;

/// Plays a trace by departure times. Dropping it ends its thread.
#[derive(Debug)]
pub(crate) struct EdtPlayer {
    link: String,
    scheduling: Scheduling,
    commands: Sender<Command>,
    thread: Option<JoinHandle<()>>,
    /// Loaded as long as their filters, which go with the ports.
    _forward: [Program; 2],
}

impl EdtPlayer {
    /// Hangs the programs on the ports and interfaces of a relayed link that is there.
    ///
    /// # Errors
    /// The trace asks for what departure times cannot do, or the kernel refuses.
    pub(crate) fn spawn(
        spec: &LinkSpec<'_>,
        played: &Trace,
        namespace: &NetworkNamespace,
    ) -> Result<EdtPlayer, LinkError> {
        let plan = spec.plan;
        refuse_what_it_cannot(plan, played)?;
        let [down, up] = Direction::BOTH.map(|direction| loaded(spec, played, direction));
        let (down, up) = (down?, up?);
        let (ports, forward) =
            interfaces::inside(plan, namespace, || open_ports(plan, [&down, &up]))?;
        for (direction, loaded) in [(Direction::Down, &down), (Direction::Up, &up)] {
            let receiver = plan.receiver(direction);
            let namespace = spec.ends[usize::from(direction == Direction::Up)];
            interfaces::inside(plan, namespace, || {
                let mut port = Port::open(&receiver.interface)?;
                port.attach(Hook::Ingress, &loaded.observe, "hx_observe")
            })?;
        }
        let [first, second] = ports;
        let trace = Arc::new(played.clone());
        let source = |direction| Source {
            link: plan.name.clone(),
            direction,
            trace: Arc::clone(&trace),
            settings: plan.settings,
            mtu: plan.mtu,
        };
        // What goes down leaves through the port that faces the first node.
        let lanes = [
            Lane {
                source: source(Direction::Down),
                loaded: down,
                port: first,
            },
            Lane {
                source: source(Direction::Up),
                loaded: up,
                port: second,
            },
        ];
        EdtPlayer::start_thread(plan, lanes, forward, spec.relay_cpu)
    }

    fn start_thread(
        plan: &LinkPlan,
        lanes: [Lane; 2],
        forward: [Program; 2],
        cpu: Option<u32>,
    ) -> Result<EdtPlayer, LinkError> {
        let name = format!("hx-edt-{}", plan.index);
        let (commands, inbox) = channel();
        let (report, reported) = sync_channel(1);
        let work = move || {
            if report.send(scheduling::pin(cpu)).is_ok() {
                Reader::new(lanes, inbox).run();
            }
        };
        let thread = thread::Builder::new().name(name.clone());
        let thread = thread
            .spawn(work)
            .map_err(|source| LinkError::Thread { name, source })?;
        let cpus = reported.recv().map_err(|_gone| gone(&plan.name))?;
        let description =
            "in the kernel, where packets are sent; a thread reads its books".to_owned();
        Ok(EdtPlayer {
            link: plan.name.clone(),
            scheduling: Scheduling { description, cpus },
            commands,
            thread: Some(thread),
            _forward: forward,
        })
    }

    /// Plays from T0 on.
    ///
    /// # Errors
    /// The kernel refuses, or the thread is gone.
    pub(crate) fn play(&self, play: Play) -> Result<(), LinkError> {
        let (reply, answer) = sync_channel(1);
        let command = Command::Play(Box::new(play), reply);
        self.commands
            .send(command)
            .map_err(|_gone| gone(&self.link))?;
        answer.recv().map_err(|_gone| gone(&self.link))?
    }

    /// What changes it from another thread.
    pub(crate) fn remote(&self) -> EdtRemote {
        EdtRemote::new(&self.link, self.commands.clone())
    }

    /// Ends the playback, and waits until what was delayed has gone.
    ///
    /// # Errors
    /// The kernel refused something meanwhile, or the thread is gone.
    pub(crate) fn stop(&self) -> Result<Played, LinkError> {
        let (reply, answer) = sync_channel(1);
        let sent = self.commands.send(Command::Stop(reply));
        sent.map_err(|_gone| gone(&self.link))?;
        answer.recv().map_err(|_gone| gone(&self.link))?
    }

    /// Where it runs.
    pub(crate) const fn scheduling(&self) -> &Scheduling {
        &self.scheduling
    }
}

impl Drop for EdtPlayer {
    fn drop(&mut self) {
        // A thread that has ended needs no word; a panic there was printed when it happened.
        let _ = self.commands.send(Command::Quit);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn gone(link: &str) -> LinkError {
    LinkError::ThreadGone {
        link: link.to_owned(),
        name: "edt",
    }
}

/// The programs of one direction.
fn loaded(spec: &LinkSpec<'_>, played: &Trace, direction: Direction) -> Result<Loaded, LinkError> {
    let plan = spec.plan;
    let queue_bytes = plan.settings.most_queue_bytes(plan.mtu);
    let made = if Table::fits(played) {
        Table::new(played, direction, queue_bytes)
    } else {
        Table::first_window(played, direction, queue_bytes)
    };
    let table = made.map_err(|error| LinkError::NotOnEdt {
        link: plan.name.clone(),
        what: error.to_string(),
    })?;
    let settings = Settings {
        window_ns: spec.calibration.window_ns,
        horizon_ns: HORIZON_NS,
        seed: stream(spec.seed, &format!("link {}", direction.name())).next_u64(),
        reorder: false,
        queue_packets: None,
        slot_ns: None,
        clock: Clock::Kernel,
    };
    Loaded::new(table, settings_of(settings, &plan.settings))
}

/// The program's settings with those of a link in them.
fn settings_of(settings: Settings, asked: &LinkSettings) -> Settings {
    Settings {
        reorder: asked.reorder,
        queue_packets: match asked.queue {
            QueueLimit::Bytes(_) => None,
            QueueLimit::Packets(packets) => Some(packets),
        },
        slot_ns: match asked.service {
            Service::Fluid => None,
            Service::Opportunities { slot_ns } => Some(slot_ns.max(SHORTEST_SLOT_NS)),
        },
        ..settings
    }
}

/// Both ports with what is on them, in the order of the plan's ends, and the programs that
/// forward from each. `loaded` is in the order of [`Direction::BOTH`].
fn open_ports(
    plan: &LinkPlan,
    [down, up]: [&Loaded; 2],
) -> Result<([Port; 2], [Program; 2]), LinkError> {
    let [first, second] =
        interfaces::relay_ports(u32::from(plan.index)).map(|port| Port::open(&port));
    let (mut first, mut second) = (first?, second?);
    let forward = |from: &mut Port, to: &Port| {
        let index = u32::try_from(to.index).unwrap_or(0);
        let program = loaded::load("hx_forward", program::forward(index))?;
        from.attach(Hook::Ingress, &program, "hx_forward")?;
        Ok::<_, LinkError>(program)
    };
    let programs = [forward(&mut first, &second)?, forward(&mut second, &first)?];
    for (port, loaded) in [(&mut first, down), (&mut second, up)] {
        port.put_fq()?;
        port.attach(Hook::Egress, &loaded.now().stamp, "hx_stamp")?;
    }
    Ok(([first, second], programs))
}

/// Whether this kernel can do it, tried on the loopback interface of a throw-away namespace.
///
/// # Errors
/// What the kernel refuses.
pub(crate) fn try_out(plan: &LinkPlan) -> Result<(), LinkError> {
    let namespace = NetworkNamespace::create().map_err(|source| LinkError::Namespace {
        link: plan.name.clone(),
        source,
    })?;
    interfaces::inside(plan, &namespace, || {
        let mut port = Port::open("lo")?;
        let program = loaded::load("hx_forward", program::forward(1))?;
        port.attach(Hook::Ingress, &program, "hx_forward")?;
        port.put_fq()
    })
}

/// What the trace or the settings ask for and departure times cannot do.
fn refuse_what_it_cannot(plan: &LinkPlan, played: &Trace) -> Result<(), LinkError> {
    let mut states = played.states().flat_map(|(_, states)| states);
    let what = unsupported(&plan.settings).map(str::to_owned);
    match what.or_else(|| states.find_map(|state| unsupported_state(&state))) {
        None => Ok(()),
        Some(what) => Err(LinkError::NotOnEdt {
            link: plan.name.clone(),
            what,
        }),
    }
}

/// What a state asks for and departure times cannot do.
fn unsupported_state(state: &LinkState) -> Option<String> {
    let longest_ns = state.delay_ns.saturating_add(u64::from(state.jitter_ns));
    (longest_ns > HORIZON_NS).then(|| {
        format!("a delay of {longest_ns} ns is above fq's horizon, which is {HORIZON_NS} ns here")
    })
}

/// A departure time is given on arrival and never taken back: whatever is decided later, or by
/// looking at single waiting packets, is not possible.
const fn unsupported(settings: &LinkSettings) -> Option<&'static str> {
    if matches!(settings.queue, QueueLimit::Packets(packets) if packets > port::MOST_PACKETS) {
        return Some("the queue holds more packets than fq has room for, which is 65 000 here");
    }
    match settings.discipline {
        QueueDiscipline::DropTail => {}
        QueueDiscipline::DropHead => {
            return Some(
                "the oldest waiting packet is to be dropped, and its time is given already",
            );
        }
        QueueDiscipline::Codel { .. } => {
            return Some(
                "CoDel decides when packets leave the queue, and the program when they come",
            );
        }
        QueueDiscipline::Pie { .. } => {
            return Some("the program does not compute PIE's probability");
        }
    }
    // A queue that only fills up sets no ECN marks, here as on the relay.
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_that_jitter_takes_above_the_horizon_is_refused_and_one_up_to_it_is_not() {
        let state = |jitter_ns| LinkState {
            delay_ns: HORIZON_NS - 1_000,
            jitter_ns,
            ..LinkState::TRANSPARENT
        };
        assert_eq!(unsupported_state(&state(1_000)), None);
        let refused = unsupported_state(&state(1_001)).unwrap();
        assert!(refused.contains("above fq's horizon"), "{refused}");
    }
}
