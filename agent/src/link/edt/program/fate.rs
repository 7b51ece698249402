//! What chance does to a packet: loss, a second copy, damage.

use super::super::assembler::Register::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};
use super::super::assembler::{Assembler, Helper, Is, Label, Width};
use super::super::memory::{DAMAGED, DOUBLES, DRAWN, LOST_BEFORE};
use super::super::table::{CORRUPTED, DOUBLED, LOSS_ENTER, LOSS_STAY, OWN_QUEUE_BIT};
use super::{ETHERNET_HEADER_BYTES, RANDOM, Stamp, count};

// Offsets in struct __sk_buff.
const LENGTH: i16 = 0;
const MARK: i16 = 8;
const INTERFACE: i16 = 40;

/// The mark of a second copy on its way through the program: "hexl" in ASCII.
const COPY: i32 = 0x6865_786c;

// Places on the stack.
const KEPT: i16 = -88;
const BYTE: i16 = -96;
const OFFSET: i16 = -104;

impl Stamp<'_> {
    /// May lose the packet or send a second copy of it through the same program, which takes its
    /// own share of the link. A copy has met its fate.
    pub(super) fn meet_fate(&self, p: &mut Assembler, lost: Label) {
        let met = p.label();
        if self.table.has_doubles {
            let original = p.label();
            p.load(R1, Width::Word, R6, MARK);
            p.jump_if(R1, Is::NotEqual, COPY, original);
            p.set(R1, 0);
            p.store(Width::Word, R6, MARK, R1);
            p.jump(met);
            p.place(original);
        }
        if self.table.has_loss {
            lose(p, lost);
        }
        if self.table.has_doubles {
            self.draw(p);
            load_share(p);
            p.load(R3, Width::Word, R8, DOUBLED);
            p.and(R3, (1 << OWN_QUEUE_BIT) - 1);
            p.jump_if(R2, Is::AtLeast, R3, met);
            p.set(R1, COPY);
            p.store(Width::Word, R6, MARK, R1);
            p.set(R1, R6);
            p.load(R2, Width::Word, R6, INTERFACE);
            p.set(R3, 0);
            p.call(Helper::CloneRedirect);
            p.set(R1, 0);
            p.store(Width::Word, R6, MARK, R1);
            count(p, DOUBLES);
        }
        p.place(met);
    }

    /// May flip a bit of the packet behind its Ethernet header.
    pub(super) fn damage(&self, p: &mut Assembler) {
        let whole = p.label();
        p.store(Width::Double, R10, KEPT, R9);
        self.draw(p);
        load_share(p);
        p.load(R3, Width::Word, R8, CORRUPTED);
        p.jump_if(R2, Is::AtLeast, R3, whole);
        // The lower half of the number chooses byte and bit.
        p.load(R1, Width::Double, R10, RANDOM);
        p.shift_left(R1, 32);
        p.shift_right(R1, 32);
        p.load(R2, Width::Word, R6, LENGTH);
        p.subtract(R2, ETHERNET_HEADER_BYTES);
        p.jump_if(R2, Is::SignedAtMost, 0, whole);
        p.multiply(R1, R2);
        p.set(R3, R1);
        p.shift_right(R1, 32);
        p.add(R1, ETHERNET_HEADER_BYTES);
        p.store(Width::Double, R10, OFFSET, R1);
        // What is below the point chooses the bit.
        p.shift_right(R3, 29);
        p.and(R3, 7);
        p.set(R9, 1);
        p.shift_left(R9, R3);
        p.set(R2, 0);
        p.store(Width::Double, R10, BYTE, R2);
        p.set(R2, R1);
        p.set(R1, R6);
        p.set(R3, R10);
        p.add(R3, i32::from(BYTE));
        p.set(R4, 1);
        p.call(Helper::LoadBytes);
        p.jump_if(R0, Is::NotEqual, 0, whole);
        p.load(R1, Width::Double, R10, BYTE);
        if cfg!(target_endian = "big") {
            p.shift_left(R9, 56);
        }
        p.exclusive_or(R1, R9);
        p.store(Width::Double, R10, BYTE, R1);
        p.set(R1, R6);
        p.load(R2, Width::Double, R10, OFFSET);
        p.set(R3, R10);
        p.add(R3, i32::from(BYTE));
        p.set(R4, 1);
        p.set(R5, 0);
        p.call(Helper::StoreBytes);
        count(p, DAMAGED);
        p.place(whole);
        p.load(R9, Width::Double, R10, KEPT);
    }

    /// `RANDOM` = the next number of splitmix64 (Steele, Lea and Flood, OOPSLA 2014), which is a
    /// function of the seed and of how many were drawn before.
    pub(super) fn draw(&self, p: &mut Assembler) {
        let scramble = |p: &mut Assembler, shift: i32, factor: Option<u64>| {
            p.set(R2, R1);
            p.shift_right(R2, shift);
            p.exclusive_or(R1, R2);
            if let Some(factor) = factor {
                p.set_wide(R2, factor);
                p.multiply(R1, R2);
            }
        };
        count(p, DRAWN); // leaves in R1 how many there were
        p.add(R1, 1);
        p.set_wide(R2, 0x9e37_79b9_7f4a_7c15);
        p.multiply(R1, R2);
        p.set_wide(R2, self.seed);
        p.add(R1, R2);
        scramble(p, 30, Some(0xbf58_476d_1ce4_e5b9));
        scramble(p, 27, Some(0x94d0_49bb_1331_11eb));
        scramble(p, 31, None);
        p.store(Width::Double, R10, RANDOM, R1);
    }
}

/// `R2` = the random number as a share of 10^9.
fn load_share(p: &mut Assembler) {
    p.load(R2, Width::Double, R10, RANDOM);
    p.shift_right(R2, 32);
    p.multiply(R2, 1_000_000_000);
    p.shift_right(R2, 32);
}

/// Whether the packet is lost: less than the entry's share of 10^9.
fn lose(p: &mut Assembler, lost: Label) {
    let kept = p.label();
    load_share(p);
    p.load(R3, Width::Word, R8, LOSS_ENTER);
    p.load(R4, Width::Double, R7, LOST_BEFORE);
    p.when(R4, Is::NotEqual, 0, |p| {
        p.load(R3, Width::Word, R8, LOSS_STAY);
    });
    p.set(R1, 1);
    p.when(R2, Is::AtLeast, R3, |p| p.set(R1, 0));
    p.store(Width::Double, R7, LOST_BEFORE, R1);
    p.jump_if(R1, Is::Equal, 0, kept);
    p.jump(lost);
    p.place(kept);
}
