//! A command in a network of its own, behind a shaped link: the library of `hexloop link`.
//!
//! ```text
//! veth:     command [hxlink]==(link)==[hxlN] the network that this program was started from
//! peer:     command [hxlink]==(link)==[hxlN] the other command's network
//! forward:  command [hxlink]==(link)==[hxlN] gate ---- sockets in the caller's network
//! ```
//!
//! As root, and behind another link of this kind, the far end is the caller's own network (see
//! `power`). Otherwise no interface can reach that, and a forwarder opens sockets there. There is
//! no daemon: everything belongs to this process, and the kernel takes it away with it.

pub mod address;
mod cpu;
mod depth;
mod forward;
pub mod hold;
pub mod inhabit;
mod live;
mod network;
pub mod power;
mod resident;
pub mod signals;
mod watch;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use hexloop_proto::LinkWindow;
use hexloop_topologies::plan::{CalibrationPlan, DatapathChoice, FaultPlan, LinkEnd, LinkPlan};
use hexloop_traces::{LinkSettings, Trace};
use hexloop_workloads::clock;
use nix::sys::signal::Signal;
use serde::Serialize;

use crate::capture::{Capture, Captured, LinkFiles, PreparedCapture, Room};
use crate::link::scheduling;
use crate::link::{
    Link, LinkDescription, LinkError, LinkPhaseReport, LinkSpec, ModeChoice, Observer, RelayOptions,
};
use crate::namespace::{NamespaceError, NetworkNamespace};
use crate::privilege::Privilege;
use crate::process::SelfCommand;
use cpu::RelayCpu;
use depth::Depth;
use forward::Forwarder;
use hold::Held;
use live::{Watched, live};
use network::Claim;
use power::Power;
use resident::{Resident, Running};
use signals::Signals;
use watch::Watch;

pub use inhabit::Said;
pub use watch::Disturbance;

/// The command's interface.
const INNER_INTERFACE: &str = "hxlink";

/// Length of the windows in which asked and delivered are compared.
pub const WINDOW_NS: u64 = 20_000_000;

/// Windows that may wait for their reader: a minute of both directions.
const WINDOW_BACKLOG: usize = 6000;

/// How long after the command is put there the trace begins.
const START_AFTER_NS: u64 = 2_000_000;

/// How long a command behind a link that is gone has to end by itself when it is told to.
pub const END_WITHIN_NS: u64 = 5_000_000_000;

/// The number of the link in its capture.
const ONLY_LINK: usize = 0;

/// What a command is put behind.
#[derive(Debug, Clone)]
pub struct BehindSpec {
    /// What the link follows.
    pub trace: Arc<Trace>,
    /// Its queue and service.
    pub settings: LinkSettings,
    /// What shapes packets.
    pub datapath: DatapathChoice,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// Seed of losses and jitter.
    pub seed: u64,
    /// Where packets are captured, if they are to be.
    pub capture: Option<PathBuf>,
    /// The command at the far end, if it is to be one.
    pub peer: Option<Vec<OsString>>,
    /// Where links of this user tell each other which CPUs their relays have, if they do.
    pub relay_cpus: Option<PathBuf>,
    /// Descriptors beyond the standard three that the command is to have: those that whoever started this
    /// program gave it ([`crate::descriptors::inherited`]).
    pub descriptors: Vec<RawFd>,
    /// Whom the commands run as, where that is not who started this program.
    pub user: Option<User>,
    /// How this program is started again.
    pub program: SelfCommand,
}

/// A user to run commands as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub user: u32,
    /// Group id.
    pub group: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// Why a command cannot be put behind a link.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BehindError {
    /// The command's namespaces.
    #[error("cannot make the command's namespaces")]
    Hold(#[source] io::Error),
    /// A network namespace.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The link or its routes.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The capture.
    #[error("cannot capture packets in {}", directory.display())]
    Capture {
        /// The directory.
        directory: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A command could not be started, for a reason that is not its own.
    #[error("cannot start {what}")]
    Start {
        /// `the command` or `the command at the far end`.
        what: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The command at the far end is none that can be run.
    #[error("cannot run the command at the far end")]
    NoPeer(#[source] io::Error),
    /// Signals or terminal.
    #[error("cannot take over signals")]
    Signals(#[source] io::Error),
    /// A signal came before the command was started, which it now is not.
    #[error("{signal} came before the command was started")]
    Interrupted {
        /// The signal.
        signal: Signal,
    },
}

/// What is at the far end of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FarEnd {
    /// The network that this program was started from.
    Caller,
    /// Another command.
    Peer,
    /// A forwarder, behind which is the network that this program was started from.
    Forwarder,
}

impl FarEnd {
    /// The name in the record.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            FarEnd::Caller => "veth",
            FarEnd::Peer => "peer",
            FarEnd::Forwarder => "forwarder",
        }
    }
}

/// What a forwarder did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Forwarded {
    /// TCP connections carried.
    pub connections: u64,
    /// Pairs of ends that exchanged datagrams.
    pub flows: u64,
    /// Connections and datagrams that the other side refused.
    pub refused: u64,
    /// What failed for want of sockets.
    pub failed: u64,
    /// Echo requests to others than the gateway, which are not forwarded.
    pub foreign_echoes: u64,
    /// Frames that found no room on their way.
    pub frames_dropped: u64,
}

