//! Putting TCP segments that leave at the same moment together into the super-packet that stands
//! for them, as receivers do (net/core/gro.c, net/ipv4/tcp_offload.c): the opposite of cutting.
//!
//! Rate, loss and queue have acted on each packet by then. What is joined says how it is to be
//! cut again, so that whoever counts packets finds them all.

use super::checksum::{fold, sum};
use super::segment::{Layout, TCP, put};
use crate::link::ETHERNET_HEADER_BYTES;
use crate::sys::packet::{Cut, SEND_BATCH, VirtioHeader};

/// The longest IP packet.
const MOST_IP_BYTES: usize = 65_535;

/// TCP flags that end a run: FIN and PSH.
const LAST_ONLY: u8 = 0x01 | 0x08;
/// The flag that only the first segment of a run may have, CWR, and what marks it for the kernel.
const FIRST_ONLY: u8 = 0x80;
const ECN_MARK: u8 = 0x80;
/// Flags that a segment of a run may have: those, ACK and ECE.
const ALLOWED: u8 = LAST_ONLY | FIRST_ONLY | 0x10 | 0x40;

/// The longest headers that are joined: Ethernet, IPv6, and TCP with all its options.
const MOST_HEADER_BYTES: usize = 14 + 40 + 60;

/// What leaves in one go: messages of one frame, or of several that are joined.
#[derive(Debug, Default)]
pub(super) struct Batch {
    messages: Vec<Message>,
}

#[derive(Debug)]
struct Message {
    frames: usize,
    /// For several.
    run: Option<Run>,
}

impl Batch {
    /// Plans what leaves of these frames, in their order; `joins` says whether any are joined.
    pub(super) fn plan<'a>(
        &mut self,
        frames: impl Iterator<Item = (&'a [u8], VirtioHeader)>,
        joins: bool,
    ) {
        self.messages.clear();
        let mut frames = frames.peekable();
        while self.messages.len() < SEND_BATCH
            && let Some((first, virtio)) = frames.next()
        {
            let mut run = joins.then(|| Run::begin(first, virtio)).flatten();
            if let Some(run) = &mut run {
                while frames
                    .next_if(|(frame, virtio)| run.add(frame, *virtio))
                    .is_some()
                {}
                run.finish();
            }
            let segments = run.as_ref().map_or(1, |run| usize::from(run.segments));
            self.messages.push(Message {
                frames: segments,
                run: run.filter(|_| segments > 1),
            });
        }
    }

    /// How many frames each message stands for.
    pub(super) fn frames(&self) -> impl Iterator<Item = usize> {
        self.messages.iter().map(|message| message.frames)
    }

    /// The headers of a message that is joined, behind a virtio header, and where the payload of
    /// its frames begins.
    pub(super) fn joined(&self, message: usize) -> Option<(&[u8], usize)> {
        let run = self.messages.get(message)?.run.as_ref()?;
        Some((run.whole_headers(), run.layout.payload))
    }

    /// How many messages there are.
    pub(super) const fn len(&self) -> usize {
        self.messages.len()
    }
}

/// Segments that belong together, as far as they have been seen.
#[derive(Debug)]
struct Run {
    /// Virtio header and the headers of the first segment.
    bytes: [u8; VirtioHeader::BYTES + MOST_HEADER_BYTES],
    layout: Layout,
    /// Payload of every segment but the last, and of all.
    size: usize,
    payload: usize,
    segments: u16,
    /// Nothing fits behind a shorter segment, or one that says it is the last.
    ended: bool,
}

impl Run {
    /// A run that begins with this frame, if any can.
    fn begin(frame: &[u8], virtio: VirtioHeader) -> Option<Run> {
        let layout = joinable(frame, virtio)?;
        let flags = frame[layout.transport + 13];
        let mut bytes = [0; VirtioHeader::BYTES + MOST_HEADER_BYTES];
        let headers = frame.get(..layout.payload)?;
        let place = bytes.get_mut(VirtioHeader::BYTES..VirtioHeader::BYTES + headers.len())?;
        place.copy_from_slice(headers);
        let payload = frame.len() - layout.payload;
        Some(Run {
            bytes,
            layout,
            size: payload,
            payload,
            segments: 1,
            ended: flags & LAST_ONLY != 0,
        })
    }

