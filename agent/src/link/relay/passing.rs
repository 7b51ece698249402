//! The thread that serves links on which nothing acts on packets: what comes in goes out at
//! once, super-packets whole, unless the kernel does that by itself. It is an ordinary thread: woken by the sender, the scheduler runs
//! it beside the programs that wait for the packet, where a real-time thread would have to be
//! woken on another, halted CPU.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::mpsc::SyncSender;

use hexloop_traces::Direction;
use hexloop_workloads::clock::{self, MonotonicNs};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, recv};

use super::agenda::Agenda;
use super::mooring::Mooring;
use super::port::{self, PortFailure};
use super::worker::{self, EVENTS, WAKE, Worker};
use super::{Change, Inbox, Joined, Meter, NewLink, Play, Played, ShaperWindow, Share, Trouble};
use crate::link::books::WindowBooks;
use crate::link::histogram::NanosecondHistogram;
use crate::sys::packet::{PacketSocket, SEND_BATCH};

/// Frames, or blocks of them, taken from a port before another one gets its turn.
const FRAMES: usize = 64;
const BLOCKS: usize = 4;

/// The longest frame with its virtio header.
const FRAME_BYTES: usize = (1 << 16) + 128;

/// How long a full socket is waited for before a frame is given up.
const FULL_MS: u16 = 20;

struct Playing {
    t0: MonotonicNs,
    windows: SyncSender<ShaperWindow>,
    /// Uplink first, as the ports that frames come in on.
    books: [WindowBooks; 2],
    share: Share,
}

struct Served {
    ports: [PacketSocket; 2],
    playing: Option<Playing>,
    trouble: Trouble,
    failures: [Option<PortFailure>; 2],
}

pub(super) struct PassingWorker {
    inbox: Inbox,
    epoll: Epoll,
    links: Vec<Option<Box<Served>>>,
    /// When windows are to be closed.
    agenda: Agenda,
    meter: Meter,
    mooring: Mooring,
    frame: Vec<u8>,
    due: Vec<usize>,
}

impl PassingWorker {
    pub(super) fn new(inbox: Inbox) -> io::Result<PassingWorker> {
        Ok(PassingWorker {
            epoll: worker::watch_inbox(&inbox)?,
            inbox,
            links: Vec::new(),
            agenda: Agenda::default(),
            meter: Meter::default(),
            mooring: Mooring::new(),
            frame: vec![0; FRAME_BYTES],
            due: Vec::new(),
        })
    }

    pub(super) fn run(mut self) {
        loop {
            let timeout = self.timeout();
            let mut events = [EpollEvent::empty(); EVENTS];
            let count = self.epoll.wait(&mut events, timeout).unwrap_or(0);
            for event in &events[..count] {
                if event.data() == WAKE {
                    if !self.obey() {
                        return;
                    }
                    continue;
                }
                let (link, side) = worker::place(event);
                if event.events().contains(EpollFlags::EPOLLERR) {
                    self.inspect(link, side);
                }
                self.forward(link, side);
            }
            self.close_windows();
        }
    }

    fn timeout(&mut self) -> EpollTimeout {
        let Some(next) = self.agenda.next() else {
            return EpollTimeout::NONE;
        };
        let left_ms = next.saturating_sub(clock::now()).div_ceil(1_000_000);
        EpollTimeout::from(u16::try_from(left_ms).unwrap_or(u16::MAX))
    }

    fn inspect(&mut self, link: usize, side: usize) {
        if let Some(Some(served)) = self.links.get_mut(link) {
            let failure = port::inspect(&served.ports[side], &self.epoll);
            served.failures[side] = failure.or(served.failures[side]);
        }
    }

    /// Passes on what has come in on one port.
    fn forward(&mut self, link: usize, side: usize) {
        let Some(Some(served)) = self.links.get_mut(link) else {
            return;
        };
        let (ins, outs) = served.ports.split_at_mut(1);
        let (from, to) = if side == 0 {
            (&mut ins[0], &outs[0])
        } else {
            (&mut outs[0], &ins[0])
        };
        let mut way = Way {
            to,
            trouble: &mut served.trouble,
            lost: 0,
            passed: 0,
        };
        if from.has_blocks() {
            way.pass_blocks(from);
        } else {
            way.pass_frames(from, &mut self.frame);
        }
        let (passed, lost) = (way.passed, way.lost);
        self.mooring.note(passed);
        let share = served.playing.as_mut().map(|playing| &mut playing.share);
        self.meter.note(share, passed);
        if let Some(playing) = &mut served.playing
            && lost > 0
            && let Some(since) = clock::now().checked_sub(playing.t0)
        {
            for _ in 0..lost {
                playing.books[side].dropped(since);
            }
        }
    }

    fn close_windows(&mut self) {
        let now = clock::now();
        let mut due = std::mem::take(&mut self.due);
        self.agenda.take_due(now, &mut due);
        for &link in &due {
            self.close_windows_of(link, now);
        }
        self.due = due;
    }

