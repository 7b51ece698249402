//! The programs, instruction by instruction.
//!
//! *Stamp* runs on every packet that is about to enter the fq qdisc of a sending port. It says
//! when the packet is through the bottleneck of the trace and writes that, with the delay, into
//! `skb->tstamp`; fq holds the packet until then. *Forward* moves packets from one port to the
//! other. *Observe* runs where packets are received, and books how late each is.
//!
//! Many CPUs may run *stamp* at once. What they share is a few words of memory, changed by
//! compare-and-exchange or by atomic addition: no lock, and no program waits for another.
//!
//! The numbers are those of [`super::table`] and [`super::memory`].

mod fate;

use super::assembler::Register::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};
use super::assembler::{Assembler, AssemblyError, Helper, Is, Label, Register, Width};
use super::memory::{
    ADMITTED, ARRIVAL, BUCKET_BITS, CONSUMED, CONTENDED, DROPPED, DUE_ENTRIES, FINISH,
    FINISH_ENTRIES, GAP_RING, GAP_RING_ENTRIES, GAPS, LOST, MARKED, ORDER, PAUSE_FROM, PAUSE_UNTIL,
    PEAK_RING, PEAK_RING_ENTRIES, STAMPED, T0,
};
use super::table::{
    DELAY, DOUBLED, ENTRY_BYTES, INTEGRAL, JITTER, MULTIPLIER, NEXT, OWN_QUEUE_BIT, QUEUE_LIMIT,
    SHIFT, START, Table, UNLIMITED_BIT,
};

// Offsets in struct __sk_buff.
const PRIORITY: i16 = 32;
const TC_INDEX: i16 = 44;
pub(super) const TIMESTAMP: i16 = 152;
pub(super) const WIRE_LENGTH: i16 = 160;
const SEGMENTS: i16 = 164;

// What a traffic-control program answers, from linux/pkt_cls.h.
// (TC_ACT_OK would set the traffic-control index to the filter's class.)
const GO_ON: i32 = -1; // TC_ACT_UNSPEC
const DROP: i32 = 2; // TC_ACT_SHOT
const TAKEN: i32 = 4; // TC_ACT_STOLEN

const ETHERNET_HEADER_BYTES: i32 = 14;

/// How often a compare-and-exchange is tried: another CPU must win each of these races in turn.
const TRIES: i32 = 64;

/// An entry of a ring is 16 bytes.
const RING_ENTRY_SHIFT: i32 = 4;

// Places on the stack.
const NOW: i16 = -8;
const ARRIVED: i16 = -16;
const START_OF_TRACE: i16 = -24;
const UNITS: i16 = -32;
const PERIOD_NS: i16 = -40;
const PERIOD_UNITS: i16 = -48;
const AT_ARRIVAL: i16 = -56;
const RANDOM: i16 = -64;
const BACKLOG: i16 = -72;
const NUMBER: i16 = -80;

/// Where *stamp* takes the time of arrival from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    /// The kernel's monotonic clock.
    Kernel,
    /// The packet's own time stamp, for tests.
    #[cfg(test)]
    Packet,
}

/// The maps of one direction, as instructions name them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Maps {
    pub(super) control: i32,
    pub(super) state: i32,
    pub(super) table: i32,
    pub(super) due: i32,
    pub(super) lateness: i32,
    /// Only where the queue is limited in packets.
    pub(super) finish: i32,
}

/// What *stamp* is made from.
#[derive(Debug)]
pub(super) struct Stamp<'a> {
    pub(super) table: &'a Table,
    pub(super) maps: Maps,
    /// Length of the windows that the agent keeps books of.
    pub(super) window_ns: u64,
    /// fq holds no packet longer than this.
    pub(super) horizon_ns: u64,
    pub(super) seed: u64,
    /// Jitter may change the order of packets.
    pub(super) reorder: bool,
    /// So many packets may wait where the trace does not limit the queue in bytes.
    pub(super) queue_packets: Option<u32>,
    /// Packets are served in delivery opportunities at the ends of slots of this length.
    pub(super) slot_ns: Option<u64>,
    pub(super) clock: Clock,
}

