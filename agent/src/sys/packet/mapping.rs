//! The memory that a socket's ring shares with the kernel.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

/// The mapping of one ring.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// The mapping belongs to this value alone and may be used from whichever thread owns it.
#[expect(unsafe_code, reason = "the ring is a raw mapping")]
// SAFETY: the pointer is to a private handle on kernel memory; nothing in it is tied to a thread.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps the ring that was set up on a socket.
    pub(super) fn new(descriptor: &OwnedFd, length: usize) -> io::Result<Mapping> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let nowhere = std::ptr::null_mut();
        let raw = descriptor.as_raw_fd();
        #[expect(unsafe_code, reason = "the ring is shared memory")]
        // SAFETY: a new shared mapping of the ring's length at an address the kernel chooses.
        let start = unsafe { libc::mmap(nowhere, length, access, libc::MAP_SHARED, raw, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let mapping = Mapping { start, length };
        #[expect(unsafe_code, reason = "nix's madvise takes the same pointer")]
        // SAFETY: the range is the mapping that was just made, and children of this process do not use
        // it. Copying the page tables of hundreds of rings takes a fork long, and user-mode Linux's
        // kernel spins, or breaks a process, when one with such a copy ends.
        let _ =
            unsafe { libc::madvise(mapping.start.as_ptr().cast(), length, libc::MADV_DONTFORK) };
        Ok(mapping)
    }

    fn at(&self, offset: usize, length: usize) -> *mut u8 {
        let inside = offset
            .checked_add(length)
            .is_some_and(|end| end <= self.length);
        assert!(inside, "an offset beyond the ring");
        #[expect(unsafe_code, reason = "the ring is shared memory")]
        // SAFETY: offset and length were just found to lie inside the mapping.
        let pointer = unsafe { self.start.add(offset) };
        pointer.as_ptr()
    }

    /// The word that says whose a part of the ring is.
    pub(super) fn status(&self, offset: usize) -> &AtomicU32 {
        let pointer: *mut u32 = self.at(offset, 4).cast();
        assert!(pointer.is_aligned(), "a status word off its place");
        #[expect(unsafe_code, reason = "the status word is shared with the kernel")]
        // SAFETY: the word lies inside the mapping, is aligned, and lives as long as `self`; both
        // sides access it atomically.
        let status = unsafe { AtomicU32::from_ptr(pointer) };
        status
    }

    /// A part of the ring.
    ///
    /// # Safety
    /// Its status must say that it is ours, and must not be given back while the slice lives.
    #[expect(unsafe_code, reason = "the kernel writes to the ring")]
    pub(super) unsafe fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        let pointer = self.at(offset, length);
        // SAFETY: the range lies inside the mapping, and by this function's contract the kernel
        // does not write to it meanwhile.
        unsafe { std::slice::from_raw_parts(pointer, length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let start = self.start.as_ptr().cast();
        #[expect(unsafe_code, reason = "the ring is shared memory")]
        // SAFETY: the mapping was made with this length, and no reference into it is left.
        let _ = unsafe { libc::munmap(start, self.length) };
    }
}

/// A 32-bit word of a header that the kernel wrote; 0 beyond the end.
pub(super) fn word(bytes: &[u8], offset: usize) -> u32 {
    let found = bytes
        .get(offset..offset + 4)
        .and_then(|found| found.try_into().ok());
    found.map_or(0, u32::from_ne_bytes)
}

/// A 16-bit word of a header that the kernel wrote; 0 beyond the end.
pub(super) fn half_word(bytes: &[u8], offset: usize) -> u16 {
    let found = bytes
        .get(offset..offset + 2)
        .and_then(|found| found.try_into().ok());
    found.map_or(0, u16::from_ne_bytes)
}
