//! Capabilities of the calling thread (capabilities(7)).

use std::io;

/// `CAP_NET_ADMIN` of linux/capability.h: changes of interfaces, routes and disciplines.
pub(crate) const NET_ADMIN: u32 = 12;

/// `CAP_SYS_ADMIN`: namespaces, among much else.
pub(crate) const SYS_ADMIN: u32 = 21;

/// `CAP_SYS_NICE` of linux/capability.h: real-time scheduling without a limit.
const SYS_NICE: u32 = 23;

/// `_LINUX_CAPABILITY_VERSION_3`: two 32-bit words per set.
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const NONE: [Data; 2] = [Data {
    effective: 0,
    permitted: 0,
    inheritable: 0,
}; 2];

/// Gives up every capability, for good. Allocates nothing.
pub(crate) fn clear() -> io::Result<()> {
    set(&NONE)
}

/// Gives up the right to real-time scheduling that does not come from `RLIMIT_RTPRIO`; threads
/// started from here on do not have it either.
pub(crate) fn give_up_sys_nice() -> io::Result<()> {
    let mut data = get()?;
    let mask = !(1 << SYS_NICE);
    data[0].effective &= mask;
    data[0].permitted &= mask;
    data[0].inheritable &= mask;
    set(&data)
}

/// Whether the calling thread has a right: one of the first 32.
pub(crate) fn has(capability: u32) -> io::Result<bool> {
    Ok(get()?[0].effective & (1 << capability) != 0)
}

const fn header() -> Header {
    // Process 0 is the calling thread.
    Header {
        version: VERSION,
        pid: 0,
    }
}

fn get() -> io::Result<[Data; 2]> {
    let (mut header, mut data) = (header(), NONE);
    #[expect(unsafe_code, reason = "neither std nor nix has capget")]
    // SAFETY: both pointers are to values of the layout that the version announces.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(data)
    }
}

fn set(data: &[Data; 2]) -> io::Result<()> {
    let header = header();
    #[expect(unsafe_code, reason = "neither std nor nix has capset")]
    // SAFETY: both pointers are to values of the layout that the version announces.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_looked_up_one_by_one_and_without_any_there_is_none() {
        let all = get().unwrap()[0].effective;
        for capability in [NET_ADMIN, SYS_ADMIN, SYS_NICE] {
            assert_eq!(has(capability).unwrap(), all >> capability & 1 == 1);
        }
        let cleared = std::thread::spawn(|| {
            clear().unwrap();
            has(NET_ADMIN).unwrap()
        });
        assert!(!cleared.join().unwrap());
    }

    #[test]
    fn what_a_thread_gives_up_it_cannot_use_and_others_keep() {
        let allowed = |thread: [Data; 2]| thread[0].effective & (1 << SYS_NICE) != 0;
        let before = get().unwrap();
        let gave_up = std::thread::spawn(|| {
            give_up_sys_nice().unwrap();
            get().unwrap()
        });
        assert!(!allowed(gave_up.join().unwrap()));
        assert_eq!(allowed(get().unwrap()), allowed(before));
    }
}
