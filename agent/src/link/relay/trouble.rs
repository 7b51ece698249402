//! What goes wrong between a link and its interfaces, counted per kind.

use std::io;

/// Packets that were lost otherwise than the trace asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// Packets that an interface had no room for.
    pub(crate) no_room: u64,
    /// Packets longer than the link's MTU, and the longest of them with its Ethernet header.
    pub(crate) too_long: u64,
    pub(crate) longest_bytes: usize,
    /// Packets that an interface refused because it was down or gone.
    pub(crate) interface_away: u64,
    /// Frames that found no room on their way into the relay, or in it.
    pub(crate) overflow: u64,
    /// Packets that could not be cut, sent or described for another reason, and the last one's error
    /// number.
    pub(crate) refused: u64,
    pub(crate) error: i32,
}

impl Trouble {
    /// A packet that no slot is long enough for.
    pub(crate) fn note_too_long(&mut self, bytes: usize) {
        self.too_long += 1;
        self.longest_bytes = self.longest_bytes.max(bytes);
    }

    /// A packet of several segments that is not known how to cut.
    pub(crate) fn note_uncut(&mut self) {
        self.refused += 1;
        self.error = libc::EINVAL;
    }

    /// A packet that the interface did not take.
    pub(crate) fn note_refusal(&mut self, error: &io::Error) {
        match error.raw_os_error() {
            Some(libc::ENOBUFS | libc::ENOMEM) => self.no_room += 1,
            Some(libc::EMSGSIZE) => self.note_too_long(0),
            Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV) => self.interface_away += 1,
            number => {
                self.refused += 1;
                self.error = number.unwrap_or(0);
            }
        }
    }

    /// Adds another one's numbers.
    pub(crate) fn add(&mut self, other: Trouble) {
        self.no_room += other.no_room;
        self.too_long += other.too_long;
        self.longest_bytes = self.longest_bytes.max(other.longest_bytes);
        self.interface_away += other.interface_away;
        self.overflow += other.overflow;
        self.refused += other.refused;
        if other.error != 0 {
            self.error = other.error;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart_by_their_error_and_added_up() {
        let refused = |number| {
            let mut trouble = Trouble::default();
            trouble.note_refusal(&io::Error::from_raw_os_error(number));
            trouble
        };
        let mut all = refused(libc::ENOBUFS);
        for number in [libc::EMSGSIZE, libc::ENETDOWN, libc::ENXIO, libc::EPERM] {
            all.add(refused(number));
        }
        let expected = Trouble {
            no_room: 1,
            too_long: 1,
            longest_bytes: 0,
            interface_away: 2,
            overflow: 0,
            refused: 1,
            error: libc::EPERM,
        };
        assert_eq!(all, expected);
    }
}
