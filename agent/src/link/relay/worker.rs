//! What both relay threads do alike: watch the ports of links, and obey.

use std::os::fd::AsFd;

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use super::port::PortFailure;
use super::{Change, Command, Inbox, NewLink, Play, Played};
use crate::sys::packet::PacketSocket;

/// What the eventfd that announces commands is watched as.
pub(super) const WAKE: u64 = u64::MAX;

/// Events taken at a time.
pub(super) const EVENTS: usize = 64;

/// What a port is watched as.
pub(super) fn token(link: usize, side: usize) -> u64 {
    u64::try_from(link * 2 + side).unwrap_or(WAKE)
}

/// Which port an event is about: its link and its side.
pub(super) fn place(event: &EpollEvent) -> (usize, usize) {
    let place = usize::try_from(event.data()).unwrap_or(usize::MAX);
    (place / 2, place % 2)
}

/// An epoll that hears of commands.
pub(super) fn watch_inbox(inbox: &Inbox) -> std::io::Result<Epoll> {
    let epoll = Epoll::new(nix::sys::epoll::EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&inbox.wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
    Ok(epoll)
}

/// Watches the ports of a new link; says which cannot be.
pub(super) fn watch(
    epoll: &Epoll,
    link: usize,
    ports: &[PacketSocket; 2],
) -> [Option<PortFailure>; 2] {
    let mut failures = [None; 2];
    for (side, port) in ports.iter().enumerate() {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, token(link, side));
        if let Err(error) = epoll.add(port, event) {
            failures[side] = Some(PortFailure::Other(error as i32));
        }
    }
    failures
}

/// Watches the ports of a link no more.
pub(super) fn unwatch(epoll: &Epoll, ports: &[PacketSocket; 2]) {
    for port in ports {
        // A port that is gone is not watched any more.
        let _ = epoll.delete(port.as_fd());
    }
}

/// Puts something at a place of a list, which grows as needed.
pub(super) fn put<T>(list: &mut Vec<Option<T>>, place: usize, item: T) {
    if place >= list.len() {
        list.resize_with(place + 1, || None);
    }
    list[place] = Some(item);
}

/// A thread that serves links.
pub(super) trait Worker {
    fn inbox(&self) -> &Inbox;

    fn add(&mut self, link: usize, new: NewLink);

    fn play(&mut self, link: usize, play: Play);

    /// The offset from T0 at which the change takes hold, if it can.
    fn change(&mut self, link: usize, change: &Change) -> Option<u64>;

    fn stop(&mut self, link: usize) -> Option<Played>;

    fn remove(&mut self, link: usize) -> Option<[PacketSocket; 2]>;

    /// Does what was commanded; false when the thread is to end.
    fn obey(&mut self) -> bool {
        // Whether or not it was woken for them, what was commanded is done.
        let _ = self.inbox().wake.read();
        let index = |number| usize::try_from(number).unwrap_or(usize::MAX);
        while let Some(command) = self.inbox().next() {
            // The askers may have given up waiting.
            match command {
                Command::Add(number, new) => self.add(index(number), *new),
                Command::Play(number, play) => self.play(index(number), *play),
                Command::Change(number, change) => {
                    let _ = change.reply.send(self.change(index(number), &change));
                }
                Command::Stop(number, reply) => {
                    if let Some(played) = self.stop(index(number)) {
                        let _ = reply.send(played);
                    }
                }
                Command::Remove(number, reply) => {
                    let _ = reply.send(self.remove(index(number)));
                }
                Command::Quit => return false,
            }
        }
        true
    }
}
