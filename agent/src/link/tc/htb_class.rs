//! The one class of a bottleneck: its rate, changed in place by a message that was built
//! before, and what it has sent.

use std::io;

use crate::link::netlink::{Mode, Prepared, RouteSocket};

use super::codec::htb::{HtbClass, ticks};
use super::codec::statistics::Statistics;
use super::codec::{Class, HEADER_BYTES, NEW_CLASS, Place};
use super::question::Question;

/// Stands for "no limit": 100 Gbit/s in bytes.
pub(super) const UNLIMITED_BYTES_PER_S: u64 = 12_500_000_000;

/// htb may make up for a timer that wakes so late; steering makes up for more. A bucket so
/// small lets one packet through at once, not several.
const BUCKET_NS: u64 = 200_000;

/// Where the rate stands in the message: twice in the structure, twice in 64 bits, behind the
/// headers of the message, of TCA_KIND ("htb"), of TCA_OPTIONS and of TCA_HTB_PARMS.
const PARAMETERS_AT: usize = HEADER_BYTES + 8 + 4 + 4;
const RATE_AT: usize = PARAMETERS_AT + 8;
const CEIL_AT: usize = PARAMETERS_AT + 20;
const RATE64_AT: usize = PARAMETERS_AT + 44 + 4;
const CEIL64_AT: usize = RATE64_AT + 8 + 4;

/// A class with explicit bucket and quantum at a rate in bytes per second.
pub(super) fn parameters(bytes_per_s: u64, mtu: u32) -> HtbClass {
    let bytes_per_s = bytes_per_s.clamp(1, UNLIMITED_BYTES_PER_S);
    HtbClass {
        rate: bytes_per_s,
        ceil: bytes_per_s,
        buffer_ticks: ticks(BUCKET_NS),
        ceil_buffer_ticks: ticks(BUCKET_NS),
        // The kernel warns of quanta outside 1000 .. 200000 (htb_change_class).
        quantum: (mtu + 14).clamp(1000, 200_000),
        priority: 0,
    }
}

/// Changes a class, and asks it, without building a message.
#[derive(Debug)]
pub(super) struct PreparedClass {
    change: Prepared,
    question: Question,
    bytes_per_s: u64,
}

impl PreparedClass {
    /// For a class that exists and has this rate.
    pub(super) fn new(place: Place, bytes_per_s: u64, mtu: u32) -> PreparedClass {
        let class = Class::new(place, parameters(bytes_per_s, mtu));
        PreparedClass {
            change: Prepared::request(NEW_CLASS, Mode::Change, &class.message()),
            question: Question::of_class(place),
            bytes_per_s,
        }
    }

    /// The rate that is set, in bytes per second.
    pub(super) const fn bytes_per_s(&self) -> u64 {
        self.bytes_per_s
    }

    /// The message that sets this rate.
    pub(super) fn change_to(&mut self, bytes_per_s: u64) -> &mut Prepared {
        let bytes_per_s = bytes_per_s.clamp(1, UNLIMITED_BYTES_PER_S);
        let narrow = u32::try_from(bytes_per_s).unwrap_or(u32::MAX).to_ne_bytes();
        let wide = bytes_per_s.to_ne_bytes();
        self.change.write(RATE_AT, &narrow);
        self.change.write(CEIL_AT, &narrow);
        self.change.write(RATE64_AT, &wide);
        self.change.write(CEIL64_AT, &wide);
        self.bytes_per_s = bytes_per_s;
        &mut self.change
    }

    /// Sets a rate, and waits until the kernel has done it.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn set(&mut self, socket: &mut RouteSocket, bytes_per_s: u64) -> io::Result<()> {
        socket.exchange(self.change_to(bytes_per_s), |_, _| false)
    }

    /// What the class has sent and what waits in it.
    ///
    /// # Errors
    /// The kernel's refusal, or an answer without statistics.
    pub(super) fn ask(&mut self, socket: &mut RouteSocket) -> io::Result<Statistics> {
        self.question.ask(socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::tc::handle::Handle;

    #[test]
    fn a_message_that_is_written_over_equals_one_that_is_built_anew() {
        let place = Place::new(7, Handle::new(1, 1), Handle::new(1, 0));
        let mut class = PreparedClass::new(place, 1_250_000, 1500);
        for bytes_per_s in [1, 1500, 1_250_000, u64::from(u32::MAX), 6_000_000_000] {
            let anew = PreparedClass::new(place, bytes_per_s, 1500);
            let changed = class.change_to(bytes_per_s);
            assert_eq!(changed.bytes(), anew.change.bytes());
        }
        // 100 Gbit/s is the most.
        let most = PreparedClass::new(place, UNLIMITED_BYTES_PER_S, 1500);
        assert_eq!(class.change_to(u64::MAX).bytes(), most.change.bytes());
    }
}
