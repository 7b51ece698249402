//! Packet sockets: whole Ethernet frames in and out of one interface.
//!
//! Frames come in through a ring that the kernel fills (TPACKET_V2): unlike a socket buffer its
//! size does not depend on privileges, and reading it costs no system call.

use std::io::{self, IoSlice};
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{setsockopt, sockopt};

/// Frames that one call to [`PacketSocket::send`] can carry.
pub(crate) const SEND_BATCH: usize = 32;

/// Size of one block of the ring; frames never cross blocks.
const BLOCK_BYTES: usize = 65536;

/// Where the frame's bytes begin: header, address and padding of TPACKET_V2 precede them.
const FRAME_OVERHEAD_BYTES: usize = 96;

/// How a packet socket is set up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PacketSocketOptions {
    /// Bytes of each frame that are kept; the rest is cut off, its length is still known.
    pub(crate) snap_bytes: usize,
    /// Frames that the ring holds until they are read; rounded up to whole blocks.
    pub(crate) ring_frames: usize,
}

/// One received frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    /// What was kept of it, from the Ethernet header on.
    pub(crate) bytes: &'a [u8],
    /// Its whole length, Ethernet header included.
    pub(crate) wire_bytes: usize,
    /// When the kernel got it, on `CLOCK_REALTIME`.
    pub(crate) realtime_ns: u64,
}

/// A packet socket on one interface, with its receive ring.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    descriptor: OwnedFd,
    ring: Ring,
}

#[derive(Debug)]
struct Ring {
    start: NonNull<u8>,
    length: usize,
    frame_bytes: usize,
    frames: usize,
    next: usize,
}

// The mapping belongs to this value alone and may be used from whichever thread owns it.
#[expect(unsafe_code, reason = "the ring is a raw mapping")]
// SAFETY: the pointer is to a private handle on kernel memory; nothing in it is tied to a thread.
unsafe impl Send for Ring {}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn length_of<T>() -> io::Result<libc::socklen_t> {
    libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)
}

fn set<T>(descriptor: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    let length = length_of::<T>()?;
    let pointer = std::ptr::from_ref(value).cast();
    let raw = descriptor.as_raw_fd();
    #[expect(
        unsafe_code,
        reason = "nix does not know the options of packet sockets"
    )]
    // SAFETY: pointer and length describe `value`, which outlives the call.
    let result = unsafe { libc::setsockopt(raw, libc::SOL_PACKET, option, pointer, length) };
    check(result).map(|_| ())
}