    fn headers(&self) -> &[u8] {
        &self.bytes[VirtioHeader::BYTES..VirtioHeader::BYTES + self.layout.payload]
    }

    /// Adds the next frame if it goes on where the run ends.
    fn add(&mut self, frame: &[u8], virtio: VirtioHeader) -> bool {
        if self.ended || joinable(frame, virtio) != Some(self.layout) {
            return false;
        }
        let payload = frame.len() - self.layout.payload;
        let ip_bytes = self.layout.payload - ETHERNET_HEADER_BYTES + self.payload + payload;
        if payload > self.size || ip_bytes > MOST_IP_BYTES || !self.continues(frame) {
            return false;
        }
        let transport = self.layout.transport;
        let flags = frame[transport + 13];
        self.bytes[VirtioHeader::BYTES + transport + 13] |= flags & LAST_ONLY;
        self.payload += payload;
        self.segments += 1;
        self.ended = payload < self.size || flags & LAST_ONLY != 0;
        true
    }

    /// Whether the headers are those of the next segment.
    fn continues(&self, frame: &[u8]) -> bool {
        let (network, transport) = (ETHERNET_HEADER_BYTES, self.layout.transport);
        let first = self.headers();
        let same = |from: usize, to: usize| first[from..to] == frame[from..to];
        let network_fits = if self.layout.ipv6 {
            // All but the length.
            same(0, network + 4) && same(network + 6, transport)
        } else {
            let number = read_u16(first, network + 4).wrapping_add(self.segments);
            // All but length, identification and checksum.
            same(0, network + 2)
                && read_u16(frame, network + 4) == number
                && same(network + 6, network + 10)
                && same(network + 12, transport)
        };
        // A run is never longer than an IP packet; one that was would end here.
        let sent = u32::try_from(self.payload).unwrap_or(u32::MAX);
        let next = read_u32(first, transport + 4).wrapping_add(sent);
        let flags = frame[transport + 13];
        network_fits
            // Ports, acknowledgement, window, urgent pointer and options.
            && same(transport, transport + 4)
            && read_u32(frame, transport + 4) == next
            && same(transport + 8, transport + 13)
            && same(transport + 14, transport + 16)
            && same(transport + 18, self.layout.payload)
            && flags & FIRST_ONLY == 0
            && flags & !LAST_ONLY == first[transport + 13] & !FIRST_ONLY
    }

    /// Virtio header and headers, once they are finished.
    fn whole_headers(&self) -> &[u8] {
        &self.bytes[..VirtioHeader::BYTES + self.layout.payload]
    }

    /// Makes the headers those of the whole.
    fn finish(&mut self) {
        let (network, layout) = (ETHERNET_HEADER_BYTES, self.layout);
        let whole = layout.payload + self.payload;
        // A run is never longer than an IP packet.
        let length = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX);
        let headers = &mut self.bytes[VirtioHeader::BYTES..VirtioHeader::BYTES + layout.payload];
        if layout.ipv6 {
            put(headers, network + 4, length(whole - network - 40));
        } else {
            put(headers, network + 2, length(whole - network));
            put(headers, network + 10, 0);
            let checksum = !fold(sum(&headers[network..layout.transport]));
            put(headers, network + 10, checksum);
        }
        let transport_bytes = length(whole - layout.transport);
        let partial = fold(layout.pseudo_sum(headers) + u64::from(transport_bytes));
        put(headers, layout.transport + 16, partial);
        let ecn = if headers[layout.transport + 13] & FIRST_ONLY == 0 {
            0
        } else {
            ECN_MARK
        };
        let virtio = VirtioHeader {
            flags: 1,
            gso_type: if layout.ipv6 { 4 } else { 1 } | ecn,
            header_bytes: length(layout.payload),
            segment_bytes: length(self.size),
            checksum_start: length(layout.transport),
            checksum_offset: layout.checksum_offset(),
        };
        self.bytes[..VirtioHeader::BYTES].copy_from_slice(&virtio.to_bytes());
    }
}