/// A link with a place for a command behind it. Dropping it takes everything away.
#[derive(Debug)]
pub struct Behind {
    /// Dropped first: its threads hold the interfaces.
    link: Link,
    /// Before the namespaces that it works in.
    forwarder: Option<Forwarder>,
    capture: Option<Capture>,
    /// What the way through the forwarder carries unshaped, in bit/s in the order of
    /// [`hexloop_traces::Direction::BOTH`].
    limit_bps: Option<[u64; 2]>,
    spec: BehindSpec,
    power: Power,
    depth: Depth,
    relay_cpu: RelayCpu,
    inner: Held,
    far: NetworkNamespace,
    far_end: FarEnd,
    claim: Claim,
    notes: Vec<String>,
}

/// How a command behind a link ended, and what the link did meanwhile.
#[derive(Debug)]
pub struct BehindReport {
    /// What became of the command. `None`: its first process was killed.
    pub command: Option<Said>,
    /// What had become of the command at the far end when the first one ended, if there was one
    /// and it had ended.
    pub peer: Option<Said>,
    /// How long the trace was played.
    pub played_ns: u64,
    /// What the link says, or why it failed.
    pub link: Result<LinkPhaseReport, LinkError>,
    /// What somebody else did to it meanwhile, in order of time.
    pub disturbances: Vec<Disturbance>,
}

impl Behind {
    /// Makes the namespaces and the link. No packet is shaped yet.
    ///
    /// # Errors
    /// The kernel refuses something; the message says what.
    pub fn build(spec: BehindSpec, power: Power) -> Result<Behind, BehindError> {
        let (user, group) = match &spec.user {
            Some(user) => (user.user.into(), user.group.into()),
            None => (power.user, power.group),
        };
        // Before any thread exists that could be in the way of its start.
        let inner = hold::make(&spec.program, &power, user, group).map_err(BehindError::Hold)?;
        let caller = NetworkNamespace::of_this_thread()?;
        let claim = network::claim()?;
        let (far_end, far) = if spec.peer.is_some() {
            (FarEnd::Peer, NetworkNamespace::create()?)
        } else if power.reaches_the_caller {
            (FarEnd::Caller, caller)
        } else {
            (FarEnd::Forwarder, NetworkNamespace::create()?)
        };
        let plan = plan(&spec, &claim);
        let depth = Depth::here();
        let order = depth.order(&scheduling::pin(None));
        let relay_cpu = RelayCpu::choose(&order, spec.relay_cpus.as_deref());
        let capture = spec.capture.as_ref().map(|directory| {
            capture_in(directory).map_err(|source| BehindError::Capture {
                directory: directory.clone(),
                source,
            })
        });
        let (capture, observer) = capture.transpose()?.unzip();
        let link = Link::build(&LinkSpec {
            plan: &plan,
            trace: Arc::clone(&spec.trace),
            faults: &FaultPlan::default(),
            calibration: &CalibrationPlan {
                flow_ns: 0,
                packet_payload_bytes: 1222,
                probe_gap_ns: 5_000_000,
                window_ns: WINDOW_NS,
            },
            seed: spec.seed,
            relay_cpu: relay_cpu.cpu,
            ends: [&inner.network, &far],
            relay: RelayOptions {
                // The forwarder takes packets of at most the MTU.
                mode: if far_end == FarEnd::Forwarder {
                    ModeChoice::Exact
                } else {
                    ModeChoice::Auto
                },
                observer: observer.flatten(),
                ..RelayOptions::default()
            },
        })?;
        let block = claim.block;
        let mut notes = inner
            .network
            .run(|| network::furnish_inner(block, INNER_INTERFACE))??;
        let far_interface = &plan.ends[1].interface;
        let forwarder = match far_end {
            FarEnd::Caller | FarEnd::Peer => {
                far.run(|| network::furnish_far(block, far_interface))??;
                None
            }
            FarEnd::Forwarder => Some(Forwarder::start(&plan, block, &far)?),
        };
        let mut limit_bps = None;
        if forwarder.is_some() {
            match forward::measure(&inner.network, block.gateway()[0]) {
                Ok(found) => {
                    limit_bps = Some(found);
                    // Its own connections are nobody's.
                    if let Some(forwarder) = &forwarder {
                        forwarder.counters().connections.store(0, Ordering::Relaxed);
                    }
                }
                Err(error) => notes.push(format!(
                    "what the forwarder carries at most could not be measured: {error}"
                )),
            }
        }
        if far_end == FarEnd::Caller && !claim.composes {
            notes.push("this is the last stage: only the one before it can be reached".to_owned());
        }
        if !inner.owned {
            notes.push(
                "a link started by the command will use the forwarder: the kernel refused to \
                 make its network in the user's name"
                    .to_owned(),
            );
        }
        Ok(Behind {
            link,
            forwarder,
            capture,
            limit_bps,
            spec,
            power,
            depth,
            relay_cpu,
            inner,
            far,
            far_end,
            claim,
            notes,
        })
    }

