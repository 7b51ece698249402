//! Frames out of a socket's own buffer, many with one system call.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{getsockopt, setsockopt, sockopt};

use super::{Frame, VirtioHeader, check};

/// Frames that one system call takes out.
const BATCH: usize = 16;

/// The longest frame: 64 KiB of IP behind an Ethernet header and the virtio header, and room to
/// spare.
const FRAME_BYTES: usize = (1 << 16) + 128;

/// Room for one stamp: a header of 16 bytes and the time in seconds and nanoseconds.
const CONTROL_WORDS: usize = 8;

/// Where frames are copied to. One thread needs one, for all its sockets; it takes memory with
/// the first socket that needs it.
#[derive(Debug)]
pub(crate) struct ReceiveBuffers {
    frames: Vec<u8>,
    control: Vec<u64>,
}

/// Makes a socket's buffer as large as asked, or says that this is not allowed.
pub(super) fn make_room(descriptor: &OwnedFd, bytes: usize) -> io::Result<()> {
    if setsockopt(descriptor, sockopt::RcvBufForce, &bytes).is_err() {
        setsockopt(descriptor, sockopt::RcvBuf, &bytes)?;
    }
    // The kernel doubles what it is asked for.
    let got = getsockopt(descriptor, sockopt::RcvBuf)?;
    if got < bytes {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("a receive buffer of {bytes} bytes was asked for and {got} were given"),
        ));
    }
    Ok(())
}

/// When the kernel got a frame, from the control message of `SO_TIMESTAMPNS`.
fn stamp_ns(control: &[u64], length: usize) -> u64 {
    // struct cmsghdr: length, then level and type (i32 each); struct timespec behind it.
    if length < 4 * size_of::<u64>() {
        return 0;
    }
    let [a, b, c, d, e, f, g, h] = control[1].to_ne_bytes();
    let level = i32::from_ne_bytes([a, b, c, d]);
    let kind = i32::from_ne_bytes([e, f, g, h]);
    if (level, kind) != (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) {
        return 0;
    }
    control[2] * 1_000_000_000 + control[3]
}

impl ReceiveBuffers {
    pub(crate) const fn new() -> ReceiveBuffers {
        ReceiveBuffers {
            frames: Vec::new(),
            control: Vec::new(),
        }
    }

    /// Takes at most `limit` frames out of a socket and hands them to `take`.
    pub(super) fn receive(
        &mut self,
        descriptor: BorrowedFd<'_>,
        headers: bool,
        limit: usize,
        take: &mut impl FnMut(Frame<'_>),
    ) -> io::Result<usize> {
        self.frames.resize(BATCH * FRAME_BYTES, 0);
        self.control.resize(BATCH * CONTROL_WORDS, 0);
        let mut count = 0;
        while count < limit {
            let asked = BATCH.min(limit - count);
            let got = self.receive_batch(descriptor, headers, asked, take)?;
            count += got;
            if got < asked {
                break;
            }
        }
        Ok(count)
    }

    fn receive_batch(
        &mut self,
        descriptor: BorrowedFd<'_>,
        headers: bool,
        asked: usize,
        take: &mut impl FnMut(Frame<'_>),
    ) -> io::Result<usize> {
        let mut places = [libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        }; BATCH];
        #[expect(unsafe_code, reason = "msghdr has private padding on some platforms")]
        // SAFETY: all-zero bytes are a valid mmsghdr: null pointers and zero lengths.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        let frames = self.frames.chunks_exact_mut(FRAME_BYTES);
        let control = self.control.chunks_exact_mut(CONTROL_WORDS);
        for (((message, place), frame), control) in messages
            .iter_mut()
            .zip(&mut places)
            .zip(frames)
            .zip(control)
            .take(asked)
        {
            place.iov_base = frame.as_mut_ptr().cast();
            place.iov_len = FRAME_BYTES;
            message.msg_hdr.msg_iov = place;
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_control = control.as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = size_of::<[u64; CONTROL_WORDS]>();
        }
        let length = libc::c_uint::try_from(asked).map_err(io::Error::other)?;
        let raw = descriptor.as_fd().as_raw_fd();
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        let forever = std::ptr::null_mut();
        #[expect(unsafe_code, reason = "nix's recvmmsg allocates for every batch")]
        // SAFETY: the first `length` headers each point to one live iovec and one control buffer,
        // whose memory `self` owns and nobody else uses during the call.
        let got = unsafe { libc::recvmmsg(raw, messages.as_mut_ptr(), length, flags, forever) };
        let got = match check(got) {
            Ok(got) => usize::try_from(got).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        let frames = self.frames.chunks_exact(FRAME_BYTES);
        let control = self.control.chunks_exact(CONTROL_WORDS);
        for ((message, frame), control) in messages.iter().zip(frames).zip(control).take(got) {
            let before = if headers { VirtioHeader::BYTES } else { 0 };
            let whole = usize::try_from(message.msg_len).unwrap_or(0);
            let kept = whole.min(FRAME_BYTES);
            let Some((header, bytes)) = frame[..kept].split_at_checked(before) else {
                continue;
            };
            let virtio = header.try_into().map(VirtioHeader::from_bytes);
            take(Frame {
                bytes,
                wire_bytes: whole - before,
                realtime_ns: stamp_ns(control, message.msg_hdr.msg_controllen),
                virtio: virtio.unwrap_or_default(),
            });
        }
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_from_its_control_message_and_from_no_other() {
        let kind = |level: i32, kind: i32| {
            let [a, b, c, d] = level.to_ne_bytes();
            let [e, f, g, h] = kind.to_ne_bytes();
            u64::from_ne_bytes([a, b, c, d, e, f, g, h])
        };
        let stamp = kind(libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS);
        assert_eq!(stamp_ns(&[32, stamp, 3, 7], 32), 3_000_000_007);
        assert_eq!(stamp_ns(&[32, stamp, 3, 7], 16), 0);
        assert_eq!(stamp_ns(&[32, kind(1, 2), 3, 7], 32), 0);
    }
}