fn read_u16(bytes: &[u8], place: usize) -> u16 {
    u16::from_be_bytes([bytes[place], bytes[place + 1]])
}

fn read_u32(bytes: &[u8], place: usize) -> u32 {
    let high = u32::from(read_u16(bytes, place));
    high << 16 | u32::from(read_u16(bytes, place + 2))
}

/// Where the parts of a frame are, if it is a TCP segment with payload and a partial checksum that
/// may be one of several.
fn joinable(frame: &[u8], virtio: VirtioHeader) -> Option<Layout> {
    if virtio.cut() != Cut::Not || !virtio.needs_checksum() {
        return None;
    }
    let layout = Layout::of(frame)?;
    let network = ETHERNET_HEADER_BYTES;
    // Of IPv4's third word only "do not fragment" may be set; IPv6 extensions are left alone.
    let whole = if layout.ipv6 {
        layout.transport == network + 40
    } else {
        read_u16(frame, network + 6) & 0xbfff == 0
    };
    // Padding behind the packet is no payload.
    let ip_bytes = if layout.ipv6 {
        usize::from(read_u16(frame, network + 4)) + 40
    } else {
        usize::from(read_u16(frame, network + 2))
    };
    let fits = layout.protocol == TCP
        && usize::from(virtio.checksum_start) == layout.transport
        && layout.payload <= MOST_HEADER_BYTES
        && frame.len() > layout.payload
        && frame.len() == network + ip_bytes
        && frame[layout.transport + 13] & !ALLOWED == 0;
    (whole && fits).then_some(layout)
}

#[cfg(test)]
mod tests {
    use super::super::segment::cut;
    use super::*;

