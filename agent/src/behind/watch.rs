//! Whether the ends of the link are what they were made as, looked at whenever the kernel has news of
//! interfaces: a command behind a link that is gone would wait for ever, and nobody would know why.

use std::os::fd::{AsFd, BorrowedFd};

use hexloop_topologies::plan::{LinkEnd, LinkPlan};
use netlink_packet_route::link::LinkFlags;

use crate::link::LinkError;
use crate::link::interfaces;
use crate::link::netlink::RouteSocket;
use crate::link::news::InterfaceNews;
use crate::link::wrong::{Found, Wrong};
use crate::namespace::NetworkNamespace;
use crate::undo::network::{link, link_name, mtu_of, numbered};

/// Something that somebody else did to the link while a command ran behind it.
#[derive(Debug)]
pub struct Disturbance {
    /// When it was seen, in nanoseconds since the trace began; 0 if that was before.
    pub at_ns: u64,
    /// What, where, and what to do about it.
    pub what: LinkError,
    /// The link is gone for good, and the command is ended.
    pub is_final: bool,
}

/// One end of the link.
#[derive(Debug)]
struct End {
    end: LinkEnd,
    index: u32,
    news: InterfaceNews,
    socket: RouteSocket,
    /// What was wrong when it was looked at last, and has been told.
    told: Vec<Wrong>,
    /// It was told that the kernel does not answer.
    is_unseen: bool,
}

/// Both ends.
#[derive(Debug)]
pub(super) struct Watch {
    plan: LinkPlan,
    ends: [End; 2],
}

impl Watch {
    /// Begins to watch the ends of a link that is there, in their namespaces.
    pub(super) fn start(
        plan: LinkPlan,
        namespaces: [&NetworkNamespace; 2],
    ) -> Result<Watch, LinkError> {
        let open = |number: usize| {
            let end = plan.ends[number].clone();
            let namespace = namespaces[number];
            interfaces::inside(&plan, namespace, || {
                let news = InterfaceNews::open().map_err(|source| LinkError::Netlink {
                    action: "listen to news of interfaces".to_owned(),
                    source,
                })?;
                Ok(End {
                    index: interfaces::index_of(&end.interface)?,
                    news,
                    socket: interfaces::open_socket()?,
                    told: Vec::new(),
                    is_unseen: false,
                    end,
                })
            })
        };
        let ends = [open(0)?, open(1)?];
        Ok(Watch { plan, ends })
    }

    /// What becomes readable when there may be something to look at.
    pub(super) fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        let [first, second] = &self.ends;
        [first.news.as_fd(), second.news.as_fd()]
    }

    /// What is wrong and was not a moment ago. An end that cannot be looked at is no reason to end a
    /// command, but told.
    pub(super) fn look(&mut self, at_ns: u64) -> Vec<Disturbance> {
        let mut disturbances = Vec::new();
        for end in &mut self.ends {
            end.news.read_away();
            let found = match link(&mut end.socket, numbered(end.index)) {
                Ok(found) => found,
                Err(source) => {
                    let action = format!("look at interface {}", end.end.interface);
                    let what = LinkError::Netlink { action, source };
                    let is_fresh = !std::mem::replace(&mut end.is_unseen, true);
                    disturbances.extend(is_fresh.then_some(Disturbance {
                        at_ns,
                        what,
                        is_final: false,
                    }));
                    continue;
                }
            };
            end.is_unseen = false;
            let found = found.map(|found| Found {
                name: link_name(&found),
                mtu: mtu_of(&found),
                is_up: found.header.flags.contains(LinkFlags::Up),
            });
            let wrong = Wrong::all(found.as_ref(), &self.plan, &end.end);
            let fresh = wrong.iter().filter(|wrong| !end.told.contains(wrong));
            disturbances.extend(fresh.map(|wrong| Disturbance {
                at_ns,
                what: wrong.error(&self.plan, &end.end),
                is_final: wrong.is_final(),
            }));
            end.told = wrong;
        }
        disturbances
    }
}
