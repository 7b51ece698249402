//! Datagrams through the forwarder: a socket beside the gate for each address that the command
//! sends to, and one in the caller's network for each pair of ends.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::timeout;

use super::classify::Ends;
use super::gate::Held;
use super::{Counters, Shared};

/// How long a flow without datagrams is kept: RFC 4787, requirement 5, asks for two minutes.
const IDLE_LIMIT: Duration = Duration::from_secs(120);

/// Most flows at a time; the oldest idle ones make room by ending.
const MOST_FLOWS: usize = 1024;

const LARGEST_DATAGRAM: usize = 65_535;

struct Port {
    socket: Rc<UdpSocket>,
    receiving: AbortHandle,
    flows: usize,
}

/// All flows.
#[derive(Default)]
pub(crate) struct Flows {
    ports: BTreeMap<SocketAddr, Port>,
    flows: BTreeMap<Ends, Rc<UdpSocket>>,
    /// What opened a flow that has had no answer, to be refused if the other side does.
    unanswered: BTreeMap<Ends, Vec<u8>>,
}

/// Takes a datagram: makes what it needs and lets it in.
pub(crate) fn take(shared: &Rc<Shared>, held: Held) {
    let server = held.ends.server;
    if !shared.udp.borrow().ports.contains_key(&server) {
        let Ok(socket) = shared.bind(server) else {
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

/// Takes what the command sends to one address.
async fn receive(shared: Rc<Shared>, server: SocketAddr, socket: Rc<UdpSocket>) {
    let mut datagram = vec![0; LARGEST_DATAGRAM];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut datagram).await else {
            continue;
        };
        let ends = Ends { client, server };
        let known = shared.udp.borrow().flows.get(&ends).cloned();
        let outside = match known {
            Some(outside) => outside,
            None => match begin(&shared, ends).await {
                Ok(outside) => outside,
                Err(_) => {
                    Counters::add(&shared.counters.failed);
                    continue;
                }
            },
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
    let outside = UdpSocket::bind(any).await?;
    outside.connect(to).await?;
    let outside = Rc::new(outside);
    let mut flows = shared.udp.borrow_mut();
    if flows.flows.len() >= MOST_FLOWS {
        return Err(io::ErrorKind::QuotaExceeded.into());
    }
    flows.flows.insert(ends, Rc::clone(&outside));
    if let Some(port) = flows.ports.get_mut(&ends.server) {
        port.flows += 1;
    }
    Counters::add(&shared.counters.flows);
    spawn_local(answer(Rc::clone(shared), ends, Rc::clone(&outside)));
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
    let mut flows = shared.udp.borrow_mut();
    flows.flows.remove(&ends);
    let opened = flows.unanswered.remove(&ends);
    let Some(port) = flows.ports.get_mut(&ends.server) else {
        return;
    };
    port.flows -= 1;
    if port.flows > 0 {
        return;
    }
    port.receiving.abort();
    flows.ports.remove(&ends.server);
    if let (true, Some(frame)) = (refused, opened) {
        Counters::add(&shared.counters.refused);
        // The task that holds the socket is dropped at its next turn; then nobody is there, and
        // the stack says so.
        let shared = Rc::clone(&shared);
        spawn_local(async move {
            tokio::task::yield_now().await;
            shared.let_in(&frame);
        });
    }
}