impl PacketSocket {
    /// Opens a socket on the interface of that name in this thread's network namespace. It
    /// sees what comes in, not what goes out.
    ///
    /// # Errors
    /// No `CAP_NET_RAW`, no such interface, or no memory for the ring.
    pub(crate) fn open(interface: &str, options: PacketSocketOptions) -> io::Result<PacketSocket> {
        let index = if_nametoindex(interface)?;
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        #[expect(
            unsafe_code,
            reason = "nix cannot open a packet socket without a protocol"
        )]
        // SAFETY: socket takes three integers.
        let raw = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        let raw = check(raw)?;
        #[expect(unsafe_code, reason = "taking ownership of a new descriptor")]
        // SAFETY: the kernel has just returned this descriptor; nobody else owns it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(raw) };
        set(&descriptor, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
        let version: libc::c_int = 1; // TPACKET_V2
        set(&descriptor, libc::PACKET_VERSION, &version)?;
        setsockopt(&descriptor, sockopt::ReceiveTimestampns, &true)?;
        let ring = Ring::map(&descriptor, options)?;
        bind(&descriptor, index)?;
        Ok(PacketSocket { descriptor, ring })
    }

    /// Hands at most `limit` frames that have arrived to `take`, oldest first, and returns how
    /// many there were.
    pub(crate) fn receive(&mut self, limit: usize, mut take: impl FnMut(Frame<'_>)) -> usize {
        let mut count = 0;
        while count < limit && self.ring.take_one(&mut take) {
            count += 1;
        }
        count
    }

    /// Sends each slice as one frame, at most [`SEND_BATCH`], and returns how many were taken.
    ///
    /// # Errors
    /// The first frame could not be sent.
    pub(crate) fn send(&self, frames: &[IoSlice<'_>]) -> io::Result<usize> {
        let count = frames.len().min(SEND_BATCH);
        #[expect(unsafe_code, reason = "msghdr has private padding on some platforms")]
        // SAFETY: all-zero bytes are a valid mmsghdr: null pointers and zero lengths.
        let mut headers: [libc::mmsghdr; SEND_BATCH] = unsafe { std::mem::zeroed() };
        for (header, frame) in headers.iter_mut().zip(&frames[..count]) {
            // An IoSlice has the layout of an iovec; the kernel only reads through it.
            header.msg_hdr.msg_iov = std::ptr::from_ref(frame).cast_mut().cast();
            header.msg_hdr.msg_iovlen = 1;
        }
        let length = libc::c_uint::try_from(count).map_err(io::Error::other)?;
        let raw = self.descriptor.as_raw_fd();
        #[expect(unsafe_code, reason = "nix's sendmmsg allocates for every batch")]
        // SAFETY: the first `length` headers each point to one live iovec of readable bytes.
        let sent = unsafe { libc::sendmmsg(raw, headers.as_mut_ptr(), length, 0) };
        usize::try_from(check(sent)?).map_err(io::Error::other)
    }

    /// Frames that did not fit into the ring since the last call.
    ///
    /// # Errors
    /// The socket is gone.
    pub(crate) fn take_drops(&self) -> io::Result<u64> {
        let mut statistics = libc::tpacket_stats {
            tp_packets: 0,
            tp_drops: 0,
        };
        let mut length = length_of::<libc::tpacket_stats>()?;
        let pointer = std::ptr::from_mut(&mut statistics).cast();
        let raw = self.descriptor.as_raw_fd();
        let option = libc::PACKET_STATISTICS;
        #[expect(
            unsafe_code,
            reason = "nix does not know the options of packet sockets"
        )]
        // SAFETY: pointer and length describe `statistics`, which outlives the call.
        let result =
            unsafe { libc::getsockopt(raw, libc::SOL_PACKET, option, pointer, &raw mut length) };
        check(result)?;
        Ok(u64::from(statistics.tp_drops))
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

fn bind(descriptor: &OwnedFd, index: libc::c_uint) -> io::Result<()> {
    let all_protocols = u16::try_from(libc::ETH_P_ALL).map_err(io::Error::other)?;
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?,
        sll_protocol: all_protocols.to_be(),
        sll_ifindex: libc::c_int::try_from(index).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = length_of::<libc::sockaddr_ll>()?;
    let pointer = std::ptr::from_ref(&address).cast();
    #[expect(unsafe_code, reason = "nix cannot make the address of an interface")]
    // SAFETY: pointer and length describe `address`, which outlives the call.
    let result = unsafe { libc::bind(descriptor.as_raw_fd(), pointer, length) };
    check(result).map(|_| ())
}

impl Ring {
    fn map(descriptor: &OwnedFd, options: PacketSocketOptions) -> io::Result<Ring> {
        let frame_bytes = (options.snap_bytes + FRAME_OVERHEAD_BYTES).next_power_of_two();
        let block_bytes = BLOCK_BYTES.max(frame_bytes);
        let frames_per_block = block_bytes / frame_bytes;
        let blocks = options.ring_frames.div_ceil(frames_per_block).max(1);
        let as_u32 = |value: usize| u32::try_from(value).map_err(io::Error::other);
        let request = libc::tpacket_req {
            tp_block_size: as_u32(block_bytes)?,
            tp_block_nr: as_u32(blocks)?,
            tp_frame_size: as_u32(frame_bytes)?,
            tp_frame_nr: as_u32(blocks * frames_per_block)?,
        };
        set(descriptor, libc::PACKET_RX_RING, &request)?;
        let length = blocks * block_bytes;
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
        Ok(Ring {
            start,
            length,
            frame_bytes,
            frames: blocks * frames_per_block,
            next: 0,
        })
    }

    /// Hands one frame to `take` and gives its place back to the kernel; false if none is there.
    fn take_one(&mut self, take: &mut impl FnMut(Frame<'_>)) -> bool {
        #[expect(unsafe_code, reason = "the ring is shared memory")]
        // SAFETY: `next` is below `frames`, so the result lies inside the mapping.
        let slot = unsafe { self.start.add(self.next * self.frame_bytes) };
        #[expect(unsafe_code, reason = "the status word is shared with the kernel")]
        // SAFETY: a frame begins with its status word, aligned to the frame size, for as long as
        // the mapping lives; both sides access it atomically.
        let status = unsafe { AtomicU32::from_ptr(slot.as_ptr().cast()) };
        if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return false;
        }
        #[expect(unsafe_code, reason = "the ring is shared memory")]
        // SAFETY: the frame is ours until the status is given back, it lies inside the mapping,
        // and the reference ends before that.
        let bytes = unsafe { std::slice::from_raw_parts(slot.as_ptr(), self.frame_bytes) };
        let word = |offset: usize| {
            let mut value = [0; 4];
            value.copy_from_slice(&bytes[offset..offset + 4]);
            u32::from_ne_bytes(value)
        };
        // struct tpacket2_hdr: status, len, snaplen, mac (u16), net (u16), sec, nsec.
        let mut mac = [0; 2];
        mac.copy_from_slice(&bytes[12..14]);
        let begin = usize::from(u16::from_ne_bytes(mac)).min(bytes.len());
        let kept = usize::try_from(word(8)).unwrap_or(0);
        let end = begin.saturating_add(kept).min(bytes.len());
        take(Frame {
            bytes: &bytes[begin..end],
            wire_bytes: usize::try_from(word(4)).unwrap_or(0),
            realtime_ns: u64::from(word(16)) * 1_000_000_000 + u64::from(word(20)),
        });
        status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.next = (self.next + 1) % self.frames;
        true
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let start = self.start.as_ptr().cast();
        #[expect(unsafe_code, reason = "the ring is shared memory")]
        // SAFETY: the mapping was made with this length, and no reference into it is left.
        let _ = unsafe { libc::munmap(start, self.length) };
    }
}
