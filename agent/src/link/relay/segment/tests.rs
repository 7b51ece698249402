use super::*;
use crate::link::relay::checksum::complete_checksum;

/// A super-packet as the kernel hands it out: lengths of the whole, a partial checksum.
fn packet(ipv6: bool, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    let options: &[u8] = if protocol == TCP { &[1; 12] } else { &[] };
    let header_bytes = if protocol == TCP {
        20 + options.len()
    } else {
        8
    };
    let transport_bytes = header_bytes + payload.len();
    if ipv6 {
        frame.extend(IPV6);
        frame.extend([0x60, 0, 0, 0]);
        frame.extend(u16::try_from(transport_bytes).unwrap().to_be_bytes());
        frame.extend([protocol, 64]);
        frame.extend((0..32).map(|n| n * 7));
    } else {
        frame.extend(IPV4);
        frame.extend([0x45, 0]);
        frame.extend(u16::try_from(20 + transport_bytes).unwrap().to_be_bytes());
        frame.extend([0xff, 0xfe, 0x40, 0, 64, protocol, 0, 0]);
        frame.extend([10, 77, 0, 1, 10, 77, 0, 2]);
    }
    frame.extend([0x13, 0x88, 0xc0, 0x01]);
    if protocol == TCP {
        frame.extend(0xffff_fff0_u32.to_be_bytes());
        frame.extend(77_u32.to_be_bytes());
        // Data offset 8 words; CWR, ACK, PSH and FIN.
        frame.extend([0x80, 0x80 | 0x10 | 0x08 | 0x01, 0x40, 0, 0, 0, 0, 0]);
        frame.extend(options);
    } else {
        frame.extend(u16::try_from(transport_bytes).unwrap().to_be_bytes());
        frame.extend([0, 0]);
    }
    frame.extend(payload);
    frame
}

fn header(gso_type: u8, segment_bytes: u16) -> VirtioHeader {
    VirtioHeader {
        flags: 1,
        gso_type,
        segment_bytes,
        ..VirtioHeader::default()
    }
}

fn segments(frame: &[u8], header: VirtioHeader) -> Vec<(Vec<u8>, VirtioHeader)> {
    let mut found = Vec::new();
    let mut take = |bytes: &[u8], header: VirtioHeader| found.push((bytes.to_vec(), header));
    cut(frame, header, &mut Vec::new(), &mut take).unwrap();
    found
}

fn payload(length: usize) -> Vec<u8> {
    (0..length)
        .map(|n| u8::try_from(n * 13 % 251).unwrap())
        .collect()
}

/// Whether the packet's checksum, once completed, is what its receiver computes.
fn sums_up(packet: &[u8], header: VirtioHeader) -> bool {
    let mut whole = packet.to_vec();
    complete_checksum(&mut whole, header);
    let layout = Layout::of(&whole).unwrap();
    let bytes = u64::try_from(whole.len() - layout.transport).unwrap();
    fold(layout.pseudo_sum(&whole) + bytes + sum(&whole[layout.transport..])) == 0xffff
}

