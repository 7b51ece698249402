//! One step, and its opposite.

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::LinkUnspec;
use serde::{Deserialize, Serialize};

use super::ifb::MadeLink;
use super::{ROOT, Root, ifb, verify};
use crate::link::LinkError;
use crate::link::netlink::{Mode, RouteSocket};
use crate::link::tc::codec::filter::{Filter, Target};
use crate::link::tc::codec::table::Table;
use crate::link::tc::codec::{
    Class, Discipline, NEW_CLASS, NEW_FILTER, NEW_QDISC, Place, Qdisc, Verb,
};
use crate::link::tc::handle::Handle;

/// How a step is taken back. What an earlier step takes with it when it is undone has none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "undo", rename_all = "kebab-case")]
pub enum TcUndo {
    /// Delete the root discipline with the handle [`ROOT`], and everything below it.
    RemoveRoot {
        /// The interface.
        interface: String,
        /// Its number.
        index: u32,
    },
    /// Delete the ingress hook, and the filters on it.
    RemoveIngress {
        /// The interface.
        interface: String,
        /// Its number.
        index: u32,
    },
    /// Delete a link of ours, and all that is on it, whatever it is called by now.
    RemoveLink {
        /// The name that it was made with, which starts with `hx`.
        name: String,
        /// The hardware address that it was made with.
        address: [u8; 6],
    },
}

/// What a step makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Making {
    Ifb,
    Up,
    Qdisc(Qdisc),
    /// Has a discipline that is there, a plug, hold packets or let them go.
    Hold(Qdisc),
    Class(Class),
    /// A hash table of filters, with what leads to it.
    Table(Table),
    /// Sends to this link what it catches, if the target is a redirection.
    Filter(Filter, Option<MadeLink>),
}

/// Which interface a step is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum About {
    /// One that was there before, by the number that it keeps.
    Existing(u32),
    /// One that this step or an earlier one makes.
    Made(MadeLink),
}

/// One small change of the kernel's queueing. It fails if what it makes exists already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcStep {
    pub(super) what: String,
    /// What the interface was called when the step was made; it may have been renamed since.
    pub(super) interface: String,
    pub(super) about: About,
    pub(super) making: Making,
    pub(super) undo: Option<TcUndo>,
}

/// The number of an interface in the socket's namespace.
pub(super) fn index_of(socket: &mut RouteSocket, name: &str) -> Result<u32, LinkError> {
    let mut ask = LinkMessage::default();
    ask.attributes.push(LinkAttribute::IfName(name.to_owned()));
    let action = || format!("find interface {name}");
    let answers = socket.query(RouteNetlinkMessage::GetLink(ask), false, action)?;
    let found = answers.into_iter().find_map(|answer| match answer {
        RouteNetlinkMessage::NewLink(link) => Some(link.header.index),
        _ => None,
    });
    found.ok_or_else(|| LinkError::Netlink {
        action: action(),
        source: std::io::ErrorKind::NotFound.into(),
    })
}

pub(super) fn signed(index: u32) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}

impl TcStep {
    /// What it does, such as `put htb on eth1`.
    #[must_use]
    pub fn describe(&self) -> &str {
        &self.what
    }

    /// The number of the interface that it is about. A name may be another interface's by now.
    pub(super) fn number(&self, socket: &mut RouteSocket) -> Result<u32, LinkError> {
        match &self.about {
            About::Existing(index) => Ok(*index),
            About::Made(link) => link.number(socket),
        }
    }

    /// The same; `None` where the link that it or an earlier step made is gone.
    pub(super) fn found(&self, socket: &mut RouteSocket) -> Result<Option<u32>, LinkError> {
        match &self.about {
            About::Existing(index) => Ok(Some(*index)),
            About::Made(link) => link.find(socket),
        }
    }

    /// What the kernel has to have for it, beside what it needs for everything.
    pub(super) fn kind(&self) -> Option<&str> {
        match &self.making {
            Making::Ifb => Some(ifb::KIND),
            Making::Qdisc(qdisc) | Making::Hold(qdisc) => Some(qdisc.discipline.kind()),
            // Which classifiers there are was found out before.
            Making::Filter(_, Some(_)) => Some("mirred"),
            Making::Up | Making::Class(_) | Making::Table(_) | Making::Filter(_, None) => None,
        }
    }

    /// Whether it makes a class.
    pub(crate) const fn is_class(&self) -> bool {
        matches!(self.making, Making::Class(_))
    }

    /// Its opposite; `None` for what goes when an earlier step is undone.
    #[must_use]
    pub const fn undo(&self) -> Option<&TcUndo> {
        self.undo.as_ref()
    }

