//! Netlink attributes as bytes: written one after the other, read without trusting a length.
//!
//! An attribute is a 16-bit length (its header of four bytes counted), a 16-bit type and its
//! payload, filled up to a multiple of four bytes (linux/netlink.h, `struct nlattr`).

/// The two highest bits of a type are flags: nested, and network byte order.
const TYPE_MASK: u16 = 0x3fff;

/// Collects attributes.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Bytes that are no attribute: a structure in front of them.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Writer {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub(crate) fn attribute(&mut self, kind: u16, payload: &[u8]) -> &mut Writer {
        let length = u16::try_from(payload.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(payload);
        let filled = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(filled, 0);
        self
    }

    pub(crate) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Writer)) -> &mut Writer {
        let mut inside = Writer::default();
        fill(&mut inside);
        self.attribute(kind, &inside.bytes)
    }

    /// A string with its terminating zero.
    pub(crate) fn text(&mut self, kind: u16, text: &str) -> &mut Writer {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    pub(crate) fn u8(&mut self, kind: u16, value: u8) -> &mut Writer {
        self.attribute(kind, &[value])
    }

    pub(crate) fn u32(&mut self, kind: u16, value: u32) -> &mut Writer {
        self.attribute(kind, &value.to_ne_bytes())
    }

    pub(crate) fn u64(&mut self, kind: u16, value: u64) -> &mut Writer {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// A number in network byte order, such as a port.
    pub(crate) fn big_u16(&mut self, kind: u16, value: u16) -> &mut Writer {
        self.attribute(kind, &value.to_be_bytes())
    }
}

/// Numbers of 32 bits one behind the other.
pub(crate) fn words(values: &[u32]) -> Vec<u8> {
    let bytes = values.iter().flat_map(|value| value.to_ne_bytes());
    bytes.collect()
}

/// The attributes of a payload, in order. What is cut short ends the list.
#[derive(Debug, Clone)]
pub(crate) struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Attributes<'a> {
        Attributes { rest: bytes }
    }

    /// The payload of the first attribute of a type.
    pub(crate) fn find(bytes: &'a [u8], kind: u16) -> Option<&'a [u8]> {
        let mut attributes = Attributes::new(bytes);
        attributes.find_map(|(found, payload)| (found == kind).then_some(payload))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let length = usize::from(u16_at(self.rest, 0)?);
        let kind = u16_at(self.rest, 2)? & TYPE_MASK;
        let payload = self.rest.get(4..length)?;
        let next = length.next_multiple_of(4);
        self.rest = self.rest.get(next..).unwrap_or(&[]);
        Some((kind, payload))
    }
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_ne_bytes)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_ne_bytes)
}

pub(crate) fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    array_at(bytes, at).map(i32::from_ne_bytes)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_ne_bytes)
}

pub(crate) fn big_u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_be_bytes)
}

/// A string up to its terminating zero.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_filled_up_to_four_bytes_and_read_back() {
        let mut writer = Writer::default();
        writer.text(1, "htb").u8(2, 7).nested(3, |inside| {
            inside.u64(4, 9);
        });
        let bytes = writer.into_bytes();
        assert_eq!(bytes.len(), 8 + 8 + 16);
        let found: Vec<u16> = Attributes::new(&bytes).map(|(kind, _)| kind).collect();
        assert_eq!(found, [1, 2, 3]);
        assert_eq!(text(Attributes::find(&bytes, 1).unwrap()), "htb");
        let inside = Attributes::find(&bytes, 3).unwrap();
        assert_eq!(u64_at(Attributes::find(inside, 4).unwrap(), 0), Some(9));
    }

    #[test]
    fn what_is_cut_short_ends_the_list_instead_of_being_believed() {
        let mut writer = Writer::default();
        writer.u32(1, 5).u32(2, 6);
        let bytes = writer.into_bytes();
        assert_eq!(Attributes::new(&bytes[..11]).count(), 1);
        // A length shorter than its own header.
        assert_eq!(Attributes::new(&[3, 0, 1, 0, 0, 0, 0, 0]).count(), 0);
        assert_eq!(Attributes::new(&[]).count(), 0);
    }
}
