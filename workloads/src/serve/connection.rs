//! Frames over a stream of bytes: read with bounds, written with one call from where they lie, and counted.

mod access;
mod body;
mod counter;
mod error;
mod handshake;
mod quic;
mod stall;
mod stream;
mod terms;

use std::fmt;
use std::io::{self, BufRead as _, BufReader, IoSlice, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(super) use access::Access;
pub(super) use body::Body;
pub(super) use counter::PayloadCounter;
pub use error::ConnectionError;
pub(super) use handshake::{Connection, accept, connect};
pub(super) use quic::{End, settle};
pub(super) use stream::{Listener, Stream};
pub(super) use terms::{Terms, fingerprint};

use crate::wire::{FrameHeader, FrameKind, HEADER_BYTES, MAX_BODY_BYTES};

/// How long opening a connection may take: the edge may still be loading its model, and the link
/// may be in an outage.
const PATIENCE: Duration = Duration::from_secs(60);

/// One frame as it was received.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) header: FrameHeader,
    pub(super) body: Body,
}

impl Frame {
    /// The body as token ids; `None` if it is not a whole number of them.
    pub(super) fn token_ids(&self) -> Option<Vec<u32>> {
        let (ids, rest) = self.body.as_chunks::<4>();
        rest.is_empty()
            .then(|| ids.iter().map(|id| u32::from_le_bytes(*id)).collect())
    }

    /// The error that this frame makes no sense.
    pub(super) fn content_error(&self, why: impl Into<String>) -> ConnectionError {
        let FrameHeader { kind, request, .. } = self.header;
        ConnectionError::Content {
            kind,
            request,
            why: why.into(),
        }
    }
}

/// How long a body of each kind may be; `None` where that kind may not come at all.
pub(super) type Limits<'a> = &'a dyn Fn(FrameKind) -> Option<u64>;

/// Makes more of an error.
type Explanation = Box<dyn Fn(ConnectionError) -> ConnectionError + Send>;

/// Reads frames.
pub(super) struct FrameReader<R> {
    stream: BufReader<R>,
    counted: Arc<AtomicU64>,
    explanation: Option<Explanation>,
}

impl<R> fmt::Debug for FrameReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameReader")
            .field("counted", &self.counted)
            .finish_non_exhaustive()
    }
}

impl FrameReader<Stream> {
    /// Whether a frame, or the end of the stream, begins to come within so long. Nothing of it is
    /// taken, so that a frame that comes later is whole.
    pub(super) fn comes_within(&mut self, patience: Duration) -> Result<bool, ConnectionError> {
        if !self.stream.buffer().is_empty() {
            return Ok(true);
        }
        let usual = self.stream().reading_limit();
        let usual = usual.map_err(ConnectionError::Read)?;
        // No time at all would mean to wait for ever.
        let patience = Some(patience.max(Duration::from_millis(1)));
        let limited = self.stream().limit_reading(patience);
        limited.map_err(ConnectionError::Read)?;
        let came = self.stream.fill_buf().map(<[u8]>::len);
        let limited = self.stream().limit_reading(usual);
        limited.map_err(ConnectionError::Read)?;
        match came {
            Ok(_) => Ok(true),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Ok(false),
                _ => Err(ConnectionError::Read(error)),
            },
        }
    }
}

impl<R: Read> FrameReader<R> {
    fn new(stream: R, counted: &Arc<AtomicU64>) -> FrameReader<R> {
        FrameReader {
            stream: BufReader::new(stream),
            counted: Arc::clone(counted),
            explanation: None,
        }
    }

    fn stream(&self) -> &R {
        self.stream.get_ref()
    }

    fn explain_errors(&mut self, explanation: Explanation) {
        self.explanation = Some(explanation);
    }

    /// The next frame; `None` at the end of the stream. Nothing is allocated for a body before
    /// its length is known to be within `limits`. Long ones are read to where they stay.
    pub(super) fn read(&mut self, limits: Limits<'_>) -> Result<Option<Frame>, ConnectionError> {
        self.read_frame(limits)
            .map_err(|error| match &self.explanation {
                Some(explain) => explain(error),
                None => error,
            })
    }

