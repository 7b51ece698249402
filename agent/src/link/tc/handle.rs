//! Names of queueing disciplines and classes: a major and a minor number of 16 bits each.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `major:minor`, as tc prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Handle(u32);

impl Handle {
    /// No object: the kernel chooses, or there is none.
    pub const NONE: Handle = Handle(0);
    /// The parent of an interface's root discipline.
    pub const ROOT: Handle = Handle(0xffff_ffff);
    /// The parent of the ingress hook, which clsact shares.
    pub const INGRESS: Handle = Handle(0xffff_fff1);
    /// The handle of an ingress or clsact discipline.
    pub const INGRESS_HANDLE: Handle = Handle::new(0xffff, 0);

    /// `major:minor`.
    #[must_use]
    pub const fn new(major: u16, minor: u16) -> Handle {
        Handle((major as u32) << 16 | minor as u32)
    }

    /// As the kernel has it.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// From the kernel's number.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Handle {
        Handle(raw)
    }

    /// The part before the colon.
    #[must_use]
    pub const fn major(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// The part after the colon.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the lower half is what is asked for"
    )]
    pub const fn minor(self) -> u16 {
        self.0 as u16
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Handle::ROOT => formatter.write_str("root"),
            Handle::INGRESS => formatter.write_str("ingress"),
            Handle(raw) if raw & 0xffff == 0 => write!(formatter, "{:x}:", raw >> 16),
            Handle(raw) => write!(formatter, "{:x}:{:x}", raw >> 16, raw & 0xffff),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_read_as_tc_prints_them() {
        assert_eq!(Handle::new(0x6865, 0).to_string(), "6865:");
        assert_eq!(Handle::new(1, 0x10).to_string(), "1:10");
        assert_eq!(Handle::ROOT.to_string(), "root");
        assert_eq!(Handle::new(0x6865, 3).major(), 0x6865);
        assert_eq!(Handle::new(0x6865, 3).minor(), 3);
    }
}