    /// Which datapath is in use, and why.
    #[must_use]
    pub fn description(&self) -> LinkDescription {
        self.link.description()
    }

    /// What is at the far end.
    #[must_use]
    pub const fn far_end(&self) -> FarEnd {
        self.far_end
    }

    /// What one TCP connection through the forwarder carried before anything was shaped, in
    /// bit/s in the order of [`hexloop_traces::Direction::BOTH`].
    #[must_use]
    pub const fn limit_bps(&self) -> Option<[u64; 2]> {
        self.limit_bps
    }

    /// What the forwarder did, if there is one.
    #[must_use]
    pub fn forwarded(&self) -> Option<Forwarded> {
        let counters = self.forwarder.as_ref()?.counters();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Some(Forwarded {
            connections: read(&counters.connections),
            flows: read(&counters.flows),
            refused: read(&counters.refused),
            failed: read(&counters.failed),
            foreign_echoes: read(&counters.foreign_echoes),
            frames_dropped: read(&counters.frames_dropped),
        })
    }

    /// Takes everything away, and says what was captured, where that was asked for, in the order of
    /// [`hexloop_traces::Direction::BOTH`].
    #[must_use]
    pub fn take_down(self) -> Option<io::Result<[Captured; 2]>> {
        let Behind {
            link,
            forwarder,
            capture,
            ..
        } = self;
        // The link's threads must have shown their last packet.
        drop((link, forwarder));
        let of_the_link = |mut written: BTreeMap<_, _>| {
            let captured = written.remove(&ONLY_LINK);
            captured.ok_or_else(|| io::Error::other("its writer gave no account of it"))
        };
        capture.map(|capture| capture.finish().and_then(of_the_link))
    }

    /// What the user should know.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The addresses at which the command reaches the far end.
    #[must_use]
    pub fn gateway(&self) -> [IpAddr; 2] {
        self.claim.block.gateway()
    }

    /// The command's addresses.
    #[must_use]
    pub fn address(&self) -> [IpAddr; 2] {
        self.claim.block.inner()
    }