#[test]
fn tcp_segments_of_both_families_carry_all_bytes_in_order_and_sum_up() {
    for (ipv6, gso_type, mss) in [(false, 1, 1448), (true, 4, 1428), (false, 1, 8948)] {
        let data = payload(40_000);
        let frame = packet(ipv6, TCP, &data);
        let cuts = segments(&frame, header(gso_type, mss));
        assert_eq!(cuts.len(), 40_000_usize.div_ceil(usize::from(mss)));
        let mut joined = Vec::new();
        let mut expected_sequence = 0xffff_fff0_u32;
        for (number, (bytes, header)) in cuts.iter().enumerate() {
            let layout = Layout::of(bytes).unwrap();
            let at = |place: usize| u16::from_be_bytes([bytes[place], bytes[place + 1]]);
            let tcp = &bytes[layout.transport..];
            let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
            assert_eq!(sequence, expected_sequence);
            let part = &bytes[layout.payload..];
            expected_sequence = expected_sequence.wrapping_add(u32::try_from(part.len()).unwrap());
            joined.extend_from_slice(part);
            let (first, last) = (number == 0, number + 1 == cuts.len());
            assert_eq!(tcp[13] & FIRST_ONLY != 0, first);
            assert_eq!(tcp[13] & LAST_ONLY == LAST_ONLY, last);
            assert_eq!(tcp[13] & LAST_ONLY == 0, !last);
            assert_eq!(tcp[13] & 0x10, 0x10, "ACK stays");
            if ipv6 {
                assert_eq!(usize::from(at(18)), bytes.len() - 54);
            } else {
                assert_eq!(usize::from(at(16)), bytes.len() - 14);
                let identification = 0xfffe_u16.wrapping_add(u16::try_from(number).unwrap());
                assert_eq!(at(18), identification);
                assert_eq!(fold(sum(&bytes[14..34])), 0xffff, "header checksum");
            }
            assert!(header.needs_checksum() && header.cut() == Cut::Not);
            assert!(sums_up(bytes, *header));
        }
        assert!(joined == data);
    }
}

#[test]
fn udp_datagrams_have_their_own_lengths() {
    for ipv6 in [false, true] {
        let data = payload(2500);
        let cuts = segments(&packet(ipv6, UDP, &data), header(5, 1000));
        let lengths: Vec<u16> = cuts
            .iter()
            .map(|(bytes, _)| {
                let place = Layout::of(bytes).unwrap().transport + 4;
                u16::from_be_bytes([bytes[place], bytes[place + 1]])
            })
            .collect();
        assert_eq!(lengths, [1008, 1008, 508]);
        assert!(cuts.iter().all(|(bytes, header)| sums_up(bytes, *header)));
    }
}

#[test]
fn one_packet_passes_untouched_and_what_is_neither_tcp_nor_udp_is_refused() {
    let frame = packet(false, UDP, &payload(100));
    let single = VirtioHeader {
        flags: 1,
        checksum_start: 34,
        checksum_offset: 6,
        ..VirtioHeader::default()
    };
    assert_eq!(segments(&frame, single), [(frame.clone(), single)]);
    let mut take = |_: &[u8], _: VirtioHeader| {};
    for (frame, header) in [
        (frame.clone(), header(1, 1000)),
        (frame.clone(), header(3, 1000)),
        (frame.clone(), header(5, 0)),
        (frame[..30].to_vec(), header(5, 100)),
        (vec![0; 60], header(1, 100)),
    ] {
        let result = cut(&frame, header, &mut Vec::new(), &mut take);
        assert_eq!(result, Err(CannotCut));
    }
}

#[test]
fn extension_headers_of_ipv6_are_repeated_in_every_segment() {
    let mut frame = packet(true, UDP, &payload(300));
    // Hop-by-hop options of 8 bytes between the IPv6 header and UDP.
    frame[20] = 0;
    frame.splice(54..54, [UDP, 0, 1, 4, 0, 0, 0, 0]);
    let cuts = segments(&frame, header(5, 100));
    assert_eq!(cuts.len(), 3);
    for (bytes, header) in &cuts {
        assert_eq!(bytes.len(), 14 + 40 + 8 + 8 + 100);
        assert_eq!(u16::from_be_bytes([bytes[18], bytes[19]]), 116);
        assert_eq!(header.checksum_start, 62);
        assert!(sums_up(bytes, *header));
    }
}

#[test]
fn a_super_packet_counts_as_the_packets_it_stands_for() {
    let frame = packet(false, TCP, &payload(14_480));
    let cuts = segments(&frame, header(1, 1448));
    let bytes: usize = cuts.iter().map(|(bytes, _)| bytes.len() - 14).sum();
    let counted = on_the_wire(&frame[..160], frame.len(), header(1, 1448));
    assert_eq!(counted, (10, u64::try_from(bytes).unwrap()));
    assert_eq!(on_the_wire(&frame[..20], 1514, header(0, 0)), (1, 1500));
}
