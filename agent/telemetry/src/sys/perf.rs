//! One counting event of perf (`perf_event_open(2)`).

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::FromRawFd as _;

/// The first published size of `struct perf_event_attr` (`PERF_ATTR_SIZE_VER0`).
const ATTRIBUTE_BYTES: usize = 64;

/// `PERF_FLAG_FD_CLOEXEC` of linux/perf_event.h.
const CLOSE_ON_EXEC: libc::c_ulong = 1 << 3;

/// An open event.
#[derive(Debug)]
pub(crate) struct PerfCounter {
    file: File,
}

impl PerfCounter {
    /// Opens the event `config` of the unit `kind` on one CPU, for all processes.
    pub(crate) fn open(kind: u32, config: u64, cpu: u32) -> io::Result<PerfCounter> {
        // type, size, config; everything else 0: it counts from the start, without sampling.
        let mut attribute = [0_u64; ATTRIBUTE_BYTES / 8];
        let size = 64_u64;
        attribute[0] = if cfg!(target_endian = "little") {
            u64::from(kind) | size << 32
        } else {
            u64::from(kind) << 32 | size
        };
        attribute[1] = config;
        let cpu = libc::c_int::try_from(cpu).map_err(|_too_large| io::ErrorKind::InvalidInput)?;
        #[expect(unsafe_code, reason = "no library in use wraps perf_event_open")]
        // SAFETY: the attribute is a live structure of the size that it states.
        let descriptor = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                attribute.as_ptr(),
                -1 as libc::pid_t,
                cpu,
                -1 as libc::c_int,
                CLOSE_ON_EXEC,
            )
        };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        let descriptor = i32::try_from(descriptor).map_err(|_too_large| io::ErrorKind::Other)?;
        #[expect(unsafe_code, reason = "a descriptor has to be given an owner")]
        // SAFETY: the kernel has just made the descriptor and nobody else has it.
        let file = unsafe { File::from_raw_fd(descriptor) };
        Ok(PerfCounter { file })
    }

    /// Counts since it was opened.
    pub(crate) fn read(&self) -> io::Result<u64> {
        let mut count = [0; 8];
        (&self.file).read_exact(&mut count)?;
        Ok(u64::from_ne_bytes(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_that_does_not_exist_is_an_error() {
        assert!(PerfCounter::open(u32::MAX, 0, 0).is_err());
    }
}
