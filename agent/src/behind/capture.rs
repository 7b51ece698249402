//! A capture of a link: one pcapng file per direction, in which each packet's comment says when
//! it came, when it was due and when it left. A thread of its own writes; what it has no room
//! for is dropped and counted, and the link never waits.

mod pcapng;

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::thread::{self, JoinHandle};

use hexloop_traces::Direction;
use hexloop_workloads::clock::{ClockPair, MonotonicNs};

use crate::link::{Observer, PassedPacket};
use pcapng::PcapngWriter;

/// Packets that may wait to be written: a tenth of a second of a gigabit per second.
const ROOM: usize = 8192;

/// A capture that runs.
#[derive(Debug)]
pub(crate) struct Capture {
    observer: Observer,
    thread: JoinHandle<io::Result<u64>>,
}

/// What was captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// Packets written.
    pub packets: u64,
    /// Packets that found no room.
    pub dropped: u64,
    /// What went wrong with the files, if anything did.
    pub failed: Option<String>,
}

type Files = [PcapngWriter<BufWriter<File>>; 2];

impl Capture {
    /// Makes the files `link-down.pcapng` and `link-up.pcapng`, and starts the writer.
    ///
    /// # Errors
    /// The directory or a file cannot be made.
    pub(crate) fn start(directory: &Path) -> io::Result<Capture> {
        fs::create_dir_all(directory)?;
        let open = |direction: Direction| {
            let name = format!("link-{}.pcapng", direction.name());
            let file = BufWriter::new(File::create(directory.join(name))?);
            PcapngWriter::new(file, &format!("link {}", direction.name()))
        };
        let [down, up] = Direction::BOTH.map(open);
        let files = [down?, up?];
        let (observer, packets) = Observer::new(ROOM);
        // What is measured before the command starts is none of its packets.
        observer.set_open(false);
        let thread = thread::Builder::new().name("hx-capture".to_owned());
        let thread = thread.spawn(move || write(files, &packets))?;
        Ok(Capture { observer, thread })
    }

    /// Captures from here on.
    pub(crate) fn begin(&self) {
        self.observer.set_open(true);
    }

    /// For the link to show its packets to.
    pub(crate) fn observer(&self) -> Observer {
        self.observer.clone()
    }

    /// Waits until everything is written. The link is gone by then.
    pub(crate) fn finish(self) -> Captured {
        let dropped = self.observer.dropped();
        // The writer ends when nobody can show it anything any more.
        drop(self.observer);
        let (packets, failed) = match self.thread.join() {
            Ok(Ok(packets)) => (packets, None),
            Ok(Err(error)) => (0, Some(error.to_string())),
            Err(_panic) => (0, Some("the writing thread panicked".to_owned())),
        };
        Captured {
            packets,
            dropped,
            failed,
        }
    }
}

fn write(mut files: Files, packets: &Receiver<PassedPacket>) -> io::Result<u64> {
    let mut count = 0;
    // Read once, so that the distances between packets are those of the monotonic clock.
    let pair = ClockPair::read();
    while let Ok(packet) = packets.recv() {
        let file = &mut files[usize::from(packet.direction == Direction::Up)];
        let comment = comment(&packet);
        let at = realtime_ns(pair, packet.achieved);
        file.packet(at, &packet.into_frame(), &comment)?;
        count += 1;
    }
    for file in files {
        file.finish()?;
    }
    Ok(count)
}

fn realtime_ns(pair: ClockPair, at: MonotonicNs) -> u64 {
    (pair.realtime_ns + at).saturating_sub(pair.monotonic_ns)
}

/// The three moments on the monotonic clock, and how they differ.
fn comment(packet: &PassedPacket) -> String {
    let PassedPacket {
        arrival,
        due,
        achieved,
        ..
    } = packet;
    let held = due.saturating_sub(*arrival);
    let late = i128::from(*achieved) - i128::from(*due);
    format!(
        "arrival {arrival} ns, due {due} ns, achieved {achieved} ns (CLOCK_MONOTONIC); \
         held {held} ns, late {late} ns"
    )
}
