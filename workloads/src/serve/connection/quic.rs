//! Streams of bytes over QUIC, with the face of a blocking socket.
//!
//! One runtime on a thread of its own (`hx-quic`) owns all endpoints of the process: sockets, timers,
//! acknowledgements. Whoever reads or writes waits in its own thread. A connection carries one
//! bidirectional stream, in order as TCP is.
//!
//! There is no idle timeout and nothing is sent to keep a connection alive: an outage may last as long as
//! whoever waits has patience, and a link on which nothing is to be sent carries nothing. That the process
//! at the other end has gone, which TCP learns from a reset, is asked of its node (`presence`) once nothing
//! has come for a while.

mod keys;
mod presence;
mod runtime;

#[cfg(test)]
mod tests;

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use nix::sys::socket::{setsockopt, sockopt};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Endpoint, EndpointConfig, Incoming, RecvStream, SendStream, ServerConfig,
    TokioRuntime, TransportConfig, VarInt,
};
use tokio::runtime::Handle;
use tokio::sync::{Mutex as AsyncMutex, Semaphore, oneshot};
use tokio::time::{sleep, timeout};

pub(in crate::serve) use runtime::settle;

use super::stream::{RETRY_GAP, Unopened, WRITE_PATIENCE};
use super::{ConnectionError, PATIENCE};
use crate::serve::coordinator::LAST_BYTES_LIMIT;
use crate::serve::secret::Secret;
use crate::transport::{QuicTotals, UDP_HEADER_BYTES, ip_header_bytes};

/// The name that TLS wants to hear; keys are what counts.
const SERVER_NAME: &str = "hexloop";

/// The smallest datagram that QUIC works with (RFC 9000, 14). Links take IP packets of 1280 bytes at least.
const LEAST_DATAGRAM_BYTES: u32 = 1200;

/// What may be on the way: more than rate times round trip of any link that a run may emulate well.
const WINDOW_BYTES: u32 = 16 << 20;

/// Asked of the kernel for datagrams that come in bursts; it gives what it allows.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// Until the first round trip is measured, half of what RFC 9002 says: a lost first datagram is sent again
/// three times that later.
const INITIAL_ROUND_TRIP: Duration = Duration::from_millis(166);

/// How long the first attempt to connect may take; each further one twice as long.
const FIRST_ATTEMPT: Duration = Duration::from_secs(1);

/// Connections that may be opening at a time.
const MAX_OPENING: usize = 16;

/// How long an acknowledgement may take where it is to be told whether any come.
const ACKNOWLEDGEMENT_PATIENCE: Duration = Duration::from_secs(3);

/// A stream. Clones are the same stream.
#[derive(Debug, Clone)]
pub(in crate::serve) struct QuicStream(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    runtime: Handle,
    connection: quinn::Connection,
    send: AsyncMutex<SendStream>,
    receive: AsyncMutex<RecvStream>,
    reading_limit: Mutex<Option<Duration>>,
    /// Datagrams that asked the other node whether its process is there.
    asked: AtomicU64,
}

impl Inner {
    fn peer(&self) -> SocketAddr {
        self.connection.remote_address()
    }
}

impl QuicStream {
    fn new(
        runtime: Handle,
        connection: quinn::Connection,
        (send, receive): (SendStream, RecvStream),
    ) -> QuicStream {
        QuicStream(Arc::new(Inner {
            runtime,
            connection,
            send: AsyncMutex::new(send),
            receive: AsyncMutex::new(receive),
            reading_limit: Mutex::new(None),
            asked: AtomicU64::new(0),
        }))
    }

    pub(super) fn limit_reading(&self, limit: Option<Duration>) {
        *self
            .0
            .reading_limit
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = limit;
    }

    pub(super) fn reading_limit(&self) -> Option<Duration> {
        *self
            .0
            .reading_limit
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What has come; 0 at the end of the stream.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = self.reading_limit();
        let peer = self.0.peer();
        self.0.runtime.block_on(async {
            let mut receive = self.0.receive.lock().await;
            tokio::select! {
                biased;
                read = receive.read(buffer) => after_reading(read),
                () = silence(limit) => Err(io::ErrorKind::TimedOut.into()),
                () = presence::ends(peer, &self.0.asked) => Err(gone(peer)),
            }
        })
    }

