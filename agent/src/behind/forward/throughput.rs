//! What the way through the forwarder carries when nothing is shaped: its limit, measured.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use hexloop_traces::Direction;
use hexloop_workloads::clock;

use crate::namespace::NetworkNamespace;

/// How long each direction is filled.
const FLOW_NS: u64 = 150_000_000;

/// How long anything may take that takes no time where things work.
const LIMIT: Duration = Duration::from_secs(5);

const PIECE_BYTES: usize = 128 << 10;

/// Bits per second of one TCP connection between the command's network and the caller's loopback,
/// in the order of [`Direction::BOTH`]. The link must not be playing.
///
/// # Errors
/// A connection failed, or nothing arrived.
pub(crate) fn measure(command: &NetworkNamespace, gateway: IpAddr) -> io::Result<[u64; 2]> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let server = SocketAddr::new(gateway, listener.local_addr()?.port());
    let mut found = [0; 2];
    for (place, direction) in found.iter_mut().zip(Direction::BOTH) {
        *place = thread::scope(|scope| {
            let outside = scope.spawn(|| {
                let (stream, _) = listener.accept()?;
                one_side(stream, direction == Direction::Down)
            });
            let inside = command
                .run(|| {
                    let stream = TcpStream::connect_timeout(&server, LIMIT);
                    if stream.is_err() {
                        // The other side waits for a connection that never comes.
                        drop(TcpStream::connect(listener.local_addr()?));
                    }
                    one_side(stream?, direction == Direction::Up)
                })
                .map_err(io::Error::other)?;
            let outside = outside
                .join()
                .map_err(|_panic| io::Error::other("the measuring thread panicked"))?;
            let [sender, receiver] = match direction {
                Direction::Up => [inside, outside],
                Direction::Down => [outside, inside],
            };
            sender?;
            receiver
        })?;
    }
    Ok(found)
}

/// Sends for a while, or receives until the end and says how fast that was.
fn one_side(mut stream: TcpStream, sends: bool) -> io::Result<u64> {
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let mut piece = vec![0; PIECE_BYTES];
    if sends {
        let end = clock::now() + FLOW_NS;
        while clock::now() < end {
            stream.write_all(&piece)?;
        }
        stream.shutdown(Shutdown::Write)?;
        return Ok(0);
    }
    let mut bytes = 0_u64;
    let mut start = None;
    loop {
        let length = stream.read(&mut piece)?;
        let now = clock::now();
        let start = *start.get_or_insert(now);
        if length == 0 {
            let ns = now.saturating_sub(start).max(1);
            let bits = u128::from(bytes) * 8 * 1_000_000_000 / u128::from(ns);
            return match u64::try_from(bits) {
                Ok(bits) if bytes > 0 => Ok(bits),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
        bytes += u64::try_from(length).map_err(io::Error::other)?;
    }
}
