//! What can go wrong with a link.

use std::io;

use crate::namespace::NamespaceError;

/// What went wrong with a link.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// A namespace could not be made or entered.
    #[error("link {link}: cannot work in a network namespace")]
    Namespace {
        /// The link.
        link: String,
        /// The cause.
        #[source]
        source: NamespaceError,
    },
    /// Somebody changed an end of it.
    #[error(
        "link {link}: interface {interface} was changed while it was in use: {what}; leave interfaces whose names begin with hx alone and run again"
    )]
    InterfaceChanged {
        /// The link.
        link: String,
        /// What the interface was made as.
        interface: String,
        /// What became of it.
        what: String,
    },
    /// The kernel refused a change of an interface, an address or a queueing discipline.
    #[error("cannot {action}")]
    Netlink {
        /// What was being done, to what.
        action: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel has no such discipline, link or filter.
    #[error(
        "this kernel lacks {kind}, which {purpose} need: load it with `modprobe {module}`, or take a kernel \
         that has it (CONFIG_{option})"
    )]
    Lacking {
        /// Its kind.
        kind: String,
        /// What it is for.
        purpose: &'static str,
        /// The module that has it.
        module: &'static str,
        /// The option of the kernel's configuration, without `CONFIG_`.
        option: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a BPF map or program.
    #[error("cannot {action}")]
    Bpf {
        /// What was being done.
        action: String,
        /// The kernel's answer.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The plan asks for something that the kernel's departure times cannot do.
    #[error("link {link}: datapath edt cannot do it: {what}; use datapath relay")]
    NotOnEdt {
        /// The link.
        link: String,
        /// What is asked for, and why it cannot be done.
        what: String,
    },
    /// The next rows of a long trace were not there in time.
    #[error(
        "link {link}: the next rows of its trace were there {late_ns} ns too late, and packets were \
         dropped meanwhile: this machine has too much else to do; use datapath relay, or leave it more \
         processors"
    )]
    RowsLate {
        /// The link.
        link: String,
        /// How late.
        late_ns: u64,
    },
    /// A setting of an interface could not be changed.
    #[error("cannot turn off {feature} of interface {interface}")]
    Feature {
        /// The interface.
        interface: String,
        /// The offload.
        feature: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A socket could not be opened or used.
    #[error("cannot {action}")]
    Socket {
        /// What was being done, on which interface or address.
        action: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A thread could not be started.
    #[error("cannot start thread {name}")]
    Thread {
        /// Its name.
        name: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A thread of the link ended too early.
    #[error("thread {name} of link {link} has ended")]
    ThreadGone {
        /// The link.
        link: String,
        /// The thread.
        name: &'static str,
    },
    /// An interface name does not fit.
    #[error("interface name `{interface}` is empty or longer than 15 bytes; choose a shorter one")]
    InterfaceName {
        /// The name.
        interface: String,
    },
    /// No datapath can be built on this machine.
    #[error("link {link}: no datapath works here: {reason}")]
    NoDatapath {
        /// The link.
        link: String,
        /// What was tried and what it said.
        reason: String,
    },
    /// Something was asked of the tc datapath that the kernel's disciplines cannot do.
    #[error("link {link}: {reason}")]
    RefusedByTc {
        /// The link.
        link: String,
        /// Why, and what to do.
        reason: &'static str,
    },
    /// A change was asked for that the datapath cannot make while it plays.
    #[error(
        "link {link}: datapath {datapath} cannot be changed while it plays; use datapath relay in mode exact"
    )]
    ChangeRefused {
        /// The link.
        link: String,
        /// The datapath.
        datapath: &'static str,
    },
    /// A change that would make a link that cannot be.
    #[error("link {link}: {reason}")]
    ChangeImpossible {
        /// The link.
        link: String,
        /// What is wrong, and what would be possible.
        reason: String,
    },
    /// An interface of the link failed while it was in use.
    #[error(
        "link {link}: interface {interface} {failure} while the link was in use; leave interfaces whose names begin with hx alone and run again"
    )]
    InterfaceFailed {
        /// The link.
        link: String,
        /// The interface of the node.
        interface: String,
        /// What became of it.
        failure: String,
    },
    /// Packets came that are longer than the link's MTU, or longer than an interface's after it
    /// was changed.
    #[error(
        "link {link}: {packets} packets were longer than its MTU of {mtu} bytes or than an interface's; leave the interfaces' MTU as it is"
    )]
    TooLong {
        /// The link.
        link: String,
        /// Its MTU in bytes.
        mtu: u32,
        /// How many packets were lost.
        packets: u64,
    },
    /// The link is playing already.
    #[error("link {link} is playing already")]
    Playing {
        /// The link.
        link: String,
    },
    /// The link is not playing.
    #[error("link {link} is not playing")]
    NotPlaying {
        /// The link.
        link: String,
    },
}
