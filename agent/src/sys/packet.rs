//! Packet sockets: whole Ethernet frames in and out of one interface.
//!
//! Frames come in by one of three ways. A ring of slots ([`Intake::Ring`], TPACKET_V2) has a
//! size that does not depend on privileges, and reading it costs no system call. The socket's
//! own buffer ([`Intake::Buffer`]) takes memory only while frames wait, and frames of any
//! length. A ring of blocks ([`Intake::Blocks`], TPACKET_V3) is the fastest for small packets,
//! but shows them only when a block is full or a millisecond old.

mod blocks;
mod buffer;
mod mapping;
mod ring;
mod spread;
mod virtio;

use std::io::{self, IoSlice};
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{getsockopt, setsockopt, sockopt};

use blocks::BlockRing;
use ring::Ring;

pub(crate) use blocks::Block;
pub(crate) use buffer::ReceiveBuffers;
pub(crate) use spread::{Exit, SpreadSender};
pub(crate) use virtio::{Cut, VirtioHeader};

/// Frames that one call to [`PacketSocket::send`] can carry.
pub(crate) const SEND_BATCH: usize = 64;

/// Bytes that may be on their way out of a socket before it says "later".
const SEND_BUFFER_BYTES: usize = 4 << 20;

/// The second Ethernet type for local experiments (IEEE Std 802): a socket that takes only those
/// frames, which nobody sends here, is told when its interface goes; one that takes none is not.
const LOCAL_EXPERIMENT_2: libc::c_int = 0x88b6;

/// How frames come in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Intake {
    /// A ring of slots, one frame each.
    Ring {
        /// Bytes of each frame that are kept; the rest is cut off, its length is still known.
        snap_bytes: usize,
        /// Frames that the ring holds until they are read; rounded up to whole blocks.
        frames: usize,
    },
    /// The socket's buffer, of this size as the kernel counts.
    Buffer {
        /// The size.
        bytes: usize,
    },
    /// A ring of blocks that frames of any length are packed into.
    Blocks,
    /// Not at all: the socket sends, and hears what becomes of its interface.
    Nothing,
}

/// How a packet socket is set up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PacketSocketOptions {
    /// How frames come in.
    pub(crate) intake: Intake,
    /// Whether every frame comes and goes with a [`VirtioHeader`]: then it may have a partial
    /// checksum and be longer than the MTU.
    pub(crate) headers: bool,
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
    /// What is left to do for it; all zero where the socket has no headers.
    pub(crate) virtio: VirtioHeader,
}

/// A packet socket on one interface.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    descriptor: OwnedFd,
    queue: Queue,
    headers: bool,
}

