//! The connection of a driver to the next node of its path.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::serve::connection::{
    Access, ConnectionError, Frame, FrameReader, FrameWriter, PayloadCounter, Stream, Terms,
    connect,
};
use crate::serve::error::JobError;
use crate::serve::signal::Socket;
use crate::wire::{FrameKind, HEADER_BYTES};

/// Bodies up to this length find room in the buffers of both ends, whatever those do meanwhile.
const BUFFERED_BYTES: usize = 16 << 10;

/// The way to the next node.
pub(super) struct Path {
    pub(super) next: Option<SocketAddr>,
    pub(super) access: Access,
    pub(super) counter: Arc<PayloadCounter>,
}

/// The connection to the next node.
pub(super) struct Link {
    reader: FrameReader<Stream>,
    writer: FrameWriter<Stream>,
    peer: SocketAddr,
    /// Bytes since they were last taken, headers included.
    written: u64,
    read: u64,
}

impl Link {
    /// Connects to whoever holds what is needed, and gives up on it when it is silent for longer than
    /// `timeout_ns`.
    pub(super) fn open(
        (address, path): (SocketAddr, &Path),
        needed: &Terms,
        timeout_ns: u64,
    ) -> Result<(Link, Socket), JobError> {
        let mut connection = connect(address, (&path.access, needed), &path.counter)?;
        let patience = Duration::from_nanos(timeout_ns);
        connection
            .limit_silence(patience)
            .map_err(|source| JobError::Connect { address, source })?;
        let link = Link {
            reader: connection.reader,
            writer: connection.writer,
            peer: connection.peer,
            written: 0,
            read: 0,
        };
        Ok((link, connection.socket))
    }

    fn broken(&self) -> impl Fn(ConnectionError) -> JobError + Copy + use<> {
        let peer = self.peer;
        move |source| JobError::Connection { peer, source }
    }

    pub(super) fn write(
        &mut self,
        (kind, request): (FrameKind, u32),
        position: u32,
        body: &[u8],
    ) -> Result<(), JobError> {
        let written = self.writer.write(kind, request, position, body);
        self.written += written.map_err(self.broken())?;
        Ok(())
    }

    /// The next frame, of one of these kinds and no longer than that.
    pub(super) fn read(
        &mut self,
        expected: &[FrameKind],
        most_bytes: u64,
    ) -> Result<Frame, JobError> {
        let frame = self
            .reader
            .read(&|kind| expected.contains(&kind).then_some(most_bytes));
        self.counted(frame)
    }

    fn counted(
        &mut self,
        frame: Result<Option<Frame>, ConnectionError>,
    ) -> Result<Frame, JobError> {
        let frame = frame.and_then(|frame| frame.ok_or(ConnectionError::Closed));
        let frame = frame.map_err(self.broken())?;
        self.read += HEADER_BYTES + u64::from(frame.header.body_bytes);
        Ok(frame)
    }

    /// Writes a frame and reads the next one, of the same kind, at the same time: a long body that waits for room
    /// at the other end does not keep it from sending its own.
    pub(super) fn exchange(
        &mut self,
        (kind, request): (FrameKind, u32),
        position: u32,
        body: &[u8],
    ) -> Result<Frame, JobError> {
        let most_bytes = u64::try_from(body.len()).unwrap_or(u64::MAX);
        if body.len() <= BUFFERED_BYTES {
            self.write((kind, request), position, body)?;
            return self.read(&[kind], most_bytes);
        }
        let Link { reader, writer, .. } = self;
        let (written, read) = std::thread::scope(|scope| {
            let writing = scope.spawn(move || writer.write(kind, request, position, body));
            let read = reader.read(&|came| (came == kind).then_some(most_bytes));
            (writing.join(), read)
        });
        let written = written.map_err(|_panic| JobError::ThreadLost)?;
        self.written += written.map_err(self.broken())?;
        self.counted(read)
    }

    /// Bytes that were written and read since this was last asked.
    pub(super) fn take_counts(&mut self) -> (u64, u64) {
        let counts = (self.written, self.read);
        (self.written, self.read) = (0, 0);
        counts
    }

    /// Whether a frame begins to come within so long. Nothing of it is taken.
    pub(super) fn comes_within(&mut self, patience: Duration) -> Result<bool, JobError> {
        self.reader.comes_within(patience).map_err(self.broken())
    }

    /// A frame that makes no sense, and why.
    pub(super) fn wrong(&self, frame: &Frame, why: &str) -> JobError {
        self.broken()(frame.content_error(why))
    }
}
