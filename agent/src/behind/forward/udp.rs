//! Datagrams through the forwarder: a socket beside the gate for each address that the command
//! sends to, and one in the caller's network for each pair of ends.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use hexloop_workloads::clock::{self, MonotonicNs};
use tokio::net::UdpSocket;
use tokio::task::{AbortHandle, spawn_local, yield_now};
use tokio::time::timeout;

use super::classify::Ends;
use super::gate::Held;
use super::{Counters, Shared, is_want_of_sockets};

/// How long a flow without datagrams is kept: RFC 4787, requirement 5, asks for two minutes.
const IDLE_LIMIT: Duration = Duration::from_secs(120);

/// Most flows at a time; the one that has been idle the longest makes room by ending.
const MOST_FLOWS: usize = 1024;

const LARGEST_DATAGRAM: usize = 65_535;

struct Port {
    socket: Rc<UdpSocket>,
    receiving: AbortHandle,
    flows: usize,
}

struct Flow {
    outside: Rc<UdpSocket>,
    answering: AbortHandle,
    /// When a datagram went either way.
    used: MonotonicNs,
}

/// All flows.
#[derive(Default)]
pub(crate) struct Flows {
    ports: BTreeMap<SocketAddr, Port>,
    flows: BTreeMap<Ends, Flow>,
    /// What opened a flow that has had no answer, to be refused if the other side does.
    unanswered: BTreeMap<Ends, Vec<u8>>,
}

impl Flows {
    /// The socket of a flow that a datagram goes through now.
    fn used(&mut self, ends: Ends) -> Option<Rc<UdpSocket>> {
        let flow = self.flows.get_mut(&ends)?;
        flow.used = clock::now();
        Some(Rc::clone(&flow.outside))
    }

    /// Counts a flow at an address, or one less.
    fn count_at(&mut self, server: SocketAddr, change: isize) {
        if let Some(port) = self.ports.get_mut(&server) {
            port.flows = port.flows.saturating_add_signed(change);
        }
    }

    /// Ends a flow, and with the last of an address the socket beside the gate. What opened it, where it has
    /// had no answer and nobody is there any more.
    fn end(&mut self, ends: Ends) -> Option<Vec<u8>> {
        let opened = self.unanswered.remove(&ends);
        self.flows.remove(&ends)?;
        let port = self.ports.get_mut(&ends.server)?;
        port.flows = port.flows.saturating_sub(1);
        if port.flows > 0 {
            return None;
        }
        port.receiving.abort();
        self.ports.remove(&ends.server);
        opened
    }

    /// Ends the flow that has been idle the longest; whether there was one.
    fn make_room(&mut self) -> bool {
        let idle = self.flows.iter().min_by_key(|(_, flow)| flow.used);
        let Some(ends) = idle.map(|(ends, _)| *ends) else {
            return false;
        };
        if let Some(flow) = self.flows.get(&ends) {
            flow.answering.abort();
        }
        // Whoever opened it and had no answer in all this time gets none.
        let _ = self.end(ends);
        true
    }
}

/// Takes a datagram: makes what it needs and lets it in.
pub(crate) async fn take(shared: &Rc<Shared>, held: Held) {
    let server = held.ends.server;
    if !shared.udp.borrow().ports.contains_key(&server) {
        let bound = with_room(shared, || shared.bind(server)).await;
        let Ok(socket) = bound else {
            return Counters::add(&shared.counters.failed);
        };
        let socket = Rc::new(socket);
        let task = spawn_local(receive(Rc::clone(shared), server, Rc::clone(&socket)));
        let port = Port {
            socket,
            receiving: task.abort_handle(),
            flows: 0,
        };
        shared.udp.borrow_mut().ports.insert(server, port);
    }
    let mut flows = shared.udp.borrow_mut();
    let unknown = !flows.flows.contains_key(&held.ends);
    shared.let_in(&held.frame);
    if unknown && flows.unanswered.len() < MOST_FLOWS {
        flows.unanswered.insert(held.ends, held.frame);
    }
}

/// Opens a socket; where this process may have no more of them, idle flows make room.
async fn with_room<T>(shared: &Rc<Shared>, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
    loop {
        match open() {
            Err(error) if is_want_of_sockets(&error) && shared.udp.borrow_mut().make_room() => {
                // The flow's task lets go of its socket at its next turn.
                yield_now().await;
            }
            result => return result,
        }
    }
}

/// Takes what the command sends to one address.
async fn receive(shared: Rc<Shared>, server: SocketAddr, socket: Rc<UdpSocket>) {
    let mut datagram = vec![0; LARGEST_DATAGRAM];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut datagram).await else {
            continue;
        };
        let ends = Ends { client, server };
        let known = shared.udp.borrow_mut().used(ends);
        let outside = match known {
            Some(outside) => outside,
            None => {
                // Counted before there is any: the port stays when others make room.
                shared.udp.borrow_mut().count_at(server, 1);
                match begin(&shared, ends).await {
                    Ok(outside) => outside,
                    Err(_) => {
                        Counters::add(&shared.counters.failed);
                        let mut flows = shared.udp.borrow_mut();
                        flows.count_at(server, -1);
                        flows.unanswered.remove(&ends);
                        continue;
                    }
                }
            }
        };
        // A refusal is told to who reads.
        let _ = outside.send(&datagram[..length]).await;
    }
}

async fn begin(shared: &Rc<Shared>, ends: Ends) -> io::Result<Rc<UdpSocket>> {
    let to = shared.outside(ends.server);
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    if shared.udp.borrow().flows.len() >= MOST_FLOWS {
        shared.udp.borrow_mut().make_room();
    }
    let outside = with_room(shared, || {
        let outside = std::net::UdpSocket::bind(any)?;
        outside.set_nonblocking(true)?;
        outside.connect(to)?;
        Ok(outside)
    })
    .await?;
    let outside = Rc::new(UdpSocket::from_std(outside)?);
    let task = spawn_local(answer(Rc::clone(shared), ends, Rc::clone(&outside)));
    let flow = Flow {
        outside: Rc::clone(&outside),
        answering: task.abort_handle(),
        used: clock::now(),
    };
    shared.udp.borrow_mut().flows.insert(ends, flow);
    Counters::add(&shared.counters.flows);
    Ok(outside)
}

/// Carries answers back until there are none for a while or the other side refuses.
async fn answer(shared: Rc<Shared>, ends: Ends, outside: Rc<UdpSocket>) {
    let mut datagram = vec![0; LARGEST_DATAGRAM];
    let refused = loop {
        match timeout(IDLE_LIMIT, outside.recv(&mut datagram)).await {
            Ok(Ok(length)) => {
                let socket = {
                    let mut flows = shared.udp.borrow_mut();
                    flows.unanswered.remove(&ends);
                    let _ = flows.used(ends);
                    let port = flows.ports.get(&ends.server);
                    port.map(|port| Rc::clone(&port.socket))
                };
                let Some(socket) = socket else { break false };
                // A datagram may be lost.
                let _ = socket.send_to(&datagram[..length], ends.client).await;
            }
            Ok(Err(_)) => break true,
            Err(_idle) => break false,
        }
    };
    let opened = shared.udp.borrow_mut().end(ends);
    if let (true, Some(frame)) = (refused, opened) {
        Counters::add(&shared.counters.refused);
        // The task that holds the socket is dropped at its next turn; then nobody is there, and
        // the stack says so.
        let shared = Rc::clone(&shared);
        spawn_local(async move {
            yield_now().await;
            shared.let_in(&frame);
        });
    }
}
