//! Opening a connection: the connecting side shows the secret, the listening side checks it.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::stall;
use super::terms::Terms;
use super::{ConnectionError, FrameReader, FrameWriter, PayloadCounter};
use crate::clock;
use crate::serve::error::JobError;
use crate::serve::secret::{self, Secret};
use crate::serve::signal::Socket;
use crate::wire::{DRAFT_TERMS_BYTES, FrameError, FrameKind, SECRET_BYTES, TERMS_BYTES};

/// How long opening a connection may take: the edge may still be loading its model, and the link
/// may be in an outage.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest terms: those of two models.
const MOST_TERMS_BYTES: u64 = TERMS_BYTES + DRAFT_TERMS_BYTES;

/// Pause before the next attempt when nobody listens yet.
const RETRY_GAP_NS: u64 = 20_000_000;

/// How long a write may stand still before the other side counts as gone: longer than any outage
/// that TCP itself survives well.
const WRITE_PATIENCE: Duration = Duration::from_secs(120);

/// An authenticated connection.
#[derive(Debug)]
pub(in crate::serve) struct Connection {
    pub(in crate::serve) reader: FrameReader<TcpStream>,
    pub(in crate::serve) writer: FrameWriter<TcpStream>,
    /// Ends both when dropped.
    pub(in crate::serve) socket: Socket,
    pub(in crate::serve) peer: SocketAddr,
}

impl Connection {
    /// Gives up reading when nothing has come for so long.
    pub(in crate::serve) fn limit_silence(&mut self, limit: Duration) -> io::Result<()> {
        let stream = self.reader.stream();
        stream.set_read_timeout(Some(limit))?;
        let probe = stream.try_clone()?;
        let seconds = limit.as_secs();
        self.reader.explain_errors(Box::new(move |error| {
            stall::explain(&probe, error, seconds)
        }));
        Ok(())
    }
}

/// Connects to whoever serves at an address, shows the secret, and checks that it holds the model
/// and the layers that are needed.
pub(in crate::serve) fn connect(
    address: SocketAddr,
    (secret, needed): (&Secret, &Terms),
    counter: &PayloadCounter,
) -> Result<Connection, JobError> {
    let open = |source| JobError::Connect { address, source };
    let broken = |source| JobError::Connection {
        peer: address,
        source,
    };
    let stream = reach(address).map_err(open)?;
    let up = stream.try_clone().map_err(open)?;
    let socket = stream.try_clone().map_err(open)?;
    prepare(&stream).map_err(open)?;
    let mut writer = FrameWriter::new(up, &counter.up);
    let mut reader = FrameReader::new(stream, &counter.down);
    let shown = [secret.bytes(), &needed.encode()].concat();
    writer
        .write(FrameKind::Hello, 0, 0, &shown)
        .map_err(broken)?;
    let welcome = reader.read(&|kind| (kind == FrameKind::Hello).then_some(MOST_TERMS_BYTES));
    let welcome = welcome.map_err(refusal).map_err(broken)?;
    let welcome = welcome.ok_or_else(|| broken(ConnectionError::Refused))?;
    let held = Terms::decode(&welcome.body);
    let held = held.ok_or_else(|| broken(welcome.content_error("it holds no terms")))?;
    needed.check(&held).map_err(broken)?;
    socket.set_read_timeout(None).map_err(open)?;
    Ok(Connection {
        reader,
        writer,
        socket: OwnedFd::from(socket).into(),
        peer: address,
    })
}

/// A connection that is reset in answer to the secret was refused.
fn refusal(error: ConnectionError) -> ConnectionError {
    match error {
        ConnectionError::Read(error) if error.kind() == io::ErrorKind::ConnectionReset => {
            ConnectionError::Refused
        }
        other => other,
    }
}

fn reach(address: SocketAddr) -> io::Result<TcpStream> {
    let patience_ns = u64::try_from(PATIENCE.as_nanos()).unwrap_or(u64::MAX);
    let give_up = clock::now().saturating_add(patience_ns);
    loop {
        let left = Duration::from_nanos(give_up.saturating_sub(clock::now()).max(1));
        match TcpStream::connect_timeout(&address, left) {
            Err(error)
                if error.kind() == io::ErrorKind::ConnectionRefused && clock::now() < give_up =>
            {
                clock::sleep_until(clock::now() + RETRY_GAP_NS);
            }
            other => return other,
        }
    }
}

/// Checks the secret of whoever has connected, answers with what is held here, and lets it in if
/// that is what it needs; or closes the connection.
pub(in crate::serve) fn accept(
    stream: TcpStream,
    peer: SocketAddr,
    (secret, held): (&Secret, &Terms),
    counter: &PayloadCounter,
) -> Result<Connection, ConnectionError> {
    let open = ConnectionError::Read;
    prepare(&stream).map_err(open)?;
    let down = stream.try_clone().map_err(open)?;
    let socket = stream.try_clone().map_err(open)?;
    let mut reader = FrameReader::new(stream, &counter.up);
    let mut writer = FrameWriter::new(down, &counter.down);
    let limit = SECRET_BYTES + MOST_TERMS_BYTES;
    let hello = match reader.read(&|kind| (kind == FrameKind::Hello).then_some(limit)) {
        Err(error @ ConnectionError::Foreign(FrameError::Version { .. })) => {
            // The header of the answer tells it the version of this side, and nothing else does.
            writer.write(FrameKind::Hello, 0, 0, &[])?;
            return Err(error);
        }
        other => other?.ok_or(ConnectionError::Closed)?,
    };
    let (shown, needed) = hello.body.split_at(hello.body.len().min(secret::LENGTH));
    if !secret.matches(shown) {
        return Err(ConnectionError::WrongSecret);
    }
    let needed = Terms::decode(needed);
    let needed = needed.ok_or_else(|| hello.content_error("it holds no terms"))?;
    writer.write(FrameKind::Hello, 0, 0, &held.encode())?;
    needed.check(held)?;
    socket.set_read_timeout(None).map_err(open)?;
    Ok(Connection {
        reader,
        writer,
        socket: OwnedFd::from(socket).into(),
        peer,
    })
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(WRITE_PATIENCE))
}
