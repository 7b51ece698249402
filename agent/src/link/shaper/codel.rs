//! Controlled delay, as RFC 8289 writes it down in section 5: it looks at packets as they leave
//! the queue, and drops (or marks) once they have waited longer than the target for an interval,
//! then at intervals that shrink with the inverse square root of the number of drops.

use super::line::{Packet, WaitingLine};

/// What the discipline does to a packet other than serving it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// It is gone.
    Drop,
    /// It is served, marked as having met congestion (RFC 3168).
    Mark,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Codel {
    target_ns: u64,
    interval_ns: u64,
    /// A queue of this many bytes is never too long: `maxpacket_` of the RFC.
    mtu_bytes: u64,
    /// When the delay will have been above the target for an interval; `None` while it is below.
    first_above_ns: Option<u64>,
    drop_next_ns: u64,
    /// Drops since it began to drop.
    count: u32,
    last_count: u32,
    dropping: bool,
}

impl Codel {
    pub(super) const fn new(target_ns: u64, interval_ns: u64, mtu: u32) -> Codel {
        Codel {
            target_ns,
            interval_ns,
            mtu_bytes: mtu as u64,
            first_above_ns: None,
            drop_next_ns: 0,
            count: 0,
            last_count: 0,
            dropping: false,
        }
    }

    /// The next packet to be served at `now_ns`; what is dropped or marked on the way goes to
    /// `act`. A mark stands for a drop where `ecn` is set and the packet can carry it.
    pub(super) fn take(
        &mut self,
        now_ns: u64,
        line: &mut WaitingLine,
        ecn: bool,
        act: &mut impl FnMut(Action, Packet),
    ) -> Option<Packet> {
        let (mut packet, mut ok_to_drop) = self.take_one(now_ns, line);
        if self.dropping {
            self.dropping = ok_to_drop;
            while self.dropping && now_ns >= self.drop_next_ns {
                self.count = self.count.saturating_add(1);
                if self.mark_instead(packet, ecn, act) {
                    self.drop_next_ns = self.control_law(self.drop_next_ns);
                    break;
                }
                (packet, ok_to_drop) = self.take_one(now_ns, line);
                self.dropping = ok_to_drop;
                if ok_to_drop {
                    self.drop_next_ns = self.control_law(self.drop_next_ns);
                }
            }
        } else if ok_to_drop {
            if !self.mark_instead(packet, ecn, act) {
                (packet, _) = self.take_one(now_ns, line);
            }
            self.dropping = true;
            // Where it left off not long ago, it goes on at the rate that was needed then.
            let delta = self.count.saturating_sub(self.last_count);
            let recently = now_ns.saturating_sub(self.drop_next_ns) < 16 * self.interval_ns;
            self.count = if delta > 1 && recently { delta } else { 1 };
            self.drop_next_ns = self.control_law(now_ns);
            self.last_count = self.count;
        }
        packet
    }

    /// The link asked for a packet and there was none.
    pub(super) const fn found_nothing(&mut self) {
        self.first_above_ns = None;
        self.dropping = false;
    }

    /// Marks the packet, or drops it and says false.
    fn mark_instead(
        &self,
        packet: Option<Packet>,
        ecn: bool,
        act: &mut impl FnMut(Action, Packet),
    ) -> bool {
        let Some(packet) = packet else { return false };
        let mark = ecn && packet.ecn_capable;
        act(if mark { Action::Mark } else { Action::Drop }, packet);
        mark
    }

    /// The packet at the head, and whether it may be dropped.
    fn take_one(&mut self, now_ns: u64, line: &mut WaitingLine) -> (Option<Packet>, bool) {
        let Some(packet) = line.pop() else {
            self.first_above_ns = None;
            return (None, false);
        };
        let sojourn_ns = now_ns.saturating_sub(packet.arrival_ns);
        if sojourn_ns < self.target_ns || line.bytes() <= self.mtu_bytes {
            self.first_above_ns = None;
            return (Some(packet), false);
        }
        match self.first_above_ns {
            None => {
                self.first_above_ns = Some(now_ns.saturating_add(self.interval_ns));
                (Some(packet), false)
            }
            Some(first_above_ns) => (Some(packet), now_ns >= first_above_ns),
        }
    }

    /// t + interval / sqrt(count), in whole nanoseconds.
    fn control_law(&self, t_ns: u64) -> u64 {
        let interval = u128::from(self.interval_ns);
        let pause = (interval * interval / u128::from(self.count.max(1))).isqrt();
        t_ns.saturating_add(u64::try_from(pause).unwrap_or(u64::MAX))
    }
}