    /// Takes all of it, and returns when it is in the stream's window.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.write_together(&[IoSlice::new(bytes)])
    }

    /// The same of several parts, as if they were one: no packet ends between them for want of the next. They are
    /// copied, once, since the stream keeps what it sends until that is acknowledged.
    pub(super) fn write_together(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut chunks: Vec<Bytes> = parts
            .iter()
            .filter(|part| !part.is_empty())
            .map(|part| Bytes::copy_from_slice(part))
            .collect();
        let length = chunks.iter().map(Bytes::len).sum();
        self.0.runtime.block_on(async {
            let written = async {
                let mut send = self.0.send.lock().await;
                send.write_all_chunks(&mut chunks).await
            };
            match timeout(WRITE_PATIENCE, written).await {
                Ok(Ok(())) => Ok(length),
                Ok(Err(error)) => Err(io::Error::new(io::ErrorKind::BrokenPipe, error)),
                Err(_elapsed) => Err(io::ErrorKind::TimedOut.into()),
            }
        })
    }

    /// Tells a read that waited for too long from one that failed. QUIC at the other end acknowledges
    /// whatever its process does, so an empty stream of its own says whether anything gets through.
    pub(super) fn explain(&self, error: ConnectionError, seconds: u64) -> ConnectionError {
        let waited = matches!(&error, ConnectionError::Read(error) if error.kind() == io::ErrorKind::TimedOut);
        if !waited {
            return error;
        }
        let peer = self.0.peer();
        let connection = &self.0.connection;
        self.0.runtime.block_on(async {
            let acknowledged = async {
                let mut probe = connection.open_uni().await.ok()?;
                probe.finish().ok()?;
                probe.stopped().await.ok()
            };
            tokio::select! {
                acknowledged = timeout(ACKNOWLEDGEMENT_PATIENCE, acknowledged) => match acknowledged {
                    Ok(Some(_)) => ConnectionError::PeerSilent { seconds },
                    // It has been closed meanwhile.
                    Ok(None) => ConnectionError::Closed,
                    Err(_elapsed) => ConnectionError::NothingAcknowledged { seconds },
                },
                true = presence::refused(peer, &self.0.asked) => ConnectionError::Read(gone(peer)),
            }
        })
    }

    /// What ends it when dropped.
    pub(super) fn end(&self) -> End {
        End(Ending::Stream(self.clone()))
    }

    pub(super) fn totals(&self) -> QuicTotals {
        let stats = self.0.connection.stats();
        // Each is one byte long.
        let asked = self.0.asked.load(Ordering::Relaxed);
        QuicTotals {
            sent_datagrams: stats.udp_tx.datagrams + asked,
            sent_bytes: stats.udp_tx.bytes + asked,
            received_datagrams: stats.udp_rx.datagrams,
            received_bytes: stats.udp_rx.bytes,
            lost_packets: stats.path.lost_packets,
        }
    }

    /// Lets everything that was written arrive, as far as it does within the limit, and closes.
    async fn finish(self) {
        let finished = async {
            let mut send = self.0.send.lock().await;
            // An error means that there is nothing left to wait for.
            if send.finish().is_ok() {
                let stopped = send.stopped();
                drop(send);
                let _acknowledged = stopped.await;
            }
        };
        let _in_time = timeout(LAST_BYTES_LIMIT, finished).await;
        self.0.connection.close(VarInt::from_u32(0), b"");
        // The connection's own task was woken first, and sends that it is closed.
        tokio::task::yield_now().await;
    }
}

/// After so long; never if not at all.
async fn silence(limit: Option<Duration>) {
    match limit {
        Some(limit) => sleep(limit).await,
        None => std::future::pending().await,
    }
}

fn gone(peer: SocketAddr) -> io::Error {
    let what = format!("the process at the other end has gone: nobody listens at {peer} any more");
    io::Error::new(io::ErrorKind::ConnectionAborted, what)
}

/// As a socket says it: 0 after an orderly end, of either side.
fn after_reading(read: Result<Option<usize>, quinn::ReadError>) -> io::Result<usize> {
    use quinn::{ConnectionError as Lost, ReadError};
    match read {
        Ok(count) => Ok(count.unwrap_or(0)),
        Err(ReadError::ClosedStream) => Ok(0),
        Err(ReadError::ConnectionLost(Lost::ApplicationClosed(_) | Lost::LocallyClosed)) => Ok(0),
        Err(error) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, error)),
    }
}

