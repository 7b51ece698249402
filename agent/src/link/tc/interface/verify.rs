//! Reading back: whether the kernel has what was asked for, and what is there.

use std::collections::{BTreeMap, BTreeSet};

use super::step::{Making, index_of, signed};
use super::{ROOT, TcStep};
use crate::link::LinkError;
use crate::link::netlink::RouteSocket;
use crate::link::tc::codec::filter::{Filter, Target};
use crate::link::tc::codec::netem::Netem;
use crate::link::tc::codec::queues::{FqCodel, Pie};
use crate::link::tc::codec::{
    Class, Discipline, NEW_CLASS, NEW_FILTER, NEW_QDISC, Place, Qdisc, Verb,
};
use crate::link::tc::handle::Handle;

/// What an interface's root is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// The kernel's own default: it may be covered, and comes back by itself.
    Default,
    /// Ours already.
    Ours,
    /// Somebody else's, which is never replaced.
    Foreign {
        /// Its kind, such as `fq`.
        kind: String,
        /// Its handle.
        handle: Handle,
    },
}

/// One object, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectSeen {
    /// In words, with its parameters.
    pub what: String,
    /// Where it hangs.
    pub parent: Handle,
    /// Its own name.
    pub handle: Handle,
    /// Bytes that it has sent; `None` where the kernel does not count.
    pub sent_bytes: Option<u64>,
    /// Bytes that wait in it now.
    pub backlog_bytes: Option<u64>,
    /// Packets that it has dropped.
    pub drops: Option<u64>,
}

/// An interface: its number, and its name for messages.
type At<'a> = (u32, &'a str);

/// What an interface has.
struct Found {
    index: u32,
    qdiscs: Vec<Qdisc>,
    classes: Vec<Class>,
    filters: Vec<Filter>,
}

fn list<T>(
    socket: &mut RouteSocket,
    (new, place): (u16, Place),
    interface: &str,
    read: impl Fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>, LinkError> {
    let mut found = Vec::new();
    let take = |kind, payload: &[u8]| {
        let here = Place::read(payload).is_some_and(|at| at.index == place.index);
        if kind == new && here {
            found.extend(read(payload));
        }
    };
    socket.list(Verb::Get.of(new), &place.message(), take, || {
        format!("read the disciplines of {interface}")
    })?;
    Ok(found)
}

fn qdiscs(socket: &mut RouteSocket, (index, interface): At<'_>) -> Result<Vec<Qdisc>, LinkError> {
    let place = Place::new(signed(index), Handle::NONE, Handle::NONE);
    list(socket, (NEW_QDISC, place), interface, Qdisc::read)
}

fn classes(socket: &mut RouteSocket, (index, interface): At<'_>) -> Result<Vec<Class>, LinkError> {
    let place = Place::new(signed(index), Handle::NONE, Handle::NONE);
    list(socket, (NEW_CLASS, place), interface, Class::read)
}

fn filters(
    socket: &mut RouteSocket,
    (index, interface): At<'_>,
    parent: Handle,
) -> Result<Vec<Filter>, LinkError> {
    let place = Place::new(signed(index), Handle::NONE, parent);
    list(socket, (NEW_FILTER, place), interface, Filter::read)
}

/// What the root of an interface is.
///
/// # Errors
/// There is no such interface in the socket's namespace, or the kernel refuses.
pub(crate) fn root(socket: &mut RouteSocket, interface: &str) -> Result<Root, LinkError> {
    let index = index_of(socket, interface)?;
    root_at(socket, (index, interface))
}

/// What the root of the interface with this number is.
pub(super) fn root_at(socket: &mut RouteSocket, at: At<'_>) -> Result<Root, LinkError> {
    let found = qdiscs(socket, at)?;
    let root = found
        .into_iter()
        .find(|qdisc| qdisc.place.parent == Handle::ROOT);
    Ok(match root {
        Some(qdisc) if qdisc.place.handle == ROOT => Root::Ours,
        // What the kernel puts there by itself has no handle.
        Some(qdisc) if qdisc.place.handle.major() != 0 => Root::Foreign {
            kind: qdisc.discipline.kind().to_owned(),
            handle: qdisc.place.handle,
        },
        _ => Root::Default,
    })
}

/// Whether nothing hangs on what an interface receives.
pub(super) fn has_no_hook(socket: &mut RouteSocket, at: At<'_>) -> Result<bool, LinkError> {
    let found = qdiscs(socket, at)?;
    Ok(!found
        .iter()
        .any(|qdisc| qdisc.place.parent == Handle::INGRESS))
}

/// Compares what the steps asked for with what the kernel has.
///
/// # Errors
/// Something is missing or different; the message names it.
pub(crate) fn verify(socket: &mut RouteSocket, steps: &[TcStep]) -> Result<(), LinkError> {
    let mut read: Vec<Found> = Vec::new();
    for step in steps {
        if matches!(step.making, Making::Ifb | Making::Up) {
            continue;
        }
        let index = step.number(socket)?;
        if !read.iter().any(|found| found.index == index) {
            let at = (index, step.interface.as_str());
            let mut caught = filters(socket, at, ROOT)?;
            caught.extend(filters(socket, at, Handle::INGRESS_HANDLE)?);
            read.push(Found {
                index,
                qdiscs: qdiscs(socket, at)?,
                classes: classes(socket, at)?,
                filters: caught,
            });
        }
        let Some(found) = read.iter().find(|found| found.index == index) else {
            continue;
        };
        let there = match &step.making {
            // Filters could not be in a table that is not there, and nobody tells whether a plug holds.
            Making::Ifb | Making::Up | Making::Table(_) | Making::Hold(_) => true,
            Making::Qdisc(asked) => found.qdiscs.iter().any(|found| is_same_qdisc(asked, found)),
            Making::Class(asked) => found
                .classes
                .iter()
                .any(|found| found.place.handle == asked.place.handle && found.htb == asked.htb),
            Making::Filter(asked, _) => found
                .filters
                .iter()
                .any(|found| is_same_filter(asked, found)),
        };
        if !there {
            return Err(LinkError::Netlink {
                action: format!("find again what was done: {}", step.what),
                source: std::io::ErrorKind::NotFound.into(),
            });
        }
    }
    Ok(())
}

/// What the steps made and somebody has taken away or replaced since, in words; `None` where all of it
/// is there. What can be changed in place is not compared: traces do that all the time.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn lost(
    socket: &mut RouteSocket,
    steps: &[TcStep],
) -> Result<Option<String>, LinkError> {
    let mut trees: Vec<(&str, Vec<&TcStep>)> = Vec::new();
    for step in steps {
        let interface = step.interface.as_str();
        match trees.iter_mut().find(|(of, _)| *of == interface) {
            Some((_, steps)) => steps.push(step),
            None => trees.push((interface, vec![step])),
        }
    }
    for (interface, steps) in trees {
        let lost = lost_from(socket, interface, &steps)?;
        if lost.is_some() {
            return Ok(lost);
        }
    }
    Ok(None)
}

