//! A stage's way back to the driver: frames, and the books of what each request put on the link
//! in front of the stage.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::link::Link;
use crate::serve::connection::{ConnectionError, FrameWriter, Stream};
use crate::serve::error::JobError;
use crate::study::{HopBytes, TrialRecord};
use crate::wire::{FrameKind, HEADER_BYTES};

/// Bytes of one entry: bytes and frames of both directions, and how long the stage computed.
pub(super) const ENTRY_BYTES: usize = 5 * 8;

/// Entries of books that the stages of a path may send.
pub(super) const MOST_ENTRIES: usize = 64;

/// What a request put on one link, and how long the node behind it computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) bytes: HopBytes,
    pub(super) busy_ns: u64,
}

impl Entry {
    fn encode(self) -> impl Iterator<Item = u8> {
        let HopBytes {
            up,
            down,
            frames_up,
            frames_down,
        } = self.bytes;
        let numbers = [up, down, frames_up, frames_down, self.busy_ns];
        numbers.into_iter().flat_map(u64::to_le_bytes)
    }
}

/// An entry that is of no link, but says how long a stage computed for a part of a request.
pub(super) fn of_part(busy_ns: u64) -> Vec<u8> {
    let entry = Entry {
        busy_ns,
        ..Entry::default()
    };
    entry.encode().collect()
}

/// The entries of the body of a `Books` frame, the nearest link first; `None` if it is none.
pub(super) fn decode(body: &[u8]) -> Option<Vec<Entry>> {
    let (entries, rest) = body.as_chunks::<ENTRY_BYTES>();
    let number = |entry: &[u8; ENTRY_BYTES], index: usize| {
        let (numbers, _) = entry.as_chunks::<8>();
        numbers
            .get(index)
            .map_or(0, |bytes| u64::from_le_bytes(*bytes))
    };
    let entry = |entry: &[u8; ENTRY_BYTES]| Entry {
        bytes: HopBytes {
            up: number(entry, 0),
            down: number(entry, 1),
            frames_up: number(entry, 2),
            frames_down: number(entry, 3),
        },
        busy_ns: number(entry, 4),
    };
    rest.is_empty().then(|| entries.iter().map(entry).collect())
}

/// Closes the books of a request of which nothing else is awaited, and puts them into its record. Answers that
/// nobody waited for come first.
pub(super) fn close(link: &mut Link, record: &mut TrialRecord) -> Result<(), JobError> {
    let id = record.number;
    link.write((FrameKind::End, id), 0, &[])?;
    let most_bytes = u64::try_from(MOST_ENTRIES * ENTRY_BYTES).unwrap_or(u64::MAX);
    loop {
        let frame = link.read(&[FrameKind::Token, FrameKind::Books], most_bytes)?;
        if frame.header.request != id {
            return Err(link.wrong(&frame, "no such request is under way"));
        }
        if frame.header.kind == FrameKind::Token {
            continue;
        }
        let entries = decode(&frame.body);
        let entries = entries.ok_or_else(|| link.wrong(&frame, "it is no account"))?;
        for entry in entries {
            record.hops.push(entry.bytes);
            record.busy_ns.push(entry.busy_ns);
        }
        return Ok(());
    }
}

/// Closes the books of a request that is no trial.
pub(super) fn discard(link: &mut Link, request: u32) -> Result<(), JobError> {
    link.write((FrameKind::End, request), 0, &[])?;
    let most_bytes = u64::try_from(ENTRY_BYTES).unwrap_or(u64::MAX);
    link.read(&[FrameKind::Books], most_bytes).map(drop)
}

/// The way back, shared by the thread that computes and the one that hands answers on.
#[derive(Debug)]
pub(super) struct WayBack {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    writer: FrameWriter<Stream>,
    open: BTreeMap<u32, Entry>,
}

impl WayBack {
    pub(super) const fn new(writer: FrameWriter<Stream>) -> WayBack {
        WayBack {
            inner: Mutex::new(Inner {
                writer,
                open: BTreeMap::new(),
            }),
        }
    }

    fn hold(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no request is open.
    pub(super) fn is_idle(&self) -> bool {
        self.hold().open.is_empty()
    }

    /// A frame of a request came from the driver's side; `opens` begins its entry.
    pub(super) fn received(&self, request: u32, body_bytes: usize, opens: bool) {
        let mut inner = self.hold();
        if opens {
            inner.open.insert(request, Entry::default());
        }
        if let Some(entry) = inner.open.get_mut(&request) {
            entry.bytes.up += HEADER_BYTES + u64::try_from(body_bytes).unwrap_or(u64::MAX);
            entry.bytes.frames_up += 1;
        }
    }

    /// The stage computed for a request.
    pub(super) fn computed(&self, request: u32, busy_ns: u64) {
        if let Some(entry) = self.hold().open.get_mut(&request) {
            entry.busy_ns += busy_ns;
        }
    }

    /// Sends a frame of a request towards the driver.
    pub(super) fn send(
        &self,
        (kind, request): (FrameKind, u32),
        position: u32,
        body: &[u8],
    ) -> Result<(), ConnectionError> {
        let mut inner = self.hold();
        let sent = inner.writer.write(kind, request, position, body)?;
        if let Some(entry) = inner.open.get_mut(&request) {
            entry.bytes.down += sent;
            entry.bytes.frames_down += 1;
        }
        Ok(())
    }

    /// Closes the books of a request and sends them, with those of the stages behind.
    pub(super) fn close(&self, request: u32, behind: &[u8]) -> Result<(), ConnectionError> {
        let mut inner = self.hold();
        let entry = inner.open.remove(&request).unwrap_or_default();
        let body: Vec<u8> = entry.encode().chain(behind.iter().copied()).collect();
        inner
            .writer
            .write(FrameKind::Books, request, 0, &body)
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_read_back_and_half_an_entry_is_none() {
        let entry = Entry {
            bytes: HopBytes {
                up: 1,
                down: 2,
                frames_up: 3,
                frames_down: 4,
            },
            busy_ns: 5,
        };
        let body: Vec<u8> = entry.encode().chain(Entry::default().encode()).collect();
        assert_eq!(decode(&body), Some(vec![entry, Entry::default()]));
        assert_eq!(decode(&body[1..]), None);
        assert_eq!(decode(&[]), Some(Vec::new()));
    }
}