/// Ends something when it is dropped.
#[derive(Debug)]
pub(in crate::serve) struct End(Ending);

#[derive(Debug)]
enum Ending {
    Stream(QuicStream),
    Listener(Option<oneshot::Sender<()>>),
}

impl Drop for End {
    fn drop(&mut self) {
        match &mut self.0 {
            Ending::Stream(stream) => {
                let handle = stream.0.runtime.clone();
                runtime::spawn_last(&handle, stream.clone().finish());
            }
            Ending::Listener(ended) => drop(ended.take()),
        }
    }
}

/// Takes connections.
#[derive(Debug)]
pub(in crate::serve) struct QuicListener {
    came: Receiver<(QuicStream, SocketAddr)>,
    #[cfg(test)]
    address: SocketAddr,
}

impl QuicListener {
    /// The next one; `None` when the listener has been ended.
    pub(super) fn accept(&self) -> Option<(QuicStream, SocketAddr)> {
        self.came.recv().ok()
    }

    #[cfg(test)]
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Listens at an address of this node. Who does not have the run's key is turned away before anybody hears
/// of it.
pub(super) fn listen(
    address: SocketAddr,
    secret: &Secret,
    mtu_bytes: u32,
) -> io::Result<(QuicListener, End)> {
    let handle = runtime::handle()?;
    let keys = keys::listening(secret).map_err(io::Error::other)?;
    let keys = QuicServerConfig::try_from(keys).map_err(io::Error::other)?;
    let mut config = ServerConfig::with_crypto(Arc::new(keys));
    let datagram_bytes = datagram_bytes(address, mtu_bytes);
    config.transport_config(Arc::new(transport(datagram_bytes)));
    let endpoint = endpoint(&handle, address, Some(config), datagram_bytes)?;
    #[cfg(test)]
    let address = endpoint.local_addr()?;
    let (took, came) = mpsc::channel();
    let (ended, mut ends) = oneshot::channel::<()>();
    let own = handle.clone();
    handle.spawn(async move {
        let places = Arc::new(Semaphore::new(MAX_OPENING));
        loop {
            let incoming = tokio::select! {
                incoming = endpoint.accept() => incoming,
                _ = &mut ends => None,
            };
            let Some(incoming) = incoming else { break };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                incoming.refuse();
                continue;
            };
            let (took, own) = (took.clone(), own.clone());
            tokio::spawn(async move {
                let peer = incoming.remote_address();
                match timeout(PATIENCE, admit(incoming)).await {
                    Ok(Ok((connection, streams))) => {
                        // Nobody may want it any more.
                        let _unwanted =
                            took.send((QuicStream::new(own, connection, streams), peer));
                    }
                    Ok(Err(error)) if is_about_keys(&error) => {
                        let error = ConnectionError::WrongSecret;
                        eprintln!("connection from {peer} refused: {error}");
                    }
                    // It came and went, or did not come to its end.
                    Ok(Err(_)) | Err(_) => {}
                }
                drop(place);
            });
        }
        endpoint.set_server_config(None);
    });
    let listener = QuicListener {
        came,
        #[cfg(test)]
        address,
    };
    Ok((listener, End(Ending::Listener(Some(ended)))))
}

/// Lets one connection in, and waits for its stream.
async fn admit(
    incoming: Incoming,
) -> Result<(quinn::Connection, (SendStream, RecvStream)), quinn::ConnectionError> {
    let connection = incoming.accept()?.await?;
    let streams = connection.accept_bi().await?;
    Ok((connection, streams))
}

