//! Captures of links: one pcapng file per direction, in which each packet's comment says when it
//! came, when it was due and when it left. One thread writes for all links of a run; what it has
//! no room for is dropped and counted, and no link ever waits.

mod file;
mod pcapng;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::thread::{self, JoinHandle};

use hexloop_traces::Direction;
use hexloop_workloads::clock::{ClockPair, MonotonicNs};

use crate::link::{Observer, PassedPacket, PassedPackets};
use file::CaptureFile;

pub use file::Captured;
pub(crate) use file::Room;

/// Packets that may wait to be written: a tenth of a second of a gigabit per second.
const WAITING_PACKETS: usize = 8192;

/// The name of a link's file of one direction.
#[must_use]
pub fn file_name(link: &str, direction: Direction) -> String {
    format!("{link}-{}.pcapng", direction.name())
}

/// The files of one link, in the order of [`Direction::BOTH`].
#[derive(Debug)]
pub(crate) struct LinkFiles([CaptureFile; 2]);

impl LinkFiles {
    /// Makes them in a directory that exists. Links are named so that files can be named after
    /// them.
    ///
    /// # Errors
    /// A file cannot be made, or there is no room for it.
    pub(crate) fn create(directory: &Path, link: &str, room: Room) -> io::Result<LinkFiles> {
        let path = |direction| directory.join(file_name(link, direction));
        let [down, up] = Direction::BOTH.map(|direction| {
            let interface = format!("{link} {}", direction.name());
            CaptureFile::create(&path(direction), &interface, room)
        });
        match (down, up) {
            (Ok(down), Ok(up)) => Ok(LinkFiles([down, up])),
            (Err(error), _) | (_, Err(error)) => {
                for direction in Direction::BOTH {
                    // An empty file that stays is no lie either.
                    let _ = fs::remove_file(path(direction));
                }
                Err(error)
            }
        }
    }

    fn of(&mut self, direction: Direction) -> &mut CaptureFile {
        &mut self.0[usize::from(direction == Direction::Up)]
    }

    fn flush(&mut self) {
        for file in &mut self.0 {
            file.flush();
        }
    }

    fn finish(self) -> [Captured; 2] {
        self.0.map(CaptureFile::finish)
    }
}

/// A capture before its files are known: links can be built to be captured.
#[derive(Debug)]
pub(crate) struct PreparedCapture {
    /// By the numbers of the links.
    observers: Vec<Observer>,
    packets: PassedPackets,
}

impl PreparedCapture {
    /// Prepares for so many links, none of whose packets is captured yet.
    pub(crate) fn new(links: usize) -> PreparedCapture {
        let (first, packets) = Observer::new(WAITING_PACKETS);
        first.set_open(false);
        PreparedCapture {
            observers: (0..links).map(|link| first.of_link(link)).collect(),
            packets,
        }
    }

    /// For a link to show its packets to.
    pub(crate) fn observer(&self, link: usize) -> Option<Observer> {
        self.observers.get(link).cloned()
    }

    /// Starts the writer of these files, by the numbers of their links.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn start(self, files: BTreeMap<usize, LinkFiles>) -> io::Result<Capture> {
        let PreparedCapture { observers, packets } = self;
        let thread = thread::Builder::new().name("hx-capture".to_owned());
        let thread = thread.spawn(move || write(files, packets))?;
        Ok(Capture { observers, thread })
    }
}

/// A capture that runs.
#[derive(Debug)]
pub(crate) struct Capture {
    observers: Vec<Observer>,
    thread: JoinHandle<BTreeMap<usize, [Captured; 2]>>,
}

impl Capture {
    /// Captures from here on, or no longer.
    pub(crate) fn set_open(&self, is_open: bool) {
        // All see what any of them sees.
        if let Some(observer) = self.observers.first() {
            observer.set_open(is_open);
        }
    }

    /// Captures nothing more, waits until everything is written, and says what each link's files
    /// have.
    ///
    /// # Errors
    /// The writing thread panicked.
    pub(crate) fn finish(self) -> io::Result<BTreeMap<usize, [Captured; 2]>> {
        self.set_open(false);
        // A link that is still being calibrated holds an observer for longer than anybody waits.
        if let Some(observer) = self.observers.first() {
            observer.end();
        }
        let written = self.thread.join();
        let mut written =
            written.map_err(|_panic| io::Error::other("the writing thread panicked"))?;
        for (link, files) in &mut written {
            let Some(observer) = self.observers.get(*link) else {
                continue;
            };
            for (file, direction) in files.iter_mut().zip(Direction::BOTH) {
                file.missed += observer.dropped(direction);
            }
        }
        Ok(written)
    }
}

