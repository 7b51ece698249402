//! The messages of traffic control, built by us and read back, byte for byte.
//!
//! netlink-packet-route types neither htb nor tbf nor netem, and its dumps of them are opaque;
//! the structures are those of linux/rtnetlink.h and linux/pkt_sched.h, in the byte order of
//! the machine.

pub(crate) mod filter;
pub(crate) mod htb;
pub(crate) mod netem;
pub(crate) mod queues;
pub(crate) mod statistics;
pub(crate) mod table;
#[cfg(test)]
mod tests;
mod words;

use super::handle::Handle;
use super::wire::{self, Attributes, Writer, i32_at, u32_at, words};
use htb::{Htb, HtbClass, Tbf};
use netem::Netem;
use queues::{Codel, Fq, FqCodel, Pie, Plug};
use statistics::{HtbStatistics, Statistics};

const KIND: u16 = 1; // TCA_KIND
const OPTIONS: u16 = 2; // TCA_OPTIONS
const STATS2: u16 = 7; // TCA_STATS2
const STAB: u16 = 8; // TCA_STAB
const STAB_BASE: u16 = 1; // TCA_STAB_BASE

/// The length of `struct tcmsg`.
pub(crate) const HEADER_BYTES: usize = 20;

pub(crate) const NEW_QDISC: u16 = 36; // RTM_NEWQDISC
pub(crate) const NEW_CLASS: u16 = 40; // RTM_NEWTCLASS
pub(crate) const NEW_FILTER: u16 = 44; // RTM_NEWTFILTER

/// What is to be done with an object that exists; added to the type of the message that makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Delete,
    Get,
}

impl Verb {
    /// The type of a message about an object whose RTM_NEW... is `new`.
    pub(crate) const fn of(self, new: u16) -> u16 {
        match self {
            Verb::Delete => new + 1,
            Verb::Get => new + 2,
        }
    }
}

/// Where an object is and what it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Index of the interface.
    pub(crate) index: i32,
    pub(crate) handle: Handle,
    pub(crate) parent: Handle,
    /// Of filters: priority in the upper half, protocol in the lower one, in network order.
    pub(crate) info: u32,
}

impl Place {
    pub(crate) const fn new(index: i32, handle: Handle, parent: Handle) -> Place {
        Place {
            index,
            handle,
            parent,
            info: 0,
        }
    }

    fn write(&self, writer: &mut Writer) {
        // struct tcmsg: family and padding, ifindex, handle, parent, info.
        writer
            .raw(&[0; 4])
            .raw(&self.index.to_ne_bytes())
            .raw(&words(&[self.handle.raw(), self.parent.raw(), self.info]));
    }

    /// From the front of a message.
    pub(crate) fn read(message: &[u8]) -> Option<Place> {
        Some(Place {
            index: i32_at(message, 4)?,
            handle: Handle::from_raw(u32_at(message, 8)?),
            parent: Handle::from_raw(u32_at(message, 12)?),
            info: u32_at(message, 16)?,
        })
    }

    /// A message with nothing but the place: to delete or to ask.
    pub(crate) fn message(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        self.write(&mut writer);
        writer.into_bytes()
    }
}

/// How much of a discipline is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    Whole,
    /// What can be changed while it exists.
    Change,
}

/// A queueing discipline with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Discipline {
    Htb(Htb),
    Tbf(Tbf),
    Netem(Netem),
    /// Bytes.
    Bfifo(u32),
    /// Packets.
    Pfifo(u32),
    /// Packets; what is full drops its oldest.
    PfifoHeadDrop(u32),
    Codel(Codel),
    FqCodel(FqCodel),
    Pie(Pie),
    Fq(Fq),
    Plug(Plug),
    Ingress,
    Clsact,
    /// One that we never make, and its name.
    Foreign(String),
}

impl Discipline {
    pub(crate) fn kind(&self) -> &str {
        match self {
            Discipline::Htb(_) => "htb",
            Discipline::Tbf(_) => "tbf",
            Discipline::Netem(_) => "netem",
            Discipline::Bfifo(_) => "bfifo",
            Discipline::Pfifo(_) => "pfifo",
            Discipline::PfifoHeadDrop(_) => "pfifo_head_drop",
            Discipline::Codel(_) => "codel",
            Discipline::FqCodel(_) => "fq_codel",
            Discipline::Pie(_) => "pie",
            Discipline::Fq(_) => "fq",
            Discipline::Plug(_) => "plug",
            Discipline::Ingress => "ingress",
            Discipline::Clsact => "clsact",
            Discipline::Foreign(kind) => kind,
        }
    }

    fn write(&self, writer: &mut Writer, writing: Writing) {
        let mut options = Writer::default();
        match self {
            Discipline::Htb(htb) => htb.write(&mut options),
            Discipline::Tbf(tbf) => tbf.write(&mut options),
            Discipline::Netem(netem) => netem.write(&mut options),
            Discipline::Bfifo(limit)
            | Discipline::Pfifo(limit)
            | Discipline::PfifoHeadDrop(limit) => {
                options.raw(&limit.to_ne_bytes());
            }
            Discipline::Codel(codel) => codel.write(&mut options),
            Discipline::FqCodel(codel) => codel.write(&mut options, writing),
            Discipline::Pie(pie) => pie.write(&mut options),
            Discipline::Fq(fq) => fq.write(&mut options),
            Discipline::Plug(plug) => plug.write(&mut options),
            Discipline::Ingress | Discipline::Clsact | Discipline::Foreign(_) => return,
        }
        writer.attribute(OPTIONS, &options.into_bytes());
    }

