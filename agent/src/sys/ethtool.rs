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

    /// Those that let packets longer than the MTU cross.
    pub(crate) const CUTTING: [Offload; 3] = [
        Offload::TcpSegmentation,
        Offload::GenericSegmentation,
        Offload::GenericReceive,
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

    /// The offload of that name.
    pub(crate) fn named(name: &str) -> Option<Offload> {
        Offload::ALL.into_iter().find(|one| one.name() == name)
    }

    /// The command that reads it: the one before the command that sets it.
    const fn read_command(self) -> u32 {
        self.command() - 1
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
    set(interface, offload, false)
}

/// Turns an offload of an interface of this thread's network namespace on or off.
pub(crate) fn set(interface: &str, offload: Offload, on: bool) -> io::Result<()> {
    let mut value = EthtoolValue {
        command: offload.command(),
        data: u32::from(on),
    };
    control(interface, (&raw mut value).cast())
}

/// Whether an offload of an interface of this thread's network namespace is on.
pub(crate) fn is_on(interface: &str, offload: Offload) -> io::Result<bool> {
    let mut value = EthtoolValue {
        command: offload.read_command(),
        data: 0,
    };
    control(interface, (&raw mut value).cast())?;
    Ok(value.data != 0)
}

/// `ETHTOOL_GSET` of linux/ethtool.h, which every driver still answers.
const GET_SETTINGS: u32 = 1;

/// `SPEED_UNKNOWN` in both halves.
const UNKNOWN: u32 = u32::MAX;

/// `struct ethtool_cmd` of linux/ethtool.h.
#[repr(C)]
struct EthtoolSettings {
    command: u32,
    supported: u32,
    advertising: u32,
    speed: u16,
    /// Duplex, port, physical address, transceiver, negotiation, MDIO support.
    details: [u8; 6],
    most_packets: [u32; 2],
    speed_high: u16,
    tail: [u8; 2],
    partner: u32,
    reserved: [u32; 2],
}

/// The speed that an interface of this thread's network namespace has, in Mbit/s; `None` when it
/// has none or does not say.
pub(crate) fn speed_mbps(interface: &str) -> io::Result<Option<u32>> {
    let mut settings = EthtoolSettings {
        command: GET_SETTINGS,
        supported: 0,
        advertising: 0,
        speed: 0,
        details: [0; 6],
        most_packets: [0; 2],
        speed_high: 0,
        tail: [0; 2],
        partner: 0,
        reserved: [0; 2],
    };
    match control(interface, (&raw mut settings).cast()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(None),
        Err(error) => return Err(error),
    }
    let speed = (u32::from(settings.speed_high) << 16) | u32::from(settings.speed);
    Ok((speed != UNKNOWN && speed != 0).then_some(speed))
}

/// One ethtool command; `data` points to its structure.
fn control(interface: &str, data: *mut libc::c_char) -> io::Result<()> {
    crate::failpoint::fallible("ethtool")?;
    let control = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let mut name = [0; libc::IFNAMSIZ];
    if interface.len() >= name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in name.iter_mut().zip(interface.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    let mut request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: data },
    };
    #[expect(unsafe_code, reason = "no library wraps SIOCETHTOOL")]
    // SAFETY: the request names an interface, and every caller points to a live structure of the
    // layout that its command announces.
    let result = unsafe { libc::ioctl(control.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