    fn read_frame(&mut self, limits: Limits<'_>) -> Result<Option<Frame>, ConnectionError> {
        let mut header = [0; 16];
        if !self.fill_or_end(&mut header)? {
            return Ok(None);
        }
        let header = FrameHeader::decode(&header).map_err(ConnectionError::Foreign)?;
        let kind = header.kind;
        let limit_bytes = limits(kind).ok_or(ConnectionError::Unexpected { kind })?;
        let body_bytes = u64::from(header.body_bytes);
        if body_bytes > limit_bytes {
            return Err(ConnectionError::TooLong {
                kind,
                body_bytes,
                limit_bytes,
            });
        }
        let mut body = Body::zeroed(usize::try_from(body_bytes).unwrap_or(usize::MAX));
        if !self.fill_or_end(body.bytes_mut())? {
            return Err(ConnectionError::Read(io::ErrorKind::UnexpectedEof.into()));
        }
        self.counted
            .fetch_add(HEADER_BYTES + body_bytes, Ordering::Relaxed);
        Ok(Some(Frame { header, body }))
    }

    /// Fills `bytes`; `false` if the stream ended before the first of them.
    fn fill_or_end(&mut self, bytes: &mut [u8]) -> Result<bool, ConnectionError> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.stream.read(&mut bytes[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(ConnectionError::Read(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ConnectionError::Read(error)),
            }
        }
        Ok(true)
    }
}

/// Writes frames.
#[derive(Debug)]
pub(super) struct FrameWriter<W> {
    stream: W,
    counted: Arc<AtomicU64>,
}

impl<W: Write> FrameWriter<W> {
    fn new(stream: W, counted: &Arc<AtomicU64>) -> FrameWriter<W> {
        FrameWriter {
            stream,
            counted: Arc::clone(counted),
        }
    }

    /// Writes one frame with one call, so that header and body share a segment, and returns its
    /// length in bytes. The body is not copied here.
    pub(super) fn write(
        &mut self,
        kind: FrameKind,
        request: u32,
        position: u32,
        body: &[u8],
    ) -> Result<u64, ConnectionError> {
        let too_long = || ConnectionError::TooLong {
            kind,
            body_bytes: body.len() as u64,
            limit_bytes: u64::from(MAX_BODY_BYTES),
        };
        let body_bytes = u32::try_from(body.len())
            .ok()
            .filter(|bytes| *bytes <= MAX_BODY_BYTES);
        let body_bytes = body_bytes.ok_or_else(too_long)?;
        let header = FrameHeader {
            kind,
            request,
            position,
            body_bytes,
        };
        let length = HEADER_BYTES + u64::from(body_bytes);
        // Counted first: who has the frame may ask for the count at once.
        self.counted.fetch_add(length, Ordering::Relaxed);
        self.write_all(&header.encode(), body).map_err(|error| {
            self.counted.fetch_sub(length, Ordering::Relaxed);
            ConnectionError::Write(error)
        })?;
        Ok(length)
    }

