//! Hash tables of u32: so that a packet is compared with few of many peers.
//!
//! A table has 256 buckets; the last byte of an address says which. The filters in them are those
//! of [`super::filter`]; one more, in the root table, sends every packet of the protocol to its
//! bucket. What finds nothing there goes on behind that one (`u32_classify` in net/sched/cls_u32.c).

use std::net::IpAddr;

use super::filter::{Side, layout};
use super::{KIND, OPTIONS, Place};
use crate::link::tc::handle::Handle;
use crate::link::tc::wire::Writer;

const LINK: u16 = 3; // TCA_U32_LINK
const DIVISOR: u16 = 4; // TCA_U32_DIVISOR
const SELECTOR: u16 = 5; // TCA_U32_SEL

const BUCKETS: u32 = 256;

/// Number of the root table, which the kernel makes.
const ROOT: u32 = 0x800;

/// A bucket of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// Number of the table: below 0x800.
    table: u32,
    number: u8,
}

impl Bucket {
    /// The bucket of an address.
    pub(crate) fn of(table: &Table, address: IpAddr) -> Bucket {
        let last = match address {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(address) => address.octets()[15],
        };
        Bucket {
            table: table.number(),
            number: last,
        }
    }

    /// As the kernel names it: 12 bits of table, 8 of bucket, 12 of a filter in it.
    pub(super) const fn raw(self) -> u32 {
        self.table << 20 | (self.number as u32) << 12
    }

    /// Its opposite; `None` for the root table.
    pub(super) fn from_raw(raw: u32) -> Option<Bucket> {
        let number = u8::try_from(raw >> 12 & 0xff).ok()?;
        let table = raw >> 20;
        (table < ROOT).then_some(Bucket { table, number })
    }
}

/// A table for the peers of one protocol, and where it hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Table {
    /// With priority and protocol.
    pub(crate) place: Place,
    /// Which address is looked at.
    pub(crate) side: Side,
    pub(crate) ipv6: bool,
}

impl Table {
    const fn number(&self) -> u32 {
        1 + self.ipv6 as u32
    }

    const fn handle(&self) -> Handle {
        Handle::from_raw(self.number() << 20)
    }

    /// The message that makes the table.
    pub(crate) fn message(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        let place = Place {
            handle: self.handle(),
            ..self.place
        };
        place.write(&mut writer);
        writer.text(KIND, "u32");
        writer.nested(OPTIONS, |options| {
            options.u32(DIVISOR, BUCKETS);
        });
        writer.into_bytes()
    }

    /// The message that has every packet looked up in it.
    pub(crate) fn link_message(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        let place = Place {
            handle: Handle::NONE,
            ..self.place
        };
        place.write(&mut writer);
        writer.text(KIND, "u32");
        writer.nested(OPTIONS, |options| {
            options.u32(LINK, self.handle().raw());
            let length = if self.ipv6 { 16 } else { 4 };
            let start = layout(self.ipv6).addresses[usize::from(self.side == Side::Destination)];
            let last_word = i16::try_from(start + length - 4).unwrap_or(0);
            // struct tc_u32_sel: flags, offshift, nkeys, padding, offmask, off, offoff; then hoff
            // and hmask, which choose the last byte; then a key that fits every packet.
            let mut selector = vec![0, 0, 1, 0];
            selector.extend([0; 6]);
            selector.extend(last_word.to_ne_bytes());
            selector.extend([0, 0, 0, 0xff]);
            selector.extend([0; 16]);
            options.attribute(SELECTOR, &selector);
        });
        writer.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::tc::codec::filter::{ETH_P_IP, info};

    fn table() -> Table {
        Table {
            place: Place {
                info: info(7, ETH_P_IP),
                ..Place::new(3, Handle::NONE, Handle::new(0x6865, 0))
            },
            side: Side::Destination,
            ipv6: false,
        }
    }

    #[test]
    fn a_table_has_a_bucket_for_each_last_byte() {
        let expected = [
            0, 0, 0, 0, 3, 0, 0, 0, // interface 3
            0, 0, 0x10, 0, // handle 1::
            0, 0, 0x65, 0x68, // parent 6865:
            8, 0, 7, 0, // IPv4, priority 7
            8, 0, 1, 0, b'u', b'3', b'2', 0, // TCA_KIND
            12, 0, 2, 0, // TCA_OPTIONS
            8, 0, 4, 0, 0, 1, 0, 0, // TCA_U32_DIVISOR: 256
        ];
        let mut message = table().message();
        // Options may be marked as nested (NLA_F_NESTED).
        message[31] &= 0x7f;
        assert_eq!(message, expected);
    }

    #[test]
    fn a_link_hashes_the_last_byte_of_the_address() {
        let expected = [
            0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x65, 0x68, 8, 0, 7, 0, //
            8, 0, 1, 0, b'u', b'3', b'2', 0, //
            48, 0, 2, 0, // TCA_OPTIONS
            8, 0, 3, 0, 0, 0, 0x10, 0, // TCA_U32_LINK: table 1
            36, 0, 5, 0, // TCA_U32_SEL
            0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 16, 0, // one key; hashed from byte 16 on
            0, 0, 0, 0xff, // the last of four bytes
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // which fits everything
        ];
        let mut message = table().link_message();
        message[31] &= 0x7f;
        assert_eq!(message, expected);
    }

    #[test]
    fn buckets_are_named_as_the_kernel_names_them() {
        let bucket = Bucket::of(&table(), [10, 9, 1, 0x2c].into());
        assert_eq!(bucket.raw(), 0x0012_c000);
        assert_eq!(Bucket::from_raw(0x0012_c800), Some(bucket));
        assert_eq!(Bucket::from_raw(0x8000_0800), None);
    }
}
