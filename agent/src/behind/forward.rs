//! The forwarder: what a command without any right to the caller's network reaches it through.
//!
//! ```text
//! (link)==[hxlN] far namespace [hxgate]====[hxlN] stack's namespace
//!                   gate: hx-gate            every address is at home here
//!                        |  what would open something
//!                   hx-forward: sockets there, and sockets in the caller's network
//! ```
//!
//! The kernel's own TCP and UDP end the command's flows, in a namespace in which every address is
//! local: congestion control, acknowledgements and reassembly are those of a real host. The
//! gateway's address stands for the caller's loopback. All of this is before the shaped hop, seen
//! from outside; its limit is measured at the start.

mod classify;
mod gate;
mod tcp;
mod throughput;
mod udp;

use std::cell::RefCell;
use std::fs;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use hexloop_topologies::plan::LinkPlan;
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Notify, mpsc, oneshot};

use super::address::Block;
use super::network::{self, Way};
use crate::descriptors;
use crate::link::LinkError;
use crate::link::interfaces;
use crate::namespace::NetworkNamespace;
use crate::sys::packet::{Intake, PacketSocket, PacketSocketOptions};
use gate::{Gate, Held};

pub(crate) use throughput::measure;

/// The gate's interface towards the stack.
const GATE_PORT: &str = "hxgate";

/// Frames that may wait for the gate.
const RING_FRAMES: usize = 4096;

/// Frames that may wait for the forwarder.
const HELD_FRAMES: usize = 4096;

/// Descriptors that are enough: for eight thousand connections at a time.
const DESCRIPTORS: u64 = 20_000;

/// Smallest, usual and largest buffer of a TCP socket beside the gate, in bytes: the largest
/// holds 2.5 Gbit/s over 200 ms.
const TCP_BUFFERS: &str = "4096 131072 67108864";

/// What the forwarder has done.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// TCP connections carried.
    pub(crate) connections: AtomicU64,
    /// Pairs of ends that exchanged datagrams.
    pub(crate) flows: AtomicU64,
    /// Connections and datagrams that the other side refused.
    pub(crate) refused: AtomicU64,
    /// What failed for want of sockets.
    pub(crate) failed: AtomicU64,
    /// Echo requests to others than the gateway, which are not forwarded.
    pub(crate) foreign_echoes: AtomicU64,
    /// Frames that found no room.
    pub(crate) frames_dropped: AtomicU64,
}

impl Counters {
    fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A forwarder that runs. Dropping it ends its threads and every connection.
#[derive(Debug)]
pub(crate) struct Forwarder {
    close: Arc<EventFd>,
    stop: Option<oneshot::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
    counters: Arc<Counters>,
}

/// What all tasks of the forwarder share.
pub(crate) struct Shared {
    tcp: RefCell<tcp::Connections>,
    udp: RefCell<udp::Flows>,
    /// Somebody has stopped listening beside the gate.
    doorway_closed: Notify,
    counters: Arc<Counters>,
    /// The gate's port towards the stack, to let in what was held.
    inject: PacketSocket,
    stack: NetworkNamespace,
    gateway: [IpAddr; 2],
}

impl Forwarder {
    /// Starts forwarding for the far end of a link, in whose namespace nobody else lives.
    ///
    /// # Errors
    /// A namespace, an interface or a socket is refused.
    pub(crate) fn start(
        plan: &LinkPlan,
        block: Block,
        far: &NetworkNamespace,
    ) -> Result<Forwarder, LinkError> {
        let namespace = |source| LinkError::Namespace {
            link: plan.name.clone(),
            source,
        };
        let failed = |action: &str| {
            let action = action.to_owned();
            move |source: io::Error| LinkError::Socket { action, source }
        };
        // Two for a connection, one for a flow of datagrams. Where fewer are allowed, it does with those.
        let _ = descriptors::allow_up_to(DESCRIPTORS);
        let stack = NetworkNamespace::create().map_err(namespace)?;
        interfaces::move_far_end(plan, far, GATE_PORT, &stack)?;
        let interface = &plan.ends[1].interface;
        stack
            .run(|| furnish_stack(block, interface))
            .map_err(namespace)??;
        let mtu = usize::try_from(plan.mtu).unwrap_or(1500);
        let open = |port: &str, frames| {
            let options = PacketSocketOptions {
                intake: Intake::Ring {
                    snap_bytes: mtu + 64,
                    frames,
                },
                headers: true,
            };
            far.run(|| PacketSocket::open(port, options))
                .map_err(namespace)?
                .map_err(failed("open a packet socket of the forwarder"))
        };
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let close = EventFd::from_flags(flags).map_err(io::Error::from);
        let close = Arc::new(close.map_err(failed("make an eventfd"))?);
        let counters = Arc::new(Counters::default());
        let (held, waiting) = mpsc::channel(HELD_FRAMES);
        let (stop, stopped) = oneshot::channel();
        let gateway = block.gateway();
        let gate = Gate {
            link: open(interface, RING_FRAMES)?,
            stack: open(GATE_PORT, RING_FRAMES)?,
            gateway,
            held,
            counters: Arc::clone(&counters),
            close: Arc::clone(&close),
        };
        // It only sends; what its smallest of rings does not take is nobody's loss.
        let inject = open(GATE_PORT, 1)?;
        let mut forwarder = Forwarder {
            close,
            stop: Some(stop),
            threads: Vec::new(),
            counters: Arc::clone(&counters),
        };
        forwarder.threads.push(spawn_worker(
            move || Shared {
                tcp: RefCell::default(),
                udp: RefCell::default(),
                doorway_closed: Notify::new(),
                counters,
                inject,
                stack,
                gateway,
            },
            waiting,
            stopped,
        )?);
        let thread = |source| LinkError::Thread {
            name: "hx-gate".to_owned(),
            source,
        };
        forwarder.threads.push(gate.spawn().map_err(thread)?);
        Ok(forwarder)
    }