    /// Writes both, with further calls only where the stream had no room for all of it at once.
    fn write_all(&mut self, header: &[u8], body: &[u8]) -> io::Result<()> {
        let mut parts = [IoSlice::new(header), IoSlice::new(body)];
        let mut rest = &mut parts[..];
        while !rest.is_empty() {
            match self.stream.write_vectored(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                // A body of nothing is gone with the header.
                Ok(count) => IoSlice::advance_slices(&mut rest, count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Token ids as they go on the link.
pub(super) fn token_bytes(tokens: &[u32]) -> Vec<u8> {
    tokens
        .iter()
        .flat_map(|token| token.to_le_bytes())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::PayloadBytes;
    use proptest::prelude::*;

    fn all_up_to_100(_kind: FrameKind) -> Option<u64> {
        Some(100)
    }

    fn reader(bytes: &[u8]) -> FrameReader<&[u8]> {
        FrameReader::new(bytes, &Arc::default())
    }

    fn frame(kind: FrameKind, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        FrameWriter::new(&mut bytes, &Arc::default())
            .write(kind, 3, 4, body)
            .unwrap();
        bytes
    }

    #[test]
    fn frames_read_back_and_both_sides_count_the_same_bytes() {
        let counter = PayloadCounter::default();
        let mut bytes = Vec::new();
        let mut writer = FrameWriter::new(&mut bytes, &counter.up);
        assert_eq!(
            writer
                .write(FrameKind::Prompt, 3, 4, &token_bytes(&[7, 8]))
                .unwrap(),
            24
        );
        assert_eq!(writer.write(FrameKind::End, 3, 0, &[]).unwrap(), 16);
        let mut reader = FrameReader::new(&bytes[..], &counter.down);
        let prompt = reader.read(&all_up_to_100).unwrap().unwrap();
        assert_eq!((prompt.header.request, prompt.header.position), (3, 4));
        assert_eq!(prompt.token_ids(), Some(vec![7, 8]));
        assert_eq!(
            reader.read(&all_up_to_100).unwrap().unwrap().header.kind,
            FrameKind::End
        );
        assert_eq!(reader.read(&all_up_to_100).unwrap(), None);
        assert_eq!(counter.read(), PayloadBytes { up: 40, down: 40 });
    }

    /// Takes so many bytes with each call, and remembers which.
    struct Narrow {
        most: usize,
        calls: Vec<Vec<u8>>,
        /// Where the last part of each call lay.
        ends: Vec<*const u8>,
    }

    impl Narrow {
        fn of(most: usize) -> Narrow {
            Narrow {
                most,
                calls: Vec::new(),
                ends: Vec::new(),
            }
        }
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.write_vectored(&[IoSlice::new(bytes)])
        }

        fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
            let all = parts.iter().flat_map(|part| part.iter().copied());
            let taken: Vec<u8> = all.take(self.most).collect();
            self.ends.extend(parts.last().map(|part| part.as_ptr()));
            self.calls.push(taken);
            Ok(self.calls.last().map_or(0, Vec::len))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_frame_is_written_with_one_call_from_where_its_body_lies() {
        let body = [7; 50];
        let mut stream = Narrow::of(usize::MAX);
        let mut writer = FrameWriter::new(&mut stream, &Arc::default());
        writer.write(FrameKind::Hidden, 3, 4, &body).unwrap();
        writer.write(FrameKind::End, 3, 4, &[]).unwrap();
        let frames = [frame(FrameKind::Hidden, &body), frame(FrameKind::End, &[])];
        assert_eq!(stream.calls, frames);
        assert_eq!(stream.ends.first(), Some(&body.as_ptr()));
    }

    #[test]
    fn a_stream_without_room_for_a_whole_frame_gets_all_of_it_in_order() {
        let body: Vec<u8> = (0..50).collect();
        for most in [1, 15, 16, 17, 65] {
            let mut stream = Narrow::of(most);
            let mut writer = FrameWriter::new(&mut stream, &Arc::default());
            writer.write(FrameKind::Hidden, 3, 4, &body).unwrap();
            assert_eq!(stream.calls.concat(), frame(FrameKind::Hidden, &body));
            assert_eq!(stream.calls.len(), 66_usize.div_ceil(most));
        }
    }

    #[test]
    fn a_frame_that_a_stream_does_not_take_is_not_counted() {
        let counter = PayloadCounter::default();
        let mut stream = Narrow::of(0);
        let mut writer = FrameWriter::new(&mut stream, &counter.up);
        let error = writer.write(FrameKind::End, 3, 4, &[]).unwrap_err();
        assert!(matches!(error, ConnectionError::Write(_)));
        assert_eq!(counter.read(), PayloadBytes::default());
    }

    #[test]
    fn a_kind_that_may_not_come_and_a_body_beyond_the_limit_are_refused() {
        let bytes = frame(FrameKind::Token, &[0; 4]);
        let refused = reader(&bytes).read(&|kind| (kind != FrameKind::Token).then_some(100));
        assert!(matches!(
            refused,
            Err(ConnectionError::Unexpected {
                kind: FrameKind::Token
            })
        ));
        let refused = reader(&bytes).read(&|_| Some(3));
        let error = refused.unwrap_err();
        assert!(matches!(
            error,
            ConnectionError::TooLong {
                body_bytes: 4,
                limit_bytes: 3,
                ..
            }
        ));
    }

    #[test]
    fn a_stream_that_ends_inside_a_frame_is_an_error_wherever_it_ends() {
        let bytes = frame(FrameKind::Token, &[1, 2, 3, 4]);
        for end in 1..bytes.len() {
            let cut = reader(&bytes[..end]).read(&all_up_to_100);
            assert!(matches!(cut, Err(ConnectionError::Read(_))), "{end}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_never_yield_more_than_the_limit(
            start in prop_oneof![Just(b"HX\x01".to_vec()), Just(Vec::new())],
            rest: Vec<u8>,
        ) {
            let bytes = [start, rest].concat();
            let mut reader = reader(&bytes);
            while let Ok(Some(frame)) = reader.read(&all_up_to_100) {
                prop_assert!(frame.body.len() <= 100);
                prop_assert_eq!(frame.body.len() as u64, u64::from(frame.header.body_bytes));
            }
        }
    }
}
