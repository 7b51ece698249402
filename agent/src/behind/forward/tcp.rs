//! TCP connections through the forwarder. The stack beside the gate ends the command's
//! connection, and a socket in the caller's network carries on; bytes, ends and resets are
//! carried over.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::rc::Rc;
use std::time::Duration;

use nix::sys::socket::{Shutdown, shutdown};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::timeout;

use super::classify::Ends;
use super::gate::Held;
use super::{Counters, Shared, is_want_of_sockets};

/// How long the other side may take to answer; the kernel's own limit is about the same.
const CONNECT_LIMIT: Duration = Duration::from_secs(130);

/// How long the command may take to complete the handshake over the slowest link.
const ACCEPT_LIMIT: Duration = Duration::from_secs(60);

/// Bytes read at once.
const PIECE_BYTES: usize = 256 << 10;

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The other side has not answered: the stack must not see the command's first segment.
    Connecting,
    /// It has: the stack sees every segment.
    LetIn,
}

/// Who waits to be accepted at one address.
struct Doorway {
    waiting: BTreeMap<SocketAddr, oneshot::Sender<TcpStream>>,
    accepting: AbortHandle,
}

/// All connections.
#[derive(Default)]
pub(crate) struct Connections {
    stages: BTreeMap<Ends, Stage>,
    doorways: BTreeMap<SocketAddr, Doorway>,
}

/// Takes the first segment of a connection, or a repetition of it.
pub(crate) fn open(shared: &Rc<Shared>, held: Held) {
    let stage = shared.tcp.borrow().stages.get(&held.ends).copied();
    match stage {
        Some(Stage::Connecting) => {}
        Some(Stage::LetIn) => shared.let_in(&held.frame),
        None => {
            let mut connections = shared.tcp.borrow_mut();
            connections.stages.insert(held.ends, Stage::Connecting);
            let shared = Rc::clone(shared);
            spawn_local(async move {
                let ends = held.ends;
                connect_and_carry(&shared, held).await;
                shared.tcp.borrow_mut().stages.remove(&ends);
            });
        }
    }
}

async fn connect_and_carry(shared: &Rc<Shared>, held: Held) {
    let outside = match timeout(
        CONNECT_LIMIT,
        TcpStream::connect(shared.outside(held.ends.server)),
    )
    .await
    {
        Ok(Ok(outside)) => outside,
        Ok(Err(error)) => {
            let counter = match is_want_of_sockets(&error) {
                true => &shared.counters.failed,
                false => &shared.counters.refused,
            };
            Counters::add(counter);
            return refuse(shared, &held).await;
        }
        // The command has given up or goes on asking.
        Err(_) => return,
    };
    let Some(inside) = accept(shared, &held).await else {
        return;
    };
    Counters::add(&shared.counters.connections);
    // Only speed is lost where that is refused.
    let _ = inside.set_nodelay(true).and(outside.set_nodelay(true));
    let there = one_way(&inside, &outside);
    let back = one_way(&outside, &inside);
    if tokio::try_join!(there, back).is_err() {
        // One side was reset or failed: the other learns it the same way.
        let _ = inside.set_zero_linger().and(outside.set_zero_linger());
    }
}

/// Lets the stack refuse the connection, which it does where nobody listens.
async fn refuse(shared: &Rc<Shared>, held: &Held) {
    while shared.tcp.borrow().doorways.contains_key(&held.ends.server) {
        shared.doorway_closed.notified().await;
    }
    shared.let_in(&held.frame);
}

/// Listens where the command wants to go, lets it in, and waits until it has come through.
async fn accept(shared: &Rc<Shared>, held: &Held) -> Option<TcpStream> {
    let Ends { client, server } = held.ends;
    let (accepted, coming) = oneshot::channel();
    {
        let mut connections = shared.tcp.borrow_mut();
        if let Some(doorway) = connections.doorways.get_mut(&server) {
            doorway.waiting.insert(client, accepted);
        } else {
            let Ok(listener) = shared.listen(server) else {
                Counters::add(&shared.counters.failed);
                // Nobody listens there, and the stack says so.
                shared.let_in(&held.frame);
                return None;
            };
            let task = spawn_local(keep_door(Rc::clone(shared), server, listener));
            let doorway = Doorway {
                waiting: BTreeMap::from([(client, accepted)]),
                accepting: task.abort_handle(),
            };
            connections.doorways.insert(server, doorway);
        }
        connections.stages.insert(held.ends, Stage::LetIn);
    }
    shared.let_in(&held.frame);
    let accepted = timeout(ACCEPT_LIMIT, coming).await;
    if accepted.is_err() {
        leave(shared, server, client);
    }
    accepted.ok()?.ok()
}

/// Accepts at one address as long as somebody is expected there.
async fn keep_door(shared: Rc<Shared>, server: SocketAddr, listener: TcpListener) {
    loop {
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if is_want_of_sockets(&error) => {
                drop(listener);
                return turn_away(&shared, server);
            }
            // Of the one that was to be accepted: it is gone (accept(2)).
            Err(_) => continue,
        };
        let empty = {
            let mut connections = shared.tcp.borrow_mut();
            let Some(doorway) = connections.doorways.get_mut(&server) else {
                return;
            };
            if let Some(accepted) = doorway.waiting.remove(&client) {
                // Who waited may just have given up.
                let _ = accepted.send(stream);
            }
            doorway.waiting.is_empty()
        };
        if empty {
            // Closed before it is said to be.
            drop(listener);
            shared.tcp.borrow_mut().doorways.remove(&server);
            shared.doorway_closed.notify_waiters();
            return;
        }
    }
}

/// No more can be accepted at one address, whose listener is gone: the stack has reset all that waited there
/// and refuses what is yet to come. Their sockets in the caller's network are closed, which makes room.
fn turn_away(shared: &Rc<Shared>, server: SocketAddr) {
    let doorway = shared.tcp.borrow_mut().doorways.remove(&server);
    for _ in doorway.into_iter().flat_map(|doorway| doorway.waiting) {
        Counters::add(&shared.counters.failed);
    }
    shared.doorway_closed.notify_waiters();
}

/// One who waited has given up.
fn leave(shared: &Rc<Shared>, server: SocketAddr, client: SocketAddr) {
    let mut connections = shared.tcp.borrow_mut();
    if let Some(doorway) = connections.doorways.get_mut(&server) {
        doorway.waiting.remove(&client);
        if doorway.waiting.is_empty() {
            doorway.accepting.abort();
            connections.doorways.remove(&server);
            shared.doorway_closed.notify_waiters();
        }
    }
}

/// Carries bytes one way until their end, which it passes on. What cannot be written is not
/// read, so that a slow reader slows the writer.
async fn one_way(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        from.readable().await?;
        let length = match from.try_read(&mut piece) {
            Ok(0) => {
                shutdown(to.as_fd().as_raw_fd(), Shutdown::Write)?;
                return Ok(());
            }
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let mut rest = &piece[..length];
        while !rest.is_empty() {
            to.writable().await?;
            match to.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}
