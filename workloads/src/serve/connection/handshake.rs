//! Opening a connection: the connecting side shows the secret, the listening side checks it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::access::Access;
use super::stream::{Stream, Unopened};
use super::terms::Terms;
use super::{ConnectionError, FrameReader, FrameWriter, PayloadCounter};
use crate::serve::error::JobError;
use crate::serve::secret;
use crate::serve::signal::Socket;
use crate::wire::{FrameError, FrameKind, SECOND_TERMS_BYTES, SECRET_BYTES, TERMS_BYTES};

/// The longest terms: those of two models.
const MOST_TERMS_BYTES: u64 = TERMS_BYTES + SECOND_TERMS_BYTES;

/// An authenticated connection.
#[derive(Debug)]
pub(in crate::serve) struct Connection {
    pub(in crate::serve) reader: FrameReader<Stream>,
    pub(in crate::serve) writer: FrameWriter<Stream>,
    /// Ends both when dropped.
    pub(in crate::serve) socket: Socket,
    pub(in crate::serve) peer: SocketAddr,
}

impl Connection {
    /// Gives up reading when nothing has come for so long.
    pub(in crate::serve) fn limit_silence(&mut self, limit: Duration) -> io::Result<()> {
        let stream = self.reader.stream();
        stream.limit_reading(Some(limit))?;
        let probe = stream.again()?;
        let seconds = limit.as_secs();
        self.reader
            .explain_errors(Box::new(move |error| probe.explain(error, seconds)));
        Ok(())
    }
}

/// Connects to whoever serves at an address, shows the secret, and checks that it holds the model
/// and the layers that are needed.
pub(in crate::serve) fn connect(
    address: SocketAddr,
    (access, needed): (&Access, &Terms),
    counter: &PayloadCounter,
) -> Result<Connection, JobError> {
    let open = |source| JobError::Connect { address, source };
    let broken = |source| JobError::Connection {
        peer: address,
        source,
    };
    let stream = Stream::open(address, access).map_err(|why| match why {
        Unopened::Unreached(source) => open(source),
        Unopened::Refused => broken(ConnectionError::Refused),
    })?;
    counter.counts_below(&stream);
    let up = stream.again().map_err(open)?;
    let opened = stream.again().map_err(open)?;
    let socket = stream.socket().map_err(open)?;
    stream.prepare().map_err(open)?;
    let mut writer = FrameWriter::new(up, &counter.up);
    let mut reader = FrameReader::new(stream, &counter.down);
    let shown = [access.secret.bytes(), &needed.encode()].concat();
    writer
        .write(FrameKind::Hello, 0, 0, &shown)
        .map_err(broken)?;
    let welcome = reader.read(&|kind| (kind == FrameKind::Hello).then_some(MOST_TERMS_BYTES));
    let welcome = welcome.map_err(refusal).map_err(broken)?;
    let welcome = welcome.ok_or_else(|| broken(ConnectionError::Refused))?;
    let held = Terms::decode(&welcome.body);
    let held = held.ok_or_else(|| broken(welcome.content_error("it holds no terms")))?;
    needed.check(&held).map_err(broken)?;
    opened.limit_reading(None).map_err(open)?;
    Ok(Connection {
        reader,
        writer,
        socket,
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

/// Checks the secret of whoever has connected, answers with what is held here, and lets it in if
/// that is what it needs; or closes the connection.
pub(in crate::serve) fn accept(
    stream: Stream,
    peer: SocketAddr,
    (access, held): (&Access, &Terms),
    counter: &PayloadCounter,
) -> Result<Connection, ConnectionError> {
    let open = ConnectionError::Read;
    stream.prepare().map_err(open)?;
    counter.counts_below(&stream);
    let down = stream.again().map_err(open)?;
    let opened = stream.again().map_err(open)?;
    // Whatever fails from here on, an answer leaves before the connection ends.
    let socket = stream.socket().map_err(open)?;
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
    if !access.secret.matches(shown) {
        return Err(ConnectionError::WrongSecret);
    }
    let needed = Terms::decode(needed);
    let needed = needed.ok_or_else(|| hello.content_error("it holds no terms"))?;
    writer.write(FrameKind::Hello, 0, 0, &held.encode())?;
    needed.check(held)?;
    opened.limit_reading(None).map_err(open)?;
    Ok(Connection {
        reader,
        writer,
        socket,
        peer,
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::super::stream::Listener;
    use super::*;
    use crate::transport::Transport;
    use crate::wire::{FrameHeader, VERSION};

    /// The opening of another version, with nothing in it.
    fn of_another_version() -> Vec<u8> {
        let header = FrameHeader {
            kind: FrameKind::Hello,
            request: 0,
            position: 0,
            body_bytes: 0,
        };
        let mut bytes = header.encode().to_vec();
        bytes[2] = VERSION + 1;
        bytes
    }

    fn terms() -> Terms {
        Terms {
            model: [7; 32],
            layers: 0..2,
            second: None,
        }
    }

    fn is_another_version(error: &ConnectionError) -> bool {
        let theirs = VERSION + 1;
        matches!(error, ConnectionError::Foreign(FrameError::Version { theirs: told }) if *told == theirs)
    }

    #[test]
    fn who_speaks_another_version_is_told_ours_and_we_say_both_over_tcp_and_quic() {
        for transport in [Transport::Tcp, Transport::Quic { mtu_bytes: 1500 }] {
            let access = Access::of(&"5a".repeat(32), transport).unwrap();
            let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
            let (listener, _socket) = Listener::bind(loopback, &access).unwrap();
            let (access, address) = (&access, listener.address());
            std::thread::scope(|scope| {
                let other = scope.spawn(move || {
                    let mut stream = Stream::open(address, access).unwrap();
                    stream.write_all(&of_another_version()).unwrap();
                    let mut answer = of_another_version();
                    stream.read_exact(&mut answer).unwrap();
                    answer
                });
                let (stream, peer) = listener.accept().unwrap().unwrap();
                let counter = PayloadCounter::default();
                let error = accept(stream, peer, (access, &terms()), &counter);
                let error = error.unwrap_err();
                assert!(is_another_version(&error), "{transport:?}: {error:?}");
                assert_eq!(other.join().unwrap()[2], VERSION, "{transport:?}");

                let ours = scope.spawn(move || {
                    let counter = PayloadCounter::default();
                    connect(address, (access, &terms()), &counter).unwrap_err()
                });
                let (mut stream, _peer) = listener.accept().unwrap().unwrap();
                stream.write_all(&of_another_version()).unwrap();
                match ours.join().unwrap() {
                    JobError::Connection { source, .. } => {
                        assert!(is_another_version(&source), "{transport:?}: {source:?}");
                    }
                    other => panic!("{transport:?}: {other:?}"),
                }
            });
        }
    }
}