    fn close_windows_of(&mut self, link: usize, now: MonotonicNs) {
        let Some(Some(served)) = self.links.get_mut(link) else {
            return;
        };
        let Some(playing) = &mut served.playing else {
            return;
        };
        self.meter.note(Some(&mut playing.share), 1);
        let since = now.saturating_sub(playing.t0);
        for (books, direction) in playing
            .books
            .iter_mut()
            .zip([Direction::Up, Direction::Down])
        {
            // There is no queue that could be anything but empty.
            while let Some((index, book)) = books.close(since, Some(0), 0) {
                // A window that finds no room is missing in the record, which counts it.
                let _ = playing.windows.try_send(ShaperWindow {
                    direction,
                    index,
                    book,
                });
            }
        }
        let next = playing.t0 + playing.books[0].next_close_ns();
        self.agenda.set(link, Some(next));
    }
}

impl Worker for PassingWorker {
    fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    fn add(&mut self, link: usize, new: NewLink) {
        let failures = worker::watch(&self.epoll, link, &new.ports);
        let served = Box::new(Served {
            ports: new.ports,
            playing: None,
            trouble: Trouble::default(),
            failures,
        });
        worker::put(&mut self.links, link, served);
    }

    fn change(&mut self, _: usize, _: &Change) -> Option<u64> {
        // Nothing can be changed here.
        None
    }

    fn remove(&mut self, link: usize) -> Option<[PacketSocket; 2]> {
        self.agenda.set(link, None);
        let served = self.links.get_mut(link)?.take()?;
        worker::unwatch(&self.epoll, &served.ports);
        Some(served.ports)
    }

    fn play(&mut self, link: usize, play: Play) {
        let Some(Some(served)) = self.links.get_mut(link) else {
            return;
        };
        for port in &served.ports {
            // What was lost before does not belong to this playback.
            let _ = port.take_drops();
        }
        let books = || WindowBooks::new(play.window_ns, play.longest_delay_ns);
        let playing = Playing {
            t0: play.t0,
            windows: play.windows,
            books: [books(), books()],
            share: self.meter.begin(clock::thread_cpu_ns()),
        };
        let next = playing.t0 + playing.books[0].next_close_ns();
        served.playing = Some(playing);
        self.agenda.set(link, Some(next));
    }

    fn stop(&mut self, link: usize) -> Option<Played> {
        for side in 0..2 {
            self.forward(link, side);
            self.inspect(link, side);
        }
        self.close_windows_of(link, clock::now());
        self.agenda.set(link, None);
        let served = self.links.get_mut(link)?.as_mut()?;
        let mut trouble = std::mem::take(&mut served.trouble);
        for port in &served.ports {
            // It fails only once the port is gone, which is told as such.
            trouble.overflow += port.take_drops().unwrap_or(0);
        }
        let playing = served.playing.take();
        Some(Played {
            lateness: [NanosecondHistogram::new(), NanosecondHistogram::new()],
            cpu_ns: playing.map_or(0, |playing| {
                playing.share.cpu_ns(self.meter, clock::thread_cpu_ns())
            }),
            trouble,
            joined: [Joined::default(); 2],
            failures: std::mem::take(&mut served.failures),
            late_start_ns: 0,
        })
    }
}

/// From one port to the other.
struct Way<'a> {
    to: &'a PacketSocket,
    trouble: &'a mut Trouble,
    lost: u64,
    passed: u64,
}

impl Way<'_> {
    fn pass_frames(&mut self, from: &PacketSocket, buffer: &mut [u8]) {
        let flags = MsgFlags::MSG_DONTWAIT;
        for _ in 0..FRAMES {
            match recv(from.as_fd().as_raw_fd(), buffer, flags) {
                Ok(length) => self.send(&[IoSlice::new(&buffer[..length])]),
                Err(nix::Error::EAGAIN) => return,
                // A frame that cannot be described, or an interface that went down: what comes
                // behind it may be well.
                Err(error) => self.trouble.note_refusal(&error.into()),
            }
        }
    }

    fn pass_blocks(&mut self, from: &mut PacketSocket) {
        for _ in 0..BLOCKS {
            let Some(block) = from.next_block() else {
                return;
            };
            let mut batch = [IoSlice::new(&[]); SEND_BATCH];
            let mut count = 0;
            for frame in block.frames() {
                batch[count] = IoSlice::new(frame);
                count += 1;
                if count == SEND_BATCH {
                    self.send(&batch);
                    count = 0;
                }
            }
            self.send(&batch[..count]);
        }
    }

    fn send(&mut self, mut frames: &[IoSlice<'_>]) {
        while !frames.is_empty() {
            let sent = match self.to.send(frames) {
                Ok(sent) => sent.max(1),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.wait_for_room() => {
                    continue;
                }
                Err(error) => {
                    self.trouble.note_refusal(&error);
                    self.lost += 1;
                    1
                }
            };
            self.passed += u64::try_from(sent).unwrap_or(0);
            frames = &frames[sent.min(frames.len())..];
        }
    }

    /// Waits until a full socket has sent something; false if it does not.
    fn wait_for_room(&self) -> bool {
        let mut watched = [PollFd::new(self.to.as_fd(), PollFlags::POLLOUT)];
        poll(&mut watched, PollTimeout::from(FULL_MS)).is_ok_and(|ready| ready > 0)
    }
}
