//! Who owns a namespace: the questions of ioctl_ns(2).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};

/// `NS_GET_USERNS` and `NS_GET_PARENT` of linux/nsfs.h: `_IO(0xb7, 1)` and `_IO(0xb7, 2)`.
const GET_OWNER: libc::Ioctl = 0xb701;
const GET_PARENT: libc::Ioctl = 0xb702;

fn ask(namespace: &File, question: libc::Ioctl) -> io::Result<File> {
    #[expect(unsafe_code, reason = "nix has no call for these requests")]
    // SAFETY: the descriptor is open, and these requests take no argument.
    let result = unsafe { libc::ioctl(namespace.as_raw_fd(), question) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    #[expect(unsafe_code, reason = "taking ownership of a new descriptor")]
    // SAFETY: the kernel has just returned this descriptor, close-on-exec; nobody else owns it.
    let owned = unsafe { File::from_raw_fd(result) };
    Ok(owned)
}

/// The user namespace that owns a namespace.
///
/// # Errors
/// It is not the caller's own or one below it.
pub(crate) fn owner_of(namespace: &File) -> io::Result<File> {
    ask(namespace, GET_OWNER)
}

/// The user namespace above a user namespace.
///
/// # Errors
/// It is not the caller's own or one below it.
pub(crate) fn parent_of(user_namespace: &File) -> io::Result<File> {
    ask(user_namespace, GET_PARENT)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_namespace_is_owned_by_a_user_namespace_or_by_one_out_of_sight() {
        let network = File::open("/proc/self/ns/net").unwrap();
        match owner_of(&network) {
            Ok(owner) => assert_ne!(owner.metadata().unwrap().ino(), 0),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EPERM)),
        }
        let file = File::open("/proc/self/status").unwrap();
        assert!(owner_of(&file).is_err());
    }
}
