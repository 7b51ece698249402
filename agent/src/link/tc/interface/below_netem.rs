//! Whether the queue of a link can hang below netem on this kernel: tried with packets.
//!
//! netem counts the packets below it among its own, or ought to: only since "net/sched: netem: account
//! for backlog updates from child qdisc" (Linux 6.13 and the stable kernels of December 2024;
//! CVE-2024-56770) does it in `netem_dequeue`. Before that a class of htb whose netem has handed its last
//! packet down is taken for empty (`htb_dequeue_tree` in net/sched/sch_htb.c): what waits below stays
//! there until something else comes, and once the queue below has dropped a packet the kernel may
//! follow a null pointer and halt (seen on 5.10.46).
//!
//! So nothing is dropped here, and there is no htb: one netem hangs below another and holds packets
//! for a while, in which the upper one has to count them, as it must not any more when they have left.
//! Versions say little of it, because distributions carry the fix to kernels of any number.

use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::time::Duration;

use super::step::signed;
use crate::link::netlink::{Mode, RouteSocket};
use crate::link::tc::codec::netem::Netem;
use crate::link::tc::codec::statistics::QueueStatistics;
use crate::link::tc::codec::{Discipline, NEW_QDISC, Place, Qdisc};
use crate::link::tc::handle::Handle;
use crate::link::tc::question::Question;
use crate::link::{LinkError, interfaces};
use crate::namespace::NetworkNamespace;
use crate::node::with_causes;

/// Whether the queue of a link can hang below the netem that delays its packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BelowNetem {
    /// netem counts what waits there.
    Counted,
    /// It cannot, for this reason.
    Unusable(String),
}

/// Packets of a round.
const PACKETS: u32 = 10;

/// How long they are below: long enough to ask both.
const DELAY_NS: u64 = 50_000_000;

const ROUNDS: usize = 2;

/// A machine that takes longer than the packets are below to ask has seen nothing: then it is tried again.
const TRIES: usize = 5;

/// Many times what a packet takes; what has not come by then is stuck.
const STUCK: Duration = Duration::from_secs(2);

/// Tries it, in a throw-away namespace.
pub(super) fn below_netem_here() -> BelowNetem {
    for _ in 0..TRIES {
        match tried() {
            Ok(Found::Counted) => return BelowNetem::Counted,
            Ok(Found::Miscounted(why)) => return BelowNetem::Unusable(why),
            Ok(Found::Nothing) => {}
            Err(error) => return BelowNetem::Unusable(with_causes(&error)),
        }
    }
    BelowNetem::Unusable("this machine was too busy to find out whether it works".to_owned())
}

/// What a try has shown.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Counted,
    Miscounted(String),
    /// Nothing: the packets had left before both were asked.
    Nothing,
}

fn tried() -> Result<Found, LinkError> {
    let failed = |source| LinkError::Namespace {
        link: "(probe of netem)".to_owned(),
        source,
    };
    let namespace = NetworkNamespace::create().map_err(failed)?;
    namespace.run(try_here).map_err(failed)?
}

/// What was seen of the packets of a round.
#[derive(Debug, Clone, Copy)]
struct Round {
    /// Those that the upper netem counted, and then the lower one.
    upper: u32,
    lower: u32,
    /// Those that came in the end.
    came: u32,
    /// What the upper one counts when all is over.
    left: QueueStatistics,
}

impl Round {
    fn judge(&self) -> Found {
        let Round { upper, lower, .. } = *self;
        let what = if upper < lower {
            format!("it counted {upper} packets while {lower} were there")
        } else if self.came < PACKETS {
            format!("{} of {PACKETS} packets never came", PACKETS - self.came)
        } else if self.left.packets > 0 || self.left.backlog_bytes > 0 {
            format!("it counts {} packets where none is left", self.left.packets)
        } else if lower == 0 {
            return Found::Nothing;
        } else {
            return Found::Counted;
        };
        Found::Miscounted(format!(
            "netem of this kernel does not count what waits below it ({what}; mended in Linux 6.13 and \
             the stable kernels of December 2024)"
        ))
    }
}

/// The loopback interface with a netem below another.
struct Tree {
    socket: RouteSocket,
    upper: Question,
    lower: Question,
    from: UdpSocket,
    to: UdpSocket,
}