    /// What it has done so far.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        // The counter of an eventfd is full only after 2^64 wake-ups.
        let _ = self.close.write(1);
        if let Some(stop) = self.stop.take() {
            // It may have ended by itself.
            let _ = stop.send(());
        }
        for thread in self.threads.drain(..) {
            // A panic there was printed when it happened.
            let _ = thread.join();
        }
    }
}

/// Makes every address local, but those of the command and of links behind it.
fn furnish_stack(block: Block, interface: &str) -> Result<(), LinkError> {
    network::furnish_far(block, interface)?;
    let everything: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    for everything in everything {
        network::add_route(everything, 0, Way::Here)?;
    }
    for buffers in ["tcp_rmem", "tcp_wmem"] {
        // Where that is refused, the measured limit is lower.
        let _ = fs::write(format!("/proc/sys/net/ipv4/{buffers}"), TCP_BUFFERS);
    }
    Ok(())
}

/// Whether a socket was refused because this process, or the machine, has as many as it may.
fn is_want_of_sockets(error: &io::Error) -> bool {
    [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(*errno as i32))
}

fn spawn_worker(
    shared: impl FnOnce() -> Shared + Send + 'static,
    mut waiting: mpsc::Receiver<Held>,
    stopped: oneshot::Receiver<()>,
) -> Result<JoinHandle<()>, LinkError> {
    let failed = |source| LinkError::Thread {
        name: "hx-forward".to_owned(),
        source,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let serve = move || {
        let shared = Rc::new(shared());
        let tasks = tokio::task::LocalSet::new();
        tasks.block_on(&runtime, async move {
            let mut stopped = stopped;
            loop {
                tokio::select! {
                    _ = &mut stopped => return,
                    held = waiting.recv() => match held {
                        Some(held) if held.opens => tcp::open(&shared, held),
                        Some(held) => udp::take(&shared, held).await,
                        None => return,
                    },
                }
            }
        });
    };
    let thread = thread::Builder::new().name("hx-forward".to_owned());
    thread.spawn(serve).map_err(failed)
}

impl Shared {
    /// Lets a held frame in to the stack.
    fn let_in(&self, frame: &[u8]) {
        if !matches!(self.inject.send(&[IoSlice::new(frame)]), Ok(1)) {
            Counters::add(&self.counters.frames_dropped);
        }
    }

    /// Where an address lies in the caller's network: the gateway is the caller itself.
    fn outside(&self, server: SocketAddr) -> SocketAddr {
        let address = match server.ip() {
            address if address == self.gateway[0] => Ipv4Addr::LOCALHOST.into(),
            address if address == self.gateway[1] => Ipv6Addr::LOCALHOST.into(),
            address => address,
        };
        SocketAddr::new(address, server.port())
    }

    fn socket(&self, kind: SockType, at: SocketAddr) -> io::Result<OwnedFd> {
        let make = || -> io::Result<OwnedFd> {
            let family = match at {
                SocketAddr::V4(_) => AddressFamily::Inet,
                SocketAddr::V6(_) => AddressFamily::Inet6,
            };
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let socket = socket(family, kind, flags, None)?;
            setsockopt(&socket, sockopt::ReuseAddr, &true)?;
            // To answer from addresses that no interface has (ip(7)).
            setsockopt(&socket, sockopt::IpTransparent, &true)?;
            bind(socket.as_raw_fd(), &SockaddrStorage::from(at))?;
            if kind == SockType::Stream {
                listen(&socket, Backlog::MAXCONN)?;
            }
            Ok(socket)
        };
        self.stack.run(make).map_err(io::Error::other)?
    }

    /// Listens beside the gate.
    fn listen(&self, at: SocketAddr) -> io::Result<TcpListener> {
        TcpListener::from_std(self.socket(SockType::Stream, at)?.into())
    }

    /// Takes datagrams beside the gate.
    fn bind(&self, at: SocketAddr) -> io::Result<UdpSocket> {
        UdpSocket::from_std(self.socket(SockType::Datagram, at)?.into())
    }
}