    fn read(kind: &str, options: &[u8]) -> Option<Discipline> {
        let limit = || u32_at(options, 0);
        Some(match kind {
            "htb" => Discipline::Htb(Htb::read(options)?),
            "tbf" => Discipline::Tbf(Tbf::read(options)?),
            "netem" => Discipline::Netem(Netem::read(options)?),
            "bfifo" => Discipline::Bfifo(limit()?),
            "pfifo" => Discipline::Pfifo(limit()?),
            "pfifo_head_drop" => Discipline::PfifoHeadDrop(limit()?),
            "codel" => Discipline::Codel(Codel::read(options)?),
            "fq_codel" => Discipline::FqCodel(FqCodel::read(options)?),
            "pie" => Discipline::Pie(Pie::read(options)?),
            "fq" => Discipline::Fq(Fq::read(options)?),
            // The kernel tells nothing of a plug.
            "plug" => match Plug::read(options) {
                Some(plug) => Discipline::Plug(plug),
                None => Discipline::Foreign("plug".to_owned()),
            },
            "ingress" => Discipline::Ingress,
            "clsact" => Discipline::Clsact,
            other => Discipline::Foreign(other.to_owned()),
        })
    }
}

/// A queueing discipline at its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Qdisc {
    pub(crate) place: Place,
    pub(crate) discipline: Discipline,
    /// Bytes that a size table adds to every packet's length.
    pub(crate) overhead: Option<i32>,
    pub(crate) statistics: Option<Statistics>,
}

impl Qdisc {
    pub(crate) const fn new(place: Place, discipline: Discipline) -> Qdisc {
        Qdisc {
            place,
            discipline,
            overhead: None,
            statistics: None,
        }
    }

    /// `struct tcmsg` and its attributes.
    pub(crate) fn message(&self) -> Vec<u8> {
        self.written(Writing::Whole)
    }

    /// The same for one that exists, without what can only be said when it is made.
    pub(crate) fn change_message(&self) -> Vec<u8> {
        self.written(Writing::Change)
    }

    fn written(&self, writing: Writing) -> Vec<u8> {
        let mut writer = Writer::default();
        self.place.write(&mut writer);
        writer.text(KIND, self.discipline.kind());
        self.discipline.write(&mut writer, writing);
        if let Some(overhead) = self.overhead {
            // struct tc_sizespec: cell_log, size_log (u8), cell_align (i16), overhead (i32),
            // linklayer, mpu, mtu, tsize (u32).
            let mut base = vec![0; 4];
            base.extend(overhead.to_ne_bytes());
            base.extend(words(&[1, 0, 0, 0]));
            writer.nested(STAB, |inside| {
                inside.attribute(STAB_BASE, &base);
            });
        }
        if let Some(statistics) = &self.statistics {
            writer.nested(STATS2, |inside| statistics.write(inside));
        }
        writer.into_bytes()
    }

    /// From a message of type RTM_NEWQDISC.
    pub(crate) fn read(message: &[u8]) -> Option<Qdisc> {
        let place = Place::read(message)?;
        let attributes = message.get(HEADER_BYTES..)?;
        let kind = wire::text(Attributes::find(attributes, KIND)?);
        let options = Attributes::find(attributes, OPTIONS).unwrap_or(&[]);
        let stab = Attributes::find(attributes, STAB);
        let base = stab.and_then(|stab| Attributes::find(stab, STAB_BASE));
        Some(Qdisc {
            place,
            discipline: Discipline::read(&kind, options)?,
            overhead: base.and_then(|base| i32_at(base, 4)),
            statistics: Attributes::find(attributes, STATS2).and_then(Statistics::read),
        })
    }
}

/// A class of htb at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Class {
    pub(crate) place: Place,
    pub(crate) htb: HtbClass,
    pub(crate) statistics: Option<Statistics>,
    pub(crate) tokens: Option<HtbStatistics>,
}

impl Class {
    pub(crate) const fn new(place: Place, htb: HtbClass) -> Class {
        Class {
            place,
            htb,
            statistics: None,
            tokens: None,
        }
    }

    pub(crate) fn message(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        self.place.write(&mut writer);
        writer.text(KIND, "htb");
        writer.nested(OPTIONS, |inside| self.htb.write(inside));
        if let Some(statistics) = &self.statistics {
            writer.nested(STATS2, |inside| statistics.write(inside));
        }
        writer.into_bytes()
    }

    /// From a message of type RTM_NEWTCLASS; `None` if the class is not one of htb.
    pub(crate) fn read(message: &[u8]) -> Option<Class> {
        let place = Place::read(message)?;
        let attributes = message.get(HEADER_BYTES..)?;
        if wire::text(Attributes::find(attributes, KIND)?) != "htb" {
            return None;
        }
        let options = Attributes::find(attributes, OPTIONS)?;
        let statistics = Attributes::find(attributes, STATS2);
        Some(Class {
            place,
            htb: HtbClass::read(options)?,
            statistics: statistics.and_then(Statistics::read),
            tokens: statistics.and_then(HtbStatistics::read),
        })
    }
}
