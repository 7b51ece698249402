//! A port of the link's own namespace: clsact for programs, fq for packets that wait.

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcMessage, TcStats2};

use super::messages::{self, FQ, Hook};
use crate::link::netlink::{Mode, RouteSocket};
use crate::link::{LinkError, interfaces};
use crate::sys::bpf::Program;

/// fq holds so many packets at most: no more than there are due times to tell apart.
pub(super) const MOST_PACKETS: u32 = 65_000;

/// fq holds a packet no longer than this. (Its own setting is in microseconds, in 32 bits: 4294
/// seconds at most; 10 s if nobody sets it.)
pub(crate) const HORIZON_NS: u64 = 3_600_000_000_000;

/// fq's own horizon: what the program lets through must not fall behind it.
const FQ_HORIZON_US: u32 = 3_601_000_000;

/// An interface of the thread's namespace that programs can be hung on.
#[derive(Debug)]
pub(super) struct Port {
    socket: RouteSocket,
    pub(super) index: i32,
    interface: String,
    /// What fq had dropped when the playback began.
    dropped_before: u64,
}

impl Port {
    /// Prepares an interface of this thread's namespace.
    ///
    /// # Errors
    /// There are programs on it already.
    pub(super) fn open(interface: &str) -> Result<Port, LinkError> {
        let index = i32::try_from(interfaces::index_of(interface)?).unwrap_or(i32::MAX);
        let mut socket = interfaces::open_socket()?;
        let clsact = RouteNetlinkMessage::NewQueueDiscipline(messages::clsact(index));
        socket.request(clsact, Mode::Create, || {
            format!("put clsact on interface {interface} (CONFIG_NET_SCH_INGRESS)")
        })?;
        let interface = interface.to_owned();
        Ok(Port {
            socket,
            index,
            interface,
            dropped_before: 0,
        })
    }

    /// Hangs a program on it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn attach(
        &mut self,
        hook: Hook,
        program: &Program,
        name: &str,
    ) -> Result<(), LinkError> {
        self.hang(hook, program, name, Mode::Create)
    }

    /// Hangs a program where another one is. Each packet meets the one or the other.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn exchange(
        &mut self,
        hook: Hook,
        program: &Program,
        name: &str,
    ) -> Result<(), LinkError> {
        self.hang(hook, program, name, Mode::Change)
    }

    fn hang(
        &mut self,
        hook: Hook,
        program: &Program,
        name: &str,
        mode: Mode,
    ) -> Result<(), LinkError> {
        let filter = messages::filter(self.index, hook, program.number(), name);
        let filter = RouteNetlinkMessage::NewTrafficFilter(filter);
        let interface = &self.interface;
        self.socket.request(filter, mode, || {
            format!("hang BPF program {name} on interface {interface} (CONFIG_NET_CLS_BPF)")
        })
    }

    /// Makes fq its queue.
    ///
    /// # Errors
    /// The kernel has no fq, or the interface has another queue.
    pub(super) fn put_fq(&mut self) -> Result<(), LinkError> {
        let fq = messages::fq(self.index, MOST_PACKETS, FQ_HORIZON_US);
        let fq = RouteNetlinkMessage::NewQueueDiscipline(fq);
        let interface = &self.interface;
        let result = self.socket.request(fq, Mode::Create, || {
            format!("put qdisc fq on interface {interface}")
        });
        match result {
            Err(LinkError::Netlink { source, .. })
                if source.raw_os_error() == Some(libc::ENOENT) =>
            {
                Err(LinkError::Netlink {
                    action: format!(
                        "put qdisc fq on interface {interface}: this kernel has no fq \
                         (CONFIG_NET_SCH_FQ, module sch_fq)"
                    ),
                    source,
                })
            }
            other => other,
        }
    }

    /// Drops everything that waits: a new fq in place of the old one.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn empty(&mut self) -> Result<(), LinkError> {
        let fq = messages::fq(self.index, MOST_PACKETS, FQ_HORIZON_US);
        let interface = &self.interface;
        let old = RouteNetlinkMessage::DelQueueDiscipline(fq);
        self.socket.request(old, Mode::Plain, || {
            format!("take qdisc fq off interface {interface}")
        })?;
        self.put_fq()
    }

    /// From here on [`Port::drops`] counts from 0.
    pub(super) fn forget_drops(&mut self) -> Result<(), LinkError> {
        self.dropped_before = self.dropped()?;
        Ok(())
    }

    /// Packets that fq had no room for.
    pub(super) fn drops(&mut self) -> Result<u64, LinkError> {
        Ok(self.dropped()?.saturating_sub(self.dropped_before))
    }

    fn dropped(&mut self) -> Result<u64, LinkError> {
        let question = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::with_index(self.index));
        let interface = &self.interface;
        let action = || format!("read the queue of interface {interface}");
        let answers = self.socket.query(question, true, action)?;
        let attributes = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewQueueDiscipline(qdisc)
                if qdisc.header.index == self.index && qdisc.header.handle == FQ =>
            {
                Some(qdisc.attributes)
            }
            _ => None,
        });
        let statistics = attributes
            .flatten()
            .filter_map(|attribute| match attribute {
                TcAttribute::Stats2(statistics) => Some(statistics),
                _ => None,
            });
        let drops = statistics
            .flatten()
            .filter_map(|statistic| match statistic {
                TcStats2::Queue(queue) => Some(u64::from(queue.drops)),
                _ => None,
            });
        Ok(drops.sum())
    }
}