#[derive(Debug)]
enum Queue {
    Ring(Ring),
    Buffer,
    Blocks(BlockRing),
}

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
    /// No `CAP_NET_RAW`, no such interface, no memory for a ring, or ([`Intake::Buffer`]) no
    /// right to a buffer of that size.
    pub(crate) fn open(interface: &str, options: PacketSocketOptions) -> io::Result<PacketSocket> {
        let index = if_nametoindex(interface)?;
        let descriptor = open_raw()?;
        set(&descriptor, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
        if options.headers {
            set(&descriptor, libc::PACKET_VNET_HDR, &1_i32)?;
        }
        setsockopt(&descriptor, sockopt::ReceiveTimestampns, &true)?;
        // Without the right to more, the default has to do.
        let _ = setsockopt(&descriptor, sockopt::SndBufForce, &SEND_BUFFER_BYTES);
        let queue = match options.intake {
            Intake::Ring { snap_bytes, frames } => {
                Queue::Ring(Ring::map(&descriptor, snap_bytes, frames)?)
            }
            Intake::Buffer { bytes } => {
                buffer::make_room(&descriptor, bytes)?;
                Queue::Buffer
            }
            Intake::Blocks => Queue::Blocks(BlockRing::map(&descriptor)?),
            Intake::Nothing => Queue::Buffer,
        };
        let protocol = match options.intake {
            Intake::Nothing => LOCAL_EXPERIMENT_2,
            Intake::Ring { .. } | Intake::Buffer { .. } | Intake::Blocks => libc::ETH_P_ALL,
        };
        bind(&descriptor, index, protocol)?;
        Ok(PacketSocket {
            descriptor,
            queue,
            headers: options.headers,
        })
    }

    /// Whether this process may have receive buffers of this size ([`Intake::Buffer`]).
    pub(crate) fn may_buffer(bytes: usize) -> bool {
        let kind = nix::sys::socket::SockType::Datagram;
        let flags = nix::sys::socket::SockFlag::SOCK_CLOEXEC;
        nix::sys::socket::socket(nix::sys::socket::AddressFamily::Unix, kind, flags, None)
            .is_ok_and(|socket| buffer::make_room(&socket, bytes).is_ok())
    }

    /// Sends past the interface's queueing discipline: what it has no room for is lost.
    ///
    /// # Errors
    /// This kernel cannot (before Linux 3.14).
    pub(crate) fn bypass_queue(&self) -> io::Result<()> {
        set(&self.descriptor, libc::PACKET_QDISC_BYPASS, &1_i32)
    }

    /// Whether every frame is sent with a [`VirtioHeader`] before it.
    pub(crate) const fn has_headers(&self) -> bool {
        self.headers
    }

    /// Whether frames come in by [`PacketSocket::next_block`].
    pub(crate) const fn has_blocks(&self) -> bool {
        matches!(self.queue, Queue::Blocks(_))
    }

    /// Hands at most `limit` frames that have arrived to `take`, oldest first, and returns how
    /// many there were. A socket with a ring of blocks has none here.
    ///
    /// # Errors
    /// The interface went down or away, or a frame could not be described; the next call goes
    /// on behind it. Sockets with a ring report nothing here, see [`PacketSocket::take_error`].
    pub(crate) fn receive(
        &mut self,
        limit: usize,
        buffers: &mut ReceiveBuffers,
        mut take: impl FnMut(Frame<'_>),
    ) -> io::Result<usize> {
        match &mut self.queue {
            Queue::Ring(ring) => {
                let mut count = 0;
                while count < limit && ring.take_one(self.headers, &mut take) {
                    count += 1;
                }
                Ok(count)
            }
            Queue::Buffer => {
                let descriptor = self.descriptor.as_fd();
                buffers.receive(descriptor, self.headers, limit, &mut take)
            }
            Queue::Blocks(_) => Ok(0),
        }
    }

    /// The next whole block of frames, of a socket with a ring of blocks.
    pub(crate) fn next_block(&mut self) -> Option<Block<'_>> {
        match &mut self.queue {
            Queue::Blocks(ring) => ring.next_block(self.headers),
            Queue::Ring(_) | Queue::Buffer => None,
        }
    }

    /// Sends each slice as one frame, at most [`SEND_BATCH`], and returns how many were taken.
    ///
    /// # Errors
    /// The first frame could not be sent.
    pub(crate) fn send(&self, frames: &[IoSlice<'_>]) -> io::Result<usize> {
        self.send_gathered(frames, &[1; SEND_BATCH][..frames.len().min(SEND_BATCH)])
    }

    /// Sends frames that are each made of so many of the slices, at most [`SEND_BATCH`] frames,
    /// and returns how many were taken.
    ///
    /// # Errors
    /// The first frame could not be sent.
    pub(crate) fn send_gathered(
        &self,
        mut parts: &[IoSlice<'_>],
        lengths: &[usize],
    ) -> io::Result<usize> {
        #[expect(unsafe_code, reason = "msghdr has private padding on some platforms")]
        // SAFETY: all-zero bytes are a valid mmsghdr: null pointers and zero lengths.
        let mut headers: [libc::mmsghdr; SEND_BATCH] = unsafe { std::mem::zeroed() };
        let mut count = 0;
        for (header, &length) in headers.iter_mut().zip(lengths) {
            let Some((frame, rest)) = parts.split_at_checked(length) else {
                break;
            };
            // An IoSlice has the layout of an iovec; the kernel only reads through it.
            header.msg_hdr.msg_iov = frame.as_ptr().cast_mut().cast();
            // Its type differs among C libraries.
            header.msg_hdr.msg_iovlen = length as _;
            parts = rest;
            count += 1;
        }
        let raw = self.descriptor.as_raw_fd();
        #[expect(unsafe_code, reason = "nix's sendmmsg allocates for every batch")]
        // SAFETY: the first `count` headers each point to live iovecs of readable bytes.
        let sent = unsafe { libc::sendmmsg(raw, headers.as_mut_ptr(), count, 0) };
        usize::try_from(check(sent)?).map_err(io::Error::other)
    }

    /// Frames that found no room since the last call.
    ///
    /// # Errors
    /// The socket is gone.
    pub(crate) fn take_drops(&self) -> io::Result<u64> {
        // The statistics of rings of blocks are longer; a shorter place is filled as far as it
        // goes, and the drops come second in both.
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

    /// Takes the error that is pending on the socket, which otherwise keeps it readable for
    /// ever: its interface went down or away.
    pub(crate) fn take_error(&self) -> Option<io::Error> {
        match getsockopt(&self.descriptor, sockopt::SocketError) {
            Ok(0) => None,
            Ok(number) => Some(io::Error::from_raw_os_error(number)),
            Err(error) => Some(error.into()),
        }
    }

    /// Whether its interface still exists in the namespace that it was opened in.
    pub(crate) fn is_attached(&self) -> bool {
        let mut address = address_of_none();
        let Ok(mut length) = length_of::<libc::sockaddr_ll>() else {
            return false;
        };
        let pointer = std::ptr::from_mut(&mut address).cast();
        let raw = self.descriptor.as_raw_fd();
        #[expect(unsafe_code, reason = "nix refuses addresses of packet sockets")]
        // SAFETY: pointer and length describe `address`, which outlives the call.
        let result = unsafe { libc::getsockname(raw, pointer, &raw mut length) };
        // The kernel sets the index to -1 when the interface goes (packet_notifier).
        result == 0 && address.sll_ifindex > 0
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// A packet socket that nothing comes in by yet.
fn open_raw() -> io::Result<OwnedFd> {
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
    Ok(descriptor)
}

fn address_of(index: libc::c_uint, protocol: libc::c_int) -> io::Result<libc::sockaddr_ll> {
    let protocol = u16::try_from(protocol).map_err(io::Error::other)?;
    Ok(libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?,
        sll_protocol: protocol.to_be(),
        sll_ifindex: libc::c_int::try_from(index).map_err(io::Error::other)?,
        ..address_of_none()
    })
}

/// The address of no interface.
const fn address_of_none() -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: 0,
        sll_protocol: 0,
        sll_ifindex: 0,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}

fn bind(descriptor: &OwnedFd, index: libc::c_uint, protocol: libc::c_int) -> io::Result<()> {
    let address = address_of(index, protocol)?;
    let length = length_of::<libc::sockaddr_ll>()?;
    let pointer = std::ptr::from_ref(&address).cast();
    #[expect(unsafe_code, reason = "nix cannot make the address of an interface")]
    // SAFETY: pointer and length describe `address`, which outlives the call.
    let result = unsafe { libc::bind(descriptor.as_raw_fd(), pointer, length) };
    check(result).map(|_| ())
}