/// Moves every packet to another port. A copy is sent and the original consumed, because the
/// original is still on the account of the socket that sent it: that socket would be held back by
/// our queue (send buffer, TCP small queues) as no sender is by a queue in the network.
pub(super) fn forward(to_interface: u32) -> Result<Vec<u64>, AssemblyError> {
    let mut p = Assembler::default();
    p.set_wide(R2, u64::from(to_interface));
    p.set(R3, 0);
    p.call(Helper::CloneRedirect);
    p.set(R0, TAKEN);
    p.exit();
    p.finish()
}

/// Books how much later than due a packet is received: the number of its due time travelled in
/// its traffic-control index.
pub(super) fn observe(maps: Maps) -> Result<Vec<u64>, AssemblyError> {
    let mut p = Assembler::default();
    let out = p.label();
    p.load(R7, Width::Word, R1, TC_INDEX);
    p.jump_if(R7, Is::Equal, 0, out);
    p.jump_if(R7, Is::AtLeast, DUE_ENTRIES, out);
    p.call(Helper::KtimeGetNs);
    p.shift_left(R7, 3);
    p.set_address(R1, maps.due, 0);
    p.add(R1, R7);
    p.load(R2, Width::Double, R1, 0);
    p.jump_if(R2, Is::Equal, 0, out);
    p.subtract(R0, R2); // how late
    p.when(R0, Is::SignedBelow, 0, |p| p.set(R0, 0));
    // R1 = its leading bits, R3 = how many more there are.
    p.set(R1, R0);
    p.set(R3, 0);
    let leading = immediate(BUCKET_BITS);
    for step in [32, 16, 8, 4, 2, 1] {
        p.set(R4, R1);
        p.shift_right(R4, leading + step);
        p.when(R4, Is::NotEqual, 0, |p| {
            p.shift_right(R1, step);
            p.add(R3, step);
        });
    }
    p.and(R1, (2 << BUCKET_BITS) - 1);
    p.shift_left(R3, leading);
    p.add(R3, R1);
    p.shift_left(R3, 3);
    p.set_address(R1, maps.lateness, 0);
    p.add(R1, R3);
    p.set(R4, 1);
    p.fetch_add(R1, 0, R4);
    p.place(out);
    p.set(R0, GO_ON);
    p.exit();
    p.finish()
}

/// A number as an instruction holds it. All that come here are small: bits of a unit or a bucket,
/// and offsets in a table of 64 MiB at most (2^20 entries); anything else would be the largest,
/// which no table has, so that the verifier or the bounds check refuses it.
fn immediate(number: impl TryInto<i32>) -> i32 {
    number.try_into().unwrap_or(i32::MAX)
}

/// Sets `R8` to the last table entry whose key at `key` is not above `sought` (which keeps its
/// value). Changes `R2`, `R3`, `R4`.
///
/// A binary search without a branch: a sign bit becomes a mask. The verifier follows every
/// branch on its own, and 2^16 ways through 16 steps are too many for it.
fn search(p: &mut Assembler, stamp: &Stamp<'_>, sought: Register, key: i16) {
    let last_bytes = (ENTRY_BYTES << stamp.table.search_steps()) - ENTRY_BYTES;
    let last_bytes = immediate(last_bytes);
    p.set_address(R8, stamp.maps.table, 0);
    p.set(R4, 0);
    for step in (0..stamp.table.search_steps()).rev() {
        let step_bytes = immediate(ENTRY_BYTES << step);
        p.set(R3, R8);
        p.add(R3, R4);
        p.add(R3, step_bytes);
        p.load(R3, Width::Double, R3, key);
        p.set(R2, sought);
        p.subtract(R2, R3); // negative: the entry is too far
        p.shift_right_signed(R2, 63);
        p.exclusive_or(R2, -1);
        p.and(R2, step_bytes);
        p.or(R4, R2);
        // Changes nothing, but tells the verifiers of older kernels what they lose track of above.
        p.and(R4, last_bytes & -step_bytes);
    }
    p.add(R8, R4);
}

/// Adds one to a counter of the state (`R7`). Changes `R1`.
fn count(p: &mut Assembler, counter: i16) {
    p.set(R1, 1);
    p.fetch_add(R7, counter, R1);
}

