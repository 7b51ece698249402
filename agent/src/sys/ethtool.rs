//! Offloads of network interfaces (`SIOCETHTOOL`).

use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// An offload that can be switched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offload {
    /// The device computes checksums of what it sends.
    TransmitChecksum,
    /// The device gathers a packet from several buffers.
    ScatterGather,
    /// The device cuts TCP segments.
    TcpSegmentation,
    /// Packets stay joined until just before the device.
    GenericSegmentation,
    /// Received packets are joined.
    GenericReceive,
}

impl Offload {
    /// All of them, in an order in which they can be turned off.
    pub(crate) const ALL: [Offload; 5] = [
        Offload::TcpSegmentation,
        Offload::GenericSegmentation,
        Offload::GenericReceive,
        Offload::ScatterGather,
        Offload::TransmitChecksum,
    ];

    /// The name that `ethtool -k` prints.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Offload::TransmitChecksum => "tx-checksumming",
            Offload::ScatterGather => "scatter-gather",
            Offload::TcpSegmentation => "tcp-segmentation-offload",
            Offload::GenericSegmentation => "generic-segmentation-offload",
            Offload::GenericReceive => "generic-receive-offload",
        }
    }

    /// The command that sets it, from linux/ethtool.h.
    const fn command(self) -> u32 {
        match self {
            Offload::TransmitChecksum => 0x17,
            Offload::ScatterGather => 0x19,
            Offload::TcpSegmentation => 0x1f,
            Offload::GenericSegmentation => 0x24,
            Offload::GenericReceive => 0x2c,
        }
    }
}

#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Turns an offload of an interface of this thread's network namespace off.
pub(crate) fn turn_off(interface: &str, offload: Offload) -> io::Result<()> {
    let control = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let mut value = EthtoolValue {
        command: offload.command(),
        data: 0,
    };
    let mut name = [0; libc::IFNAMSIZ];
    if interface.len() >= name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in name.iter_mut().zip(interface.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    let data = std::ptr::from_mut(&mut value).cast();
    let mut request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: data },
    };
    #[expect(unsafe_code, reason = "no library wraps SIOCETHTOOL")]
    // SAFETY: the request names an interface and points to a live ethtool_value.
    let result = unsafe { libc::ioctl(control.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