fn write(
    mut files: BTreeMap<usize, LinkFiles>,
    mut packets: PassedPackets,
) -> BTreeMap<usize, [Captured; 2]> {
    // Read once, so that the distances between packets are those of the monotonic clock.
    let pair = ClockPair::read();
    let mut next = |files: &mut BTreeMap<usize, LinkFiles>| {
        packets.waiting().or_else(|| {
            // Nothing else to do: so the files are whole whenever their writer is killed.
            files.values_mut().for_each(LinkFiles::flush);
            packets.next()
        })
    };
    while let Some(packet) = next(&mut files) {
        let Some(files) = files.get_mut(&packet.link) else {
            continue;
        };
        let file = files.of(packet.direction);
        let comment = comment(&packet);
        let at = realtime_ns(pair, packet.achieved);
        file.take(at, &packet.into_frame(), &comment);
    }
    let finished = files
        .into_iter()
        .map(|(link, files)| (link, files.finish()));
    finished.collect()
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
    if *due == 0 {
        return format!(
            "arrival {arrival} ns, due never, achieved {achieved} ns (CLOCK_MONOTONIC); let go as \
             the playback ended"
        );
    }
    let held = due.saturating_sub(*arrival);
    let late = i128::from(*achieved) - i128::from(*due);
    format!(
        "arrival {arrival} ns, due {due} ns, achieved {achieved} ns (CLOCK_MONOTONIC); \
         held {held} ns, late {late} ns"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::packet::VirtioHeader;

    fn packet(link: usize, direction: Direction, due: MonotonicNs) -> PassedPacket {
        PassedPacket {
            link,
            direction,
            arrival: 1,
            due,
            achieved: due + 1,
            header: VirtioHeader::default(),
            frame: vec![7; 60],
        }
    }

    const NOTHING: Captured = Captured {
        packets: 0,
        missed: 0,
        cut_short: None,
    };

    #[test]
    fn the_packets_of_each_link_and_direction_go_to_their_own_file_and_what_is_missed_is_counted() {
        let root = tempfile::tempdir().unwrap();
        let prepared = PreparedCapture::new(3);
        let observers = [0, 2].map(|link| prepared.observer(link).unwrap());
        let room = Room::leaving(0).unwrap();
        let files = |link: &str| LinkFiles::create(root.path(), link, room).unwrap();
        // Link 1 turned out to be none that can be captured.
        let files = BTreeMap::from([(0, files("a")), (2, files("b"))]);
        observers[0].show(|link| packet(link, Direction::Up, 5));
        let not_captured = prepared.observer(1).unwrap();
        // More than find room, while nobody writes yet.
        observers[0].set_open(true);
        for _ in 0..=WAITING_PACKETS {
            observers[1].show(|link| packet(link, Direction::Down, 9));
        }
        let capture = prepared.start(files).unwrap();
        let written = capture.finish().unwrap();
        not_captured.show(|link| packet(link, Direction::Up, 1));
        let all = u64::try_from(WAITING_PACKETS).unwrap();
        let missed = Captured {
            packets: all,
            missed: 1,
            cut_short: None,
        };
        let expected = [(0, [NOTHING, NOTHING]), (2, [missed, NOTHING])];
        assert_eq!(written, BTreeMap::from(expected));
        let bytes = |name: &str| fs::metadata(root.path().join(name)).unwrap().len();
        assert_eq!(bytes("a-down.pcapng"), bytes("b-up.pcapng") + 4);
        assert!(bytes("b-down.pcapng") > all * 60);
    }

    #[test]
    fn a_packet_that_the_end_of_the_playback_let_go_has_no_due_time() {
        let shaped = comment(&packet(0, Direction::Up, 5));
        assert!(shaped.contains("arrival 1 ns, due 5 ns, achieved 6 ns"));
        assert!(shaped.ends_with("held 4 ns, late 1 ns"), "{shaped}");
        let let_go = comment(&packet(0, Direction::Up, 0));
        assert!(let_go.contains("due never"), "{let_go}");
    }
}