fn try_here() -> Result<Found, LinkError> {
    let mut tree = Tree::build()?;
    let failed = |source| LinkError::Netlink {
        action: "try a queue below netem".to_owned(),
        source,
    };
    for _ in 0..ROUNDS {
        let found = tree.round().map_err(failed)?.judge();
        if found != Found::Counted {
            return Ok(found);
        }
    }
    Ok(Found::Counted)
}

impl Tree {
    fn build() -> Result<Tree, LinkError> {
        let mut socket = interfaces::open_socket()?;
        let index = signed(interfaces::set_up(&mut socket, "lo", false)?);
        let [first, second] = [1, 2].map(|major| Handle::new(major, 0));
        let upper = Place::new(index, first, Handle::ROOT);
        let lower = Place::new(index, second, Handle::new(first.major(), 1));
        for (place, delay_ns) in [(upper, 0), (lower, DELAY_NS)] {
            let netem = Discipline::Netem(Netem {
                delay_ns,
                ..Netem::default()
            });
            let message = Qdisc::new(place, netem).message();
            socket.order(NEW_QDISC, Mode::Create, &message, || {
                "put netem on a loopback interface to try it".to_owned()
            })?;
        }
        let failed = |source| LinkError::Socket {
            action: "open a socket on a loopback interface to try netem".to_owned(),
            source,
        };
        let (from, to) = sockets().map_err(failed)?;
        Ok(Tree {
            socket,
            upper: Question::of_discipline(upper),
            lower: Question::of_discipline(lower),
            from,
            to,
        })
    }

    /// Sends packets, asks both while they are below, and waits until all have come.
    fn round(&mut self) -> io::Result<Round> {
        for _ in 0..PACKETS {
            self.from.send(&[0; 100])?;
        }
        // In this order what leaves in between is missing below.
        let upper = self.upper.ask(&mut self.socket)?.queue.packets;
        let lower = self.lower.ask(&mut self.socket)?.queue.packets;
        let mut came = 0;
        while came < PACKETS {
            match self.to.recv(&mut [0; 100]) {
                Ok(_) => came += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Round {
            upper,
            lower,
            came,
            left: self.upper.ask(&mut self.socket)?.queue,
        })
    }
}

/// One that sends to the other.
fn sockets() -> io::Result<(UdpSocket, UdpSocket)> {
    let to = UdpSocket::bind("127.0.0.1:0")?;
    to.set_read_timeout(Some(STUCK))?;
    let from = UdpSocket::bind("127.0.0.1:0")?;
    from.connect(to.local_addr()?)?;
    Ok((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(upper: u32, lower: u32, came: u32, packets: u32) -> Found {
        let left = QueueStatistics {
            packets,
            ..QueueStatistics::default()
        };
        Round {
            upper,
            lower,
            came,
            left,
        }
        .judge()
    }

    #[test]
    fn a_kernel_that_forgets_packets_or_counts_those_that_are_gone_is_told_from_one_that_does_not()
    {
        assert_eq!(judged(10, 10, 10, 0), Found::Counted);
        assert_eq!(judged(10, 3, 10, 0), Found::Counted);
        // Asked too late.
        assert_eq!(judged(0, 0, 10, 0), Found::Nothing);
        // Linux 5.10.
        let Found::Miscounted(forgotten) = judged(0, 10, 10, 0) else {
            panic!("ten packets are forgotten");
        };
        assert!(forgotten.contains("counted 0 packets"), "{forgotten}");
        for (came, left) in [(9, 0), (10, 1), (10, u32::MAX)] {
            let found = judged(10, 10, came, left);
            assert!(matches!(found, Found::Miscounted(_)), "{found:?}");
        }
    }

    #[test]
    #[ignore = "needs root, netem, virtual-time"]
    fn netem_of_a_kernel_that_was_mended_counts_what_waits_below_it() {
        assert_eq!(below_netem_here(), BelowNetem::Counted);
    }

    #[test]
    #[ignore = "needs root"]
    fn every_kernel_gives_an_answer_in_words_or_counts() {
        let here = below_netem_here();
        println!("{here:?}");
        if let BelowNetem::Unusable(why) = here {
            assert!(why.contains("netem") || why.contains("busy"), "{why}");
        }
    }
}