/// The same for what was made on one interface.
fn lost_from(
    socket: &mut RouteSocket,
    interface: &str,
    steps: &[&TcStep],
) -> Result<Option<String>, LinkError> {
    let Some(first) = steps.first() else {
        return Ok(None);
    };
    let Some(index) = first.found(socket)? else {
        return Ok(Some(format!("link {interface} is gone")));
    };
    let at = (index, interface);
    let there = qdiscs(socket, at)?;
    for step in steps {
        let Making::Qdisc(asked) = &step.making else {
            continue;
        };
        let mut there = there.iter();
        let found = there.find(|found| found.place.parent == asked.place.parent);
        if !found.is_some_and(|found| is_alike(asked, found)) {
            return Ok(Some(replaced(asked, found, interface)));
        }
    }
    let classes = classes(socket, at)?;
    let handles: BTreeSet<Handle> = classes.iter().map(|class| class.place.handle).collect();
    let is_lost = |step: &&&TcStep| match &step.making {
        Making::Class(asked) => !handles.contains(&asked.place.handle),
        _ => false,
    };
    if let Some(step) = steps.iter().find(is_lost) {
        return Ok(Some(format!("somebody has undone this: {}", step.what)));
    }
    let lost = has_lost_filters(socket, at, steps)?;
    Ok(lost.then(|| format!("filters of {interface} were deleted")))
}

