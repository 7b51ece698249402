//! A filter on a netlink socket: messages of some types are thrown away before they wake anybody.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Where `struct nlmsghdr` has the type of the message.
const TYPE_AT: u32 = 4;

/// What a filter returns for a message that is kept whole.
const WHOLE: u32 = u32::MAX;

/// Has the kernel throw away messages of these types.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn discard(socket: BorrowedFd<'_>, types: &[u16]) -> io::Result<()> {
    let mut program = program(types);
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let attached = libc::sock_fprog {
        len: length,
        filter: program.as_mut_ptr(),
    };
    let size = libc::socklen_t::try_from(size_of::<libc::sock_fprog>());
    let size = size.map_err(io::Error::other)?;
    #[expect(unsafe_code, reason = "nix does not know SO_ATTACH_FILTER")]
    // SAFETY: `attached` describes `program`, which outlives the call; the kernel copies both.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const attached).cast(),
            size,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Loads the type, compares it with one after the other, and keeps what is none of them.
fn program(types: &[u16]) -> Vec<libc::sock_filter> {
    let instruction = |code: u32, yes: u8, k: u32| libc::sock_filter {
        code: u16::try_from(code).unwrap_or_default(),
        jt: yes,
        jf: 0,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
    let mut program = vec![instruction(load, 0, TYPE_AT)];
    let count = types.len();
    for (number, kind) in types.iter().enumerate() {
        let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        // Over those that follow, and over what keeps the message. A load is one of the network's order.
        let skip = u8::try_from(count - number).unwrap_or(u8::MAX);
        let kind = u16::from_be_bytes(kind.to_ne_bytes());
        program.push(instruction(equal, skip, u32::from(kind)));
    }
    let answer = libc::BPF_RET | libc::BPF_K;
    program.push(instruction(answer, 0, WHOLE));
    program.push(instruction(answer, 0, 0));
    program
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn messages_of_these_types_are_thrown_away_and_no_others() {
        let (from, to) = UnixDatagram::pair().unwrap();
        discard(to.as_fd(), &[36, 0x1234]).unwrap();
        to.set_nonblocking(true).unwrap();
        let send = |kind: u16| {
            let mut message = [0; 16];
            message[4..6].copy_from_slice(&kind.to_ne_bytes());
            from.send(&message).unwrap();
            to.recv(&mut [0; 16]).is_ok()
        };
        let came = [36, 37, 0x1234, 0x3412, 16, 36].map(send);
        assert_eq!(came, [false, true, false, true, true, false]);
    }
}
