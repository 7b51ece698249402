//! The one seam of everything that opens or accepts a data connection: a stream of bytes over TCP or
//! over QUIC, read and written by blocking threads, and the listener that it comes from.

use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::access::Access;
use super::quic::{QuicListener, QuicStream};
use super::{ConnectionError, PATIENCE, quic, stall};
use crate::clock;
use crate::serve::signal::Socket;
use crate::transport::{QuicTotals, Transport};

/// Pause before the next attempt when nobody listens yet.
pub(super) const RETRY_GAP: Duration = Duration::from_millis(20);

/// How long a write may stand still before the other side counts as gone: longer than any outage
/// that TCP itself survives well.
pub(super) const WRITE_PATIENCE: Duration = Duration::from_secs(120);

/// Why no stream was opened.
#[derive(Debug)]
pub(super) enum Unopened {
    /// Nobody was reached.
    Unreached(io::Error),
    /// Somebody was, who is of another run.
    Refused,
}

impl From<io::Error> for Unopened {
    fn from(error: io::Error) -> Unopened {
        Unopened::Unreached(error)
    }
}

/// A stream of bytes in both directions. Clones are the same stream.
#[derive(Debug)]
pub(in crate::serve) enum Stream {
    Tcp(TcpStream),
    Quic(QuicStream),
}

impl Stream {
    /// Opens one to whoever listens at an address, or will soon.
    pub(super) fn open(address: SocketAddr, access: &Access) -> Result<Stream, Unopened> {
        match access.transport {
            Transport::Tcp => Ok(Stream::Tcp(reach(address)?)),
            Transport::Quic { mtu_bytes } => {
                let stream = quic::connect(address, &access.secret, mtu_bytes)?;
                Ok(Stream::Quic(stream))
            }
        }
    }

    /// The same once more.
    pub(super) fn again(&self) -> io::Result<Stream> {
        match self {
            Stream::Tcp(stream) => stream.try_clone().map(Stream::Tcp),
            Stream::Quic(stream) => Ok(Stream::Quic(stream.clone())),
        }
    }

    /// What ends it when dropped, after everything that was written has left.
    pub(super) fn socket(&self) -> io::Result<Socket> {
        match self {
            Stream::Tcp(stream) => Ok(OwnedFd::from(stream.try_clone()?).into()),
            Stream::Quic(stream) => Ok(Socket::of(stream.end())),
        }
    }

    /// As it is for a handshake: nothing waits to be sent together, and everything has a limit.
    pub(super) fn prepare(&self) -> io::Result<()> {
        if let Stream::Tcp(stream) = self {
            stream.set_nodelay(true)?;
            stream.set_write_timeout(Some(WRITE_PATIENCE))?;
        }
        self.limit_reading(Some(PATIENCE))
    }

    /// How long a read may wait; for ever if not at all.
    pub(super) fn limit_reading(&self, limit: Option<Duration>) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.set_read_timeout(limit),
            Stream::Quic(stream) => {
                stream.limit_reading(limit);
                Ok(())
            }
        }
    }

    /// That limit.
    pub(super) fn reading_limit(&self) -> io::Result<Option<Duration>> {
        match self {
            Stream::Tcp(stream) => stream.read_timeout(),
            Stream::Quic(stream) => Ok(stream.reading_limit()),
        }
    }

    /// Makes more of a read that waited for too long: whether the link or the other side is at fault.
    pub(super) fn explain(&self, error: ConnectionError, seconds: u64) -> ConnectionError {
        match self {
            Stream::Tcp(stream) => stall::explain(stream, error, seconds),
            Stream::Quic(stream) => stream.explain(error, seconds),
        }
    }

    /// What counts below the frames, where the process itself knows.
    pub(super) fn counts(&self) -> Option<Counts> {
        match self {
            Stream::Tcp(_) => None,
            Stream::Quic(stream) => Some(Counts(stream.clone())),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Quic(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Quic(stream) => stream.write(bytes),
        }
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write_vectored(parts),
            Stream::Quic(stream) => stream.write_together(parts),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Counts below the frames, which can be read as long as the process lives.
#[derive(Debug)]
pub(super) struct Counts(QuicStream);

impl Counts {
    pub(super) fn read(&self) -> QuicTotals {
        self.0.totals()
    }
}

/// Connects over TCP.
fn reach(address: SocketAddr) -> io::Result<TcpStream> {
    let nanoseconds = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    let give_up = clock::now().saturating_add(nanoseconds(PATIENCE));
    loop {
        let left = Duration::from_nanos(give_up.saturating_sub(clock::now()).max(1));
        match TcpStream::connect_timeout(&address, left) {
            Err(error)
                if error.kind() == io::ErrorKind::ConnectionRefused && clock::now() < give_up =>
            {
                clock::sleep_until(clock::now() + nanoseconds(RETRY_GAP));
            }
            other => return other,
        }
    }
}

/// Takes connections.
#[derive(Debug)]
pub(in crate::serve) enum Listener {
    Tcp(TcpListener),
    Quic(QuicListener),
}

impl Listener {
    /// Listens at an address of this node, until the socket is dropped.
    pub(in crate::serve) fn bind(
        address: SocketAddr,
        access: &Access,
    ) -> io::Result<(Listener, Socket)> {
        match access.transport {
            // The standard library sets SO_REUSEADDR: the port of the phase before may be in TIME-WAIT.
            Transport::Tcp => {
                let listener = TcpListener::bind(address)?;
                let socket = OwnedFd::from(listener.try_clone()?).into();
                Ok((Listener::Tcp(listener), socket))
            }
            Transport::Quic { mtu_bytes } => {
                let (listener, end) = quic::listen(address, &access.secret, mtu_bytes)?;
                Ok((Listener::Quic(listener), Socket::of(end)))
            }
        }
    }

    /// The next connection; `None` when the listener has been ended.
    ///
    /// # Errors
    /// Listening failed.
    pub(in crate::serve) fn accept(&self) -> io::Result<Option<(Stream, SocketAddr)>> {
        use nix::errno::Errno;
        match self {
            Listener::Tcp(listener) => loop {
                match listener.accept() {
                    Ok((stream, peer)) => return Ok(Some((Stream::Tcp(stream), peer))),
                    Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                        // It has been shut down.
                        Some(Errno::EINVAL) => return Ok(None),
                        Some(Errno::ECONNABORTED | Errno::EINTR | Errno::EPROTO) => {}
                        _ => return Err(error),
                    },
                }
            },
            Listener::Quic(listener) => Ok(listener
                .accept()
                .map(|(stream, peer)| (Stream::Quic(stream), peer))),
        }
    }

    /// Where it listens.
    #[cfg(test)]
    pub(in crate::serve) fn address(&self) -> SocketAddr {
        match self {
            Listener::Tcp(listener) => listener.local_addr().unwrap(),
            Listener::Quic(listener) => listener.address(),
        }
    }
}