impl Stamp<'_> {
    /// The program.
    pub(super) fn assemble(&self) -> Result<Vec<u64>, AssemblyError> {
        let mut p = Assembler::default();
        let [pass, full, held, lost, through] = [(); 5].map(|()| p.label());
        self.arrive(&mut p, pass);
        self.integral_at_arrival(&mut p);
        if self.table.has_loss || self.table.has_jitter {
            self.draw(&mut p);
        }
        self.meet_fate(&mut p, lost);
        if let Some(packets) = self.queue_packets {
            self.count_waiting(&mut p, packets, full);
        }
        self.queue_up(&mut p, full);
        self.book(&mut p);
        if self.table.has_damage {
            self.damage(&mut p);
        }
        // What is not limited is through as it comes.
        let limited = p.label();
        load_unlimited(&mut p);
        p.jump_if(R1, Is::Equal, 0, limited);
        p.load(R9, Width::Double, R10, ARRIVED);
        p.jump(through);
        p.place(limited);
        self.invert(&mut p, held);
        p.place(through);
        self.due(&mut p);
        self.leave(&mut p, held);

        p.place(pass);
        p.set(R0, GO_ON);
        p.exit();
        if self.table.has_loss {
            p.place(lost);
            count(&mut p, LOST);
            p.set(R0, DROP);
            p.exit();
        }
        // What would be held for ever, or too long, uses nothing up.
        p.place(held);
        p.load(R1, Width::Double, R10, UNITS);
        p.set(R2, 0);
        p.subtract(R2, R1);
        p.fetch_add(R7, CONSUMED, R2);
        p.place(full);
        count(&mut p, DROPPED);
        p.set(R0, DROP);
        p.exit();
        p.finish()
    }

    /// `R6` = the packet, `R7` = the state, `R9` = when it came, from T0.
    fn arrive(&self, p: &mut Assembler, pass: Label) {
        p.set(R6, R1);
        match self.clock {
            Clock::Kernel => p.call(Helper::KtimeGetNs),
            #[cfg(test)]
            Clock::Packet => p.load(R0, Width::Double, R6, TIMESTAMP),
        }
        p.set_address(R7, self.maps.state, 0);
        p.set_address(R1, self.maps.control, 0);
        p.load(R1, Width::Double, R1, T0);
        p.jump_if(R0, Is::Below, R1, pass);
        p.store(Width::Double, R10, NOW, R0);
        p.store(Width::Double, R10, START_OF_TRACE, R1);
        p.set(R9, R0);
        p.subtract(R9, R1);
        p.store(Width::Double, R10, ARRIVED, R9);
        // Its IP bytes: what goes over the wire, without an Ethernet header per segment.
        p.load(R1, Width::Word, R6, WIRE_LENGTH);
        p.load(R2, Width::Word, R6, SEGMENTS);
        p.when(R2, Is::Equal, 0, |p| p.set(R2, 1));
        p.multiply(R2, ETHERNET_HEADER_BYTES);
        p.subtract(R1, R2);
        p.jump_if(R1, Is::SignedAtMost, 0, pass);
        p.shift_left(R1, 3 + immediate(self.table.unit_bits));
        p.store(Width::Double, R10, UNITS, R1);
    }

    /// `R8` = the entry of the arrival, `AT_ARRIVAL` = C(arrival).
    fn integral_at_arrival(&self, p: &mut Assembler) {
        // A slot grants all that it has to what comes in it: C counts from its start.
        if let Some(slot_ns) = self.slot_ns {
            p.set_wide(R2, slot_ns);
            p.set(R3, R9);
            p.divide(R3, R2);
            p.multiply(R3, R2);
            p.set(R9, R3);
        }
        // R3 = whole bodies gone by, R9 = the time without them.
        p.set(R3, 0);
        p.set_wide(R2, self.table.lead_ns);
        p.set_wide(R5, self.table.body_ns);
        p.when(R9, Is::AtLeast, R2, |p| {
            p.set(R3, R9);
            p.subtract(R3, R2);
            p.divide(R3, R5);
        });
        p.multiply(R5, R3);
        p.store(Width::Double, R10, PERIOD_NS, R5);
        p.subtract(R9, R5);
        p.set_wide(R5, self.table.body_units);
        p.multiply(R5, R3);
        p.store(Width::Double, R10, PERIOD_UNITS, R5);
        search(p, self, R9, START);
        p.load(R1, Width::Double, R8, START);
        p.subtract(R9, R1);
        p.load(R1, Width::Double, R8, MULTIPLIER);
        p.subtract(R1, 1); // rounded down
        p.multiply(R9, R1);
        p.load(R1, Width::Word, R8, SHIFT);
        p.shift_right(R9, R1);
        p.load(R1, Width::Double, R8, INTEGRAL);
        p.add(R9, R1);
        p.add(R9, R5);
        p.store(Width::Double, R10, AT_ARRIVAL, R9);
        // Without a limit no bits are used up.
        load_unlimited(p);
        p.when(R1, Is::NotEqual, 0, |p| {
            p.set(R1, 0);
            p.store(Width::Double, R10, UNITS, R1);
        });
    }

    /// Drops the packet if as many wait as may: if the one that found room so many packets ago is
    /// not through yet.
    fn count_waiting(&self, p: &mut Assembler, packets: u32, full: Label) {
        let room = p.label();
        p.load(R1, Width::Word, R8, DOUBLED);
        p.and(R1, 1 << OWN_QUEUE_BIT);
        p.jump_if(R1, Is::NotEqual, 0, room);
        p.load(R1, Width::Double, R7, ADMITTED);
        p.set_wide(R2, u64::from(packets.max(1)));
        p.jump_if(R1, Is::Below, R2, room);
        p.subtract(R1, R2);
        self.find_finish(p);
        p.load(R1, Width::Double, R2, 0);
        p.load(R2, Width::Double, R10, ARRIVED);
        p.jump_if(R1, Is::Above, R2, full);
        p.place(room);
    }

    /// `R2` = where it is written when packet number `R1` is through. Changes `R1`.
    fn find_finish(&self, p: &mut Assembler) {
        p.and(R1, FINISH_ENTRIES - 1);
        p.shift_left(R1, 3);
        p.set_address(R2, self.maps.finish, 0);
        p.add(R2, R1);
    }

    /// Moves `CONSUMED` on by the packet, or drops it if that is too far ahead of C(arrival).
    /// `R9` = the new value; `BACKLOG` = what was ahead.
    fn queue_up(&self, p: &mut Assembler, full: Label) {
        let [again, fits, won, contended] = [(); 4].map(|()| p.label());
        p.set(R5, TRIES);
        p.place(again);
        p.load(R0, Width::Double, R7, CONSUMED);
        p.load(R1, Width::Double, R10, AT_ARRIVAL);
        p.load(R9, Width::Double, R10, UNITS);
        // R2 = units ahead: the sign tells, because both count modulo 2^64.
        p.set(R2, R0);
        p.subtract(R2, R1);
        let busy = p.label();
        p.jump_if(R2, Is::SignedAbove, 0, busy);
        p.set(R2, 0);
        p.jump(fits);
        p.place(busy);
        p.set(R3, R2);
        p.add(R3, R9);
        p.load(R4, Width::Double, R8, QUEUE_LIMIT);
        p.jump_if(R3, Is::Above, R4, full);
        p.place(fits);
        p.add(R9, R2);
        p.add(R9, R1);
        p.set(R4, R0);
        p.compare_exchange(R7, CONSUMED, R9);
        p.jump_if(R0, Is::Equal, R4, won);
        p.subtract(R5, 1);
        p.jump_if(R5, Is::NotEqual, 0, again);
        p.jump(contended);
        p.place(contended);
        count(p, CONTENDED);
        p.jump(full);
        p.place(won);
        p.store(Width::Double, R10, BACKLOG, R2);
        if self.queue_packets.is_some() {
            count(p, ADMITTED); // leaves in R1 how many there were
            p.store(Width::Double, R10, NUMBER, R1);
        }
    }

    /// Books a gap in the queue, as the receiver sees it, and the length of the queue.
    fn book(&self, p: &mut Assembler) {
        let [no_gap, higher, booked] = [(); 3].map(|()| p.label());
        p.set_wide(R5, self.window_ns);
        p.load(R1, Width::Double, R10, BACKLOG);
        p.jump_if(R1, Is::NotEqual, 0, no_gap);
        p.load(R1, Width::Double, R10, ARRIVED);
        p.load(R2, Width::Double, R8, DELAY);
        p.add(R1, R2); // the gap ends here
        p.set(R2, R1);
        p.divide(R2, R5);
        p.load(R3, Width::Double, R7, MARKED);
        p.jump_if(R2, Is::Equal, R3, no_gap);
        p.store(Width::Double, R7, MARKED, R2);
        p.set(R2, 1);
        p.fetch_add(R7, GAPS, R2);
        p.and(R2, GAP_RING_ENTRIES - 1);
        p.shift_left(R2, RING_ENTRY_SHIFT);
        p.set(R3, R7);
        p.add(R3, R2);
        p.load(R2, Width::Double, R7, ARRIVAL);
        p.store(Width::Double, R3, GAP_RING, R2);
        p.store(Width::Double, R3, GAP_RING + 8, R1);
        p.place(no_gap);

        p.load(R1, Width::Double, R10, ARRIVED);
        p.divide(R1, R5);
        p.set(R3, R1);
        p.and(R3, PEAK_RING_ENTRIES - 1);
        p.shift_left(R3, RING_ENTRY_SHIFT);
        p.add(R3, R7);
        p.add(R1, 1);
        p.load(R4, Width::Double, R10, BACKLOG);
        p.load(R2, Width::Double, R10, UNITS);
        p.add(R4, R2);
        p.load(R2, Width::Double, R3, PEAK_RING);
        p.jump_if(R2, Is::NotEqual, R1, higher);
        p.load(R2, Width::Double, R3, PEAK_RING + 8);
        p.jump_if(R2, Is::AtLeast, R4, booked);
        p.place(higher);
        p.store(Width::Double, R3, PEAK_RING, R1);
        p.store(Width::Double, R3, PEAK_RING + 8, R4);
        p.place(booked);
    }

    /// `R9` = C^-1(`R9`), from T0; `R8` = the entry of that moment.
    fn invert(&self, p: &mut Assembler, never: Label) {
        let table = self.table;
        p.load(R1, Width::Double, R10, PERIOD_UNITS);
        p.subtract(R9, R1);
        // Beyond the end of the body: as many bodies more as it takes. The moment that ends a
        // body belongs to it.
        let within = p.label();
        p.set_wide(R2, table.lead_units + table.body_units);
        p.jump_if(R9, Is::AtMost, R2, within);
        if table.body_units == 0 {
            p.jump(never);
        } else {
            p.set_wide(R2, table.lead_units + 1);
            p.set(R1, R9);
            p.subtract(R1, R2);
            p.set_wide(R2, table.body_units);
            p.divide(R1, R2);
            p.multiply(R2, R1);
            p.subtract(R9, R2);
            p.set_wide(R2, table.body_ns);
            p.multiply(R2, R1);
            p.load(R1, Width::Double, R10, PERIOD_NS);
            p.add(R1, R2);
            p.store(Width::Double, R10, PERIOD_NS, R1);
        }
        p.place(within);
        // The last entry that begins below it.
        p.set(R1, R9);
        p.subtract(R1, 1);
        search(p, self, R1, INTEGRAL);
        p.load(R1, Width::Double, R8, INTEGRAL);
        p.subtract(R9, R1);
        p.load(R1, Width::Word, R8, SHIFT);
        p.shift_left(R9, R1);
        p.load(R1, Width::Double, R8, MULTIPLIER);
        p.add(R9, R1);
        p.subtract(R9, 1);
        p.divide(R9, R1); // rounded up
        p.load(R1, Width::Double, R8, START);
        p.add(R9, R1);
        // At its very end the next entry counts.
        p.load(R1, Width::Double, R8, NEXT + START);
        p.when(R9, Is::AtLeast, R1, |p| p.add(R8, i32::from(NEXT)));
        p.load(R1, Width::Double, R10, PERIOD_NS);
        p.add(R9, R1);
        if let Some(slot_ns) = self.slot_ns {
            p.set_wide(R2, slot_ns);
            p.add(R9, R2);
            p.subtract(R9, 1);
            p.divide(R9, R2);
            p.multiply(R9, R2);
        }
        p.load(R1, Width::Double, R10, ARRIVED);
        p.when(R9, Is::Below, R1, |p| p.set(R9, R1));
    }

    /// `R9` = when the packet is due, from T0: its delay later, in order.
    fn due(&self, p: &mut Assembler) {
        p.store(Width::Double, R7, FINISH, R9);
        if self.queue_packets.is_some() {
            p.load(R1, Width::Double, R10, NUMBER);
            self.find_finish(p);
            p.store(Width::Double, R2, 0, R9);
        }
        p.set(R2, R9);
        p.load(R1, Width::Double, R8, DELAY);
        p.add(R2, R1);
        p.load(R3, Width::Double, R7, ARRIVAL);
        p.when(R2, Is::Above, R3, |p| p.set(R3, R2));
        p.store(Width::Double, R7, ARRIVAL, R3);
        if self.reorder {
            p.set(R2, R3);
        }
        if self.table.has_jitter {
            // 30 random bits times the width of the jitter fit 64 bits.
            p.load(R4, Width::Word, R8, JITTER);
            p.load(R5, Width::Double, R10, RANDOM);
            p.and(R5, 0x3fff_ffff);
            p.set(R1, R4);
            p.shift_left(R1, 1);
            p.add(R1, 1);
            p.multiply(R5, R1);
            p.shift_right(R5, 30);
            p.add(R2, R5);
            p.subtract(R2, R4);
            p.when(R2, Is::SignedBelow, R9, |p| p.set(R2, R9));
        }
        p.set(R9, R2);
        if self.reorder {
            return;
        }
        let [again, overtaken, ordered] = [(); 3].map(|()| p.label());
        p.set(R5, TRIES);
        p.place(again);
        p.load(R0, Width::Double, R7, ORDER);
        p.jump_if(R9, Is::AtMost, R0, overtaken);
        p.set(R4, R0);
        p.compare_exchange(R7, ORDER, R9);
        p.jump_if(R0, Is::Equal, R4, ordered);
        p.subtract(R5, 1);
        p.jump_if(R5, Is::NotEqual, 0, again);
        p.jump(ordered);
        p.place(overtaken);
        p.set(R9, R0);
        p.place(ordered);
    }

    /// Writes the due time where fq and *observe* find it.
    fn leave(&self, p: &mut Assembler, too_far: Label) {
        p.load(R1, Width::Double, R10, START_OF_TRACE);
        p.add(R9, R1);
        p.load(R1, Width::Double, R10, NOW);
        p.set(R2, R9);
        p.subtract(R2, R1);
        p.set_wide(R1, self.horizon_ns);
        p.jump_if(R2, Is::SignedAbove, R1, too_far);
        p.set(R2, 1);
        p.fetch_add(R7, STAMPED, R2);
        p.and(R2, DUE_ENTRIES - 1);
        p.store(Width::Word, R6, TC_INDEX, R2);
        p.shift_left(R2, 3);
        p.set_address(R1, self.maps.due, 0);
        p.add(R1, R2);
        p.store(Width::Double, R1, 0, R9);
        // A fault: what would leave in the pause leaves at its end.
        p.set_address(R1, self.maps.control, 0);
        p.load(R2, Width::Double, R1, PAUSE_UNTIL);
        p.load(R1, Width::Double, R1, PAUSE_FROM);
        let go = p.label();
        p.jump_if(R9, Is::Below, R1, go);
        p.jump_if(R9, Is::AtLeast, R2, go);
        p.set(R9, R2);
        p.place(go);
        // fq lets what is of the highest priority go at once.
        p.set(R1, 0);
        p.store(Width::Word, R6, PRIORITY, R1);
        p.store(Width::Double, R6, TIMESTAMP, R9);
        p.set(R0, GO_ON);
        p.exit();
    }
}

/// `R1` = whether the rate of the entry `R8` has no limit.
fn load_unlimited(p: &mut Assembler) {
    p.load(R1, Width::Word, R8, DOUBLED);
    p.shift_right(R1, UNLIMITED_BIT);
}

#[cfg(test)]
mod tests;
