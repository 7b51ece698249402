//! The programs and maps that the kernel has, by number: what tests look for when nobody should
//! hold any.

use std::io;
use std::os::fd::AsFd as _;

use super::{address_mut, bpf, length, new_descriptor, number};

const PROG_GET_NEXT_ID: libc::c_long = 11;
const MAP_GET_NEXT_ID: libc::c_long = 12;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const MAP_GET_FD_BY_ID: libc::c_long = 14;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;

/// As much of `struct bpf_prog_info` as reaches behind its name, and more than that of
/// `struct bpf_map_info`.
const INFO_BYTES: usize = 80;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BpfKind {
    /// Instructions that the kernel took.
    Program,
    /// Memory that programs share.
    Map,
}

/// One object that exists in the kernel, whoever holds it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BpfObject {
    /// What it is.
    pub kind: BpfKind,
    /// Its number; programs and maps are counted apart.
    pub number: u32,
    /// What it was named when it was made; empty if nothing.
    pub name: String,
}

/// `start_id` or an object's own number, and what comes next.
#[repr(C)]
#[derive(Default)]
struct Numbered {
    number: u32,
    next: u32,
    open_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct InfoAsked {
    descriptor: u32,
    info_bytes: u32,
    info: u64,
}

impl BpfKind {
    /// The commands for the next number and for a descriptor, and where the name lies in what the
    /// kernel tells.
    const fn commands(self) -> (libc::c_long, libc::c_long, usize) {
        match self {
            BpfKind::Program => (PROG_GET_NEXT_ID, PROG_GET_FD_BY_ID, 64),
            BpfKind::Map => (MAP_GET_NEXT_ID, MAP_GET_FD_BY_ID, 24),
        }
    }
}

/// Every program and map of this kernel.
///
/// # Errors
/// Not allowed: it takes `CAP_SYS_ADMIN` outside of any user namespace.
pub fn bpf_objects() -> io::Result<Vec<BpfObject>> {
    let mut objects = Vec::new();
    for kind in [BpfKind::Program, BpfKind::Map] {
        let mut last = 0;
        while let Some(number) = number_after(kind, last)? {
            last = number;
            // One that is gone meanwhile is none.
            if let Some(name) = if_there(name_of(kind, number))? {
                objects.push(BpfObject { kind, number, name });
            }
        }
    }
    Ok(objects)
}

fn number_after(kind: BpfKind, last: u32) -> io::Result<Option<u32>> {
    let mut attributes = Numbered {
        number: last,
        ..Numbered::default()
    };
    let asked = bpf(kind.commands().0, &mut attributes);
    Ok(if_there(asked)?.map(|_| attributes.next))
}

fn name_of(kind: BpfKind, id: u32) -> io::Result<String> {
    let (_, open, name_at) = kind.commands();
    let mut attributes = Numbered {
        number: id,
        ..Numbered::default()
    };
    let descriptor = new_descriptor(bpf(open, &mut attributes)?)?;
    let mut info = [0_u8; INFO_BYTES];
    let mut attributes = InfoAsked {
        descriptor: number(descriptor.as_fd()),
        info_bytes: length(&info)?,
        info: address_mut(&mut info),
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attributes)?;
    let name = info[name_at..name_at + 16].split(|byte| *byte == 0).next();
    Ok(String::from_utf8_lossy(name.unwrap_or_default()).into_owned())
}

fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_attributes_are_as_long_as_the_kernel_reads_them() {
        assert_eq!(size_of::<Numbered>(), 12);
        assert_eq!(size_of::<InfoAsked>(), 16);
    }
}
