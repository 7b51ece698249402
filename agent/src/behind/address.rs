//! Addresses of links around commands, so that stages nest without clashes.
//!
//! The range is 198.19.0.0/16, the half of the RFC 2544 range that experiments do not use. A
//! link takes a block of it. The block's first four addresses are the link's own; the rest is for
//! links that are made behind it, so that routes alone let the innermost command reach every
//! stage:
//!
//! ```text
//! 198.19.0.0/16   16 links side by side, each with a /20
//!   /20           behind each, 15 links with a /24
//!     /24         behind each of those, 15 links with a /28
//!       /28       and 3 links with a /30, behind which there is no room
//! ```
//!
//! IPv6 follows: the block's base address stands in bits 32 to 63 of fd68:6c6b::/32 (RFC 4193).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A block of addresses: those whose first `prefix` bits are those of `base`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block {
    base: u32,
    prefix: u8,
}

/// What all links share.
pub const RANGE: Block = Block {
    base: 0xc613_0000,
    prefix: 16,
};

/// Prefix lengths that a block may have.
const PREFIXES: [u8; 4] = [20, 24, 28, 30];

impl Block {
    /// The block that this address and prefix length are, if links make such.
    #[must_use]
    pub fn of(address: Ipv4Addr, prefix: u8) -> Option<Block> {
        let block = Block {
            base: address.to_bits(),
            prefix,
        };
        let known = PREFIXES.contains(&prefix) && block.mask() & block.base == block.base;
        (known && RANGE.contains(block)).then_some(block)
    }

    const fn mask(self) -> u32 {
        if self.prefix == 0 {
            0
        } else {
            u32::MAX << (32 - self.prefix)
        }
    }

    const fn contains(self, other: Block) -> bool {
        other.prefix >= self.prefix && other.base & self.mask() == self.base
    }

    /// Whether it has an address in common with the network of that address.
    #[must_use]
    pub fn overlaps(self, address: Ipv4Addr, prefix: u8) -> bool {
        let prefix = prefix.min(32);
        let mask = self.mask() & Block { base: 0, prefix }.mask();
        self.base & mask == address.to_bits() & mask
    }

    /// The blocks for links that are made where this block was handed to, with their numbers.
    pub fn within(self) -> impl Iterator<Item = (u8, Block)> {
        let prefix = PREFIXES.into_iter().find(|&prefix| prefix > self.prefix);
        let count = prefix.map_or(0, |prefix| 1_u32 << (prefix - self.prefix));
        // The first is this block's own link, but for the range, which is no link's.
        let first = u32::from(self != RANGE);
        (first..count).filter_map(move |number| {
            let prefix = prefix?;
            let base = self.base + (number << (32 - prefix));
            Some((u8::try_from(number).ok()?, Block { base, prefix }))
        })
    }

    /// Whether links can be made behind a link with this block.
    #[must_use]
    pub fn has_room(self) -> bool {
        self.within().next().is_some()
    }

    /// The far end's addresses.
    #[must_use]
    pub fn gateway(self) -> [IpAddr; 2] {
        self.host(1)
    }

    /// The command's addresses.
    #[must_use]
    pub fn inner(self) -> [IpAddr; 2] {
        self.host(2)
    }

    fn host(self, number: u32) -> [IpAddr; 2] {
        let v6 = self.network()[1];
        let v6 = match v6 {
            IpAddr::V6(network) => Ipv6Addr::from_bits(network.to_bits() | u128::from(number)),
            IpAddr::V4(_) => Ipv6Addr::UNSPECIFIED,
        };
        [Ipv4Addr::from_bits(self.base + number).into(), v6.into()]
    }

    /// The block itself as networks: IPv4 and IPv6.
    #[must_use]
    pub fn network(self) -> [IpAddr; 2] {
        let v6 = (0xfd68_6c6b_u128 << 96) | (u128::from(self.base) << 64);
        [
            Ipv4Addr::from_bits(self.base).into(),
            Ipv6Addr::from_bits(v6).into(),
        ]
    }

    /// The prefix lengths of those networks.
    #[must_use]
    pub const fn prefixes(self) -> [u8; 2] {
        [self.prefix, self.prefix + 32]
    }

    /// A locally administered MAC address for one end.
    #[must_use]
    pub const fn mac(self, end: u8) -> [u8; 6] {
        let [_, _, high, low] = self.base.to_be_bytes();
        [0x02, 0x68, 0x6c, high, low, end]
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from_bits(self.base), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn first(block: Block) -> Block {
        block.within().next().unwrap().1
    }

    #[test]
    fn four_stages_nest_and_the_fifth_has_no_room() {
        let mut block = RANGE;
        let mut seen = Vec::new();
        while block.has_room() {
            block = first(block);
            seen.push(block.to_string());
        }
        assert_eq!(
            seen,
            [
                "198.19.0.0/20",
                "198.19.1.0/24",
                "198.19.1.16/28",
                "198.19.1.20/30"
            ]
        );
    }

    #[test]
    fn no_two_links_share_an_address_and_all_lie_in_the_block_above() {
        let mut addresses = BTreeSet::new();
        let mut open = vec![RANGE];
        while let Some(above) = open.pop() {
            for (_, block) in above.within() {
                assert!(above.contains(block));
                for address in block.gateway().into_iter().chain(block.inner()) {
                    assert!(addresses.insert(address), "{address} of {block}");
                }
                // All of the tree has 16 * 15 * 15 * 3 leaves; its left edge will do.
                if addresses.len() < 4000 {
                    open.push(block);
                }
            }
        }
    }

    #[test]
    fn the_addresses_of_a_link_are_those_of_the_table() {
        let block = first(RANGE);
        let text = |pair: [IpAddr; 2]| pair.map(|address| address.to_string());
        assert_eq!(text(block.gateway()), ["198.19.0.1", "fd68:6c6b:c613::1"]);
        assert_eq!(text(block.inner()), ["198.19.0.2", "fd68:6c6b:c613::2"]);
        assert_eq!(text(block.network()), ["198.19.0.0", "fd68:6c6b:c613::"]);
        assert_eq!(block.prefixes(), [20, 52]);
        assert_eq!(block.mac(1), [2, 0x68, 0x6c, 0, 0, 1]);
    }

    #[test]
    fn overlap_is_symmetric_in_length() {
        let block = first(RANGE);
        assert!(block.overlaps(Ipv4Addr::new(198, 19, 15, 255), 32));
        assert!(!block.overlaps(Ipv4Addr::new(198, 19, 16, 0), 32));
        assert!(block.overlaps(Ipv4Addr::new(198, 18, 0, 0), 15));
        assert!(!block.overlaps(Ipv4Addr::new(10, 0, 0, 0), 8));
    }

    #[test]
    fn only_what_links_make_is_taken_for_a_block() {
        assert!(Block::of(Ipv4Addr::new(198, 19, 1, 0), 24).is_some());
        assert!(Block::of(Ipv4Addr::new(198, 19, 1, 1), 24).is_none());
        assert!(Block::of(Ipv4Addr::new(198, 19, 0, 0), 23).is_none());
        assert!(Block::of(Ipv4Addr::new(198, 18, 0, 0), 20).is_none());
    }
}