    fn frame(ipv6: bool, payload_bytes: usize, flags: u8) -> Vec<u8> {
        let mut frame = vec![2; 12];
        if ipv6 {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            let length = u16::try_from(32 + payload_bytes).unwrap();
            frame.extend(length.to_be_bytes());
            frame.extend([6, 64]);
            frame.extend([0xfd; 32]);
        } else {
            frame.extend([0x08, 0x00, 0x45, 0x02]);
            let length = u16::try_from(52 + payload_bytes).unwrap();
            frame.extend(length.to_be_bytes());
            frame.extend([0xff, 0xfe, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
            let checksum = !fold(sum(&frame[14..34]));
            put(&mut frame, 24, checksum);
        }
        let transport = frame.len();
        frame.extend([0x13, 0x89, 0xc0, 0x01]);
        frame.extend(0xffff_f000_u32.to_be_bytes());
        frame.extend(77_u32.to_be_bytes());
        frame.extend([0x80, flags, 1, 0, 0, 0, 0, 0]);
        // Two no-operations and a time stamp.
        frame.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
        let payload = (0..payload_bytes).map(|place| u8::try_from(place % 251).unwrap());
        frame.extend(payload);
        let layout = Layout::of(&frame).unwrap();
        let bytes = u64::try_from(frame.len() - transport).unwrap();
        let partial = fold(layout.pseudo_sum(&frame) + bytes);
        put(&mut frame, transport + 16, partial);
        frame
    }

    fn super_header(frame: &[u8], ipv6: bool, ecn: u8) -> VirtioHeader {
        let layout = Layout::of(frame).unwrap();
        VirtioHeader {
            flags: 1,
            gso_type: if ipv6 { 4 } else { 1 } | ecn,
            header_bytes: u16::try_from(layout.payload).unwrap(),
            segment_bytes: 1448,
            checksum_start: u16::try_from(layout.transport).unwrap(),
            checksum_offset: 16,
        }
    }

    type Piece = (Vec<u8>, VirtioHeader);

    fn pieces(frame: &[u8], header: VirtioHeader) -> Vec<Piece> {
        let mut pieces = Vec::new();
        cut(frame, header, &mut Vec::new(), &mut |piece, header| {
            pieces.push((piece.to_vec(), header));
        })
        .unwrap();
        pieces
    }

    /// What a sequence of frames is joined to: the frames that go out, and their headers.
    fn joined(frames: &[Piece]) -> Vec<Piece> {
        let mut out = Vec::new();
        let mut place = 0;
        while let Some((first, header)) = frames.get(place) {
            let Some(mut run) = Run::begin(first, *header) else {
                out.push((first.clone(), *header));
                place += 1;
                continue;
            };
            let start = run.layout.payload;
            let mut payload = first[start..].to_vec();
            place += 1;
            while let Some((next, header)) = frames.get(place)
                && run.add(next, *header)
            {
                payload.extend(&next[start..]);
                place += 1;
            }
            run.finish();
            let (virtio, headers) = run.whole_headers().split_at(VirtioHeader::BYTES);
            let virtio = VirtioHeader::from_bytes(virtio.try_into().unwrap());
            out.push(([headers, &payload].concat(), virtio));
        }
        out
    }

    #[test]
    fn joining_what_was_cut_gives_the_super_packet_back() {
        for ipv6 in [false, true] {
            for (flags, ecn) in [(0x10, 0), (0x18, 0), (0x90, ECN_MARK), (0x11, 0)] {
                for payload in [1449, 2896, 20_000, 60_000] {
                    let frame = frame(ipv6, payload, flags);
                    let header = super_header(&frame, ipv6, ecn);
                    let back = joined(&pieces(&frame, header));
                    assert_eq!(back.len(), 1);
                    assert_eq!(back[0].1, header);
                    assert!(back[0].0 == frame, "{ipv6} {flags:#x} {payload}");
                }
            }
        }
    }

    #[test]
    fn a_packet_that_is_missing_leaves_two_runs() {
        let frame = frame(false, 10 * 1448, 0x18);
        let header = super_header(&frame, false, 0);
        let mut rest = pieces(&frame, header);
        rest.remove(4);
        let out = joined(&rest);
        let lengths: Vec<usize> = out.iter().map(|(frame, _)| frame.len() - 66).collect();
        assert_eq!(lengths, [4 * 1448, 5 * 1448]);
        let again: Vec<_> = out
            .iter()
            .flat_map(|(frame, header)| pieces(frame, *header))
            .collect();
        let frames = |packets: &[Piece]| -> Vec<Vec<u8>> {
            packets.iter().map(|(frame, _)| frame.clone()).collect()
        };
        assert!(frames(&again) == frames(&rest));
    }

    #[test]
    fn what_was_marked_damaged_or_acknowledges_something_else_stands_alone() {
        let whole = frame(false, 4 * 1448, 0x10);
        let header = super_header(&whole, false, 0);
        let packets = pieces(&whole, header);
        let count = |change: &dyn Fn(&mut Piece)| {
            let mut packets = packets.clone();
            change(&mut packets[1]);
            joined(&packets).len()
        };
        assert_eq!(count(&|_| {}), 1);
        // A mark of congestion, an acknowledgement, a window, a time stamp, a finished checksum.
        assert_eq!(count(&|(frame, _)| frame[15] |= 3), 3);
        assert_eq!(count(&|(frame, _)| frame[45] ^= 1), 3);
        assert_eq!(count(&|(frame, _)| frame[49] ^= 1), 3);
        assert_eq!(count(&|(frame, _)| frame[61] ^= 1), 3);
        assert_eq!(count(&|(_, header)| header.flags = 0), 3);
    }

    #[test]
    fn no_super_packet_is_longer_than_an_ip_packet() {
        let first = frame(false, 60_000, 0x10);
        let mut second = frame(false, 60_000, 0x10);
        let sent = 0xffff_f000_u32.wrapping_add(60_000);
        second[38..42].copy_from_slice(&sent.to_be_bytes());
        let header = super_header(&first, false, 0);
        let identification = 0xfffe_u16.wrapping_add(42);
        put(&mut second, 18, identification);
        let packets = [pieces(&first, header), pieces(&second, header)].concat();
        for (frame, header) in joined(&packets) {
            assert!(frame.len() - 14 <= MOST_IP_BYTES);
            assert!(header.cut() == Cut::Tcp || frame.len() <= 1514);
        }
    }
}
