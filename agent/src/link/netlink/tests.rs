//! Answers that find no room, and lists that change while they are read.

use std::os::unix::net::UnixDatagram;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use netlink_packet_route::link::LinkMessage;

use super::*;

const NEW_LINK: u16 = 16; // RTM_NEWLINK
const GET_LINK: u16 = 18; // RTM_GETLINK

/// `struct ifinfomsg` of the interface with this number.
fn link_payload(index: u8) -> Vec<u8> {
    let mut payload = vec![0; 16];
    payload[4..8].copy_from_slice(&i32::from(index).to_ne_bytes());
    payload
}

fn ask_for_loopback() -> Prepared {
    Prepared::request(GET_LINK, Mode::Plain, &link_payload(1))
}

#[test]
fn a_socket_whose_answers_found_no_room_says_so_and_goes_on_working() {
    let mut socket = RouteSocket::open().unwrap();
    // Room for one answer and its acknowledgement, and not for 64.
    setsockopt(&socket.descriptor, sockopt::RcvBuf, &8192).unwrap();
    let mut many: Vec<Prepared> = (0..64).map(|_| ask_for_loopback()).collect();
    let refused = socket.exchange_all(&mut many, &mut Vec::new()).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::ENOBUFS), "{refused}");
    let mut kinds = Vec::new();
    let answered = socket.exchange(&mut ask_for_loopback(), |kind, _| {
        kinds.push(kind);
        false
    });
    answered.unwrap();
    assert_eq!(kinds, [NEW_LINK]);
}

/// A list as a kernel sends it: interfaces and the flags of their messages, and those of the end, with
/// its error number.
#[derive(Debug, Clone)]
struct Listed {
    links: Vec<(u8, u16)>,
    end: (i32, u16),
}

impl Listed {
    fn whole(links: &[u8]) -> Listed {
        Listed {
            links: links.iter().map(|index| (*index, 0)).collect(),
            end: (0, 0),
        }
    }

    fn datagram(&self, sequence: u32) -> Vec<u8> {
        let (code, end_flags) = self.end;
        let links = self.links.iter();
        let links = links.map(|(index, flags)| (NEW_LINK, *flags, link_payload(*index)));
        let end = (NLMSG_DONE, end_flags, code.to_ne_bytes().to_vec());
        links
            .chain([end])
            .flat_map(|(kind, flags, payload)| {
                let mut message = Prepared::new(kind, flags, &payload);
                message.number(sequence);
                message.bytes
            })
            .collect()
    }
}

/// A socket that gets these lists, one for each request.
fn with_kernel(lists: Vec<Listed>) -> (RouteSocket, JoinHandle<()>) {
    let (ours, kernel) = UnixDatagram::pair().unwrap();
    let limit = Some(Duration::from_secs(60));
    ours.set_read_timeout(limit).unwrap();
    kernel.set_read_timeout(limit).unwrap();
    let answering = thread::spawn(move || {
        for list in lists {
            let mut request = [0; 4096];
            kernel.recv(&mut request).unwrap();
            let sequence = u32::from_ne_bytes(request[8..12].try_into().unwrap());
            kernel.send(&list.datagram(sequence)).unwrap();
        }
    });
    let socket = RouteSocket {
        descriptor: ours.into(),
        sequence: 0,
        buffer: vec![0; 65536],
        point: "netlink",
    };
    (socket, answering)
}

/// What is found where a kernel answers so, asked in each of the two ways.
fn found(lists: &[Listed]) -> [Result<Vec<u32>, LinkError>; 2] {
    let action = || "list the interfaces".to_owned();
    let (mut socket, answering) = with_kernel(lists.to_vec());
    let ask = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let typed = socket.query(ask, true, action).map(|answers| {
        let link = |answer| match answer {
            RouteNetlinkMessage::NewLink(link) => link.header.index,
            other => panic!("{other:?}"),
        };
        answers.into_iter().map(link).collect()
    });
    answering.join().unwrap();
    let (mut socket, answering) = with_kernel(lists.to_vec());
    let mut indexes = Vec::new();
    let take = |_, payload: &[u8]| {
        indexes.push(u32::from_ne_bytes(payload[4..8].try_into().unwrap()));
    };
    let listed = socket.list(GET_LINK, &link_payload(0), take, action);
    answering.join().unwrap();
    [typed, listed.map(|()| indexes)]
}

/// Both places where a kernel tells that a list has changed.
fn torn() -> [Listed; 2] {
    let mut within = Listed::whole(&[1, 2]);
    within.links[1].1 = NLM_F_DUMP_INTR;
    let mut at_the_end = Listed::whole(&[1]);
    at_the_end.end.1 = NLM_F_DUMP_INTR;
    [within, at_the_end]
}

#[test]
fn a_list_that_changed_while_it_was_read_is_read_again() {
    let [within, at_the_end] = torn();
    let lists = [within, at_the_end, Listed::whole(&[1, 2, 3])];
    for indexes in found(&lists) {
        assert_eq!(indexes.unwrap(), [1, 2, 3]);
    }
}

#[test]
fn a_list_that_never_stays_as_it_is_is_an_error_and_never_half_a_list() {
    for list in torn() {
        for indexes in found(&vec![list.clone(); LIST_TRIES]) {
            let LinkError::Netlink { action, source } = indexes.unwrap_err() else {
                panic!("another error");
            };
            assert_eq!(action, "list the interfaces");
            assert!(source.to_string().contains("32 times"), "{source}");
        }
    }
}

#[test]
fn a_list_that_ends_with_an_error_is_not_taken_for_a_whole_one() {
    let mut broken = Listed::whole(&[1]);
    broken.end.0 = -libc::ENOMEM;
    for indexes in found(&[broken]) {
        let LinkError::Netlink { source, .. } = indexes.unwrap_err() else {
            panic!("another error");
        };
        assert_eq!(source.raw_os_error(), Some(libc::ENOMEM));
    }
}
