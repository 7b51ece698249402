//! Opening a connection: the connecting side shows the secret, the listening side checks it.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::{ConnectionError, Frame, FrameReader, FrameWriter, PayloadCounter};
use crate::clock;
use crate::serve::error::JobError;
use crate::serve::secret::Secret;
use crate::serve::signal::Socket;
use crate::wire::{FrameKind, SECRET_BYTES};

/// How long opening a connection may take: the edge may still be loading its model, and the link
/// may be in an outage.
const PATIENCE: Duration = Duration::from_secs(60);

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

/// Connects to the edge and shows it the secret.
pub(in crate::serve) fn connect(
    address: SocketAddr,
    secret: &Secret,
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
    writer
        .write(FrameKind::Hello, 0, 0, secret.bytes())
        .map_err(broken)?;
    let welcome = reader.read(&|kind| (kind == FrameKind::Hello).then_some(0));
    match welcome.map_err(refusal).map_err(broken)? {
        Some(Frame { .. }) => {}
        None => return Err(broken(ConnectionError::Refused)),
    }
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

/// Checks the secret of whoever has connected and lets it in, or closes the connection.
pub(in crate::serve) fn accept(
    stream: TcpStream,
    peer: SocketAddr,
    secret: &Secret,
    counter: &PayloadCounter,
) -> Result<Connection, ConnectionError> {
    let open = ConnectionError::Read;
    prepare(&stream).map_err(open)?;
    let down = stream.try_clone().map_err(open)?;
    let socket = stream.try_clone().map_err(open)?;
    let mut reader = FrameReader::new(stream, &counter.up);
    let hello = reader.read(&|kind| (kind == FrameKind::Hello).then_some(SECRET_BYTES))?;
    if !secret.matches(&hello.ok_or(ConnectionError::Closed)?.body) {
        return Err(ConnectionError::WrongSecret);
    }
    let mut writer = FrameWriter::new(down, &counter.down);
    writer.write(FrameKind::Hello, 0, 0, &[])?;
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