/// Connects to whoever listens at an address, or will soon.
pub(super) fn connect(
    address: SocketAddr,
    secret: &Secret,
    mtu_bytes: u32,
) -> Result<QuicStream, Unopened> {
    let handle = runtime::handle()?;
    let keys = keys::connecting(secret).map_err(io::Error::other)?;
    let keys = QuicClientConfig::try_from(keys).map_err(io::Error::other)?;
    let mut config = ClientConfig::new(Arc::new(keys));
    let datagram_bytes = datagram_bytes(address, mtu_bytes);
    config.transport_config(Arc::new(transport(datagram_bytes)));
    let own = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let endpoint = endpoint(&handle, own, None, datagram_bytes)?;
    let asked = AtomicU64::new(0);
    let opened = handle.block_on(async {
        let opened = open(&endpoint, &config, address, &asked);
        match timeout(PATIENCE, opened).await {
            Ok(opened) => opened,
            Err(_elapsed) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    });
    let (connection, streams) = opened?;
    let stream = QuicStream::new(handle, connection, streams);
    let asked = asked.load(Ordering::Relaxed);
    stream.0.asked.store(asked, Ordering::Relaxed);
    Ok(stream)
}

/// Tries until somebody answers.
async fn open(
    endpoint: &Endpoint,
    config: &ClientConfig,
    address: SocketAddr,
    asked: &AtomicU64,
) -> Result<(quinn::Connection, (SendStream, RecvStream)), Unopened> {
    let mut limit = FIRST_ATTEMPT;
    loop {
        let attempt = endpoint.connect_with(config.clone(), address, SERVER_NAME);
        let attempt = attempt.map_err(io::Error::other)?;
        tokio::select! {
            made = attempt => match made {
                Ok(connection) => {
                    let streams = connection.open_bi().await.map_err(io::Error::other)?;
                    return Ok((connection, streams));
                }
                Err(error) if is_about_keys(&error) => return Err(Unopened::Refused),
                // The listener has all that it can do.
                Err(quinn::ConnectionError::ConnectionClosed(_)) => sleep(RETRY_GAP).await,
                Err(error) => return Err(io::Error::other(error).into()),
            },
            // Nobody listens there yet.
            true = presence::refused(address, asked) => sleep(RETRY_GAP).await,
            () = sleep(limit) => limit *= 2,
        }
    }
}

/// Whether a handshake failed because one side did not have the key that the other expected: TLS said so.
fn is_about_keys(error: &quinn::ConnectionError) -> bool {
    let code = match error {
        quinn::ConnectionError::TransportError(error) => error.code,
        quinn::ConnectionError::ConnectionClosed(close) => close.error_code,
        _ => return false,
    };
    // RFC 9001, 4.8: CRYPTO_ERROR and the alert.
    (0x100..0x200).contains(&u64::from(code))
}

/// The largest datagram that fits into the link's packets.
fn datagram_bytes(address: SocketAddr, mtu_bytes: u32) -> u16 {
    let headers = ip_header_bytes(address.ip()) + UDP_HEADER_BYTES;
    let bytes = mtu_bytes.saturating_sub(headers).max(LEAST_DATAGRAM_BYTES);
    u16::try_from(bytes).unwrap_or(u16::MAX)
}

fn transport(datagram_bytes: u16) -> TransportConfig {
    let mut config = TransportConfig::default();
    let window = VarInt::from_u32(WINDOW_BYTES);
    config
        // What the link takes is known: nothing is sent to find out.
        .initial_mtu(datagram_bytes)
        .min_mtu(datagram_bytes)
        .mtu_discovery_config(None)
        .initial_rtt(INITIAL_ROUND_TRIP)
        .max_idle_timeout(None)
        .keep_alive_interval(None)
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .stream_receive_window(window)
        .receive_window(window)
        .send_window(u64::from(WINDOW_BYTES))
        .datagram_receive_buffer_size(None);
    config
}

fn endpoint(
    handle: &Handle,
    address: SocketAddr,
    server: Option<ServerConfig>,
    datagram_bytes: u16,
) -> io::Result<Endpoint> {
    let socket = UdpSocket::bind(address)?;
    // Where the kernel gives less, more is lost in bursts, and sent again.
    let _as_much = setsockopt(&socket, sockopt::RcvBuf, &SOCKET_BUFFER_BYTES);
    let _as_much = setsockopt(&socket, sockopt::SndBuf, &SOCKET_BUFFER_BYTES);
    let mut config = EndpointConfig::default();
    config
        .max_udp_payload_size(datagram_bytes)
        .map_err(io::Error::other)?;
    let _entered = handle.enter();
    Endpoint::new(config, server, socket, Arc::new(TokioRuntime))
}
