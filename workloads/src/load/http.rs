//! Connections to the server: HTTP/1.1, bounded in everything that the other side decides, with every
//! byte that crosses the socket counted and stamped.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::clock::{self, MonotonicNs};

/// The most bytes of the head of an answer.
const HEAD_BYTES: usize = 64 << 10;

/// The most fields in it.
const HEAD_FIELDS: usize = 100;

/// Reads with less than this between them are one burst: well above the gaps within what a server
/// hands to its kernel at once, well below the time of a token. (3GPP TS 23.501, section 3.1: a data
/// burst is what an application sends in a short period.)
pub const BURST_GAP_NS: u64 = 2_000_000;

/// What crossed a connection.
#[derive(Debug, Default)]
pub(super) struct Meter {
    pub(super) up: Cell<u64>,
    pub(super) down: Cell<u64>,
    /// Of the request under way.
    pub(super) first_read: Cell<Option<MonotonicNs>>,
    pub(super) last_read: Cell<Option<MonotonicNs>>,
    pub(super) bursts: RefCell<Vec<u32>>,
}

impl Meter {
    /// Begins anew, for the next request.
    fn begin(&self) {
        self.up.set(0);
        self.down.set(0);
        self.first_read.set(None);
        self.last_read.set(None);
        self.bursts.borrow_mut().clear();
    }

    fn read(&self, count: usize) {
        let now = clock::now();
        self.down
            .set(self.down.get() + u64::try_from(count).unwrap_or(0));
        if self.first_read.get().is_none() {
            self.first_read.set(Some(now));
        }
        let before = self.last_read.replace(Some(now));
        let mut bursts = self.bursts.borrow_mut();
        let goes_on = before.is_some_and(|before| now.saturating_sub(before) < BURST_GAP_NS);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        match bursts.last_mut().filter(|_| goes_on) {
            Some(burst) => *burst = burst.saturating_add(count),
            None => bursts.push(count),
        }
    }
}

/// A connection that serves one request at a time.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: http1::SendRequest<Full<Bytes>>,
    pub(super) meter: Rc<Meter>,
}

impl Connection {
    /// Connects. What the connection does then is done on the present thread's local tasks.
    pub(super) async fn open(endpoint: SocketAddr) -> Result<Connection, String> {
        let stream = TcpStream::connect(endpoint).await;
        let stream = stream.map_err(|error| error.to_string())?;
        // A request is handed over whole: nothing is gained by waiting for more.
        stream
            .set_nodelay(true)
            .map_err(|error| error.to_string())?;
        let meter = Rc::new(Meter::default());
        let metered = Metered {
            stream,
            meter: Rc::clone(&meter),
        };
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES).max_headers(HEAD_FIELDS);
        let (sender, connection) = builder
            .handshake(TokioIo::new(metered))
            .await
            .map_err(|error| error.to_string())?;
        tokio::task::spawn_local(async move {
            // Whoever waits for an answer hears of its end.
            let _ = connection.await;
        });
        Ok(Connection { sender, meter })
    }

    /// Makes it ready for the next request; whether it still can serve one.
    pub(super) async fn renew(&mut self) -> bool {
        let is_ready = self.sender.ready().await.is_ok();
        self.meter.begin();
        is_ready
    }
}

/// A socket whose bytes are counted and stamped as they are read and written.
#[derive(Debug)]
struct Metered {
    stream: TcpStream,
    meter: Rc<Meter>,
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        let count = buffer.filled().len() - before;
        if count > 0 {
            self.meter.read(count);
        }
        outcome
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = &outcome {
            let up = &self.meter.up;
            up.set(up.get() + u64::try_from(*count).unwrap_or(0));
        }
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