/// Whether fewer filters are there than were made at some place of an interface, of each priority.
fn has_lost_filters(
    socket: &mut RouteSocket,
    at: At<'_>,
    steps: &[&TcStep],
) -> Result<bool, LinkError> {
    let asked = steps.iter().filter_map(|step| match &step.making {
        Making::Filter(asked, _) => Some((asked.place.parent, asked.place.info)),
        _ => None,
    });
    let mut made: BTreeMap<(Handle, u32), usize> = BTreeMap::new();
    for place in asked {
        *made.entry(place).or_default() += 1;
    }
    let parents: BTreeSet<Handle> = made.keys().map(|(parent, _)| *parent).collect();
    for parent in parents {
        let there = filters(socket, at, parent)?;
        let wanted = made.iter().filter(|((of, _), _)| *of == parent);
        let mut wanted = wanted.map(|((_, info), count)| (*info, *count));
        let has_fewer = |(info, count)| {
            let there = there.iter().filter(|found| found.place.info == info);
            there.count() < count
        };
        if wanted.any(has_fewer) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a discipline is the one that was made, whatever its parameters are by now.
fn is_alike(asked: &Qdisc, found: &Qdisc) -> bool {
    asked.place.handle == found.place.handle && asked.discipline.kind() == found.discipline.kind()
}

/// Says what is in the place of a discipline that was made.
fn replaced(asked: &Qdisc, found: Option<&Qdisc>, interface: &str) -> String {
    let which = match asked.place.parent {
        Handle::ROOT => "the root qdisc",
        Handle::INGRESS => "the ingress hook",
        _ => "a qdisc",
    };
    let kind = asked.discipline.kind();
    // What the kernel puts there by itself has no handle.
    match found.filter(|found| found.place.handle.major() != 0) {
        Some(found) => format!(
            "{which} `{kind}` of {interface} was replaced by `{}` {}, which is not hexloop's and stays",
            found.discipline.kind(),
            found.place.handle
        ),
        None => format!("{which} `{kind}` of {interface} was deleted"),
    }
}

fn is_same_qdisc(asked: &Qdisc, found: &Qdisc) -> bool {
    let same_place =
        (asked.place.handle, asked.place.parent) == (found.place.handle, found.place.parent);
    let same = match (&asked.discipline, &found.discipline) {
        // The kernel draws a seed where none was given.
        (Discipline::Netem(asked), Discipline::Netem(found)) => {
            *asked
                == Netem {
                    seed: asked.seed,
                    ..*found
                }
        }
        (Discipline::Codel(asked), Discipline::Codel(found)) => asked.as_kept() == *found,
        (Discipline::FqCodel(asked), Discipline::FqCodel(found)) => {
            *found
                == FqCodel {
                    codel: asked.codel.as_kept(),
                    ..*asked
                }
        }
        // The kernel counts updates in its own ticks.
        (Discipline::Pie(asked), Discipline::Pie(found)) => {
            *asked
                == Pie {
                    update_us: asked.update_us,
                    ..*found
                }
        }
        // The kernel tells nothing of a plug but its name.
        (Discipline::Plug(_), found) => found.kind() == asked.discipline.kind(),
        (asked, found) => asked == found,
    };
    same_place && same && asked.overhead == found.overhead
}

fn is_same_filter(asked: &Filter, found: &Filter) -> bool {
    let same_target = match (asked.target, found.target) {
        (Target::Redirect(_), Target::Redirect(_)) => true,
        (asked, found) => asked == found,
    };
    asked.place.info == found.place.info && asked.packets == found.packets && same_target
}

/// Everything that queues on an interface, and what it has done.
///
/// # Errors
/// There is no such interface in the socket's namespace, or the kernel refuses.
pub(crate) fn show(
    socket: &mut RouteSocket,
    interface: &str,
) -> Result<Vec<ObjectSeen>, LinkError> {
    let at = (index_of(socket, interface)?, interface);
    let mut seen = Vec::new();
    for qdisc in qdiscs(socket, at)? {
        let statistics = qdisc.statistics;
        seen.push(ObjectSeen {
            what: qdisc.discipline.to_string(),
            parent: qdisc.place.parent,
            handle: qdisc.place.handle,
            sent_bytes: statistics.map(|counted| counted.bytes),
            backlog_bytes: statistics.map(|counted| counted.queue.backlog_bytes.into()),
            drops: statistics.map(|counted| counted.queue.drops.into()),
        });
    }
    for class in classes(socket, at)? {
        let statistics = class.statistics;
        seen.push(ObjectSeen {
            what: format!("htb class, {} bit/s", class.htb.rate.saturating_mul(8)),
            parent: class.place.parent,
            handle: class.place.handle,
            sent_bytes: statistics.map(|counted| counted.bytes),
            backlog_bytes: statistics.map(|counted| counted.queue.backlog_bytes.into()),
            drops: statistics.map(|counted| counted.queue.drops.into()),
        });
    }
    Ok(seen)
}