    /// Does it, in the namespace of the socket.
    ///
    /// # Errors
    /// It exists already (`EEXIST`), or the kernel refuses.
    pub(crate) fn apply(&self, socket: &mut RouteSocket) -> Result<(), LinkError> {
        let what = || self.what.clone();
        if let (Making::Ifb, About::Made(link)) = (&self.making, &self.about) {
            return link.make(socket, what);
        }
        let index = self.number(socket)?;
        let at = |place: Place| Place {
            index: signed(index),
            ..place
        };
        match &self.making {
            Making::Ifb => Ok(()),
            Making::Up => {
                let message = LinkUnspec::new_with_index(index).up().build();
                socket.request(RouteNetlinkMessage::SetLink(message), Mode::Plain, what)
            }
            Making::Qdisc(qdisc) => {
                let qdisc = Qdisc {
                    place: at(qdisc.place),
                    ..qdisc.clone()
                };
                socket.order(NEW_QDISC, Mode::Create, &qdisc.message(), what)
            }
            Making::Hold(_) => self.change(socket),
            Making::Class(class) => {
                let class = Class {
                    place: at(class.place),
                    ..*class
                };
                socket.order(NEW_CLASS, Mode::Create, &class.message(), what)
            }
            Making::Table(table) => {
                let table = Table {
                    place: at(table.place),
                    ..*table
                };
                socket.order(NEW_FILTER, Mode::Create, &table.message(), what)?;
                socket.order(NEW_FILTER, Mode::Create, &table.link_message(), what)
            }
            Making::Filter(filter, to) => {
                let target = match to {
                    Some(link) => Target::Redirect(link.number(socket)?),
                    None => filter.target,
                };
                let filter = Filter {
                    place: at(filter.place),
                    target,
                    ..*filter
                };
                socket.order(NEW_FILTER, Mode::Create, &filter.message(), what)
            }
        }
    }
}

impl TcStep {
    /// Changes what an earlier step made to what this one asks for, in place. What has no rate and
    /// no queue stays as it is.
    ///
    /// # Errors
    /// It does not exist, or the kernel refuses.
    pub(crate) fn change(&self, socket: &mut RouteSocket) -> Result<(), LinkError> {
        let what = || format!("change: {}", self.what);
        match &self.making {
            Making::Class(class) => {
                let index = signed(self.number(socket)?);
                let place = Place {
                    index,
                    ..class.place
                };
                let class = Class { place, ..*class };
                socket.order(NEW_CLASS, Mode::Change, &class.message(), what)
            }
            // Roots and hooks hang on the interface itself.
            Making::Qdisc(qdisc) | Making::Hold(qdisc)
                if ![Handle::ROOT, Handle::INGRESS].contains(&qdisc.place.parent) =>
            {
                let index = signed(self.number(socket)?);
                let qdisc = Qdisc {
                    place: Place {
                        index,
                        ..qdisc.place
                    },
                    ..qdisc.clone()
                };
                socket.order(NEW_QDISC, Mode::Change, &qdisc.change_message(), what)
            }
            _ => Ok(()),
        }
    }
}

impl TcUndo {
    /// What it does, in words.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            TcUndo::RemoveRoot { interface, .. } => {
                format!("delete the root discipline {ROOT} of {interface}")
            }
            TcUndo::RemoveIngress { interface, .. } => {
                format!("delete the ingress hook of {interface}")
            }
            TcUndo::RemoveLink { name, .. } => format!("delete link {name}"),
        }
    }

    /// Takes it back, in the namespace of the socket. What is gone already is no failure.
    ///
    /// # Errors
    /// The kernel refuses, as it does when another discipline is in its place.
    pub(crate) fn apply(&self, socket: &mut RouteSocket) -> Result<(), LinkError> {
        let what = || self.describe();
        let result = match self {
            TcUndo::RemoveRoot { index, .. } => {
                let place = Place::new(signed(*index), ROOT, Handle::ROOT);
                let message = place.message();
                socket.order(Verb::Delete.of(NEW_QDISC), Mode::Plain, &message, what)
            }
            TcUndo::RemoveIngress { index, .. } => {
                let place = Place::new(signed(*index), Handle::INGRESS_HANDLE, Handle::INGRESS);
                let message = Qdisc::new(place, Discipline::Ingress).message();
                socket.order(Verb::Delete.of(NEW_QDISC), Mode::Plain, &message, what)
            }
            TcUndo::RemoveLink { name, address } => {
                let (name, address) = (name.clone(), *address);
                match (MadeLink { name, address }).find(socket)? {
                    Some(index) => {
                        let mut message = LinkMessage::default();
                        message.header.index = index;
                        socket.request(RouteNetlinkMessage::DelLink(message), Mode::Plain, what)
                    }
                    None => Ok(()),
                }
            }
        };
        match result {
            Err(LinkError::Netlink { source, .. }) if is_gone(&source) => Ok(()),
            // Another handle is in the place: the kernel's own, or somebody else's.
            Err(error) if self.is_default_again(socket)? => {
                drop(error);
                Ok(())
            }
            other => other,
        }
    }

    /// Whether the kernel's own default is where our discipline was.
    fn is_default_again(&self, socket: &mut RouteSocket) -> Result<bool, LinkError> {
        match self {
            TcUndo::RemoveRoot { interface, index } => {
                let at = (*index, interface.as_str());
                Ok(verify::root_at(socket, at)? == Root::Default)
            }
            TcUndo::RemoveIngress { interface, index } => {
                verify::has_no_hook(socket, (*index, interface))
            }
            TcUndo::RemoveLink { .. } => Ok(false),
        }
    }
}

/// No such interface, discipline or link.
fn is_gone(error: &std::io::Error) -> bool {
    let codes = [libc::ENODEV, libc::ENOENT];
    error.kind() == std::io::ErrorKind::NotFound
        || error
            .raw_os_error()
            .is_some_and(|code| codes.contains(&code))
}