    /// Runs the command while the link plays, until the command ends. Windows go to `take`, on a
    /// thread of its own. What somebody else does to the link goes to `tell` at once; when the link is
    /// gone for good, the command is told to end, with everything it started, and killed after
    /// [`END_WITHIN_NS`].
    ///
    /// # Errors
    /// The link cannot be started, or a process of ours failed.
    pub fn run(
        &mut self,
        command: Vec<OsString>,
        environment: Vec<(OsString, OsString)>,
        take: impl FnMut(LinkWindow) + Send,
        tell: impl FnMut(&Disturbance),
    ) -> Result<BehindReport, BehindError> {
        let (windows, received) = sync_channel(WINDOW_BACKLOG);
        thread::scope(|scope| {
            let reader = thread::Builder::new().name("hx-windows".to_owned());
            reader
                .spawn_scoped(scope, move || read(&received, take))
                .map_err(|source| BehindError::Start {
                    what: "the reader of windows",
                    source,
                })?;
            let signals = Signals::take_over().map_err(BehindError::Signals)?;
            // Their first processes are there before the trace begins: what starting them takes is
            // not played to nobody, and nothing is forked while the link's threads are busy.
            let peer = self.spec.peer.clone();
            let peer = peer
                .map(|words| self.start("hx-peer", words, Vec::new()))
                .transpose()?;
            let running = self.start("hx-command", command, environment)?;
            if let Some(capture) = &self.capture {
                capture.set_open(true);
            }
            let plan = plan(&self.spec, &self.claim);
            let watch = Watch::start(plan, [&self.inner.network, &self.far])?;
            let t0 = clock::now() + START_AFTER_NS;
            self.link.start(t0, windows)?;
            let mut watched = Watched {
                watch,
                t0,
                tell,
                disturbances: Vec::new(),
            };
            let ended = live(&signals, running, peer, &mut watched);
            let played_ns = clock::now().saturating_sub(t0);
            let link = self.link.stop();
            let (command, peer) = ended?;
            Ok(BehindReport {
                command,
                peer,
                played_ns,
                link,
                disturbances: watched.disturbances,
            })
        })
    }

    fn start(
        &self,
        name: &'static str,
        command: Vec<OsString>,
        mut environment: Vec<(OsString, OsString)>,
    ) -> Result<Running, BehindError> {
        let is_peer = name == "hx-peer";
        let block = self.claim.block;
        let (variable, address) = match (self.far_end, is_peer) {
            (FarEnd::Peer, true) => ("HEXLOOP_PEER", block.inner()),
            (FarEnd::Peer, false) => ("HEXLOOP_PEER", block.gateway()),
            (FarEnd::Caller | FarEnd::Forwarder, _) => ("HEXLOOP_GATEWAY", block.gateway()),
        };
        let [v4, v6] = address.map(|address| address.to_string().into());
        environment.push((variable.into(), v4));
        environment.push((format!("{variable}6").into(), v6));
        let told = self.depth.told(self.relay_cpu.cpu);
        environment.extend(told.map(|(variable, text)| (variable.into(), text.into())));
        let credentials = match (&self.spec.user, self.power.privilege) {
            (Some(user), Privilege::Root) => Some((user.user, user.group, user.groups.clone())),
            _ => None,
        };
        let resident = Resident {
            thread: name,
            program: &self.spec.program,
            network: if is_peer {
                &self.far
            } else {
                &self.inner.network
            },
            user_namespace: self.inner.user_namespace.as_ref().map(AsFd::as_fd),
            credentials,
            command,
            environment,
            descriptors: match is_peer {
                true => Vec::new(),
                false => self.spec.descriptors.clone(),
            },
            aside: is_peer,
        };
        resident.start().map_err(|source| BehindError::Start {
            what: if is_peer {
                "the command at the far end"
            } else {
                "the command"
            },
            source,
        })
    }
}

/// Starts a capture, of nothing yet: what is measured before the command starts is none of its
/// packets.
fn capture_in(directory: &Path) -> io::Result<(Capture, Option<Observer>)> {
    fs::create_dir_all(directory)?;
    let files = LinkFiles::create(directory, "link", Room::leaving(0)?)?;
    let prepared = PreparedCapture::new(ONLY_LINK + 1);
    let observer = prepared.observer(ONLY_LINK);
    let capture = prepared.start(BTreeMap::from([(ONLY_LINK, files)]))?;
    Ok((capture, observer))
}

/// The plan of the one link.
fn plan(spec: &BehindSpec, claim: &Claim) -> LinkPlan {
    let block = claim.block;
    let end = |node: &str, interface: String, addresses: [IpAddr; 2], number| LinkEnd {
        node: node.to_owned(),
        interface,
        ipv4: addresses[0],
        ipv6: addresses[1],
        mac: block.mac(number),
    };
    LinkPlan {
        name: "link".to_owned(),
        index: claim.number.into(),
        ends: [
            end("command", INNER_INTERFACE.to_owned(), block.inner(), 1),
            end("far", format!("hxl{}", claim.number), block.gateway(), 2),
        ],
        trace: spec.trace.metadata().scenario.clone(),
        trace_sha256: String::new(),
        datapath: spec.datapath,
        mode: hexloop_topologies::plan::RelayModePlan::default(),
        mtu: spec.mtu,
        settings: spec.settings,
    }
}

fn read(windows: &Receiver<LinkWindow>, mut take: impl FnMut(LinkWindow)) {
    while let Ok(window) = windows.recv() {
        take(window);
    }
}
