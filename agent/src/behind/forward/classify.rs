//! What the gate does with a frame that comes out of the link: whose it is, by its headers alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Destination, source and type.
const ETHERNET_BYTES: usize = 14;

const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_ICMPV6: u8 = 58;

/// What is to be done with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It goes to the stack as it is.
    Pass,
    /// It opens a TCP connection: the stack may see it once the other side has answered.
    Open(Ends),
    /// A UDP packet: the stack may see it once there is a socket for it.
    Datagram(Ends),
    /// An echo request to somebody whom only the caller's network could ask.
    ForeignEcho,
    /// Nothing that is forwarded: address resolution, multicast, what is not understood.
    Ignore,
}

/// Both ends of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ends {
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
}

/// The part of a frame behind its IP header.
struct Packet<'a> {
    protocol: u8,
    source: IpAddr,
    destination: IpAddr,
    payload: &'a [u8],
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

fn address_v6(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    let bytes: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
    Some(bytes.into())
}

fn address_v4(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    let bytes: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(bytes.into())
}

/// `Ok(None)`: a fragment that is not the first, which the stack puts together.
fn packet(frame: &[u8]) -> Option<Option<Packet<'_>>> {
    let ip = frame.get(ETHERNET_BYTES..)?;
    match number(frame, 12)? {
        0x0800 => {
            let header = usize::from(ip.first()? & 0x0f) * 4;
            // RFC 791: the low 13 bits of the fragment field are the offset.
            if number(ip, 6)? & 0x1fff != 0 {
                return Some(None);
            }
            Some(Some(Packet {
                protocol: *ip.get(9)?,
                source: address_v4(ip, 12)?.into(),
                destination: address_v4(ip, 16)?.into(),
                payload: ip.get(header..)?,
            }))
        }
        0x86dd => Some(Some(Packet {
            protocol: *ip.get(6)?,
            source: address_v6(ip, 8)?.into(),
            destination: address_v6(ip, 24)?.into(),
            payload: ip.get(40..)?,
        })),
        _ => None,
    }
}

/// What to do with a frame, where `gateway` are the addresses of the caller's side.
pub(crate) fn classify(frame: &[u8], gateway: [IpAddr; 2]) -> Verdict {
    verdict(frame, gateway).unwrap_or(Verdict::Ignore)
}

fn verdict(frame: &[u8], gateway: [IpAddr; 2]) -> Option<Verdict> {
    let Some(packet) = packet(frame)? else {
        return Some(Verdict::Pass);
    };
    if packet.destination.is_multicast()
        || packet.destination == IpAddr::V4(Ipv4Addr::BROADCAST)
        || packet.destination.is_loopback()
    {
        return Some(Verdict::Ignore);
    }
    let ends = || {
        Some(Ends {
            client: SocketAddr::new(packet.source, number(packet.payload, 0)?),
            server: SocketAddr::new(packet.destination, number(packet.payload, 2)?),
        })
    };
    let kind = *packet.payload.first()?;
    Some(match packet.protocol {
        PROTOCOL_TCP => {
            // RFC 9293, 3.1: SYN is bit 1 of the flags, ACK bit 4.
            let flags = *packet.payload.get(13)?;
            if flags & 0x12 == 0x02 {
                Verdict::Open(ends()?)
            } else {
                Verdict::Pass
            }
        }
        PROTOCOL_UDP => Verdict::Datagram(ends()?),
        // Echo requests are 8 (RFC 792) and 128 (RFC 4443); errors are about flows of ours.
        PROTOCOL_ICMP | PROTOCOL_ICMPV6 if kind == 8 || kind == 128 => {
            if gateway.contains(&packet.destination) {
                Verdict::Pass
            } else {
                Verdict::ForeignEcho
            }
        }
        PROTOCOL_ICMP if matches!(kind, 3 | 11 | 12) => Verdict::Pass,
        PROTOCOL_ICMPV6 if matches!(kind, 1..=4) => Verdict::Pass,
        _ => Verdict::Ignore,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GATEWAY: [IpAddr; 2] = [
        IpAddr::V4(Ipv4Addr::new(198, 19, 0, 1)),
        IpAddr::V6(Ipv6Addr::new(0xfd68, 0x6c6b, 0xc613, 0, 0, 0, 0, 1)),
    ];

    fn v4(protocol: u8, destination: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; ETHERNET_BYTES + 20];
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        frame[14] = 0x45;
        frame[23] = protocol;
        frame[26..30].copy_from_slice(&[198, 19, 0, 2]);
        frame[30..34].copy_from_slice(&destination);
        frame.extend(payload);
        frame
    }

    fn v6(protocol: u8, destination: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; ETHERNET_BYTES + 40];
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        frame[20] = protocol;
        frame[38..54].copy_from_slice(&destination.octets());
        frame.extend(payload);
        frame
    }

    fn tcp(flags: u8) -> [u8; 20] {
        let mut header = [0; 20];
        header[..4].copy_from_slice(&[0x9c, 0x40, 0x00, 0x50]);
        header[13] = flags;
        header
    }

    #[test]
    fn only_the_first_segment_of_a_connection_has_to_wait() {
        let far = [192, 0, 2, 1];
        let ends = Ends {
            client: "198.19.0.2:40000".parse().unwrap(),
            server: "192.0.2.1:80".parse().unwrap(),
        };
        let of = |flags| classify(&v4(6, far, &tcp(flags)), GATEWAY);
        assert_eq!(of(0x02), Verdict::Open(ends));
        assert_eq!(of(0xc2), Verdict::Open(ends));
        for flags in [0x12, 0x10, 0x18, 0x11, 0x04] {
            assert_eq!(of(flags), Verdict::Pass, "{flags:#x}");
        }
    }

    #[test]
    fn datagrams_and_echo_requests_are_told_by_whom_they_are_for() {
        let far: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let IpAddr::V6(near) = GATEWAY[1] else {
            unreachable!("the second is an IPv6 address")
        };
        let datagram = classify(&v6(17, far, &tcp(0)), GATEWAY);
        assert!(matches!(datagram, Verdict::Datagram(ends) if ends.server.port() == 80));
        assert_eq!(classify(&v6(58, near, &[128, 0]), GATEWAY), Verdict::Pass);
        assert_eq!(
            classify(&v6(58, far, &[128, 0]), GATEWAY),
            Verdict::ForeignEcho
        );
        assert_eq!(classify(&v6(58, near, &[135, 0]), GATEWAY), Verdict::Ignore);
        let group = "ff02::16".parse().unwrap();
        assert_eq!(classify(&v6(17, group, &tcp(0)), GATEWAY), Verdict::Ignore);
        assert_eq!(
            classify(&v4(1, [198, 19, 0, 1], &[8]), GATEWAY),
            Verdict::Pass
        );
        assert_eq!(
            classify(&v4(1, [192, 0, 2, 1], &[8]), GATEWAY),
            Verdict::ForeignEcho
        );
    }

    #[test]
    fn later_fragments_pass_to_who_puts_them_together() {
        let mut fragment = v4(17, [192, 0, 2, 1], &[1, 2, 3]);
        fragment[21] = 185;
        assert_eq!(classify(&fragment, GATEWAY), Verdict::Pass);
    }

    proptest! {
        #[test]
        fn no_bytes_whatsoever_make_it_stumble(frame in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = classify(&frame, GATEWAY);
            for kind in [[0x08, 0x00], [0x86, 0xdd]] {
                let mut frame = frame.clone();
                if let Some(place) = frame.get_mut(12..14) {
                    place.copy_from_slice(&kind);
                }
                let _ = classify(&frame, GATEWAY);
            }
        }
    }
}
